#!/usr/bin/env python3
"""Measures and draws three pictures of the solvers: convergence, throughput against N and lambda, and phases.

Runs the program on a dictionary and observations, writes the measurements to OUTPUT.jsonl, lines of the schema
shrinkwarp-bench-1, and from these OUTPUT-convergence.png, OUTPUT-throughput.png and OUTPUT-phases.png. With --draw-only the
measurements are read from OUTPUT.jsonl as it lies there.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#8c8c8c"]
# Iterations at which a solve is stopped and looked at; of working sets times that the sets are solved.
STOPS = {
    "ista": [25, 50, 100, 200, 400, 800, 1600, 3200],
    "fista": [25, 50, 100, 200, 400, 800, 1600],
    "working-set": [1, 2, 3, 4, 6, 8, 12, 16],
}
TIMES = 3  # that each of these solves is made; the shortest counts


def arguments(given):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="what the files' names begin with")
    parser.add_argument("--dictionary", help="D.npy (n, m)")
    parser.add_argument("--observations", help="X.npy (N, n); rows are repeated as needed")
    parser.add_argument("--program", default=str(ROOT / "build/cpu-release/bin/shrinkwarp"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--fractions", default="0.8,0.5,0.3,0.1", help="of lambda_max")
    parser.add_argument("--problems", default="1,10,100,1000,10000", help="numbers of problems of a call")
    parser.add_argument("--convergence-problems", type=int, default=200)
    parser.add_argument("--convergence-fraction", type=float, default=0.3)
    parser.add_argument("--draw-only", action="store_true")
    options = parser.parse_args(given)
    if not options.draw_only and not (options.dictionary and options.observations):
        parser.error("found no --dictionary and --observations to measure on, wanted both, or --draw-only")
    return options


def run(options, *command):
    said = subprocess.run([options.program, *map(str, command), "--device", options.device, "--threads",
                           str(options.threads), "--json"], capture_output=True, text=True)
    if said.returncode not in (0, 3):  # 3: some missed the gap, which is what convergence looks at
        sys.exit(f"{options.program} {command[0]}: {said.stderr.strip()}")
    return [json.loads(line) for line in said.stdout.splitlines()]


def measure_throughput(options):
    for problems in options.problems.split(","):
        yield from run(options, "bench", "solve", "--dictionary", options.dictionary, "--observations",
                       options.observations, "--problems", problems, "--lambda-fractions", options.fractions)


def measure_convergence(options, folder):
    X = np.load(options.observations, mmap_mode="r")
    rows = np.ascontiguousarray(X[np.arange(options.convergence_problems) % len(X)])
    energy = 0.5 * (rows.astype(np.float64) ** 2).sum(1)
    np.save(folder / "X.npy", rows)
    for solver, stops in STOPS.items():
        for stop in stops:
            solve = ["solve", "--dictionary", options.dictionary, "--observations", folder / "X.npy",
                     "--lambda-fraction", options.convergence_fraction, "--solver", solver, "--gap", 1e-12,
                     "--max-iterations", stop, "--output", folder / "Z.npz"]
            runs = [run(options, *solve)[0] for _ in range(TIMES)]
            line = min(runs, key=lambda line: line["seconds"])
            with np.load(folder / "Z.npz") as result:
                gaps = np.divide(result["dual_gap"], energy, out=np.zeros_like(energy), where=energy > 0)
            yield {"schema": "shrinkwarp-bench-1", "benchmark": "convergence",
                   "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                   "device": line["device"], "solver": solver, "rows": line["rows"], "atoms": line["atoms"],
                   "problems": line["problems"], "lambda_fraction": options.convergence_fraction,
                   "max_iterations": stop, "seconds": line["seconds"], "median_gap": float(np.median(gaps)),
                   "worst_gap": float(gaps.max())}


def measure(options):
    with tempfile.TemporaryDirectory() as folder:
        lines = [*measure_convergence(options, Path(folder)), *measure_throughput(options)]
    Path(options.output + ".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return lines


def title_of(line):
    return f"{line['rows']} x {line['atoms']}, {line['device']}"


def draw_convergence(lines, path):
    lines = [line for line in lines if line["benchmark"] == "convergence"]
    if not lines:
        return
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    for colour, solver in zip(COLOURS, dict.fromkeys(line["solver"] for line in lines)):
        of = [line for line in lines if line["solver"] == solver]
        for axis, x in zip(axes, ([line["max_iterations"] for line in of], [line["seconds"] for line in of])):
            axis.plot(x, [max(line["median_gap"], 1e-16) for line in of], "o-", color=colour, label=solver, ms=3)
            axis.plot(x, [max(line["worst_gap"], 1e-16) for line in of], ":", color=colour)
    axes[0].set(xscale="log", yscale="log", xlabel="iterations, or times that a set of atoms is solved",
                ylabel="relative duality gap: median, dotted worst")
    axes[1].set(xscale="log", xlabel=f"seconds for {lines[0]['problems']} problems, from files to file")
    axes[1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"Convergence at {lines[0]['lambda_fraction']} of lambda_max, {title_of(lines[0])}")
    figure.savefig(path, dpi=150)


def draw_throughput(lines, path):
    lines = [line for line in lines if line["benchmark"] == "solve"]
    if not lines:
        return
    figure, axis = plt.subplots(figsize=(7.5, 4), layout="constrained")
    for colour, fraction in zip(COLOURS, dict.fromkeys(line["lambda_fraction"] for line in lines)):
        of = sorted((line for line in lines if line["lambda_fraction"] == fraction), key=lambda line: line["problems"])
        axis.plot([line["problems"] for line in of], [line["problems_per_second"] for line in of], "o-", color=colour,
                  label=f"{fraction} of lambda_max", ms=3)
    axis.set(xscale="log", yscale="log", xlabel="problems of a call", ylabel="problems a second, dictionary prepared")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"Throughput at gap {lines[0]['gap']:g}, {title_of(lines[0])}")
    figure.savefig(path, dpi=150)


def draw_phases(lines, path):
    lines = [line for line in lines if line["benchmark"] == "solve"]
    if not lines:
        return
    most = max(line["problems"] for line in lines)
    lines = [line for line in lines if line["problems"] == most]
    names = dict.fromkeys(phase["name"] for line in lines for phase in line["phases"])
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    left = np.zeros(len(lines))
    cycle = plt.get_cmap("tab20").colors
    for colour, name in zip(cycle * 2, names):
        micro = np.array([sum(p["seconds"] for p in line["phases"] if p["name"] == name) for line in lines]) / most * 1e6
        axis.barh(range(len(lines)), micro, left=left, color=colour, label=name)
        left += micro
    axis.set(yticks=range(len(lines)), yticklabels=[f"{line['lambda_fraction']}" for line in lines],
             xlabel="microseconds a problem, added over threads", ylabel="fraction of lambda_max")
    axis.invert_yaxis()
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"Where the time goes, {most} problems, {title_of(lines[0])}")
    figure.savefig(path, dpi=150)


def main(given=None):
    options = arguments(given)
    if options.draw_only:
        text = Path(options.output + ".jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
    else:
        lines = measure(options)
    for name, draw in (("convergence", draw_convergence), ("throughput", draw_throughput), ("phases", draw_phases)):
        draw(lines, f"{options.output}-{name}.png")


if __name__ == "__main__":
    main()
