"""tools/bench/peers: judge, choice of settings, worker and report, with made-up peers. No real one is needed."""

import json
import math
import subprocess
import sys
import types

import numpy as np
import pytest
import scipy.sparse

from program import EPS, PATH, ROOT, certificate, coordinate_descent, energy, lambda_max

sys.path.insert(0, str(ROOT / "tools/bench"))
from peers import adapters, cases, main, measure, report, workers  # noqa: E402
from peers.adapters import base, shrinkwarp_program  # noqa: E402
from peers.judge import ROWS, Judge  # noqa: E402


def soft_threshold(X, lam):
    return np.sign(X) * np.maximum(np.abs(X) - lam, 0)


# What the lines say of the command


def test_commands_name_no_folders():
    text = main.command_text(["--case", "a,b", "--output", "/some/where/peers.jsonl", "--program=/else/where/shrinkwarp",
                              "--peer", "SPAMS LARS", "--fraction", ".8,.5"])
    assert text == ("tools/bench/peers/run --case a,b --output peers.jsonl --program=shrinkwarp --peer 'SPAMS LARS' "
                    "--fraction .8,.5")


# The judge


def test_gap_by_hand():
    """D = I, x = (3, 4), lambda 2: z = 0 has the dual point x / 2, primal 25/2, dual 25/2 - 25/8."""
    judge = Judge(np.eye(2))
    X, lambdas = np.array([[3.0, 4.0]] * 2), np.array([2.0, 2.0])
    gaps = judge.relative_gaps(X, lambdas, np.array([[0.0, 0.0], [1.0, 2.0]]))
    assert gaps[0] == 0.25
    assert abs(gaps[1]) <= 10 * EPS  # the solution


def test_gaps_agree_with_other_code():
    random = np.random.default_rng(0)
    D, X = random.standard_normal((6, 15)), random.standard_normal((2 * ROWS + 3, 6))
    lambdas = random.uniform(0.1, 1.1, len(X)) * lambda_max(D, X)
    Z = random.standard_normal((len(X), 15)) * (random.random((len(X), 15)) < 0.2)
    for i in (0, ROWS, 2 * ROWS + 2):
        Z[i] = coordinate_descent(D, X[i], lambdas[i])
    gaps = Judge(D).relative_gaps(X, lambdas, scipy.sparse.csc_matrix(Z))
    _, expected = certificate(D, X, Z, lambdas)
    size = energy(X) + energy(X - Z @ D.T) + lambdas * np.abs(Z).sum(1)  # of the terms that cancel
    assert (np.abs(gaps * energy(X) - expected) <= 100 * EPS * size).all()
    assert gaps[ROWS] <= 100 * EPS < gaps[1]


def test_what_is_no_code_has_no_gap():
    X = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    Z = np.array([[np.nan, 0.0], [np.inf, 0.0], [0.0, 0.0], [1e-9, 0.0]])
    assert Judge(np.eye(2)).relative_gaps(X, np.full(4, 0.5), Z).tolist() == [np.inf, np.inf, 0, np.inf]
    with pytest.raises(ValueError, match="shape"):
        Judge(np.eye(2)).relative_gaps(X, np.full(4, 0.5), Z[:3])


# The cases


def test_samples_are_repeated():
    case = cases.Case("c", "random", np.eye(2, dtype=np.float32), np.arange(14, dtype=np.float32).reshape(7, 2))
    assert len(np.unique(case.observations(5, seed=1), axis=0)) == 5
    X = case.observations(21, seed=1)
    rows, counts = np.unique(X, axis=0, return_counts=True)
    assert np.array_equal(rows, case.X) and (counts == 3).all()
    assert np.array_equal(X, case.observations(21, seed=1)) and not np.array_equal(X, case.observations(21, seed=2))


def test_lambdas():
    D, X = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[3.0, 0.0], [-1.0, 5.0]])
    assert cases.Lambda(0.5).of(D, X).tolist() == [3.0, 1.0]
    assert cases.Lambda(value=0.15).of(D, X).tolist() == [0.15, 0.15]


def test_random_cases(folder):
    case = cases.make("gaussian-64x256", None, PATH, folder, seed=3)
    norms = np.linalg.norm(case.D.astype(float), axis=0)
    assert case.D.shape == (64, 256) and (np.abs(norms - 1) <= 64 * np.finfo(np.float32).eps).all()
    assert case.many == len(case.X) == 20_000
    case = cases.make("spams", None, PATH, folder, seed=3)
    norms = np.linalg.norm(case.X.astype(float), axis=1)
    assert case.D.shape == (100, 200) and (np.abs(norms - 1) <= 100 * np.finfo(np.float32).eps).all()
    assert case.many == len(case.X) == 100_000


