"""`shrinkwarp certify`: gaps of anybody's codes, against NumPy's own evaluation of the same formulas."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

from program import (
    DONE,
    EPS,
    FAILED,
    PATH,
    UNCONVERGED,
    USAGE,
    certificate,
    energy,
    lambda_max,
    one_line,
    run,
    save,
    solve,
)
from test_certified_references import SETS, Reference, name

n, m, N = 12, 30, 70

KEYS = {
    "schema",
    "codes",
    "problems",
    "rows",
    "atoms",
    "gap",
    "certified",
    "missed",
    "worst_gap",
    "median_gap",
    "gap_90",
    "gap_99",
    "worst_rounding",
    "objective",
    "nonzeros",
    "largest_support",
    "worst_excess",
    "worst_kkt",
    "sign_errors",
    "claims",
    "worst",
    "threads",
    "seconds",
}


def problem(rows=n, atoms=m, count=N, seed=0, nonzeros=5):
    """A dictionary, observations, and codes that fit them in part."""
    random = np.random.default_rng(seed)
    D = random.standard_normal((rows, atoms))
    Z = random.standard_normal((count, atoms)) * (random.random((count, atoms)) < nonzeros / atoms)
    X = 1.3 * Z @ D.T + 0.2 * random.standard_normal((count, rows))
    return D, X, Z


def save_csr(path, Z, **beside):
    """What scipy.sparse.save_npz writes, with more arrays."""
    arrays = {"data": Z.data, "indices": Z.indices, "indptr": Z.indptr, "shape": np.array(Z.shape), "format": b"csr"}
    np.savez(path, **{**arrays, **beside})


class Found:
    """One run: what it says in JSON, and the numbers of each problem."""

    def __init__(self, folder, codes, files, *options, status=None):
        output = folder / "found.npz"
        self.done = run("certify", codes, *files, "--json", "--output", output, *options)
        if status is not None:
            assert self.done.returncode == status, self.done.stderr
        assert self.done.returncode in (DONE, UNCONVERGED), self.done.stderr
        self.said = json.loads(self.done.stdout)
        with np.load(output) as arrays:
            for key in arrays.files:
                setattr(self, "lam" if key == "lambda" else key, arrays[key])
        output.unlink()
        assert self.done.returncode == (DONE if self.said["missed"] == 0 else UNCONVERGED)


def tolerance(D, X, Z, lam):
    """What float64 may lose of objective and gap: some eps a term of the largest numbers that they are made of. The
    scale s <= lambda / ||D'r||_inf carries the relative error of its denominator."""
    D, X = np.asarray(D, float), np.asarray(X, float)
    norms = np.sqrt((D * D).sum(0))
    terms = np.sqrt((X * X).sum(1)) + np.abs(Z) @ norms
    C = np.abs((X - Z @ D.T) @ D).max(1)
    magnified = 1 + norms.max() * terms / np.maximum(C, 1e-300)
    return 8 * sum(D.shape) * EPS * magnified * (terms**2 + lam * np.abs(Z).sum(1))


def agree(found, D, X, Z, lam):
    lam = np.broadcast_to(lam, len(X))
    objective, gap = certificate(D, X, Z, lam)
    slack = tolerance(D, X, Z, lam)
    assert (found.lam == lam).all()
    assert (np.abs(found.objective - objective) <= slack).all()
    assert (np.abs(found.dual_gap - gap) <= slack).all()
    assert (found.dual_gap >= 0).all() and (found.rounding <= slack).all() and (found.rounding >= 0).all()
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(energy(X) > 0, found.dual_gap / energy(X), np.where(found.dual_gap > 0, np.inf, 0))
    assert np.allclose(found.relative_gap, relative, rtol=1e-12, atol=1e-300)
    assert (found.nonzeros == (Z != 0).sum(1)).all()

    # Optimality conditions.
    C = (np.asarray(X, float) - Z @ np.asarray(D, float).T) @ D
    off = np.maximum(np.abs(C) - lam[:, None], 0)
    violation = np.where(Z == 0, off, np.abs(C - lam[:, None] * np.sign(Z))).max(1) / lam
    near = 1e-12 * (1 + np.abs(C).max(1) / lam)
    assert (np.abs(found.correlation_excess - off.max(1) / lam) <= near).all()
    assert (np.abs(found.kkt_violation - violation) <= near).all()
    assert (found.sign_errors == ((C * np.sign(Z)) < 0).sum(1)).all()


# ------------------------------------------------------------------------------------------------------------- formats

CSR = {
    "plain": lambda Z: Z,
    "int64 indices": lambda Z: with_index_type(Z, np.int64),
    "float32": lambda Z: Z.astype(np.float32),
    "csr_array": lambda Z: scipy.sparse.csr_array(Z),
    "stored zeros": lambda Z: with_stored_zeros(Z),
    "reversed rows": lambda Z: reversed_rows(Z),
    "duplicates": lambda Z: duplicated(Z),
    "duplicates of float32": lambda Z: duplicated(Z.astype(np.float32)),
    "unused room": lambda Z: with_unused_room(Z),
}


