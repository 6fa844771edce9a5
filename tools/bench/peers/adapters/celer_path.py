"""celer: working sets with dual extrapolation, a problem at a time by `celer_path`, without the estimator's checks.

`alpha` is lambda / n; `tol` bounds the gap by tol ||x||^2, half the tolerance of the project being as strict. Its gaps use
the best dual point that it has met, and are smaller than the judge's, which has the codes alone: a tighter `tol` makes
up for it.
"""

import warnings

import numpy as np

from .base import InProcess, import_or_missing

TOLERANCES = (10, 5, 2, 1, 0.5, 0.2, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-6, 1e-8)  # times the wanted gap
MOST_EPOCHS = 5_000  # of one working set; what float32 cannot reach would take the default of 50,000 each time


class CelerPath(InProcess):
    variants = ("float64", "float64, pruned", "float32")
    packages = ("celer", "scipy")
    chunk = 16

    def __init__(self, job):
        super().__init__(job)
        self.celer_path = import_or_missing("celer").celer_path
        if "float32" in self.variant:
            self.dtype = np.float32

    def make_settings(self, gap):
        return [(f"tol {gap / 2 * factor:.2g}", gap / 2 * factor) for factor in TOLERANCES]

    def prepare(self, D):
        self.D = D  # norms of the atoms are made in each call

    def solve(self, X, tolerance, deadline):
        codes = np.empty((len(X), self.D.shape[1]), self.dtype)
        alphas = np.array([1 / len(self.D)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what has not converged misses the gap, and the judge says so
            for code, x in zip(codes, X):
                code[:] = self.celer_path(self.D, x, "lasso", alphas=alphas, tol=tolerance, max_iter=50,
                                          max_epochs=MOST_EPOCHS, prune=int("pruned" in self.variant))[1][:, 0]
        return codes
