"""glmnet's Fortran through python-glmnet, one problem at a time. GPL: for this process alone.

The routine itself is called, which spares the estimator's checks; it scales its copy of D in place, so each call begins
with a new one. Its lambda is lambda / n; `thr` bounds the change of the objective in a sweep.
"""

import numpy as np

from .base import InProcess, import_or_missing

TOLERANCES = (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 3e-13, 1e-13, 1e-14, 1e-16)
NAIVE, COVARIANCE = 2, 1


class GlmnetPath(InProcess):
    variants = ("naive", "covariance")
    chunk = 16

    def __init__(self, job):
        super().__init__(job)
        import_or_missing("glmnet")
        self.fortran = import_or_missing("glmnet._glmnet")
        self.algorithm = NAIVE if self.variant == "naive" else COVARIANCE

    def versions(self):
        from importlib.metadata import version

        return {**super().versions(), "python-glmnet": version("python-glmnet")}

    def make_settings(self, gap):
        return [(f"thr {tolerance:g}", tolerance) for tolerance in TOLERANCES]

    def prepare(self, D):
        self.D = D

    def solve(self, X, tolerance, deadline):
        n, m = self.D.shape
        bounds = np.asfortranarray(np.tile([[-9.9e35], [9.9e35]], m))  # what glmnet takes for none
        codes = np.zeros((len(X), m))
        for code, x in zip(codes, X):
            _, _, values, atoms, count, _, _, _, error = self.fortran.elnet(
                self.algorithm, 1.0, self.D.copy("F"), x.copy(), np.ones(n), 0, np.ones(m), bounds, m + 1, 1.0,
                np.array([1 / n]), tolerance, m, 1, 0, 0, 1_000_000)
            if error == 0:  # else the code stays zero, and the judge says so
                code[atoms[: count[0]] - 1] = values[: count[0], 0]
        return codes
