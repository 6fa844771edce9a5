"""`shrinkwarp net`: exact states there and back in two processes, classifiers, their files, and torchvision's ResNets."""

import json
import math
import re
import signal
import subprocess
import time

import numpy as np
import pytest

import networks
from program import DONE, FAILED, USAGE, one_line, run, start

# There and back


def network(layers, gamma, width=7, hidden=5, seed=3, mode="exact", *more):
    return ["--layers", layers, "--gamma", gamma, "--width", width, "--hidden", hidden, "--seed", seed, "--mode", mode, *more]


def there_and_back(folder, net, batch, scale=1.0, forth=(), back=()):
    """Arrays of the start, of the last state and of what came back, and what forward said."""
    said = json.loads(run("net", "forward", *net, *forth, "--batch", batch, "--scale", scale, "--input", folder / "in.npz",
                          "--state", folder / "out.npz", "--json", status=DONE).stdout)
    run("net", "inverse", *net, "--state", folder / "out.npz", "--output", folder / "back.npz", *back, status=DONE)
    return *(dict(np.load(folder / f"{name}.npz")) for name in ("in", "out", "back")), said


@pytest.mark.parametrize("gamma, layers, batch, scale, more", [
    (0.1, 60, 13, 1, ()), (0.5, 200, 9, 500, ("--plain",)), (0.9, 400, 40, 1, ()), (0.99, 300, 3, 30, ()),
    (1023 / 1024, 2000, 1, 10, ()), (1, 5, 11, 1, ("--plain",)), ("0.1,0.9,0.5,0.003,0.99", 5, 50, 7, ())])
def test_every_bit_comes_back(folder, gamma, layers, batch, scale, more):
    begun, ended, back, said = there_and_back(folder, network(layers, gamma, 7, 5, 3, "exact", *more), batch, scale)
    gammas = [float(text) for text in str(gamma).split(",")]
    for name in "xv":
        assert begun[name].dtype == np.int64 and begun[name].shape == (batch, 7)
        assert (begun[name] == back[name]).all()
        assert (begun[name] != ended[name]).mean() > 0.9
    # x and v are normal times the scale in units of 2^-44; of rounding and the seed nothing more is promised.
    assert 0.5 * scale < np.sqrt((begun["x"] * 2.0**-44) ** 2).mean() < 1.2 * scale
    held = 8 * sum(array.nbytes for name, array in ended.items() if name not in "xv") / (7 * batch)
    assert held == pytest.approx(layers * said["buffer_bits_per_element_layer"])
    bits = sum(-math.log2(g) for g in gammas) * (layers / len(gammas))
    assert held <= 1.05 * bits + 112


def test_the_number_of_threads_does_not_matter(folder):
    net = network(40, 0.7, 33, 65)
    begun, _, back, _ = there_and_back(folder, net, 700, forth=["--threads", 1], back=["--threads", 3])
    assert all((begun[name] == back[name]).all() for name in "xv")


def test_own_positions_and_velocities_come_back(folder):
    net, random = network(50, 0.9), np.random.default_rng(0)
    x, v = random.standard_normal((2, 23, 7)) * [[[100]], [[0.01]]]
    x[0, :4], v[0, :3] = [-300000.75, 0.5, 2**-45, 3 * 2**-45], [-0.0, 2**-44, -(2**-46)]
    for index, dtype in enumerate((np.float64, np.float32, np.int64)):
        own = folder / f"own{index}.npz"
        arrays = {"x": x, "v": v} if dtype != np.int64 else dict(np.load(folder / "in.npz"))
        np.savez(own, **{name: array.astype(dtype) for name, array in arrays.items()}, other=np.zeros(3))
        run("net", "forward", *net, "--initial", own, "--input", folder / "in.npz", "--state", folder / "out.npz",
            *(["--batch", 23] if index else []), status=DONE)
        run("net", "inverse", *net, "--state", folder / "out.npz", "--output", folder / "back.npz", status=DONE)
        begun, ended, back = (np.load(folder / f"{name}.npz") for name in ("in", "out", "back"))
        for name, array in arrays.items():
            wanted = array
            if dtype != np.int64:
                wanted = np.rint(array.astype(dtype).astype(np.float64) * 2.0**44).astype(np.int64)
            assert (begun[name] == wanted).all() and (back[name] == wanted).all() and (ended[name] != wanted).any()
    # The same as when they are drawn.
    drawn = there_and_back(folder, net, 23)
    (folder / "in.npz").rename(folder / "own.npz")
    run("net", "forward", *net, "--initial", folder / "own.npz", "--input", folder / "in.npz", "--state",
        folder / "again.npz", status=DONE)
    again = np.load(folder / "again.npz")
    assert all((again[name] == array).all() for name, array in drawn[1].items())
    # In floating point as they are.
    approximate = network(3, 0.9, 7, 5, 3, "approximate")
    run("net", "forward", *approximate, "--initial", folder / "own0.npz", "--input", folder / "in.npz", "--state",
        folder / "out.npz", status=DONE)
    begun = np.load(folder / "in.npz")
    assert (begun["x"] == x.astype(np.float32)).all() and (begun["v"] == v.astype(np.float32)).all()


