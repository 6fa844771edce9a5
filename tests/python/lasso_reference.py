"""A solver of the (group) Lasso in float64 that shares nothing with the library, and the gap of any code."""

import numpy as np


def group_norms(values, group_size):
    return np.sqrt(np.sum(values.reshape(-1, group_size) ** 2, axis=1))


def objective(D, x, z, lam, group_size=1):
    return 0.5 * np.sum((x - D @ z) ** 2) + lam * np.sum(group_norms(z, group_size))


def dual_gap(D, x, z, lam, group_size=1):
    """Objective of z less a value under the least objective there is, see docs/math.md. Both in float64."""
    residual = x - D @ z
    correlation = np.max(group_norms(D.T @ residual, group_size))
    power = residual @ residual
    limit = lam / correlation if correlation > 0 else np.inf
    scale = np.clip(x @ residual / power, -limit, limit) if power > 0 else 0.0
    return objective(D, x, z, lam, group_size) - scale * (x @ residual) + 0.5 * scale**2 * power


def dual_gaps(D, X, Z, lams, group_size=1):
    """The same of every row of X and Z."""
    return np.array([dual_gap(D, x, z, lam, group_size) for x, z, lam in zip(X, Z, lams)])


def solve(D, x, lam, group_size=1, gap=1e-10):
    """The code of one observation, to a gap of `gap` 1/2 ||x||^2: FISTA with restarts on a growing set of groups."""
    D, x = np.asarray(D, np.float64), np.asarray(x, np.float64)
    z = np.zeros(D.shape[1])
    wanted = gap * 0.5 * (x @ x)
    chosen = np.zeros(D.shape[1] // group_size, bool)
    for _ in range(200):
        if dual_gap(D, x, z, lam, group_size) <= wanted:
            return z
        score = group_norms(D.T @ (x - D @ z), group_size)
        score[chosen] = 0.0
        chosen[np.argsort(score)[-max(10, chosen.sum() // 2):]] = True
        columns = np.flatnonzero(np.repeat(chosen, group_size))
        z[columns] = _restricted(D[:, columns], x, z[columns], lam, group_size, wanted / 4)
    raise AssertionError("the reference solver did not converge")


def _restricted(D, x, z, lam, group_size, wanted):
    gram, correlation = D.T @ D, D.T @ x
    step = 1.0 / np.linalg.eigvalsh(gram)[-1]
    point, momentum = z, 1.0
    for iteration in range(200_000):
        moved = point - step * (gram @ point - correlation)
        norms = group_norms(moved, group_size)
        shrink = np.maximum(1.0 - step * lam / np.maximum(norms, 1e-300), 0.0)
        after = moved * np.repeat(shrink, group_size)
        if (point - after) @ (after - z) > 0:
            momentum = 1.0
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        point = after + (momentum - 1.0) / following * (after - z)
        z, momentum = after, following
        if iteration % 20 == 19 and dual_gap(D, x, z, lam, group_size) <= wanted:
            return z
    raise AssertionError("the reference solver did not converge on a working set")
