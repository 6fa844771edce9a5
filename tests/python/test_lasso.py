"""lasso, lasso_path, Dictionary, minimum_norm: results against certificates of another make, arrays, threads and Ctrl-C."""

import _thread
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

import shrinkwarp
from at_once import at_once
from penalty import Penalty
from shrinkwarp import _arguments, _core


def problem(n=20, m=50, N=30, seed=0):
    random = np.random.default_rng(seed)
    D = random.standard_normal((n, m)) / np.sqrt(n)
    Z = random.standard_normal((N, m)) * (random.random((N, m)) < min(1, 4 / m))
    return D, Z @ D.T + 0.1 * random.standard_normal((N, n))


def check(result, penalty, X, gap=1e-6):
    """What a result promises, recomputed."""
    assert result.codes.shape == (len(X), penalty.D.shape[1])
    assert result.codes.dtype == np.float64
    assert result.codes.has_canonical_format
    for name in ("dual_gap", "objective", "iterations", "converged", "lam"):
        assert getattr(result, name).shape == (len(X),), name
    penalty.check(SimpleNamespace(**{**vars(result), "Z": result.codes}), X, gap)


def same_bits(a, b):
    return (
        (a.codes != b.codes).nnz == 0
        and np.array_equal(a.codes.indices, b.codes.indices)
        and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("dual_gap", "objective", "lam"))
    )


def test_identity_gives_soft_thresholding():
    result = shrinkwarp.lasso(np.eye(3), [[3, -0.5, 0], [-2, 1, 4]], lam=1.25)
    np.testing.assert_allclose(result.codes.toarray(), [[1.75, 0, 0], [-0.75, 0, 2.75]], rtol=1e-6)
    np.testing.assert_allclose(result.objective, [1.25**2 / 2 + 0.125 + 1.25 * 1.75, 1.25**2 + 0.5 + 1.25 * 3.5], rtol=1e-6)
    assert result.lam.tolist() == [1.25, 1.25]
    assert result.converged.all()
    assert result.debiased is None
    assert repr(result) == "LassoResult(problems=2, atoms=3, nonzeros=3, converged=2)"


@pytest.mark.parametrize("solver", ["auto", "working-set", "plain-working-set", "fista", "ista"])
def test_solvers(solver):
    D, X = problem()
    result = shrinkwarp.lasso(D, X, lam_fraction=0.3, solver=solver, gap=1e-8)
    check(result, Penalty(D), X, 1e-8)
    np.testing.assert_allclose(result.lam, 0.3 * np.abs(X @ D).max(1), rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        dict(weights=np.r_[np.linspace(0.3, 3, 47), np.inf, np.inf, np.inf]),
        dict(weights=np.r_[0, 0, np.linspace(0.3, 3, 48)]),
        dict(nonnegative=True),
        dict(elastic_net=0.7),
        dict(group_size=5),
        dict(group_size=2, weights=np.linspace(0.5, 2, 25)),
        dict(weights=np.linspace(0.3, 3, 50), nonnegative=True, elastic_net=0.2),
    ],
    ids=lambda options: "-".join(options),
)
def test_penalties(options):
    D, X = problem()
    penalty = Penalty(D, options.get("weights"), options.get("nonnegative", False), options.get("elastic_net", 0), options.get("group_size", 1))
    result = shrinkwarp.lasso(D, X, lam_fraction=0.2, **options)
    check(result, penalty, X)
    np.testing.assert_allclose(result.lam, 0.2 * penalty.lambda_max(X), rtol=1e-10)
    options.pop("elastic_net", None)
    np.testing.assert_allclose(shrinkwarp.Dictionary(D).lam_max(X, **options), penalty.lambda_max(X), rtol=1e-10)


