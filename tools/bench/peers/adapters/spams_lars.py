"""SPAMS `lasso`, LARS for many problems in a call with its own threads. GPL: for this process alone.

The Gram matrix is given (D'D + 1e-10 I, as SPAMS makes it) and so are the correlations, by one product of a BLAS; with
few problems it pays to have none, which SPAMS does in calls of up to ten.
"""

import numpy as np

from .base import InProcess, import_or_missing

RIDGE = 1e-10  # what SPAMS adds to its own Gram matrix
WITHOUT_GRAM = 10  # SPAMS makes a Gram matrix for calls of more problems than this


class SpamsLars(InProcess):
    variants = ("Gram, float64", "Gram, float64, Cholesky", "Gram, float32", "Gram, float32, Cholesky",
                "no Gram, float64", "no Gram, float32")
    packages = ("scipy",)
    own_threads = True

    def __init__(self, job):
        super().__init__(job)
        self.spams = import_or_missing("spams")
        self.dtype = np.float32 if "float32" in self.variant else np.float64
        self.with_gram = not self.variant.startswith("no")
        self.chunk = 1024 if self.with_gram else WITHOUT_GRAM

    def versions(self):
        from importlib.metadata import version

        return {**super().versions(), "spams-bin": version("spams-bin")}

    def make_settings(self, gap):
        return [("exact", None)]

    def prepare(self, D):
        self.D = D
        self.gram = None
        if self.with_gram:
            self.gram = np.asfortranarray(D.T @ D)
            self.gram[np.diag_indices(len(self.gram))] += self.dtype(RIDGE)

    def solve(self, X, setting, deadline):
        matrices = {"Q": self.gram, "q": (X @ self.D).T} if self.with_gram else {"D": self.D}
        return self.spams.lasso(X.T, lambda1=1.0, mode=2, numThreads=self.threads,
                                cholesky="Cholesky" in self.variant, **matrices).T