def with_index_type(Z, dtype):
    Z = Z.copy()
    Z.indices, Z.indptr = Z.indices.astype(dtype), Z.indptr.astype(dtype)
    return Z


def with_stored_zeros(Z):
    Z = Z.copy()
    Z.data[::3] = 0
    return Z


def reversed_rows(Z):
    Z = Z.copy()
    for a, b in zip(Z.indptr, Z.indptr[1:]):
        Z.indices[a:b] = Z.indices[a:b][::-1]
        Z.data[a:b] = Z.data[a:b][::-1]
    return Z


def duplicated(Z):
    """Each entry stands three times, as parts that add up to it but for rounding, out of order; some add up to zero."""
    data, indices = [], []
    for a, b in zip(Z.indptr, Z.indptr[1:]):
        parts = np.concatenate([Z.data[a:b] / 3, -Z.data[a:b], Z.data[a:b] / 7])
        parts[::5] = 0
        places = np.tile(Z.indices[a:b], 3)
        order = np.random.default_rng(a).permutation(len(places))
        data.append(parts[order].astype(Z.dtype))
        indices.append(places[order])
    return scipy.sparse.csr_matrix((np.concatenate(data), np.concatenate(indices), 3 * Z.indptr), Z.shape)


def with_unused_room(Z):
    """scipy allows entries past the last row's end."""
    Z = Z.copy()
    Z.data, Z.indices = np.append(Z.data, [np.nan, 5]), np.append(Z.indices, [99999, -1]).astype(np.int32)
    return Z


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("form", CSR)
def test_scipy(folder, form, compressed):
    D, X, Z = problem()
    Z = CSR[form](scipy.sparse.csr_matrix(Z))
    if form == "unused room":
        save_csr(folder / "Z.npz", Z)
        Z.data, Z.indices = Z.data[:-2], Z.indices[:-2]
    else:
        scipy.sparse.save_npz(folder / "Z.npz", Z, compressed=compressed)
    found = Found(folder, folder / "Z.npz", save(folder, D, X), "--lambda", 0.7)
    agree(found, D, X, Z.toarray().astype(float), 0.7)
    assert set(found.said["claims"].values()) == {None}


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_dense(folder, dtype, order):
    D, X, Z = (np.asarray(array, dtype, order=order) for array in problem())
    np.save(folder / "Z.npy", Z)
    found = Found(folder, folder / "Z.npy", save(folder, D, X), "--lambda", 0.7)
    agree(found, D, X, Z.astype(float), 0.7)


@pytest.mark.parametrize(
    "rows, atoms, count", [(1, 1, 1), (1, 9, 5), (9, 1, 5), (64, 17, 3), (43, 597, 33), (5, 1030, 600)]
)
def test_shapes(folder, rows, atoms, count):
    D, X, Z = problem(rows, atoms, count)
    scipy.sparse.save_npz(folder / "Z.npz", scipy.sparse.csr_matrix(Z))
    agree(Found(folder, folder / "Z.npz", save(folder, D, X), "--lambda", 2), D, X, Z, 2)


def test_any_name_and_the_working_folder(folder):
    D, X, Z = problem()
    save(folder, D, X)
    with open(folder / "codes", "wb") as file:
        np.save(file, Z)
    done = run("certify", "codes", "--dictionary", "D.npy", "--observations", "X.npy", "--lambda", 1, cwd=folder)
    assert done.returncode == UNCONVERGED and "12 x 30" in done.stdout


# --------------------------------------------------------------------------------------------------------- certificates


@pytest.mark.parametrize(
    "options", [["--lambda-fraction", 0.3], ["--lambda-fraction", 0.2, "--solver", "ista"]], ids=str
)
def test_our_own_results(folder, options):
    D, X, _ = problem()
    codes = solve(folder, D, X, *options)
    found = Found(
        folder, folder / "Z.npz", ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"], status=DONE
    )
    agree(found, D, X, codes.Z.toarray(), codes.lam)
    assert found.said["claims"] == {
        key: {"contradicted": 0, "first": None, "worst": 0} for key in ("lambda", "objective", "dual_gap", "converged")
    }
    # Both add an allowance for rounding; that of the solver is the larger one.
    assert (found.dual_gap <= codes.dual_gap * (1 + 1e-12) + 1e-14 * energy(X)).all()
    assert found.done.stderr == ""


def test_our_own_results_that_missed(folder):
    D, X, _ = problem()
    codes = solve(folder, D, X, "--lambda-fraction", 0.1, "--solver", "fista", "--max-iterations", 30, status=UNCONVERGED)
    files = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]
    found = Found(folder, folder / "Z.npz", files, status=UNCONVERGED)
    agree(found, D, X, codes.Z.toarray(), codes.lam)
    assert found.said["missed"] == (~codes.converged).sum() > 0
    assert f"{found.said['missed']} of 70 problems missed the gap of 1e-06" in one_line(found.done)
    assert all(claim["contradicted"] == 0 for claim in found.said["claims"].values())


