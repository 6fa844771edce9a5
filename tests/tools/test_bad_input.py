"""Whatever is wrong with options or files: one clear line, a status that is not 0, and nothing left behind."""

import json
import os
import re
import resource
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from program import DONE, FAILED, PATH, USAGE, Codes, one_line, run, save

N, n, m = 5, 6, 9


@pytest.fixture
def files(folder):
    random = np.random.default_rng(0)
    return save(folder, random.standard_normal((n, m)), random.standard_normal((N, n)))


def refused(folder, arguments, *wanted, status=FAILED, journal=None, **options):
    """The program refuses: the line names everything in `wanted`, and the folder is as it was. `journal`: that of the
    problems finished before, which must be there, and goes."""
    before = {path: path.lstat() for path in folder.rglob("*")}
    done = run(*arguments, status=status, timeout=30, **options)
    line = one_line(done)
    assert line.startswith("shrinkwarp: ")
    for text in wanted:
        assert str(text) in line, f"'{text}' is not in: {line}"
    assert done.stdout == ""
    if journal is not None:
        assert re.search(rf"[\d,]+ of [\d,]+ problems are kept in {re.escape(str(journal))}, --resume", line), line
        journal.unlink()
    after = {path: path.lstat() for path in folder.rglob("*")}
    assert set(after) == set(before), "files were left behind"
    for path, found in after.items():
        if journal is not None and path.is_dir():
            continue  # the journal came and went
        assert (found.st_size, found.st_mtime_ns) == (before[path].st_size, before[path].st_mtime_ns), path
    return line


def solve(files, folder, *options):
    return ["solve", *files, "--output", folder / "Z.npz", *(options or ["--lambda", 1])]


