"""skglm: coordinate descent on working sets with Anderson acceleration, one problem at a time.

Its GramCD makes the Gram matrix anew for each problem, so it is no choice for many. `alpha` is lambda / n; `tol` bounds
the violation of optimality, so it is given in parts of alpha.
"""

import warnings

import numpy as np

from .base import InProcess, import_or_missing

TOLERANCES = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)


class SkglmAnderson(InProcess):
    variants = ("subdiff", "fixpoint")
    packages = ("skglm", "numba", "scipy")
    chunk = 16

    def __init__(self, job):
        super().__init__(job)
        skglm = import_or_missing("skglm")
        self.solver = import_or_missing("skglm.solvers").AndersonCD(
            fit_intercept=False, ws_strategy=self.variant, max_iter=200)
        self.datafit = import_or_missing("skglm.datafits").Quadratic()
        self.penalty = import_or_missing("skglm.penalties").L1

    def make_settings(self, gap):
        return [(f"tol {factor:g} alpha", factor) for factor in TOLERANCES]

    def warm_up(self):
        random = np.random.default_rng(0)
        self.prepare(np.asfortranarray(random.standard_normal((8, 12))))
        self.solve(random.standard_normal((2, 8)), TOLERANCES[-1], np.inf)

    def prepare(self, D):
        self.D = D

    def solve(self, X, tolerance, deadline):
        alpha = 1 / len(self.D)
        self.solver.tol = tolerance * alpha
        penalty = self.penalty(alpha)
        codes = np.empty((len(X), self.D.shape[1]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for code, x in zip(codes, X):
                code[:] = self.solver.solve(self.D, x, self.datafit, penalty, run_checks=False)[0]
        return codes
