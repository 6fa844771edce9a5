"""Weights, elastic nets and nonnegative codes: `shrinkwarp solve` against coordinate descent and certificates of another make."""

import json

import numpy as np
import pytest

from penalty import Penalty
from program import FAILED, USAGE, Codes, energy, one_line, put_off, run, save, solve

SOLVERS = ["working-set", "plain-working-set", "fista", "ista"]
KINDS = {
    "weights": dict(weights="spread"),
    "left-out": dict(weights="left-out"),
    "unpenalised": dict(weights="unpenalised"),
    "nonnegative": dict(nonnegative=True),
    "elastic-net": dict(ridge=0.7),
    "weights-nonnegative": dict(weights="left-out", nonnegative=True),
    "weights-elastic-net": dict(weights="left-out", ridge=0.3),
    "nonnegative-elastic-net": dict(nonnegative=True, ridge=2.0),
    "unpenalised-elastic-net": dict(weights="unpenalised", ridge=0.05),
    "everything": dict(weights="left-out", nonnegative=True, ridge=0.2),
}


def problem(n, m, N, seed=0):
    random = np.random.default_rng(seed)
    D = random.standard_normal((n, m)) / np.sqrt(n)
    Z = random.standard_normal((N, m)) * (random.random((N, m)) < min(1, 4 / m))
    return D, Z @ D.T + 0.1 * random.standard_normal((N, n))


def weights(kind, m, seed=1):
    random = np.random.default_rng(seed)
    w = np.exp2(random.uniform(-3, 3, m))
    if kind == "left-out":
        w[random.random(m) < 0.3] = np.inf
    if kind == "unpenalised":
        w[random.choice(m, max(1, min(m, 5)), replace=False)] = 0
        w[random.choice(m, m // 10, replace=False)] = np.inf
    return w


def penalty(D, kind):
    chosen = dict(KINDS[kind])
    if "weights" in chosen:
        chosen["weights"] = weights(chosen["weights"], D.shape[1])
    return Penalty(D, **chosen)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(20, 50, 7), (64, 17, 5)], ids=lambda shape: "x".join(map(str, shape)))
def test_agrees_with_coordinate_descent(folder, shape, kind, solver):
    D, X = problem(*shape)
    wanted = penalty(D, kind)
    codes = solve(folder, D, X, "--lambda-fraction", 0.2, "--solver", solver, "--gap", 1e-9, *wanted.options(folder))
    np.testing.assert_allclose(codes.lam, 0.2 * wanted.lambda_max(X), rtol=1e-11)
    wanted.check(codes, X, 1e-9)
    for i in range(len(X)):
        z = wanted.descend(X[i], codes.lam[i])
        least = wanted.objective(X[i : i + 1], z[None], codes.lam[i])[0]
        assert codes.objective[i] <= least + 1e-9 * energy(X[i : i + 1])[0]
        # The fits agree as far as the gap says: 1/2 ||D (z - z*)||^2 <= gap, here with the descent's own distance.
        distance = energy((codes.Z[[i]].toarray() - z) @ D.T)[0]
        assert distance <= codes.dual_gap[i] + 1e-9 * energy(X[i : i + 1])[0]


@pytest.mark.parametrize("solver", ["working-set", "plain-working-set", "fista"])
@pytest.mark.parametrize("kind", KINDS)
def test_many_atoms(folder, kind, solver):
    """A dictionary that is looked at in 16-bit integers, and blocks of atoms that the solvers cut it into."""
    D, X = problem(70, 1500, 12, seed=3)
    wanted = penalty(D, kind)
    codes = solve(folder, D, X, "--lambda-fraction", 0.3, "--solver", solver, *wanted.options(folder))
    np.testing.assert_allclose(codes.lam, 0.3 * wanted.lambda_max(X), rtol=1e-11)
    wanted.check(codes, X)


@pytest.mark.parametrize("kind", KINDS)
def test_both_methods_make_the_same_fits(folder, kind):
    D, X = problem(70, 1500, 6, seed=4)
    wanted = penalty(D, kind)
    fits = [
        solve(folder, D, X, "--lambda-fraction", 0.15, "--solver", solver, "--gap", 1e-12, *wanted.options(folder)).Z @ D.T
        for solver in ("working-set", "fista")
    ]
    assert (energy(fits[0] - fits[1]) <= 4e-12 * energy(X)).all()