# ------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    "options, wanted",
    [
        ([], ["--lambda"]),
        (["--lambda", 1, "--lambda-fraction", 0.5], ["--lambda"]),
        (["--lambda", 1, "--lambda-file", "L.npy"], ["--lambda"]),
        (["--lambda", -2], ["--lambda", "-2"]),
        (["--lambda", -1], ["--lambda", "-1"]),
        (["--lambda", "nan"], ["lambda", "nan"]),
        (["--lambda", "inf"], ["--lambda", "inf"]),
        (["--lambda", "one"], ["--lambda", "one"]),
        (["--lambda", "1e400"], ["--lambda", "1e400"]),
        (["--lambda", "1x"], ["--lambda", "1x"]),
        (["--lambda-fraction", 0], ["--lambda-fraction", "0"]),
        (["--lambda-fraction", -0.5], ["--lambda-fraction", "-0.5"]),
        (["--lambda-fraction", "nan"], ["fraction", "nan"]),
        (["--lambda", 1, "--lambda-scope", "recording"], ["--lambda-scope", "--lambda-fraction"]),
        (["--lambda-fraction", 0.5, "--lambda-scope", "session"], ["--lambda-scope", "session", "sample", "recording"]),
        (["--lambda", 1, "--gap", 0], ["--gap", "0"]),
        (["--lambda", 1, "--gap", -1e-6], ["--gap", "-1e-06"]),
        (["--lambda", 1, "--gap", "nan"], ["gap", "nan"]),
        (["--lambda", 1, "--gap", "inf"], ["gap", "inf"]),
        (["--lambda", 1, "--solver", "lars"], ["--solver", "lars", "working-set", "plain-working-set", "fista", "ista"]),
        (["--lambda", 1, "--device", "tpu"], ["--device", "tpu", "auto", "cpu", "cuda"]),
        (["--lambda", 1, "--device", "cuda:"], ["--device", "cuda:"]),
        (["--lambda", 1, "--device", "cuda:-1"], ["--device", "cuda:-1"]),
        (["--lambda", 1, "--device", "cuda:99999999999"], ["--device", "cuda:99999999999"]),
        (["--lambda", 1, "--max-iterations", -1], ["--max-iterations", "-1"]),
        (["--lambda", 1, "--max-iterations", 1.5], ["--max-iterations", "1.5"]),
        (["--lambda", 1, "--max-iterations", 10**20], ["--max-iterations", str(10**20)]),
        (["--lambda", 1, "--memory-limit", "much"], ["much", "4GiB"]),
        (["--lambda", 1, "--memory-limit", ""], ["memory-limit"]),
        (["--lambda", 1, "--memory-limit", "4 parsec"], ["4 parsec", "4GiB"]),
        (["--lambda", 1, "--memory-limit", "-4GiB"], ["-4GiB", "4GiB"]),
        (["--lambda", 1, "--memory-limit", "nan"], ["nan", "4GiB"]),
        (["--lambda", 1, "--memory-limit", "inf"], ["inf", "4GiB"]),
        (["--lambda", 1, "--memory-limit", 0], ["0", "4GiB"]),
        (["--lambda", 1, "--threads", -1], ["--threads", "-1"]),
        (["--lambda", 1, "--threads", 5000], ["--threads", "5000"]),
        (["--lambda", 1, "--thread", 1], ["--thread"]),
        (["--lambda", 1, "--frobnicate"], ["--frobnicate"]),
        (["--lambda", 1, "extra"], ["extra"]),
        (["--lambda"], ["--lambda"]),
        (["--lambda", 1, "--lambda", 2], ["--lambda"]),
        (["--lambda", 1, "--output", "again.npz"], ["--output"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_options(files, folder, options, wanted):
    np.save(folder / "L.npy", np.ones(N))
    refused(folder, ["solve", *files, "--output", folder / "Z.npz", *options], *wanted, status=USAGE, cwd=folder)


@pytest.mark.parametrize("missing", ["--dictionary", "--observations", "--output"])
def test_missing_option(files, folder, missing):
    arguments = solve(files, folder)
    place = arguments.index(missing)
    refused(folder, arguments[:place] + arguments[place + 2 :], missing, status=USAGE)


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        ([], "subcommand"),
        (["frobnicate"], "frobnicate"),
        (["--frobnicate"], "--frobnicate"),
        (["phantom"], "subcommand"),
        (["phantom", "eeg"], "eeg"),
        (["info", "extra"], "extra"),
    ],
)
def test_commands(folder, arguments, wanted):
    refused(folder, arguments, wanted, status=USAGE)


def test_no_line_is_a_wall_of_digits(files, folder):
    for options in (
        ["--lambda", -1],
        ["--lambda-fraction", 0],
        ["--lambda", 1, "--gap", 0],
        ["--lambda", 1, "--max-iterations", -1],
    ):
        line = refused(folder, solve(files, folder, *options), status=USAGE)
        assert len(line) < 160, line


def cuda_build():
    return json.loads(run("info", "--json", status=DONE).stdout)["cuda_build"]


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:77"])
def test_cuda_where_there_is_none(files, folder, device):
    if cuda_build() and device != "cuda:77":
        pytest.skip("this build has CUDA")
    refused(folder, solve(files, folder, "--lambda", 1, "--device", device), "77" if cuda_build() else "CUDA")


def test_memory_limit_too_small(files, folder):
    line = refused(folder, solve(files, folder, "--lambda", 1, "--memory-limit", 100), "100", "at least", f"{n} x {m}")
    enough = [int(word) for word in line.replace(",", "").split() if word.isdigit()]
    run(*solve(files, folder, "--lambda", 1, "--memory-limit", max(enough)), status=DONE)


# ----------------------------------------------------------------------------------------------------- broken npy files


def header(text, version=1, magic=b"\x93NUMPY", length=None):
    text = text.encode() if isinstance(text, str) else text
    size = len(text) if length is None else length
    return magic + bytes([version, 0]) + size.to_bytes(2 if version == 1 else 4, "little") + text


GOOD = "{'descr': '<f8', 'fortran_order': False, 'shape': (%d, %d), }\n"


def body(rows, cols):
    return np.ones(rows * cols).tobytes()


BROKEN = {
    "empty": lambda r, c: b"",
    "one byte": lambda r, c: b"\x93",
    "magic only": lambda r, c: b"\x93NUMPY",
    "text": lambda r, c: b"1.0 2.0 3.0\n4.0 5.0 6.0\n",
    "npz": lambda r, c: b"PK\x03\x04" + bytes(64),
    "wrong magic": lambda r, c: header(GOOD % (r, c), magic=b"\x93NUMPX") + body(r, c),
    "version 9": lambda r, c: header(GOOD % (r, c), version=9) + body(r, c),
    "header cut": lambda r, c: header(GOOD % (r, c))[:40],
    "header longer than the file": lambda r, c: header(GOOD % (r, c), length=60000),
    "header of 4 GB": lambda r, c: header(GOOD % (r, c), version=2, length=2**32 - 1),
    "data cut": lambda r, c: (header(GOOD % (r, c)) + body(r, c))[:-1],
    "no data": lambda r, c: header(GOOD % (r, c)),
    "data too long": lambda r, c: header(GOOD % (r, c)) + body(r, c) + b"\0",
    "no dict": lambda r, c: header("[1, 2, 3]\n") + body(r, c),
    "dict cut": lambda r, c: header("{'descr': '<f8', 'fortran_order': Fal") + body(r, c),
    "key missing": lambda r, c: header("{'descr': '<f8', 'shape': (%d, %d), }\n" % (r, c)) + body(r, c),
    "key twice": lambda r, c: (
        header("{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (%d, %d), }\n" % (r, c)) + body(r, c)
    ),
    "unknown key": lambda r, c: (
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (%d, %d), 'x': 1}\n" % (r, c)) + body(r, c)
    ),
    "negative size": lambda r, c: header(GOOD % (-r, -c)) + body(r, c),
    "huge size": lambda r, c: header(GOOD % (r, 2**61)) + body(r, c),
    "overflowing size": lambda r, c: header(GOOD % (2**40, 2**40)) + body(r, c),
    "size of 40 digits": lambda r, c: header(GOOD % (r, 10**40)) + body(r, c),
    "size is text": lambda r, c: (
        header("{'descr': '<f8', 'fortran_order': False, 'shape': ('a', 'b'), }\n") + body(r, c)
    ),
    "zeros": lambda r, c: bytes(4096),
    "binary header": lambda r, c: header(bytes(range(128, 256))) + body(r, c),
    "nested header": lambda r, c: header("(" * 5000) + body(r, c),
}


