"""Draws a result of `shrinkwarp solve`: the strongest sources over time, and how near to the optimum each code is."""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import scipy.ndimage
import scipy.sparse

COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d"]  # told apart by all eyes
QUIET = "#d4d4d4"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codes", required=True, help="Z.npz of `shrinkwarp solve`")
    parser.add_argument("--observations", required=True, help="the X.npy that was solved")
    parser.add_argument("--output", required=True, help="the PNG to write")
    parser.add_argument("--gap", type=float, required=True, help="the relative gap that was asked for")
    parser.add_argument("--rate", type=float, help="samples a second; without it the axis counts samples")
    parser.add_argument("--start", type=float, default=0, help="time of a part's first sample in seconds")
    parser.add_argument(
        "--parts", default="", help="names of the equal parts that the recording consists of, with commas"
    )
    parser.add_argument("--orientations", type=int, default=1, help="columns a location")
    parser.add_argument("--weights", help="nAm for a code of 1, an .npy with a number a column")
    parser.add_argument("--title", default="Sources")
    return parser.parse_args()


def source_amplitudes(codes, orientations, weights):
    """[samples, locations]: the code, or the length of the moment where a location has several columns."""
    Z = codes.toarray()
    if weights is not None:
        Z = Z * weights
    if orientations == 1:
        return Z
    return np.sqrt((Z.reshape(len(Z), -1, orientations) ** 2).sum(2))


def moving_mean(values, width=11):
    """Over time, [samples, sources]."""
    return scipy.ndimage.uniform_filter1d(values.astype(float), width, axis=0, mode="constant")


def lines(rows, shown):
    """`rows` for plotting: nothing where `shown` is false, but each stretch begins and ends on the axis."""
    out = np.where(shown, rows, np.nan)
    out[:-1][shown[1:] & ~shown[:-1]] = 0
    out[1:][shown[:-1] & ~shown[1:]] = 0
    return out


def draw_sources(figure, grid, amplitudes, names, times, unit, time_label):
    strength = moving_mean(np.abs(amplitudes)).max(0)
    order = np.argsort(-strength)
    order = order[strength[order] > 0]
    strongest = order[: len(COLOURS)]
    spacing = times[1] - times[0] if len(times) > 1 else 1
    first = None
    for part, (name, rows) in enumerate(zip(names, np.split(amplitudes, len(names)))):
        axes = figure.add_subplot(grid[0, part], sharey=first)
        if first is None:
            first = axes
            axes.set_ylabel(unit)
        else:
            axes.tick_params(labelleft=False)
        axes.axhline(0, color="black", linewidth=0.6, zorder=0)
        if times[0] < 0 < times[-1]:
            axes.axvline(0, color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        used = order[(rows[:, order] != 0).any(0)]
        axes.plot(times, lines(rows, rows != 0)[:, used], color=QUIET, linewidth=0.5, zorder=1)
        # Colour where a source sounds through; a sample here and there is noise that came out as this source.
        sustained = lines(rows, moving_mean(rows != 0) > 0.6)
        for colour, source in zip(COLOURS, strongest):
            axes.plot(
                times,
                sustained[:, source],
                color=colour,
                linewidth=1.5,
                zorder=2,
                label=f"source {source}" if part == 0 else None,
            )
        axes.set_xlim(times[0], times[0] + len(times) * spacing)
        axes.set_xlabel(time_label)
        axes.set_title(name, fontsize=10)
    handles, labels = first.get_legend_handles_labels()
    handles.append(matplotlib.lines.Line2D([], [], color=QUIET))
    labels.append(f"{max(len(order) - len(strongest), 0):,} other sources")
    figure.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.945),
        ncol=len(labels),
        frameon=False,
        fontsize=9,
        handlelength=1.4,
        columnspacing=1.4,
    )


def draw_gaps(axes, relative, asked):
    positive = relative[relative > 0]
    low = np.floor(np.log10(np.quantile(positive, 0.01))) if len(positive) else np.log10(asked) - 1
    high = np.log10(max(positive.max(initial=0), asked)) + 0.3
    bins = np.arange(low, high + 0.1, 0.1)
    axes.hist(np.clip(np.log10(positive), low, None), bins, color="#0072b2", edgecolor="white", linewidth=0.4)
    axes.axvline(np.log10(asked), color="#d55e00", linewidth=1.5)
    axes.text(
        np.log10(asked),
        0.97,
        "asked for ",
        transform=axes.get_xaxis_transform(),
        ha="right",
        va="top",
        color="#d55e00",
        fontsize=9,
    )
    ticks = np.arange(low, high)
    axes.set_xticks(
        ticks, [f"$10^{{{tick:.0f}}}$" if i else f"$\\leq 10^{{{tick:.0f}}}$" for i, tick in enumerate(ticks)]
    )
    axes.set_xlim(low, high)
    axes.set_xlabel("certified relative duality gap,  gap / (½ ‖x‖²)")
    axes.set_ylabel("problems")
    within = int((relative <= asked).sum())
    exact = int((relative == 0).sum())
    axes.set_title(
        f"{within:,} of {len(relative):,} problems within {asked:g}" + f", {exact:,} of them at 0" * (exact > 0),
        fontsize=10,
    )


def main():
    options = arguments()
    codes = scipy.sparse.load_npz(options.codes)
    with np.load(options.codes) as arrays:
        gap = arrays["dual_gap"]
    energy = (np.load(options.observations).astype(np.float64) ** 2).sum(1) / 2
    names = options.parts.split(",")
    if codes.shape[0] % len(names):
        raise SystemExit(f"demo_picture: {codes.shape[0]} samples do not fall into {len(names)} equal parts")
    weights = np.load(options.weights) if options.weights else None
    amplitudes = source_amplitudes(codes, options.orientations, weights)

    length = len(amplitudes) // len(names)
    times, time_label = np.arange(length), "sample"
    if options.rate:
        times, time_label = options.start + times / options.rate, "time (s)"
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10})
    figure = plt.figure(figsize=(12, 7.2))
    figure.suptitle(options.title, fontsize=14, y=0.99)
    grid = figure.add_gridspec(
        2, len(names), height_ratios=[2, 1], hspace=0.42, wspace=0.06, left=0.065, right=0.985, top=0.86, bottom=0.08
    )
    draw_sources(
        figure, grid, amplitudes, names, times, "amplitude (nAm)" if weights is not None else "code z", time_label
    )
    draw_gaps(
        figure.add_subplot(grid[1, :]), np.divide(gap, energy, out=np.zeros_like(gap), where=energy > 0), options.gap
    )
    figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
