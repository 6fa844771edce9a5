#!/usr/bin/env python3
"""Nested rings in the plane, to be told apart by networks that work in the plane: residual ones, and ones with momentum.

Points and rings are those of Sander et al. (2021): radii 1.5 to 2.1 and 3 to 3.6 (and 4.5 to 5.1 and 6 to 6.6). A network has
no stem, so each layer moves points of the plane, and a linear head tells the classes by a straight line. A residual layer x +
f(x) whose steps are small keeps the plane's points in their order, so that the outer ring goes on enclosing the inner one and
no line can part them; a momentum network has velocities too, and paths in the plane may cross. Both are of one size and begin
with the same weights, W2 and b2 divided by the number of layers.

Whether small steps are what a trained network has shows in the smallest det(I + J_f) of all layers on a grid over the disc that
the rings lie in: where it is over 0 everywhere no layer folds the disc, a linear function of its image is largest and
smallest at its rim, and parting whole rings (not the finitely many points of a training, which leave gaps) is impossible. Settings: many layers and a small
learning rate, where it is so, with that rate and three times as much; few layers with a large one, where it is not and residual
networks fold the plane; the latter with four rings, every other of one class. Accuracy and margin are of 1,000 points a ring
that were not trained on; the margin is the least distance of a point to the line, negative where it is on the other side,
relative to the root mean square of all.
"""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import mlp  # noqa: E402
import numpy as np  # noqa: E402

GAMMA = 0.95
HIDDEN = 16
SETTINGS = {
    "small steps": {"rings": 2, "layers": 60, "epochs": 40, "rate": 1e-3},
    "small steps, larger rate": {"rings": 2, "layers": 60, "epochs": 40, "rate": 3e-3},
    "large steps": {"rings": 2, "layers": 15, "epochs": 100, "rate": 1e-2},
    "four rings, large steps": {"rings": 4, "layers": 15, "epochs": 100, "rate": 1e-2},
}
KINDS = {"residual": None, "momentum": GAMMA}
CLASSES = ("#0072b2", "#d55e00")


def points(random, count, rings=2):
    """`count` points of each ring, and their class: every other ring is of the second."""
    angle = 2 * np.pi * random.random((rings, count))
    radius = 3 * (0.5 * np.arange(1, rings + 1)[:, None] + 0.2 * random.random((rings, count)))
    X = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(-1, 2)
    return X.astype(np.float32).astype(np.float64), np.repeat(np.arange(rings) % 2, count)


def start(random, layers):
    tensors = mlp.named(mlp.random_branches(random, 2, HIDDEN, layers, 1 / layers))
    return {**tensors, "head.weight": random.uniform(-(2**-0.5), 2**-0.5, (2, 2)), "head.bias": np.zeros(2)}


def scores(tensors, X, gamma):
    """The logit of the second class less that of the first, over the length of their difference: the distance to the line."""
    weight, bias = (tensors[f"head.{part}"][1] - tensors[f"head.{part}"][0] for part in ("weight", "bias"))
    return (mlp.states(mlp.branches(tensors), X, gamma)[-1] @ weight + bias) / np.linalg.norm(weight)


def smallest_determinant(layers, reach=3.6):
    """Of I + J_f of any residual layer, where it finds the points of a grid over the disc of that radius."""
    angle, radius = np.linspace(0, 2 * np.pi, 240)[:, None], np.linspace(0, reach, 60)
    X = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(-1, 2)
    smallest = np.inf
    for W1, b1, W2, b2 in layers:
        H = np.tanh(X @ W1.T + b1)
        J = np.eye(2) + np.einsum("ih,nh,hj->nij", W2, 1 - H * H, W1)
        smallest = min(smallest, np.linalg.det(J).min())
        X = X + H @ W2.T + b2
    return smallest


