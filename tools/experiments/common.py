"""What the experiments share: options, the program, problems, iterations in NumPy, and the files that are written.

An observation is a row of X [N, n], a code a row of Z [N, m], lambda an array [N]. Iterations run in the type of X.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of NumPy, for times and because its products here are small

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
from peers.machine import ROOT, commit, cpu_model  # noqa: E402

SCHEMA = "shrinkwarp-experiment-1"
# Told apart by all eyes; a method has the same colour in every picture.
COLOURS = {
    "ISTA": "#8c8c8c",
    "FISTA": "#d55e00",
    "oracle ISTA": "#56b4e9",
    "step": "#0072b2",
    "alista": "#009e73",
    "coupled": "#cc79a7",
    "lista": "#e69f00",
    "momentum-lista": "#7f3c8d",
    "working-set": "#000000",
}
DATA = os.environ.get("SHRINKWARP_DATA", "")


@dataclass
class Experiment:
    """One run of an experiment: its options, a folder for files on the way, and the calls of the program."""

    name: str
    output: Path
    program: str
    threads: int
    seed: int
    quick: bool
    scratch: Path
    started: float = field(default_factory=time.monotonic)

    def size(self, whole, quick):
        """One of two sizes of a thing, as --quick says."""
        return quick if self.quick else whole

    def call(self, *command, threads=None, statuses=(0,)):
        """A run of the program with --json, on the threads of the options where none are given.
        @return its last line and the processor seconds that it took"""
        before = children_seconds()
        threads = self.threads if threads is None else threads
        said = subprocess.run([self.program, *map(str, command), "--threads", str(threads), "--json"],
                              capture_output=True, text=True)
        if said.returncode not in statuses:
            sys.exit(f"{self.program} {command[0]}: {said.stderr.strip()}")
        return json.loads(said.stdout.splitlines()[-1]), children_seconds() - before

    def save(self, name, values):
        """An array as a file of the scratch folder."""
        path = self.scratch / f"{name}.npy"
        np.save(path, values)
        return path

    def train(self, kind, dictionary, observations, layers, fraction, *options, threads=None):
        """A trained network's file; all paths. @return path, the program's JSON line, processor seconds"""
        path = self.scratch / f"network-{len(list(self.scratch.glob('network-*')))}.safetensors"
        line, seconds = self.call("train", kind, "--dictionary", dictionary, "--observations", observations,
                                  "--layers", layers, "--lambda-fraction", fraction, "--seed", self.seed,
                                  "--output", path, *options, threads=threads)
        return path, line, seconds

    def evaluate(self, network, dictionary, observations, *options):
        line, _ = self.call("evaluate", "--network", network, "--dictionary", dictionary,
                            "--observations", observations, *options)
        return line

    def optimum(self, dictionary, observations, fraction):
        """min F of each problem, to a relative gap of 1e-12."""
        path = self.scratch / "optimum.npz"
        self.call("solve", "--dictionary", dictionary, "--observations", observations, "--lambda-fraction", fraction,
                  "--gap", 1e-12, "--output", path, statuses=(0, 3))
        with np.load(path) as result:
            return result["objective"]

    def write(self, figure, result, conclusion):
        """NAME.json and NAME.png in the output folder; prints the conclusion."""
        self.output.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.output / f"{self.name}.png", dpi=80)
        plt.close(figure)
        usage = os.times()
        line = {
            "schema": SCHEMA,
            "experiment": self.name,
            "quick": self.quick,
            "seed": self.seed,
            "threads": self.threads,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "cpu": cpu_model(),
            "processors": len(os.sched_getaffinity(0)),
            "commit": commit(),
            "seconds": round(time.monotonic() - self.started, 1),
            "processor_seconds": round(usage.user + usage.system + usage.children_user + usage.children_system, 1),
            **result,
            "conclusion": conclusion,
        }
        text = json.dumps(rounded(line), indent=1)
        (self.output / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")
        print(conclusion)


def children_seconds():
    """Processor seconds of all runs of the program so far."""
    usage = os.times()
    return usage.children_user + usage.children_system


def rounded(value):
    """Numbers to five digits: what the files hold is for reading."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [rounded(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.5g}")
    return value.item() if isinstance(value, np.generic) else value


