"""`shrinkwarp solve`: what it writes is what it says, and what it says is true."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import numpy as np
import pytest

from program import (
    DONE,
    FAILED,
    UNCONVERGED,
    Codes,
    check,
    coordinate_descent,
    energy,
    lambda_max,
    one_line,
    rounding,
    run,
    save,
    solve,
    start,
)

JSON_KEYS = {
    "problems",
    "converged",
    "unconverged",
    "gap",
    "worst_gap",
    "nonzeros",
    "iterations",
    "rows",
    "atoms",
    "solver",
    "device",
    "seconds",
    "problems_per_second",
    "output",
}


def problem(n, m, N, seed=0, dtype=np.float64):
    """Unit atoms and observations that a few of them make, in noise."""
    random = np.random.default_rng(seed)
    D = random.standard_normal((n, m))
    D /= np.sqrt((D * D).sum(0))
    Z = random.standard_normal((N, m)) * (random.random((N, m)) < min(1, 4 / m))
    return D.astype(dtype), (Z @ D.T + 0.1 * random.standard_normal((N, n))).astype(dtype)


@pytest.fixture(scope="module")
def long_problem(tmp_path_factory):
    """A problem that keeps a fast machine busy for a while: atoms that look much alike, little shrinkage."""
    folder = tmp_path_factory.mktemp("long")
    random = np.random.default_rng(5)
    D = random.standard_normal((60, 1)) + 0.3 * random.standard_normal((60, 2000))
    return save(folder, D, random.standard_normal((20000, 60))) + ["--lambda-fraction", 0.01, "--gap", 1e-9]


# ---------------------------------------------------------------------------------------------------- the result file

SHAPES = [(20, 50, 30), (1, 1, 1), (1, 9, 5), (9, 1, 5), (64, 17, 3), (43, 597, 33), (31, 33, 129)]


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_random_problems(folder, shape, order, dtype):
    D, X = problem(*shape)
    D, X = (np.array(a.astype(dtype), order=order) for a in (D, X))
    check(solve(folder, D, X, "--lambda-fraction", 0.3), D, X)


@pytest.mark.parametrize("D_type, X_type", [("<f4", "<f8"), ("<f8", "<f4")])
def test_element_types_may_differ(folder, D_type, X_type):
    D, X = problem(20, 50, 12)
    D, X = D.astype(D_type), np.asfortranarray(X.astype(X_type))
    check(solve(folder, D, X, "--lambda-fraction", 0.3), D, X)


def test_order_and_type_of_equal_numbers_do_not_matter(folder):
    D, X = problem(30, 70, 40, dtype=np.float32)
    wanted = solve(folder, D, X, "--lambda-fraction", 0.2).path.read_bytes()
    for order in "CF":
        for dtype in (np.float32, np.float64):
            D2, X2 = np.array(D, dtype, order=order), np.array(X, dtype, order=order)
            assert solve(folder, D2, X2, "--lambda-fraction", 0.2).path.read_bytes() == wanted


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_versions(folder, version):
    D, X = problem(6, 9, 4)
    files = save(folder, D, X)
    for name, array in (("D.npy", D), ("X.npy", X)):
        with open(folder / name, "wb") as file:
            np.lib.format.write_array(file, array, version=version)
    run("solve", *files, "--lambda-fraction", 0.3, "--output", folder / "Z.npz", status=DONE)
    check(Codes(folder / "Z.npz"), D, X)


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize("solver", ["working-set", "fista", "ista"])
def test_gaps(folder, gap, solver):
    D, X = problem(25, 60, 40)
    codes = solve(folder, D, X, "--lambda-fraction", 0.2, "--gap", gap, "--solver", solver)
    check(codes, D, X, gap)


@pytest.mark.parametrize("solver", ["working-set", "fista", "ista"])
def test_against_coordinate_descent(folder, solver):
    D, X = problem(20, 45, 6, seed=3)
    codes = solve(folder, D, X, "--lambda-fraction", 0.25, "--gap", 1e-13, "--solver", solver)
    check(codes, D, X, 1e-13)
    for i, x in enumerate(X):
        z = coordinate_descent(D, x, codes.lam[i])
        assert (np.flatnonzero(z) == codes.Z[i].indices).all()
        assert np.allclose(codes.Z[i].toarray()[0], z, rtol=0, atol=1e-5 * np.abs(z).max())


def test_orthogonal_atoms_give_soft_thresholding(folder):
    X = problem(12, 12, 50)[1]
    codes = solve(folder, np.eye(12), X, "--lambda", 0.3, "--gap", 1e-13)
    wanted = np.sign(X) * np.maximum(np.abs(X) - 0.3, 0)
    assert np.allclose(codes.Z.toarray(), wanted, rtol=0, atol=1e-6 * np.abs(X).max())
    assert ((codes.Z.toarray() != 0) == (wanted != 0)).all()


def test_solvers_agree(folder):
    D, X = problem(40, 100, 50)
    options = ["--lambda-fraction", 0.1, "--gap", 1e-11]
    results = [
        solve(folder, D, X, *options, *more)
        for more in (
            ["--solver", "ista"],
            ["--solver", "fista"],
            ["--solver", "fista", "--no-restart"],
            ["--solver", "working-set"],
        )
    ]
    for codes in results:
        check(codes, D, X, 1e-11)
        for other in results:
            apart = np.maximum(codes.dual_gap, other.dual_gap) + rounding(D, X)
            assert (np.abs(codes.objective - other.objective) <= apart).all()
    ista, fista, plain, working_set = results
    assert fista.iterations.sum() < ista.iterations.sum()
    assert (plain.iterations != fista.iterations).any(), "--no-restart changes nothing"
    assert working_set.iterations.sum() < fista.iterations.sum()


def test_what_auto_takes(folder):
    D, X = problem(40, 100, 5)
    auto = json.loads(run("info", "--json").stdout)["cuda_devices"] and "fista" or "plain-working-set"
    for more, wanted in (
        ([], auto),
        (["--device", "cpu"], "plain-working-set"),
        (["--device", "cpu", "--no-restart"], "fista"),
        (["--device", "cpu", "--threads", 1, "--memory-limit", "1MB"], "fista"),
    ):
        files = save(folder, D, X)
        said = json.loads(run("solve", *files, "--lambda-fraction", 0.1, "--output", folder / "Z.npz", "--json", *more).stdout)
        assert said["solver"] == wanted, more


# -------------------------------------------------------------------------------------------------------------- lambda


def test_lambda_is_one_value(folder):
    D, X = problem(20, 50, 30)
    codes = solve(folder, D, X, "--lambda", 0.37)
    assert (codes.lam == 0.37).all()
    check(codes, D, X)


def test_lambda_fraction_is_of_each_sample(folder):
    D, X = problem(20, 50, 30)
    for scope in ([], ["--lambda-scope", "sample"]):
        codes = solve(folder, D, X, "--lambda-fraction", 0.4, *scope)
        assert np.allclose(codes.lam, 0.4 * lambda_max(D, X), rtol=1e-14, atol=0)
        check(codes, D, X)


def test_lambda_fraction_is_of_the_recording(folder):
    D, X = problem(20, 50, 5000)
    X[4321] *= 7
    codes = solve(folder, D, X, "--lambda-fraction", 0.02, "--lambda-scope", "recording")
    assert (codes.lam == codes.lam[0]).all()
    assert np.isclose(codes.lam[0], 0.02 * lambda_max(D, X).max(), rtol=1e-14, atol=0)
    check(codes, D, X)


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_lambda_file(folder, dtype):
    D, X = problem(20, 50, 30)
    lambdas = np.random.default_rng(1).uniform(0.05, 1.5, 30).astype(dtype)
    np.save(folder / "L.npy", lambdas)
    codes = solve(folder, D, X, "--lambda-file", folder / "L.npy")
    assert (codes.lam == lambdas).all()
    check(codes, D, X)


def test_lambda_options_agree(folder):
    D, X = problem(20, 50, 30)
    codes = solve(folder, D, X, "--lambda-fraction", 0.4)
    np.save(folder / "L.npy", codes.lam)
    again = solve(folder, D, X, "--lambda-file", folder / "L.npy", output="again.npz")
    assert [again.row(i) for i in range(30)] == [codes.row(i) for i in range(30)]


@pytest.mark.parametrize("option", [["--lambda", 1e6], ["--lambda-fraction", 1], ["--lambda-fraction", 1.5]])
def test_from_lambda_max_on_the_code_is_zero(folder, option):
    D, X = problem(20, 50, 30)
    codes = solve(folder, D, X, *option)
    assert codes.Z.nnz == 0 and (codes.iterations == 0).all()
    assert np.allclose(codes.objective, energy(X), rtol=1e-14)
    check(codes, D, X)


def test_just_under_lambda_max_one_atom_is_in_use(folder):
    D, X = problem(20, 50, 30)
    codes = solve(folder, D, X, "--lambda-fraction", 0.999, "--gap", 1e-10)
    assert (np.diff(codes.Z.indptr) == 1).all()
    assert (codes.Z.indices == np.abs(X @ D).argmax(1)).all()


def test_tiny_lambda(folder):
    D, X = problem(20, 8, 10)
    codes = solve(folder, D, X, "--lambda-fraction", 1e-6, "--gap", 1e-9)
    check(codes, D, X, 1e-9)
    assert np.allclose(codes.Z.toarray(), np.linalg.lstsq(D, X.T, rcond=None)[0].T, atol=1e-3)


# -------------------------------------------------------------------------------------------------------- zeros, units


def test_zero_atoms_and_zero_observations(folder):
    D, X = problem(20, 50, 30)
    D[:, [0, 7, 49]] = 0
    X[[0, 11, 29]] = 0
    for options in (
        ["--lambda-fraction", 0.3],
        ["--lambda", 0.2],
        ["--lambda-fraction", 0.02, "--lambda-scope", "recording"],
    ):
        codes = solve(folder, D, X, *options)
        check(codes, D, X)
        assert not set(codes.Z.indices) & {0, 7, 49}
        for i in (0, 11, 29):
            assert codes.Z[i].nnz == 0 and codes.objective[i] == 0 and codes.dual_gap[i] == 0
            assert codes.converged[i] and codes.iterations[i] == 0


@pytest.mark.parametrize(
    "option",
    [["--lambda", 1], ["--lambda-fraction", 0.5], ["--lambda-fraction", 0.5, "--lambda-scope", "recording"]],
    ids=lambda o: o[-1],
)
def test_all_zero(folder, option):
    some_D, some_X = problem(4, 6, 3)
    for D, X in ((0 * some_D, some_X), (some_D, 0 * some_X), (0 * some_D, 0 * some_X)):
        codes = solve(folder, D, X, *option)
        assert codes.Z.nnz == 0 and codes.converged.all()
        assert (codes.dual_gap <= rounding(D, X)).all()
        assert np.allclose(codes.objective, energy(X), rtol=1e-14)


def test_equal_atoms(folder):
    D, X = problem(10, 15, 8)
    D = np.repeat(D, 2, axis=1)
    check(solve(folder, D, X, "--lambda-fraction", 0.2), D, X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "D_unit, X_unit", [(1e-13, 1), (1, 1e-13), (1e-13, 1e-13), (1e-13, 1e12), (1e12, 1e-13), (1e12, 1e12)]
)
def test_units_of_measurement(folder, D_unit, X_unit, dtype):
    D, X = problem(20, 50, 30)
    plain = solve(folder, D.astype(dtype), X.astype(dtype), "--lambda-fraction", 0.3, output="plain.npz")
    D2, X2 = (D * D_unit).astype(dtype), (X * X_unit).astype(dtype)
    codes = solve(folder, D2, X2, "--lambda-fraction", 0.3)
    check(codes, D2, X2)
    # The units themselves are rounded to the file's type, so that the codes are the same but for that and the gap.
    scale = np.abs(plain.Z).max()
    assert np.abs(codes.Z * (D_unit / X_unit) - plain.Z).max() <= 0.02 * scale
    assert np.allclose(codes.objective / X_unit / X_unit, plain.objective, rtol=1e-4)


def test_powers_of_two_change_no_bit(folder):
    D, X = problem(20, 50, 30)
    plain = solve(folder, D, X, "--lambda-fraction", 0.3, output="plain.npz")
    codes = solve(folder, D * 2.0**-45, X * 2.0**40, "--lambda-fraction", 0.3)
    assert (codes.Z.indices == plain.Z.indices).all() and (codes.Z.indptr == plain.Z.indptr).all()
    assert (codes.Z.data * 2.0**-85 == plain.Z.data).all()
    assert (codes.objective * 2.0**-80 == plain.objective).all()
    assert (codes.dual_gap * 2.0**-80 == plain.dual_gap).all()
    assert (codes.iterations == plain.iterations).all()


def test_loud_and_silent_observations_side_by_side(folder):
    D, X = problem(20, 50, 30)
    loud = X * 10.0 ** np.arange(-15, 15)[:, None]
    codes = solve(folder, D, loud, "--lambda-fraction", 0.3)
    check(codes, D, loud)


# --------------------------------------------------------------------------------------------------------- determinism


@pytest.mark.parametrize("solver", ["fista", "working-set"])
def test_same_bits_whatever_runs_beside(folder, solver):
    D, X = problem(40, 300, 600)
    X[100:140] = X[:40]
    options = ["--lambda-fraction", 0.15, "--gap", 1e-8, "--solver", solver]
    if solver == "working-set":
        options += ["--device", "cpu"]
    codes = solve(folder, D, X, *options, "--threads", 1)
    rows = [codes.row(i) for i in range(len(X))]
    assert rows[100:140] == rows[:40]
    for more in (
        ["--threads", 2],
        ["--threads", 3],
        ["--memory-limit", "8MB"],
        ["--memory-limit", "3MiB" if solver == "fista" else "6MiB", "--threads", 2],
        ["--memory-limit", "20 GB"],
    ):
        other = solve(folder, D, X, *options, *more, output="other.npz")
        for name, array in codes.arrays.items():
            if name != "fingerprint":  # which says the number of threads
                assert other.arrays[name].tobytes() == array.tobytes(), (more, name)
    order = np.random.default_rng(2).permutation(len(X))
    shuffled = solve(folder, D, X[order], *options)
    assert [shuffled.row(i) for i in range(len(X))] == [rows[i] for i in order]
    for i in (0, 17, 599):
        assert solve(folder, D, X[i : i + 1], *options).row(0) == rows[i], "a problem alone"


def test_recording_longer_than_memory(folder):
    D, X = problem(16, 64, 8000)
    small = solve(folder, D, X, "--lambda-fraction", 0.5, "--memory-limit", "1MiB", output="small.npz")
    large = solve(folder, D, X, "--lambda-fraction", 0.5)
    assert small.path.read_bytes() == large.path.read_bytes()
    check(small, D, X)


# ---------------------------------------------------------------------------------------------------------- iterations


@pytest.mark.parametrize("solver", [["--solver", "ista"], ["--solver", "fista"], ["--no-restart"]], ids=lambda o: o[-1])
@pytest.mark.parametrize("count", [0, 1, 7, 25, 26, 60])
def test_max_iterations(folder, count, solver):
    D, X = problem(40, 120, 30)
    files = save(folder, D, X)
    done = run(
        "solve",
        *files,
        "--output",
        folder / "Z.npz",
        "--lambda-fraction",
        0.01,
        "--gap",
        1e-12,
        "--max-iterations",
        count,
        *solver,
        status=UNCONVERGED,
    )
    assert re.search(r"\b30 of 30 problems\b", one_line(done)) and "Z.npz" in done.stderr
    codes = Codes(folder / "Z.npz")
    assert (codes.iterations == count).all() and not codes.converged.any()
    check(codes, D, X, 1e-12, all_converged=False)
    if count == 0:
        assert codes.Z.nnz == 0


def test_unconverged_are_counted(folder):
    D, X = problem(40, 120, 30)
    full = solve(folder, D, X, "--lambda-fraction", 0.1, "--solver", "fista")
    limit = int(np.median(full.iterations))
    files = save(folder, D, X)
    done = run(
        "solve",
        *files,
        "--output",
        folder / "Z.npz",
        "--lambda-fraction",
        0.1,
        "--solver",
        "fista",
        "--max-iterations",
        limit,
        "--json",
        status=UNCONVERGED,
    )
    codes = Codes(folder / "Z.npz")
    check(codes, D, X, all_converged=False)
    missed = int((~codes.converged).sum())
    assert 0 < missed < 30 and missed == (full.iterations > limit).sum()
    assert re.search(rf"\b{missed} of 30 problems\b", one_line(done))
    said = json.loads(done.stdout)
    assert said["unconverged"] == missed and said["converged"] == 30 - missed
    assert (codes.iterations[~codes.converged] == limit).all()


def plain_iterates(D, x, lam, momentum, count):
    """z_1 .. z_count of ISTA or FISTA without restart: docs/math.md."""
    step = 1 / np.linalg.norm(D, 2) ** 2
    z = y = np.zeros(D.shape[1])
    t = 1.0
    for _ in range(count):
        u = y - step * (D.T @ (D @ y - x))
        new = np.sign(u) * np.maximum(np.abs(u) - lam * step, 0)
        t_new = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = new + ((t - 1) / t_new if momentum else 0) * (new - z)
        z, t = new, t_new
        yield z


@pytest.mark.parametrize("solver", ["ista", "fista"])
def test_iterates_are_the_literature_s(folder, solver):
    D, X = problem(20, 50, 1)
    lam = 0.1 * lambda_max(D, X)[0]
    iterates = list(plain_iterates(D, X[0], lam, solver == "fista", 80))
    for count in (1, 2, 3, 10, 24, 25, 26, 49, 50, 51, 80):
        codes = solve(
            folder,
            D,
            X,
            "--lambda",
            lam,
            "--gap",
            2e-14,
            "--solver",
            solver,
            "--no-restart",
            "--max-iterations",
            count,
            status=UNCONVERGED,
        )
        z = iterates[count - 1]
        assert np.allclose(codes.Z.toarray()[0], z, rtol=0, atol=1e-5 * np.abs(z).max()), count


# ---------------------------------------------------------------------------------------------- what it says, and where


def test_summary(folder):
    D, X = problem(20, 50, 1234)
    files = save(folder, D, X)
    done = run("solve", *files, "--lambda-fraction", 0.3, "--output", folder / "Z.npz", status=DONE)
    assert done.stderr == ""
    codes = Codes(folder / "Z.npz")
    assert "1,234" in done.stdout and "20 x 50" in done.stdout and str(folder / "Z.npz") in done.stdout
    assert f"{codes.Z.nnz / 1234:.1f} nonzeros a problem" in done.stdout
    assert f"{(codes.dual_gap / energy(X)).max():.2e}" in done.stdout
    assert "problems/s" in done.stdout


def test_json_of_a_name_that_is_no_utf_8(folder):
    """A name may hold any bytes; the summary comes last and must not fail because of it."""
    files = save(folder, *problem(20, 50, 5))
    name = os.fsdecode(b"Z\xe9.npz")
    for command in (["solve", *files, "--lambda-fraction", 0.5, "--output", name, "--json"],
                    ["solve", *files, "--lambda-fraction", 0.5, "--output", name, "--json", "--resume"],
                    ["certify", name, *files, "--json"]):
        said = json.loads(run(*command, cwd=folder, status=DONE).stdout)
        assert said.get("output", said.get("codes")) == "Z\ufffd.npz"


def test_json(folder):
    D, X = problem(20, 50, 40)
    files = save(folder, D, X)
    done = run("solve", *files, "--lambda-fraction", 0.3, "--output", folder / "Z.npz", "--json", status=DONE)
    assert done.stderr == "" and done.stdout.count("\n") == 1
    said = json.loads(done.stdout)
    codes = Codes(folder / "Z.npz")
    assert set(said) >= JSON_KEYS
    assert (said["problems"], said["converged"], said["unconverged"]) == (40, 40, 0)
    assert (said["rows"], said["atoms"], said["nonzeros"]) == (20, 50, codes.Z.nnz)
    assert said["iterations"] == codes.iterations.sum() and said["gap"] == 1e-6
    assert np.isclose(said["worst_gap"], (codes.dual_gap / energy(X)).max(), rtol=1e-9)
    assert said["seconds"] > 0 and np.isclose(said["problems_per_second"], 40 / said["seconds"])
    assert said["output"] == str(folder / "Z.npz")


def test_quiet(folder):
    files = save(folder, *problem(20, 50, 40))
    done = run("solve", *files, "--lambda-fraction", 0.3, "--output", folder / "Z.npz", "--quiet", status=DONE)
    assert done.stdout == "" and done.stderr == ""


def test_help_and_version():
    assert "solve" in run("--help", status=DONE).stdout
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run("--version", status=DONE).stdout)
    said = run("solve", "--help", status=DONE).stdout
    for option in (
        "--dictionary",
        "--observations",
        "--lambda",
        "--lambda-fraction",
        "--lambda-file",
        "--lambda-scope",
        "--gap",
        "--solver",
        "--no-restart",
        "--device",
        "--max-iterations",
        "--memory-limit",
        "--threads",
        "--resume",
        "--quiet",
        "--json",
        "--output",
    ):
        assert option in said
    assert "Exit status" in said


def test_an_existing_file_is_replaced(folder):
    (folder / "Z.npz").write_text("old")
    D, X = problem(20, 50, 4)
    check(solve(folder, D, X, "--lambda", 1), D, X)
    assert sorted(path.name for path in folder.iterdir()) == ["D.npy", "X.npy", "Z.npz"]


def test_output_in_the_working_folder(folder):
    D, X = problem(20, 50, 4)
    save(folder, D, X)
    run(
        "solve",
        "--dictionary",
        "D.npy",
        "--observations",
        "X.npy",
        "--lambda",
        1,
        "--output",
        "Z.npz",
        cwd=folder,
        status=DONE,
    )
    check(Codes(folder / "Z.npz"), D, X)


def terminal_run(arguments, columns=100, seconds=60):
    """Runs the program with a terminal for standard error; returns what the terminal got, and the status."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = start(*arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    got, end = b"", time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            if select.select([leader], [], [], 0.1)[0]:
                try:
                    chunk = os.read(leader, 65536)
                except OSError:  # Linux says EIO when the other end is closed
                    break
                if not chunk:
                    break
                got += chunk
        return got.decode(), process.wait(timeout=max(0.1, end - time.monotonic())), process.stdout.read().decode()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(leader)