def test_scikit_learn_makes_the_same_codes(folder):
    linear_model = pytest.importorskip("sklearn.linear_model")
    D, X = problem(50, 80, 6)
    for positive in (False, True):
        lam, ridge = 0.1, 0.3
        n = len(D)
        wanted = Penalty(D, nonnegative=positive, ridge=ridge)
        codes = solve(folder, D, X, "--lambda", lam, "--gap", 1e-12, *wanted.options(folder))
        # alpha l1_ratio = lambda / n and alpha (1 - l1_ratio) = mu / n
        model = linear_model.ElasticNet(
            alpha=(lam + ridge) / n, l1_ratio=lam / (lam + ridge), fit_intercept=False, positive=positive, tol=1e-12, max_iter=100000
        )
        for i in range(len(X)):
            z = model.fit(D, X[i]).coef_
            # Strongly convex: ridge/2 ||z - z*||^2 <= gap for either.
            assert ridge / 2 * ((codes.Z[[i]].toarray() - z) ** 2).sum() <= 4e-12 * energy(X[i : i + 1])[0] * 2


# ---------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize("solver", SOLVERS)
def test_lambda_max_is_where_codes_end(folder, solver):
    D, X = problem(20, 50, 7)
    for kind in KINDS:
        wanted = penalty(D, kind)
        kept = ~wanted.free
        at = {}
        for fraction in (1.001, 0.98):
            codes = solve(folder, D, X, "--lambda-fraction", fraction, "--solver", solver, "--gap", 1e-11, *wanted.options(folder))
            wanted.check(codes, X, 1e-11)
            at[fraction] = np.abs(codes.Z.toarray()[:, kept]).max(1)
        assert (at[1.001] == 0).all() and (at[0.98] > 0).all(), kind


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(20, 8), (8, 20)], ids=["tall", "wide"])
def test_without_any_penalised_atom_it_is_least_squares(folder, shape, solver):
    D, X = problem(*shape, 5)
    wanted = Penalty(D, weights=np.zeros(shape[1]))
    codes = solve(folder, D, X, "--lambda", 1, "--solver", solver, *wanted.options(folder))
    wanted.check(codes, X)
    Z = np.linalg.lstsq(D, X.T, rcond=None)[0].T
    np.testing.assert_allclose(codes.Z.toarray(), Z, atol=1e-11 * np.abs(Z).max())


@pytest.mark.parametrize("solver", SOLVERS)
def test_with_all_atoms_left_out_codes_are_zero(folder, solver):
    D, X = problem(20, 50, 5)
    wanted = Penalty(D, weights=np.full(50, np.inf))
    for lam in (["--lambda", 1], ["--lambda-fraction", 0.5], ["--lambda-fraction", 0.5, "--lambda-scope", "recording"]):
        codes = solve(folder, D, X, *lam, "--solver", solver, *wanted.options(folder))
        assert codes.Z.nnz == 0 and (codes.dual_gap <= 1e-13 * energy(X)).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_unpenalised_atoms_may_be_dependent(folder, solver):
    """Of dependent ones the code of least norm is taken: copies share, and the fit is that of one of them."""
    D, X = problem(20, 50, 5)
    D[:, 1] = D[:, 0]
    D[:, 2] = 0
    D[:, 4] = D[:, 0] + D[:, 3]
    w = np.ones(50)
    w[:5] = 0
    wanted = Penalty(D, weights=w)
    codes = solve(folder, D, X, "--lambda-fraction", 0.3, "--solver", solver, "--gap", 1e-10, *wanted.options(folder))
    wanted.check(codes, X, 1e-10)
    Z = codes.Z.toarray()
    assert (Z[:, 2] == 0).all()
    np.testing.assert_allclose(Z[:, 0], Z[:, 1], atol=1e-10 * np.abs(Z).max())
    rest = X - Z[:, 5:] @ D[:, 5:].T
    least = np.linalg.lstsq(D[:, :5], rest.T, rcond=1e-12)[0].T
    np.testing.assert_allclose(Z[:, :5], least, atol=1e-9 * np.abs(Z).max())


