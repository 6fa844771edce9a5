"""shrinkwarp.dask: blocks have the bits of the local call, on threads, on workers, and on workers that die."""

import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

import shrinkwarp  # noqa: E402
import shrinkwarp.dask  # noqa: E402

WORKER_MEMORY = 400 * 10**6
N, n, m = 700, 40, 100
rng = np.random.default_rng(0)
D = rng.standard_normal((n, m))
X = rng.standard_normal((N, n))
WEIGHTS = np.ones(m)
WEIGHTS[3], WEIGHTS[5] = 0, np.inf


@pytest.fixture(autouse=True)
def threads():
    """What is not computed by a cluster is by two threads."""
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


def two_workers():
    return distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
                                    memory_limit=WORKER_MEMORY)


@pytest.fixture(scope="module")
def cluster():
    with two_workers() as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client, dask.config.set(scheduler=client):
        client.wait_for_workers(2, timeout=60)
        yield client


def blocks(X, rows=130):
    return da.from_array(X, chunks=(rows, 20))


def assert_same(found, wanted):
    """Every bit, and the types."""
    for name in ("dual_gap", "objective", "iterations", "converged", "lam"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert ours.dtype == theirs.dtype
        assert_array_equal(ours, theirs, err_msg=name)
    for name in ("codes", "debiased"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            assert type(ours) is type(theirs) and ours.shape == theirs.shape
            for part in ("data", "indices", "indptr"):
                assert_array_equal(getattr(ours, part), getattr(theirs, part), err_msg=f"{name}.{part}")


def prepared_on(client):
    def made():
        import shrinkwarp.dask

        return shrinkwarp.dask._prepared.made

    return client.run(made)


@pytest.mark.parametrize("keywords", [
    {"lam_fraction": 0.5},
    {"lam": 7.5, "solver": "working-set"},
    {"lam": np.linspace(4, 20, N)},
    {"lam_fraction": 0.5, "solver": "fista"},
    {"lam_fraction": 0.5, "lam_scope": "recording"},
    {"lam_fraction": 0.6, "lam_scope": "recording", "weights": WEIGHTS, "solver": "fista"},
    {"lam_fraction": 0.6, "weights": WEIGHTS, "debias": True},
    {"lam_fraction": 0.6, "nonnegative": True, "gap": 1e-9},
    {"lam_fraction": 0.5, "group_size": 4},
    {"lam_fraction": 0.5, "elastic_net": 0.1},
    {"l1_radius": 1.0},
    {"residual_norm": 5.5},
    {"max_nonzeros": 5},
], ids=lambda keywords: "-".join(keywords))
def test_the_bits_of_the_local_call(keywords):
    found = shrinkwarp.dask.lasso(D, blocks(X), device="cpu", **keywords).compute()
    assert_same(found, shrinkwarp.lasso(D, X, device="cpu", **keywords))


def test_the_solver_is_chosen_for_the_whole():
    # More than 8 n problems get another solver on the CPU than fewer do, whose gaps have other bits.
    large, few = rng.standard_normal((70, 1000)), rng.standard_normal((600, 70))
    whole = shrinkwarp.lasso(large, few, lam_fraction=0.5, device="cpu")
    block = shrinkwarp.lasso(large, few[:100], lam_fraction=0.5, device="cpu")
    assert (whole.dual_gap[:100] != block.dual_gap).any()
    found = shrinkwarp.dask.lasso(large, da.from_array(few, chunks=100), lam_fraction=0.5, device="cpu")
    assert_same(found.compute(), whole)


def test_dictionaries_and_observations_of_every_kind():
    wanted = shrinkwarp.lasso(D, X, lam_fraction=0.5, device="cpu")
    for given in (da.from_array(D, chunks=(7, 30)), shrinkwarp.Dictionary(D, device="cpu"), np.asfortranarray(D),
                  D.tolist()):
        assert_same(shrinkwarp.dask.lasso(given, blocks(X), lam_fraction=0.5, device="cpu").compute(), wanted)
    few = X.astype(np.float32)
    found = shrinkwarp.dask.lasso(D, blocks(few), lam_fraction=0.5, device="cpu", threads=2).compute()
    assert_same(found, shrinkwarp.lasso(D, few, lam_fraction=0.5, device="cpu"))
    none = shrinkwarp.dask.lasso(D, blocks(X[:0]), lam_fraction=0.5).compute()
    assert none.codes.shape == (0, m) and none.dual_gap.shape == (0,)


def test_lambdas_and_starts_in_blocks():
    lams = np.linspace(4, 20, N)
    start = shrinkwarp.lasso(D, X, lam=lams * 1.5, device="cpu").codes
    wanted = shrinkwarp.lasso(D, X, lam=lams, warm_start=start, device="cpu")
    lazily = shrinkwarp.dask.lasso(D, blocks(X), lam=lams * 1.5, device="cpu").codes
    for warm_start in (lazily, start, da.from_array(start.toarray(), chunks=(77, 11))):
        found = shrinkwarp.dask.lasso(D, blocks(X), lam=da.from_array(lams, chunks=99), warm_start=warm_start,
                                      device="cpu")
        assert_same(found.compute(), wanted)


def test_nothing_is_computed_before_it_is_asked_for(tmp_path):
    def refuse(*_, **__):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        result = shrinkwarp.dask.lasso(da.from_array(D), blocks(X), lam_fraction=0.5, lam_scope="recording",
                                       debias=True)
        again = shrinkwarp.dask.lasso(D, blocks(X), lam=result.lam / 2, warm_start=result.codes)
        with pytest.raises(AssertionError, match="computed"):
            again.compute()
    assert result.codes.shape == (N, m) and result.lam.shape == (N,)
    assert scipy.sparse.issparse(result.codes.blocks[1].compute()) and result.codes.blocks[1].shape == (130, m)


def test_names_are_those_of_the_work():
    def name(D=D, X=X, **keywords):
        return shrinkwarp.dask.lasso(D, blocks(X), **{"lam_fraction": 0.5, **keywords}).codes.name

    assert name() == name() == name(D=shrinkwarp.Dictionary(D), device="auto", threads=1)
    others = [name(D=2 * D), name(X=2 * X), name(gap=1e-7), name(lam_fraction=0.4), name(weights=WEIGHTS),
              name(warm_start=np.zeros((N, m))), name(lam_fraction=None, lam=np.ones(N)),
              name(lam_fraction=None, lam=np.full(N, 2.0))]
    assert len({name(), *others}) == len(others) + 1


def test_one_solve_for_all_that_is_computed_at_once(monkeypatch):
    solved = []
    plain = shrinkwarp.Dictionary._solve_checked

    def counted(self, call, X, *rest, **keywords):
        solved.append(len(X))
        return plain(self, call, X, *rest, **keywords)

    monkeypatch.setattr(shrinkwarp.Dictionary, "_solve_checked", counted)
    result = shrinkwarp.dask.lasso(D, blocks(X), lam_fraction=0.5)
    solved.clear()  # of the check of arguments
    dask.compute(result.codes, result.dual_gap, result.lam)
    assert sorted(solved) == [50] + 5 * [130]
    solved.clear()
    kept = result.persist()
    kept.compute(), kept.codes.compute()
    assert sorted(solved) == [50] + 5 * [130]


def test_threads_prepare_a_dictionary_once(monkeypatch):
    other = D + 1
    plain = shrinkwarp.Dictionary._prepare

    def slowly(self, given, *rest):  # so that all threads ask while the first prepares
        time.sleep(0.2 if np.shape(given) == D.shape else 0)
        plain(self, given, *rest)

    monkeypatch.setattr(shrinkwarp.Dictionary, "_prepare", slowly)
    before = shrinkwarp.dask._prepared.made
    with dask.config.set(num_workers=8):
        shrinkwarp.dask.lasso(other, blocks(X, rows=20), lam_fraction=0.5).compute()
        shrinkwarp.dask.lasso(other, blocks(X, rows=20), lam_fraction=0.6, lam_scope="recording").compute()
    assert shrinkwarp.dask._prepared.made == before + 1


def test_few_dictionaries_are_kept():
    kept = shrinkwarp.dask._prepared.KEPT
    for k in range(kept + 2):
        shrinkwarp.dask.lasso(D * (k + 2), blocks(X[:10]), lam_fraction=0.5).compute()
    assert len(shrinkwarp.dask._prepared._slots) == kept


def test_a_dictionary_is_pickled_without_what_is_prepared():
    dictionary = shrinkwarp.Dictionary(D * 3e-7, device="cpu", threads=1)
    text = pickle.dumps(dictionary)
    assert len(text) < D.nbytes + 1000
    again = pickle.loads(text)
    assert again.device == "cpu" and again._asked == ("cpu", 1)
    assert_array_equal(again._core.values(), D * 3e-7)
    assert_same(again.solve(X, lam_fraction=0.5), dictionary.solve(X, lam_fraction=0.5))


def test_missed_gaps_are_warned_of_where_they_are_computed():
    result = shrinkwarp.dask.lasso(D, blocks(X), lam_fraction=0.1, solver="ista", max_iterations=1)
    with pytest.warns(Warning, match=r"shrinkwarp.dask: \d+ of 700 problems missed the gap of 1e-06"):
        assert not result.compute().converged.all()


@pytest.mark.parametrize("keywords, error, named", [
    ({"X": X}, TypeError, "X: found an array of shape"),
    ({"X": da.from_array(X[:, :9])}, ValueError, "X: found shape"),
    ({"X": da.from_array(X[0])}, ValueError, "X: found"),
    ({"X": da.from_array(X.astype(complex))}, TypeError, "X: found .* complex128"),
    ({"X": da.from_array(X)[da.from_array(X[:, 0]) > 0]}, ValueError, "X: found .*compute_chunk_sizes"),
    ({"D": D[0]}, ValueError, "D: found shape"),
    ({"D": np.where(D == D[3, 7], np.nan, D)}, ValueError, r"D: found nan at \(3, 7\)"),
    ({"D": da.from_array(D[0])}, ValueError, "D: found"),
    ({"D": D[:, :0]}, ValueError, "D: found shape"),
    ({"device": "gpu"}, ValueError, "device: found 'gpu'"),
    ({"device": 3}, TypeError, "device: found 3"),
    ({"threads": 0}, ValueError, "threads: found 0"),
    ({"lam_fraction": None}, ValueError, "lam: found nothing"),
    ({"lam": 1.0}, ValueError, "lam: found lam and lam_fraction"),
    ({"lam_fraction": None, "lam": np.ones(3)}, ValueError, "lam: found shape"),
    ({"lam_fraction": None, "lam": da.ones(3)}, ValueError, "lam: found a dask array of shape"),
    ({"lam": da.ones(N)}, ValueError, "lam_fraction"),
    ({"solver": "lars"}, ValueError, "solver: found 'lars'"),
    ({"weights": np.ones(3)}, ValueError, "weights: found shape"),
    ({"group_size": 7}, ValueError, "group_size: found 7"),
    ({"warm_start": np.zeros((N, 3))}, ValueError, "warm_start: found shape"),
    ({"warm_start": da.zeros((N, 3))}, ValueError, "warm_start: found a dask array of shape"),
    ({"progress": True}, TypeError, "progress"),
    ({"lam_fraction": None, "l1_radius": 1.0, "group_size": 4}, ValueError, "groups of 4"),
    ({"lam_fraction": None, "max_nonzeros": 3, "warm_start": np.zeros((N, m))}, ValueError, "initial codes"),
], ids=lambda value: "-".join(value) if isinstance(value, dict) else "")
def test_bad_arguments_are_named_at_once(keywords, error, named):
    with pytest.raises(error, match=named):
        shrinkwarp.dask.lasso(**{"D": D, "X": blocks(X), "lam_fraction": 0.5, **keywords})


def test_sparse_starts_of_other_blocks_are_refused():
    start = shrinkwarp.dask.lasso(D, blocks(X, rows=100), lam_fraction=0.5).codes
    with pytest.raises(ValueError, match="warm_start: found sparse blocks"):
        shrinkwarp.dask.lasso(D, blocks(X), lam_fraction=0.5, warm_start=start)


def test_bad_values_are_named_where_they_are_seen():
    bad = X.copy()
    bad[300, 3] = np.nan
    with pytest.raises(ValueError, match=r"row 40\b.*row 0 is row 260 of X"):
        shrinkwarp.dask.lasso(D, blocks(bad), lam_fraction=0.5).compute()
    with pytest.raises(ValueError, match=r"row 40\b.*row 0 is row 260 of X"):
        shrinkwarp.dask.lasso(D, blocks(bad), lam_fraction=0.5, lam_scope="recording").compute()
    with pytest.raises(ValueError, match="lam: found -1"):
        shrinkwarp.dask.lasso(D, blocks(X), lam=da.full(N, -1.0)).compute()
    with pytest.raises(ValueError, match="nan|NaN"):
        shrinkwarp.dask.lasso(da.full((n, m), np.nan), blocks(X), lam_fraction=0.5).compute()


# Zarr.


def test_zarr_gives_back_every_bit(tmp_path):
    pytest.importorskip("zarr")
    X_there = str(tmp_path / "X.zarr")
    da.from_array(X, chunks=(150, n)).to_zarr(X_there)
    result = shrinkwarp.dask.lasso(D, da.from_zarr(X_there), lam_fraction=0.5, debias=True, device="cpu")
    assert result.to_zarr(tmp_path / "codes.zarr") is None
    again = shrinkwarp.dask.from_zarr(tmp_path / "codes.zarr")
    assert again.codes.chunks == result.codes.chunks
    wanted = shrinkwarp.lasso(D, X, lam_fraction=0.5, debias=True, device="cpu")
    assert_same(again.compute(), wanted)

    again.to_zarr(str(tmp_path / "copy.zarr"), compute=False).compute()
    assert_same(shrinkwarp.dask.from_zarr(str(tmp_path / "copy.zarr")).compute(), wanted)
    none = shrinkwarp.dask.lasso(D, blocks(X), lam_fraction=1.5)
    none.to_zarr(tmp_path / "codes.zarr", overwrite=True)
    assert shrinkwarp.dask.from_zarr(tmp_path / "codes.zarr").compute().codes.nnz == 0


def test_zarr_goes_on_where_it_ended(tmp_path):
    pytest.importorskip("zarr")
    there, ready = tmp_path / "codes.zarr", tmp_path / "ready"

    def read(block, ready, block_info=None):
        if block_info[0]["chunk-location"][0] == 4 and not os.path.exists(ready):
            raise OSError("no block 4 yet")
        return block

    source = blocks(X).rechunk((130, n)).map_blocks(read, str(ready), dtype=X.dtype, name="observations")
    result = shrinkwarp.dask.lasso(D, source, lam_fraction=0.5, device="cpu")
    with dask.config.set(scheduler="synchronous"), pytest.raises(OSError, match="no block 4 yet"):
        result.to_zarr(there)
    with pytest.raises(ValueError, match="store: .* not complete"):
        shrinkwarp.dask.from_zarr(there)
    with pytest.raises(ValueError, match="store: found .* wanted a new one"):
        result.to_zarr(there)
    with pytest.raises(ValueError, match="store: found gap 1e-06 in it|store: found name"):
        shrinkwarp.dask.lasso(D, source, lam_fraction=0.5, gap=1e-7, device="cpu").to_zarr(there, resume=True)
    with pytest.raises(ValueError, match="resume and overwrite"):
        result.to_zarr(there, resume=True, overwrite=True)

    def written():
        return {path: path.stat().st_mtime_ns for path in there.glob("blocks/*/**/*") if path.is_file()}

    before = written()
    assert before
    ready.touch()
    result.to_zarr(there, resume=True)
    after = written()
    assert len(after) > len(before) and all(after[path] == when for path, when in before.items())
    wanted = shrinkwarp.lasso(D, X, lam_fraction=0.5, device="cpu")
    assert_same(shrinkwarp.dask.from_zarr(there).compute(), wanted)
    result.to_zarr(there, resume=True)  # nothing is left to do
    assert all(written()[path] == when for path, when in after.items())


def test_other_groups_are_no_results(tmp_path):
    zarr = pytest.importorskip("zarr")
    with pytest.raises(FileNotFoundError, match="store: found no group"):
        shrinkwarp.dask.from_zarr(tmp_path / "nothing.zarr")
    zarr.open_group(str(tmp_path / "other.zarr"), mode="w").attrs["format"] = "another"
    with pytest.raises(ValueError, match="store: found format 'another'"):
        shrinkwarp.dask.from_zarr(tmp_path / "other.zarr")


# Workers.


def test_workers_prepare_a_dictionary_once_each(client):
    wanted = shrinkwarp.lasso(D, X, lam_fraction=0.3, device="cpu")
    before = prepared_on(client)
    result = shrinkwarp.dask.lasso(D, blocks(X, rows=30), lam_fraction=0.3, device="cpu")
    assert_same(result.compute(), wanted)
    kept = result.persist()
    assert_same(kept.compute(), wanted)
    after = prepared_on(client)
    assert len(after) == 2 and [after[worker] - before.get(worker, 0) for worker in after] == [1, 1]


def test_a_worker_that_is_killed_changes_nothing():
    large = np.random.default_rng(1).standard_normal((200, 800))
    many = np.random.default_rng(2).standard_normal((1600, 200))
    slow = {"lam_fraction": 0.05, "device": "cpu"}  # a block takes far longer than it takes to ask how far all are
    wanted = shrinkwarp.lasso(large, many, **slow)
    result = shrinkwarp.dask.lasso(large, da.from_array(many, chunks=(100, 200)), **slow)

    def solving(dask_scheduler):
        """How many blocks are done, and the workers that solve just now."""
        done = sum("shrinkwarp-lasso" in str(task.key) and task.state == "memory"
                   for task in dask_scheduler.tasks.values())
        return done, [address for address, worker in dask_scheduler.workers.items()
                      if any("shrinkwarp-lasso" in str(task.key) for task in worker.processing)]

    # A cluster of its own: some versions of Dask do not start a worker again that was killed.
    with two_workers() as cluster, distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        pids = client.run(os.getpid)
        kept = result.persist(scheduler=client)
        until = time.monotonic() + 60
        done, at_work = 0, []
        while not (done >= 2 and len(at_work) == 2):
            assert time.monotonic() < until
            time.sleep(0.01)
            done, at_work = client.run_on_scheduler(solving)
        os.kill(pids[at_work[0]], signal.SIGKILL)
        assert done < 15  # in the middle
        assert_same(kept.compute(scheduler=client), wanted)
        assert pids[at_work[0]] not in client.run(os.getpid).values()


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="no /proc")
def test_memory_of_workers_is_bounded(client, tmp_path):
    pytest.importorskip("zarr")
    # 480 MB of observations in blocks of 16 MB; a worker has 400 MB.
    source = da.random.RandomState(0).standard_normal((60_000, 1000), chunks=(2000, 1000))
    assert source.nbytes > WORKER_MEMORY
    small = np.random.default_rng(0).standard_normal((1000, 16))

    def peak(forget=False):
        if forget:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

    shrinkwarp.dask.lasso(small, source[:8000], lam_fraction=0.5).to_zarr(tmp_path / "first.zarr")  # imports are done
    before = client.run(peak, forget=True)
    shrinkwarp.dask.lasso(small, source, lam_fraction=0.5).to_zarr(tmp_path / "codes.zarr")
    after = client.run(peak)
    assert set(after) == set(before)  # nobody was killed for memory
    assert all(after[worker] - before[worker] < source.nbytes / 4 for worker in after)


def test_a_scheduler_that_runs_by_itself(tmp_path):
    file = str(tmp_path / "scheduler.json")
    environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    # Of the module's own: no command has to be on PATH.
    commands = [["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
                ["distributed.cli.dask_worker", "--nthreads", "2", "--no-nanny", "--no-dashboard"]]
    processes = []
    try:
        for module, *options in commands:
            processes.append(subprocess.Popen([sys.executable, "-m", module, "--scheduler-file", file, *options],
                                              cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL))
        until = time.monotonic() + 60
        while not os.path.exists(file):
            assert time.monotonic() < until and processes[0].poll() is None
            time.sleep(0.05)
        with distributed.Client(scheduler_file=file, timeout=30) as client:
            client.wait_for_workers(1, timeout=60)
            result = shrinkwarp.dask.lasso(D, blocks(X), lam_fraction=0.4, lam_scope="recording", device="cpu")
            assert_same(result.compute(), shrinkwarp.lasso(D, X, lam_fraction=0.4, lam_scope="recording", device="cpu"))
            assert list(prepared_on(client).values()) == [1]  # by its two threads
    finally:
        for process in processes:
            process.kill()  # a worker that is asked to end waits for its scheduler
            process.wait(30)


# Estimators.


def dense(array):
    array = array.compute() if isinstance(array, da.Array) else array
    return array.toarray() if scipy.sparse.issparse(array) else array


@pytest.mark.parametrize("parameters", [
    {}, {"fit_intercept": False}, {"sparse_coef": True}, {"positive": True}, {"alpha": np.geomspace(0.05, 1, 300)},
    {"weights": np.r_[0, np.ones(98), np.inf]},
], ids=lambda parameters: "-".join(parameters) or "plain")
def test_batch_lasso_by_blocks_of_targets(parameters):
    sklearn = pytest.importorskip("shrinkwarp.sklearn")
    features = D  # 40 samples, 100 features
    targets = features[:, :3] @ rng.standard_normal((3, 300)) + 0.1 * rng.standard_normal((40, 300)) + 2
    parameters = {"alpha": 0.1, "device": "cpu", **parameters}
    wanted = sklearn.BatchLasso(**parameters).fit(features, targets)
    model = sklearn.BatchLasso(**parameters)
    model.fit(da.from_array(features, chunks=9), da.from_array(targets, chunks=(15, 70)))
    for name in ("coef_", "sparse_coef_", "dual_gap_", "n_iter_", *(["intercept_"] if model.fit_intercept else [])):
        assert isinstance(getattr(model, name), da.Array)
        # Means are not bit for bit the same: NumPy sums a block's columns in an order that its layout gives.
        assert_allclose(dense(getattr(model, name)), dense(getattr(wanted, name)), rtol=1e-6, atol=1e-11, err_msg=name)
    assert scipy.sparse.issparse(model.coef_.compute()) == model.sparse_coef
    samples = rng.standard_normal((25, 100))
    theirs = wanted.predict(samples)
    for predicted in (model.predict(samples), model.predict(da.from_array(samples, chunks=(10, 30))),
                      wanted.predict(da.from_array(samples, chunks=(10, 30)))):
        assert isinstance(predicted, da.Array) and predicted.shape == theirs.shape
        assert_allclose(predicted.compute(), theirs, rtol=1e-9, atol=1e-10)


def test_batch_lasso_of_dask_arrays_otherwise():
    sklearn = pytest.importorskip("shrinkwarp.sklearn")
    targets = D[:, :2] @ rng.standard_normal((2, 60))
    model = sklearn.BatchLasso(alpha=0.1, warm_start=True).fit(D, da.from_array(targets, chunks=(40, 25)))
    iterations = model.n_iter_.sum().compute()
    assert model.fit(D, da.from_array(targets, chunks=(40, 25))).n_iter_.sum().compute() <= iterations
    assert isinstance(model.fit(D, targets).coef_, np.ndarray)
    one = sklearn.BatchLasso(alpha=0.1).fit(D, da.from_array(targets[:, 0], chunks=9))
    assert one.coef_.shape == (m,) and one.predict(da.from_array(D, chunks=(7, m))).compute().shape == (n,)
    with pytest.raises(ValueError, match="BatchLasso: y: found 39 samples"):
        sklearn.BatchLasso().fit(D, da.from_array(targets[1:], chunks=9))
    with pytest.raises(ValueError, match="BatchLasso: y: found NaN"):
        sklearn.BatchLasso().fit(D, da.full((n, 5), np.nan, chunks=3))
    with pytest.raises(ValueError, match="BatchLasso: X: found 9 features"):
        model.predict(da.ones((5, 9)))
    with pytest.raises(ValueError, match="BatchLasso: X: found NaN"):
        model.predict(da.full((5, m), np.nan)).compute()
    with pytest.warns(Warning, match="BatchLasso: .* problems missed"):
        sklearn.BatchLasso(alpha=0.01, solver="ista", max_iter=1).fit(D, da.from_array(targets, chunks=(40, 25)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("parameters", [{}, {"split_sign": True}, {"sparse_output": True},
                                        {"split_sign": True, "sparse_output": True, "positive_code": True}])
def test_batch_sparse_coder_by_blocks_of_samples(parameters, dtype):
    sklearn = pytest.importorskip("shrinkwarp.sklearn")
    samples = X[:300].astype(dtype)
    coder = sklearn.BatchSparseCoder(D.T, transform_alpha=8.0, device="cpu", **parameters)
    wanted = coder.fit(samples).transform(samples)
    lazily = sklearn.BatchSparseCoder(D.T, transform_alpha=8.0, device="cpu", **parameters).fit(blocks(samples))
    found = lazily.transform(blocks(samples))
    assert isinstance(found, da.Array) and found.shape == wanted.shape and found.dtype == dtype
    values = found.compute()
    assert values.dtype == dtype and type(values) is type(wanted)
    assert_array_equal(dense(values), dense(wanted))
    assert_same(lazily.encode(blocks(samples)).compute(), coder.encode(samples))
    with pytest.raises(ValueError, match="BatchSparseCoder: X: found shape"):
        coder.transform(da.ones((5, 9)))
