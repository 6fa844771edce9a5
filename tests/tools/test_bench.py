"""`shrinkwarp bench fista`."""

import json

import numpy as np
import pytest

from program import DONE, FAILED, USAGE, one_line, run, save


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