@pytest.mark.parametrize("solver", SOLVERS)
def test_observations_that_unpenalised_atoms_explain(folder, solver):
    D, X = problem(20, 50, 5)
    w = np.ones(50)
    w[:4] = 0
    X[:3] = np.random.default_rng(2).standard_normal((3, 4)) @ D[:, :4].T
    X[3] = 0
    wanted = Penalty(D, weights=w)
    codes = solve(folder, D, X, "--lambda-fraction", 0.3, "--solver", solver, *wanted.options(folder))
    wanted.check(codes, X)
    assert (codes.Z.toarray()[:4, 4:] == 0).all()
    assert codes.Z[[3]].nnz == 0


@pytest.mark.parametrize("solver", SOLVERS)
def test_nonnegative_codes_of_observations_that_no_atom_points_to(folder, solver):
    random = np.random.default_rng(0)
    D = np.abs(random.standard_normal((20, 700)))
    X = -np.abs(random.standard_normal((5, 20)))
    wanted = Penalty(D, nonnegative=True)
    for lam in (["--lambda", 0.01], ["--lambda-fraction", 0.5]):
        codes = solve(folder, D, X, *lam, "--solver", solver, *wanted.options(folder))
        assert codes.Z.nnz == 0
        wanted.check(codes, X, 1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("ridge", [1e-12, 1e3, 1e9, 1e20])
def test_ridges_of_any_size(folder, solver, ridge):
    D, X = problem(20, 50, 5)
    wanted = Penalty(D, ridge=ridge)
    codes = solve(folder, D, X, "--lambda-fraction", 0.1, "--solver", solver, *wanted.options(folder))
    wanted.check(codes, X)
    if ridge >= 1e9:  # D'D is nothing beside it: z_j = st(d_j'x, lambda) / ridge
        C = X @ D
        Z = np.sign(C) * np.maximum(np.abs(C) - codes.lam[:, None], 0) / ridge
        slack = np.sqrt(2 * codes.dual_gap / ridge)  # ridge/2 ||z - z*||^2 <= gap
        assert (np.linalg.norm(codes.Z.toarray() - Z, axis=1) <= slack + 2e-8 * np.linalg.norm(Z, axis=1)).all()


def test_no_penalty_to_speak_of_is_the_lasso(folder):
    D, X = problem(20, 50, 5)
    plain = solve(folder, D, X, "--lambda-fraction", 0.2)
    again = solve(folder, D, X, "--lambda-fraction", 0.2, "--elastic-net", 0)
    assert [plain.row(i) for i in range(5)] == [again.row(i) for i in range(5)]
    np.save(folder / "W.npy", np.ones(50))
    for solver in SOLVERS:
        plain = solve(folder, D, X, "--lambda-fraction", 0.2, "--solver", solver)
        ones = solve(folder, D, X, "--lambda-fraction", 0.2, "--solver", solver, "--weights", folder / "W.npy")
        np.testing.assert_allclose(ones.objective, plain.objective, rtol=2e-6)


def test_weights_are_atoms_in_other_units(folder):
    """Atoms divided by their weights, and codes multiplied: the same Lasso."""
    D, X = problem(30, 600, 5)
    w = np.exp2(np.random.default_rng(3).integers(-4, 5, 600))
    weighted = solve(folder, D, X, "--lambda-fraction", 0.2, "--gap", 1e-12, *Penalty(D, weights=w).options(folder))
    scaled = solve(folder, D / w, X, "--lambda-fraction", 0.2, "--gap", 1e-12)
    np.testing.assert_allclose(weighted.lam, scaled.lam, rtol=1e-13)
    np.testing.assert_allclose(weighted.objective, scaled.objective, rtol=1e-11)


@pytest.mark.parametrize("solver", ["working-set", "plain-working-set", "fista"])
@pytest.mark.parametrize("unit", [1e-17, 1e17])
def test_units_of_weights_do_not_matter(folder, solver, unit):
    D, X = problem(30, 600, 5)
    w = weights("left-out", 600)
    one = solve(folder, D, X, "--lambda-fraction", 0.2, "--solver", solver, *Penalty(D, weights=w).options(folder))
    other = Penalty(D, weights=w * unit)
    codes = solve(folder, D, X, "--lambda-fraction", 0.2, "--solver", solver, *other.options(folder))
    other.check(codes, X)
    np.testing.assert_allclose(codes.lam * unit, one.lam, rtol=1e-12)


def test_units_of_weights_cost_no_passes(folder):
    """Powers of two change no digit: neither codes nor what it takes to find them."""
    D, X = problem(64, 1200, 60)
    found = []
    for unit in (1.0, 2.0**-7, 2.0**20):
        np.save(folder / "W.npy", np.full(1200, unit))
        options = ["--lambda-fraction", 0.1, "--weights", folder / "W.npy", "--solver", "working-set", "--json"]
        said = json.loads(run("solve", *save(folder, D, X), "--output", folder / "Z.npz", *options, status=0).stdout)
        found.append((said["iterations"], Codes(folder / "Z.npz").Z.data.tobytes()))
        (folder / "Z.npz").unlink()
    assert found[1] == found[0] and found[2] == found[0]


@pytest.mark.parametrize("kind", ["everything", "unpenalised-elastic-net"])
def test_bits_do_not_depend_on_neighbours(folder, kind):
    D, X = problem(70, 1500, 9, seed=3)
    options = ["--lambda-fraction", 0.3, "--threads", 2, *penalty(D, kind).options(folder)]
    together = solve(folder, D, X, *options)
    alone = solve(folder, D, X[4:5], *options, output="one.npz")
    assert together.row(4) == alone.row(0)


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "values, says",
    [
        (np.ones(49), "found 49 weights, wanted one for each of 50 atoms"),
        (np.r_[np.ones(7), -1, np.ones(42)], "the weight of atom 7 is -1, wanted 0, infinity or a number from"),
        (np.r_[np.ones(7), np.nan, np.ones(42)], "the weight of atom 7 is "),
        (np.r_[np.ones(7), -np.inf, np.ones(42)], "the weight of atom 7 is -inf, wanted"),
        (np.r_[np.ones(7), 1e-19, np.ones(42)], "the weight of atom 7 is 1e-19, wanted"),
        (np.ones((50, 1)), "W.npy"),
        (np.zeros(0), "found no weights, wanted one for each atom"),
    ],
)
def test_bad_weights_are_refused(folder, values, says):
    D, X = problem(20, 50, 5)
    np.save(folder / "W.npy", values)
    done = run("solve", *save(folder, D, X), "--lambda", 1, "--output", folder / "Z.npz", "--weights", folder / "W.npy", status=FAILED)
    assert says in one_line(done)
    assert not (folder / "Z.npz").exists() and not (folder / "Z.npz.journal").exists()