def test_without_recordings(folder):
    case = cases.make("small", None, PATH, folder, seed=0)
    assert case.origin == "phantom" and case.D.shape == (102, 1536) and case.X.shape == (1263, 102)
    with pytest.raises(cases.Missing, match="SHRINKWARP_DATA"):
        cases.make("digits", None, PATH, folder, seed=0)


# The choice of settings


class FakeWorker:
    """Solves problem i with setting s to the gap 10^-s, or hard[i] settings later; takes `pace` seconds a problem."""

    setup_seconds = 0.5
    first = 4

    def __init__(self, settings=10, pace=1e-3, hard=None):
        self.settings = [f"setting {s}" for s in range(settings)]
        self.pace, self.hard, self.asked = pace, hard or {}, []

    def gaps(self, setting, count):
        return np.array([10.0 ** -(setting - self.hard.get(i, 0)) for i in range(count)])

    def solve(self, count, setting, limit):
        count = min(count, max(1, int(limit / self.pace)))
        self.asked.append((count, setting))
        return workers.Solved(self.pace * count, count, self.gaps(setting, count))

    def latency(self, calls, setting, limit):
        self.asked.append((calls, setting))
        seconds = [self.pace * (1 + i % 10) for i in range(calls)]
        return workers.Solved(seconds, calls, self.gaps(setting, calls))


def as_they_are(codes):
    return codes


def test_loosest_setting_that_suffices():
    worker = FakeWorker()
    rate = measure.measure_rate(worker, as_they_are, problems=100, gap=1e-6, budget=1.0)
    assert rate.status == measure.REACHED and rate.setting == "setting 6" and rate.worst_gap == 1e-6
    assert rate.solved == 100 and rate.solve_seconds == pytest.approx(0.1)
    assert rate.total_seconds == pytest.approx(0.6)
    assert rate.repeats == measure.REPEATS and worker.asked[-3:] == [(100, 6)] * 3


def test_one_hard_problem_decides():
    worker = FakeWorker(hard={777: 2})
    rate = measure.measure_rate(worker, as_they_are, problems=1000, gap=1e-6, budget=10.0)
    assert rate.setting == "setting 8" and rate.solved == 1000 and rate.worst_gap == 1e-6


def test_a_part_is_extrapolated():
    worker = FakeWorker(pace=0.01)
    rate = measure.measure_rate(worker, as_they_are, problems=20_000, gap=1e-6, budget=2.0)
    assert 100 <= rate.solved <= 200 and rate.status == measure.REACHED  # half the budget to all of it
    assert rate.total_seconds == pytest.approx(0.5 + 200)


def test_a_slow_peer_ends():
    worker = FakeWorker(pace=100.0)
    rate = measure.measure_rate(worker, as_they_are, problems=20_000, gap=1.0, budget=2.0)
    assert rate.solved == 1 and rate.total_seconds == pytest.approx(0.5 + 100 * 20_000)


def test_a_peer_that_misses_the_gap():
    rate = measure.measure_rate(FakeWorker(settings=4), as_they_are, problems=100, gap=1e-6, budget=1.0)
    assert rate.status == measure.MISSED and rate.worst_gap == 1e-3 and math.isnan(rate.total_seconds)
    assert "tightest" in rate.reason
    late = measure.measure_rate(FakeWorker(settings=7, hard={50: 1}), as_they_are, problems=100, gap=1e-6, budget=1.0)
    assert late.status == measure.MISSED and late.worst_gap == 1e-5 and math.isnan(late.total_seconds)
    latency = measure.measure_latency(FakeWorker(settings=4), as_they_are, calls=40, gap=1e-6, budget=1.0)
    assert latency.status == measure.MISSED and latency.worst_gap == 1e-3


def test_no_gap_is_no_result():
    rate = measure.measure_rate(FakeWorker(), lambda codes: np.full(len(codes), np.nan), 10, gap=1e-6, budget=1.0)
    assert rate.status == measure.MISSED


def test_a_slower_way_is_left():
    worker = FakeWorker()
    rate = measure.measure_rate(worker, as_they_are, problems=1000, gap=1e-6, budget=10.0, rival_seconds=0.7)
    assert rate.status == measure.SLOWER and worker.asked[-1] == (worker.first, 6)
    rate = measure.measure_rate(worker, as_they_are, problems=1000, gap=1e-6, budget=10.0, rival_seconds=0.8)
    assert rate.status == measure.REACHED


