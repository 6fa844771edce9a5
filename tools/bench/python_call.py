"""What a call of the Python module costs beside the same call in C++, in one run.

    PYTHONPATH=build/cpu-release/python tools/bench/python_call.py --dictionary D.npy --observations X.npy [--problems 1000]

Rounds alternate: `shrinkwarp bench solve`, which times solve_lasso from memory to memory, and `Dictionary.solve` on the same rows; of
each the quickest call of all rounds counts. Prints one JSON object. The program is $SHRINKWARP or build/cpu-release/bin/shrinkwarp.
"""

import argparse
import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np

import shrinkwarp

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("SHRINKWARP", str(ROOT / "build/cpu-release/bin/shrinkwarp"))


def in_cpp(arguments):
    """Seconds of the quickest call."""
    command = [PROGRAM, "bench", "solve", "--dictionary", arguments.dictionary, "--observations", arguments.observations,
               "--problems", arguments.problems, "--lambda-fractions", arguments.fraction, "--calls", arguments.calls,
               "--device", arguments.device, "--threads", arguments.threads, "--json"]
    line = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout
    return min(json.loads(line.splitlines()[0])["seconds"])


def in_python(arguments, dictionary, X):
    seconds = []
    for _ in range(arguments.calls + 1):
        start = time.perf_counter()
        dictionary.solve(X, lam_fraction=arguments.fraction)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dictionary", required=True)
    parser.add_argument("--observations", required=True)
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--fraction", type=float, default=0.5)
    parser.add_argument("--calls", type=int, default=5, help="that are timed, in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    X = np.load(arguments.observations, mmap_mode="r")
    X = X[np.arange(arguments.problems) % len(X)]
    dictionary = shrinkwarp.Dictionary(np.load(arguments.dictionary), device=arguments.device, threads=arguments.threads)
    rounds = [(in_cpp(arguments), in_python(arguments, dictionary, X)) for _ in range(arguments.rounds)]
    cpp, python = (min(seconds) for seconds in zip(*rounds))
    print(json.dumps({
        "problems": arguments.problems, "n": dictionary.shape[0], "m": dictionary.shape[1], "fraction": arguments.fraction,
        "threads": arguments.threads, "device": dictionary.device, "cpp_seconds": cpp, "python_seconds": python,
        "ratio": python / cpp,
    }))


if __name__ == "__main__":
    main()
