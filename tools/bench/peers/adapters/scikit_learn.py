"""scikit-learn: coordinate descent with and without the Gram matrix of all atoms, and LARS with it.

`Lasso.fit` with many targets is what `sparse_encode` and `SparseCoder` call, here without their copies. `alpha` is
lambda / n; `tol` bounds the gap by tol ||x||^2, so half the project's tolerance is the same, and a larger one may do.
"""

import warnings

import numpy as np

from .base import InProcess, import_or_missing

TOLERANCES = (10, 5, 2, 1, 0.5, 0.2, 0.1, 0.03, 0.01, 1e-3)  # times the wanted gap


class ScikitLearn(InProcess):
    variants = ("Gram", "no Gram", "Gram, float32", "Gram, warm loop", "LARS, Gram")
    packages = ("sklearn", "scipy")
    chunk = 256

    def __init__(self, job):
        super().__init__(job)
        self.linear_model = import_or_missing("sklearn.linear_model")
        if "float32" in self.variant:
            self.dtype = np.float32

    def make_settings(self, gap):
        if "LARS" in self.variant:
            return [("exact", None)]
        return [(f"tol {gap / 2 * factor:.2g}", gap / 2 * factor) for factor in TOLERANCES]

    def prepare(self, D):
        self.D = D
        self.gram = None
        self.gram = np.ascontiguousarray(D.T @ D) if "Gram" in self.variant and "no" not in self.variant else False
        self.loop = None

    def model(self, tolerance, warm_start=False):
        alpha = 1 / len(self.D)
        if "LARS" in self.variant:
            return self.linear_model.LassoLars(alpha, fit_intercept=False, precompute=self.gram, copy_X=False,
                                               fit_path=False, max_iter=10_000)
        return self.linear_model.Lasso(alpha, fit_intercept=False, precompute=self.gram, copy_X=False, max_iter=100_000,
                                       tol=tolerance, warm_start=warm_start)

    def solve(self, X, tolerance, deadline):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what has not converged misses the gap, and the judge says so
            if "LARS" in self.variant:
                return np.atleast_2d(self.model(None).fit(self.D, X.T).coef_)
            if "loop" not in self.variant:
                model = self.model(tolerance).fit(self.D, np.asfortranarray(X.T), check_input=False)
                return np.atleast_2d(model.coef_)
            if self.loop is None:
                self.loop = self.model(tolerance, warm_start=True)
            self.loop.tol = tolerance
            codes = np.empty((len(X), self.D.shape[1]), self.dtype)
            for code, x in zip(codes, X):
                code[:] = self.loop.fit(self.D, x, check_input=False).coef_
            return codes