@pytest.mark.data
@pytest.mark.parametrize("which", SETS, ids=name)
def test_references(recordings, folder, which):
    reference = Reference(recordings, *which)
    Z = scipy.sparse.lil_matrix((len(reference.X), reference.D.shape[1]))
    for i, (indices, values) in enumerate(reference.codes):
        Z[i, indices] = values
    Z = Z.tocsr()
    save_csr(
        folder / "Z.npz", Z, **{"lambda": reference.lam, "objective": reference.objective, "dual_gap": reference.gap}
    )
    files = save(folder, reference.D, reference.X)
    # The references are certified to 1e-12 of F, and F <= 1/2 ||x||^2.
    found = Found(folder, folder / "Z.npz", files, "--gap", 1.1e-12, status=DONE)
    assert (np.abs(found.objective - reference.objective) <= 1e-13 * energy(reference.X)).all()
    assert (found.rounding <= 1e-14 * energy(reference.X)).all()
    for key in ("lambda", "objective", "dual_gap"):
        assert found.said["claims"][key]["contradicted"] == 0
    assert found.said["sign_errors"] == 0 and found.said["worst_kkt"] < 1e-9
    assert found.said["nonzeros"] == Z.nnz


def test_a_corrupted_code_has_a_larger_gap(folder):
    D, X, _ = problem(atoms=20)
    codes = solve(folder, D, X, "--lambda-fraction", 0.2, "--gap", 1e-11)
    files = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]
    whole = Found(folder, folder / "Z.npz", files, "--gap", 1e-11, status=DONE)
    used = np.flatnonzero(np.diff(codes.Z.indptr))
    random = np.random.default_rng(1)
    for row in random.choice(used, 6, replace=False):
        for kind in ("scaled", "sign", "dropped", "moved", "added"):
            Z = codes.Z.toarray()
            j = random.choice(np.flatnonzero(Z[row]))
            free = random.choice(np.flatnonzero(Z[row] == 0))
            if kind == "scaled":
                Z[row, j] *= 1 + 1e-4
            elif kind == "sign":
                Z[row, j] *= -1
            elif kind == "dropped":
                Z[row, j] = 0
            elif kind == "moved":
                Z[row, free], Z[row, j] = Z[row, j], 0
            else:
                Z[row, free] = 1e-3 * np.abs(Z[row]).max()
            save_csr(folder / "bad.npz", scipy.sparse.csr_matrix(Z), **codes_beside(codes))
            found = Found(folder, folder / "bad.npz", files, "--gap", 1e-11, status=UNCONVERGED)
            assert found.dual_gap[row] > 10 * whole.dual_gap[row], kind
            assert found.said["missed"] == 1 and found.said["worst"][0]["row"] == row
            others = np.arange(N) != row
            assert (found.dual_gap[others] == whole.dual_gap[others]).all()
            for claim in ("dual_gap", "converged"):
                assert found.said["claims"][claim]["contradicted"] == 1
                assert found.said["claims"][claim]["first"] == row
            assert found.said["claims"]["lambda"]["contradicted"] == 0


def codes_beside(codes):
    return {key: codes.arrays[key] for key in ("lambda", "objective", "dual_gap", "iterations", "converged")}


@pytest.mark.parametrize("swap", [False, True])
def test_another_dictionary_or_other_observations_are_noticed(folder, swap):
    D, X, _ = problem()
    solve(folder, D, X, "--lambda-fraction", 0.3)
    if swap:
        X = X[::-1]
    else:
        D = D[:, np.r_[1, 0, 2:m]]
    found = Found(folder, folder / "Z.npz", save(folder, D, X), status=UNCONVERGED)
    assert found.said["missed"] > 0 and found.said["claims"]["objective"]["contradicted"] > 0


# --------------------------------------------------------------------------------------------------------------- claims


@pytest.fixture
def solved(folder):
    D, X, _ = problem()
    codes = solve(folder, D, X, "--lambda-fraction", 0.3, "--gap", 1e-8)
    return codes, ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"], energy(X)


def claims_of(folder, codes, files, *options, **changed):
    save_csr(folder / "claims.npz", codes.Z, **{**codes_beside(codes), **changed})
    return Found(folder, folder / "claims.npz", files, *options).said


@pytest.mark.parametrize("factor", [0, 0.5, 1 - 1e-3, np.nan, -1])
def test_a_gap_claimed_too_small(folder, solved, factor):
    codes, files, scale = solved
    rows = np.flatnonzero(codes.dual_gap > 1e-9 * scale)[[1, 4]]
    gap = codes.dual_gap.copy()
    gap[rows] *= factor
    said = claims_of(folder, codes, files, dual_gap=gap)["claims"]
    assert said["dual_gap"]["contradicted"] == 2 and said["dual_gap"]["first"] == rows[0]
    if np.isfinite(factor):
        missing = (codes.dual_gap - gap) / scale
        assert np.isclose(said["dual_gap"]["worst"], missing[rows].max(), rtol=1e-3)
    else:
        assert said["dual_gap"]["worst"] is None
    assert said["objective"]["contradicted"] == said["lambda"]["contradicted"] == said["converged"]["contradicted"] == 0


