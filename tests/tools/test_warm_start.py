"""`--warm-start` and `--lambda-fractions`: solves that start from codes, with the promises of any solve."""

import json
import signal
import time

import numpy as np
import pytest
import scipy.sparse

from penalty import Penalty
from program import DONE, FAILED, USAGE, Codes, check, one_line, run, save, solve, start

SOLVERS = ["working-set", "plain-working-set", "fista", "ista"]


def problem(n, m, N, seed=0):
    random = np.random.default_rng(seed)
    D = random.standard_normal((n, m)) / np.sqrt(n)
    Z = random.standard_normal((N, m)) * (random.random((N, m)) < min(1, 4 / m))
    return D, Z @ D.T + 0.1 * random.standard_normal((N, n))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(20, 50, 9), (50, 2000, 9)], ids=["small", "large"])
def test_the_solution_is_found_from_any_code(folder, shape, solver):
    D, X = problem(*shape)
    options = ["--lambda-fraction", 0.3, "--solver", solver]
    cold = solve(folder, D, X, *options)
    starts = {
        "itself.npz": cold.Z,
        "neighbours.npz": cold.Z[np.r_[1 : len(X), 0]],
        "dense.npy": np.random.default_rng(1).standard_normal(cold.Z.shape).astype("<f4"),
        "nothing.npz": scipy.sparse.csr_matrix(cold.Z.shape),
    }
    for name, Z in starts.items():
        np.save(folder / name, Z) if name.endswith("npy") else scipy.sparse.save_npz(folder / name, Z)
        warm = solve(folder, D, X, *options, "--warm-start", folder / name, output="warm.npz")
        check(warm, D, X)
        np.testing.assert_array_equal(warm.lam, cold.lam)
        if name == "itself.npz":
            assert (warm.iterations == 0).all()
        if name == "nothing.npz":
            assert [warm.row(i) for i in range(len(X))] == [cold.row(i) for i in range(len(X))]


@pytest.mark.parametrize("solver", SOLVERS)
def test_starts_that_a_penalty_forbids(folder, solver):
    D, X = problem(20, 50, 9)
    plain = solve(folder, D, X, "--lambda-fraction", 0.1)
    w = np.ones(50)
    w[::3] = np.inf
    w[1] = 0
    for wanted in (Penalty(D, weights=w), Penalty(D, nonnegative=True, ridge=0.1)):
        warm = solve(
            folder, D, X, "--lambda-fraction", 0.2, "--solver", solver, "--warm-start", plain.path, *wanted.options(folder), output="warm.npz"
        )
        wanted.check(warm, X)


def test_a_path_is_its_solves_one_after_the_other(folder):
    D, X = problem(50, 2000, 20)
    files = save(folder, D, X)
    done = run("solve", *files, "--lambda-fractions", "0.8,0.5,.3", "--output", folder / "Z.npz", "--json", status=DONE)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    names = ["Z-0.8.npz", "Z-0.5.npz", "Z-.3.npz"]
    assert [report["output"] for report in reports] == [str(folder / name) for name in names]
    assert not (folder / "Z.npz").exists() and not list(folder.glob("*.journal"))
    before = []
    for name, fraction in zip(names, (0.8, 0.5, 0.3)):
        codes = Codes(folder / name)
        check(codes, D, X)
        alone = solve(folder, D, X, "--lambda-fraction", fraction, *before, output="alone.npz")
        assert [codes.row(i) for i in range(20)] == [alone.row(i) for i in range(20)]
        before = ["--warm-start", folder / name]
    # Once more, with nothing to do; and with one output gone, which alone is made again.
    done = run("solve", *files, "--lambda-fractions", "0.8,0.5,.3", "--output", folder / "Z.npz", "--json", "--resume", status=DONE)
    assert all(json.loads(line)["finished"] for line in done.stdout.splitlines())
    wanted = (folder / names[2]).read_bytes()
    (folder / names[2]).unlink()
    done = run("solve", *files, "--lambda-fractions", "0.8,0.5,.3", "--output", folder / "Z.npz", "--json", "--resume", status=DONE)
    assert ["finished" in json.loads(line) for line in done.stdout.splitlines()] == [True, True, False]
    assert (folder / names[2]).read_bytes() == wanted


