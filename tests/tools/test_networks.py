"""`shrinkwarp train` and `shrinkwarp evaluate` against networks in NumPy, and what they promise of interrupted trainings and of
files that are none."""

import json
import re
import shutil
import signal
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest

import networks
from program import DONE, FAILED, USAGE, certificate, energy, lambda_max, run, start
from test_bad_input import refused

n, m, N, T = 16, 32, 400, 3

# Of each kind the options of a short training, and the fraction of lambda_max that it is evaluated at.
TRAININGS = {
    "step": (["--lambda-fraction", 0.3, "--epochs", 25], 0.3),
    "alista": (["--lambda-range", "0.1,0.5", "--epochs", 12, "--support-selection", "4,10", "--ridge", 0.05], 0.2),
    "coupled": (["--lambda-fraction", 0.3, "--optimizer", "lbfgs", "--epochs", 6, "--start", "ista"], 0.4),
    "lista": (["--lambda-fraction", 0.3, "--epochs", 3, "--batch", 64], 0.3),
    "momentum-lista": (["--lambda-fraction", 0.2, "--epochs", 2, "--batch", 64, "--layerwise", "--start", "ista"], 0.2),
}


def problems(seed, count, rows=n, atoms=m, scale=1.0):
    """Atoms of norm 1, observations of a few of them with noise."""
    random = np.random.default_rng(seed)
    D = np.random.default_rng(1).standard_normal((rows, atoms))
    D /= np.linalg.norm(D, axis=0)
    codes = random.standard_normal((count, atoms)) * (random.random((count, atoms)) < 0.1)
    return D, scale * (codes @ D.T + 0.05 * random.standard_normal((count, rows)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Of each kind a trained network, what train said, and others to judge it by."""
    folder = tmp_path_factory.mktemp("networks")
    D, X = problems(2, N, scale=30)
    _, Y = problems(3, 60)
    for name, array in (("D", D), ("X", X), ("Y", Y)):
        np.save(folder / f"{name}.npy", array)
    made = SimpleNamespace(folder=folder, D=D, X=X, Y=Y, kinds={})
    for kind, (options, fraction) in TRAININGS.items():
        output = folder / f"{kind}.safetensors"
        done = run("train", kind, "--dictionary", folder / "D.npy", "--observations", folder / "X.npy", "--layers", T,
                   *options, "--output", output, "--history", folder / f"{kind}.jsonl", "--json", status=DONE)
        tensors, metadata = networks.read(output)
        made.kinds[kind] = SimpleNamespace(
            path=output, said=json.loads(done.stdout), tensors=tensors, metadata=metadata, fraction=fraction,
            on=["--network", output, "--dictionary", folder / "D.npy"])
    return made


def evaluated(network, observations, *options):
    done = run("evaluate", *network.on, "--observations", observations, "--lambda-fraction", network.fraction, "--json",
               *options, status=DONE)
    return json.loads(done.stdout)


each_kind = pytest.mark.parametrize("kind", networks.KINDS)


@each_kind
def test_what_training_writes(trained, kind):
    network, said = trained.kinds[kind], trained.kinds[kind].said
    assert {key: said[key] for key in ("schema", "network", "layers", "rows", "atoms", "output")} == {
        "schema": "shrinkwarp-train-1", "network": kind, "layers": T, "rows": n, "atoms": m, "output": str(network.path)}
    shapes = {"step": {"steps": (T,)}, "alista": {"steps": (T,), "thresholds": (T,)},
              "coupled": {"W": (T, n, m), "thresholds": (T, m)},
              "lista": {"W1": (T, m, m), "W2": (T, m, n), "thresholds": (T, m)}}
    shapes["momentum-lista"] = {**shapes["lista"], "gamma": (T,)}
    assert {name: tensor.shape for name, tensor in network.tensors.items()} == shapes[kind]
    assert {tensor.dtype for tensor in network.tensors.values()} == {np.dtype("f8" if kind in networks.SCALAR else "f4")}
    assert network.metadata["format"] == "shrinkwarp-network-1" and network.metadata["network"] == kind
    assert not network.path.with_name(network.path.name + ".checkpoint").exists()

    assert said["validation"] <= said["ista"]
    if TRAININGS[kind][0][0] == "--lambda-fraction":  # those of a range are drawn by the program
        X = trained.X[9::10]
        lam = TRAININGS[kind][0][1] * lambda_max(trained.D, X)
        Z = networks.Forward(network.tensors, network.metadata, trained.D, X, lam).Z
        assert said["validation"] == pytest.approx(networks.costs(trained.D, X, Z, lam).mean(), rel=1e-5)

    lines = [json.loads(line) for line in (trained.folder / f"{kind}.jsonl").read_text().splitlines()]
    layerwise = kind in networks.SCALAR or "--layerwise" in TRAININGS[kind][0]
    assert {line["depth"] for line in lines} == (set(range(1, T + 1)) if layerwise else {T})
    for line in lines:
        assert set(line) == {"depth", "pass", "cost", "validation", "best_validation", "rate"}
        assert (line["validation"] is None) == (line["depth"] < T)
        assert line["cost"] > 0 and line["rate"] >= 0
    if not said["fell_back"]:
        assert min(line["best_validation"] for line in lines) == pytest.approx(said["validation"], rel=1e-12)


@each_kind
def test_codes_are_those_of_the_tensors(trained, kind, folder):
    network = trained.kinds[kind]
    evaluated(network, trained.folder / "Y.npy", "--codes", folder / "Z.npy")
    Z = np.load(folder / "Z.npy")
    assert Z.dtype == network.tensors["gamma" if "gamma" in network.tensors else next(iter(network.tensors))].dtype
    lam = network.fraction * lambda_max(trained.D, trained.Y)
    wanted = networks.Forward(network.tensors, network.metadata, trained.D, trained.Y, lam)
    assert (np.abs(Z - wanted.Z) <= wanted.bound).all()
    assert np.max(wanted.bound) < 0.01 * np.abs(Z).max(), "a bound that says something"


@each_kind
def test_numbers_are_those_of_the_codes(trained, kind, folder):
    network, D, Y = trained.kinds[kind], trained.D, trained.Y
    found = evaluated(network, trained.folder / "Y.npy", "--codes", folder / "Z.npy")
    Z = np.load(folder / "Z.npy").astype(np.float64)
    lam = network.fraction * lambda_max(D, Y)
    best, gap = certificate(D, Y, networks.optimum(D, Y, lam), lam)
    assert (gap <= 1e-12 * energy(Y)).all()
    slack = 4e-12 * energy(Y).mean()  # two optima within 1e-12 of 1/2 ||y||^2, and float64's rounding
    objective, gaps = certificate(D, Y, Z, lam)
    assert found["schema"] == "shrinkwarp-evaluate-1" and found["kind"] == kind and found["layers"] == T
    assert found["problems"] == len(Y) and found["lambda_fraction"] == network.fraction
    assert found["optimum"] == pytest.approx(best.mean(), abs=slack)
    assert found["network"] == pytest.approx((objective - best).mean(), abs=slack)
    relative = gaps / energy(Y)
    assert found["relative_gaps"]["network"]["mean"] == pytest.approx(relative.mean(), abs=1e-12)
    assert found["relative_gaps"]["network"]["worst"] == pytest.approx(relative.max(), abs=1e-12)


def test_an_untrained_network_is_ista(trained, folder):
    """A rate under which nothing moves leaves ISTA's own step in the file, which ISTA and FISTA beside it can be checked by."""
    output = folder / "net.safetensors"
    run("train", "coupled", "--dictionary", trained.folder / "D.npy", "--observations", trained.folder / "X.npy", "--layers",
        5, "--lambda-fraction", 0.3, "--start", "ista", "--lr", 1e-300, "--optimizer", "sgd", "--epochs", 1, "--output",
        output, "--quiet", status=DONE)
    tensors, _ = networks.read(output)
    step = tensors["thresholds"].astype(np.float64)
    assert (step == step[0, 0]).all()
    step = step[0, 0]
    assert 0.9 / np.linalg.norm(trained.D, 2) ** 2 <= step <= 1 / np.linalg.norm(trained.D, 2) ** 2
    D, Y = trained.D, trained.Y
    # Without --lambda-fraction the one that it was trained for.
    found = json.loads(run("evaluate", "--network", output, "--dictionary", trained.folder / "D.npy", "--observations",
                           trained.folder / "Y.npy", "--json", status=DONE).stdout)
    lam = 0.3 * lambda_max(D, Y)
    best = networks.costs(D, Y, networks.optimum(D, Y, lam), lam)
    for name, accelerated in (("network", False), ("ista", False), ("fista", True)):
        excess = (networks.costs(D, Y, networks.ista(D, Y, lam, step, 5, accelerated), lam) - best).mean()
        assert found[name] == pytest.approx(excess, rel=1e-5), name  # the step is known to float32
        assert 0 < found["relative_gaps"][name]["mean"] <= found["relative_gaps"][name]["worst"] < 1
    table = run("evaluate", "--network", output, "--dictionary", trained.folder / "D.npy", "--observations",
                trained.folder / "Y.npy", status=DONE).stdout
    assert [line.split()[0] for line in table.splitlines()[3:]] == ["network", "ISTA", "FISTA"]


def test_damaged_numbers(trained, interrupted, folder):
    """Finite and plausible, but not what was written: of a network, and of a checkpoint."""
    for source, command in (
            (trained.kinds["coupled"].path, ["evaluate", "--dictionary", trained.folder / "D.npy", "--observations",
                                             trained.folder / "Y.npy", "--network", folder / "net.safetensors"]),
            (checkpoint_of(interrupted.folder / "net.safetensors"), None)):
        data = bytearray(source.read_bytes())
        start = 8 + int.from_bytes(data[:8], "little")
        data[start + (len(data) - start) // 2] ^= 1
        if command is None:
            checkpoint_of(folder / "net.safetensors").write_bytes(data)
            command = list(interrupted.arguments)
            command[command.index("--output") + 1] = folder / "net.safetensors"
            command[command.index("--history") + 1] = folder / "H.jsonl"
            refused(folder, [*command, "--resume"], "checkpoint", "damaged", "starts afresh")
        else:
            (folder / "net.safetensors").write_bytes(data)
            refused(folder, command, "net.safetensors", "damaged")


def test_a_history_of_another_training(interrupted, folder):
    output, history = folder / "net.safetensors", folder / "H.jsonl"
    shutil.copy(checkpoint_of(interrupted.folder / "net.safetensors"), checkpoint_of(output))
    content = b"what somebody else wrote\n" * 10000
    history.write_bytes(content)
    command = list(interrupted.arguments)
    command[command.index("--output") + 1] = output
    command[command.index("--history") + 1] = history
    refused(folder, [*command, "--resume"], "H.jsonl", "begin")
    assert history.read_bytes() == content


def test_the_file_of_a_start_is_kept(trained, folder):
    step, output = folder / "step.safetensors", folder / "net.safetensors"
    content = trained.kinds["step"].path.read_bytes()
    step.write_bytes(content)
    command = ["train", "coupled", "--dictionary", trained.folder / "D.npy", "--observations", trained.folder / "X.npy",
               "--lambda-fraction", 0.3, "--layers", T, "--epochs", 1, "--start", step]
    refused(folder, [*command, "--output", step], "--start", "--output", status=USAGE)
    refused(folder, [*command, "--output", output, "--history", step], "--start", "--history", status=USAGE)
    refused(folder, [*command, "--output", output, "--history", checkpoint_of(output)], "--history", "checkpoint", status=USAGE)
    assert step.read_bytes() == content


@pytest.mark.parametrize("layers, rate", [(5, 1e-3), (10, 2.5e-4)])
def test_the_default_rate_falls_with_depth(trained, folder, layers, rate):
    run("train", "coupled", "--dictionary", trained.folder / "D.npy", "--observations", trained.folder / "X.npy", "--layers", layers,
        "--lambda-fraction", 0.3, "--start", "ista", "--schedule", "constant", "--epochs", 1, "--output", folder / "net",
        "--history", folder / "H.jsonl", "--quiet", status=DONE)
    assert json.loads((folder / "H.jsonl").read_text())["rate"] == pytest.approx(rate, rel=1e-12)


def test_an_interrupt_while_observations_are_read(trained, folder):
    """Before the first step, where nothing is kept yet."""
    rows = 2_000_000
    with open(folder / "X.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (rows, n)})
        file.truncate(file.tell() + 8 * rows * n)  # a sparse file of zeros
    process = start("train", "step", "--dictionary", trained.folder / "D.npy", "--observations", folder / "X.npy", "--layers",
                    2, "--lambda-fraction", 0.3, "--output", folder / "net", stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in said and not (folder / "net").exists()


@pytest.mark.parametrize("kind", ["coupled", "lista", "momentum-lista"])
def test_a_start_from_a_file(trained, kind, folder):
    """With a rate under which nothing moves it is the step network, but for float32."""
    step = trained.kinds["step"]
    output = folder / "net.safetensors"
    command = ["train", kind, "--dictionary", trained.folder / "D.npy", "--observations", trained.folder / "X.npy",
               "--lambda-fraction", 0.3, "--lr", 1e-300, "--optimizer", "sgd", "--epochs", 1, "--output", output, "--quiet"]
    run(*command, "--layers", T, "--start", step.path, status=DONE)
    tensors, metadata = networks.read(output)
    lam = 0.3 * lambda_max(trained.D, trained.Y)
    found = networks.Forward(tensors, metadata, trained.D, trained.Y, lam)
    wanted = networks.Forward(step.tensors, step.metadata, trained.D, trained.Y, lam)
    assert (np.abs(found.Z - wanted.Z) <= found.bound + 1e-5 * np.abs(wanted.Z).max()).all()
    refused(folder, [*command, "--layers", T + 1, "--start", step.path], "--start", "step.safetensors", "3", "4", status=USAGE)
    refused(folder, [*command, "--layers", T, "--start", "stop"], "--start", "'stop'", "step, ista or", status=USAGE)
    refused(folder, [*command, "--layers", T, "--start", trained.kinds["coupled"].path], "coupled", "wanted step", status=USAGE)


# ----------------------------------------------------------------------------------------------------------- gradients


def gradient(trained, kind, folder):
    """The program's gradient at observations whose entries all keep off the thresholds, where the cost has a kink."""
    network, D = trained.kinds[kind], trained.D
    lam = network.fraction * lambda_max(D, trained.Y)
    clear = networks.Forward(network.tensors, network.metadata, D, trained.Y, lam).margin > 1e-3 * lam
    assert clear.sum() >= 10
    np.save(folder / "clear.npy", trained.Y[clear])
    evaluated(network, folder / "clear.npy", "--gradient", folder / "G.safetensors")
    G, metadata = networks.read(folder / "G.safetensors")
    assert metadata == {"format": "shrinkwarp-gradient-1"}
    assert {name: g.shape for name, g in G.items()} == {name: p.shape for name, p in network.tensors.items()}
    assert {g.dtype for g in G.values()} == {np.dtype("f8")}
    return G, trained.Y[clear], lam[clear]


def gradient_tolerance(kind, G, count):
    """Of sums over a layer's entries and all problems, T layers of them, with terms up to some eight times the sum."""
    eps = 2.0**-52 if kind in networks.SCALAR else 2.0**-23
    return 8 * (n + m + count) * T * eps * np.abs(G).max()


@each_kind
def test_gradient_is_the_costs_slope(trained, kind, folder):
    network, D = trained.kinds[kind], trained.D
    G, Y, lam = gradient(trained, kind, folder)
    random = np.random.default_rng(5)
    for name, tensor in network.tensors.items():
        direction = random.standard_normal(tensor.shape) * (np.abs(tensor).max() or 1)
        h = 1e-6 / np.sqrt(tensor.size)

        def cost(step):
            moved = {**network.tensors, name: tensor.astype(np.float64) + step * direction}
            return networks.costs(D, Y, networks.Forward(moved, network.metadata, D, Y, lam).Z, lam).mean()

        slope = (cost(h) - cost(-h)) / (2 * h)
        scale = np.linalg.norm(direction) * np.sqrt(tensor.size)
        rounding = 1e-15 * energy(Y).mean() / h + 1e-9 * abs(slope)  # the difference's own
        assert (G[name] * direction).sum() == pytest.approx(
            slope, abs=rounding + scale * gradient_tolerance(kind, G[name], len(Y))), name


@each_kind
def test_gradient_is_that_of_pytorch(trained, kind, folder):
    torch = pytest.importorskip("torch", reason="PyTorch is not importable: python3-torch is optional")
    network = trained.kinds[kind]
    G, Y, lam = gradient(trained, kind, folder)
    D, Y, lam = (torch.from_numpy(np.array(array)) for array in (trained.D, Y, lam[:, None]))
    W = torch.from_numpy(np.array(networks.matrix_of(network.metadata, trained.D)))
    p = {name: torch.tensor(tensor.astype(np.float64), requires_grad=True) for name, tensor in network.tensors.items()}

    def shrink(U, factor, kept=0):
        threshold = lam * torch.clamp(factor, min=0)
        shrunk = torch.sign(U) * torch.relu(U.abs() - threshold)
        if kept == 0:
            return shrunk
        least = U.abs().topk(kept, dim=1).values[:, -1:]
        return torch.where((U.abs() >= least) & (U.abs() > threshold), U, shrunk)

    Z = V = torch.zeros(len(Y), m, dtype=torch.float64)
    for t in range(T):
        if kind == "step":
            Z = shrink(Z + p["steps"][t] * (Y - Z @ D.T) @ D, p["steps"][t])
        elif kind == "alista":
            Z = shrink(Z + p["steps"][t] * (Y - Z @ D.T) @ W, p["thresholds"][t], int(m * min(4 * (t + 1), 10) / 100))
        elif kind == "coupled":
            Z = shrink(Z + (Y - Z @ D.T) @ p["W"][t], p["thresholds"][t])
        else:
            S = shrink(Z @ p["W1"][t].T + Y @ p["W2"][t].T, p["thresholds"][t])
            if kind == "momentum-lista":
                V = p["gamma"][t] * V + (1 - p["gamma"][t]) * (S - Z)
                Z = Z + V
            else:
                Z = S
    ((Y - Z @ D.T).square().sum(1) / 2 + lam[:, 0] * Z.abs().sum(1)).mean().backward()
    for name, tensor in p.items():
        wanted = tensor.grad.numpy()
        assert np.abs(wanted).max() > 0
        assert np.abs(G[name] - wanted).max() <= gradient_tolerance(kind, wanted, len(Y)), name


# -------------------------------------------------------------------------------------------------- interrupted trainings

# Trainings of some seconds, whose state is stored every half second; of coupled most of the time is that of its start.
LONG = {
    "step": ["--layers", 6, "--lambda-fraction", 0.1, "--epochs", 60],
    "lista": ["--layers", 3, "--lambda-range", "0.1,0.5", "--epochs", 200, "--batch", 50, "--start", "ista"],
    "coupled": ["--layers", 8, "--lambda-fraction", 0.1, "--epochs", 2, "--batch", 50],
}


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    D, X = problems(4, 1500, 32, 64)
    np.save(folder / "D.npy", D)
    np.save(folder / "X.npy", X)

    def arguments(kind, output, *more):
        return ["train", kind, "--dictionary", folder / "D.npy", "--observations", folder / "X.npy", *LONG[kind], "--output",
                output, "--threads", 1, "--quiet", *more]

    return arguments


def checkpoint_of(output):
    return output.with_name(output.name + ".checkpoint")


@pytest.mark.parametrize("kind", LONG)
def test_a_killed_training_goes_on_to_the_same_bits(long, kind, folder):
    whole, parts = folder / "whole.safetensors", folder / "parts.safetensors"
    undisturbed = start(*long(kind, whole))
    random = np.random.default_rng(6)
    kills, last = 0, None
    killed_in = set()
    while True:
        process = start(*long(kind, parts, "--resume"), stderr=subprocess.PIPE)
        if kills > 0:  # else it may never come to a state that it has not stored before
            while process.poll() is None and (not checkpoint_of(parts).exists() or
                                              checkpoint_of(parts).stat().st_mtime_ns == last):
                time.sleep(0.005)
        try:
            # Soon after the first state, which is of the start where there is one; then at any time.
            assert process.wait(0.01 if kills == 1 else random.uniform(0, 0.4)) == DONE, process.stderr.read()
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            last = checkpoint_of(parts).stat().st_mtime_ns if checkpoint_of(parts).exists() else None
            if last is not None:
                killed_in.add(networks.read(checkpoint_of(parts))[1]["part"])
    assert undisturbed.wait() == DONE
    assert kills >= 1
    if kind == "coupled":
        assert "start" in killed_in
    assert parts.read_bytes() == whole.read_bytes()
    assert {path.name for path in folder.iterdir()} == {"whole.safetensors", "parts.safetensors"}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, trained):
    """A training that SIGINT has ended."""
    folder = tmp_path_factory.mktemp("interrupted")
    files = ["--dictionary", trained.folder / "D.npy", "--observations", trained.folder / "X.npy"]
    arguments = ["train", "lista", *files, "--layers", 2, "--lambda-fraction", 0.3, "--epochs", 100000, "--start", "ista",
                 "--history", folder / "H.jsonl", "--quiet", "--output", folder / "net.safetensors"]
    process = start(*arguments, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not ((folder / "H.jsonl").exists() and (folder / "H.jsonl").read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    return SimpleNamespace(folder=folder, arguments=arguments, status=process.returncode, said=said)


def test_an_interrupted_training_is_kept(interrupted):
    output = interrupted.folder / "net.safetensors"
    assert interrupted.status == 130
    assert interrupted.said == f"shrinkwarp: interrupted: --resume goes on with {checkpoint_of(output)}\n"
    assert checkpoint_of(output).exists() and not output.exists()
    # It goes on, in the same history.
    before = (interrupted.folder / "H.jsonl").read_text()
    process = start(*interrupted.arguments, "--resume", stderr=subprocess.PIPE, text=True)
    while process.poll() is None and (interrupted.folder / "H.jsonl").read_text() == before:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    text = (interrupted.folder / "H.jsonl").read_text()
    assert text.startswith(before)
    passes = [json.loads(line)["pass"] for line in text.splitlines()]
    assert passes == list(range(1, len(passes) + 1))


def test_a_killed_training_writes_no_pass_twice(interrupted, folder):
    """As SIGKILL leaves them: a history that is ahead of the state."""
    source, history, output = interrupted.folder / "net.safetensors", folder / "H.jsonl", folder / "net.safetensors"
    shutil.copy(checkpoint_of(source), checkpoint_of(output))
    kept = (interrupted.folder / "H.jsonl").read_bytes()
    passes = [json.loads(line)["pass"] for line in kept.splitlines()]
    history.write_bytes(kept + b'{"pass": %d}\n{"pa' % (passes[-1] + 1))
    arguments = [*interrupted.arguments[:-1], output, "--resume"]
    arguments[arguments.index("--history") + 1] = history
    process = start(*arguments, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and len(history.read_bytes()) < len(kept) + 400:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert history.read_bytes().startswith(kept)
    written = [json.loads(line) for line in history.read_text().splitlines()]
    assert [line["pass"] for line in written] == list(range(1, len(written) + 1))
    assert len(written) > len(passes)


def test_a_finished_training_is_left_alone(trained, folder):
    output = folder / "net.safetensors"
    arguments = ["train", "step", "--dictionary", trained.folder / "D.npy", "--observations", trained.folder / "X.npy",
                 "--layers", 1, "--lambda-fraction", 0.3, "--epochs", 2, "--output", output, "--history", folder / "H.jsonl"]
    run(*arguments, "--quiet", status=DONE)
    before = {path: path.lstat() for path in folder.iterdir()}
    assert run(*arguments, "--resume", status=DONE).stdout == f"{output} is finished, there is nothing to resume\n"
    assert json.loads(run(*arguments, "--resume", "--json", status=DONE).stdout) == {
        "schema": "shrinkwarp-train-1", "finished": True, "output": str(output)}
    assert {path: path.lstat().st_mtime_ns for path in folder.iterdir()} == {
        path: found.st_mtime_ns for path, found in before.items()}
    refused(folder, [*arguments, "--resume", "--patience", 7], output, "--patience", "wanted 7", "without --resume")
    tensors, metadata = networks.read(output)
    networks.write(output, tensors, {key: value for key, value in metadata.items() if key != "fingerprint"})
    refused(folder, [*arguments, "--resume"], output, "how it was made", "without --resume")
    output.write_bytes(b"no network")
    refused(folder, [*arguments, "--resume"], output, "without --resume")
    run(*arguments, "--quiet", status=DONE)


def test_an_unfinished_training_is_not_lost(interrupted):
    kept = checkpoint_of(interrupted.folder / "net.safetensors")
    refused(interrupted.folder, interrupted.arguments, kept, "--resume", "deleting")
    other = [*interrupted.arguments, "--resume"]
    refused(interrupted.folder, [*other, "--seed", 8, "--lr", 0.5], kept, "--seed", "--lr", "wanted 8")
    # Observations that have the same lambda_max and energy, one by one.
    trained_on = other[other.index("--observations") + 1]
    np.save(interrupted.folder / "X.npy", -np.load(trained_on))
    refused(interrupted.folder, [value if value != trained_on else interrupted.folder / "X.npy" for value in other], kept,
            "values of --observations")
    near = [value if value != 0.3 else 0.3000000001 for value in other]
    refused(interrupted.folder, near, kept, "fraction of lambda_max", "0.3000000001")


def test_a_diverged_training_goes_on_with_another_rate(interrupted, folder):
    output, history = folder / "net.safetensors", folder / "H.jsonl"
    arguments = [*interrupted.arguments[:-1], output, "--resume"]
    arguments[arguments.index("--history") + 1] = history
    shutil.copy(checkpoint_of(interrupted.folder / "net.safetensors"), checkpoint_of(output))
    shutil.copy(interrupted.folder / "H.jsonl", history)
    changed, diverged = run(*arguments, "--lr", 1e30, status=FAILED).stderr.splitlines()
    assert changed == "shrinkwarp: goes on with --lr 1e+30 in place of the default"
    assert "found the loss" in diverged
    assert diverged.endswith(f"; --resume with another --lr or --clip goes on from the last good state, {checkpoint_of(output)}")

    def passes_at_the_new_rate():
        return history.read_text().count('"rate":1e-05,')

    def goes_on(*options):
        before = passes_at_the_new_rate()
        process = start(*arguments, *options, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and passes_at_the_new_rate() <= before:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1].splitlines()
        assert process.returncode == 130, said
        assert "interrupted" in said.pop()
        return said

    said = goes_on("--lr", 1e-5, "--clip", 7, "--schedule", "constant")
    assert [line.split(" in place of ")[0] for line in said] == [
        f"shrinkwarp: goes on with {option}" for option in ("--schedule constant", "--lr 1e-05", "--clip 7")]
    rates = [json.loads(line)["rate"] for line in history.read_text().splitlines()]
    assert rates[-1] == 1e-5
    assert goes_on("--lr", 1e-5, "--clip", 7, "--schedule", "constant") == []
    # What is left out is no wish for another.
    refused(folder, [*arguments, "--clip", 7, "--schedule", "constant"], "--lr: found 1e-05, wanted the default", "deleting")


def test_a_checkpoint_that_is_none(trained, interrupted, folder):
    output = folder / "net.safetensors"
    arguments = [*interrupted.arguments[:-1], output, "--resume"]
    arguments[arguments.index("--history") + 1] = folder / "H.jsonl"
    kept = checkpoint_of(interrupted.folder / "net.safetensors").read_bytes()
    for content, wanted in ((b"", "bytes"), (b"no checkpoint at all", "header"), (kept[:-7], ""), (kept[:100], "")):
        checkpoint_of(output).write_bytes(content)
        refused(folder, arguments, checkpoint_of(output), wanted)
    shutil.copy(trained.kinds["lista"].path, checkpoint_of(output))
    refused(folder, arguments, checkpoint_of(output), "state of a training")


# --------------------------------------------------------------------------------------------------------------- refusals


@pytest.fixture
def files(trained, folder):
    np.save(folder / "D.npy", trained.D)
    np.save(folder / "X.npy", trained.X[:30])
    return folder


def train(folder, *options, kind="step", lam=("--lambda-fraction", 0.3), layers=2, **names):
    names = {"dictionary": "D.npy", "observations": "X.npy", "output": "net.safetensors", **names}
    files = [part for name, value in names.items() for part in (f"--{name}", folder / value)]
    return ["train", kind, *files, "--layers", layers, *lam, *options]


@pytest.mark.parametrize(
    "changes, wanted",
    [
        ({"kind": "lstm"}, ["lstm", "lista", "momentum-lista"]),
        ({"layers": 0}, ["--layers", "0"]),
        ({"layers": -1}, ["--layers", "-1"]),
        ({"lam": ()}, ["--lambda-fraction", "--lambda-range"]),
        ({"lam": ("--lambda-fraction", 0.3, "--lambda-range", "0.1,0.5")}, ["--lambda-"]),
        ({"lam": ("--lambda-range", "5,1")}, ["--lambda-range", "5,1"]),
        ({"lam": ("--lambda-range", "0,1")}, ["--lambda-range", "0"]),
        ({"lam": ("--lambda-range", "1")}, ["--lambda-range"]),
        ({"lam": ("--lambda-fraction", "nan")}, ["--lambda-fraction", "nan"]),
        ({"output": "D.npy"}, ["--output", "--dictionary"]),
        ({"output": "./X.npy"}, ["--output", "--observations"]),
        ({"history": "D.npy"}, ["--history", "--dictionary"]),
        ({"history": "X.npy"}, ["--history", "--observations"]),
        ({"history": "net.safetensors"}, ["--history", "--output"]),
        ({"validation": "X.npy", "history": "X.npy"}, ["--history"]),
    ],
)
def test_wrong_usage_of_train(files, changes, wanted):
    refused(files, train(files, **changes), *wanted, status=USAGE)


@pytest.mark.parametrize(
    "option, value",
    [("--support-selection", "4,101"), ("--optimizer", "newton"), ("--batch", 0), ("--lr", -1), ("--clip", 0), ("--gamma", 1),
     ("--momentum", 1), ("--start", "fista"), ("--ridge", "inf"), ("--patience", -1), ("--epochs", -1)],
)
def test_options_out_of_their_range(files, option, value):
    refused(files, train(files, option, value), option, status=USAGE)


@pytest.mark.parametrize("option, value", [("--ridge", 0.1), ("--ridge", 0), ("--support-selection", "4,10"),
                                           ("--gamma", 0.2), ("--start", "ista")])
def test_options_of_one_kind(files, option, value):
    refused(files, train(files, option, value), option, "step", status=USAGE)


@pytest.mark.parametrize(
    "kind, options, wanted",
    [(kind, ["--optimizer", optimizer, option, value], [option, "linesearch" if optimizer == "linesearch" else "lbfgs"])
     for option, value in (("--lr", 0), ("--batch", 256), ("--schedule", "cosine"), ("--momentum", 0.9), ("--clip", 3),
                           ("--weight-decay", 0))
     for kind, optimizer in (("step", "auto"), ("lista", "linesearch"))]
    + [("lista", ["--momentum", 0.9], ["--momentum", "adam", "sgd"]),
       ("momentum-lista", ["--gamma", 0.2], ["--gamma", "--start ista"])])
def test_options_that_could_change_nothing(files, kind, options, wanted):
    refused(files, train(files, *options, kind=kind), *wanted, status=USAGE)


def test_gamma_is_where_momentum_begins(files):
    """Under a rate at which nothing moves: 0 is ISTA, and another is not."""
    for gamma in (0, 0.25):
        said = json.loads(run(*train(files, "--start", "ista", "--gamma", gamma, "--lr", 1e-300, "--optimizer", "sgd",
                                     "--epochs", 1, "--json", kind="momentum-lista", history="H.jsonl"), status=DONE).stdout)
        seen = json.loads((files / "H.jsonl").read_text())["validation"]
        assert (seen == pytest.approx(said["ista"], rel=1e-6)) == (gamma == 0)


def test_layers_are_trained_one_way(files):
    refused(files, train(files, "--layerwise", "--end-to-end"), "--layerwise", "--end-to-end", status=USAGE)


def test_observations_that_cannot_be_trained_on(files, trained):
    X = trained.X[:30].copy()
    X[17, 3] = np.nan
    for array, *wanted in ((X, "17"), (X[:0], "X.npy"), (X[:, :15], "15", "16"), (np.zeros(16), "X.npy")):
        np.save(files / "X.npy", array)
        refused(files, train(files), "X.npy", *wanted)
    np.save(files / "X.npy", trained.X[:30])
    np.save(files / "V.npy", X)
    refused(files, train(files, validation="V.npy"), "V.npy", "17")
    refused(files, train(files, dictionary="none.npy"), "none.npy")


def test_outputs_that_cannot_be_written(files, trained):
    (files / "folder").mkdir()
    refused(files, train(files, output="nowhere/net.safetensors"), "nowhere")
    refused(files, train(files, output="folder"), "folder")
    refused(files, train(files, history="nowhere/H.jsonl"), "nowhere/H.jsonl")
    network = trained.kinds["step"]
    on = ["evaluate", *network.on, "--observations", files / "X.npy"]
    for option in ("--codes", "--gradient"):
        refused(files, [*on, option, files / "nowhere" / "it"], "nowhere")
        refused(files, [*on, option, files / "folder"], "folder")
        refused(files, [*on, option, files / "X.npy"], option, "--observations", status=USAGE)
        refused(files, [*on, option, network.path], option, "--network", status=USAGE)
    refused(files, [*on, "--codes", files / "it", "--gradient", files / "it"], "--gradient", "--codes", status=USAGE)


def test_training_that_diverges(files, trained):
    arguments = train(files, "--optimizer", "sgd", "--start", "ista", kind="lista")
    done = run(*arguments, "--lr", 1e30, status=FAILED)
    line = [line for line in done.stderr.splitlines() if "found the loss" in line]
    assert len(line) == 1 and "step" in line[0] and "epoch" in line[0] and "rate" in line[0]
    found, wanted = (float(text) for text in re.search(
        "found the loss ([^,]+), wanted a finite one under ([^,]+), a hundred times", line[0]).groups())
    # The only batch has all that is trained on.
    assert wanted == pytest.approx(100 * energy(np.delete(trained.X[:30], [9, 19, 29], axis=0)).mean(), rel=1e-5)
    assert not found <= wanted
    # It came too soon for a state to go on from, and speaks of none.
    assert not (files / "net.safetensors").exists() and not checkpoint_of(files / "net.safetensors").exists()
    assert "--resume" not in line[0] and line[0].endswith("a smaller rate or a clipped gradient may help")
    run(*arguments, "--lr", 1e-4, "--epochs", 2, status=DONE)


def test_units_that_costs_leave(files, trained):
    """Costs are squares: of observations that float64 holds well they may be none, or in range and right."""
    said = {}
    for power in (0, 400, -400):
        np.save(files / "X.npy", trained.X[:30] * 2.0**power)
        said[power] = json.loads(run(*train(files, "--epochs", 3, "--json"), status=DONE).stdout)
    for power in (400, -400):
        assert said[power]["validation"] == pytest.approx(said[0]["validation"] * 2.0 ** (2 * power), rel=1e-12)
    for power in (600, -600):
        np.save(files / "X.npy", trained.X[:30] * 2.0**power)
        refused(files, train(files), "X.npy", "1/2 ||x||^2", "other units")
        np.save(files / "V.npy", np.load(files / "X.npy"))
        np.save(files / "X.npy", trained.X[:30])
        refused(files, train(files, validation="V.npy"), "V.npy", "1/2 ||x||^2", "other units")


def test_networks_that_do_not_fit(files, trained):
    on = ["evaluate", "--dictionary", files / "D.npy", "--observations", files / "X.npy", "--network"]
    net = files / "net.safetensors"
    refused(files, [*on, files / "none"], "none")
    # Of a range: which lambda is for the user to say.
    refused(files, [*on, trained.kinds["alista"].path], "0.1", "0.5", "--lambda-fraction", status=USAGE)
    good = trained.kinds["step"].path.read_bytes()
    for content in (b"", b"\x93NUMPY\x01\x00v\x00", good[:7], good[:60], good[:-1], good + b"\0", b"\xff" * 100):
        net.write_bytes(content)
        refused(files, [*on, net], net)
    for kind, network in trained.kinds.items():
        for metadata, wanted in (({}, "format"), ({"format": "shrinkwarp-gradient-1"}, "shrinkwarp-network-1"),
                                 ({"layers": "1000000"}, "1000000"), ({"network": "lstm"}, "lstm")):
            networks.write(net, network.tensors, {**network.metadata, **metadata} if metadata else {})
            refused(files, [*on, net, "--lambda-fraction", 0.3], net, wanted)
        name = next(iter(network.tensors))
        broken = network.tensors[name].copy()
        broken.flat[-1] = np.nan
        networks.write(net, {**network.tensors, name: broken}, network.metadata)
        refused(files, [*on, net, "--lambda-fraction", 0.3], net, name, "nan")
    net.unlink()
    # Another dictionary: other values, another size.
    network = trained.kinds["lista"].path
    for D, *wanted in ((trained.D[:, ::-1], "another dictionary"), (trained.D[:, :31], "16 x 32", "16 x 31")):
        np.save(files / "D.npy", D)
        refused(files, [*on, network], network, *wanted)
    np.save(files / "D.npy", trained.D)
    np.save(files / "X.npy", trained.X[:0])
    refused(files, [*on, network], "X.npy")
    X = trained.X[:30].copy()
    X[4, 4] = np.inf
    np.save(files / "X.npy", X)
    refused(files, [*on, network], "X.npy", "4")
    np.save(files / "X.npy", X[:, :7])
    refused(files, [*on, network], "X.npy", "7", "16")
