"""`--memory-limit` bounds the memory of a solve, but for the program itself, whatever the number of problems is."""

import subprocess
import sys

import numpy as np
import pytest

from program import DONE, FAILED, PATH, UNCONVERGED, Codes, run, save

MIB = 1 << 20
BESIDES = 32 * MIB  # the constant of the README: the program, its libraries and buffers, on the CPU


# A process counts what its parent had in memory when it was forked: the parent is this small one, not pytest.
MEASURE = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(*arguments, status=DONE, timeout=120):
    """Largest resident size in bytes of one run, which must end with `status`."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, str(PATH), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=True,
    )
    found, kib = map(int, done.stdout.split())
    assert found == status, done.stderr
    return kib * 1024


def phantom(folder, samples):
    files = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]
    run("phantom", "meg", "--sensors", 102, "--sources", 1000, "--samples", samples, *files, "--quiet", timeout=600)
    return ["solve", *files, "--lambda-fraction", 0.9, "--gap", 1e-2, "--output", folder / "Z.npz", "--quiet"]


@pytest.mark.parametrize("limit", [9, 16, 64])
def test_ten_thousand_problems(folder, limit):
    solving = phantom(folder, 10000)
    assert peak(*solving, "--threads", 2, "--memory-limit", f"{limit}MiB") <= limit * MIB + BESIDES


@pytest.mark.slow
def test_a_million_problems(folder):
    solving = phantom(folder, 1000000)
    limit = 32 * MIB
    assert peak(*solving, "--threads", 2, "--memory-limit", limit, timeout=3000) <= limit + BESIDES
    assert len(Codes(folder / "Z.npz").lam) == 1000000


@pytest.mark.parametrize(
    "rows, options, status",
    [
        (600, ["--lambda-fraction", 1e-3, "--max-iterations", 100, "--solver", "fista"], UNCONVERGED),
        (200, ["--lambda-fraction", 0.3, "--solver", "fista"], DONE),
        (600, ["--lambda-fraction", 1e-3, "--solver", "working-set", "--device", "cpu"], DONE),
    ],
    ids=["full codes", "double", "large working sets"],
)
@pytest.mark.parametrize("limit", [32, 96])
def test_results_and_batches_at_their_largest(folder, limit, rows, options, status):
    """Codes without zeros; problems that all go on in double."""
    random = np.random.default_rng(0)
    files = save(folder, random.standard_normal((60, 3000)), random.standard_normal((rows, 60)))
    solving = ["solve", *files, "--gap", 1e-9, *options, "--output", folder / "Z.npz", "--quiet", "--threads", 2]
    assert peak(*solving, "--memory-limit", f"{limit}MiB", status=status) <= limit * MIB + BESIDES


def test_a_lambda_a_problem_is_counted(folder):
    random = np.random.default_rng(0)
    files = save(folder, random.standard_normal((2, 3)), np.zeros((500000, 2), np.float32))
    np.save(folder / "L.npy", np.ones(500000))
    solving = ["solve", *files, "--output", folder / "Z.npz", "--quiet", "--threads", 1, "--memory-limit"]
    line = run(*solving, "4MB", "--lambda", 1, status=FAILED).stderr
    assert "--memory-limit: found 4000000 bytes, wanted at least" in line and "500000 problems" in line
    line = run(*solving, "8MB", "--lambda-file", folder / "L.npy", status=FAILED).stderr
    assert "--memory-limit: found 8000000 bytes, wanted at least" in line
    assert peak(*solving, "9MB", "--lambda-file", folder / "L.npy") <= 9e6 + BESIDES


def test_the_limit_is_looked_at_before_the_dictionary_is_made(folder):
    """A dictionary of 400 MB in a file of holes."""
    n, m = 1000, 100000
    with open(folder / "D.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (n, m)}
        )
        file.truncate(file.tell() + 4 * n * m)
    np.save(folder / "X.npy", np.zeros((3, n)))
    files = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]
    used = peak(
        "solve", *files, "--lambda", 1, "--output", folder / "Z.npz", "--memory-limit", "1GB", status=FAILED
    )
    assert used <= BESIDES
