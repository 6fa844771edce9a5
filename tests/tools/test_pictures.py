"""tools/bench/pictures.py on a small problem: its lines and its pictures."""

import json
import subprocess
import sys

import numpy as np

from program import PATH, ROOT


def test_measures_and_draws(folder):
    random = np.random.default_rng(0)
    np.save(folder / "D.npy", random.standard_normal((20, 60)))
    np.save(folder / "X.npy", random.standard_normal((7, 20)))
    command = [sys.executable, ROOT / "tools/bench/pictures.py", "--output", folder / "p"]
    measured = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy", "--program", PATH, "--problems",
                "1,5", "--fractions", "0.5", "--convergence-problems", "9", "--threads", "1"]
    subprocess.run([*command, *measured], check=True)
    lines = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()]
    assert {line["schema"] for line in lines} == {"shrinkwarp-bench-1"}
    assert [line["problems"] for line in lines if line["benchmark"] == "solve"] == [1, 5]
    for solver in ("ista", "fista", "working-set"):
        gaps = [line["worst_gap"] for line in lines if line["benchmark"] == "convergence" and line["solver"] == solver]
        assert gaps[-1] < 1e-4 * gaps[0]
    names = [f"p-{name}.png" for name in ("convergence", "phases", "throughput")]
    first = [(folder / name).read_bytes() for name in names]
    for name in names:
        (folder / name).unlink()
    subprocess.run([*command, "--draw-only"], check=True)
    assert [(folder / name).read_bytes() for name in names] == first


def test_says_what_is_missing(folder):
    done = subprocess.run([sys.executable, ROOT / "tools/bench/pictures.py", "--output", folder / "p"],
                          capture_output=True, text=True)
    assert done.returncode == 2 and "wanted both, or --draw-only" in done.stderr
