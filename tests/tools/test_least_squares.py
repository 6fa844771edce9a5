"""Least squares: `--debias` on the atoms of a code, and `--solver least-squares` as the baseline, against NumPy."""

import json

import numpy as np
import pytest

from program import DONE, FAILED, USAGE, Codes, check, energy, one_line, run, save, solve


def problem(n, m, N, seed=0):
    random = np.random.default_rng(seed)
    D = random.standard_normal((n, m)) / np.sqrt(n)
    Z = random.standard_normal((N, m)) * (random.random((N, m)) < min(1, 4 / m))
    return D, Z @ D.T + 0.1 * random.standard_normal((N, n))


def lstsq(A, b):
    return np.linalg.lstsq(A, b, rcond=None)[0]


def plain(codes):
    """The same without what --debias adds, for check()."""
    arrays = {name: values for name, values in codes.arrays.items() if name != "debiased_data"}
    codes.arrays = arrays
    return codes


# ---------------------------------------------------------------------------------------------------- amplitudes


@pytest.mark.parametrize("solver", ["working-set", "fista"])
@pytest.mark.parametrize("shape", [(20, 50, 300), (50, 2000, 9), (20, 8, 5)], ids=lambda shape: "x".join(map(str, shape)))
def test_amplitudes_are_least_squares_on_the_support(folder, shape, solver):
    D, X = problem(*shape)
    X[2] = 0
    codes = solve(folder, D, X, "--lambda-fraction", 0.3, "--solver", solver, "--debias", "--threads", 2)
    amplitudes = codes.arrays["debiased_data"]
    assert amplitudes.dtype == np.dtype("<f8") and amplitudes.shape == codes.Z.data.shape
    for i in range(len(X)):
        begin, end = codes.Z.indptr[i], codes.Z.indptr[i + 1]
        S = codes.Z.indices[begin:end]
        if len(S) == 0:
            continue
        wanted = lstsq(D[:, S], X[i])
        condition = np.linalg.cond(D[:, S])
        np.testing.assert_allclose(amplitudes[begin:end], wanted, atol=1e-14 * condition**2 * np.linalg.norm(wanted))
        # The fit is no worse than that of the code, whose amplitudes lambda has shrunk.
        assert energy((X[i] - D[:, S] @ amplitudes[begin:end])[None]) <= energy((X[i] - D[:, S] @ codes.Z.data[begin:end])[None])
    without = solve(folder, D, X, "--lambda-fraction", 0.3, "--solver", solver, output="plain.npz", *["--threads", 2])
    assert [codes.row(i) for i in range(len(X))] == [without.row(i) for i in range(len(X))]
    check(plain(codes), D, X)


def test_amplitudes_in_any_units(folder):
    D, X = problem(20, 50, 5)
    one = solve(folder, D, X, "--lambda-fraction", 0.3, "--debias")
    other = solve(folder, D * 2.0**-300, X * 2.0**200, "--lambda-fraction", 0.3, "--debias")
    assert (other.arrays["debiased_data"] == one.arrays["debiased_data"] * 2.0**500).all()


def test_amplitudes_of_dependent_atoms_share(folder):
    """With a ridge copies of an atom are in use together; of their amplitudes the least norm is equal shares."""
    D, X = problem(20, 50, 5)
    D[:, 1::2] = D[:, ::2]
    codes = solve(folder, D, X, "--lambda-fraction", 0.2, "--elastic-net", 0.5, "--gap", 1e-10, "--debias")
    amplitudes = codes.Z.copy()
    amplitudes.data = codes.arrays["debiased_data"]
    dense = amplitudes.toarray()
    assert codes.Z.nnz > 0 and (codes.Z.toarray()[:, ::2] != 0).any()
    np.testing.assert_allclose(dense[:, ::2], dense[:, 1::2], atol=1e-10 * np.abs(dense).max())


