"""What networks make of arguments of any kind: a right result, or an error that names the argument."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shrinkwarp
from shrinkwarp import momentum, networks
from test_arguments import (BAD, D, NO_NUMBER, NOT_POSITIVE, X, arrays, assert_names, cases, examples, must_be_taken,
                            refused)

NO_COUNT = NO_NUMBER + [None, -1, 0, 1.5, 2**70, np.nan]
NO_FLAG = [None, "yes", 2, object(), 0.5, np.ones(2)]
NO_NAME = [None, 3, "", "relu6", object(), b"exact", ["exact"], np.array(["exact"]), np.array([1, 2])]
NO_GAMMA = NO_NUMBER + NOT_POSITIVE + [None, 0, 1.5, [0.5, 0.5], [0.5, 0.5, 2], np.ones((3, 1)), [[1.0], [1.0, 2.0]]]

TRAIN = {
    "kind": NO_NAME,
    "D": BAD["D"],
    "X": BAD["X"] + [np.zeros((0, 4))],
    "layers": NO_COUNT,
    "lam_fraction": NO_NUMBER + NOT_POSITIVE
    + [None, 0, (0.5, 0.1), (0, 1), (0.1, np.inf), (1, 2, 3), [[1.0], [1.0, 2.0]]],
    "validation": [value for value in BAD["X"] if value is not None],
    "start": ["lista", 3, object(), "ista"],
    "ridge": [value for value in NO_COUNT if value != 0],
    "optimizer": NO_NAME,
    "layerwise": [value for value in NO_FLAG if value is not None],
    "epochs": [value for value in NO_COUNT if value is not None],
    "patience": [value for value in NO_COUNT if value is not None],
    "seed": NO_NUMBER + [-1, 1.5, 2**70, None],
    "memory_limit": NO_COUNT,
    "progress": [3, "yes", object(), [True]],
    "device": BAD["device"],
    "threads": BAD["threads"],
}
TRAIN_BY_BATCHES = {
    "batch": [value for value in NO_COUNT if value is not None],
    "rate": NO_NUMBER + NOT_POSITIVE + [0],
    "schedule": [3, "linear", object()],
    "momentum": NO_NUMBER + NOT_POSITIVE + [1],
    "weight_decay": NO_NUMBER + NOT_POSITIVE,
    "clip": NO_NUMBER + NOT_POSITIVE + [0],
}
APPLY = {"X": BAD["X"], "lam": BAD["lam"], "lam_fraction": NO_NUMBER + NOT_POSITIVE + [0, np.ones(3)]}
LAYERS = {
    "width": NO_COUNT,
    "layers": NO_COUNT,
    "hidden": NO_COUNT,
    "gamma": NO_GAMMA,
    "mode": NO_NAME,
    "form": NO_NAME,
    "activation": NO_NAME,
    "normalisation": NO_NAME,
    "dropout": NO_NUMBER + [None, -0.5, 1, np.nan],
    "initial_velocity": NO_FLAG,
    "learn_gamma": NO_FLAG,
    "gamma_range": [3, "x", (0.1,), (0.1, 0.95), object()],
    "seed": TRAIN["seed"],
    "dtype": ["x", np.int32, np.float16, object(), np.complex128],
    "device": BAD["device"],
    "threads": BAD["threads"],
}


@pytest.mark.parametrize("argument, value", cases(TRAIN))
def test_train_refuses(argument, value):
    arguments = {"kind": "step", "D": D, "X": X, "layers": 2, "lam_fraction": 0.3, argument: value}
    refused(lambda: networks.train(**arguments), argument)


@pytest.mark.parametrize("argument, value", cases(TRAIN_BY_BATCHES))
def test_train_by_batches_refuses(argument, value):
    refused(lambda: networks.train("coupled", D, X, 2, 0.3, optimizer="sgd", **{argument: value}), argument)


@pytest.fixture(scope="module")
def network():
    return networks.train("step", D, X, 2, 0.3, epochs=2)


@pytest.mark.parametrize("argument, value", cases(APPLY))
def test_apply_refuses(network, argument, value):
    refused(lambda: network.apply(**{"X": X, argument: value}), argument)


@pytest.mark.parametrize("argument, value", cases(LAYERS))
def test_momentum_layers_refuse(argument, value):
    refused(lambda: momentum.MomentumNet(**{"width": 4, "layers": 3, "hidden": 4, argument: value}), argument)


@pytest.mark.parametrize("argument, value", cases({"X": BAD["X"], "V": TRAIN["validation"]}))
def test_forward_refuses(argument, value):
    net = momentum.MomentumNet(4, 3, 4)
    refused(lambda: net.forward(**{"X": X, argument: value}), argument)


@given(arrays(least_rows=1), st.sampled_from([0.05, 1.0, np.float32(0.25)]))
@settings(examples, max_examples=60)
def test_codes_of_arrays_of_any_kind(problem, lam):
    D, X = problem
    m = np.shape(D)[1]
    try:
        tensors = {"W": np.ones((2, *np.shape(D))), "thresholds": np.ones((2, m))}
        network = networks.Network.from_tensors("coupled", D, tensors, 0.3)
        codes = network.apply(X, lam)
    except (ValueError, TypeError) as error:
        if must_be_taken(D) and must_be_taken(X):
            assert not np.any(D), error  # a network's units are those of its dictionary
        assert_names(error, "D", "X", "make_network")
        return
    D, X = (np.asarray(value, dtype=np.float64) for value in (D, X))
    z = np.zeros((len(X), m))
    for _ in range(2):
        u = z + (X - z @ D.T) @ np.ones_like(D)
        z = np.sign(u) * np.maximum(np.abs(u) - lam, 0)
    assert np.abs(codes.toarray() - z).max() <= 1e-4 * max(1, np.abs(z).max())


@given(arrays(least_rows=1), st.sampled_from(["exact", "approximate"]))
@settings(examples, max_examples=60)
def test_layers_of_arrays_of_any_kind(problem, mode):
    _, X = problem
    net = momentum.MomentumNet(np.shape(X)[1], 3, 2, mode=mode, dtype=np.float64, device="cpu", threads=1)
    try:
        state = net.forward(X)
    except (ValueError, TypeError) as error:
        assert not must_be_taken(X), error
        assert_names(error, "X")
        return
    back = net.inverse(state)
    assert np.abs(back.x - np.asarray(X, dtype=np.float64)).max() <= (0 if mode == "exact" else 1e-12)
    dX, gradients = net.backward(state, X)
    assert dX.shape == np.shape(X) and set(gradients) <= set(net.tensors)


@pytest.mark.parametrize("value", [None, 3, "", object(), "net\0", b"net\xff"])
def test_paths_are_refused(network, tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    net = momentum.Net.mlp(4, 2)
    for call in (network.save, net.save, momentum.Net.load, lambda path: networks.Network.load(path, D)):
        refused(lambda: call(value), "path")
    assert not list(tmp_path.iterdir())


def test_a_dictionary_serves_networks_and_solves(network):
    assert network.dictionary.shape == D.shape
    dictionary = shrinkwarp.Dictionary(D)
    other = networks.train("step", dictionary, X, 2, 0.3, epochs=2)
    assert other.dictionary is dictionary
    assert (other.apply(X) != network.apply(X)).nnz == 0
