"""`shrinkwarp phantom meg` and `shrinkwarp info`."""

import json
import re

import numpy as np
import pytest

from program import DONE, FAILED, USAGE, Codes, check, one_line, run

SMALL = {"sensors": 30, "sources": 40, "samples": 50}


def make(folder, *options, quiet=True, prefix="", **sizes):
    arguments = [part for key, value in {**SMALL, **sizes}.items() for part in (f"--{key}", value)]
    D, X = folder / f"{prefix}D.npy", folder / f"{prefix}X.npy"
    done = run(
        "phantom",
        "meg",
        *arguments,
        "--dictionary",
        D,
        "--observations",
        X,
        *options,
        *["--quiet"] * quiet,
        status=DONE,
    )
    assert done.stderr == ""
    if quiet:
        assert done.stdout == ""
        return np.load(D), np.load(X)
    return done.stdout


@pytest.mark.parametrize("sensors", [3, 102, 306])
@pytest.mark.parametrize("sources", [1, 7, 500])
@pytest.mark.parametrize("free", [False, True])
def test_shapes(folder, sensors, sources, free):
    D, X = make(folder, *["--free"] * free, sensors=sensors, sources=sources, samples=9)
    assert D.dtype == X.dtype == np.float32 and D.flags.c_contiguous and X.flags.c_contiguous
    assert D.shape == (sensors, sources * (3 if free else 1)) and X.shape == (9, sensors)
    assert np.isfinite(D).all() and np.isfinite(X).all()
    assert np.isclose(np.sqrt((D.astype(float) ** 2).sum(0)).mean(), 1, rtol=1e-5)


@pytest.mark.parametrize("samples", [1, 4095, 4096, 4097, 10000])
def test_samples(folder, samples):
    assert make(folder, samples=samples)[1].shape == (samples, 30)


def test_default_sizes(folder):
    run(
        "phantom",
        "meg",
        "--samples",
        20,
        "--dictionary",
        folder / "D.npy",
        "--observations",
        folder / "X.npy",
        "--quiet",
        status=DONE,
    )
    assert np.load(folder / "D.npy").shape == (306, 5124) and np.load(folder / "X.npy").shape == (20, 306)


def test_seeds(folder):
    first, again, other = (make(folder, "--seed", seed, prefix=name) for seed, name in ((3, "a"), (3, "b"), (4, "c")))
    assert (folder / "aD.npy").read_bytes() == (folder / "bD.npy").read_bytes() == (folder / "cD.npy").read_bytes()
    assert (folder / "aX.npy").read_bytes() == (folder / "bX.npy").read_bytes()
    assert (first[1] != other[1]).all() and (first[1] == again[1]).all()
    assert (make(folder)[1] == make(folder, "--seed", 0)[1]).all()


def test_noise_has_variance_one(folder):
    D, X = make(folder, sensors=60, samples=20000)
    difference = X[1:].astype(float) - X[:-1]  # the brain is slow at this rate, the noise is white
    assert 1 <= np.sqrt((difference**2).mean() / 2) < 1.3


def test_what_it_says(folder):
    said = make(folder, quiet=False, samples=5000)
    assert str(folder / "D.npy") in said and str(folder / "X.npy") in said
    assert "30 sensors x 40 columns" in said and "5,000 samples at 600 Hz" in said


def test_it_can_be_solved(folder):
    D, X = make(folder, sensors=102, sources=300, samples=200)
    run(
        "solve",
        "--dictionary",
        folder / "D.npy",
        "--observations",
        folder / "X.npy",
        "--lambda-fraction",
        0.5,
        "--output",
        folder / "Z.npz",
        "--quiet",
        status=DONE,
    )
    codes = Codes(folder / "Z.npz")
    check(codes, D, X)
    assert 1 <= codes.Z.nnz / 200 < 50


@pytest.mark.parametrize(
    "option, value",
    [
        ("sensors", 0),
        ("sensors", 4),
        ("sensors", 309),
        ("sensors", -3),
        ("sources", 0),
        ("sources", -1),
        ("sources", 10**9),
        ("samples", 0),
        ("samples", -5),
        ("samples", 2**62),
    ],
)
def test_sizes_refused(folder, option, value):
    arguments = [part for key, size in {**SMALL, option: value}.items() for part in (f"--{key}", size)]
    done = run(
        "phantom", "meg", *arguments, "--dictionary", folder / "D.npy", "--observations", folder / "X.npy", timeout=30
    )
    assert done.returncode in (FAILED, USAGE)
    line = one_line(done)
    assert option in line and str(value) in line
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("options", [["--sensors", "many"], ["--seed", -1], ["--seed", 1.5], ["--frobnicate"]], ids=str)
def test_options_refused(folder, options):
    done = run(
        "phantom", "meg", "--dictionary", folder / "D.npy", "--observations", folder / "X.npy", *options, status=USAGE
    )
    assert str(options[0]) in one_line(done)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("missing", ["--dictionary", "--observations"])
def test_missing_option(folder, missing):
    other = {"--dictionary": "--observations", "--observations": "--dictionary"}[missing]
    assert missing in one_line(run("phantom", "meg", other, folder / "A.npy", status=USAGE))


@pytest.mark.parametrize("which", ["--dictionary", "--observations"])
def test_folder_missing(folder, which):
    paths = {"--dictionary": folder / "D.npy", "--observations": folder / "X.npy", which: folder / "none" / "A.npy"}
    done = run("phantom", "meg", "--samples", 10, *(part for pair in paths.items() for part in pair), status=FAILED)
    assert "none" in one_line(done)
    assert list(folder.iterdir()) == []


def test_same_file_twice(folder):
    done = run("phantom", "meg", "--samples", 10, "--dictionary", folder / "A.npy", "--observations", folder / "A.npy")
    assert done.returncode in (FAILED, USAGE)
    assert "A.npy" in one_line(done)
    assert list(folder.iterdir()) == []


def test_info():
    done = run("info", status=DONE)
    assert done.stderr == ""
    assert re.match(r"shrinkwarp +\d+\.\d+\.\d+, (CPU only|with CUDA)\n", done.stdout)
    assert re.search(r"^cpu +.*\d+ threads?$", done.stdout, re.M) and re.search(
        r"^cpu blas +OpenBLAS", done.stdout, re.M
    )
    assert re.search(r"^cuda(:0)? ", done.stdout, re.M)
    assert re.search(r"^nccl +\S", done.stdout, re.M)


def test_info_json():
    done = run("info", "--json", status=DONE)
    assert done.stderr == "" and done.stdout.count("\n") == 1
    said = json.loads(done.stdout)
    assert set(said) >= {"version", "cuda_build", "cpu", "blas", "cuda_devices", "cuda_reason", "mpi"}
    assert said["version"] == run("--version", status=DONE).stdout.strip()
    assert isinstance(said["cuda_devices"], list)
    assert said["cuda_devices"] or said["cuda_reason"]
    assert bool(said["nccl"]) != bool(said["nccl_reason"])