def test_amplitudes_along_a_path_and_after_a_resume(folder):
    D, X = problem(20, 50, 5)
    files = save(folder, D, X)
    options = ["--lambda-fractions", "0.5,0.2", "--output", folder / "Z.npz", "--quiet"]
    run("solve", *files, *options, "--debias", status=DONE)
    assert all("debiased_data" in Codes(folder / f"Z-{f}.npz").arrays for f in ("0.5", "0.2"))
    run("solve", *files, *options, "--debias", "--resume", status=DONE)
    done = run("solve", *files, *options, "--resume", status=FAILED)
    assert "--debias: found yes, wanted none" in one_line(done)


def test_amplitudes_have_no_sign(folder):
    D, X = problem(20, 50, 5)
    done = run("solve", *save(folder, D, X), "--lambda", 1, "--nonnegative", "--debias", "--output", folder / "Z.npz", status=USAGE)
    assert "--debias: found --nonnegative" in one_line(done)


# ---------------------------------------------------------------------------------------------------- the minimum norm


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("shape", [(20, 50, 300), (50, 20, 9), (30, 30, 4), (1, 1, 1), (1, 9, 5), (9, 1, 5)], ids=lambda s: "x".join(map(str, s)))
def test_the_minimum_norm_solution(folder, shape, dtype):
    D, X = (array.astype(dtype) for array in problem(*shape))
    done = run("solve", *save(folder, D, X), "--solver", "least-squares", "--output", folder / "Z.npy", "--json", status=DONE)
    report = json.loads(done.stdout)
    D, X = D.astype(float), X.astype(float)
    assert report["rank"] == np.linalg.matrix_rank(D) and report["problems"] == len(X)
    Z = np.load(folder / "Z.npy")
    assert Z.dtype == np.float64 and Z.shape == (len(X), D.shape[1]) and Z.flags.c_contiguous
    wanted = lstsq(D, X.T).T
    np.testing.assert_allclose(Z, wanted, atol=1e-14 * np.linalg.cond(D) ** 2 * np.abs(wanted).max())


def test_the_minimum_norm_of_a_dictionary_without_full_rank(folder):
    """As whitening with projections leaves it."""
    random = np.random.default_rng(0)
    D = random.standard_normal((30, 27)) @ random.standard_normal((27, 100))
    X = random.standard_normal((7, 30))
    done = run("solve", *save(folder, D, X), "--solver", "least-squares", "--output", folder / "Z.npy", "--json", "--memory-limit", "1MiB", status=DONE)
    assert json.loads(done.stdout)["rank"] == 27
    wanted = lstsq(D, X.T).T
    np.testing.assert_allclose(np.load(folder / "Z.npy"), wanted, atol=1e-11 * np.abs(wanted).max())
    run("solve", *save(folder, 0 * D, X), "--solver", "least-squares", "--output", folder / "Z.npy", "--quiet", status=DONE)
    assert (np.load(folder / "Z.npy") == 0).all()


def test_what_least_squares_refuse(folder):
    D, X = problem(20, 50, 5)
    files = save(folder, D, X) + ["--solver", "least-squares", "--output", folder / "Z.npy"]
    for options in (
        ["--lambda", 1],
        ["--lambda-fractions", "0.5,0.2"],
        ["--nonnegative"],
        ["--elastic-net", 1],
        ["--debias"],
        ["--resume"],
        ["--no-restart"],
        ["--weights", folder / "D.npy"],
        ["--warm-start", folder / "D.npy"],
    ):
        assert "found options of a Lasso" in one_line(run("solve", *files, *options, status=USAGE))
    assert "wanted auto or cpu" in one_line(run("solve", *files, "--device", "cuda", status=USAGE))
    assert "wanted at least" in one_line(run("solve", *files, "--memory-limit", "4KiB", status=FAILED))
    X[3, 2] = np.nan
    assert "entry 2 of row 3 is nan" in one_line(run("solve", *save(folder, D, X), *files[4:], status=FAILED))
    D[1, 2] = np.inf
    assert "entry (1, 2) is inf" in one_line(run("solve", *save(folder, D, X), *files[4:], status=FAILED))
    assert not (folder / "Z.npy").exists()


def test_a_lasso_wants_a_lambda(folder):
    D, X = problem(20, 50, 5)
    done = run("solve", *save(folder, D, X), "--output", folder / "Z.npz", status=USAGE)
    assert "found no lambda, wanted one of --lambda" in one_line(done)
