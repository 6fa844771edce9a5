#!/usr/bin/env python3
"""What the last layers of a deep network learn: to be ISTA with another step.

Ablin, Moreau, Massias and Gramfort (2019) prove it for coupled weights: in a deep network that is trained to the
solution of the Lasso, layers st(z - W'(D z - x), lambda theta) tend to W = theta D. Here n = 10, m = 20, T = 40
layers, lambda is 0.05 of lambda_max, and training starts from ISTA (`--start ista`), where this holds in every layer:
it has to leave it in the first ones and to keep or find it in the last. The figure of a layer is ||W - D
diag(theta)|| / ||D diag(theta)|| in Frobenius norm, each atom with its own threshold. For free weights, st(W1 z + W2
x, lambda theta), what is to be expected is W1 = I - a D'D and W2 = a D'; the figures are ||I - W1 - a D'D|| / ||a
D'D|| and ||W2 - a D'|| / ||a D'|| with the a that fits W2 best, from the second layer on: W1 of the first one meets
the code 0 alone.
"""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

FRACTION = 0.05
EPOCHS = 8000
RATES = {"coupled": 5e-3, "lista": 2e-3}
ENDS = 5  # layers at either end whose mean is taken
# Few observations and many passes: the theorem is about networks that are trained to the solution, and layer by layer
# 400 observations come within 1e-6 of it. All are one batch: Adam moves a weight as far for the noise of small batches as
# for a gradient, which in the last layers, where the gradient is small, hides what they learn.
TRAINING = ["--start", "ista", "--optimizer", "adam", "--layerwise"]


def distance(A, B):
    """||A - B|| / ||B||, Frobenius."""
    return float(np.linalg.norm(A - B) / np.linalg.norm(B))


def from_ista(kind, tensors, D):
    """Of each layer, by name: how far it is from some ISTA, and that ISTA's step."""
    if kind == "coupled":
        layers = list(zip(tensors["W"], tensors["thresholds"]))
        return {"W": [distance(W, D * theta) for W, theta in layers]}, [theta.mean() for _, theta in layers]
    steps = [(W2 * D.T).sum() / (D * D).sum() for W2 in tensors["W2"]]
    figures = {"W1": [distance(np.eye(len(W1)) - W1, a * D.T @ D) for W1, a in zip(tensors["W1"], steps)],
               "W2": [distance(W2, a * D.T) for W2, a in zip(tensors["W2"], steps)]}
    return {name: values[1:] for name, values in figures.items()}, steps[1:]


def measure(experiment):
    random = np.random.default_rng(experiment.seed)
    n, m, training, layers = experiment.size((10, 20, 400, 40), (4, 6, 100, 12))
    D = common.gaussian_dictionary(random, n, m)
    X = common.with_lambda_max_one(D, random.standard_normal((training + 1000, n)))
    files = [experiment.save("D", D), experiment.save("X", X[:training])]
    unseen = experiment.save("Y", X[training:])
    for kind, rate in RATES.items():
        options = [*TRAINING, "--batch", training, "--lr", rate, "--epochs", experiment.size(EPOCHS, 20)]
        # The network that is kept is the one that is best on what it is trained on.
        network, line, seconds = experiment.train(kind, *files, layers, FRACTION, *options, "--validation", files[1],
                                                  threads=1)  # matrices are too small to share
        distances, steps = from_ista(kind, common.read_network(network), D)
        optimum = experiment.optimum(*files, FRACTION).mean()
        judged = experiment.evaluate(network, files[0], unseen)
        yield {"network": kind, "rows": n, "atoms": m, "layers": layers, "training": training, "options": options,
               "training_seconds": seconds, "lambda_fraction": FRACTION, "distances": distances,
               "steps_times_lipschitz": np.array(steps) * common.lipschitz(D),
               "fall": {name: np.mean(values[:ENDS]) / np.mean(values[-ENDS:]) for name, values in distances.items()},
               "optimum": judged["optimum"], "training_excess": line["validation"] - optimum,
               "excess": judged["network"], "ista": judged["ista"],
               "fista": judged["fista"]}


def draw(cases):
    figure, axes = common.plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for case in cases:
        for name, line in zip(case["distances"], ("o-", "s:")):
            values = case["distances"][name]
            layers = np.arange(case["layers"] - len(values), case["layers"]) + 1
            axes[0].plot(layers, values, line, ms=3, color=common.COLOURS[case["network"]],
                         label=f"{case['network']}, {name}")
        axes[1].plot(layers, case["steps_times_lipschitz"], "o-", ms=3, color=common.COLOURS[case["network"]],
                     label=case["network"])
    axes[0].set(yscale="log", xlabel="layer", ylabel="distance from the nearest ISTA, relative")
    axes[1].set(xlabel="layer", ylabel="the step of that ISTA, times L")
    axes[1].axhline(1, color=common.COLOURS["ISTA"], linewidth=1)
    for axis in axes:
        axis.legend(frameon=False)
    return figure


def sentence(case):
    falls = " and ".join(
        f"{name} from {common.number(np.mean(values[:ENDS]))} to {common.number(np.mean(values[-ENDS:]))} "
        f"({common.number(case['fall'][name])} times)" for name, values in case["distances"].items())
    last = case["steps_times_lipschitz"][-ENDS:]
    return (f"{case['network']} of {case['layers']} layers: the distance from ISTA falls, from the mean of the first "
            f"{ENDS} layers to that of the last {ENDS}, for {falls}; there the step is {common.number(last.min())} to "
            f"{common.number(last.max())} times 1/L. F - F* is {common.number(case['training_excess'])} on what it "
            f"was trained on and {common.number(case['excess'])} on unseen observations "
            f"(ISTA {common.number(case['ista'])}, FISTA {common.number(case['fista'])}).")


def last_layers(experiment):
    cases = list(measure(experiment))
    experiment.write(draw(cases), {"cases": cases}, " ".join(map(sentence, cases)))


if __name__ == "__main__":
    common.run("last_layers", __doc__, last_layers)