def test_what_does_not_go_together_is_refused(folder):
    D, X = problem(20, 50, 5)
    np.save(folder / "W.npy", np.r_[np.ones(7), 0, np.ones(42)])
    files = save(folder, D, X) + ["--lambda", 1, "--output", folder / "Z.npz"]
    done = run("solve", *files, "--weights", folder / "W.npy", "--nonnegative", status=FAILED)
    assert "the weight of atom 7 is 0, wanted > 0 where codes are to be nonnegative" in one_line(done)
    for bad in ("-1", "nan", "x"):
        run("solve", *files, "--elastic-net", bad, status=USAGE)
    assert "the ridge is 1e+200, wanted at most" in one_line(run("solve", *files, "--elastic-net", "1e200", status=FAILED))
    done = run("solve", *files, "--weights", folder / "Z.npz", status=USAGE)
    assert "--weights" in one_line(done)


@pytest.mark.parametrize("kind", ["weights", "nonnegative", "elastic-net", "unpenalised"])
def test_a_journal_knows_its_penalty(folder, kind):
    D, X = problem(20, 50, 5)
    wanted = penalty(D, kind)
    files = save(folder, D, X) + ["--lambda", 1, "--output", folder / "Z.npz", "--quiet"]
    run("solve", *files, *wanted.options(folder))
    run("solve", *files, "--resume", *wanted.options(folder), status=0)
    done = run("solve", *files, "--resume", status=FAILED)
    named = {"weights": "values of --weights", "nonnegative": "--nonnegative", "elastic-net": "--elastic-net"}
    assert f"{named.get(kind, 'values of --weights')}: found" in one_line(done) and "wanted none" in one_line(done)


def test_a_small_memory_limit_is_kept_or_refused(folder):
    D, X = problem(60, 900, 40)
    wanted = penalty(D, "unpenalised")
    files = save(folder, D, X) + ["--lambda-fraction", 0.3, "--output", folder / "Z.npz", "--json", "--threads", 1]
    done = run("solve", *files, *wanted.options(folder), "--memory-limit", "1MiB", status=FAILED)
    least = int(one_line(done).split("wanted at least ")[1].split()[0])
    plain = int(one_line(run("solve", *files, "--memory-limit", "1MiB", status=FAILED)).split("wanted at least ")[1].split()[0])
    assert least >= plain + 44 * D.size  # another dictionary
    done = run("solve", *files, *wanted.options(folder), "--memory-limit", str(least))
    assert json.loads(done.stdout)["converged"] == 40
    wanted.check(Codes(folder / "Z.npz"), X)