@pytest.mark.parametrize("which", ["D.npy", "X.npy", "L.npy"])
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file(files, folder, which, kind):
    sizes = {"D.npy": (n, m), "X.npy": (N, n), "L.npy": (N, 1)}[which]
    np.save(folder / "L.npy", np.ones(N))
    (folder / which).write_bytes(BROKEN[kind](*sizes))
    refused(folder, solve(files, folder, "--lambda-file", folder / "L.npy"), which)


@pytest.mark.parametrize("which", ["D.npy", "X.npy", "L.npy"])
@pytest.mark.parametrize(
    "dtype",
    [
        ">f8",
        ">f4",
        "<f2",
        "<i8",
        "<i4",
        "|u1",
        "|b1",
        "<c8",
        "<c16",
        "|O",
        "<U3",
        "|S3",
        "<M8[s]",
        [("a", "<f8")],
        "<f16",
    ],
    ids=str,
)
def test_element_type(files, folder, which, dtype):
    shape = {"D.npy": (n, m), "X.npy": (N, n), "L.npy": (N,)}[which]
    np.save(folder / "L.npy", np.ones(N))
    np.save(folder / which, np.zeros(shape, dtype))
    line = refused(folder, solve(files, folder, "--lambda-file", folder / "L.npy"), which)
    name = np.lib.format.dtype_to_descr(np.dtype(dtype))
    if isinstance(name, str) and name not in ("|O",):
        assert name in line


@pytest.mark.parametrize("which", ["D.npy", "X.npy"])
@pytest.mark.parametrize("shape", [(), (6,), (1, 6, 9), (6, 9, 1)], ids=str)
def test_dimensions(files, folder, which, shape):
    np.save(folder / which, np.ones(shape))
    refused(folder, solve(files, folder), which, shape, "2-D")


@pytest.mark.parametrize("shape", [(), (N, 1), (1, N)], ids=str)
def test_dimensions_of_lambda(files, folder, shape):
    np.save(folder / "L.npy", np.ones(shape))
    refused(folder, solve(files, folder, "--lambda-file", folder / "L.npy"), "L.npy", shape, "1-D")


# ------------------------------------------------------------------------------------------------ sizes that do not fit


def test_lengths_differ(files, folder):
    np.save(folder / "X.npy", np.ones((N, n + 1)))
    refused(folder, solve(files, folder), "D.npy", "X.npy", n, n + 1)


@pytest.mark.parametrize("shape", [(n, 0), (0, m), (0, 0)], ids=str)
def test_empty_dictionary(files, folder, shape):
    np.save(folder / "D.npy", np.ones(shape))
    np.save(folder / "X.npy", np.ones((N, shape[0])))
    refused(folder, solve(files, folder), "D.npy", f"{shape[0]} x {shape[1]}")


def test_no_observations(files, folder):
    np.save(folder / "X.npy", np.ones((0, n)))
    refused(folder, solve(files, folder), "X.npy")


