#!/usr/bin/env python3
"""Ranks of mpirun beside threads of one process, in the same run, on this machine.

    /usr/bin/python3 tools/bench/ranks.py [--program build/cpu-release/bin/shrinkwarp] [--repeats 5] [--json]

First a recording of one kind, solved in turn by one process with two threads and by two ranks with a thread each: the
median of each and of the ratios of neighbours; seconds are those of the solves, which leaves out what a start by mpirun
takes. Then a recording whose second half takes at least ten times as long a problem: how much of the time each rank has
solved.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from peers.machine import ROOT, commit, cpu_model


def mpirun(ranks: int) -> list[str]:
    """What starts ranks of this machine that share its processors."""
    said = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=True).stdout
    if "Open MPI" not in said:
        return ["mpirun", "-n", str(ranks)]
    loopback = ["--oversubscribe", "--mca", "btl", "self,vader", "--mca", "oob_tcp_if_include", "lo"]
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return ["mpirun", *root, *loopback, "--bind-to", "none", "-n", str(ranks)]


def solve(start: list[str], program: Path, folder: Path, options: list[str]) -> dict:
    """One solve. @return what it says with --json"""
    files = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy", "--output", folder / "Z.npz"]
    command = [*start, str(program), "solve", *map(str, files), *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("shrinkwarp")]
        sys.exit("\n".join(said) or done.stderr)
    return json.loads(done.stdout)


def beside_threads(program: Path, folder: Path, samples: int, repeats: int) -> dict:
    """Two ranks with a thread each beside two threads of a process."""
    phantom = ["phantom", "meg", "--sensors", "102", "--sources", "1000", "--samples", str(samples), "--quiet"]
    files = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]
    subprocess.run([str(program), *phantom, *map(str, files)], check=True)
    options = ["--lambda-fraction", "0.1"]
    threads, ranks = [], []
    for _ in range(repeats):
        threads.append(solve([], program, folder, [*options, "--threads", "2"])["seconds"])
        ranks.append(solve(mpirun(2), program, folder, [*options, "--threads", "1"])["seconds"])
    return {
        "samples": samples,
        "threads_seconds": threads,
        "ranks_seconds": ranks,
        "ratio": statistics.median(r / t for r, t in zip(ranks, threads)),
    }


def hard_half(program: Path, folder: Path, samples: int) -> dict:
    """How busy two ranks are where the problems of the second half take longer: their lambda is smaller."""
    phantom = ["phantom", "meg", "--sensors", "102", "--sources", "1000", "--samples", str(samples), "--quiet"]
    files = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]
    subprocess.run([str(program), *phantom, *map(str, files)], check=True)
    D, X = np.load(folder / "D.npy").astype(np.float64), np.load(folder / "X.npy").astype(np.float64)
    largest = np.abs(X @ D).max(1)
    half = samples // 2
    seconds = []
    for fraction in (EASY, HARD):
        np.save(folder / "X.npy", X[:half].astype(np.float32))
        said = solve([], program, folder, ["--lambda-fraction", str(fraction), "--threads", "1", "--gap", "1e-5"])
        seconds.append(said["seconds"])
    np.save(folder / "X.npy", X.astype(np.float32))
    np.save(folder / "L.npy", largest * np.where(np.arange(samples) < half, EASY, HARD))
    said = solve(
        mpirun(2), program, folder, ["--lambda-file", str(folder / "L.npy"), "--threads", "1", "--gap", "1e-5"]
    )
    return {
        "samples": samples,
        "hard_by_easy": seconds[1] / seconds[0],
        "solve_seconds": said["solve_seconds"],
        "problems": [rank["problems"] for rank in said["ranks"]],
        "busy": [rank["busy_seconds"] / said["solve_seconds"] for rank in said["ranks"]],
    }


EASY, HARD = 0.3, 0.03  # fractions of lambda_max


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "cpu-release" / "bin" / "shrinkwarp")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = arguments.program.resolve()
        if not program.is_file():
            parser.error(f"found no program at {arguments.program}: build it, or name it with --program")
        found = {
            "schema": "shrinkwarp-bench-1",
            "benchmark": "ranks",
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commit": commit(),
            "device": cpu_model(),
            "processors": len(os.sched_getaffinity(0)),
            "load": os.getloadavg()[0],
            "beside_threads": beside_threads(program, folder, arguments.samples, arguments.repeats),
            "hard_half": hard_half(program, folder, arguments.samples),
        }
    if arguments.json:
        print(json.dumps(found))
        return
    beside, hard = found["beside_threads"], found["hard_half"]
    print(f"2 threads    {statistics.median(beside['threads_seconds']):.2f} s")
    print(f"2 ranks      {statistics.median(beside['ranks_seconds']):.2f} s, {beside['ratio']:.3f} of it")
    busy = ", ".join(f"{100 * share:.1f} %" for share in hard["busy"])
    print(f"hard half    {hard['hard_by_easy']:.1f} times as long, {hard['solve_seconds']:.2f} s, ranks busy {busy}")


if __name__ == "__main__":
    main()