def test_latency():
    worker = FakeWorker(hard={30: 1})
    latency = measure.measure_latency(worker, as_they_are, calls=100, gap=1e-6, budget=1.0)
    assert latency.status == measure.REACHED and latency.setting == "setting 7" and latency.calls == 100
    assert latency.median_seconds == pytest.approx(5.5e-3) and latency.p99_seconds == pytest.approx(10e-3)


# The worker's side


class Identity(base.InProcess):
    """Solves D = I, and sleeps before each chunk."""

    chunk = 8
    sleeps = 0.0

    def make_settings(self, gap):
        return [("exact", 0.0)]

    def prepare(self, D):
        self.D = D

    def solve(self, X, setting, deadline):
        base.time.sleep(self.sleeps)
        return soft_threshold(X, 1.0)


@pytest.fixture
def identity(folder, monkeypatch):
    """(X, lambdas, a function that makes the peer for a number of threads) in a worker's folder."""
    stub = types.ModuleType("threadpoolctl")
    stub.threadpool_limits, stub.threadpool_info = (lambda threads: None), (lambda: [])
    monkeypatch.setitem(sys.modules, "threadpoolctl", stub)
    monkeypatch.chdir(folder)
    X = np.random.default_rng(0).standard_normal((100, 5)).astype(np.float32)
    lambdas = 0.3 * np.abs(X).max(1).astype(np.float64)
    np.save("D.npy", np.eye(5, dtype=np.float32))
    np.save("X.npy", X)
    np.save("lambdas.npy", lambdas)

    made = []

    def make(threads):
        made.append(Identity({"variant": "", "threads": threads, "device": "cpu", "gap": 1e-6}))
        assert made[-1].set_up() >= 0
        return made[-1]

    yield X, lambdas, make
    for peer in made:
        if peer.pool:
            peer.pool.terminate()
            peer.pool.join()


@pytest.mark.parametrize("threads", [1, 2])
def test_problems_in_order(identity, threads):
    X, lambdas, make = identity
    peer = make(threads)
    seconds, codes = peer.attempt("lambdas.npy", 100, 0.0, limit=60)
    expected = soft_threshold(X.astype(float), lambdas[:, None])
    assert codes.shape == (100, 5) and np.abs(codes.toarray() - expected).max() <= 10 * EPS * np.abs(X).max()
    assert (Judge(np.eye(5)).relative_gaps(X, lambdas, codes) <= 100 * EPS).all()
    seconds, codes = peer.one_by_one("lambdas.npy", 30, 0.0, limit=60)
    assert len(seconds) == 30 and np.abs(codes.toarray() - expected[:30]).max() <= 10 * EPS * np.abs(X).max()


@pytest.mark.parametrize("threads", [1, 2])
def test_time_is_up(identity, threads):
    X, lambdas, make = identity
    peer = make(threads)
    peer.sleeps = 0.05
    seconds, codes = peer.attempt("lambdas.npy", 100, 0.0, limit=0.1)
    assert 1 <= codes.shape[0] < 100 and seconds >= 0.1
    assert (Judge(np.eye(5)).relative_gaps(X[: codes.shape[0]], lambdas[: codes.shape[0]], codes) <= 100 * EPS).all()


def test_package_that_is_missing():
    with pytest.raises(cases.Missing, match="no_such_package is not installed"):
        base.import_or_missing("no_such_package")


def test_worker_that_dies(folder):
    with pytest.raises(workers.Failed, match="KeyError: 'nobody'"):
        workers.Worker({"peer": "nobody"}, 1, folder, budget=1)


def test_environment(monkeypatch):
    for name in workers.PINNED:
        monkeypatch.setenv(name, "Haswell")
    found = workers.environment(3)
    assert not set(workers.PINNED) & set(found)
    assert {found[name] for name in workers.THREAD_VARIABLES} == {"3"}


def test_solvers_of_the_program():
    assert "fista" in shrinkwarp_program.solver_names(str(PATH))


# The report


