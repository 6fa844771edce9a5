"""Penalties that are more than the l1 norm, by other roads than the program's: augmented matrices, lstsq, coordinate descent."""

import numpy as np
import scipy.sparse

from program import EPS, energy


class Penalty:
    """lambda sum w_g ||z_g|| + ridge/2 ||z||^2, z >= 0 where `nonnegative`, for D (n, m) in groups of `group` columns."""

    def __init__(self, D, weights=None, nonnegative=False, ridge=0.0, group=1):
        self.D = np.asarray(D, np.float64)
        n, m = self.D.shape
        self.group = group
        self.group_weights = np.ones(m // group) if weights is None else np.asarray(weights, np.float64)
        self.weights = np.repeat(self.group_weights, group)  # of atoms
        self.nonnegative = nonnegative
        self.ridge = ridge
        self.free = self.weights == 0
        self.out = np.isinf(self.weights)
        # The elastic net as a Lasso with m rows more.
        self.longer = np.vstack([self.D, np.sqrt(ridge) * np.eye(m)])

    def options(self, folder):
        options = []
        if not (self.weights == 1).all():
            np.save(folder / "W.npy", self.group_weights)
            options += ["--weights", folder / "W.npy"]
        if self.nonnegative:
            options += ["--nonnegative"]
        if self.ridge:
            options += ["--elastic-net", repr(self.ridge)]
        if self.group > 1:
            options += ["--group-size", self.group]
        return options

    def norms(self, Z):
        """The norm of each group of each row."""
        return np.sqrt((np.asarray(Z) ** 2).reshape(len(Z), -1, self.group).sum(2)) if self.group > 1 else np.abs(Z)

    def cost(self, Z, lam):
        used = np.where(np.isinf(self.group_weights), 0, self.group_weights)
        return lam * (self.norms(Z) @ used) + self.ridge / 2 * (Z * Z).sum(1)

    def objective(self, X, Z, lam):
        return energy(X - Z @ self.D.T) + self.cost(Z, lam)

    def off_free(self, R):
        """Rows of R without what the unpenalised columns of the longer matrix explain."""
        if not self.free.any():
            return R
        A = self.longer[:, self.free]
        for _ in range(2):
            R = R - (A @ np.linalg.lstsq(A, R.T, rcond=None)[0]).T
        return R

    def longest(self, C):
        """What is held against lambda, of correlations C (N, m)."""
        kept = ~self.free & ~self.out
        if not kept.any():
            return np.zeros(len(C))
        C = C[:, kept] / self.weights[kept]
        return np.maximum(C.max(1), 0) if self.nonnegative else self.norms(C).max(1)

    def lambda_max(self, X):
        X = np.asarray(X, np.float64)
        R = self.off_free(np.hstack([X, np.zeros((len(X), self.D.shape[1]))]))
        return self.longest(R @ self.longer)

    def certificate(self, X, Z, lam):
        """Objective and duality gap of each row of Z."""
        X = np.asarray(X, np.float64)
        Z = Z.toarray() if scipy.sparse.issparse(Z) else np.asarray(Z)
        X_longer = np.hstack([X, np.zeros_like(Z)])
        R = self.off_free(X_longer - Z @ self.longer.T)
        R[energy(R) <= (64 * EPS) ** 2 * energy(X)] = 0  # all is explained: what is left is rounding and no dual point
        with np.errstate(divide="ignore", invalid="ignore"):
            s = np.where(energy(R) > 0, np.einsum("ij,ij->i", X_longer, R) / (2 * energy(R)), 0)
            largest = self.longest(R @ self.longer)
            bound = np.where(largest > 0, lam / largest, np.inf)
        s = np.clip(s, 0 if self.nonnegative else -bound, bound)
        objective = self.objective(X, Z, lam)
        return objective, objective - (energy(X_longer) - energy(X_longer - s[:, None] * R))

    def descend(self, x, lam, sweeps=20000, tolerance=1e-13):
        """Coordinate descent, of groups with proximal steps, to float64's end. For small problems."""
        z = np.zeros(self.D.shape[1])
        r = np.array(x, np.float64)
        norms = (self.D * self.D).sum(0)
        blocks = [(j, np.linalg.norm(self.D[:, j : j + self.group], 2) ** 2) for j in range(0, len(z), self.group) if not self.out[j]]
        for _ in range(sweeps):
            largest = 0.0
            for j, bound in blocks if self.group > 1 else ():
                part = slice(j, j + self.group)
                u = bound * z[part] + self.D[:, part].T @ r
                left = max(1 - lam * self.weights[j] / max(np.linalg.norm(u), 1e-300), 0)
                change = left * u / (bound + self.ridge) - z[part]
                r -= self.D[:, part] @ change
                z[part] += change
                largest = max(largest, np.linalg.norm(change) * np.sqrt(bound))
            for j in np.flatnonzero((norms > 0) & ~self.out) if self.group == 1 else ():
                u = norms[j] * z[j] + self.D[:, j] @ r
                new = np.sign(u) * max(abs(u) - lam * self.weights[j], 0) / (norms[j] + self.ridge)
                new = max(new, 0) if self.nonnegative else new
                if new != z[j]:
                    r -= self.D[:, j] * (new - z[j])
                    largest = max(largest, abs(new - z[j]) * np.sqrt(norms[j]))
                    z[j] = new
            if largest <= tolerance * np.linalg.norm(x):
                break
        return z

    def check(self, codes, X, gap=1e-6):
        """What a result file promises under this penalty, recomputed."""
        X = np.asarray(X, np.float64)
        Z = codes.Z.toarray()
        assert (Z[:, self.out] == 0).all()
        if self.nonnegative:
            assert (Z >= 0).all()
        objective, dual_gap = self.certificate(X, codes.Z, codes.lam)
        # Some eps a term, of 1/2 ||x||^2, and of the code's own size where atoms nearly cancel; and the program's allowance.
        size = np.abs(Z) @ np.sqrt((self.D * self.D).sum(0)) + np.sqrt(2 * energy(X))
        slack = (16 * sum(self.D.shape) + 64) * EPS * size**2
        assert (np.abs(codes.objective - objective) <= slack + 16 * EPS * objective).all()
        assert (np.abs(codes.dual_gap - dual_gap) <= slack + 64 * EPS * objective).all()
        assert codes.converged.all()
        assert (dual_gap <= gap * energy(X) + slack).all()