def test_positions_that_are_none(folder):
    x = np.zeros((4, 7))

    def refused(wanted, *options, x=x, v=x, net=network(3, 0.9), status=FAILED):
        np.savez(folder / "own.npz", **{name: array for name, array in (("x", x), ("v", v)) if array is not None})
        done = run("net", "forward", *net, "--initial", folder / "own.npz", *options, "--input", folder / "i",
                   "--state", folder / "s", status=status)
        assert wanted in one_line(done)
        assert [path.name for path in folder.glob("*")] == ["own.npz"]

    refused("--scale: found it with --initial", "--scale", 2, status=USAGE)
    refused("--batch: found 5, wanted 4 as ", "--batch", 5, status=USAGE)
    refused("--width: found 8, wanted 7 as ", net=network(3, 0.9, 8), status=USAGE)
    refused("own.npz: the array 'v' has shape (4, 6), wanted (4, 7)", v=x[:, 1:].copy())
    refused("own.npz: the array 'x' has shape (28,), wanted (samples, features)", x=x.ravel(), v=x.ravel())
    refused("own.npz: the array 'v' is <i8, wanted <f4 or <f8, or <i8 in fixed point for both", v=x.astype(np.int64))
    refused("own.npz: the array 'v' is <f8", x=x.astype(np.int64))
    refused("own.npz: the array 'x' is <i4, wanted <f4 or <f8", x=x.astype(np.int32))
    approximate = network(3, 0.9, mode="approximate")
    refused("own.npz: the array 'x' is <i8, wanted <f4 or <f8", x=x.astype(np.int64), net=approximate)
    large = np.where(np.arange(28).reshape(4, 7) == 9, 2.0**19, 0)
    refused("own.npz: element 9 of the array 'v' is 524288, wanted numbers under 2^19", v=large)
    refused("own.npz: element 0 of the array 'x' is nan", x=x + np.nan)
    refused("own.npz: element 0 of the array 'x' is 1e+39, wanted numbers that are finite in float32", x=x + 1e39,
            net=approximate)
    refused("'v'", v=None)
    done = run("net", "forward", *network(3, 0.9), "--initial", folder / "own.npz", "--input", folder / "own.npz",
               "--state", folder / "s", status=USAGE)
    assert "wanted two files" in one_line(done)
    done = run("net", "forward", *network(3, 0.9), "--input", folder / "i", "--state", folder / "s", status=USAGE)
    assert "--batch: found none, wanted it, or --initial" in one_line(done)


def test_floating_point_does_not_come_back(folder):
    begun, _, back, said = there_and_back(folder, network(40, 0.5, mode="approximate"), 20)
    assert begun["x"].dtype == np.float32 and "buffer_bits_per_element_layer" not in said
    error = np.abs(begun["x"] - back["x"]).max()
    assert 1e-3 < error  # some 2^40 units of 6e-8, where nothing else bounds it


def test_what_is_no_state_of_this_network(folder):
    net = network(30, 0.5)
    there_and_back(folder, net, 64)
    wrong = lambda *options: one_line(run("net", "inverse", *options, "--state", folder / "out.npz", "--output",
                                          folder / "b.npz", status=USAGE))
    assert "its gamma is [0.5], wanted [0.6]" in wrong(*network(30, 0.6))
    assert "its layers is 30, wanted 31" in wrong(*network(31, 0.5))
    assert "its seed is 3, wanted 4" in wrong(*network(30, 0.5, seed=4))
    state = dict(np.load(folder / "out.npz"))

    def refused(wanted, net=net, **changed):
        np.savez(folder / "bent.npz", **{**state, **changed})
        done = run("net", "inverse", *net, "--state", folder / "bent.npz", "--output", folder / "b.npz", status=FAILED)
        assert wanted in one_line(done)

    refused("'counts' has the element", counts=state["counts"] * 1000)
    refused("did not come back to where every forward pass begins", states=state["states"] + 10**9)
    # All words in the first list, which has room for some 30 bits an element.
    refused("bent.npz: found ", words=np.tile(state["words"], 50),
            counts=np.concatenate([[50 * len(state["words"])], 0 * state["counts"][1:]]).astype(np.int32))
    refused("wanted <i8", v=state["v"].astype(np.float32))
    refused("has shape (64, 6), wanted (64, 7)", v=state["v"][:, :6].copy())
    # States of few elements have a hash of it, of the fewest nothing.
    _, ended, _, _ = there_and_back(folder, network(30, 0.5, 3, 4), 4)
    assert ended["network"].nbytes == 8
    assert "is the state of another network" in wrong(*network(30, 0.5, 3, 4, seed=9))
    _, ended, _, _ = there_and_back(folder, network(30, 0.5, 3, 4), 2)
    assert "network" not in ended


@pytest.mark.parametrize("options, wanted", [
    ((30, 0), "--gamma"), ((30, 1.5), "--gamma: gamma is 1.5, wanted within"),
    ((30, "0.5,0.4"), "found 2 numbers for 30 layers"),
    ((0, 0.5), "--layers"), ((30, 1e-6), "--gamma: gamma is 1e-06, wanted within")])
def test_forward_refuses(folder, options, wanted):
    done = run("net", "forward", *network(*options), "--batch", 5, "--input", folder / "i", "--state", folder / "s")
    assert done.returncode in (FAILED, USAGE) and wanted in one_line(done)
    assert not list(folder.glob("*"))


def test_the_layer_that_leaves_the_range_is_named(folder):
    files = ["--batch", 5, "--input", folder / "i", "--state", folder / "s"]
    line = one_line(run("net", "forward", *network(30, 0.9), "--scale", 2e5, *files, status=FAILED))
    assert "layer " in line and "2^19 = 524288" in line
    line = one_line(run("net", "forward", *network(30, 0.9), "--scale", 1e6, *files, status=FAILED))
    assert "layer 0" in line
    assert not list(folder.glob("*"))


# Classifiers


