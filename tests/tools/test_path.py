"""Lambdas on the exact path and lambda = 0: `shrinkwarp solve` against NumPy and an l1 path of another make."""

import json

import numpy as np
import pytest

from program import DONE, FAILED, UNCONVERGED, USAGE, Codes, one_line, run, save, solve


def problem(n, m, N, seed=0):
    random = np.random.default_rng(seed)
    D = random.standard_normal((n, m)) / np.sqrt(n)
    Z = random.standard_normal((N, m)) * (random.random((N, m)) < min(1, 4 / m))
    return D, Z @ D.T + 0.1 * random.standard_normal((N, n))


def kkt_miss(D, x, z, lam):
    """How far z is from the minimiser for lam, beside ||D'x||_inf."""
    c = D.T @ (x - D @ z)
    used = z != 0
    off = np.abs(c[used] - lam * np.sign(z[used])).max(initial=0)
    return max(off, (np.abs(c[~used]) - lam).max(initial=0)) / np.abs(D.T @ x).max()


RULES = [("--l1-radius", 0.5), ("--residual-norm", 0.9), ("--max-nonzeros", 5)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(20, 50, 40), (64, 17, 5), (80, 1200, 6)], ids=lambda shape: "x".join(map(str, shape)))
def test_each_rule_says_what_it_does(folder, shape, threads):
    D, X = problem(*shape)
    for option, value in RULES:
        codes = solve(folder, D, X, option, value, "--gap", 1e-9, "--threads", threads)
        Z = codes.Z.toarray()
        assert codes.converged.all()
        if option == "--l1-radius":
            np.testing.assert_allclose(np.abs(Z).sum(1), value, rtol=1e-12)
            np.testing.assert_allclose(codes.objective, 0.5 * ((X - Z @ D.T) ** 2).sum(1), rtol=1e-12)
        elif option == "--residual-norm":
            norms = np.linalg.norm(X, axis=1)
            np.testing.assert_allclose(np.linalg.norm(X - Z @ D.T, axis=1), np.minimum(value, norms), rtol=1e-11)
        else:
            np.testing.assert_array_equal(np.diff(codes.Z.indptr), value)
        for x, z, lam in zip(X, Z, codes.lam):
            assert kkt_miss(D, x, z, lam) < 1e-12


def test_fewest_nonzeros_of_the_true_path(folder):
    """scikit-learn is no dependency, so the path is walked here by coordinate descent on a fine grid."""
    D, X = problem(12, 30, 3)
    codes = solve(folder, D, X, "--max-nonzeros", 4, "--gap", 1e-9)
    for i, x in enumerate(X):
        z = np.zeros(30)
        squares = (D**2).sum(0)
        for lam in np.geomspace(np.abs(D.T @ x).max(), codes.lam[i] * 1.0001, 60):
            for _ in range(3000):
                before = z.copy()
                for j in range(30):
                    rho = D[:, j] @ (x - D @ z) + squares[j] * z[j]
                    z[j] = np.sign(rho) * max(abs(rho) - lam, 0) / squares[j]
                if np.abs(z - before).max() < 1e-13:
                    break
            assert np.count_nonzero(np.abs(z) > 1e-10) <= 4


def test_lambda_zero_is_the_minimum_norm_solution(folder):
    for shape in [(6, 20, 4), (20, 6, 4)]:
        D, X = problem(*shape)
        codes = solve(folder, D, X, "--lambda", 0)
        assert codes.converged.all() and not codes.lam.any()
        np.testing.assert_allclose(codes.Z.toarray(), X @ np.linalg.pinv(D).T, atol=1e-12)
    D, X = problem(6, 20, 4)
    lambdas = np.array([0.1, 0, 0.2, 0])
    np.save(folder / "L.npy", lambdas)
    codes = solve(folder, D, X, "--lambda-file", folder / "L.npy", "--elastic-net", 0.3)
    np.testing.assert_array_equal(codes.lam, lambdas)
    ridge = np.linalg.solve(D.T @ D + 0.3 * np.eye(20), D.T @ X[1])
    np.testing.assert_allclose(codes.Z[[1]].toarray()[0], ridge, atol=1e-12)


def test_the_lambda_that_is_stored_gives_the_code_to_others(folder):
    D, X = problem(20, 50, 8)
    found = solve(folder, D, X, "--residual-norm", 0.5)
    np.save(folder / "L.npy", found.lam)
    again = solve(folder, D, X, "--lambda-file", folder / "L.npy", "--solver", "fista", "--gap", 1e-12)
    np.testing.assert_allclose(again.Z.toarray(), found.Z.toarray(), atol=1e-5)


def certified(folder, *options, status=DONE):
    done = run("certify", folder / "Z.npz", "--dictionary", folder / "D.npy", "--observations", folder / "X.npy",
               "--json", *options, status=status)
    return json.loads(done.stdout)


