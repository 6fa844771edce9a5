"""Groups of columns: `shrinkwarp solve --group-size` against block coordinate descent and certificates of another make."""

import numpy as np
import pytest

from penalty import Penalty
from program import FAILED, USAGE, Codes, energy, one_line, put_off, run, save, solve
from test_penalty import certify, problem

KINDS = {
    "plain": dict(group=3),
    "pairs-elastic-net": dict(group=2, ridge=0.4),
    "weights": dict(group=3, weights="left-out"),
    "unpenalised": dict(group=4, weights="unpenalised"),
    "unpenalised-elastic-net": dict(group=3, weights="unpenalised", ridge=0.05),
    "halves": dict(group=-2),
    "whole": dict(group=-1),
}


def penalty(D, kind):
    chosen = dict(KINDS[kind])
    m = D.shape[1]
    if chosen["group"] < 0:
        chosen["group"] = m // -chosen["group"]
    if "weights" in chosen:
        groups = m // chosen["group"]
        w = np.exp2(np.random.default_rng(1).uniform(-2, 2, groups))
        w[::5] = np.inf
        if chosen["weights"] == "unpenalised":
            w[3] = 0
        chosen["weights"] = w
    return Penalty(D, **chosen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(20, 48, 2), (64, 24, 2)], ids=lambda shape: "x".join(map(str, shape)))
def test_agrees_with_block_coordinate_descent(folder, shape, kind):
    D, X = problem(*shape)
    wanted = penalty(D, kind)
    for solver, gap in (("working-set", 1e-9), ("fista", 1e-9), ("ista", 1e-6)):
        codes = solve(folder, D, X, "--lambda-fraction", 0.3, "--solver", solver, "--gap", gap, *wanted.options(folder))
        np.testing.assert_allclose(codes.lam, 0.3 * wanted.lambda_max(X), rtol=1e-11)
        wanted.check(codes, X, gap)
        for i in range(len(X)):
            z = wanted.descend(X[i], codes.lam[i], sweeps=500)
            least = wanted.objective(X[i : i + 1], z[None], codes.lam[i])[0]
            assert codes.objective[i] <= least + gap * energy(X[i : i + 1])[0]


@pytest.mark.parametrize("kind", ["weights", "unpenalised-elastic-net", "halves"])
def test_many_atoms(folder, kind):
    """Tiles of atoms that cut groups, and blocks of columns; a problem does not feel its neighbours."""
    D, X = problem(70, 1500, 6, seed=3)
    wanted = penalty(D, kind)
    for solver in ("working-set", "plain-working-set", "fista"):
        options = ["--lambda-fraction", 0.4, "--solver", solver, *wanted.options(folder)]
        codes = solve(folder, D, X, *options)
        np.testing.assert_allclose(codes.lam, 0.4 * wanted.lambda_max(X), rtol=1e-11)
        wanted.check(codes, X)
        alone = solve(folder, D, X[4:5], "--threads", 1, *options, output="one.npz")
        assert codes.row(4) == alone.row(0)
        report, _ = certify(folder, D, X, wanted, "--gap", 1.001e-6)
        assert report["missed"] == 0 and all(claim["contradicted"] == 0 for claim in report["claims"].values())


def test_groups_of_one_are_the_lasso(folder):
    D, X = problem(20, 50, 5)
    for solver in ("fista", "working-set"):
        plain = solve(folder, D, X, "--lambda-fraction", 0.2, "--solver", solver)
        ones = solve(folder, D, X, "--lambda-fraction", 0.2, "--solver", solver, "--group-size", 1)
        assert [plain.row(i) for i in range(5)] == [ones.row(i) for i in range(5)]


def test_orthonormal_columns_have_a_closed_form(folder):
    D = np.linalg.qr(np.random.default_rng(5).standard_normal((30, 24)))[0]
    X = np.random.default_rng(6).standard_normal((6, 30))
    codes = solve(folder, D, X, "--lambda", 0.9, "--gap", 1e-13, "--group-size", 3)
    C = (X @ D).reshape(6, 8, 3)
    norms = np.linalg.norm(C, axis=2, keepdims=True)
    Z = (np.maximum(1 - 0.9 / norms, 0) * C).reshape(6, 24)
    assert (0 < (Z != 0).sum()) and (Z == 0).any()
    np.testing.assert_allclose(codes.Z.toarray(), Z, atol=1e-6)  # 1/2 ||z - z*||^2 <= gap
    assert ((codes.Z.toarray() != 0) == (Z != 0)).all()


def test_recordings_with_free_orientation(folder):
    run("phantom", "meg", "--sensors", 60, "--sources", 100, "--samples", 30, "--free", "--dictionary", folder / "D.npy",
        "--observations", folder / "X.npy")  # fmt: skip
    D, X = np.load(folder / "D.npy"), np.load(folder / "X.npy")
    assert D.shape == (60, 300)
    wanted = Penalty(D, group=3)
    codes = solve(folder, D, X, "--lambda-fraction", 0.5, *wanted.options(folder))
    wanted.check(codes, X)
    used = codes.Z.toarray().reshape(30, 100, 3) != 0
    assert (used.all(2) == used.any(2)).all()  # a location is in use with all of its columns, or not at all