def test_rules_of_lambda():
    D, X = problem()
    largest = np.abs(X @ D).max(1)
    lams = np.linspace(0.1, 0.9, len(X)) * largest
    check(shrinkwarp.lasso(D, X, lams), Penalty(D), X)
    recording = shrinkwarp.lasso(D, X, lam_fraction=0.4, lam_scope="recording")
    np.testing.assert_allclose(recording.lam, 0.4 * largest.max(), rtol=1e-12)
    radius = shrinkwarp.lasso(D, X, l1_radius=0.5)
    np.testing.assert_allclose(np.abs(radius.codes.toarray()).sum(1), 0.5, rtol=1e-6)
    rest = shrinkwarp.lasso(D, X, residual_norm=0.4)
    np.testing.assert_allclose(np.linalg.norm(X - rest.codes @ D.T, axis=1), 0.4, rtol=1e-5)
    few = shrinkwarp.lasso(D, X, max_nonzeros=3)
    assert (few.codes.getnnz(1) <= 3).all()
    check(few, Penalty(D), X)


def test_without_lambda_is_least_squares():
    D, X = problem(20, 10)
    expected = np.linalg.lstsq(D, X.T, rcond=None)[0].T
    np.testing.assert_allclose(shrinkwarp.lasso(D, X, lam=0).codes.toarray(), expected, atol=1e-9)
    np.testing.assert_allclose(shrinkwarp.minimum_norm(D, X), expected, atol=1e-12)


def test_minimum_norm():
    D, X = problem(20, 50, 3000)
    Z = shrinkwarp.minimum_norm(D, X)
    assert Z.shape == (3000, 50)
    np.testing.assert_allclose(Z, X @ np.linalg.pinv(D).T, atol=1e-10)
    np.testing.assert_allclose(shrinkwarp.minimum_norm(D, X[4]), Z[4:5], atol=1e-13)


def test_debias():
    D, X = problem(20, 50, 2500)
    result = shrinkwarp.lasso(D, X, lam_fraction=0.4, debias=True)
    np.testing.assert_array_equal(result.debiased.indices, result.codes.indices)
    for i in (0, 7, 1100, 2499):
        support = result.codes[i].indices
        np.testing.assert_allclose(result.debiased[i].data, np.linalg.lstsq(D[:, support], X[i], rcond=None)[0], atol=1e-9)
    # Neither's pattern is the other's: SciPy changes patterns in place.
    before = result.debiased.toarray()
    result.codes.data[::2] = 0
    result.codes.eliminate_zeros()
    np.testing.assert_array_equal(result.debiased.toarray(), before)


def test_results_and_interrupts_go_between_processes():
    D, X = problem()
    result = shrinkwarp.lasso(D, X, lam_fraction=0.4)
    interrupt = pickle.loads(pickle.dumps(shrinkwarp.Interrupted("some are done", result)))
    assert str(interrupt) == "some are done"
    assert (interrupt.result.codes != result.codes).nnz == 0
    np.testing.assert_array_equal(interrupt.result.dual_gap, result.dual_gap)


def test_path_starts_from_the_codes_before():
    D, X = problem(30, 100, 40)
    path = shrinkwarp.lasso_path(D, X, lam_fractions=[0.8, 0.4, 0.2], solver="fista", gap=1e-8)
    alone = [shrinkwarp.lasso(D, X, lam_fraction=f, solver="fista", gap=1e-8) for f in (0.8, 0.4, 0.2)]
    for warm, cold in zip(path, alone):
        check(warm, Penalty(D), X, 1e-8)
        np.testing.assert_array_equal(warm.lam, cold.lam)
    assert path[2].iterations.sum() < alone[2].iterations.sum()
    absolute = shrinkwarp.lasso_path(shrinkwarp.Dictionary(D), X, [0.5, 0.25])
    assert [result.lam[0] for result in absolute] == [0.5, 0.25]