def bars(text):
    return text.split("\r\x1b[K")


@pytest.fixture(scope="module")
def second_of_work(tmp_path_factory):
    """About a second of work, measured here and now, for a solver that finishes few at a time."""
    folder = tmp_path_factory.mktemp("second")
    D, X = problem(60, 400, 200, seed=7)
    files = save(folder, D, X)
    # On the CPU, where the time is in the problems and not in starting a device.
    options = ["--lambda-fraction", 0.05, "--gap", 1e-8, "--device", "cpu", "--solver", "fista"]
    options += ["--output", folder / "Z.npz"]
    started = time.monotonic()
    run("solve", *files, *options, status=DONE)
    each = (time.monotonic() - started) / len(X)
    np.save(folder / "X.npy", np.tile(X, (max(1, round(1.5 / each / len(X))), 1)))
    return ["solve", *files, *options]


def test_progress_bar_on_a_terminal(second_of_work):
    got, status, _ = terminal_run(second_of_work)
    assert status == DONE
    drawn = [text for text in bars(got) if "problems" in text]
    assert len(drawn) >= 3, got
    for text in drawn:
        assert re.search(r"\d of [\d,]+ problems, [\d.]+[kMG]?/s, worst gap \d\.\de[-+]\d\d", text), text
        assert len(text) < 100
    assert any(re.match(r"\[#*\.*\] ", text) for text in drawn)
    assert got.endswith("\r\x1b[K"), "the bar is wiped at the end"


