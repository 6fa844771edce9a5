"""Real recordings against solutions that scikit-learn made in float64 and whose gaps are certified (1e-12 of F)."""

import numpy as np
import pytest

from program import DONE, Codes, check, rounding, run

pytestmark = pytest.mark.data

SETS = [
    ("small", "X_evoked", "ref_evoked"),
    ("small", "X_sss", "ref_sss"),
    ("digits", "X", "ref"),
    ("medium", "X_evoked", "ref_evoked"),
    ("medium", "X_raw", "ref_raw"),
]
UNIQUE = [which for which in SETS if which[0] != "medium"]


class Reference:
    def __init__(self, recordings, folder, observations, prefix):
        place = recordings / folder
        self.dictionary = place / "D.npy"
        self.D = np.load(self.dictionary)

        def load(name):
            return np.load(place / f"{prefix}_{name}.npy")

        self.X = np.load(place / f"{observations}.npy")[load("obs")]
        self.lam, self.objective, self.gap = load("lambda"), load("objective"), load("gap")
        indptr, indices, values = load("indptr"), load("indices"), load("values")
        self.codes = [(indices[a:b], values[a:b]) for a, b in zip(indptr, indptr[1:])]

    def solve(self, folder, *options, timeout=600):
        np.save(folder / "X.npy", self.X)
        np.save(folder / "L.npy", self.lam)
        run(
            "solve",
            "--dictionary",
            self.dictionary,
            "--observations",
            folder / "X.npy",
            "--lambda-file",
            folder / "L.npy",
            "--output",
            folder / "Z.npz",
            "--quiet",
            *options,
            status=DONE,
            timeout=timeout,
        )
        return Codes(folder / "Z.npz")


def name(which):
    return "-".join(which[:2])


@pytest.mark.parametrize("which", SETS, ids=name)
def test_objectives(recordings, folder, which):
    reference = Reference(recordings, *which)
    codes = reference.solve(folder)
    check(codes, reference.D, reference.X)
    assert (codes.lam == reference.lam).all()
    slack = rounding(reference.D, reference.X)
    assert (codes.objective - reference.objective <= codes.dual_gap + slack).all()
    assert (reference.objective - codes.objective <= reference.gap + slack).all()


@pytest.mark.parametrize("which", UNIQUE, ids=name)
def test_supports(recordings, folder, which):
    reference = Reference(recordings, *which)
    codes = reference.solve(folder, "--gap", 1e-9)
    check(codes, reference.D, reference.X, 1e-9)
    for i, (indices, values) in enumerate(reference.codes):
        assert codes.Z[i].indices.tolist() == indices.tolist(), f"problem {i}"
        assert np.abs(codes.Z[i].data - values).max(initial=0) <= 1e-3 * np.abs(values).max(initial=0)