def train(experiment, kind, setting, seed, each):
    random = np.random.default_rng([experiment.seed, seed])
    gamma, options = KINDS[kind], SETTINGS[setting]
    count = options["rings"]
    (X, y), (unseen, classes) = points(random, each, count), points(random, experiment.size(1000, 200), count)
    layers = experiment.size(options["layers"], 6)
    tensors = start(random, layers)
    to, begin = (experiment.scratch / f"{name}.safetensors" for name in ("net", "start"))
    mlp.write(begin, tensors, mlp.describe(2, HIDDEN, layers, 2, gamma))
    files = ["--samples", experiment.save("X", X), "--labels", experiment.save("y", y)]
    judges = ["--validation-samples", files[1], "--validation-labels", files[3]]
    line, seconds = experiment.call(
        "net", "train", "mlp", *files, *judges, "--width", 2, "--hidden", HIDDEN, "--blocks", layers, "--start", begin,
        "--epochs", experiment.size(options["epochs"], 3), "--batch", 100, "--lr", options["rate"], "--seed", seed,
        *([] if gamma is None else ["--gamma", gamma]), "--output", to, threads=1)  # matrices are too small to share
    tensors = common.read_network(to)
    judged, _ = experiment.call("net", "evaluate", to, "--samples", experiment.save("U", unseen), "--labels",
                                experiment.save("w", classes), "--logits", experiment.scratch / "logits.npy", threads=1)
    distances = scores(tensors, unseen, gamma)
    logits = np.load(experiment.scratch / "logits.npy").astype(np.float64)
    weight = tensors["head.weight"]
    twin = distances * np.linalg.norm(weight[1] - weight[0])
    branches = mlp.branches(tensors)
    return tensors, {
        "network": kind, "setting": setting, "layers": layers, "seed": seed, "training_seconds": seconds,
        "training_accuracy": line["validation_accuracy"], "accuracy": judged["accuracy"],
        "margin": float((distances * (2 * classes - 1)).min() / np.sqrt((distances**2).mean())),
        "largest_lipschitz": max(np.linalg.norm(W1, 2) * np.linalg.norm(W2, 2) for W1, _, W2, _ in branches),
        "smallest_determinant": smallest_determinant(branches, 1.5 * count + 0.6) if gamma is None else None,
        "numpy_differs": float(np.abs(logits[:, 1] - logits[:, 0] - twin).max() / np.abs(twin).max())}


def draw(shown):
    """Of a residual and of a momentum network the regions of the classes, and the points on their way."""
    figure, axes = common.plt.subplots(2, 6, figsize=(14, 5), layout="constrained")
    for row, (kind, (tensors, case, (X, y))) in zip(axes, shown.items()):
        gamma, layers = KINDS[kind], case["layers"]
        side = np.linspace(-4.2, 4.2, 300)
        grid = np.stack(np.meshgrid(side, side), 2).reshape(-1, 2)
        row[0].contourf(side, side, scores(tensors, grid, gamma).reshape(300, 300) > 0, levels=[-1, 0.5, 2], colors=CLASSES, alpha=0.3)
        row[0].set_ylabel(f"{kind}: {100 * case['accuracy']:.1f} % right")
        states = mlp.states(mlp.branches(tensors), X, gamma)
        for axis, t in zip(row[1:], np.linspace(0, layers, 5).round().astype(int)):
            for which, colour in enumerate(CLASSES):
                axis.plot(*states[t][y == which].T, ".", ms=2, color=colour)
            axis.set_title(f"layer {t}", fontsize=9)
        for which, colour in enumerate(CLASSES):
            row[0].plot(*X[y == which].T, ".", ms=1.5, color=colour)
        row[0].set_title("regions of the classes", fontsize=9)
        weight, bias = (tensors[f"head.{part}"][1] - tensors[f"head.{part}"][0] for part in ("weight", "bias"))
        row[-1].axline(-bias * weight / (weight @ weight), slope=-weight[0] / weight[1], color="black", linewidth=1)
        row[-1].set(xlim=extent(states[-1][:, 0]), ylim=extent(states[-1][:, 1]))
        for axis in row:
            axis.tick_params(labelsize=7)
    return figure


def extent(values):
    middle, half = (values.max() + values.min()) / 2, 0.55 * (values.max() - values.min())
    return middle - half, middle + half


def sentence(setting, cases):
    parts = []
    for kind in KINDS:
        its = [case for case in cases if case["setting"] == setting and case["network"] == kind]
        accuracies = [100 * case["accuracy"] for case in its]
        right = sum(case["margin"] > 0 for case in its)
        text = f"{kind} {min(accuracies):.1f} to {max(accuracies):.1f} % right, all points of {right} of {len(its)} seeds"
        if kind == "residual":
            text += f", smallest determinant {min(case['smallest_determinant'] for case in its):.2f}"
        parts.append(text)
    return f"{setting} ({its[0]['layers']} layers): " + "; ".join(parts) + "."


def rings(experiment):
    each, seeds = experiment.size((500, 5), (100, 1))
    cases, shown = [], {}
    for setting in SETTINGS:
        for seed in range(seeds):
            for kind in KINDS:
                tensors, case = train(experiment, kind, setting, seed, each)
                cases.append(case)
                if setting == next(iter(SETTINGS)) and kind not in shown:
                    shown[kind] = tensors, case, points(np.random.default_rng(experiment.seed), experiment.size(400, 100))
    experiment.write(draw(shown), {"gamma": GAMMA, "hidden": HIDDEN, "settings": SETTINGS, "points_a_ring": each, "cases": cases},
                     " ".join(sentence(setting, cases) for setting in SETTINGS))


if __name__ == "__main__":
    common.run("rings", __doc__, rings)
