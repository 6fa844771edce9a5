"""Learned networks: their formulas, training, files that the program shares, bad arguments."""

import copy
import json
import os
import pickle
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import shrinkwarp
from shrinkwarp import networks

from at_once import at_once
from conftest import ROOT

PROGRAM = ROOT / "build/cpu-release/bin/shrinkwarp"


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(7)
    n, m, N = 12, 30, 200
    D = rng.standard_normal((n, m))
    D *= np.linspace(0.9, 1.1, m) / np.linalg.norm(D, axis=0)
    Z = rng.standard_normal((N, m)) * (rng.random((N, m)) < 0.1)
    X = Z @ D.T + 0.01 * rng.standard_normal((N, n))
    return 3 * D, X


@pytest.fixture(scope="module")
def trained(problem):
    D, X = problem
    dictionary = shrinkwarp.Dictionary(D)
    return {kind: networks.train(kind, dictionary, X, 4, 0.2, epochs=20) for kind in networks.KINDS}


def shrink(u, threshold):
    return np.sign(u) * np.maximum(np.abs(u) - threshold, 0)


def analytic_matrix(D):
    pseudo = np.linalg.pinv(D @ D.T) @ D
    return pseudo / (D * pseudo).sum(axis=0)


def formula(kind, D, tensors, X, lam):
    """Codes (N, m) as docs/networks.md says them."""
    n, m = D.shape
    z, v, lam = np.zeros((len(X), m)), np.zeros((len(X), m)), lam[:, None]
    for t in range(len(next(iter(tensors.values())))):
        at = {name: values[t].astype(np.float64) for name, values in tensors.items()}
        if kind in ("step", "alista"):
            W = D if kind == "step" else analytic_matrix(D)
            z = shrink(z + at["steps"] * (X - z @ D.T) @ W, lam * max(at.get("thresholds", at["steps"]), 0))
        elif kind == "coupled":
            z = shrink(z + (X - z @ D.T) @ at["W"], lam * np.maximum(at["thresholds"], 0))
        else:
            new = shrink(z @ at["W1"].T + X @ at["W2"].T, lam * np.maximum(at["thresholds"], 0))
            gamma = at.get("gamma", 0.0)
            v = gamma * v + (1 - gamma) * (new - z)
            z = z + v
    return z


def mean_objective(D, X, Z, lam):
    return np.mean(0.5 * ((X - Z @ D.T) ** 2).sum(axis=1) + lam * np.abs(Z).sum(axis=1))


@pytest.mark.parametrize("kind", networks.KINDS)
def test_codes_follow_the_formula(problem, trained, kind):
    D, X = problem
    network = trained[kind]
    lam = 0.2 * np.abs(X @ D).max(axis=1)
    codes = network.apply(X)
    assert codes.dtype == np.float64 and codes.shape == (len(X), D.shape[1])
    wanted = formula(kind, D, network.tensors, X, lam)
    tolerance = 1e-12 if kind in ("step", "alista") else 2e-5
    assert np.abs(codes.toarray() - wanted).max() <= tolerance * np.abs(wanted).max()
    again = network.apply(X, lam)
    assert np.abs(again.toarray() - codes.toarray()).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("kind", networks.KINDS)
def test_training_beats_ista_on_its_validation(problem, trained, kind):
    D, X = problem
    network = trained[kind]
    assert network.validation < network.ista_validation and not network.fell_back
    judged = X[9::10]
    lam = 0.2 * np.abs(judged @ D).max(axis=1)
    found = mean_objective(D, judged, network.apply(judged).toarray(), lam)
    assert found == pytest.approx(network.validation, rel=1e-6)
    best = [event["best_validation"] for event in network.history]
    assert best[-1] == pytest.approx(network.validation) and best == sorted(best, reverse=True)