def test_progress_bar_keeps_to_a_narrow_terminal(second_of_work):
    got, status, _ = terminal_run(second_of_work, columns=40)
    assert status == DONE and "problems" in got
    assert all(len(text) < 40 for text in bars(got)) and "\n" not in got


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_no_progress_bar(second_of_work, option):
    got, status, printed = terminal_run([*second_of_work, option])
    assert status == DONE and got == ""
    assert printed == "" if option == "--quiet" else json.loads(printed)


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [False, True])
def test_progress_lines_in_a_log(long_problem, folder, quiet):
    process = start(
        "solve", *long_problem, "--output", folder / "Z.npz", *["--quiet"] * quiet, stderr=subprocess.PIPE, text=True
    )
    time.sleep(23)
    process.terminate()
    lines = process.communicate(timeout=60)[1].splitlines()
    assert len(lines) == (1 if quiet else 3), lines
    assert all(re.match(r"[\d,]+ of 20,000 problems, ", line) and "\r" not in line for line in lines[:-1])


# -------------------------------------------------------------------------------------------------------- being stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_stopped(long_problem, folder, number):
    (folder / "Z.npz").write_text("old")
    process = start(
        "solve",
        *long_problem,
        "--output",
        folder / "Z.npz",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.5)
    assert process.poll() is None, "the problem was meant to take longer"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert out == ""
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert len(err.splitlines()) == (0 if number == signal.SIGKILL else 1), err
    # What was finished is kept (test_resume.py); nothing else stays.
    assert {path.name for path in folder.iterdir()} <= {"Z.npz", "Z.npz.journal"}
    assert (folder / "Z.npz").read_text() == "old"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_standard_output_full(folder, option):
    files = save(folder, *problem(6, 9, 4))
    with open("/dev/full", "w") as full:
        done = run("solve", *files, "--lambda", 1, "--output", folder / "Z.npz", *option, stdout=full, status=FAILED)
    assert "standard output" in one_line(done)


def test_standard_output_closed(folder):
    files = save(folder, *problem(6, 9, 4))
    done = run(
        "solve",
        *files,
        "--lambda",
        1,
        "--output",
        folder / "Z.npz",
        "--quiet",
        preexec_fn=lambda: os.close(1),
        status=DONE,
    )
    assert done.stderr == ""
    assert len(np.load(folder / "Z.npz")["lambda"]) == 4
