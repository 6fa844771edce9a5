"""The whitened problem that MNE-Python makes of a forward solution and a noise covariance.

Every step is MNE-Python's, as in `mne.inverse_sparse.mixed_norm`: channels that forward solution, covariance and
recording share, orientation, depth and orientation priors, projectors, rank, whitening. There is no public function
for all of that; `_prepare_gain` has been the same since MNE-Python 0.18.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._arguments import shown
from ._arguments import (
    check_depth,
    check_loose,
    check_option,
    check_rank,
    check_type,
    check_weights,
    refuse,
    require_mne,
)


@dataclass(frozen=True)
class WhitenedProblem:
    """The Lasso problem of one recording: x = whitener y, and x is explained as gain z.

    Attributes
    ----------
    gain : ndarray of shape (n, m)
        The dictionary: whitened, weighted lead field of the columns that are in use. n is the rank of the noise.
    whitener : ndarray of shape (n, channels)
        From channels of the recording to observations.
    source_weighting : ndarray of shape (columns,)
        Source amplitude in A m of a code of 1, of each column of the forward solution.
    kept : ndarray of int, of shape (m,)
        The columns of the forward solution that `gain` has; all but where `weights` leave sources out.
    group_size : int
        1 with fixed orientation, 3 otherwise.
    forward : mne.Forward
        The forward solution, in the orientation and with the channels of the problem.
    info : mne.Info
        Of the channels of the problem.
    """

    gain: np.ndarray
    whitener: np.ndarray
    source_weighting: np.ndarray
    kept: np.ndarray
    group_size: int
    forward: Any
    info: Any


def make_problem(inst, forward, noise_cov, loose, depth, weights, weights_min, rank, pick_ori) -> WhitenedProblem:
    """Check what MNE-Python is given, and let it make the problem. Arguments are those of `apply_lasso`."""
    mne = require_mne()
    from mne.inverse_sparse.mxne_inverse import _prepare_gain
    from mne.minimum_norm.inverse import _check_reference

    check_type("inst", inst, (mne.io.BaseRaw, mne.BaseEpochs, mne.Evoked), "a Raw, Epochs or Evoked of MNE-Python")
    check_type("forward", forward, mne.Forward, "an mne.Forward")
    check_type("noise_cov", noise_cov, mne.Covariance, "an mne.Covariance")
    loose, depth, rank = check_loose(loose), check_depth(depth), check_rank(rank)
    check_option("pick_ori", pick_ori, (None, "vector"))
    _check_reference(inst, _shared_channels(inst.info, forward, noise_cov))
    fixed = mne.forward.is_fixed_orient(forward)
    if fixed and loose != 0:
        raise refuse(ValueError, "loose", f"{loose!r} for a forward solution of fixed orientation", "0")
    if weights is not None:
        weights = check_weights(weights, weights_min, forward["nsource"])

    forward, gain, info, whitener, source_weighting, mask = _prepare_gain(
        forward, inst.info, noise_cov, True, depth, loose, rank, weights, weights_min
    )
    if not np.all(np.isfinite(gain)):
        raise refuse(ValueError, "depth", shown(depth), "one with which all weights are finite")
    group_size = 1 if mne.forward.is_fixed_orient(forward) else 3
    if pick_ori == "vector" and group_size == 1:
        raise refuse(ValueError, "pick_ori", "'vector' for fixed orientation", "None, or loose over 0")
    kept = np.arange(source_weighting.size) if mask is None else np.flatnonzero(mask)
    return WhitenedProblem(gain, whitener, source_weighting, kept, group_size, forward, info)


def _shared_channels(info, forward, noise_cov) -> set[str]:
    good = [name for name in info["ch_names"] if name not in info["bads"]]
    for argument, names in (("forward", forward["sol"]["row_names"]), ("noise_cov", noise_cov["names"])):
        if not set(good) & set(names):
            found = f"no good channel of inst in it (it has {names[0]} and {len(names) - 1} more)"
            known = f", such as {good[0]}" if good else "; all of its channels are bad"
            raise refuse(ValueError, argument, found, f"good channels of inst{known}")
    shared = set(good) & set(forward["sol"]["row_names"]) & set(noise_cov["names"])
    if not shared:
        raise refuse(ValueError, "noise_cov", "no channel of the forward solution in it", "channels that both have")
    return shared
