#!/usr/bin/env python3
"""Digits classified by residual and momentum residual networks of the same size, and what their activations take.

The 1,797 digits of 8 x 8 pixels that scikit-learn has: 1,297 to train on, a tenth of which validates, and 500 to test on. Networks
are mlps of width 64 with 64 hidden features a block, trained for 30 passes by Adam; five seeds.
"""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

TRAINED = 1297
KINDS = {
    "residual": [],
    "momentum 0.5": ["--gamma", 0.5],
    "momentum 0.9": ["--gamma", 0.9],
    "momentum learned": ["--gamma", 0.9, "--learn-gamma"],
}


def digits_of_scikit_learn():
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit("digits: found no scikit-learn, wanted its digits and their targets (python3-sklearn)")
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def measure(experiment):
    X, y = digits_of_scikit_learn()
    seeds, depths, epochs = experiment.size((range(5), (2, 5, 10, 20, 50), 30), (range(1), (2, 4), 2))
    files = {}
    for name, part in (("train", slice(0, TRAINED)), ("test", slice(TRAINED, None))):
        files[name] = ["--samples", experiment.save(f"{name}-x", X[part]), "--labels", experiment.save(f"{name}-y", y[part])]
    for name, options in KINDS.items():
        points = []
        for depth in depths:
            accuracies, losses, gammas = [], [], []
            for seed in seeds:
                path = experiment.scratch / f"{name}-{depth}-{seed}.safetensors".replace(" ", "-")
                said, _ = experiment.call("net", "train", "mlp", "--blocks", depth, *options, *files["train"], "--epochs", epochs,
                                          "--batch", 64, "--seed", experiment.seed + seed, "--output", path)
                found, _ = experiment.call("net", "evaluate", path, *files["test"])
                accuracies.append(found["accuracy"])
                losses.append(found["loss"])
                if "--learn-gamma" in options:
                    gammas.append(common.read_network(path)["momentum.gamma"])
            points.append({"blocks": depth, "parameters": said["parameters"], "activation_bytes": said["activation_bytes"],
                           "accuracy": accuracies, "loss": losses, **({"gamma": gammas} if gammas else {})})
        yield {"network": name, "points": points}


def draw(cases):
    figure, axes = common.plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for case, colour in zip(cases, common.plt.cm.tab10.colors):
        depths = [point["blocks"] for point in case["points"]]
        accuracy = 100 * np.array([point["accuracy"] for point in case["points"]])
        axes[0].plot(depths, accuracy.mean(1), "o-", ms=3, color=colour, label=case["network"])
        axes[0].fill_between(depths, accuracy.min(1), accuracy.max(1), color=colour, alpha=0.12, lw=0)
        axes[1].plot(depths, [point["activation_bytes"] / 2**20 for point in case["points"]], "o-", ms=3, color=colour)
    axes[0].set(xscale="log", xlabel="blocks", ylabel="right on 500 unseen digits, %")
    axes[1].set(xscale="log", yscale="log", xlabel="blocks", ylabel="MiB of activations in a step")
    axes[0].legend(frameon=False)
    return figure


def sentence(case):
    best = max(case["points"], key=lambda point: np.mean(point["accuracy"]))
    last = case["points"][-1]
    return (f"{case['network']}: {100 * np.mean(best['accuracy']):.1f} % at its best ({best['blocks']} blocks), "
            f"{last['activation_bytes'] / 2**20:.2g} MiB with {last['blocks']}.")


def digits(experiment):
    cases = list(measure(experiment))
    conclusion = "Digits. " + " ".join(map(sentence, cases))
    experiment.write(draw(cases), {"cases": cases}, conclusion)


if __name__ == "__main__":
    common.run("digits", __doc__, digits)
