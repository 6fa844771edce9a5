"""SPAMS `cd`, coordinate descent on its own Gram matrix, all problems in one call with its own threads.

GPL: for this process alone.
"""

import time

import numpy as np
import scipy.sparse

from ..cases import Missing
from .base import WholeCall, import_or_missing

TOLERANCES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
SWEEPS = 100_000
WITH_GRAM = 11  # the fewest problems for which SPAMS makes a Gram matrix


class SpamsCd(WholeCall):
    variants = ("float32", "float64")
    packages = ("scipy",)

    def __init__(self, job):
        super().__init__(job)
        self.spams = import_or_missing("spams")
        self.dtype = np.dtype(self.variant)
        self.D = np.asfortranarray(np.load("D.npy"), self.dtype)
        if not np.allclose(np.linalg.norm(self.D, axis=0), 1, atol=1e-4):
            raise Missing("it takes dictionaries of unit columns alone")

    def versions(self):
        from importlib.metadata import version

        return {**super().versions(), "spams-bin": version("spams-bin")}

    def make_settings(self, gap):
        return [(f"tol {tolerance:g}", tolerance) for tolerance in TOLERANCES]

    def load(self, name):
        if name != self.lambdas_name:
            super().load(name)
            self.scaled = np.ascontiguousarray(self.observations / self.lambdas[:, None], self.dtype)

    def cd(self, X, tolerance):
        start = scipy.sparse.csc_matrix((self.D.shape[1], len(X)), dtype=self.dtype)
        return self.spams.cd(X.T, self.D, start, lambda1=1.0, mode=2, itermax=SWEEPS, tol=tolerance,
                             numThreads=self.threads).T

    def least_call_seconds(self):
        # At nine tenths of lambda_max codes have next to no atoms. Where all were zero `cd` would make all its sweeps.
        X = np.load("X.npy", mmap_mode="r")[:1].astype(self.dtype)
        X = np.repeat(X / (0.9 * np.abs(X @ self.D).max()), WITH_GRAM, axis=0)
        start = time.perf_counter()
        self.cd(X, TOLERANCES[0])
        return time.perf_counter() - start

    def call(self, count, tolerance):
        X = self.scaled[:count]
        start = time.perf_counter()
        codes = self.cd(X, tolerance)
        return time.perf_counter() - start, scipy.sparse.diags(self.lambdas[:count]) @ codes.astype(np.float64)

    def one_by_one(self, lambdas_name, count, tolerance, limit):
        """Alone a problem gets no Gram matrix: `cd` takes none that is prepared."""
        self.load(lambdas_name)
        seconds, codes = [], []
        deadline = time.monotonic() + limit
        self.cd(self.scaled[:1], tolerance)
        for i in range(min(count, len(self.scaled))):
            start = time.perf_counter()
            code = self.cd(self.scaled[i : i + 1], tolerance)
            seconds.append(time.perf_counter() - start)
            codes.append(code.astype(np.float64) * self.lambdas[i])
            if time.monotonic() > deadline:
                break
        return seconds, scipy.sparse.vstack(codes, format="csr")
