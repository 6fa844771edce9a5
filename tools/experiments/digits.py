#!/usr/bin/env python3
"""Handwritten digits classified by residual and by momentum networks of one size: accuracy beside what activations take.

The 1,797 images of 8 x 8 pixels of scikit-learn's load_digits, every fourth unseen and of the others every tenth for validation.
An mlp with a stem to 64 features and 5, 20 and 80 blocks of 64 hidden features is trained with Adam for 20 passes in batches of
64, of several seeds, in four ways: residual; momentum .9, exact; the same with gammas of the layers learned; momentum .9 with
approximate arithmetic, whose gradients get worse with depth."""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

DEPTHS = (5, 20, 80)
BATCH = 64
KINDS = {
    "residual": [],
    "momentum .9": ["--gamma", 0.9],
    "momentum, learned": ["--gamma", 0.9, "--learn-gamma", "--gamma-range", "0.5,0.99"],
    "momentum .9, approximate": ["--gamma", 0.9, "--mode", "approximate"],
}


def data():
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit("the digits are scikit-learn's, which cannot be imported: install python3-sklearn")
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def measure(experiment):
    X, y = data()
    unseen = np.arange(len(X)) % 4 == 3
    files, judges = ([flag for name, values in (("samples", X[rows]), ("labels", y[rows]))
                      for flag in (f"--{name}", experiment.save(f"{name}-{part}", values))]
                     for part, rows in (("training", ~unseen), ("unseen", unseen)))
    for depth in experiment.size(DEPTHS, (2, 4)):
        for kind, options in KINDS.items():
            accuracies, losses, gammas = [], [], []
            for seed in range(experiment.size(5, 1)):
                to = experiment.scratch / f"{kind}-{depth}-{seed}.safetensors"
                line, _ = experiment.call("net", "train", "mlp", *files, "--blocks", depth, "--width", 64, "--hidden", 64, *options,
                                          "--batch", BATCH, "--epochs", experiment.size(20, 8), "--seed", experiment.seed + seed,
                                          "--output", to, threads=1)
                judged, _ = experiment.call("net", "evaluate", to, *judges, threads=1)
                accuracies.append(judged["accuracy"])
                losses.append(judged["loss"])
                if "--learn-gamma" in options:
                    gammas.append(common.read_network(to)["momentum.gamma"])
            yield {"network": kind, "layers": depth, "batch": BATCH, "parameters": line["parameters"],
                   "activation_bytes": line["activation_bytes"], "accuracies": accuracies, "losses": losses, "gammas": gammas}


def draw(cases):
    figure, axes = common.plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained")
    # What approximate arithmetic gives lies over what exact arithmetic does.
    for kind, colour, line in zip(KINDS, common.plt.cm.tab10.colors, ("o-", "o-", "o-", "o:")):
        its = [case for case in cases if case["network"] == kind]
        depths = [case["layers"] for case in its]
        errors = [100 * (1 - np.array(case["accuracies"])) for case in its]
        axes[0].plot(depths, [its.mean() for its in errors], line, color=colour, label=kind)
        for depth, values in zip(depths, errors):
            axes[0].plot([depth] * len(values), values, ".", ms=3, color=colour)
        axes[1].plot(depths, [case["activation_bytes"] / 2**20 for case in its], line, color=colour, label=kind)
    axes[0].set(xscale="log", xlabel="layers", ylabel="% wrong on unseen digits: mean, and each seed", ylim=0)
    axes[1].set(xscale="log", xlabel="layers", ylabel=f"MiB of activations in a step of {BATCH}", ylim=0)
    for axis in axes:
        axis.set_xticks(depths, depths)
        axis.minorticks_off()
    axes[1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def sentence(case):
    accuracies = 100 * np.array(case["accuracies"])
    text = (f"{case['layers']} layers, {case['network']}: {accuracies.mean():.2f} % right ({accuracies.min():.2f} to "
            f"{accuracies.max():.2f}), activations {common.number(case['activation_bytes'] / 2**20)} MiB")
    if case["gammas"]:
        text += f", gammas {np.min(case['gammas']):.3f} to {np.max(case['gammas']):.3f}"
    return text + "."


def digits(experiment):
    cases = list(measure(experiment))
    experiment.write(draw(cases), {"cases": cases}, " ".join(map(sentence, cases)))


if __name__ == "__main__":
    common.run("digits", __doc__, digits)