def test_a_gap_claimed_too_large_is_no_matter(folder, solved):
    codes, files, _ = solved
    for gap in (codes.dual_gap * 1.01, codes.dual_gap + 1, np.full(N, np.inf)):
        assert claims_of(folder, codes, files, dual_gap=gap)["claims"]["dual_gap"]["contradicted"] == 0


@pytest.mark.parametrize("change", [1e-9, -1e-9, 1, np.nan, np.inf])
def test_another_objective(folder, solved, change):
    codes, files, scale = solved
    objective = codes.objective.copy()
    objective[17] += change * scale[17]
    said = claims_of(folder, codes, files, objective=objective)["claims"]
    assert said["objective"]["contradicted"] == 1 and said["objective"]["first"] == 17
    worst = said["objective"]["worst"]
    assert worst is None if not np.isfinite(change) else np.isclose(worst, abs(change), rtol=1e-4)
    assert said["dual_gap"]["contradicted"] == 0


def test_claims_in_float32(folder, solved):
    codes, files, _ = solved
    single = {key: codes.arrays[key].astype(np.float32) for key in ("objective", "dual_gap")}
    said = claims_of(folder, codes, files, **single)["claims"]
    assert said["objective"]["contradicted"] == said["dual_gap"]["contradicted"] == 0
    single["dual_gap"] *= np.float32(0.999)
    assert claims_of(folder, codes, files, **single)["claims"]["dual_gap"]["contradicted"] > 0


def test_another_lambda(folder, solved):
    """The file's lambda is what its objective and gap are of; a lambda asked for is what is certified."""
    codes, files, _ = solved
    lam = codes.lam.copy()
    lam[40] *= 1 + 1e-7
    np.save(folder / "L.npy", lam)
    said = claims_of(folder, codes, files, "--lambda-file", folder / "L.npy")
    assert said["claims"]["lambda"]["contradicted"] == 1 and said["claims"]["lambda"]["first"] == 40
    assert np.isclose(said["claims"]["lambda"]["worst"], 1e-7, rtol=1e-3)
    assert said["claims"]["objective"]["contradicted"] == said["claims"]["dual_gap"]["contradicted"] == 0
    said = claims_of(folder, codes, files, "--lambda-fraction", 0.25)
    assert said["missed"] == N and said["claims"]["lambda"]["contradicted"] == N
    assert said["claims"]["objective"]["contradicted"] == said["claims"]["dual_gap"]["contradicted"] == 0
    # And where the file states another one than was solved for, its other numbers are false.
    said = claims_of(folder, codes, files, **{"lambda": lam * 1.001})
    assert said["claims"]["lambda"]["contradicted"] == 0 and said["claims"]["objective"]["contradicted"] > N // 2


def test_convergence_claimed(folder, solved):
    codes, files, _ = solved
    said = claims_of(folder, codes, files, "--gap", 1e-9)
    assert said["claims"]["converged"]["contradicted"] == said["missed"] > 0
    said = claims_of(folder, codes, files, "--gap", 1e-9, converged=np.zeros(N, bool))
    assert said["claims"]["converged"]["contradicted"] == 0


def test_no_false_alarm(folder):
    """Objective and gap as NumPy evaluates them in float64 are never contradicted, whatever the codes."""
    for seed in range(4):
        D, X, Z = problem(40, 90, 300, seed)
        lam = 0.3 * lambda_max(D, X)
        objective, gap = certificate(D, X, Z, lam)
        save_csr(folder / "Z.npz", scipy.sparse.csr_matrix(Z), objective=objective, dual_gap=gap, **{"lambda": lam})
        said = Found(folder, folder / "Z.npz", save(folder, D, X)).said
        assert [said["claims"][key]["contradicted"] for key in ("lambda", "objective", "dual_gap")] == [0, 0, 0]


# --------------------------------------------------------------------------------------------------------------- lambda


def test_lambda_options(folder):
    D, X, Z = problem()
    np.save(folder / "Z.npy", Z)
    lam = np.linspace(0.1, 4, N)
    np.save(folder / "L.npy", lam)
    files = save(folder, D, X)

    def found(*options):
        return Found(folder, folder / "Z.npy", files, *options)

    agree(found("--lambda", 0.25), D, X, Z, 0.25)
    agree(found("--lambda-file", folder / "L.npy"), D, X, Z, lam)
    for options, wanted in (
        ([], 0.4 * lambda_max(D, X)),
        (["--lambda-scope", "recording"], np.full(N, 0.4 * lambda_max(D, X).max())),
    ):
        result = found("--lambda-fraction", 0.4, *options)
        assert np.allclose(result.lam, wanted, rtol=1e-14, atol=0)
        agree(result, D, X, Z, result.lam)


def test_lambda_comes_from_the_file(folder):
    D, X, Z = problem()
    lam = np.linspace(0.1, 4, N)
    files = save(folder, D, X)
    save_csr(folder / "Z.npz", scipy.sparse.csr_matrix(Z), **{"lambda": lam})
    agree(Found(folder, folder / "Z.npz", files), D, X, Z, lam)
    save_csr(folder / "Z.npz", scipy.sparse.csr_matrix(Z), **{"lambda": lam.astype(np.float32)})
    agree(Found(folder, folder / "Z.npz", files), D, X, Z, lam.astype(np.float32).astype(float))


