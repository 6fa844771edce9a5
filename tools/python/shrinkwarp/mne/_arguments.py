"""Checks of the arguments of apply_lasso that NumPy and MNE-Python would not make, or not in plain words."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arguments import integer, number, of_type, shown, vector
from .._arguments import refuse as refuse_of_call

CALL = "apply_lasso"


def refuse(error: type[Exception], name: str, found: str, wanted: str) -> Exception:
    """The exception of a bad argument of apply_lasso."""
    return refuse_of_call(error, CALL, name, found, wanted)


def require_mne():
    """The package mne, or an ImportError that says how to come by it."""
    try:
        import mne
    except ImportError as error:
        raise ImportError("shrinkwarp.mne needs MNE-Python, which cannot be imported here: pip install mne") from error
    return mne


def check_type(name: str, value: Any, types: type | tuple[type, ...], wanted: str) -> None:
    if not isinstance(value, types):
        raise refuse(TypeError, name, of_type(value), wanted)


def check_option(name: str, value: Any, options: tuple) -> None:
    if not (value is None or isinstance(value, str)):
        raise refuse(TypeError, name, of_type(value), f"one of {options}")
    if value not in options:
        raise refuse(ValueError, name, shown(value), f"one of {options}")


def check_alpha(alpha: Any) -> None:
    if isinstance(alpha, str):
        if alpha not in ("sure", "discrepancy"):
            raise refuse(ValueError, "alpha", shown(alpha), "a percentage in [0, 100), 'sure' or 'discrepancy'")
    elif number(CALL, "alpha", alpha, least=0) >= 100:
        raise refuse(ValueError, "alpha", shown(alpha), "a percentage in [0, 100), 'sure' or 'discrepancy'")


def check_grid(grid: Any) -> np.ndarray:
    """The percentages among which SURE chooses: MNE-Python's own where `grid` is "auto"."""
    if isinstance(grid, str) and grid == "auto":
        return np.geomspace(100, 10, num=15)
    wanted = "'auto' or a list of percentages in (0, 100]"
    values = vector(CALL, "sure_alpha_grid", grid, max(1, np.size(grid)), wanted)
    if not np.all((values > 0) & (values <= 100)):
        raise refuse(ValueError, "sure_alpha_grid", shown(values.tolist()), wanted)
    return values


def check_loose(loose: Any) -> float | str | dict:
    """As MNE-Python takes it: "auto" or a number from 0 to 1, or a dict of them by kind of source space."""
    if isinstance(loose, dict):
        return {kind: check_loose(value) for kind, value in loose.items()}
    wanted = "'auto' or a number from 0 to 1"
    if isinstance(loose, str):
        if loose != "auto":
            raise refuse(ValueError, "loose", shown(loose), wanted)
        return loose
    if number(CALL, "loose", loose, least=0) > 1:
        raise refuse(ValueError, "loose", shown(loose), wanted)
    return float(loose)


def check_depth(depth: Any) -> float | dict | None:
    """As MNE-Python takes it: None, an exponent, or a dict of what its compute_depth_prior takes."""
    if depth is None:
        return None
    if not isinstance(depth, dict):
        return number(CALL, "depth", depth, least=0)
    known = ("exp", "limit", "limit_depth_chs", "combine_xyz", "allow_fixed_depth")
    for key in depth:
        if key not in known:
            raise refuse(ValueError, "depth", f"the key {shown(key)}", f"some of {', '.join(known)}")
    if depth.get("exp") is not None:
        number(CALL, "depth", depth["exp"], least=0)
    return dict(depth)


def check_rank(rank: Any) -> str | dict | None:
    """As MNE-Python takes it. A copy: MNE-Python adds to the dict that it is given."""
    wanted = "None, 'info', 'full' or a dict of ranks by type of channel"
    if rank is None:
        return None
    if isinstance(rank, dict):
        return {kind: integer(CALL, "rank", value, 1) for kind, value in rank.items()}
    if not isinstance(rank, str):
        raise refuse(TypeError, "rank", of_type(rank), wanted)
    if rank not in ("info", "full"):
        raise refuse(ValueError, "rank", shown(rank), wanted)
    return rank


def check_weights(weights: Any, weights_min: Any, sources: int) -> np.ndarray:
    """Weights of the sources: an array, or of each source in a source estimate the largest magnitude."""
    if hasattr(weights, "vertices"):
        weights = np.max(np.abs(weights.data), axis=-1)
    wanted = f"({sources},) of finite numbers >= 0, one for each source"
    weights = vector(CALL, "weights", weights, sources, wanted)
    if not (weights.min() >= 0 and weights.max() < np.inf):
        raise refuse(ValueError, "weights", f"{weights.min() if weights.min() < 0 else np.inf:g}", wanted)
    if number(CALL, "weights_min", weights_min, least=0) >= weights.max():
        raise refuse(ValueError, "weights_min", shown(weights_min), f"less than the largest weight, {weights.max():g}")
    return weights


def random_generator(random_state: Any) -> np.random.RandomState:
    """As MNE-Python's `random_state`: None, a seed or a RandomState."""
    if isinstance(random_state, np.random.RandomState):
        return random_state
    if random_state is None:
        return np.random.RandomState()
    return np.random.RandomState(integer(CALL, "random_state", random_state, 0, 2**32 - 1))
