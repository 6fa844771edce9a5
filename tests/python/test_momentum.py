"""Residual and momentum networks on NumPy arrays: formulas, ways back, gradients, files that the program shares."""

import copy
import json
import pickle
import subprocess

import numpy as np
import pytest
from shrinkwarp import momentum

from at_once import at_once
from conftest import ROOT

PROGRAM = ROOT / "build/cpu-release/bin/shrinkwarp"


def samples(N, d, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((N, d)).astype(dtype)


def branch(tensors, name, x):
    hidden = np.tanh(x @ tensors[f"{name}.linear1.weight"].T + tensors[f"{name}.linear1.bias"])
    return hidden @ tensors[f"{name}.linear2.weight"].T + tensors[f"{name}.linear2.bias"]


@pytest.mark.parametrize("mode", ["exact", "approximate"])
@pytest.mark.parametrize("form", ["damped", "plain"])
def test_layers_follow_the_formula(mode, form):
    gammas = [0.9, 0.5, 0.75, 0.6]
    net = momentum.MomentumNet(6, 4, 9, gammas, mode=mode, form=form, dtype=np.float64, seed=3, initial_velocity=True)
    x = samples(5, 6, dtype=np.float64)
    v = branch(net.tensors, "initial_velocity", x)
    state = net.forward(x)
    for t, gamma in enumerate(gammas):
        v = gamma * v + (1 - gamma if form == "damped" else 1) * branch(net.tensors, f"blocks.{t}", x)
        x = x + v
    tolerance = 1e-11 if mode == "exact" else 1e-13
    assert np.abs(state.x - x).max() < tolerance and np.abs(state.v - v).max() < tolerance


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_inverse_has_every_bit(dtype):
    net = momentum.MomentumNet(8, 300, 16, 0.9, dtype=dtype, seed=1)
    X, V = samples(7, 8, 1, dtype) * 100, samples(7, 8, 2, dtype)
    state = net.forward(X, V)
    before = state.fixed
    start = net.inverse(state)
    assert np.array_equal(start.fixed[0], np.rint(X.astype(np.float64) * 2.0**44).astype(np.int64))
    assert np.array_equal(start.fixed[1], np.rint(V.astype(np.float64) * 2.0**44).astype(np.int64))
    assert all(np.array_equal(one, other) for one, other in zip(before, state.fixed))  # which stays
    assert state.buffer_bytes * 8 < X.size * (300 * np.log2(1 / 0.9) + 128)
    approximate = momentum.MomentumNet(8, 300, 16, 0.9, dtype=dtype, seed=1, mode="approximate")
    assert not np.allclose(approximate.inverse(approximate.forward(X, V)).x, X, rtol=1e-3)


def test_an_inverse_with_other_weights_is_an_error():
    net = momentum.MomentumNet(8, 20, 16, 0.9)
    other = momentum.MomentumNet(8, 20, 16, 0.9, seed=1)
    state = net.forward(samples(7, 8))
    with pytest.raises(TypeError, match="state: found"):
        other.inverse(state)
    state._core = other._core
    assert np.array_equal(other.inverse(state).x, samples(7, 8))  # the state has the weights that it was made with


@pytest.mark.parametrize("mode", ["exact", "approximate"])
def test_backward_is_the_derivative(mode):
    net = momentum.MomentumNet(4, 6, 5, 0.8, dtype=np.float64, learn_gamma=True, initial_velocity=True,
                               normalisation="layer", activation="gelu", mode=mode)
    X, dY = samples(3, 4, dtype=np.float64), samples(3, 4, 9, np.float64)
    state = net.forward(X)
    dX, gradients = net.backward(state, dY, X)
    assert set(gradients) == set(net.tensors) and gradients["momentum.gamma"].shape == (6,)
    assert all(np.array_equal(value, gradients[name]) for name, value in net.backward(state, dY, X)[1].items())

    def loss():
        return (net.forward(X).x * dY).sum()

    rng = np.random.default_rng(4)
    if mode == "exact":  # which takes a fraction of small numbers next to gamma: no smooth function
        other = momentum.MomentumNet(4, 6, 5, 0.8, dtype=np.float64, learn_gamma=True, initial_velocity=True,
                                     normalisation="layer", activation="gelu", mode="approximate")
        wanted = other.backward(other.forward(X), dY, X)[1]["momentum.gamma"]
        assert np.allclose(gradients.pop("momentum.gamma"), wanted, rtol=1e-9)
    for array, gradient in [(X, dX), *((net.tensors[name], gradients[name]) for name in gradients)]:
        direction = rng.standard_normal(array.shape)
        kept, step = array.copy(), 1e-5
        array += step * direction
        above = loss()
        array[...] = kept - step * direction
        below = loss()
        array[...] = kept
        wanted = (above - below) / (2 * step)
        rounding = 1e-7 if mode == "approximate" else 1e-6
        assert (gradient * direction).sum() == pytest.approx(wanted, rel=1e-6, abs=rounding)


@pytest.mark.parametrize("options", [{}, {"normalisation": "batch", "dropout": 0.3}, {"initial_velocity": True}])
def test_recomputed_gradients_have_the_bits_of_stored_ones(options):
    nets = [momentum.Net.mlp(5, 3, 20, 8, 16, gamma=0.9, store_activations=stored, **options)
            for stored in (False, True)]
    X, dY = samples(11, 5), samples(11, 3, 1)
    results = []
    for net in nets:
        recording = net.record(X, training=True, seed=5)
        results.append((recording.output, *recording.backward(dY), dict(net.tensors), recording.bytes))
    (Y, dX, gradients, tensors, few), (Y2, dX2, gradients2, tensors2, many) = results
    assert np.array_equal(Y, Y2) and np.array_equal(dX, dX2) and few < many
    assert all(np.array_equal(gradients[name], gradients2[name]) for name in gradients)
    assert all(np.array_equal(tensors[name], tensors2[name]) for name in tensors)
    if "normalisation" in options:
        assert np.abs(tensors["blocks.0.norm.running_mean"]).max() > 0


def test_recorded_pass_may_go_back_twice():
    net = momentum.Net.resnet("resnet18", 4, (3, 32, 32))
    X = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
    recording = net.record(X)
    assert np.array_equal(recording.output, net.forward(X))
    dX, first = recording.backward(np.ones((2, 4)))
    assert dX.shape == X.shape
    _, second = recording.backward(np.ones((2, 4)))
    assert len(first) == 62 and all(np.array_equal(first[name], second[name]) for name in first)


def test_memory_of_momentum_hardly_grows_with_depth():
    def grown(**options):
        few, many = (momentum.Net.mlp(64, 10, blocks, 64, 64, **options).activation_bytes(1000) for blocks in (10, 110))
        return (many - few) / (100 * 64 * 1000 * 4)  # in activations of float32

    assert grown() > 2
    assert grown(gamma=0.9) < 0.02
    net = momentum.MomentumNet(64, 10, 64)
    assert net.activation_bytes(10, training=False) < net.activation_bytes(10)


@pytest.fixture(scope="module")
def resnet():
    return momentum.Net.resnet("resnet18", 5, (3, 32, 32), seed=2)


def test_transform_keeps_weights(resnet):
    X = samples(2, 3 * 32 * 32).reshape(2, 3, 32, 32)
    net = momentum.transform(resnet, 0.9)
    assert net.momentum_layers == [1, 1, 1, 1] and net.gamma == 0.9 and resnet.gamma is None
    assert all(np.array_equal(net.tensors[name], value) for name, value in resnet.tensors.items())
    # With a single layer a stage, x + (1 - gamma)(block(x) - x), gamma next to 0 is the network as it was.
    nearly = momentum.transform(resnet, 2.0**-15)
    logits = resnet.forward(X)
    largest = np.abs(logits).max()
    assert np.abs(nearly.forward(X) - logits).max() < 1e-3 * largest < np.abs(net.forward(X) - logits).max()
    mlp = momentum.transform(momentum.Net.mlp(4, 2, blocks=3, width=4), [0.5, 0.6, 0.7])
    assert mlp.tensors["momentum.gamma"].tolist() == pytest.approx([0.5, 0.6, 0.7])


@pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not built")
def test_the_program_reads_and_writes_the_same_files(resnet, tmp_path):
    X = samples(3, 3 * 32 * 32).reshape(3, 3, 32, 32)
    np.save(tmp_path / "X.npy", X)

    def run(*arguments):
        command = [PROGRAM, "net", *arguments, "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    resnet.save(tmp_path / "resnet.safetensors")
    run("transform", "resnet.safetensors", "--gamma", "0.9", "--output", "its.safetensors")
    momentum.transform(resnet, 0.9).save(tmp_path / "ours.safetensors")
    assert (tmp_path / "its.safetensors").read_bytes() == (tmp_path / "ours.safetensors").read_bytes()
    info = run("info", "ours.safetensors", "--batch", "4")
    net = momentum.Net.load(tmp_path / "its.safetensors", device="cpu")
    assert net.architecture == info["architecture"] and net.momentum_layers == info["momentum_layers"]
    assert net.activation_bytes(4) == info["training_activation_bytes"]
    assert net.activation_bytes(4, training=False) == info["evaluation_activation_bytes"]
    run("evaluate", "ours.safetensors", "--samples", "X.npy", "--logits", "L.npy")
    assert np.array_equal(np.load(tmp_path / "L.npy"), net.forward(X))


def test_files_of_perceptrons_round_trip(tmp_path):
    net = momentum.Net.mlp(6, 3, 4, 8, 5, normalisation="batch", activation="relu", gamma=[0.5, 0.6, 0.7, 0.8],
                           mode="approximate", form="plain", initial_velocity=True)
    net.record(samples(9, 6), training=True)
    net.save(tmp_path / "net.safetensors")
    loaded = momentum.Net.load(tmp_path / "net.safetensors")
    assert repr(loaded) == repr(net)
    assert np.array_equal(loaded.forward(samples(4, 6)), net.forward(samples(4, 6)))


def test_threads_share_a_network(resnet):
    X = samples(2, 3 * 32 * 32).reshape(2, 3, 32, 32)
    wanted = resnet.forward(X)
    assert all(np.array_equal(logits, wanted) for logits in at_once(lambda: resnet.forward(X)))


def test_threads_go_back_from_one_recording():
    net = momentum.Net.mlp(6, 3, blocks=8, threads=1)
    recording = net.record(np.ones((200, 6)))
    _, wanted = recording.backward(recording.output)

    def go_back():
        for _ in range(200):
            _, found = recording.backward(recording.output)
            assert all(np.array_equal(found[name], wanted[name]) for name in wanted)

    at_once(go_back)


@pytest.mark.parametrize("options", [{}, dict(mode="approximate"), dict(learn_gamma=True)],
                         ids=["exact", "approximate", "learned gamma"])
def test_there_is_no_way_back_from_a_beginning(options):
    net = momentum.MomentumNet(4, 3, 6, **options)
    x = np.ones((5, 4), np.float32)
    start = net.inverse(net.forward(x))
    for call in (lambda: net.backward(start, x), lambda: net.inverse(start)):
        with pytest.raises(ValueError, match="state: found what inverse gave, wanted a state of this"):
            call()


@pytest.mark.parametrize("value", [0.1, 1.0, 2.0, 0.0, -1.0, np.nan])
def test_a_gamma_that_is_not_learned_stays(value):
    x = np.ones((5, 4))
    for net in (momentum.MomentumNet(4, 3, 6), momentum.Net.mlp(4, 3, gamma=0.9)):
        name, = (name for name in net.tensors if name.endswith(".gamma"))
        net.forward(x)
        net.tensors[name][...] = value
        with pytest.raises(ValueError, match=rf"tensors\['{name}'\]: found an array .*, wanted the gamma that"):
            net.forward(x)


def test_a_learned_gamma_is_a_number():
    net = momentum.MomentumNet(4, 3, 6, learn_gamma=True)
    net.tensors["momentum.gamma"][...] = 0.85
    net.forward(np.ones((5, 4)))
    net.tensors["momentum.gamma"][1] = np.nan
    with pytest.raises(ValueError, match=r"tensors\['momentum.gamma'\]: found NaN or infinity"):
        net.forward(np.ones((5, 4)))


def test_leaving_the_range_is_an_error():
    net = momentum.MomentumNet(4, 3, 4)
    with pytest.raises(RuntimeError, match="layer 1.*wanted"):
        net.forward(np.full((2, 4), 1e6))
    assert net.forward(np.empty((0, 4))).x.shape == (0, 4)


@pytest.mark.parametrize("changes, error, name", [
    ({"width": 0}, ValueError, "width"),
    ({"layers": -1}, ValueError, "layers"),
    ({"hidden": "x"}, TypeError, "hidden"),
    ({"gamma": 0}, ValueError, "gamma"),
    ({"gamma": 1.5}, ValueError, "gamma"),
    ({"gamma": [0.5, 0.6]}, ValueError, "gamma"),
    ({"gamma": [0.5, 0.6, 1.2]}, ValueError, "gamma"),
    ({"mode": "quick"}, ValueError, "mode"),
    ({"form": 3}, TypeError, "form"),
    ({"activation": "silu"}, ValueError, "activation"),
    ({"normalisation": "group"}, ValueError, "normalisation"),
    ({"dropout": 1}, ValueError, "dropout"),
    ({"gamma_range": (0.1, 0.95)}, ValueError, "gamma_range"),
    ({"learn_gamma": True, "gamma_range": (0.95, 0.99)}, ValueError, "gamma_range"),
    ({"learn_gamma": True, "gamma_range": 3}, TypeError, "gamma_range"),
    ({"learn_gamma": 1}, TypeError, "learn_gamma"),
    ({"dtype": np.int32}, ValueError, "dtype"),
    ({"seed": 1.5}, TypeError, "seed"),
    ({"device": "tpu"}, ValueError, "device"),
])
def test_bad_arguments_of_layers(changes, error, name):
    with pytest.raises(error, match=f"{name}: found .*wanted"):
        momentum.MomentumNet(**{"width": 4, "layers": 3, "hidden": 4, **changes})


def test_bad_arguments(resnet, tmp_path):
    net = momentum.MomentumNet(4, 3, 4, initial_velocity=True)
    state = net.forward(samples(2, 4))
    for call, match in [
        (lambda: net.forward(samples(2, 5)), "X: found"),
        (lambda: net.forward(samples(2, 4), samples(3, 4)), "V: found"),
        (lambda: net.backward(state, samples(2, 5)), "dY: found"),
        (lambda: net.backward(state, samples(2, 4)), "X: found None"),
        (lambda: net.backward(state, samples(2, 4), samples(3, 4)), "X"),
        (lambda: resnet.forward(samples(2, 5)), "X: found"),
        (lambda: resnet.forward(np.zeros((2, 3, 16, 64))), "X: found"),
        (lambda: resnet.record(np.zeros((2, 3, 32, 32))).backward(np.zeros((3, 5))), "dY: found"),
        (lambda: momentum.Net.resnet("resnet19"), "name: found"),
        (lambda: momentum.Net.resnet("resnet18", gamma=[0.9, 0.8]), "gamma: found"),
        (lambda: momentum.Net.mlp(4, 2, initial_velocity=True), "initial_velocity: found"),
        (lambda: momentum.transform(momentum.transform(resnet, 0.9), 0.9), "net: found"),
    ]:
        with pytest.raises(ValueError, match=match):
            call()
    for call, match in [
        (lambda: momentum.transform(3), "net: found"),
        (lambda: momentum.Net.load(3), "path: found"),
        (lambda: momentum.Net.resnet("resnet18", input=3), "input: found"),
        (lambda: net.inverse(3), "state: found"),
        (lambda: resnet.activation_bytes(2.5), "batch: found"),
    ]:
        with pytest.raises(TypeError, match=match):
            call()
    broken = momentum.MomentumNet(4, 3, 4)
    broken.tensors["blocks.0.linear1.bias"] = np.zeros(5)
    with pytest.raises(ValueError, match=r"blocks.0.linear1.bias'\]: found"):
        broken.forward(samples(2, 4))
    del broken.tensors["blocks.0.linear1.bias"]
    with pytest.raises(ValueError, match=r"blocks.0.linear1.bias'\]: found none"):
        broken.forward(samples(2, 4))
    with pytest.raises(OSError, match="missing"):
        momentum.Net.load(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("through", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_networks_are_copied(through):
    random = np.random.default_rng(8)
    X = random.standard_normal((3, 6)).astype(np.float32)
    net = momentum.transform(momentum.Net.mlp(6, 4, blocks=2, width=5, hidden=7, threads=1), gamma=0.8)
    again = through(net)
    np.testing.assert_array_equal(again.forward(X), net.forward(X))
    assert repr(again) == repr(net)
    before = net.forward(X)
    for value in again.tensors.values():
        value += 1
    np.testing.assert_array_equal(net.forward(X), before)

    layers = momentum.MomentumNet(6, 4, 8, gamma=[0.9, 0.8, 0.7, 0.6], seed=3, dtype=np.float64)
    again = through(layers)
    x = X.astype(np.float64)
    np.testing.assert_array_equal(again.forward(x).x, layers.forward(x).x)