def run(name, description, experiment, given=None):
    """The main function of an experiment: reads the options and calls experiment(Experiment)."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, help=f"folder for {name}.png and {name}.json")
    parser.add_argument("--program", default=str(ROOT / "build/cpu-release/bin/shrinkwarp"))
    parser.add_argument("--threads", type=int, default=0, help="of the program; 0 takes every processor")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    options = parser.parse_args(given)
    if not os.access(options.program, os.X_OK):
        parser.error(f"found no program at {options.program}: build it, or name it with --program")
    with tempfile.TemporaryDirectory() as scratch:
        experiment(Experiment(name, options.output, options.program, options.threads, options.seed, options.quick,
                              Path(scratch)))


# Problems


def gaussian_dictionary(random, n, m):
    """Gaussian columns of length 1."""
    D = random.standard_normal((n, m))
    return D / np.linalg.norm(D, axis=0)


def with_lambda_max_one(D, X):
    """Rows scaled so that lambda_max = ||D'x||_inf is 1."""
    return X / np.abs(X @ D).max(1, keepdims=True)


def recording(name):
    """D and X of a folder of SHRINKWARP_DATA in float64; the observations are the first file that is there."""
    folder = Path(DATA) / name
    D = np.load(folder / "D.npy").astype(np.float64)
    X = next(folder / file for file in ("X_evoked.npy", "X.npy") if (folder / file).exists())
    return D, np.load(X).astype(np.float64)


# The Lasso in NumPy: docs/math.md


def soft_threshold(U, t):
    return np.sign(U) * np.maximum(np.abs(U) - t, 0)


def lipschitz(D):
    return np.linalg.norm(D, 2) ** 2


def objective(D, X, Z, lam):
    R = X - Z @ D.T
    return 0.5 * np.einsum("ij,ij->i", R, R) + lam * np.abs(Z).sum(1)


def relative_gap(D, X, Z, lam):
    """Duality gap over 1/2 ||x||^2 with the best scale of the residual."""
    R = X - Z @ D.T
    RR, XR, XX = (np.einsum("ij,ij->i", A, B) for A, B in ((R, R), (X, R), (X, X)))
    bound = lam / np.maximum(np.abs(R @ D).max(1), np.finfo(float).tiny)
    s = np.clip(np.divide(XR, RR, out=np.zeros_like(RR), where=RR > 0), -bound, bound)
    primal = 0.5 * RR + lam * np.abs(Z).sum(1)
    return np.maximum(primal - s * XR + 0.5 * s * s * RR, 0) / (0.5 * XX)


class SupportSteps:
    """1 / ||D_S||^2 for supports S, each found once; 1 / L where S is empty."""

    def __init__(self, D):
        self.gram = D.T @ D
        self.lipschitz = np.linalg.eigvalsh(D @ D.T)[-1]
        self.known = {}

    def of(self, support):
        key = support.tobytes()
        if key not in self.known:
            S = np.flatnonzero(support)
            self.known[key] = 1 / (np.linalg.eigvalsh(self.gram[np.ix_(S, S)])[-1] if len(S) else self.lipschitz)
        return self.known[key]

    def of_rows(self, Z):
        return np.array([self.of(row) for row in Z != 0])


def ista(D, X, lam):
    """Yields the codes after each iteration, from 0."""
    step = 1 / lipschitz(D)
    Z = np.zeros((len(X), D.shape[1]))
    while True:
        Z = soft_threshold(Z + step * (X - Z @ D.T) @ D, step * lam[:, None])
        yield Z


def fista(D, X, lam):
    step = 1 / lipschitz(D)
    Z = Y = np.zeros((len(X), D.shape[1]), X.dtype)
    t = 1.0
    while True:
        following = soft_threshold(Y + step * (X - Y @ D.T) @ D, step * lam[:, None])
        t, before = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
        Y = following + X.dtype.type((before - 1) / t) * (following - Z)
        Z = following
        yield Z


def oracle_ista(D, X, lam):
    """The step 1 / ||D_S||^2 on the code's support S, taken where the new support lies in S; else 1 / L."""
    steps = SupportSteps(D)
    safe = 1 / steps.lipschitz
    Z = np.zeros((len(X), D.shape[1]))
    while True:
        correlation = (X - Z @ D.T) @ D
        step = steps.of_rows(Z)[:, None]
        following = soft_threshold(Z + step * correlation, step * lam[:, None])
        leaves = ((following != 0) & (Z == 0)).any(1)
        following[leaves] = soft_threshold(Z[leaves] + safe * correlation[leaves], safe * lam[leaves, None])
        Z = following
        yield Z


# Networks


def read_network(path):
    """The tensors of a network's file by name, in float64: safetensors."""
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        kind = {"F32": "<f4", "F64": "<f8"}[entry["dtype"]]
        tensors[name] = np.frombuffer(data[begin:end], kind).reshape(entry["shape"]).astype(np.float64)
    return tensors


def step_layers(D, X, lam, steps):
    """Yields the codes after each layer of a step-LISTA."""
    Z = np.zeros((len(X), D.shape[1]), X.dtype)
    for step in steps:
        Z = soft_threshold(Z + step * (X - Z @ D.T) @ D, step * lam[:, None])
        yield Z


# Words


def number(value):
    return f"{value:.2g}"
