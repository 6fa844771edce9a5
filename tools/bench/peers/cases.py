"""The cases: a dictionary, observations and lambdas, the same numbers for all solvers.

Recordings come from the folder that SHRINKWARP_DATA names; without it the program's phantom of the same size stands in.
"""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# Folder of a recording: its file of observations and, for a phantom in its place, sensors and free locations.
RECORDINGS = {
    "small": ("X_evoked.npy", (102, 512)),
    "medium": ("X_evoked.npy", (306, 2046)),
    "large": ("X_evoked.npy", (306, 6465)),
    "digits": ("X.npy", None),
}
GAUSSIANS = {"gaussian-64x256": (64, 256), "gaussian-102x1000": (102, 1000), "gaussian-306x5000": (306, 5000)}
SPAMS = "spams"  # the throughput test that comes with SPAMS
NAMES = [*RECORDINGS, *GAUSSIANS, SPAMS]
MANY = 20_000
MANY_SPAMS = 100_000


class Missing(Exception):
    """A case or a peer that is not to be had here, and why."""


@dataclass(frozen=True)
class Lambda:
    """A fraction of each problem's own lambda_max, or one value for all problems."""

    fraction: float = None
    value: float = None

    def __str__(self):
        return f"{self.value:g}" if self.fraction is None else f"{self.fraction:g} lambda_max"

    def of(self, D, X):
        """(N,) in float64; D (n, m), X (N, n)."""
        if self.fraction is None:
            return np.full(len(X), self.value)
        D = np.asarray(D, np.float64)
        rows = max(1, 2**22 // D.shape[1])
        blocks = (np.asarray(X[i : i + rows], np.float64) for i in range(0, len(X), rows))
        return self.fraction * np.concatenate([np.abs(block @ D).max(1) for block in blocks])


@dataclass
class Case:
    name: str
    origin: str  # "recording", "phantom" or "random"
    D: np.ndarray = field(repr=False)  # (n, m) float32
    X: np.ndarray = field(repr=False)  # the distinct observations, (K, n) float32
    many: int = MANY  # problems where there are many

    def observations(self, problems, seed):
        """(N, n): the distinct ones in random order, repeated as often as it takes."""
        repeats = -(-problems // len(self.X))
        order = np.random.default_rng(seed).permutation(repeats * len(self.X))[:problems]
        return self.X[order % len(self.X)]


def unit(M, axis):
    return (M / np.linalg.norm(M, axis=axis, keepdims=True)).astype(np.float32)


def make(name, data, program, folder, seed):
    """A case by its name.

    data     folder of recordings, or None
    program  makes the phantom
    folder   for files in passing
    """
    if name in RECORDINGS:
        observations, phantom = RECORDINGS[name]
        if data is not None:
            return Case(name, "recording", load(data / name / "D.npy"), drop_zeros(load(data / name / observations)))
        if phantom is None:
            raise Missing("SHRINKWARP_DATA is not set, and there is no phantom of it")
        sensors, sources = phantom
        files = [Path(folder) / "phantom-D.npy", Path(folder) / "phantom-X.npy"]
        command = [program, "phantom", "meg", "--free", "--sensors", sensors, "--sources", sources, "--samples", 1263,
                   "--seed", seed, "--dictionary", files[0], "--observations", files[1]]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        return Case(name, "phantom", load(files[0]), drop_zeros(load(files[1])))
    random = np.random.default_rng(seed)
    if name in GAUSSIANS:
        n, m = GAUSSIANS[name]
        return Case(name, "random", unit(random.standard_normal((n, m)), 0),
                    random.standard_normal((MANY, n)).astype(np.float32))
    if name == SPAMS:
        return Case(name, "random", unit(random.standard_normal((100, 200)), 0),
                    unit(random.standard_normal((MANY_SPAMS, 100)), 1), MANY_SPAMS)
    raise ValueError(f"case: found {name!r}, wanted one of {', '.join(NAMES)}")


def load(path):
    return np.load(path).astype(np.float32)


def drop_zeros(X):
    """Without rows of zeros: their lambda_max is 0, and several peers need a positive lambda."""
    return X[np.abs(X).max(1) > 0]
