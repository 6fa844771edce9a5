"""The picture of tools/experiments/scaling.py: points are measured, dashed and dotted lines predicted."""

import common
import numpy as np


def draw(case, here, predictions, alone, training):
    """Solves here; and predicted efficiency of many GPUs: of each size and cluster, of each part alone, of training."""
    figure, axes = common.plt.subplots(2, 2, figsize=(13, 9.5), layout="constrained")
    draw_measured(axes[0, 0], case, here)
    draw_sizes(axes[0, 1], predictions)
    draw_parts(axes[1, 0], alone)
    draw_training(axes[1, 1], training)
    for axis in axes.flat[1:]:
        axis.axhline(0.5, color="#8c8c8c", lw=0.8)
        axis.set(xscale="log", ylim=(0, 1.05))
        axis.legend(frameon=False, fontsize=8)
    return figure


def draw_measured(axis, case, here):
    runs = case["runs"]
    one = runs["one"]["solve_seconds"]["median"]
    axis.plot([1, 2], [1, 2], color="#8c8c8c", lw=0.8, label="twice the speed")
    axis.plot(1, 1, "o", color="#0072b2")
    for of, label, colour, x in (
        (runs.get("ranks"), "two ranks, measured", "#0072b2", 2),
        (runs.get("beside"), "two processes, half each, measured", "#009e73", 1.96),
        (case.get("dask"), "two workers of dask, measured", "#d55e00", 2.04),
    ):
        if of:
            median, least, most = (2 * of["efficiency"][key] for key in ("median", "least", "most"))
            error = [[median - least], [most - median]]
            axis.errorbar(x, median, error, fmt="o", color=colour, label=label, capsize=3)
    for (name, seconds), colour in zip(here.items(), ("#0072b2", "#009e73")):
        axis.plot([1, 2], [1, one / seconds], "--", color=colour, label=f"two ranks, predicted {name}")
    size = f"{case['problems']:,} samples, {case['rows']} x {case['atoms']}"
    axis.set(
        xlabel="ranks or workers, a thread each", ylabel="speed over one", xticks=[1, 2], title=f"measured: {size}"
    )
    axis.legend(frameon=False, fontsize=8)


def draw_sizes(axis, predictions):
    sizes = sorted({entry["samples"] for entry in predictions})
    styles = dict(zip(dict.fromkeys(entry["cluster"] for entry in predictions), ("--", ":")))
    for entry in predictions:
        devices, _, efficient = zip(*entry["points"])
        colour = common.plt.cm.viridis(0.85 * sizes.index(entry["samples"]) / max(1, len(sizes) - 1))
        label = f"predicted, N = {entry['samples']:.0e}, {entry['cluster']}"
        axis.plot(devices, efficient, styles[entry["cluster"]], color=colour, label=label)
    title = f"predicted: GPUs of {predictions[0]['rate']:,.0f} problems/s (assumed)"
    axis.set(xlabel="GPUs", ylabel="share of time in which they solve", title=title)


def draw_parts(axis, alone):
    for (part, points), colour in zip(alone["curves"].items(), [*common.plt.cm.tab10.colors[:5], "#000000"]):
        axis.plot(
            *np.transpose(points), "--", color=colour, label=f"predicted, {part}" + ("" if part == "all" else " alone")
        )
    title = f"predicted: N = {alone['samples']:.0e}, {alone['rate']:,.0f} problems/s, {alone['cluster']}"
    axis.set(xlabel="GPUs", ylabel="share of time in which they solve", title=title)


def draw_training(axis, training):
    bandwidth = training[0]["bandwidth"]
    entries = [entry for entry in training if entry["bandwidth"] == bandwidth]
    for entry, colour in zip(entries, common.plt.cm.tab10.colors):
        ranks, one_batch, batch_each = zip(*entry["points"])
        axis.plot(ranks, one_batch, "--", color=colour, label=f"{entry['network']}, {entry['device']}")
        axis.plot(ranks, batch_each, ":", color=colour)
    title = f"predicted: a batch for all (dashed), for each (dotted); {bandwidth / 1e9:g} GB/s"
    axis.set(xlabel="ranks", ylabel="share of a step that is not exchange", title=title)