def test_certified_by_other_code(folder):
    D, X = problem(20, 50, 12)
    w = np.random.default_rng(3).uniform(0.5, 2, 50)
    np.save(folder / "W.npy", w)
    for options in ([], ["--nonnegative"], ["--weights", folder / "W.npy"]):
        for rule, value in RULES:
            solve(folder, D, X, rule, value, "--gap", 1e-9, *options)
            told = certified(folder, "--gap", 1e-9, *options, *([rule, value] if rule == "--l1-radius" else []))
            assert told["missed"] == 0 and told["worst_kkt"] < 1e-12
            assert all(claim["contradicted"] == 0 for claim in told["claims"].values())
    solve(folder, D, X, "--l1-radius", 0.5)
    assert certified(folder)["claims"]["objective"]["contradicted"] == 12  # not the Lasso's objective
    files = [folder / "Z.npz", "--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]
    assert "was solved with --l1-radius, without which" in run("certify", *files, status=DONE).stderr
    assert not run("certify", *files, "--l1-radius", 0.5, status=DONE).stderr
    done = run("certify", *files, "--l1-radius", 0.4, status=FAILED)
    assert "wanted at most the radius of 0.4" in one_line(done)


def test_lambda_zero_is_certified(folder):
    for shape, options in [((6, 20, 4), []), ((20, 6, 4), []), ((6, 20, 4), ["--elastic-net", 0.3])]:
        D, X = problem(*shape)
        X[2] = 0
        solve(folder, D, X, "--lambda", 0, "--gap", 1e-9, *options)
        told = certified(folder, "--gap", 1e-9, *options)
        assert told["missed"] == 0
        assert all(claim["contradicted"] == 0 for claim in told["claims"].values())
        assert certified(folder, "--gap", 1e-9, "--lambda", 0, *options)["missed"] == 0
    D, X = problem(20, 6, 4)
    D[:, 3] = D[:, 0] + D[:, 1]  # dependent, and not all of x
    solve(folder, D, X, "--lambda", 0)
    assert certified(folder, status=UNCONVERGED)["missed"] == 4


def test_penalties_resume_and_debias_go_with_them(folder):
    D, X = problem(20, 50, 8)
    w = np.random.default_rng(3).uniform(0.5, 2, 50)
    w[7] = np.inf
    np.save(folder / "W.npy", w)
    codes = solve(folder, D, X, "--max-nonzeros", 3, "--weights", folder / "W.npy", "--nonnegative")
    assert (np.diff(codes.Z.indptr) <= 3).all() and codes.Z.data.min() > 0 and not codes.Z[:, 7].nnz
    codes = solve(folder, D, X, "--residual-norm", 0.7, "--elastic-net", 0.2, "--debias")
    assert len(codes.arrays["debiased_data"]) == codes.Z.nnz
    options = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy", "--output", folder / "Z.npz"]
    done = run("solve", *options, "--residual-norm", 0.7, "--elastic-net", 0.2, "--debias", "--resume", status=DONE)
    assert "nothing to resume" in done.stdout
    other = run("solve", *options, "--residual-norm", 0.8, "--elastic-net", 0.2, "--debias", "--resume", status=FAILED)
    assert "--residual-norm" in one_line(other)


def test_the_summary_names_the_path(folder):
    D, X = problem(20, 50, 8)
    save(folder, D, X)
    done = run("solve", "--dictionary", folder / "D.npy", "--observations", folder / "X.npy", "--max-nonzeros", 4,
               "--output", folder / "Z.npz", "--json", status=DONE)
    summary = json.loads(done.stdout)
    assert summary["converged"] == 8 and summary["nonzeros"] == 32 and summary["iterations"] >= 32
    done = run("solve", "--dictionary", folder / "D.npy", "--observations", folder / "X.npy", "--max-nonzeros", 4,
               "--max-iterations", 2, "--output", folder / "Z.npz", "--json", status=UNCONVERGED)
    assert json.loads(done.stdout)["unconverged"] == 8


def test_a_noise_level_that_no_code_has(folder):
    D, X = problem(64, 17, 5)
    save(folder, D, X)
    X[0] *= 1e-3  # this one is solved
    save(folder, D, X)
    done = run("solve", "--dictionary", folder / "D.npy", "--observations", folder / "X.npy", "--residual-norm", 0.02,
               "--output", folder / "Z.npz", status=FAILED)
    assert "the path of row 1 ends at ||x - D z|| = " in one_line(done) and "--residual-norm over that" in one_line(done)
    assert "of 5 problems are kept" in one_line(done)


@pytest.mark.parametrize(
    "options, says",
    [
        (["--l1-radius", 0], "--l1-radius"),
        (["--residual-norm", -1], "--residual-norm"),
        (["--max-nonzeros", 2.5], "--max-nonzeros"),
        (["--max-nonzeros", -1], "--max-nonzeros"),
        (["--l1-radius", 1, "--lambda", 1], "--l1-radius"),
        (["--l1-radius", 1, "--elastic-net", 1], "--l1-radius: found --elastic-net"),
        (["--l1-radius", 1, "--solver", "fista"], "--solver: found fista"),
        (["--l1-radius", 1, "--solver", "ista"], "--solver: found ista"),
        (["--l1-radius", 1, "--no-restart"], "--no-restart"),
        (["--residual-norm", 1, "--warm-start", "Z0.npz"], "--warm-start: found a lambda on the exact path"),
        (["--lambda", 0, "--nonnegative"], "--lambda: found 0 with --nonnegative"),
        (["--l1-radius", 1, "--solver", "least-squares"], "least-squares"),
    ],
)
def test_what_does_not_go_together(folder, options, says):
    D, X = problem(5, 7, 2)
    save(folder, D, X)
    done = run("solve", "--dictionary", folder / "D.npy", "--observations", folder / "X.npy", "--output",
               folder / "Z.npz", *options, status=USAGE)
    assert says in one_line(done)