def line(peer, status=measure.REACHED, problems=1000, rate=None, median=None, **more):
    fields = {"schema": main.SCHEMA, "cpu": "a processor", "openblas": "Zen", "commit": "abc",
              "command": "run --case medium", "case": "medium", "origin": "recording", "rows": 302,
              "atoms": 6138, "problems": problems, "threads": 1,
              "lambda_rule": "0.5 lambda_max", "peer": peer, "ours": adapters.is_ours(peer), "stops": "each by itself",
              "variant": "", "status": status, "setting": "gap 1e-06", "setup_seconds": 0.5, "solved": problems,
              "worst_gap": 1e-6, "reason": "", "problems_per_second": rate, "problems_per_second_prepared": rate,
              "median_seconds": median, "p99_seconds": median, "calls": 500, "crowded": 0.0}
    return {**fields, **more}


def test_ratio():
    lines = [line("shrinkwarp fista", rate=30.0), line("shrinkwarp auto", rate=300.0), line("celer", rate=60.0),
             line("skglm", rate=40.0)]
    assert report.ratio(lines) == 5
    assert report.ratio(lines[:2]) is None
    lines = [line("shrinkwarp auto", problems=1, median=2e-3), line("celer", problems=1, median=1e-3)]
    assert report.ratio(lines) == 0.5


def test_one_that_missed_is_no_rival():
    lines = [line("shrinkwarp auto", rate=10.0), line("celer", rate=5.0),
             line("skglm", status=measure.MISSED, worst_gap=3e-5, reason="its tightest setting misses the gap"),
             line("glmnet", status=measure.MISSING, worst_gap=None, reason="glmnet is not installed")]
    text = report.render(lines)
    assert report.ratio(lines) == 2 and "0.5 lambda_max: 2\n" in text
    assert "skglm (gap 1e-06): gap 3.0e-05; its tightest setting misses the gap" in text
    assert "missing  glmnet (gap 1e-06): glmnet is not installed" in text


def test_crowded_figures_are_marked():
    lines = [line("shrinkwarp auto", rate=10.0, crowded=None), line("celer", rate=5.0, crowded=0.5)]
    text = report.render(lines)
    assert "celer (gap 1e-06) !\n" in text and "shrinkwarp auto (gap 1e-06)\n" in text and "waited for a processor" in text


def test_waiting_is_seen():
    waited = workers.waited_seconds()
    assert math.isnan(waited) or 0 <= waited <= workers.waited_seconds()


def test_what_the_table_owns_up_to():
    whole = [line("shrinkwarp auto", rate=10.0), line("celer", rate=5.0)]
    assert "extrapolated" not in report.render(whole) and "batch" not in report.render(whole)
    text = report.render(whole + [line("PyTorch FISTA", rate=1.0, solved=64, stops="the batch with its worst")])
    assert "extrapolated" in text and "all problems of a batch go on until its worst has the gap: PyTorch FISTA" in text


def test_ratios_come_first():
    lines = [line("shrinkwarp auto", rate=30.0), line("celer", rate=20.0)]
    text = report.render(lines)
    assert text.index("medium            0.5 lambda_max: 1.5") < text.index("medium 302 x 6138 (recording), N = 1,000")


# All together, with the program as the only one


def test_run(folder):
    output = folder / "peers.jsonl"
    command = [sys.executable, ROOT / "tools/bench/peers/run", "--case", "gaussian-64x256", "--fraction", ".9",
               "--problems", "40,1", "--threads", "1", "--peer", "", "--solver", "fista", "--budget", ".2",
               "--program", PATH, "--output", output]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    many, single = (json.loads(text) for text in output.read_text().splitlines())
    assert many["schema"] == main.SCHEMA and many["peer"] == "shrinkwarp fista" and many["ours"]
    assert many["status"] == measure.REACHED and many["solved"] == many["problems"] == 40
    assert 0 <= many["worst_gap"] <= 1e-6
    assert many["total_seconds"] == pytest.approx(many["setup_seconds"] + many["solve_seconds"])
    assert many["openblas"] and many["versions"]["shrinkwarp"]
    assert single["status"] == measure.REACHED and 1 <= single["calls"] <= main.LATENCY_CALLS
    assert 0 < single["median_seconds"] <= single["p99_seconds"] and 0 <= single["worst_gap"] <= 1e-6
    assert "ours / best peer" in done.stdout
    again = subprocess.run([sys.executable, command[1], "--report", output], capture_output=True, text=True)
    assert again.stdout == done.stdout


@pytest.mark.parametrize("options", [["--case", "huge"], ["--peer", "nobody"], ["--fraction", "0"], ["--budget", "-1"]])
def test_options_refused(options, capsys):
    with pytest.raises(SystemExit, match="2"):
        main.parse(options)
    assert options[0] in capsys.readouterr().err
