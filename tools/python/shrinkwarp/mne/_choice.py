"""Lambda from the data: by SURE, as `mne.inverse_sparse.mixed_norm` chooses it, and by the discrepancy principle."""

from __future__ import annotations

from typing import Any, Callable, Iterable

import numpy as np

_NEAR = 0.999  # of the noise: residuals from here up to 1 are as large as the noise
_LEAST = 1e-4  # of lambda_max, under which no lambda is looked for
_NARROW = 1e-6  # of lambda: two that are as close are one
_FINEST = 1e-12  # gap


def choose_by_sure(
    chunks: Iterable[tuple[int, np.ndarray]],
    solve: Callable[..., Any],
    gain: np.ndarray,
    largest: np.ndarray,
    grid: np.ndarray,
    random: np.random.RandomState,
) -> float:
    """The percentage with the least estimate of the error, Stein's by finite differences in a random direction.

    It is MNE-Python's estimate (Deledalle et al. 2014), summed over all samples, with the noise of a whitened sample
    taken to be 1. Differences: every sample is solved on its own, and the random direction is drawn a chunk at a time.

    Parameters
    ----------
    chunks : iterable of (first sample, observations (count, n))
    solve : callable
        ``solve(X, lam, warm_start)`` gives an object with `codes`.
    gain : ndarray of shape (n, m)
    largest : ndarray of shape (N,)
        What the percentages are of, of each sample.
    grid : ndarray
        Percentages.
    random : numpy.random.RandomState
    """
    n = gain.shape[0]
    epsilon = 2.0 / n**0.3
    risk = np.zeros(len(grid))
    for first, X in chunks:
        # Drawn as MNE-Python draws it: a row a channel.
        direction = random.standard_normal((n, len(X))).T
        moved_X = X + epsilon * direction
        scale = largest[first:first + len(X)] / 100.0
        codes = moved_codes = None
        for k in np.argsort(grid)[::-1]:
            codes = solve(X, grid[k] * scale, codes).codes
            moved_codes = solve(moved_X, grid[k] * scale, moved_codes).codes
            explained, moved = codes @ gain.T, moved_codes @ gain.T
            freedom = np.sum((moved - explained) * direction) / epsilon
            risk[k] += np.sum((X - explained) ** 2) - X.size + 2.0 * freedom
    return float(grid[np.argmin(risk)])


def choose_by_discrepancy(
    X: np.ndarray, solve: Callable[..., Any], gain: np.ndarray, lam_max: np.ndarray, noise: float
) -> np.ndarray:
    """The lambda of each row of X for which what is left over is as large as the noise (Morozov's principle).

    ||x - D z|| grows with lambda. Lambda is bracketed by halving, and then found by false position on the square, and
    by bisection every second time, until the residual is between 0.999 and 1 times `noise`, which takes codes of the
    gap that `gap_for_discrepancy` gives. Rows that are not larger than the noise keep their lambda_max, where the code
    is 0; rows that are not down to it at 0.0001 lambda_max keep that.

    Parameters
    ----------
    X : ndarray of shape (count, n)
    solve : callable
        ``solve(X, lam, warm_start)`` gives an object with `codes`.
    gain : ndarray of shape (n, m)
    lam_max : ndarray of shape (count,)
    noise : float
        Norm of the noise of a row.
    """
    lam = np.where(lam_max > 0, lam_max, 1.0)
    least = _LEAST * lam
    high, over = lam.copy(), np.sum(X**2, axis=1) - noise**2
    low, under = np.zeros_like(lam), np.zeros_like(lam)  # 0: none found yet
    rows = np.flatnonzero(over > 0)
    codes, bisect = None, False
    while rows.size:
        share = 0.5 if bisect else under[rows] / np.minimum(under[rows] - over[rows], -np.finfo(float).tiny)
        between = low[rows] + share * (high[rows] - low[rows])
        lam[rows] = np.where(low[rows] > 0, between, np.maximum(high[rows] / 2, least[rows]))
        bisect = not bisect

        codes = solve(X[rows], lam[rows], codes).codes
        left = np.sum((X[rows] - codes @ gain.T) ** 2, axis=1)
        small = left <= noise**2
        low[rows[small]], under[rows[small]] = lam[rows[small]], (left - noise**2)[small]
        high[rows[~small]], over[rows[~small]] = lam[rows[~small]], (left - noise**2)[~small]
        done = np.where(small, left >= (_NEAR * noise) ** 2, lam[rows] <= least[rows])
        done |= high[rows] - low[rows] <= _NARROW * high[rows]
        rows, codes = rows[~done], codes[~done]
    return lam


def gap_for_discrepancy(X: np.ndarray, noise: float, gap: float) -> float:
    """The relative gap, `gap` or less, at which residuals of all rows of X are known to 0.1 percent of the noise.

    Half the squared distance of the residual from that of the solution is at most the gap, gap 1/2 ||x||^2.
    """
    power = np.max(np.sum(X**2, axis=1))
    return gap if power <= noise**2 else max(min(gap, 1e-6 * noise**2 / power), _FINEST)