def blobs(count, seed, classes=3, shape=(6,)):
    """Normal clouds around a centre each."""
    centres = 2 * np.random.default_rng(0).standard_normal((classes, *shape))
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    return (centres[labels] + random.standard_normal((count, *shape))).astype(np.float32), labels


def save_samples(folder, X, y):
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    return ["--samples", folder / "X.npy", "--labels", folder / "y.npy"]


MLP = ["mlp", "--blocks", 5, "--width", 8, "--hidden", 8, "--quiet"]
BRIEFLY = ["--epochs", 6, "--batch", 32, "--lr", 0.01]


def numpy_logits(tensors, metadata, X):
    """Of an mlp whose samples have another width, in float64."""
    erf = np.vectorize(math.erf)
    act = {"tanh": np.tanh, "relu": lambda u: np.maximum(u, 0), "gelu": lambda u: u * (1 + erf(u / math.sqrt(2))) / 2}
    t = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    linear = lambda name, x: x @ t[name + ".weight"].T + t[name + ".bias"]

    def branch(name, x):
        if metadata["normalisation"] == "layer":
            centred = x - x.mean(1, keepdims=True)
            x = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * t[name + ".norm.weight"] + t[name + ".norm.bias"]
        if metadata["normalisation"] == "batch":
            x = (x - t[name + ".norm.running_mean"]) / np.sqrt(t[name + ".norm.running_var"] + 1e-5)
            x = x * t[name + ".norm.weight"] + t[name + ".norm.bias"]
        return linear(name + ".linear2", act[metadata["activation"]](linear(name + ".linear1", x)))

    x = linear("stem", X.reshape(len(X), -1).astype(np.float64))
    momentum = metadata["momentum"] == "yes"
    v = branch("initial_velocity", x) if metadata["initial_velocity"] == "yes" else np.zeros_like(x)
    for block in range(int(metadata["blocks"])):
        f = branch(f"blocks.{block}", x)
        if momentum:
            g = t["momentum.gamma"][block]
            v = g * v + (1 if metadata["form"] == "plain" else 1 - g) * f
            x = x + v
        else:
            x = x + f
    return linear("head", x)


@pytest.mark.parametrize("options", [
    (), ("--gamma", 0.9), ("--gamma", 0.9, "--mode", "approximate", "--normalisation", "layer"),
    ("--gamma", 0.8, "--plain", "--learn-gamma", "--activation", "relu"),
    ("--gamma", 0.9, "--normalisation", "batch", "--dropout", 0.1, "--activation", "gelu", "--initial-velocity")])
def test_training_classifies_and_its_file_says_all(folder, options):
    X, y = blobs(300, 1)
    out = folder / "net.safetensors"
    run("net", "train", *MLP, *BRIEFLY, *options, *save_samples(folder, X, y), "--output", out, "--history", folder / "h", status=DONE)
    tensors, metadata = networks.read(out)
    other, labels = blobs(200, 2)
    np.save(folder / "other.npy", other)
    np.save(folder / "labels.npy", labels.astype(np.int32))
    said = json.loads(run("net", "evaluate", out, "--samples", folder / "other.npy", "--labels", folder / "labels.npy",
                          "--logits", folder / "l.npy", "--batch", 64, "--json", status=DONE).stdout)
    logits = numpy_logits(tensors, metadata, other)
    found = np.load(folder / "l.npy")
    assert np.abs(found - logits).max() <= 1e-5 * np.abs(logits).max()
    assert said["accuracy"] == (found.argmax(1) == labels).mean() > 0.8
    entropy = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1) - logits[range(200), labels]
    assert said["loss"] == pytest.approx(entropy.mean(), rel=1e-4)
    lines = [json.loads(line) for line in (folder / "h").read_text().splitlines()]
    assert [line["pass"] for line in lines] == list(range(1, 7))
    assert lines[-1]["accuracy"] > 0.8 and lines[-1]["loss"] < lines[0]["loss"]
    if "--learn-gamma" in options:
        # v is 0 before the first layer, whose gamma so counts for nothing in the plain form.
        assert tensors["momentum.gamma"][0] == np.float32(0.8)
        assert len(np.unique(tensors["momentum.gamma"])) == 5


def test_an_inverse_that_is_no_number_is_told(folder):
    X, y = blobs(20, 1)
    run("net", "train", "mlp", "--width", 4, "--hidden", 4, "--blocks", 300, "--epochs", 1, "--lr", 1e-9, "--quiet",
        *save_samples(folder, X, y), "--output", folder / "net", status=DONE)
    run("net", "transform", folder / "net", "--gamma", 0.5, "--mode", "approximate", "--output", folder / "m", status=DONE)
    # Velocities grow as 2^300 on the way back.
    said = json.loads(run("net", "evaluate", folder / "m", "--samples", folder / "X.npy", "--inverse", "--json", status=DONE).stdout)
    assert said["inverses"] == [{"layers": 300, "differ": 80, "worst": None}]


def test_recomputed_and_stored_activations_train_to_the_same_bits(folder):
    X, y = blobs(200, 1)
    files = save_samples(folder, X, y)
    options = ["--gamma", 0.9, "--normalisation", "batch", "--dropout", 0.2, "--learn-gamma"]
    for name, more in (("a", ["--threads", 1]), ("b", ["--store-activations", "--threads", 3])):
        run("net", "train", *MLP, *BRIEFLY, *options, *more, *files, "--output", folder / name, status=DONE)
    a, b = (networks.read(folder / name)[0] for name in "ab")
    assert all((a[name] == b[name]).all() for name in a)


def passes(history):
    return history.read_bytes().count(b"\n") if history.exists() else 0