@pytest.mark.parametrize("form", [lambda Z: Z, lambda Z: Z.toarray(), lambda Z: Z.tocsc(), lambda Z: Z.tocoo()])
def test_warm_start(form):
    D, X = problem()
    first = shrinkwarp.lasso(D, X, lam_fraction=0.3, solver="fista", gap=1e-10)
    again = shrinkwarp.lasso(D, X, lam_fraction=0.3, solver="fista", gap=1e-8, warm_start=form(first.codes))
    cold = shrinkwarp.lasso(D, X, lam_fraction=0.3, solver="fista", gap=1e-8)
    assert again.iterations.sum() < cold.iterations.sum() / 3
    check(again, Penalty(D), X, 1e-8)


def rows(X):
    """The same rows in other memory layouts."""
    wide = np.zeros((2 * len(X), 3 * X.shape[1]), X.dtype)
    wide[::2, 1::3] = X
    backwards = X[::-1].copy()
    return {
        "Fortran": np.asfortranarray(X),
        "strided": wide[::2, 1::3],
        "backwards": backwards[::-1],
        "readonly": np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
        "big-endian": X.astype(X.dtype.newbyteorder(">")),
        "list": X.tolist(),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layouts_give_the_same_bits(dtype):
    D, X = problem()
    D, X = D.astype(dtype), X.astype(dtype)
    expected = shrinkwarp.lasso(D, X, lam_fraction=0.3)
    check(expected, Penalty(D), X)
    for name, array in rows(X).items():
        assert same_bits(shrinkwarp.lasso(D, array, lam_fraction=0.3), expected), name
    for name, array in rows(D).items():
        assert same_bits(shrinkwarp.lasso(array, X, lam_fraction=0.3), expected), name
    assert same_bits(shrinkwarp.lasso(D, X[3], lam_fraction=0.3), shrinkwarp.lasso(D, X[3:4], lam_fraction=0.3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_copied(dtype):
    X = problem()[1].astype(dtype)
    for array in (X, np.asfortranarray(X), X[::2, ::-1]):
        read = _arguments.observations("lasso", array, X.shape[1])
        assert _core.address_of(read) == array.ctypes.data


def test_integers_and_halves_are_converted():
    D, X = problem()
    X = np.round(4 * X)
    D = D.astype(np.float16).astype(np.float32)
    expected = shrinkwarp.lasso(D, X, lam_fraction=0.3)
    for array in (X.astype(np.int32), X.astype(np.float16), X.astype(object)):
        assert same_bits(shrinkwarp.lasso(D.astype(np.float16), array, lam_fraction=0.3), expected)


def test_no_observations():
    result = shrinkwarp.lasso(np.eye(3), np.zeros((0, 3)), lam=1)
    assert result.codes.shape == (0, 3)
    assert result.lam.shape == (0,)


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    D, X = problem()
    expected = shrinkwarp.lasso(D, X, lam_fraction=0.3)
    tensor = torch.tensor(X, requires_grad=True)
    assert same_bits(shrinkwarp.lasso(torch.tensor(D), tensor, lam_fraction=0.3), expected)
    read = _arguments.observations("lasso", tensor, X.shape[1])
    assert _core.address_of(read) == tensor.data_ptr()


def test_signs_that_pytorch_keeps_aside():
    torch = pytest.importorskip("torch")
    D, X = problem()
    values = torch.tensor(X)
    tensor = torch.complex(values, values).conj().imag
    assert tensor.is_neg()
    assert same_bits(shrinkwarp.lasso(D, tensor, 0.5), shrinkwarp.lasso(D, -X, 0.5))


def test_arrays_of_jax():
    jax = pytest.importorskip("jax")
    D, X = (array.astype(np.float32) for array in problem())
    expected = shrinkwarp.lasso(D, X, lam_fraction=0.3)
    array = jax.numpy.asarray(X)
    assert same_bits(shrinkwarp.lasso(jax.numpy.asarray(D), array, lam_fraction=0.3), expected)
    assert _core.address_of(_arguments.observations("lasso", array, X.shape[1])) == array.unsafe_buffer_pointer()


def test_threads_do_not_change_bits():
    D, X = problem(40, 120, 300)
    expected = shrinkwarp.lasso(D, X, lam_fraction=0.2, threads=1)
    assert same_bits(shrinkwarp.lasso(D, X, lam_fraction=0.2, threads=3), expected)
    dictionary = shrinkwarp.Dictionary(D, threads=2)
    results = at_once(lambda: [dictionary.solve(X, lam_fraction=0.2) for _ in range(5)], 6)
    assert all(same_bits(result, expected) for of_thread in results for result in of_thread)


def slow_problem():
    """Takes seconds: FISTA to a gap that it comes to slowly."""
    random = np.random.default_rng(3)
    D = random.standard_normal((100, 30)) @ random.standard_normal((30, 400)) + 0.01 * random.standard_normal((100, 400))
    return D, random.standard_normal((4000, 100)), dict(lam_fraction=0.01, solver="fista", gap=1e-9, max_iterations=10**6)


def test_other_threads_run_on():
    D, X, options = slow_problem()
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.005)

    thread = threading.Thread(target=tick)
    thread.start()
    seconds = []

    def stop_after(done, total):
        seconds.append(time.monotonic())
        if seconds[-1] - seconds[0] > 0.5:
            raise StopIteration("enough")

    with pytest.raises(StopIteration, match="enough"):
        shrinkwarp.lasso(D, X, progress=stop_after, **options)
    done.set()
    thread.join()
    during = [t for t in ticks if seconds[0] <= t <= seconds[-1]]
    assert len(during) > 20
    assert np.diff(during).max() < 0.4


def test_interrupted():
    D, X, options = slow_problem()
    X[:5] = 0  # which are done at once

    def interrupt(done, total):
        assert total == len(X)
        if done >= 5:
            _thread.interrupt_main()

    with pytest.raises(shrinkwarp.Interrupted, match="of 4000 problems are done") as raised:
        shrinkwarp.lasso(D, X, progress=interrupt, **options)
    result = raised.value.result
    reached = ~np.isnan(result.dual_gap)
    assert 5 <= reached.sum() < len(X)
    assert result.converged[:5].all()
    assert not result.converged[~reached].any()
    assert result.codes[~reached].nnz == 0
    assert issubclass(shrinkwarp.Interrupted, KeyboardInterrupt)


def test_control_c():
    program = (
        "import numpy as np, shrinkwarp, sys, test_lasso\n"
        "D, X, options = test_lasso.slow_problem()\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    shrinkwarp.lasso(D, X, **options)\n"
        "except shrinkwarp.Interrupted as interrupt:\n"
        "    print(len(interrupt.result.lam))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])},
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "4000\n"
    assert process.returncode == 0


def solve_in_child(dictionary, X):
    return dictionary.solve(X, lam_fraction=0.3).codes.toarray()


def test_forked_processes_solve():
    D, X = problem()
    dictionary = shrinkwarp.Dictionary(D, threads=2)
    expected = dictionary.solve(X, lam_fraction=0.3).codes.toarray()
    # Closures reach a child of fork without being pickled.
    global _inherited
    _inherited = dictionary, X
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for result in pool.map_async(_solve_inherited, range(4)).get(timeout=60):
            np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(solve_in_child(dictionary, X), expected)


def _solve_inherited(_):
    return solve_in_child(*_inherited)


def test_progress():
    D, X = problem(N=200)
    reports = []
    shrinkwarp.lasso(D, X, lam_fraction=0.3, progress=lambda done, total: reports.append((done, total)))
    assert reports[-1] == (200, 200)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


@pytest.mark.parametrize("has_tqdm", [True, False])
def test_progress_is_shown(has_tqdm, capfd, monkeypatch):
    if has_tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    D, X = problem()
    shrinkwarp.lasso(D, X, lam_fraction=0.3, progress=True)
    assert ("30/30" if has_tqdm else "30 of 30") in capfd.readouterr().err


def test_log(caplog):
    D, X = problem()
    with caplog.at_level(logging.INFO, logger="shrinkwarp"):
        shrinkwarp.lasso(D, X, lam_fraction=0.01, solver="fista", gap=1e-12)
    assert all(record.name == "shrinkwarp" for record in caplog.records)
    assert caplog.records


def test_missing_the_gap_warns():
    D, X = problem()
    sklearn = pytest.importorskip("sklearn.exceptions")
    with pytest.warns(sklearn.ConvergenceWarning, match="30 of 30 problems missed the gap of 1e-09") as warned:
        result = shrinkwarp.lasso(D, X, lam_fraction=0.01, solver="ista", gap=1e-9, max_iterations=1)
    assert not result.converged.any()
    assert (result.dual_gap > 0).all()
    assert warned[0].filename == __file__


def test_missing_the_gap_warns_without_scikit_learn(monkeypatch):
    D, X = problem()
    monkeypatch.setitem(sys.modules, "sklearn.exceptions", None)
    with pytest.warns(RuntimeWarning, match="missed the gap"):
        shrinkwarp.lasso(D, X, lam_fraction=0.01, solver="ista", gap=1e-9, max_iterations=1)


def test_rows_with_nan_are_named():
    D, X = problem()
    X[17, 3] = np.nan
    with pytest.raises(ValueError, match=r"^lasso: X: entry 3 of row 17 is nan"):
        shrinkwarp.lasso(D, X, lam_fraction=0.3)
    D[2, 5] = np.inf
    with pytest.raises(ValueError, match=r"D.*inf"):
        shrinkwarp.Dictionary(D)


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(D=np.zeros((0, 5))), ValueError, "D: found shape (0, 5), wanted at least one row and one atom"),
        (dict(D=np.zeros(5)), ValueError, "D: found shape (5,)"),
        (dict(D="D.npy"), TypeError, "D: found str 'D.npy'"),
        (dict(D=scipy.sparse.eye(20)), TypeError, "D: found a sparse matrix"),
        (dict(X=np.zeros((3, 19))), ValueError, "X: found shape (3, 19), wanted an array (N, n) of numbers, n = 20"),
        (dict(X=np.zeros((3, 20), complex)), TypeError, "X: found elements of type complex128"),
        (dict(X=[["a"] * 20]), TypeError, "X: found elements of type <U1"),
        (dict(X=[[1.0, 2.0], [1.0]]), ValueError, "X: found list"),
        (dict(X=None), TypeError, "X: found NoneType None"),
        (dict(lam=1.0), ValueError, "lam: found lam and lam_fraction, wanted exactly one of"),
        (dict(lam_fraction=None), ValueError, "lam: found nothing that says lambda"),
        (dict(lam_fraction=0), ValueError, "lam_fraction: found 0, wanted a finite number > 0"),
        (dict(lam_fraction=None, lam=-1), ValueError, "lam: found -1, wanted a finite number >= 0"),
        (dict(lam_fraction=None, lam=[1, 2]), ValueError, "lam: found shape (2,), wanted a number, or (30,)"),
        (dict(lam_fraction=None, lam=[-1.0] + 29 * [1.0]), ValueError, "lam: found -1"),
        (dict(lam_fraction=None, lam="1"), TypeError, "lam: found str '1'"),
        (dict(lam_fraction=None, lam=True), TypeError, "lam: found bool True"),
        (dict(lam_scope="all"), ValueError, "lam_scope: found 'all', wanted one of sample, recording"),
        (dict(lam_fraction=None, lam=1, lam_scope="recording"), ValueError, "lam_scope: found 'recording'"),
        (dict(gap=0), ValueError, "gap: found 0"),
        (dict(gap=np.nan), ValueError, "gap: found nan"),
        (dict(solver="lars"), ValueError, "solver: found 'lars', wanted one of auto, working-set"),
        (dict(solver=3), TypeError, "solver: found 3"),
        (dict(weights=np.ones(49)), ValueError, "weights: found shape (49,), wanted (50,)"),
        (dict(weights=np.full(50, -1)), ValueError, "weights: found -1"),
        (dict(weights=np.full(50, np.nan)), ValueError, "weights: found NaN at 0"),
        (dict(nonnegative=1), TypeError, "nonnegative: found int 1, wanted True or False"),
        (dict(group_size=3), ValueError, "group_size: found 3, wanted a divisor of 50"),
        (dict(group_size=2.0), TypeError, "group_size: found float 2.0"),
        (dict(device="tpu"), ValueError, "device: found 'tpu', wanted 'auto', 'cpu', 'cuda' or 'cuda:NUMBER'"),
        (dict(device=0), TypeError, "device: found 0"),
        (dict(threads=0), ValueError, "threads: found 0, wanted a whole number from 1"),
        (dict(warm_start=np.zeros((30, 49))), ValueError, "warm_start: found shape (30, 49), wanted a sparse matrix"),
        (dict(elastic_net=-1), ValueError, "elastic_net: found -1"),
        (dict(max_iterations=0), ValueError, "max_iterations: found 0"),
        (dict(memory_limit="4GiB"), TypeError, "memory_limit: found str '4GiB'"),
        (dict(progress=3), TypeError, "progress: found int 3"),
        (dict(debias=None), TypeError, "debias: found NoneType None"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_bad_arguments(change, error, words):
    D, X = problem()
    arguments = {**dict(D=D, X=X, lam_fraction=0.3), **change}
    with pytest.raises(error) as raised:
        shrinkwarp.lasso(**arguments)
    assert str(raised.value).startswith("lasso: " + words)


def test_a_device_that_is_not_there():
    if shrinkwarp.cuda_device_count() > 0:
        pytest.skip("there is a CUDA device")
    assert shrinkwarp.cuda_unavailable_reason()
    with pytest.raises(RuntimeError, match="(?i)cuda"):
        shrinkwarp.lasso(np.eye(3), np.eye(3), lam=1, device="cuda")


@pytest.mark.parametrize("arguments", [dict(), dict(lams=[1], lam_fractions=[1]), dict(lams=[[1]]), dict(lams=["a"]), dict(lams=[-1])])
def test_bad_paths(arguments):
    D, X = problem()
    with pytest.raises((ValueError, TypeError), match="^lasso_path: lam"):
        shrinkwarp.lasso_path(D, X, **arguments)


@pytest.mark.parametrize("call", [
    "dictionary.solve(X, lam_fraction=0.01)",
    "dictionary.solve(X, lam_fraction=0.01, progress=lambda done, total: None)",
    "shrinkwarp.networks.train('lista', dictionary, X, 5, 0.3, epochs=10**6)",
    "[shrinkwarp.Dictionary(D) for _ in range(10**6)]",
])
def test_the_interpreter_exits_while_a_daemon_thread_solves(call):
    program = f"""
import threading, time
import numpy as np
import shrinkwarp, shrinkwarp.networks

random = np.random.default_rng(0)
D, X = random.standard_normal((60, 400)), random.standard_normal((100000, 60))
dictionary = shrinkwarp.Dictionary(D)
thread = threading.Thread(target=lambda: {call}, daemon=True)
thread.start()
time.sleep(0.5)
assert thread.is_alive()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.data
@pytest.mark.parametrize("kind", ["small", "medium"])
def test_certified_references(recordings, kind):
    folder = recordings / kind
    D = np.load(folder / "D.npy")
    X = np.load(folder / "X_evoked.npy", mmap_mode="r")
    which = np.load(folder / "ref_evoked_obs.npy")
    lam = np.load(folder / "ref_evoked_lambda.npy")
    objective = np.load(folder / "ref_evoked_objective.npy")
    rows = np.ascontiguousarray(X[which])
    result = shrinkwarp.lasso(D, rows, lam, gap=1e-9)
    energy = (rows.astype(float) ** 2).sum(1) / 2
    assert (np.abs(result.objective - objective) <= 1e-9 * energy).all()