@pytest.mark.parametrize("length", [0, N - 1, N + 1])
def test_lambda_file_of_wrong_length(files, folder, length):
    np.save(folder / "L.npy", np.ones(length))
    refused(folder, solve(files, folder, "--lambda-file", folder / "L.npy"), "L.npy", length, N)


# ---------------------------------------------------------------------------------------------- numbers that are none


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(files, folder, value, dtype):
    random = np.random.default_rng(1)
    D, X = random.standard_normal((n, m)).astype(dtype), random.standard_normal((3000, n)).astype(dtype)
    for which, array, place in (("D.npy", D, (3, 7)), ("X.npy", X, (2345, 4))):
        bad = array.copy()
        bad[place] = value
        np.save(folder / "D.npy", D)
        np.save(folder / "X.npy", X)
        np.save(folder / which, bad)
        for options in (
            ["--lambda", 1],
            ["--lambda-fraction", 0.5],
            ["--lambda-fraction", 0.5, "--lambda-scope", "recording"],
        ):
            solved = which == "X.npy" and "recording" not in options
            journal = folder / "Z.npz.journal" if solved else None
            refused(folder, solve(files, folder, *options), which, str(value), *place, journal=journal)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e-300, -1.0])
def test_lambda_file_values(files, folder, value):
    lambdas = np.ones(N)
    lambdas[3] = value
    np.save(folder / "L.npy", lambdas)
    refused(folder, solve(files, folder, "--lambda-file", folder / "L.npy"), "L.npy", 3, f"{value:g}")


@pytest.mark.parametrize(
    "D_unit, X_unit", [(1e200, 1), (1, 1e200), (1e300, 1e300), (1e-200, 1), (1, 1e-200), (5e-324, 1), (1, 5e-324)]
)
def test_numbers_at_the_end_of_the_range(files, folder, D_unit, X_unit):
    """Squares of these leave float64. Either it is solved or refused; numbers that are none are not delivered."""
    random = np.random.default_rng(2)
    np.save(folder / "D.npy", random.standard_normal((n, m)) * D_unit)
    np.save(folder / "X.npy", random.standard_normal((N, n)) * X_unit)
    for options in (["--lambda-fraction", 0.5], ["--lambda", 1]):
        done = run(*solve(files, folder, *options), timeout=30)
        if done.returncode == DONE:
            codes = Codes(folder / "Z.npz")
            for name in ("data", "lambda", "objective", "dual_gap"):
                assert np.isfinite(codes.arrays[name]).all(), name
            (folder / "Z.npz").unlink()
        else:
            assert done.returncode == FAILED
            one_line(done)
            assert not (folder / "Z.npz").exists()
            (folder / "Z.npz.journal").unlink(missing_ok=True)


# ----------------------------------------------------------------------------------------------------- the file system


@pytest.mark.parametrize("which", ["D.npy", "X.npy", "L.npy"])
def test_missing_input(files, folder, which):
    np.save(folder / "L.npy", np.ones(N))
    (folder / which).unlink()
    refused(folder, solve(files, folder, "--lambda-file", folder / "L.npy"), which, "No such file")


@pytest.mark.parametrize("which", ["D.npy", "X.npy", "L.npy"])
def test_folder_for_input(files, folder, which):
    np.save(folder / "L.npy", np.ones(N))
    (folder / which).unlink()
    (folder / which).mkdir()
    refused(folder, solve(files, folder, "--lambda-file", folder / "L.npy"), which, "folder")


def test_fifo_for_input_does_not_hang(files, folder):
    (folder / "X.npy").unlink()
    os.mkfifo(folder / "X.npy")
    refused(folder, solve(files, folder), "X.npy", "regular file")


def test_device_for_input(files, folder):
    refused(
        folder,
        ["solve", *files[:2], "--observations", "/dev/zero", "--lambda", 1, "--output", folder / "Z.npz"],
        "/dev/zero",
        "regular file",
    )


def test_path_under_a_file(files, folder):
    refused(
        folder,
        [
            "solve",
            *files[:2],
            "--observations",
            folder / "D.npy" / "X.npy",
            "--lambda",
            1,
            "--output",
            folder / "Z.npz",
        ],
        "Not a directory",
    )


@pytest.mark.parametrize("name", ["", " ", "x" * 300, "Z\n.npz"], ids=["empty", "blank", "long", "newline"])
def test_odd_names_of_input(files, folder, name):
    refused(folder, ["solve", *files[:2], "--observations", name, "--lambda", 1, "--output", folder / "Z.npz"])