@pytest.mark.parametrize("images", [False, True])
def test_a_training_goes_on_where_it_was(folder, images):
    X, y = blobs(400, 1, shape=(3, 6, 5) if images else (6,))
    options = [*MLP, "--epochs", 16, "--batch", 16, "--gamma", 0.9, "--normalisation", "batch", "--dropout", 0.1,
               *(["--crop", 1, "--flip"] if images else []), *save_samples(folder, X, y)]
    run("net", "train", *options, "--output", folder / "whole", "--history", folder / "wh", status=DONE)
    # A signal of a kind, then the other, whenever the training is some passes further than at the last one.
    for attempt in range(8):
        process = start("net", "train", *options, "--output", folder / "part", "--history", folder / "ph", "--resume")
        while process.poll() is None and passes(folder / "ph") < 2 + 3 * attempt:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL if attempt % 2 else signal.SIGTERM)
        if process.wait(60) == DONE:
            break
    else:
        pytest.fail("the training does not come to its end")
    assert attempt > 0, "nothing was interrupted"
    assert networks.read(folder / "whole")[0].keys() == networks.read(folder / "part")[0].keys()
    assert (folder / "whole").read_bytes() == (folder / "part").read_bytes()
    assert (folder / "wh").read_bytes() == (folder / "ph").read_bytes()
    assert not (folder / "part.checkpoint").exists()
    done = run("net", "train", *options, "--output", folder / "part", "--history", folder / "ph", "--resume", status=DONE)
    assert (folder / "wh").read_bytes() == (folder / "ph").read_bytes() and done.stderr == ""


def interrupted(folder, *options):
    """Stops a training by SIGTERM some passes after its beginning."""
    process = start("net", "train", *options, "--output", folder / "part", "--history", folder / "ph")
    while process.poll() is None and passes(folder / "ph") < 3:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM


