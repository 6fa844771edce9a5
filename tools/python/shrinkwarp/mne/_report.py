"""The HTML report of `shrinkwarp-meg`: what was estimated, how well it explains the recording, and dSPM beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arguments import require_mne
from ._estimate import LassoEstimate

_LONGEST = 2000  # time samples that are drawn of a Raw, around its strongest
_TOPOGRAPHIES = 4
_CURVES = 10
_UNITS = {"mag": 1e15, "grad": 1e13, "eeg": 1e6}  # fT, fT/cm, uV
_LAMBDA2 = 1.0 / 9.0  # of dSPM: a signal-to-noise ratio of 3, MNE-Python's default


@dataclass
class _View:
    """What is drawn of one estimate."""

    title: str
    measured: Any  # Evoked of the problem's channels
    explained: Any  # the same, of the sources
    amplitude: np.ndarray  # (sources, times) in A m
    strongest: list[int]  # time samples, the strongest first


def add_to_report(
    report: Any, title: str, estimate: LassoEstimate, noise_cov: Any, forward: Any, options: dict
) -> None:
    """Add one section to an mne.Report.

    Parameters
    ----------
    report : mne.Report
    title : str
        Of the section.
    estimate : LassoEstimate
    noise_cov : mne.Covariance
    forward : mne.Forward
        As it was given to `apply_lasso`, for dSPM.
    options : dict
        `loose`, `depth` and `rank` of `apply_lasso`, for dSPM, and its `gap`.
    """
    view = _view(title, estimate)
    dspm = _dspm(view.measured, noise_cov, forward, options)
    positions = 1000 * estimate.problem.forward["source_rr"]
    report.add_html(_summary(view, estimate, dspm, positions, options["gap"]), f"{title}: summary", section=title)
    figures = [
        ("source time courses", _time_courses(view, dspm)),
        ("where the sources are", _places(view, dspm, positions)),
        *_topographies(view),
        ("duality gaps", _gaps(estimate, options["gap"])),
    ]
    for name, figure in figures:
        report.add_figure(figure, f"{title}: {name}", section=title)
        _close(figure)


def _view(title: str, estimate: LassoEstimate) -> _View:
    mne = require_mne()
    recording, info = estimate.recording, estimate.problem.info
    inst, width = recording.inst, recording.samples_per_part
    first, last, nave = 0, width, recording.nave
    if recording.kind == "raw":
        power = estimate.dual_gap / np.where(estimate.relative_gap > 0, estimate.relative_gap, np.inf)
        if width > _LONGEST:
            middle = int(np.nanargmax(power))
            first = min(max(middle - _LONGEST // 2, 0), width - _LONGEST)
            last = first + _LONGEST
        data = inst.get_data(picks=recording.picks, start=first, stop=last)
    elif recording.kind == "evoked":
        data = inst.data[recording.picks]
    else:
        data = sum(epoch[recording.picks] for epoch in inst) / recording.parts
        nave = recording.parts
    size = estimate.problem.group_size
    explained = np.zeros_like(data)
    amplitude = np.zeros((estimate.problem.forward["nsource"], last - first))
    for part in range(recording.parts):
        rows = (part * width + first, part * width + last)
        explained += estimate.explained_field(*rows) / recording.parts
        moments = estimate.sources(*rows).tocoo()
        squares = np.zeros_like(amplitude)
        np.add.at(squares, (moments.col // size, moments.row), moments.data**2)
        amplitude += np.sqrt(squares) / recording.parts

    start = inst.times[0] + first / inst.info["sfreq"]
    measured = mne.EvokedArray(data, mne.pick_info(inst.info, recording.picks), tmin=start, nave=nave, verbose="error")
    modelled = mne.EvokedArray(explained, measured.info, tmin=start, nave=nave, verbose="error")
    whitened = estimate.problem.whitener @ data
    return _View(title, measured, modelled, amplitude, _peaks(np.sum(whitened**2, axis=0)))


def _peaks(power: np.ndarray) -> list[int]:
    """The strongest samples that are at least a twentieth of the time apart."""
    apart = max(1, len(power) // 20)
    left, peaks = power.copy(), []
    while len(peaks) < _TOPOGRAPHIES and np.any(left > 0):
        peak = int(np.argmax(left))
        peaks.append(peak)
        left[max(0, peak - apart):peak + apart] = 0
    return peaks or [0]


def _dspm(measured, noise_cov, forward, options) -> np.ndarray:
    """dSPM (sources, times) of the same data."""
    mne = require_mne()
    depth = None if mne.forward.is_fixed_orient(forward) or isinstance(options["depth"], dict) else options["depth"]
    with mne.use_log_level("error"):
        inverse = mne.minimum_norm.make_inverse_operator(
            measured.info, forward, noise_cov, loose=options["loose"], depth=depth, rank=options["rank"]
        )
        return np.abs(mne.minimum_norm.apply_inverse(measured, inverse, lambda2=_LAMBDA2, method="dSPM").data)


def _summary(view, estimate, dspm, positions, gap) -> str:
    gaps = estimate.relative_gap[np.isfinite(estimate.relative_gap)]
    alpha = estimate.alpha
    if np.ndim(alpha) == 0:
        percent = f"{alpha:.4g} %"
    else:
        percent = f"{np.min(alpha):.4g} % to {np.max(alpha):.4g} % of each sample's"
    rows = [
        ("time samples", f"{len(estimate.lam)}"),
        ("channels, rank of the noise", f"{estimate.problem.whitener.shape[1]}, {estimate.problem.whitener.shape[0]}"),
        ("sources, unknowns", f"{len(positions)}, {estimate.problem.gain.shape[1]}"),
        ("alpha", percent),
        ("variance explained", f"{estimate.total_explained_variance:.1f} %"),
        ("sources in use, mean of a sample", f"{np.count_nonzero(view.amplitude) / view.amplitude.shape[1]:.1f}"),
        ("samples with a gap over " + f"{gap:g}", f"{np.count_nonzero(~estimate.converged)}"),
        ("largest relative gap", f"{gaps.max():.2g}" if gaps.size else "none"),
    ]
    head = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
    peaks = ""
    for sample in view.strongest:
        places = [positions[np.argmax(values[:, sample])] for values in (view.amplitude, dspm)]
        where = "".join("<td>({:.0f}, {:.0f}, {:.0f})</td>".format(*place) for place in places)
        moment = 1e9 * view.amplitude[:, sample].max()
        peaks += f"<tr><td>{1000 * view.measured.times[sample]:.1f}</td><td>{moment:.2f}</td>{where}</tr>"
    return (
        f"<table class='table'>{head}</table>"
        "<p>Strongest samples, and where the largest source is (head frame, mm):</p>"
        "<table class='table'><tr><th>time (ms)</th><th>moment (nAm)</th><th>Lasso</th><th>dSPM</th></tr>"
        f"{peaks}</table>"
    )


def _time_courses(view, dspm):
    figure, axes = _subplots(1, 2, (11, 4))
    times = 1000 * view.measured.times
    drawn = (("Lasso", 1e9 * view.amplitude, "moment (nAm)"), ("dSPM", dspm, "dSPM"))
    for axis, (name, values, label) in zip(axes[0], drawn):
        for place in np.argsort(values.max(axis=1))[::-1][:_CURVES]:
            axis.plot(times, values[place], linewidth=1)
        axis.set(title=f"{name}, {_CURVES} strongest sources", xlabel="time (ms)", ylabel=label)
    return figure


def _places(view, dspm, positions):
    """Three views of the head at the strongest sample."""
    sample = view.strongest[0]
    figure, axes = _subplots(2, 3, (10, 7))
    names = ("x, left to right (mm)", "y, back to front (mm)", "z, up (mm)")
    for row, (name, values) in zip(axes, (("Lasso", view.amplitude[:, sample]), ("dSPM", dspm[:, sample]))):
        share = values / max(values.max(), np.finfo(float).tiny)
        order = np.argsort(share)
        for axis, (across, up) in zip(row, ((0, 1), (0, 2), (1, 2))):
            axis.scatter(*positions[:, (across, up)].T, s=2, color="0.85")
            shown = order[share[order] > 0.2]
            sizes, colors = 60 * share[shown], share[shown]
            axis.scatter(*positions[shown][:, (across, up)].T, s=sizes, c=colors, cmap="hot_r", vmin=0, vmax=1,
                         edgecolors="0.3", linewidths=0.3)
            axis.set(xlabel=names[across], ylabel=names[up], aspect="equal")
        row[1].set_title(f"{name} at {1000 * view.measured.times[sample]:.1f} ms")
    return figure


def _topographies(view):
    """Measured and explained field of each kind of channel at the strongest samples, on one scale."""
    mne = require_mne()
    samples = sorted(view.strongest)
    figures = []
    for kind in ("mag", "grad", "eeg"):
        picks = mne.pick_types(view.measured.info, meg=kind if kind != "eeg" else False, eeg=kind == "eeg")
        if len(picks) < 4:
            continue
        fields = np.hstack([view.measured.data[:, samples], view.explained.data[:, samples]])
        both = mne.EvokedArray(fields, view.measured.info, tmin=0.0, verbose="error")
        figure, axes = _subplots(2, len(samples), (2.5 * len(samples) + 0.5, 5))
        # Gradiometers are drawn as the root mean square of each pair.
        largest = _UNITS[kind] * np.max(np.abs(fields[picks]))
        limits = (0.0 if kind == "grad" else -largest, largest)
        with mne.use_log_level("error"):
            both.plot_topomap(times=both.times, ch_type=kind, axes=list(axes.ravel()), vlim=limits,
                              scalings=_UNITS[kind], colorbar=False, show=False)
        for column, sample in enumerate(samples):
            axes[0, column].set_title(f"{1000 * view.measured.times[sample]:.1f} ms")
            axes[1, column].set_title("")
        axes[0, 0].set_ylabel("measured")
        axes[1, 0].set_ylabel("explained")
        figures.append((f"measured and explained field, {kind}", figure))
    return figures


def _gaps(estimate, gap):
    figure, axes = _subplots(1, 1, (7, 4))
    axis = axes[0, 0]
    gaps = estimate.relative_gap[np.isfinite(estimate.relative_gap)]
    shown = np.log10(np.maximum(gaps, 1e-16))
    axis.hist(shown, bins=40)
    axis.axvline(np.log10(gap), color="k", linestyle="--", label=f"asked for: {gap:g}")
    axis.set(xlabel="log10 of the duality gap / (1/2 ||x||^2)", ylabel="time samples")
    axis.legend()
    return figure


def _subplots(rows, columns, size):
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, figsize=size, squeeze=False, constrained_layout=True)


def _close(figure):
    from matplotlib import pyplot

    pyplot.close(figure)
