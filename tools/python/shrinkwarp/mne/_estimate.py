"""What `apply_lasso` returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from .._arguments import integer, refuse
from ._arguments import require_mne
from ._problem import WhitenedProblem
from ._recording import Recording


@dataclass(frozen=True, eq=False, repr=False)
class LassoEstimate:
    """Sources of each time sample, and how certain they are.

    N is the number of samples; those of Epochs follow one another, epoch after epoch. Estimates are kept as sparse
    codes. `stc` and `residual` are made when they are first asked for, from the recording as it is then.

    Attributes
    ----------
    codes : scipy.sparse.csr_matrix of shape (N, columns of the forward solution)
        The solutions, in the units of the whitened problem.
    lam : ndarray of shape (N,)
        lambda of each sample.
    lam_max : ndarray of shape (N,)
        The lambda from which on nothing is active, of each sample.
    alpha : float | ndarray of shape (N,)
        lambda in percent of the recording's or of each sample's `lam_max`, as `alpha_scope` says. What SURE chose with
        ``alpha="sure"``; with ``alpha="discrepancy"`` an array: of each sample's.
    dual_gap : ndarray of shape (N,)
        A bound on how far the objective is above the least there is.
    relative_gap : ndarray of shape (N,)
        `dual_gap` in units of half the power of the whitened sample, which is what ``gap`` bounds.
    converged : ndarray of bool, of shape (N,)
    iterations : ndarray of shape (N,)
    explained_variance : ndarray of shape (N,)
        Percent of the power of each whitened sample that its sources explain; 0 for a sample of zeros.
    total_explained_variance : float
        The same of the whole recording.
    problem : WhitenedProblem
        Dictionary and whitener, so that anybody can check `dual_gap`.
    pick_ori : None | "vector"
    recording : Recording
        Where the samples come from.
    """

    codes: sparse.csr_matrix
    lam: np.ndarray
    lam_max: np.ndarray
    alpha: float | np.ndarray
    dual_gap: np.ndarray
    relative_gap: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray
    explained_variance: np.ndarray
    total_explained_variance: float
    problem: WhitenedProblem
    pick_ori: str | None
    recording: Recording

    def __repr__(self):
        samples, columns = self.codes.shape
        return (
            f"<LassoEstimate | {samples} samples, {columns} unknowns, {self.codes.nnz / samples:.1f} in use a sample, "
            f"{self.total_explained_variance:.1f} % explained, {np.count_nonzero(~self.converged)} not converged>"
        )

    @cached_property
    def stc(self) -> Any:
        """The source estimate in A m; a list of them, one an epoch, for Epochs.

        It has the sources that are ever in use, and with free orientation the length of their moment, or with
        ``pick_ori="vector"`` the moment. A hemisphere (source space) without a source in use is represented by its
        first one, with zeros: MNE-Python cannot read .stc files without sources.
        """
        parts = [self._stc(part, None, None) for part in range(self.recording.parts)]
        return parts if self.recording.kind == "epochs" else parts[0]

    def stc_between(self, first: int, last: int) -> Any:
        """The source estimate of samples `first` to `last` (not included) of a Raw or Evoked.

        A source estimate is dense: of a long Raw take a part at a time.
        """
        if self.recording.kind == "epochs":
            raise refuse(ValueError, "stc_between", "inst", "epochs", "a Raw or Evoked (each epoch has its own stc)")
        samples = self.recording.samples
        first = integer("stc_between", "first", first, 0, samples - 1)
        last = integer("stc_between", "last", last, first + 1, samples)
        return self._stc(0, first, last)

    @cached_property
    def residual(self) -> Any:
        """What the sources do not explain, as a recording of the same kind that is in memory."""
        mne = require_mne()
        recording = self.recording
        inst, names = recording.inst, list(self.problem.info["ch_names"])
        if recording.kind == "raw":
            data = inst.get_data(picks=recording.picks) - self.explained_field(0, recording.samples)
            info = mne.pick_info(inst.info, recording.picks)
            raw = mne.io.RawArray(data, info, first_samp=inst.first_samp, verbose="error")
            return raw.set_annotations(inst.annotations)
        if recording.kind == "evoked":
            evoked = inst.copy().pick(names)
            evoked.data -= self.explained_field(0, recording.samples)
            return evoked
        width = recording.samples_per_part
        data = np.stack([epoch[recording.picks] for epoch in inst])
        for part in range(recording.parts):
            data[part] -= self.explained_field(part * width, (part + 1) * width)
        info = mne.pick_info(inst.info, recording.picks)
        return mne.EpochsArray(data, info, events=inst.events, tmin=inst.tmin, event_id=inst.event_id,
                               metadata=inst.metadata, proj=False, verbose="error")

    def sources(self, first: int, last: int) -> sparse.csr_matrix:
        """Moments in A m, (last - first, columns of the forward solution), along the axes of `problem.forward`."""
        return self.codes[first:last].multiply(self.problem.source_weighting).tocsr()

    def explained_field(self, first: int, last: int) -> np.ndarray:
        """What the sources give on the channels of the problem, (channels, last - first), in the recording's units.

        It goes through the projectors that the recording went through.
        """
        rows = list(self.problem.forward["sol"]["row_names"])
        picked = [rows.index(name) for name in self.problem.info["ch_names"]]
        moments = self.sources(first, last)
        used = np.unique(moments.indices)
        lead_field = self.problem.forward["sol"]["data"][np.ix_(picked, used)]
        return (moments[:, used] @ (self._projector @ lead_field).T).T

    @cached_property
    def _projector(self) -> np.ndarray:
        mne = require_mne()
        info = self.problem.info
        active = [projection.copy() for projection in self.recording.inst.info["projs"] if projection["active"]]
        for projection in active:
            projection["active"] = False
        types = mne.pick_info(info, range(len(info["ch_names"]))).get_channel_types()
        plain = mne.create_info(list(info["ch_names"]), 1000.0, types)
        columns = mne.EvokedArray(np.eye(len(types)), plain, verbose="error")
        columns.add_proj(active, verbose="error")
        return columns.apply_proj(verbose="error").data

    def _stc(self, part: int, first: int | None, last: int | None) -> Any:
        mne = require_mne()
        recording, forward, size = self.recording, self.problem.forward, self.problem.group_size
        width = recording.samples_per_part
        first = 0 if first is None else first
        last = width if last is None else last
        moments = self.sources(part * width + first, part * width + last)

        used = np.zeros(forward["nsource"], bool)
        used[moments.indices // size] = True
        vertices, start = [], 0
        for space in forward["src"]:
            stop = start + space["nuse"]
            if not used[start:stop].any():
                used[start] = True
            vertices.append(space["vertno"][used[start:stop]])
            start = stop
        places = np.flatnonzero(used)
        columns = (places[:, np.newaxis] * size + np.arange(size)).ravel()
        data = moments[:, columns].toarray().T
        vector = self.pick_ori == "vector"
        if size == 3:
            data = data.reshape(len(places), 3, -1)
            if vector:
                axes = forward["source_nn"].reshape(-1, 3, 3)[places]
                data = np.swapaxes(axes, 1, 2) @ data
            else:
                data = np.linalg.norm(data, axis=1)
        kinds = {
            "surface": (mne.SourceEstimate, mne.VectorSourceEstimate),
            "volume": (mne.VolSourceEstimate, mne.VolVectorSourceEstimate),
            "discrete": (mne.VolSourceEstimate, mne.VolVectorSourceEstimate),
            "mixed": (mne.MixedSourceEstimate, mne.MixedVectorSourceEstimate),
        }
        times = recording.inst.times
        step = 1.0 / recording.inst.info["sfreq"]
        subject = forward["src"][0].get("subject_his_id")
        kind = kinds[forward["src"].kind][vector]
        return kind(data, vertices, tmin=times[0] + first * step, tstep=step, subject=subject)