@pytest.mark.parametrize("kind", networks.KINDS)
def test_files_round_trip(problem, trained, tmp_path, kind):
    D, X = problem
    path = tmp_path / "net.safetensors"
    trained[kind].save(path)
    loaded = networks.Network.load(path, D)
    assert (loaded.kind, loaded.layers, loaded.shape, loaded.lam_range) == (kind, 4, D.shape, (0.2, 0.2))
    assert (loaded.apply(X) != trained[kind].apply(X)).nnz == 0
    again = networks.Network.from_tensors(kind, D, loaded.tensors, 0.2)
    assert (again.apply(X) != loaded.apply(X)).nnz == 0
    with pytest.raises(ValueError, match="another dictionary"):
        networks.Network.load(path, D + 1)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_networks_are_copied(problem, trained, through):
    D, X = problem
    network = trained["coupled"]
    again = through(network)
    assert (again.apply(X) != network.apply(X)).nnz == 0
    assert (again.history, again.validation, again.fell_back) == (network.history, network.validation, network.fell_back)


@pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not built")
@pytest.mark.parametrize("kind", ["step", "alista", "lista"])
def test_the_program_reads_and_writes_the_same_files(problem, trained, tmp_path, kind):
    D, X = problem
    np.save(tmp_path / "D.npy", D)
    np.save(tmp_path / "X.npy", X)

    def run(*arguments):
        done = subprocess.run([PROGRAM, *arguments, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    trained[kind].save(tmp_path / "ours.safetensors")
    ours = run("evaluate", "--network", "ours.safetensors", "--dictionary", "D.npy", "--observations", "X.npy",
               "--codes", "Z.npy", "--lambda-fraction", "0.2")
    assert np.array_equal(np.load(tmp_path / "Z.npy"), trained[kind].apply(X).toarray())
    assert ours["network"] == trained[kind].evaluate(X)["network"]["mean_excess"]
    run("train", kind, "--dictionary", "D.npy", "--observations", "X.npy", "--layers", "4", "--lambda-fraction", "0.2",
        "--epochs", "20", "--output", "its.safetensors")
    its = networks.Network.load(tmp_path / "its.safetensors", D)
    for name, values in trained[kind].tensors.items():
        assert np.array_equal(its.tensors[name], values)


def test_a_start_for_the_solver(problem, trained):
    D, X = problem
    network = trained["lista"]
    lam = 0.2 * np.abs(X @ D).max(axis=1)
    cold = network.dictionary.solve(X, lam, solver="fista")
    warm = network.dictionary.solve(X, lam, solver="fista", warm_start=network.apply(X, lam))
    assert warm.converged.all()
    assert warm.iterations.sum() < cold.iterations.sum()
    assert np.allclose(warm.objective, cold.objective, rtol=1e-5)


def test_training_goes_on_from_a_network(problem, trained):
    D, X = problem
    further = networks.train("lista", D, X, 4, 0.2, start=trained["lista"], epochs=2)
    assert further.validation <= trained["lista"].validation * (1 + 1e-6)
    from_steps = networks.train("coupled", D, X, 4, 0.2, start=trained["step"], epochs=1)
    assert from_steps.validation <= trained["step"].validation * (1 + 1e-5)


def test_range_of_fractions_and_progress(problem):
    D, X = problem
    events = []
    network = networks.train("step", D, X, 3, (0.1, 0.5), epochs=20, progress=events.append, validation=X[:40])
    assert network.lam_range == (0.1, 0.5) and len(events) == len(network.history)
    assert [event["depth"] for event in network.history] == sorted(event["depth"] for event in network.history)
    with pytest.raises(ValueError, match="lam_fraction"):
        network.apply(X)
    assert network.apply(X, lam_fraction=0.3).nnz > 0
    assert network.apply(np.empty((0, D.shape[0])), 1.0).shape == (0, D.shape[1])


def test_an_exception_of_progress_comes_through(problem):
    D, X = problem

    def fail(event):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        networks.train("lista", D, X, 3, 0.2, epochs=5, progress=fail)


def test_interrupt_keeps_what_is_trained(problem):
    D, X = problem
    looks = []

    def look(event):
        looks.append(event)
        if len(looks) == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        networks.train("lista", D, X, 3, 0.2, start="ista", epochs=100000, progress=look)
    assert isinstance(caught.value, shrinkwarp.Interrupted)
    network = caught.value.result
    lam = 0.2 * np.abs(X[9::10] @ D).max(axis=1)
    found = mean_objective(D, X[9::10], network.apply(X[9::10]).toarray(), lam)
    assert found == pytest.approx(network.validation, rel=1e-6)
    assert found == pytest.approx(min(event["validation"] for event in looks), rel=1e-6)
    assert network.apply(X).nnz > 0


def test_interrupt_from_outside_ends_a_long_pass(problem):
    D, X = problem
    killer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    killer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        networks.train("coupled", D, np.tile(X, (400, 1)), 20, 0.2, start="ista", epochs=1000)
    killer.join()
    assert time.monotonic() - started < 20


def test_threads_share_a_network(problem, trained):
    D, X = problem
    wanted = trained["coupled"].apply(X).toarray()
    found = at_once(lambda: trained["coupled"].apply(X).toarray())
    assert all(np.array_equal(codes, wanted) for codes in found)


@pytest.mark.parametrize("changes, error, name", [
    ({"kind": "resnet"}, ValueError, "kind"),
    ({"kind": 3}, TypeError, "kind"),
    ({"layers": 0}, ValueError, "layers"),
    ({"layers": 2.5}, TypeError, "layers"),
    ({"lam_fraction": -1}, ValueError, "lam_fraction"),
    ({"lam_fraction": (0.5, 0.1)}, ValueError, "lam_fraction"),
    ({"lam_fraction": "x"}, TypeError, "lam_fraction"),
    ({"X": np.zeros((3, 5))}, ValueError, "X"),
    ({"X": np.zeros((0, 12))}, ValueError, "X"),
    ({"X": np.full((30, 12), np.nan)}, ValueError, "X"),
    ({"D": np.zeros(3)}, ValueError, "D"),
    ({"validation": np.zeros((3, 5))}, ValueError, "validation"),
    ({"optimizer": "newton"}, ValueError, "optimizer"),
    ({"batch": 8}, ValueError, "batch"),
    ({"momentum": 0.5}, ValueError, "momentum"),
    ({"start": "ista"}, ValueError, "start"),
    ({"kind": "lista", "start": 3}, TypeError, "start"),
    ({"ridge": 0.1}, ValueError, "ridge"),
    ({"support_selection": (1, 10)}, ValueError, "support_selection"),
    ({"kind": "alista", "support_selection": (1, 200)}, ValueError, "support_selection"),
    ({"gamma": 0.5}, ValueError, "gamma"),
    ({"layerwise": 1}, TypeError, "layerwise"),
    ({"epochs": 0}, ValueError, "epochs"),
    ({"seed": -1}, ValueError, "seed"),
    ({"progress": 3}, TypeError, "progress"),
    ({"device": "tpu"}, ValueError, "device"),
])
def test_bad_arguments_of_train(problem, changes, error, name):
    D, X = problem
    arguments = {"kind": "step", "D": D, "X": X, "layers": 2, "lam_fraction": 0.2, **changes}
    with pytest.raises(error, match=name) as caught:
        networks.train(**arguments)
    assert "wanted" in str(caught.value)


def test_bad_arguments_of_networks(problem, trained, tmp_path):
    D, X = problem
    network = trained["step"]
    with pytest.raises(ValueError, match="lam: found"):
        network.apply(X, 1.0, 0.5)
    with pytest.raises(ValueError, match="lam: found"):
        network.apply(X, -1.0)
    with pytest.raises(ValueError, match="lam: found"):
        network.apply(X, np.ones(3))
    with pytest.raises(ValueError, match="X: found"):
        network.apply(X[:, :5])
    with pytest.raises(ValueError, match="X"):
        network.apply(np.where(np.arange(12) == 3, np.inf, X))
    with pytest.raises(OSError, match="missing.safetensors"):
        networks.Network.load(tmp_path / "missing.safetensors", D)
    with pytest.raises(TypeError, match="path: found"):
        networks.Network.load(3, D)
    with pytest.raises(OSError):
        network.save(tmp_path / "no" / "folder.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a network")
    with pytest.raises((OSError, ValueError), match="bad.safetensors"):
        networks.Network.load(tmp_path / "bad.safetensors", D)
    with pytest.raises(ValueError, match="steps"):
        networks.Network.from_tensors("step", D, {"steps": -np.ones(3)}, 0.2)
    with pytest.raises(ValueError, match="W1"):
        networks.Network.from_tensors("lista", D, {"W1": np.ones((3, 4, 4))}, 0.2)