def test_output_folder_missing(files, folder):
    refused(folder, ["solve", *files, "--lambda", 1, "--output", folder / "none" / "Z.npz"], "none", "No such file")


def test_output_under_a_file(files, folder):
    refused(folder, ["solve", *files, "--lambda", 1, "--output", folder / "D.npy" / "Z.npz"], "D.npy")


def test_output_is_a_folder(files, folder):
    (folder / "Z.npz").mkdir()
    refused(folder, solve(files, folder), "Z.npz", "folder")


@pytest.mark.parametrize("name", ["", "/", "."])
def test_output_is_no_name(files, folder, name):
    refused(folder, ["solve", *files, "--lambda", 1, "--output", name], cwd=folder)


def test_output_is_a_device(files, folder):
    refused(folder, ["solve", *files, "--lambda", 1, "--output", "/dev/null"], "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_output_is_a_link(files, folder):
    (folder / "real.npz").write_text("old")
    (folder / "Z.npz").symlink_to("real.npz")
    run(*solve(files, folder), status=DONE)
    assert (folder / "Z.npz").is_symlink() and len(Codes(folder / "real.npz").lam) == N


def test_failure_keeps_the_old_output(files, folder):
    (folder / "Z.npz").write_text("old")
    X = np.ones((N, n))
    X[-1, -1] = np.nan
    np.save(folder / "X.npy", X)
    refused(folder, solve(files, folder), "nan", journal=folder / "Z.npz.journal")
    assert (folder / "Z.npz").read_text() == "old"


def test_read_only_folder_and_unreadable_file():
    """As a user whom permissions concern."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = save(folder, np.ones((n, m)), np.ones((N, n)))
        user = {}
        if os.geteuid() == 0:
            folder.chmod(0o755)
            user = {"user": 65534}
            try:
                seen = subprocess.run([str(PATH), "--version"], capture_output=True, **user).returncode == 0
            except PermissionError:
                seen = False
            if not seen:
                pytest.skip("run by root, and no other user can run the program where it lies")
        else:
            folder.chmod(0o555)
        refused(folder, solve(files, folder), "Permission denied", **user)
        (folder / "X.npy").chmod(0)
        refused(folder, solve(files, folder), "X.npy", "Permission denied", **user)
        folder.chmod(0o755)


# ------------------------------------------------------------------------------------------------------------ disk full


def large_result(folder):
    """Some 2 MB of codes."""
    return save(folder, np.eye(64), np.random.default_rng(3).standard_normal((3000, 64)))


def test_disk_full(folder):
    disk = folder / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system can be mounted by root only")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        files = large_result(folder)
        solving = ["solve", *files, "--lambda", 0.01, "--solver", "fista", "--output", disk / "Z.npz"]
        refused(folder, solving, "Z.npz", "No space left", journal=disk / "Z.npz.journal")
        (disk / "Z.npz").write_text("old")
        refused(folder, solving, "Z.npz", "No space left", journal=disk / "Z.npz.journal")
        assert (disk / "Z.npz").read_text() == "old"
        refused(
            folder,
            [
                "phantom",
                "meg",
                "--sensors",
                30,
                "--sources",
                100,
                "--samples",
                10000,
                "--dictionary",
                folder / "P.npy",
                "--observations",
                disk / "P.npy",
            ],
            "No space left",
        )
        free = os.statvfs(disk)
        assert free.f_bfree * free.f_frsize > 200 << 10, "what was written is still there"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_file_size_limit(folder):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    files = large_result(folder)
    refused(
        folder,
        solve(files, folder, "--lambda", 0.01, "--solver", "fista"),
        "Z.npz",
        "File too large",
        journal=folder / "Z.npz.journal",
        preexec_fn=limit,
    )


# ---------------------------------------------------------------------------------------------------- launched by mpirun


def test_a_program_without_mpi_says_so_under_a_launcher(folder):
    """Its first rank does, once, and all end."""
    if json.loads(run("info", "--json").stdout)["mpi"]:
        pytest.skip("the program was built with MPI")
    launched = {**os.environ, "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
    refused(folder, ["info"], "found 2 processes", "built without MPI", env=launched)
    silent = run("info", status=FAILED, env={**launched, "OMPI_COMM_WORLD_RANK": "1"})
    assert silent.stdout == silent.stderr == ""
    run("info", status=DONE, env={**launched, "OMPI_COMM_WORLD_SIZE": "1"})
