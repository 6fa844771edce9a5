"""The judge: duality gaps of anybody's codes in float64, from the codes as they are delivered.

It shares nothing with any solver. Formulas: docs/math.md.
"""

import numpy as np
import scipy.sparse

ROWS = 256  # codes that are judged together; at 19,395 atoms their correlations take 40 MB


class Judge:
    def __init__(self, D):
        self.D = np.ascontiguousarray(D, np.float64)  # (n, m)

    def relative_gaps(self, X, lambdas, Z):
        """gap / (1/2 ||x||^2) of each row of Z (N, m), with the best feasible scaling of the residual as dual point.

        0 for a row of zeros with a zero code; infinity where a code is not finite, or not zero on a row of zeros.
        """
        X = np.asarray(X, np.float64)
        Z = scipy.sparse.csr_matrix(Z, dtype=np.float64)
        if Z.shape != (len(X), self.D.shape[1]):
            raise ValueError(f"Z: found codes of shape {Z.shape}, wanted {(len(X), self.D.shape[1])}")
        gaps = [self._block(X[i : i + ROWS], lambdas[i : i + ROWS], Z[i : i + ROWS]) for i in range(0, len(X), ROWS)]
        return np.concatenate(gaps) if gaps else np.zeros(0)

    def _block(self, X, lambdas, Z):
        with np.errstate(invalid="ignore", over="ignore"):
            R = X - Z @ self.D.T
            energy = np.einsum("ij,ij->i", X, X) / 2
            residual_energy = np.einsum("ij,ij->i", R, R) / 2
            along = np.einsum("ij,ij->i", X, R)
            largest = np.abs(R @ self.D).max(1)
            bound = np.divide(lambdas, largest, out=np.full(len(X), np.inf), where=largest > 0)
            best = np.divide(along, 2 * residual_energy, out=np.zeros(len(X)), where=residual_energy > 0)
            scale = np.clip(best, -bound, bound)
            primal = residual_energy + lambdas * np.asarray(abs(Z).sum(1)).ravel()
            dual = scale * along - scale**2 * residual_energy
            gap = primal - dual
            relative = np.divide(gap, energy, out=np.where(gap == 0, 0, np.inf), where=energy > 0)
        return np.where(np.isfinite(relative), relative, np.inf)
