"""`shrinkwarp bench`."""

import json

import numpy as np
import pytest

from program import DONE, FAILED, USAGE, Codes, certificate, energy, lambda_max, one_line, rounding, run, save


@pytest.fixture
def files(folder):
    random = np.random.default_rng(0)
    return save(folder, random.standard_normal((8, 20)), random.standard_normal((7, 8)))


def test_json(folder, files):
    done = run("bench", "fista", *files, "--problems", 50, "--threads", "1,2", "--json", status=DONE)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2
    for said in lines:
        assert said["schema"] == "shrinkwarp-bench-1"
        assert all(phase["seconds"] >= 0 and phase["calls"] > 0 for phase in said["phases"])
    assert sorted(path.name for path in folder.iterdir()) == ["D.npy", "X.npy"]


def test_table(files):
    done = run("bench", "fista", *files, "--problems", 50, "--threads", 1, status=DONE)
    assert "dictionary 8 x 20, 50 problems" in done.stdout and "whole solve" in done.stdout


def test_phantom_is_the_default(folder):
    done = run("bench", "fista", "--problems", 2, "--gap", 0.1, "--threads", 1, status=DONE, cwd=folder)
    assert "dictionary 306 x 6138, 2 problems" in done.stdout
    assert list(folder.iterdir()) == []


def test_latency(folder):
    random = np.random.default_rng(0)
    D, X = random.standard_normal((8, 20)), random.standard_normal((7, 8))
    lam = 0.4 * lambda_max(D, X)
    np.save(folder / "L.npy", lam)
    files = save(folder, D, X)
    options = ["bench", "latency", *files, "--gap", 1e-8, "--json"]
    said = json.loads(run(*options, "--lambda-file", folder / "L.npy", "--output", folder / "Z.npz", status=DONE).stdout)
    assert said["benchmark"] == "latency" and said["calls"] == len(said["seconds"]) == 7 and said["unconverged"] == 0
    assert 0 < min(said["seconds"]) <= said["median_seconds"] == sorted(said["seconds"])[3]
    assert said["p99_seconds"] == max(said["seconds"])
    codes = Codes(folder / "Z.npz")
    assert np.array_equal(codes.lam, lam)
    objective, gap = certificate(D, X, codes.Z, lam)
    assert (np.abs(codes.objective - objective) <= rounding(D, X)).all()
    assert (gap <= 1e-8 * energy(X) + rounding(D, X)).all()
    said = json.loads(run(*options, "--calls", 3, "--lambda-fraction", 0.4, status=DONE).stdout)
    assert said["calls"] == 3
    done = run("bench", "latency", *files, "--calls", 2, status=DONE)
    assert "dictionary 8 x 20" in done.stdout and "2 calls" in done.stdout


def test_solve(folder):
    random = np.random.default_rng(0)
    D, X = random.standard_normal((20, 90)), random.standard_normal((7, 20))
    files = save(folder, D, X)
    options = ["bench", "solve", *files, "--problems", 10, "--gap", 1e-8]
    done = run(*options, "--json", "--lambda-fractions", "0.5,0.2", "--calls", 2, status=DONE)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["lambda_fraction"] for line in lines] == [0.5, 0.2]
    for said in lines:
        assert said["schema"] == "shrinkwarp-bench-1" and said["benchmark"] == "solve" and len(said["seconds"]) == 2
        assert said["unconverged"] == 0 and said["worst_gap"] <= 1e-8 and said["nonzeros"] > 0
        assert all(phase["seconds"] >= 0 and phase["calls"] > 0 for phase in said["phases"])

    X10 = np.concatenate([X, X[:3]])  # rows are repeated
    lam = 0.3 * lambda_max(D, X10)
    np.save(folder / "L.npy", lam)
    written = ["--calls", 0, "--lambda-file", folder / "L.npy", "--output", folder / "Z.npz"]
    said = json.loads(run(*options, "--json", *written, status=DONE).stdout)
    assert said["seconds"] == [] and said["phases"] == [] and said["first_seconds"] > 0
    codes = Codes(folder / "Z.npz")
    assert np.array_equal(codes.lam, lam)
    objective, gap = certificate(D, X10, codes.Z, lam)
    assert (np.abs(codes.objective - objective) <= rounding(D, X10)).all()
    assert (gap <= 1e-8 * energy(X10) + rounding(D, X10)).all()
    assert "10 problems a call" in run(*options, status=DONE).stdout