# ------------------------------------------------------------------------------------------------- cases at the margins


def test_observations_of_zeros(folder):
    """Their solution is 0 with no gap; a fraction of their lambda_max is 0."""
    D, X, _ = problem()
    X[[0, 33, 69]] = 0
    solve(folder, D, X, "--lambda-fraction", 0.3)
    files = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]
    for options in ([], ["--lambda-fraction", 0.3], ["--lambda", 0.5]):
        found = Found(folder, folder / "Z.npz", files, *options)
        for row in (0, 33, 69):
            assert found.dual_gap[row] == found.relative_gap[row] == found.objective[row] == found.rounding[row] == 0
    Z = np.zeros((N, m))
    Z[33, 4] = 0.1
    np.save(folder / "Z.npy", Z)
    found = Found(folder, folder / "Z.npy", files, "--lambda", 0.5, status=UNCONVERGED)
    assert found.relative_gap[33] == np.inf and np.isclose(found.dual_gap[33], found.objective[33])
    assert found.said["worst"][0]["row"] == 33 and found.said["worst"][0]["relative_gap"] is None
    assert found.said["worst_gap"] is None


def test_lambda_over_lambda_max(folder):
    D, X, _ = problem()
    lam = lambda_max(D, X) * np.linspace(1, 10, N)
    np.save(folder / "L.npy", lam)
    np.save(folder / "Z.npy", np.zeros((N, m)))
    found = Found(
        folder, folder / "Z.npy", save(folder, D, X), "--lambda-file", folder / "L.npy", "--gap", 1e-15, status=DONE
    )
    assert found.said["nonzeros"] == 0 and np.allclose(found.objective, energy(X), rtol=1e-15)


def test_codes_that_are_far_off(folder):
    D, X, Z = problem()
    scipy.sparse.save_npz(folder / "Z.npz", scipy.sparse.csr_matrix(1e9 * Z))
    found = Found(folder, folder / "Z.npz", save(folder, D, X), "--lambda", 1, status=UNCONVERGED)
    agree(found, D, X, 1e9 * Z, 1)
    assert found.said["worst_gap"] > 1e10


def test_empty_codes(folder):
    D, X, _ = problem()
    scipy.sparse.save_npz(folder / "Z.npz", scipy.sparse.csr_matrix((N, m)))
    found = Found(folder, folder / "Z.npz", save(folder, D, X), "--lambda-fraction", 0.5, status=UNCONVERGED)
    agree(found, D, X, np.zeros((N, m)), found.lam)


@pytest.mark.parametrize("units", [1e-160, 1e-15, 1e12, 1e150])
def test_units(folder, units):
    """Relative gaps do not depend on the units of the observations."""
    D, X, Z = problem()
    results = []
    for scale in (1, units):
        np.save(folder / "Z.npy", Z * scale)
        results.append(Found(folder, folder / "Z.npy", save(folder, D, X * scale), "--lambda", repr(0.7 * scale)))
    assert np.allclose(results[0].relative_gap, results[1].relative_gap, rtol=1e-10)


# --------------------------------------------------------------------------------------------- what it says, and where


def test_gap_option_and_exit_status(folder, solved):
    codes, files, scale = solved
    relative = codes.dual_gap / scale
    for gap in (1e-6, 1e-8, np.median(relative), 1e-12):
        found = Found(folder, folder / "Z.npz", files, "--gap", gap)
        assert found.said["missed"] == (found.relative_gap > gap).sum()
        assert found.said["certified"] + found.said["missed"] == N and found.said["gap"] == gap
        assert found.done.returncode == (DONE if gap > 9e-9 else UNCONVERGED)


def test_json(folder):
    D, X, Z = problem()
    np.save(folder / "Z.npy", Z)
    found = Found(folder, folder / "Z.npy", save(folder, D, X), "--lambda", 0.5, "--threads", 2)
    said = found.said
    assert set(said) == KEYS and said["schema"] == "shrinkwarp-certify-1"
    assert found.done.stdout.count("\n") == 1
    assert (said["problems"], said["rows"], said["atoms"], said["threads"]) == (N, n, m, 2)
    ascending = np.sort(found.relative_gap)
    for key, percent in (("worst_gap", 100), ("gap_99", 99), ("gap_90", 90), ("median_gap", 50)):
        assert said[key] == ascending[int(np.ceil(percent / 100 * N)) - 1]
    assert np.isclose(said["objective"], found.objective.sum(), rtol=1e-14)
    assert said["nonzeros"] == found.nonzeros.sum() and said["largest_support"] == found.nonzeros.max()
    assert said["worst_excess"] == found.correlation_excess.max() and said["worst_kkt"] == found.kkt_violation.max()
    assert said["sign_errors"] == found.sign_errors.sum()
    assert np.isclose(said["worst_rounding"], (found.rounding / energy(X)).max(), rtol=1e-10)
    worst = np.argsort(-found.relative_gap, kind="stable")[:5]
    assert [row["row"] for row in said["worst"]] == worst.tolist()
    for row in said["worst"]:
        i = row["row"]
        for key in ("objective", "dual_gap", "relative_gap", "rounding", "nonzeros", "kkt_violation", "sign_errors"):
            assert row[key] == getattr(found, key)[i], key
        assert row["lambda"] == 0.5