def test_paths_starts_and_debiased_amplitudes(folder):
    D, X = problem(30, 60, 5)
    wanted = penalty(D, "plain")
    files = save(folder, D, X) + ["--output", folder / "Z.npz", "--quiet", "--debias", *wanted.options(folder)]
    run("solve", *files, "--lambda-fractions", "0.6,0.3")
    for fraction in ("0.6", "0.3"):
        codes = Codes(folder / f"Z-{fraction}.npz")
        wanted.check(codes, X)
        np.testing.assert_allclose(codes.lam, float(fraction) * wanted.lambda_max(X), rtol=1e-11)
        for i in range(5):
            row = slice(codes.Z.indptr[i], codes.Z.indptr[i + 1])
            least = np.linalg.lstsq(D[:, codes.Z.indices[row]], X[i], rcond=None)[0]
            np.testing.assert_allclose(codes.arrays["debiased_data"][row], least, atol=1e-9 * max(1, np.abs(least).max(initial=0)))
    run("solve", *files, "--lambda-fraction", 0.3, "--warm-start", folder / "Z-0.3.npz")
    assert (Codes(folder / "Z.npz").arrays["iterations"] == 0).all()


def test_a_journal_knows_its_groups(folder):
    D, X = problem(20, 48, 5)
    files = save(folder, D, X) + ["--lambda", 1, "--output", folder / "Z.npz", "--quiet"]
    run("solve", *files, "--group-size", 3)
    run("solve", *files, "--group-size", 3, "--resume")
    done = run("solve", *files, "--group-size", 2, "--resume", status=FAILED)
    assert "--group-size: found 3, wanted 2" in one_line(done)
    assert "--group-size: found 3, wanted none" in one_line(run("solve", *files, "--solver", "fista", "--resume", status=FAILED))


@pytest.mark.parametrize("kind", KINDS)
def test_certify_agrees_and_finds_what_is_wrong(folder, kind):
    D, X = problem(30, 240, 9)
    wanted = penalty(D, kind)
    codes = solve(folder, D, X, "--lambda-fraction", 0.3, "--gap", 1e-9, *wanted.options(folder))
    for options in ([], ["--lambda-fraction", 0.3]):
        report, found = certify(folder, D, X, wanted, "--gap", 1.001e-9, *options)
        assert report["missed"] == 0 and report["sign_errors"] == 0 and report["worst_kkt"] <= 1e-3
        assert report["worst_rounding"] <= 1e-14
        assert all(claim["contradicted"] == 0 for claim in report["claims"].values())
    np.testing.assert_allclose(found["objective"], codes.objective, rtol=1e-12)
    np.testing.assert_allclose(found["dual_gap"], wanted.certificate(X, codes.Z, codes.lam)[1], atol=1e-13 * energy(X).max())
    codes = put_off(folder, codes)
    report, found = certify(folder, D, X, wanted, status=3)
    objective, dual_gap = wanted.certificate(X, codes.Z, codes.lam)
    np.testing.assert_allclose(found["objective"], objective, rtol=1e-12)
    np.testing.assert_allclose(found["dual_gap"], dual_gap, rtol=1e-7)
    assert report["claims"]["objective"]["contradicted"] == 9 and report["claims"]["dual_gap"]["contradicted"] > 0


def test_what_is_no_group_is_refused(folder):
    D, X = problem(20, 50, 5)
    np.save(folder / "W.npy", np.ones(50))
    codes = solve(folder, D, X, "--lambda", 1)
    assert codes.converged.all()
    files = save(folder, D, X)
    solving = ["solve", *files, "--lambda", 1, "--output", folder / "Z2.npz"]
    certifying = ["certify", folder / "Z.npz", *files]
    for command in (solving, certifying):
        done = run(*command, "--group-size", 3, status=FAILED)
        assert "has 50 atoms, wanted a multiple of the group size, 3" in one_line(done)
        done = run(*command, "--group-size", 5, "--weights", folder / "W.npy", status=FAILED)
        assert "found 50 weights, wanted one for each of 10 groups" in one_line(done)
        for bad in ("0", "-3", "1.5", "x"):
            done = run(*command, "--group-size", bad, status=USAGE)
            assert f"--group-size: found '{bad}', wanted a whole number from 1" in one_line(done)
    done = run(*solving, "--group-size", 5, "--nonnegative", status=USAGE)
    assert "--group-size: found --nonnegative, wanted codes of any sign" in one_line(done)
    done = run(*certifying, "--group-size", 5, "--nonnegative", status=FAILED)
    assert "the group size is 5, wanted 1 where codes are to be nonnegative" in one_line(done)
    assert not (folder / "Z2.npz").exists()