def test_kernels():
    options = ["bench", "kernels", "--runs", 1, "--threads", 1, "--rows", 20, "--atoms", 50, "--problems", 70]
    lines = [json.loads(line) for line in run(*options, "--iterations", 3, "--json", status=DONE).stdout.splitlines()]
    assert [line["kernel"] for line in lines] == ["extrapolated_residual", "gradient_step", "proximal_iterations",
                                                  "code_residual", "correlation_max", "bounded_correlation", "gemm"]
    for said in lines:
        assert said["schema"] == "shrinkwarp-bench-1" and said["benchmark"] == "kernels" and said["shape"] == "custom"
        assert said["rows"] == 20 and said["atoms"] == 50 and said["problems"] == 70 and said["calls"] >= 1
        assert 0 < said["fastest_seconds"] <= said["median_seconds"]
        assert said["percent_of_gemm"] == pytest.approx(
            100 * said["flops"] / said["median_seconds"] / said["gemm_flops_per_second"])
        assert said["percent_of_copy"] == pytest.approx(
            100 * said["bytes"] / said["median_seconds"] / said["copy_bytes_per_second"])
        product = 2 * 20 * 50 * 70
        times = {"proximal_iterations": 2 * 3, "bounded_correlation": 128 / 70}  # 3 iterations; places in 64s
        assert said["flops"] == pytest.approx(times.get(said["kernel"], 1) * product)
        assert said["iterations"] == (3 if said["kernel"] == "proximal_iterations" else 1)


def test_kernels_that_are_named():
    done = run("bench", "kernels", "--runs", 1, "--shapes", "small", "--problems", 64, "--kernels",
               "gemm,correlation_max", status=DONE)
    rows = [line.split()[0] for line in done.stdout.splitlines()[2:]]
    assert rows == ["correlation_max", "gemm"]
    for options in (["--shapes", "tiny"], ["--kernels", "sgemm"], ["--rows", 5], ["--atoms", 5], ["--runs", 0],
                    ["--rows", 5, "--atoms", 5, "--shapes", "small"]):
        one_line(run("bench", "kernels", *options, status=USAGE))


def test_solve_refuses(folder, files):
    np.save(folder / "L.npy", np.ones(6))
    options = ["bench", "solve", *files, "--problems", 7]
    assert "found 6 lambdas" in one_line(run(*options, "--lambda-file", folder / "L.npy", status=FAILED))
    one_line(run("bench", "solve", *files[:2], status=USAGE))
    one_line(run(*options, "--calls", -1, status=USAGE))
    np.save(folder / "X.npy", np.ones((5, 9)))
    assert "length 9, wanted 8" in one_line(run(*options, status=FAILED))


def test_latency_refuses(folder, files):
    np.save(folder / "L.npy", np.ones(6))
    assert "found 6 values" in one_line(run("bench", "latency", *files, "--lambda-file", folder / "L.npy", status=FAILED))
    np.save(folder / "X.npy", np.ones((5, 9)))
    assert "length 9, wanted 8" in one_line(run("bench", "latency", *files, status=FAILED))
    np.save(folder / "X.npy", np.ones((0, 8)))
    assert "no rows" in one_line(run("bench", "latency", *files, status=FAILED))
    one_line(run("bench", "latency", *files, "--solver", "lars", status=USAGE))


@pytest.mark.parametrize(
    "options",
    [
        ["--problems", 0],
        ["--problems", -1],
        ["--lambda-fraction", 0],
        ["--gap", 0],
        ["--threads", -1],
        ["--threads", "two"],
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_options_refused(files, options):
    line = one_line(run("bench", "fista", *files, *options, status=USAGE))
    assert options[0] in line and str(options[1]) in line


def test_files_refused(folder, files):
    np.save(folder / "X.npy", np.ones((5, 9)))
    one_line(run("bench", "fista", *files, status=FAILED))
    one_line(run("bench", "fista", *files[:3], folder / "none.npy", status=FAILED))