def test_table(folder, solved):
    codes, files, _ = solved
    done = run("certify", folder / "Z.npz", *files, status=DONE)
    said = done.stdout
    assert done.stderr == ""
    assert "70, dictionary 12 x 30" in said and "70 to a relative gap of 1e-06, 0 missed" in said
    for key in ("lambda", "objective", "dual_gap", "converged"):
        assert f"{key}: as found" in said
    gap = codes.dual_gap.copy()
    gap[3] = 0
    save_csr(folder / "Z.npz", codes.Z, **{**codes_beside(codes), "dual_gap": gap})
    said = run("certify", folder / "Z.npz", *files, status=DONE).stdout
    assert re.search(r"dual_gap: 1 smaller than found, the first in row 3, by up to \d\.\d+e-\d\d of", said)
    scipy.sparse.save_npz(folder / "Z.npz", codes.Z)
    assert "none in the file" in run("certify", folder / "Z.npz", *files, "--lambda", 1, status=UNCONVERGED).stdout
    done = run("certify", folder / "Z.npz", *files, "--lambda", 1, "--quiet", status=UNCONVERGED)
    assert done.stdout == "" and "missed the gap" in one_line(done)


def test_threads_give_the_same_bits(folder):
    D, X, Z = problem(count=500)
    np.save(folder / "Z.npy", Z)
    files = save(folder, D, X)
    first, second = (
        Found(folder, folder / "Z.npy", files, "--lambda-fraction", 0.5, "--threads", threads) for threads in (1, 3)
    )
    for key in ("lam", "objective", "dual_gap", "rounding", "kkt_violation"):
        assert (getattr(first, key) == getattr(second, key)).all()


PEAK = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL).returncode
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("form", ["csr", "dense"])
def test_memory_does_not_grow_with_the_file(folder, form):
    """Codes of 160 MB dense, and as much of entries, go through in what a small file takes and 40 MB at most."""
    count, atoms = 20000, 1000
    random = np.random.default_rng(0)
    D, X = random.standard_normal((3, atoms)), random.standard_normal((count, 3))
    files = save(folder, D, X)
    path = folder / ("Z.npy" if form == "dense" else "Z.npz")

    def peak(rows):
        np.save(folder / "X.npy", X[:rows])
        if form == "dense":
            np.save(path, np.full((rows, atoms), 1e-3))
        else:
            indptr = np.arange(0, rows * atoms + 1, atoms)
            Z = scipy.sparse.csr_matrix(
                (np.full(rows * atoms, 1e-3), np.tile(np.arange(atoms), rows), indptr), (rows, atoms)
            )
            scipy.sparse.save_npz(path, Z, compressed=False)
            del indptr, Z
        command = [str(PATH), "certify", str(path), *map(str, files), "--lambda", "1", "--quiet", "--threads", "1"]
        # A child's peak counts that of the process it was forked from: this one is too large.
        done = subprocess.run([sys.executable, "-c", PEAK, *command], capture_output=True, text=True)
        status, kilobytes = map(int, done.stdout.split())
        assert status == UNCONVERGED, done.stderr
        return 1024 * kilobytes

    small, large = peak(200), peak(count)
    assert path.stat().st_size > 100e6
    assert large - small < 40e6, (small, large)


def test_help(folder):
    said = run("certify", "--help", status=DONE).stdout
    for option in (
        "--dictionary",
        "--observations",
        "--lambda",
        "--lambda-fraction",
        "--lambda-file",
        "--lambda-scope",
    ):
        assert option in said
    for option in ("--gap", "--threads", "--output", "--quiet", "--json", "Exit status"):
        assert option in said


# ------------------------------------------------------------------------------------------------------------ bad input


def refused(folder, codes, files, *wanted, options=("--lambda", 1), status=FAILED, cwd=None):
    before = {path.name for path in folder.iterdir()}
    done = run("certify", codes, *files, *options, status=status, timeout=30, cwd=cwd)
    line = one_line(done)
    assert line.startswith("shrinkwarp: ") and done.stdout == ""
    for text in wanted:
        assert str(text) in line, f"'{text}' is not in: {line}"
    assert {path.name for path in folder.iterdir()} == before
    return line


@pytest.mark.parametrize("shape", [(N - 1, m), (N + 1, m), (N, m - 1), (N, m + 1), (m, N), (0, m), (N, 0)], ids=str)
@pytest.mark.parametrize("form", ["npz", "npy"])
def test_shape_refused(folder, shape, form):
    D, X, _ = problem()
    path = folder / f"Z.{form}"
    if form == "npz":
        save_csr(path, scipy.sparse.csr_matrix(np.ones(shape)))
    else:
        np.save(path, np.ones(shape))
    refused(folder, path, save(folder, D, X), f"Z.{form}", shape, (N, m))