@pytest.mark.parametrize("scope", ["sample", "recording"])
def test_a_path_costs_less_than_its_solves(folder, scope):
    D, X = problem(50, 2000, 20)
    files = save(folder, D, X) + ["--lambda-scope", scope, "--solver", "fista", "--output", folder / "Z.npz", "--json"]
    done = run("solve", *files, "--lambda-fractions", "0.5,0.4,0.3,0.2", status=DONE)
    warm = [json.loads(line)["iterations"] for line in done.stdout.splitlines()]
    cold = [json.loads(run("solve", *files, "--lambda-fraction", f, status=DONE).stdout)["iterations"] for f in (0.5, 0.4, 0.3, 0.2)]
    assert warm[0] == cold[0] and sum(warm) < sum(cold)


def test_an_interrupted_path_goes_on(folder):
    random = np.random.default_rng(5)
    D = random.standard_normal((60, 1)) + 0.3 * random.standard_normal((60, 1000))
    X = random.standard_normal((3000, 60))
    command = ["solve", *map(str, save(folder, D, X)), "--lambda-fractions", "0.5,0.05", "--gap", "1e-9", "--output", str(folder / "Z.npz"), "--quiet"]
    process = start(*command)
    journal = folder / "Z-0.05.npz.journal"
    for _ in range(6000):
        if journal.exists() and journal.stat().st_size > 4096 or process.poll() is not None:
            break
        time.sleep(0.01)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    assert process.wait() in (143, 0)
    assert (folder / "Z-0.5.npz").exists()
    run(*command, "--resume", status=DONE)
    resumed = Codes(folder / "Z-0.05.npz")
    run(*command, status=DONE)
    undisturbed = Codes(folder / "Z-0.05.npz")
    assert [resumed.row(i) for i in range(0, 3000, 97)] == [undisturbed.row(i) for i in range(0, 3000, 97)]
    assert resumed.arrays["data"].tobytes() == undisturbed.arrays["data"].tobytes()


def test_what_is_refused(folder):
    D, X = problem(20, 50, 5)
    files = save(folder, D, X) + ["--output", folder / "Z.npz"]
    scipy.sparse.save_npz(folder / "other.npz", scipy.sparse.csr_matrix((5, 49)))
    done = run("solve", *files, "--lambda", 1, "--warm-start", folder / "other.npz", status=FAILED)
    assert "found codes (5, 49), wanted (5, 50)" in one_line(done)
    run("solve", *files, "--lambda", 1, "--warm-start", folder / "Z.npz", status=USAGE)
    for fractions in ("0.5,0", "0.5,-1", "0.5,x", "0.5,0.5"):
        run("solve", *files, "--lambda-fractions", fractions, status=USAGE)
    run("solve", *files, "--lambda-fractions", "0.5", "--lambda", 1, status=USAGE)
    run("solve", *files, "--lambda", 1, "--lambda-scope", "recording", status=USAGE)
    assert not list(folder.glob("Z*"))


def test_a_journal_knows_what_a_solve_started_from(folder):
    D, X = problem(20, 50, 5)
    cold = solve(folder, D, X, "--lambda", 0.1, output="cold.npz")
    options = ["--lambda", 0.05, "--output", folder / "Z.npz", "--quiet"]
    files = save(folder, D, X)
    run("solve", *files, *options, "--warm-start", cold.path, status=DONE)
    run("solve", *files, *options, "--warm-start", cold.path, "--resume", status=DONE)
    done = run("solve", *files, *options, "--resume", status=FAILED)
    assert "values of --warm-start: found" in one_line(done)