# ---------------------------------------------------------------------------------------------------- shrinkwarp certify


def certify(folder, D, X, wanted, *options, status=0):
    output = folder / "C.npz"
    files = save(folder, D, X) + ["--output", output, "--json"]
    done = run("certify", folder / "Z.npz", *files, *wanted.options(folder), *options, status=status)
    with np.load(output) as arrays:
        return json.loads(done.stdout), {name: arrays[name] for name in arrays.files}


@pytest.mark.parametrize("kind", KINDS)
def test_certify_agrees(folder, kind):
    D, X = problem(30, 200, 20)
    wanted = penalty(D, kind)
    codes = solve(folder, D, X, "--lambda-fraction", 0.2, "--gap", 1e-9, *wanted.options(folder))
    for options in ([], ["--lambda-fraction", 0.2]):
        report, found = certify(folder, D, X, wanted, "--gap", 1.001e-9, *options)
        assert report["missed"] == 0 and report["worst_gap"] <= 1.001e-9 and report["sign_errors"] == 0
        assert all(claim["contradicted"] == 0 for claim in report["claims"].values())
        assert report["worst_rounding"] <= 1e-14
        assert report["worst_kkt"] <= 1e-3
    np.testing.assert_allclose(found["objective"], codes.objective, rtol=1e-12)
    np.testing.assert_allclose(found["dual_gap"], wanted.certificate(X, codes.Z, codes.lam)[1], atol=1e-13 * energy(X).max())


@pytest.mark.parametrize("kind", KINDS)
def test_certify_finds_what_is_wrong(folder, kind):
    """A code that is a little off has the gap that the formulas say, and the objective that the file claims is not its own."""
    D, X = problem(30, 200, 20)
    wanted = penalty(D, kind)
    codes = solve(folder, D, X, "--lambda-fraction", 0.2, *wanted.options(folder))
    codes = put_off(folder, codes)
    report, found = certify(folder, D, X, wanted, status=3)
    objective, dual_gap = wanted.certificate(X, codes.Z, codes.lam)
    np.testing.assert_allclose(found["objective"], objective, rtol=1e-12)
    np.testing.assert_allclose(found["dual_gap"], dual_gap, rtol=1e-7)
    assert report["missed"] == (dual_gap > 1e-6 * energy(X)).sum()
    assert report["claims"]["objective"]["contradicted"] == 20 and report["claims"]["dual_gap"]["contradicted"] > 0


def test_certify_refuses_codes_that_the_penalty_forbids(folder):
    D, X = problem(20, 50, 5)
    codes = solve(folder, D, X, "--lambda-fraction", 0.1)
    row, atom = np.argwhere(codes.Z.toarray() < 0)[0]
    files = save(folder, D, X)
    done = run("certify", folder / "Z.npz", *files, "--nonnegative", status=FAILED)
    assert f"code {row} has" in one_line(done) and f"at atom {atom}, wanted numbers >= 0" in one_line(done)
    w = np.ones(50)
    w[atom] = np.inf
    np.save(folder / "W.npy", w)
    done = run("certify", folder / "Z.npz", *files, "--weights", folder / "W.npy", status=FAILED)
    assert "wanted 0 where the weight is infinite" in one_line(done)


def test_certify_tells_copies_of_unpenalised_atoms_from_dependent_ones(folder):
    D, X = problem(20, 50, 5)
    D[:, 1] = D[:, 0]
    D[:, 2] = 0
    w = np.ones(50)
    w[:4] = 0
    wanted = Penalty(D, weights=w)
    solve(folder, D, X, "--lambda-fraction", 0.3, "--gap", 1e-10, *wanted.options(folder))
    report, _ = certify(folder, D, X, wanted, "--gap", 1.001e-10)
    assert report["missed"] == 0
    D[:, 1] = 2 * D[:, 0]
    done = run("certify", folder / "Z.npz", *save(folder, D, X), *wanted.options(folder), status=FAILED)
    assert "atom 1 depends on the other atoms of weight 0" in one_line(done)