def broken(**changes):
    """A CSR file with arrays replaced; None takes one out."""

    def write(path):
        Z = scipy.sparse.csr_matrix(problem()[2])
        arrays = {
            "data": Z.data,
            "indices": Z.indices,
            "indptr": Z.indptr,
            "shape": np.array(Z.shape),
            "format": b"csr",
        }
        for key, change in changes.items():
            arrays[key] = change(arrays[key]) if callable(change) else change
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})

    return write


def put(place, value, dtype=None):
    def change(array):
        array = array.astype(dtype or array.dtype)
        array[place] = value
        return array

    return change


ROWS = scipy.sparse.csr_matrix(problem()[2])
BAD = {
    "no format": (broken(format=None), ["format"]),
    "csc": (broken(format=b"csc"), ["csc", "csr", "tocsr"]),
    "coo": (broken(format=b"coo"), ["coo", "csr"]),
    "format is a number": (broken(format=3), ["format", "<i8", "csr"]),
    "no data": (broken(data=None), ["data"]),
    "no indices": (broken(indices=None), ["indices"]),
    "no indptr": (broken(indptr=None), ["indptr"]),
    "no shape": (broken(shape=None), ["shape"]),
    "shape of three": (broken(shape=np.array([N, m, 1])), ["shape", "(3,)", "(2,)"]),
    "shape of floats": (broken(shape=np.array([70.0, 30.0])), ["shape", "<f8", "<i8"]),
    "negative shape": (broken(shape=np.array([-1, m])), ["shape", -1]),
    "huge shape": (broken(shape=np.array([2**62, m])), ["shape", 2**62]),
    "indptr too short": (broken(indptr=lambda a: a[:-1]), ["indptr", f"({N},)", f"({N + 1},)"]),
    "indptr 2-D": (broken(indptr=lambda a: a[None]), ["indptr", f"(1, {N + 1})"]),
    "indptr of floats": (broken(indptr=lambda a: a.astype(float)), ["indptr", "<f8"]),
    "indptr begins late": (broken(indptr=put(0, 1)), ["indptr", "found 1 first, wanted 0"]),
    "indptr descends": (broken(indptr=put(5, 1)), ["indptr", "descent"]),
    "indptr past the data": (broken(indptr=put(N, 10**6)), [10**6, ROWS.nnz]),
    "indptr far past the data": (broken(indptr=put(N, 2**61, np.int64)), [2**61, ROWS.nnz]),
    "fewer data than indices": (broken(data=lambda a: a[:-1]), [ROWS.nnz, ROWS.nnz - 1]),
    "fewer indices than data": (broken(indices=lambda a: a[:-1]), [ROWS.nnz, ROWS.nnz - 1]),
    "index too large": (
        broken(indices=put(ROWS.indptr[30], m)),
        ["row 30", f"found the index {m}, wanted 0 to {m - 1}"],
    ),
    "negative index": (broken(indices=put(ROWS.indptr[30], -1)), ["row 30", "found the index -1"]),
    "huge index": (broken(indices=put(ROWS.indptr[30], 2**62, np.int64)), ["row 30", 2**62]),
    "indices of floats": (broken(indices=lambda a: a.astype(float)), ["indices", "<f8"]),
    "indices 2-D": (broken(indices=lambda a: a[None]), ["indices", f"(1, {ROWS.nnz})"]),
    "complex data": (broken(data=lambda a: a.astype(complex)), ["data", "<c16"]),
    "integer data": (broken(data=lambda a: a.astype(int)), ["data", "<i8", "<f8"]),
    "nan": (broken(data=put(ROWS.indptr[31], np.nan)), [f"entry (31, {ROWS.indices[ROWS.indptr[31]]}) is nan"]),
    "infinity": (broken(data=put(ROWS.indptr[31], -np.inf)), [f"entry (31, {ROWS.indices[ROWS.indptr[31]]}) is -inf"]),
    "claims too short": (broken(dual_gap=np.ones(N - 1)), ["dual_gap", f"({N - 1},)", f"({N},)"]),
    "claims 2-D": (broken(objective=np.ones((N, 1))), ["objective", f"({N}, 1)"]),
    "claims of integers": (broken(objective=np.ones(N, int)), ["objective", "<i8"]),
    "converged of floats": (broken(converged=np.ones(N)), ["converged", "<f8", "|b1"]),
    "lambda nan": (broken(**{"lambda": np.append(np.ones(N - 1), np.nan)}), ["lambda", N - 1, "nan"]),
    "lambda negative": (broken(**{"lambda": -np.ones(N)}), ["lambda", "entry 0 is -1"]),
    "no npz": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(64)), []),
    "text": (lambda path: path.write_text("1 2 3\n"), ["neither", "npz", "npy"]),
    "nothing": (lambda path: path.write_bytes(b""), ["neither"]),
    "one byte": (lambda path: path.write_bytes(b"P"), ["neither"]),
    "missing": (lambda path: None, []),
    "a folder": (lambda path: path.mkdir(), []),
}


@pytest.mark.parametrize("kind", BAD)
def test_codes_refused(folder, kind):
    write, wanted = BAD[kind]
    D, X, _ = problem()
    write(folder / "Z.npz")
    refused(folder, folder / "Z.npz", save(folder, D, X), "Z.npz", *wanted)


