"""apply_lasso: from a recording of MNE-Python to its sources."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any, Callable

import numpy as np
from scipy import sparse

from .. import Dictionary, Interrupted
from .._arguments import integer
from .._progress import reporter
from ._arguments import CALL, check_alpha, check_grid, check_option, check_type, random_generator, require_mne
from ._choice import choose_by_discrepancy, choose_by_sure, gap_for_discrepancy
from ._estimate import LassoEstimate
from ._problem import WhitenedProblem, make_problem
from ._recording import Recording


def apply_lasso(
    inst: Any,
    forward: Any,
    noise_cov: Any,
    alpha: float | str = 50,
    loose: float | str | dict = "auto",
    depth: float | dict | None = 0.8,
    weights: Any = None,
    weights_min: float = 0.0,
    rank: Any = None,
    pick_ori: str | None = None,
    *,
    alpha_scope: str = "recording",
    gap: float = 1e-6,
    sure_alpha_grid: Any = "auto",
    random_state: Any = None,
    solver: str = "auto",
    max_iterations: int = 100_000,
    device: str = "auto",
    threads: int | None = None,
    chunk_size: int = 16384,
    progress: bool | Callable[[int, int], Any] = False,
    verbose: Any = None,
) -> LassoEstimate:
    """Lasso estimate of the sources of every time sample of a recording.

    MNE-Python makes the whitened problem, as for `mne.inverse_sparse.mixed_norm`: with y the channels of one sample, W
    the whitener and G the lead field with depth and orientation weights, the code z minimises

        1/2 ||W y - W G z||^2 + lambda sum_g ||z_g||

    where a group is one source: one column with fixed orientation (``loose=0``), else three. Samples do not know of
    each other; of one sample it is what mixed_norm minimises.

    Parameters
    ----------
    inst : Raw | Epochs | Evoked
        The recording. What is not preloaded is read in chunks, and never held as a whole.
    forward : mne.Forward
    noise_cov : mne.Covariance
    alpha : float | "sure" | "discrepancy"
        lambda in percent, in [0, 100), of the smallest lambda for which nothing is active. "sure" chooses it as
        mixed_norm does, one for the whole recording. "discrepancy" chooses it for each sample so that what is left over
        is as large as the whitened noise, to 0.1 percent: ||W y - W G z||^2 = rank / nave, where nave is that of an
        Evoked and 1 otherwise. `alpha_scope` does not matter to it, and `gap` is made smaller where that needs it.
    loose, depth, weights, weights_min, rank, pick_ori
        As in `mne.inverse_sparse.mixed_norm`.
    alpha_scope : "recording" | "sample"
        Whether `alpha` is of the largest such lambda in the recording, or of each sample's own.
    gap : float
        Each sample is solved until its dual gap is at most this times 1/2 ||W y||^2.
    sure_alpha_grid : "auto" | array
        As in `mne.inverse_sparse.mixed_norm`.
    random_state : None | int | numpy.random.RandomState
        For "sure".
    solver, max_iterations, device, threads
        As in `shrinkwarp.lasso`.
    chunk_size : int
        How many time samples are read and solved at a time.
    progress : bool | callable
        As in `shrinkwarp.lasso`, over the whole recording.
    verbose : bool | str | int | None
        Of MNE-Python.

    Returns
    -------
    LassoEstimate
        With `stc`, `dual_gap`, `explained_variance`, `residual`.

    Raises
    ------
    ImportError
        MNE-Python cannot be imported.
    TypeError, ValueError
        With the argument, what was found and what was wanted; or of MNE-Python.
    shrinkwarp.Interrupted
        On Ctrl-C. Its `result` is the estimate with the samples that were reached; the others have no sources and a gap
        of NaN.
    """
    mne = require_mne()
    check_alpha(alpha)
    check_option("alpha_scope", alpha_scope, ("recording", "sample"))
    grid = check_grid(sure_alpha_grid)
    random = random_generator(random_state)
    check_type("solver", solver, str, "the name of a solver, as for shrinkwarp.lasso")
    chunk_size = integer(CALL, "chunk_size", chunk_size, 1)
    with nullcontext() if verbose is None else mne.use_log_level(verbose):
        problem = make_problem(inst, forward, noise_cov, loose, depth, weights, weights_min, rank, pick_ori)
        recording = Recording(inst, problem)
        run = _Run(problem, recording, gap, solver, max_iterations, device, threads, chunk_size)
        with reporter(CALL, progress) as report:
            return run.estimate(alpha, alpha_scope, grid, random, pick_ori, report)


class _Run:
    """One call of apply_lasso: the dictionary, prepared once, and what is known of the samples so far."""

    def __init__(self, problem, recording, gap, solver, max_iterations, device, threads, chunk_size):
        self.problem: WhitenedProblem = problem
        self.recording: Recording = recording
        self.chunk_size = chunk_size
        self.dictionary = Dictionary(problem.gain, device=device, threads=threads)
        self.gap = gap
        self.options = dict(solver=solver, max_iterations=max_iterations, group_size=problem.group_size)
        samples = recording.samples
        self.codes: list[sparse.csr_matrix] = []
        self.lam = np.full(samples, np.nan)
        self.lam_max = np.full(samples, np.nan)
        self.dual_gap = np.full(samples, np.nan)
        self.converged = np.zeros(samples, bool)
        self.iterations = np.zeros(samples, np.int64)
        self.power = np.full(samples, np.nan)
        self.left = np.full(samples, np.nan)

    def estimate(self, alpha, scope, grid, random, pick_ori, progress) -> LassoEstimate:
        percent = alpha if not isinstance(alpha, str) else None
        try:
            if alpha == "sure" or (scope == "recording" and alpha != "discrepancy"):
                for first, X in self._chunks():
                    self.lam_max[first:first + len(X)] = self._lam_max(X)
            if alpha == "sure":
                largest = self._largest(scope)
                percent = choose_by_sure(self._chunks(), self._solve, self.problem.gain, largest, grid, random)
                require_mne().utils.logger.info(f"Selected alpha: {percent}")
            for first, X in self._chunks():
                rows = slice(first, first + len(X))
                self._solve_chunk(rows, X, percent, scope, progress)
        except KeyboardInterrupt as interrupt:
            done = int(np.count_nonzero(~np.isnan(self.dual_gap)))
            text = f"{done} of {self.recording.samples} samples are done; the exception's `result` has them"
            raise Interrupted(text, self._result(percent, pick_ori)) from interrupt
        result = self._result(percent, pick_ori)
        require_mne().utils.logger.info(f"Explained {result.total_explained_variance:5.1f}% variance")
        return result

    def _chunks(self):
        return self.recording.chunks(self.chunk_size)

    def _lam_max(self, X):
        return self.dictionary.lam_max(X, group_size=self.problem.group_size)

    def _largest(self, scope):
        """What `alpha` is a percentage of. 1 where nothing is to be explained: any lambda keeps 0 there."""
        largest = np.full_like(self.lam_max, self.lam_max.max()) if scope == "recording" else self.lam_max.copy()
        largest[largest == 0] = 1.0
        return largest

    def _solve(self, X, lam, warm_start=None, gap=None, progress=False):
        gap = self.gap if gap is None else gap
        return self.dictionary.solve(X, lam=lam, warm_start=warm_start, gap=gap, progress=progress, **self.options)

    def _solve_chunk(self, rows, X, percent, scope, progress):
        self.power[rows] = np.sum(X**2, axis=1)
        if np.isnan(self.lam_max[rows.start]):
            self.lam_max[rows] = self._lam_max(X)
        if percent is None:
            noise = np.sqrt(X.shape[1] / self.recording.nave)
            gap = gap_for_discrepancy(X, noise, self.gap)
            solve = partial(self._solve, gap=gap)
            lam = choose_by_discrepancy(X, solve, self.problem.gain, self.lam_max[rows], noise)
        else:
            gap = self.gap
            lam = percent / 100.0 * self._largest(scope)[rows]
        told = False if progress is None else lambda done, _: progress(rows.start + done, self.recording.samples)
        interrupt = None
        try:
            result = self._solve(X, lam, gap=gap, progress=told)
        except Interrupted as interrupted:
            interrupt, result = interrupted, interrupted.result
        self.codes.append(result.codes)
        self.lam[rows], self.dual_gap[rows] = result.lam, result.dual_gap
        self.converged[rows], self.iterations[rows] = result.converged, result.iterations
        left = np.sum((X - result.codes @ self.problem.gain.T) ** 2, axis=1)
        self.left[rows] = np.where(np.isnan(result.dual_gap), np.nan, left)
        if interrupt is not None:
            raise interrupt

    def _result(self, percent, pick_ori) -> LassoEstimate:
        problem, samples = self.problem, self.recording.samples
        done = sum(codes.shape[0] for codes in self.codes)
        missing = sparse.csr_matrix((samples - done, problem.gain.shape[1]))
        short = sparse.csr_matrix(sparse.vstack([*self.codes, missing]))
        columns = (samples, problem.source_weighting.size)
        codes = sparse.csr_matrix((short.data, problem.kept[short.indices], short.indptr), shape=columns)
        with np.errstate(divide="ignore", invalid="ignore"):
            explained = np.where(self.power == 0, 0.0, 100.0 * (1.0 - self.left / self.power))
            relative = np.where(self.power == 0, 0.0, self.dual_gap / (0.5 * self.power))
            of_sample = np.where(self.lam_max == 0, 100.0, 100.0 * self.lam / self.lam_max)
        reached = ~np.isnan(self.left)
        power = np.sum(self.power[reached])
        total = 100.0 * (1.0 - np.sum(self.left[reached]) / power) if power > 0 else 0.0
        return LassoEstimate(
            codes=codes,
            lam=self.lam,
            lam_max=self.lam_max,
            alpha=of_sample if percent is None else percent,
            dual_gap=self.dual_gap,
            relative_gap=relative,
            converged=self.converged,
            iterations=self.iterations,
            explained_variance=explained,
            total_explained_variance=float(total),
            problem=problem,
            pick_ori=pick_ori,
            recording=self.recording,
        )