@pytest.mark.parametrize("optimizer, rate", [("adam", 0.001), ("sgd", 0.01)])
def test_a_training_that_goes_on_with_another_rate_names_the_one_it_had(folder, optimizer, rate):
    options = [*MLP, "--epochs", 100000, "--optimizer", optimizer, *save_samples(folder, *blobs(60, 1))]
    interrupted(folder, *options)
    process = start("net", "train", *options, "--output", folder / "part", "--history", folder / "ph", "--resume",
                    "--lr", 0.25, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == f"shrinkwarp: goes on with --lr 0.25 in place of {rate}\n"
    process.kill()


def test_training_refuses(folder):
    X, y = blobs(60, 1)
    files = save_samples(folder, X, y)
    before = sorted(folder.glob("*"))

    def refused(wanted, *options, files=files, status=USAGE):
        done = run("net", "train", *MLP, *options, *files, "--output", folder / "o", status=status)
        assert wanted in one_line(done), done.stderr
        assert sorted(folder.glob("*")) == before

    refused("--plain: found it without --gamma", "--plain")
    refused("--mode: found it without --gamma", "--mode", "approximate")
    refused("--learn-gamma: found it without --gamma", "--learn-gamma")
    refused("--gamma-range: found it without --learn-gamma", "--gamma", 0.9, "--gamma-range", "0.8,0.95")
    refused("--gamma: gamma is 1e-07, wanted within", "--gamma", 1e-7)
    refused("--gamma: gamma is 1.5, wanted over 0 and at most 1", "--gamma", 1.5, "--mode", "approximate")
    refused("--gamma, --gamma-range: learned gammas are held between 1e-06 and 0.99, wanted within", "--gamma", 0.9,
            "--learn-gamma", "--gamma-range", "0.000001,0.99")
    refused("between them", "--gamma", 0.9, "--learn-gamma", "--gamma-range", "0.91,0.95")
    refused("--momentum: found it with the optimizer adam", "--momentum", 0.5)
    refused("wanted both or neither", "--validation-samples", folder / "X.npy")
    refused("wanted them for images", "--flip")
    refused("--initial-velocity: found it without --gamma", "--initial-velocity")
    refused("label", "--classes", 2, status=FAILED)
    refused("No such file", files=["--samples", folder / "none.npy", "--labels", folder / "y.npy"], status=FAILED)
    refused("wanted (60,), a label for each sample", files=["--samples", folder / "X.npy", "--labels", folder / "X.npy"],
            status=FAILED)
    done = run("net", "train", "resnet18", "--blocks", 3, *files, "--output", folder / "o", status=USAGE)
    assert "--blocks: found it for resnet18, wanted it for mlp alone" in one_line(done)
    done = run("net", "train", "resnet18", *files, "--output", folder / "o", status=USAGE)
    assert "X.npy: found vectors of 6 features, wanted images (N, C, H, W), which a resnet18 takes" in one_line(done)
    few = "found 1 sample a batch, wanted at least 2, of which batch normalisation takes means and variances"
    for more in ((), ("--gamma", 0.9), ("--gamma", 0.9, "--initial-velocity")):
        refused(f"--batch: {few}", "--batch", 1, "--normalisation", "batch", *more)
    for name, array in (("lone", X[:1]), ("class", y[:1]), ("images", np.zeros((60, 3, 32, 32), np.uint8))):
        np.save(folder / f"{name}.npy", array)
    before = sorted(folder.glob("*"))
    refused(f"lone.npy: {few}", "--normalisation", "batch",
            files=["--samples", folder / "lone.npy", "--labels", folder / "class.npy"])
    for gamma in ((), ("--gamma", 0.9)):  # the last stage has images of a pixel
        done = run("net", "train", "resnet18", "--batch", 1, *gamma, "--samples", folder / "images.npy", "--labels",
                   folder / "y.npy", "--output", folder / "o", status=USAGE)
        assert f"--batch: {few}" in one_line(done)
    X[3, 2] = np.nan
    np.save(folder / "X.npy", X)
    refused("sample 3 has a value that is not finite", status=FAILED)
    np.save(folder / "X.npy", np.asfortranarray(blobs(60, 1)[0]))
    refused("Fortran order", status=FAILED)


def test_a_last_step_that_spoils_the_network_is_not_the_best(folder):
    X, _ = blobs(60, 1)  # one step; NaN among logits finds class 0, which is all that there is to find
    files = save_samples(folder, X, np.zeros(60, np.int32))
    done = run("net", "train", "mlp", "--classes", 9, "--lr", 1e38, "--epochs", 1, *files, "--output", folder / "o", "--json",
               status=DONE)
    assert math.isfinite(json.loads(done.stdout)["validation_loss"])
    run("net", "info", folder / "o", status=DONE)  # which takes finite numbers alone


STILL = ["--epochs", 1, "--lr", 1e-12]  # what is trained so stays what it was


def same(tensors, others, names):
    return all(np.allclose(tensors[name], others[name], rtol=0, atol=1e-9) for name in names)


def test_start_takes_the_weights_whatever_the_momentum(folder):
    train = ["net", "train", "mlp", "--blocks", 3, "--width", 8, *save_samples(folder, *blobs(60, 1))]
    run(*train, "--gamma", 0.8, "--seed", 5, "--output", folder / "o", *BRIEFLY, status=DONE)
    theirs = networks.read(folder / "o")[0]
    weights = [name for name in theirs if name != "momentum.gamma"]

    def started(*options, of="o"):
        said = run(*train, *STILL, *options, "--output", folder / "n", "--start", folder / of, status=DONE).stderr
        tensors = networks.read(folder / "n")[0]
        assert same(tensors, theirs, weights)
        return tensors.get("momentum.gamma"), said.replace(f"shrinkwarp: {folder / of}: ", "")

    gammas, said = started("--gamma", 0.9)
    assert (gammas == np.float32(0.9)).all() and said == "gamma is 0.9 in place of 0.8\n"
    gammas, said = started("--gamma", 0.9, "--learn-gamma")
    assert np.allclose(gammas, 0.9) and said == "gamma is 0.9 in place of 0.8\n"
    gammas, said = started("--gamma", 0.8)
    assert (gammas == theirs["momentum.gamma"]).all() and said == ""
    gammas, said = started()
    assert gammas is None and said == ""
    (folder / "n").rename(folder / "residual")
    gammas, said = started("--gamma", 0.7, of="residual")
    assert (gammas == np.float32(0.7)).all() and said == ""
    assert started("--gamma", 0.9, "--quiet")[1] == ""
    # Those that both learn are weights.
    run(*train, "--gamma", 0.8, "--learn-gamma", "--start", folder / "o", "--output", folder / "l", *BRIEFLY,
        status=DONE)
    theirs = networks.read(folder / "l")[0]
    learned = theirs["momentum.gamma"]
    assert len(np.unique(learned)) == 3
    gammas, said = started("--gamma", 0.9, "--learn-gamma", of="l")
    assert np.allclose(gammas, learned, atol=1e-9) and said == ""
    gammas, said = started("--gamma", 0.9, of="l")
    assert (gammas == np.float32(0.9)).all()
    assert said == f"gamma is 0.9 in place of {learned.min():.6g} to {learned.max():.6g}\n"


def test_start_makes_a_head_of_other_classes_afresh(folder):
    train = ["net", "train", *MLP, "--gamma", 0.9]
    run(*train, "--output", folder / "o", *save_samples(folder, *blobs(60, 1)), status=DONE)
    theirs = networks.read(folder / "o")[0]
    files = [*save_samples(folder, *blobs(60, 1, classes=5)), *STILL, "--start", folder / "o"]
    train = [option for option in train if option != "--quiet"]
    done = run(*train, *files, "--output", folder / "n", status=DONE)
    assert done.stderr == f"shrinkwarp: {folder / 'o'}: the head begins afresh, for 5 classes in place of 3\n"
    tensors = networks.read(folder / "n")[0]
    assert same(tensors, theirs, [name for name in theirs if not name.startswith("head.")])
    assert tensors["head.weight"].shape == (5, 8) and tensors["head.bias"].shape == (5,)
    assert tensors["head.weight"].std() > 0
    said = json.loads(run(*train, *files, "--output", folder / "n", "--json", status=DONE).stdout)
    assert said["start"] == str(folder / "o") and said["afresh"] == ["head.bias", "head.weight", "momentum.gamma"]
    # A ResNet of torchvision, as it is fine-tuned.
    images = [*save_samples(folder, *blobs(24, 1, shape=(3, 8, 8))), "--batch", 8]
    run("net", "train", "resnet18", *images, "--epochs", 1, "--output", folder / "r", "--quiet", status=DONE)
    theirs = networks.read(folder / "r")[0]
    networks.write(folder / "torchvisions", theirs, {})
    save_samples(folder, *blobs(24, 1, classes=4, shape=(3, 8, 8)))
    done = run("net", "train", "resnet18", *images, *STILL, "--gamma", 0.9, "--start", folder / "torchvisions",
               "--output", folder / "m", status=DONE)
    assert done.stderr.endswith("torchvisions: the head begins afresh, for 4 classes in place of 3\n")
    tensors = networks.read(folder / "m")[0]
    assert tensors["fc.weight"].shape == (4, 512)
    assert same(tensors, theirs, [name for name in theirs if name.split(".")[0] != "fc" and "running" not in name])


def test_start_refuses_another_network_by_its_options(folder):
    files = save_samples(folder, *blobs(60, 1))
    run("net", "train", "mlp", "--blocks", 3, "--epochs", 1, *files, "--output", folder / "big", status=DONE)

    def refused(wanted, *options, architecture="mlp", files=files, start="big", status=USAGE):
        done = run("net", "train", architecture, "--epochs", 1, *options, *files, "--output", folder / "o", "--start",
                   folder / start, status=status)
        assert wanted.format(folder / start) in one_line(done)

    refused("--blocks: found 2, wanted 3 as {} has (--start)", "--blocks", 2)
    refused("--blocks: found 4, wanted 3 as {} has (--start)")
    refused("--width: found 32, wanted 64 as {} has", "--blocks", 3, "--width", 32)
    refused("--hidden: found 32, wanted 64 as {} has", "--blocks", 3, "--hidden", 32)
    refused("--normalisation: found layer, wanted none as {} has", "--blocks", 3, "--normalisation", "layer")
    np.save(folder / "wide.npy", np.zeros((60, 7), np.float32))
    wide = ["--samples", folder / "wide.npy", "--labels", folder / "y.npy"]
    refused("wide.npy: found samples of 7 features, wanted 6 as {} takes (--start)", "--blocks", 3, files=wide)
    # Of tensors alone nothing else is known.
    networks.write(folder / "bare", networks.read(folder / "big")[0], {})
    refused("found the tensor 'blocks.2.linear1.bias', which this network does not have", "--blocks", 2, start="bare",
            status=FAILED)
    run("net", "train", "mlp", "--blocks", 3, *STILL, *files, "--output", folder / "n", "--start", folder / "bare",
        status=DONE)
    np.save(folder / "grey.npy", np.zeros((60, 1, 6, 6), np.float32))
    grey = ["--samples", folder / "grey.npy", "--labels", folder / "y.npy"]
    refused("--start: {} holds mlp, wanted resnet18", architecture="resnet18", files=grey)
    run("net", "train", "resnet18", "--epochs", 1, *grey, "--output", folder / "g", "--quiet", status=DONE)
    np.save(folder / "colour.npy", np.zeros((60, 3, 6, 6), np.float32))
    colour = ["--samples", folder / "colour.npy", "--labels", folder / "y.npy"]
    refused("colour.npy: found images of 3 channels, wanted 1 as {} takes", architecture="resnet18", files=colour,
            start="g")


def test_evaluate_overwrites_nothing_it_reads_and_leaves_no_logits_behind(folder):
    X, y = blobs(60, 1, shape=(2, 3, 4))
    files = save_samples(folder, X, y)
    run("net", "train", *MLP, "--gamma", 0.9, "--epochs", 1, *files, "--output", folder / "net", status=DONE)
    its = [folder / "net", "--samples", folder / "X.npy", "--labels", folder / "y.npy"]
    for option, name in (("--logits", "X.npy"), ("--logits", "net"), ("--gradient", "net"), ("--gradient", "y.npy")):
        before = (folder / name).read_bytes()
        assert "wanted two files" in one_line(run("net", "evaluate", *its, option, folder / name, status=USAGE))
        assert (folder / name).read_bytes() == before
    np.save(folder / "turned.npy", X.reshape(60, 2, 4, 3))
    done = run("net", "evaluate", folder / "net", "--samples", folder / "turned.npy", "--inverse", status=FAILED)
    assert "turned.npy: found images of 2 x 4 x 3, wanted images of 2 x 3 x 4, which this mlp takes" in one_line(done)
    np.save(folder / "large.npy", X * np.float32(1e9))
    done = run("net", "evaluate", folder / "net", "--samples", folder / "large.npy", "--logits", folder / "L.npy", status=FAILED)
    assert "layer 1" in one_line(done) and not (folder / "L.npy").exists()


def test_a_training_that_leaves_the_range_names_the_layer(folder):
    X, y = blobs(60, 1)
    train = ["net", "train", *MLP, "--gamma", 0.9, "--output", folder / "o"]
    # 54 samples are trained on: the first step ends with weights that are too large for the second one.
    line = one_line(run(*train, "--lr", 1e7, "--optimizer", "sgd", "--batch", 16, *save_samples(folder, X, y),
                        status=FAILED))
    assert re.search(r"training of mlp, epoch 1, step 2 of 3: layer \d: found .* under 2\^19 = 524288", line)
    assert line.endswith("; a smaller rate, a clipped gradient or normalised branches may help"
                         " (--lr, --clip, --normalisation)")
    # The one step of an epoch, which only the validation that follows finds to be no good.
    line = one_line(run(*train, "--lr", 1e7, "--optimizer", "sgd", *save_samples(folder, X, y), status=FAILED))
    assert "training of mlp, validation after epoch 1: exact arithmetic: layer " in line
    line = one_line(run(*train, *save_samples(folder, X * np.float32(1e9), y), status=FAILED))
    assert "training of mlp, validation before the first step: exact arithmetic: layer 1: found" in line
    assert line.endswith("; smaller samples or normalised branches may help")
    assert not (folder / "o").exists()


def test_what_activations_take(folder):
    X, y = blobs(40, 1)
    files = save_samples(folder, X, y)
    taken = {}
    for blocks in (10, 100, 1000):
        for name, options in (("exact", ["--gamma", 0.9]), ("approximate", ["--gamma", 0.9, "--mode", "approximate"]),
                              ("residual", [])):
            out = folder / "net"
            run("net", "train", "mlp", "--blocks", blocks, "--width", 8, "--hidden", 8, "--epochs", 1, "--quiet", *options, *files,
                "--output", out, status=DONE)
            taken[name, blocks] = json.loads(run("net", "info", out, "--batch", 256, "--json").stdout)["training_activation_bytes"]
    elements = 8 * 256
    for more, fewer in ((1000, 100), (100, 10)):
        layers = more - fewer
        gamma_bytes = 96 * layers + 256  # of the gammas that kernels read
        grown = taken["exact", more] - taken["exact", fewer]
        # Lists have whole words.
        assert grown <= 1.05 * layers * elements * math.log2(1 / 0.9) / 8 + 4 * elements + gamma_bytes
        assert taken["approximate", more] - taken["approximate", fewer] <= gamma_bytes
        assert taken["residual", more] - taken["residual", fewer] >= 3 * 4 * layers * elements


# Files of others


@pytest.fixture(scope="module")
def vision():
    torch = pytest.importorskip("torch", reason="PyTorch is not importable: python3-torch is optional")
    models = pytest.importorskip("torchvision.models", reason="torchvision is not importable: python3-torchvision is optional")
    return torch, models


def torchvision_net(folder, vision, name, **options):
    """A network of torchvision with statistics of a trained one, in evaluation, and its file."""
    torch, models = vision
    torch.manual_seed(0)
    net = getattr(models, name)(**options)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    net.eval()
    state = net.state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    networks.write(folder / "net", {name: state[name].numpy() for name in names}, {})
    return net, names


def with_momentum(torch, net, gamma):
    """As momentumnet's transform_to_momentumnet does it: blocks behind the first of each stage, f(x) = block(x) - x."""

    class Momentum(torch.nn.Module):
        def __init__(self, blocks):
            super().__init__()
            self.blocks = torch.nn.ModuleList(blocks)

        def forward(self, x):
            v = torch.zeros_like(x)
            for block in self.blocks:
                v = gamma * v + (1 - gamma) * (block(x) - x)
                x = x + v
            return x

    for name in ("layer1", "layer2", "layer3", "layer4"):
        stage = getattr(net, name)
        setattr(net, name, torch.nn.Sequential(stage[0], Momentum(list(stage)[1:])))
    return net


@pytest.mark.parametrize("name, size, count", [("resnet18", 32, 5), ("resnet101", 32, 2)])
def test_resnets_are_torchvisions(folder, vision, name, size, count):
    torch, _ = vision
    net, names = torchvision_net(folder, vision, name, num_classes=10)
    parameters = [key for key, _ in net.named_parameters()]
    x, y = torch.randn(count, 3, size, size), torch.arange(count)
    np.save(folder / "X.npy", x.numpy())
    np.save(folder / "y.npy", y.numpy())
    files = ["--samples", folder / "X.npy", "--labels", folder / "y.npy", "--logits", folder / "l.npy", "--json"]
    # Rounding grows with depth in a network of random weights: PyTorch's own gradients of resnet101 are no better.
    with_gradient = name == "resnet18"
    with torch.no_grad():
        plain = net(x).numpy()
    for gamma, mode in ((None, None), (0.9, "exact"), *([(0.9, "approximate")] if with_gradient else [])):
        if gamma is None:
            ours = folder / "net"
        else:
            ours = folder / "momentum"
            said = json.loads(run("net", "transform", folder / "net", "--input", f"3,{size},{size}", "--gamma", gamma, "--mode",
                                  mode, "--output", ours, "--json", status=DONE).stdout)
            assert said["architecture"] == name and said["momentum_layers"] == {"resnet18": 4, "resnet101": 29}[name]
            assert set(networks.read(ours)[0]) == {*names, *(f"layer{i}.momentum.gamma" for i in (1, 2, 3, 4))}
            if mode == "exact":
                with_momentum(torch, net, gamma)
        options = [*files, *(["--inverse"] if gamma else []), *(["--gradient", folder / "g"] if with_gradient else [])]
        said = json.loads(run("net", "evaluate", ours, *options, status=DONE).stdout)
        logits = net(x)
        if with_gradient:
            net.zero_grad()
            torch.nn.functional.cross_entropy(logits, y).backward()
            gradient = networks.read(folder / "g")[0]
            assert set(gradient) == set(parameters)
            for key, parameter in zip(parameters, net.parameters()):
                wanted = parameter.grad.numpy()
                assert np.abs(gradient[key] - wanted).max() <= 1e-4 * np.abs(wanted).max(), key
        logits = logits.detach().numpy()
        assert np.abs(np.load(folder / "l.npy") - logits).max() <= 1e-4 * np.abs(logits).max()
        if gamma:
            assert np.abs(logits - plain).max() > 1e-2 * np.abs(logits).max()
            assert all(check["differ"] == 0 for check in said["inverses"]) == (mode == "exact")
            assert all(check["worst"] < 1e-3 for check in said["inverses"])


def test_momentumnets_transform(folder, vision):
    torch, _ = vision
    momentumnet = pytest.importorskip("momentumnet", reason="momentumnet is not importable: it is optional")
    net, _ = torchvision_net(folder, vision, "resnet18", num_classes=10)
    x = torch.randn(4, 3, 32, 32)
    np.save(folder / "X.npy", x.numpy())
    run("net", "transform", folder / "net", "--input", "3,32,32", "--gamma", 0.9, "--output", folder / "m", status=DONE)
    run("net", "evaluate", folder / "m", "--samples", folder / "X.npy", "--logits", folder / "l.npy", status=DONE)
    with torch.no_grad():
        wanted = momentumnet.transform_to_momentumnet(net, gamma=0.9, use_backprop=True).eval()(x).numpy()
    assert np.abs(np.load(folder / "l.npy") - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_our_resnets_load_in_torchvision(folder, vision):
    torch, models = vision
    X, y = blobs(24, 1, shape=(3, 32, 32))
    run("net", "train", "resnet18", "--epochs", 1, "--batch", 8, "--quiet", *save_samples(folder, X, y), "--output", folder / "net",
        status=DONE)
    tensors, metadata = networks.read(folder / "net")
    assert metadata["architecture"] == "resnet18" and metadata["input"] == "3,32,32"
    net = models.resnet18(num_classes=3)
    net.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()})
    with torch.no_grad():
        wanted = net.eval()(torch.from_numpy(X)).numpy()
    run("net", "evaluate", folder / "net", "--samples", folder / "X.npy", "--logits", folder / "l.npy", status=DONE)
    assert np.abs(np.load(folder / "l.npy") - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_files_that_are_none(folder):
    X, y = blobs(30, 1)
    files = save_samples(folder, X, y)
    run("net", "train", *MLP, *files, "--output", folder / "net", status=DONE)
    tensors, metadata = networks.read(folder / "net")

    def refused(wanted, tensors=tensors, **changed):
        networks.write(folder / "bent", tensors, {**metadata, **changed})
        assert wanted in one_line(run("net", "info", folder / "bent", status=FAILED))

    refused("found the format 'x', wanted shrinkwarp-net-1", format="x")
    refused("found the architecture 'vgg'", architecture="vgg")
    refused("'blocks' is '-1', wanted a number from 1", blocks="-1")
    refused("blocks.5.linear1.weight", blocks="6")
    refused("wanted channels,height,width", input="6,1")
    refused("'momentum' is 'perhaps', wanted one of yes, no", momentum="perhaps")
    refused("head.weight", classes="4")
    refused("wanted finite numbers", {**tensors, "head.bias": np.full(3, np.inf, np.float32)})
    # A file whose name could be that of a function is named.
    assert one_line(run("net", "info", "bent", cwd=folder, status=FAILED)).startswith("shrinkwarp: bent: element 0 of")
    networks.write(folder / "bent", {"a": np.zeros(3, np.float32)}, {})
    assert "nor the tensors of a ResNet of torchvision" in one_line(run("net", "info", folder / "bent", status=FAILED))
    line = one_line(run("net", "transform", folder / "net", "--output", folder / "m", status=USAGE))
    assert "--gamma: found none" in line
    run("net", "transform", folder / "net", "--gamma", 0.9, "--output", folder / "m", status=DONE)
    line = one_line(run("net", "transform", folder / "m", "--gamma", 0.9, "--output", folder / "n", status=FAILED))
    assert line == f"shrinkwarp: {folder / 'm'}: found a network with momentum, wanted a residual one"
    tensors, metadata = networks.read(folder / "m")
    refused("bent: gamma is 1e-09, wanted within", {**tensors, "momentum.gamma": np.full(5, 1e-9, np.float32)},
            gamma="1e-9")
    np.save(folder / "wide.npy", np.zeros((3, 9), np.float32))
    line = one_line(run("net", "evaluate", folder / "m", "--samples", folder / "wide.npy", "--logits", folder / "l", status=FAILED))
    assert "wide.npy: found vectors of 9 features, wanted vectors of 6 features, which this mlp takes" in line


def test_samples_that_a_network_does_not_take(folder):
    X, y = blobs(24, 1, shape=(3, 8, 6))
    arguments = ["--epochs", 1, "--batch", 8, "--quiet"]
    run("net", "train", "resnet18", *arguments, *save_samples(folder, X, y), "--output", folder / "net", status=DONE)
    tensors, _ = networks.read(folder / "net")
    networks.write(folder / "torchvisions", tensors, {})
    run("net", "train", "mlp", *arguments, *save_samples(folder, *blobs(24, 1)), "--output", folder / "mlp",
        status=DONE)
    files = {"vectors": X[:, 0, 0], "pixels": X[:, :, 0, 0], "grey": X[:, :1], "turned": X.swapaxes(2, 3).copy()}
    for name, array in files.items():
        np.save(folder / f"{name}.npy", array)

    def refused(network, name, wanted):
        for more in (["--logits", folder / "l"], ["--labels", folder / "y.npy", "--gradient", folder / "g"]):
            done = run("net", "evaluate", folder / network, "--samples", folder / f"{name}.npy", *more, status=FAILED)
            assert f"{folder / name}.npy: found {wanted} takes" in one_line(done)

    for network, wanted in (("net", "images of 3 x 8 x 6"), ("torchvisions", "images (N, 3, H, W)")):
        refused(network, "vectors", f"vectors of 6 features, wanted {wanted}, which this resnet18")
        refused(network, "pixels", f"vectors of 3 features, wanted {wanted}, which this resnet18")
        refused(network, "grey", "images of 1 x 8 x 6, wanted images of 3 x 8 x 6, which this resnet18")
    refused("net", "turned", "images of 3 x 6 x 8, wanted images of 3 x 8 x 6, which this resnet18")
    run("net", "evaluate", folder / "torchvisions", "--samples", folder / "turned.npy", "--logits", folder / "l",
        status=DONE)
    refused("mlp", "grey", "images of 1 x 8 x 6, wanted vectors of 6 features, which this mlp")
    for command in (["info", folder / "torchvisions"],
                    ["transform", folder / "torchvisions", "--gamma", 0.9, "--output", folder / "m"]):
        line = one_line(run("net", *command, "--input", "1,8,6", status=USAGE))
        assert "--input: found images of 1 x 8 x 6, wanted 3 channels as " in line