def test_duplicates_that_overflow(folder):
    D, X, _ = problem()
    Z = ROWS.copy()
    row = int(np.flatnonzero(np.diff(Z.indptr) >= 2)[3])
    a = Z.indptr[row]
    Z.indices[a + 1] = Z.indices[a]
    Z.data[a : a + 2] = 1.5e308
    save_csr(folder / "Z.npz", Z)
    refused(folder, folder / "Z.npz", save(folder, D, X), f"entry ({row}, {Z.indices[a]}) is inf")


def test_a_damaged_archive(folder):
    D, X, Z = problem()
    scipy.sparse.save_npz(folder / "Z.npz", scipy.sparse.csr_matrix(Z), compressed=False)
    bytes_ = bytearray((folder / "Z.npz").read_bytes())
    place = bytes_.find(np.float64(ROWS.data[100]).tobytes())
    bytes_[place] ^= 1
    (folder / "Z.npz").write_bytes(bytes_)
    refused(folder, folder / "Z.npz", save(folder, D, X), "Z.npz", "data.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(folder, value):
    D, X, Z = problem()
    for which, place, text in (
        ("Z", (44, 7), "(44, 7)"),
        ("D", (3, 20), "(3, 20)"),
        ("X", (44, 5), "entry 5 of row 44"),
    ):
        arrays = {"D": D.copy(), "X": X.copy(), "Z": Z.copy()}
        arrays[which][place] = value
        np.save(folder / "Z.npy", arrays["Z"])
        refused(folder, folder / "Z.npy", save(folder, arrays["D"], arrays["X"]), f"{which}.npy", text, value)


def test_lambda_missing(folder):
    D, X, Z = problem()
    files = save(folder, D, X)
    np.save(folder / "Z.npy", Z)
    scipy.sparse.save_npz(folder / "Z.npz", scipy.sparse.csr_matrix(Z))
    for path in (folder / "Z.npy", folder / "Z.npz"):
        refused(folder, path, files, path.name, "lambda", "--lambda-fraction", options=())


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, -1.0])
def test_lambda_file_refused(folder, value):
    D, X, Z = problem()
    np.save(folder / "Z.npy", Z)
    lam = np.ones(N)
    lam[9] = value
    np.save(folder / "L.npy", lam)
    files = save(folder, D, X)
    refused(
        folder, folder / "Z.npy", files, "L.npy", "problem 9", f"{value:g}", options=["--lambda-file", folder / "L.npy"]
    )
    np.save(folder / "L.npy", np.ones(N + 2))
    refused(folder, folder / "Z.npy", files, "L.npy", N, N + 2, options=["--lambda-file", folder / "L.npy"])


def test_files_that_do_not_fit(folder):
    D, X, Z = problem()
    np.save(folder / "Z.npy", Z)
    refused(folder, folder / "Z.npy", save(folder, D, X[:, :-1]), "X.npy", n - 1, n, "D.npy")
    refused(folder, folder / "Z.npy", save(folder, D, X[:0]), "X.npy", "no rows")
    refused(folder, folder / "Z.npy", save(folder, D[:, :0], X), "D.npy", "12 x 0")
    np.save(folder / "Z.npy", Z[0])
    refused(folder, folder / "Z.npy", save(folder, D, X), "Z.npy", (m,), "2-D")


@pytest.mark.parametrize(
    "options, wanted",
    [
        (["--lambda", -1], ["--lambda", "-1"]),
        (["--lambda", "nan"], ["--lambda", "nan"]),
        (["--lambda", 1, "--lambda-fraction", 0.5], ["--lambda"]),
        (["--lambda-fraction", 0], ["--lambda-fraction"]),
        (["--lambda", 1, "--lambda-scope", "recording"], ["--lambda-scope", "--lambda-fraction"]),
        (["--lambda-fraction", 0.5, "--lambda-scope", "session"], ["session", "sample", "recording"]),
        (["--lambda", 1, "--gap", 0], ["--gap", "0"]),
        (["--lambda", 1, "--threads", -1], ["--threads", "-1"]),
        (["--lambda", 1, "--frobnicate"], ["--frobnicate"]),
        (["--lambda", 1, "--output", "Z.npy"], ["--output", "Z.npy"]),
        (["--lambda", 1, "--output", "D.npy"], ["--output", "--dictionary"]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_options_refused(folder, options, wanted):
    D, X, Z = problem()
    np.save(folder / "Z.npy", Z)
    refused(folder, "Z.npy", save(folder, D, X), *wanted, options=options, status=USAGE, cwd=folder)


@pytest.mark.parametrize("missing", ["codes", "--dictionary", "--observations"])
def test_missing_arguments(folder, missing):
    arguments = ["Z.npz", "--dictionary", "D.npy", "--observations", "X.npy"]
    place = 0 if missing == "codes" else arguments.index(missing)
    done = run("certify", *arguments[:place], *arguments[place + (1 if missing == "codes" else 2) :], status=USAGE)
    assert missing in one_line(done)
