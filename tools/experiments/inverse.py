#!/usr/bin/env python3
"""How much of a momentum network's way back is lost, against depth and gamma: of its input, and of its gradient.

Random networks of 32 features and 32 hidden ones, 64 samples, damped, weights as `net train` draws them. The error of the
inverse is the largest of |x - what came back| over the largest of |x| (`net evaluate --inverse`); the error of the gradient
is the norm of its difference from that with stored activations, over the latter's norm (`net evaluate --gradient`, all
tensors). For the deepest networks `net forward` and `net inverse` go there and back in two processes as well. Where
momentumnet (Sander et al.) can be imported, it has the same weights and samples, and its gradient without backpropagation is
compared with its own with it; else it is left out.
"""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import mlp  # noqa: E402
import numpy as np  # noqa: E402

try:
    import torch
    from momentumnet import MomentumNet
    from momentumnet.exact_rep_pytorch import TorchExactRep
except ImportError:
    MomentumNet = None

GAMMAS = (0.5, 0.9, 0.99)
DEPTHS = (5, 10, 20, 50, 100, 200, 500, 1000)
WIDTH, CLASSES = 32, 10
COLOURS = {"exact": "#0072b2", "approximate": "#d55e00", "momentumnet": "#8c8c8c"}


def relative(found, wanted):
    """||found - wanted|| / ||wanted||; infinite where it is no number."""
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    return float(error) if np.isfinite(error) else np.inf


def ours(experiment, mode, tensors, depth, gamma, files):
    path = experiment.scratch / "net.safetensors"
    mlp.write(path, tensors, mlp.describe(WIDTH, WIDTH, depth, CLASSES, gamma, mode=mode))
    gradients = []
    for stored in ([], ["--store-activations"]):
        to = experiment.scratch / "gradient.safetensors"
        line, _ = experiment.call("net", "evaluate", path, *files, "--gradient", to, *([] if stored else ["--inverse"]), *stored)
        if not stored:
            inverse = line["inverses"][0]
        values = common.read_network(to)
        gradients.append(np.concatenate([values[name].ravel() for name in sorted(values)]))
    worst = inverse["worst"]
    return {"inverse": np.inf if worst is None else worst, "gradient": relative(*gradients),
            "elements_that_differ": inverse["differ"], "gradient_elements_that_differ": int((gradients[0] != gradients[1]).sum())}


def theirs(tensors, gamma, X, y):
    """momentumnet's: its inverse as its backward pass has it, its gradient by what it offers."""
    def linear(W, b):
        layer = torch.nn.Linear(W.shape[1], W.shape[0])
        layer.weight.data, layer.bias.data = (torch.tensor(values, dtype=torch.float32) for values in (W, b))
        return layer

    functions = [torch.nn.Sequential(linear(W1, b1), torch.nn.Tanh(), linear(W2, b2))
                 for W1, b1, W2, b2 in mlp.branches(tensors)]
    head = linear(tensors["head.weight"], tensors["head.bias"])
    X, y = torch.tensor(X), torch.tensor(y)
    with torch.no_grad():
        x, v = X, TorchExactRep(torch.zeros_like(X))
        for f in functions:
            v *= gamma
            v += (1 - gamma) * f(x)
            x = x + v.val
        for f in reversed(functions):
            x = x - v.val
            v += -(1 - gamma) * f(x)
            v /= gamma
        inverse = float((x - X).abs().max() / X.abs().max())
    gradients = []
    for backprop in (False, True):
        network = MomentumNet(functions, gamma, use_backprop=backprop)
        parameters = [parameter for f in functions for parameter in f.parameters()]
        loss = torch.nn.functional.cross_entropy(head(network(X.clone().requires_grad_(True))), y)
        gradients.append(np.concatenate([its.numpy().astype(np.float64).ravel()
                                         for its in torch.autograd.grad(loss, parameters)]))
    return {"inverse": inverse if np.isfinite(inverse) else np.inf, "gradient": relative(*gradients)}


def two_processes(experiment, gamma, depth, batch):
    """How many elements of x and v are not what they were, of how many."""
    start, end, back = (experiment.scratch / f"{name}.npz" for name in ("start", "end", "back"))
    network = ["--layers", depth, "--gamma", gamma, "--width", WIDTH, "--hidden", WIDTH, "--seed", experiment.seed]
    line, _ = experiment.call("net", "forward", *network, "--batch", batch, "--input", start, "--state", end)
    experiment.call("net", "inverse", *network, "--state", end, "--output", back)
    with np.load(start) as begun, np.load(back) as returned:
        differ = sum(int((begun[name] != returned[name]).sum()) for name in "xv")
        elements = sum(begun[name].size for name in "xv")
    return {"layers": depth, "differ": differ, "elements": elements,
            "buffer_bits_per_element_layer": line["buffer_bits_per_element_layer"]}


def measure(experiment):
    batch, depths = experiment.size((64, DEPTHS), (8, (5, 40)))
    random = np.random.default_rng(experiment.seed)
    X = random.standard_normal((batch, WIDTH)).astype(np.float32)
    y = random.integers(0, CLASSES, batch)
    files = ["--samples", experiment.save("X", X), "--labels", experiment.save("y", y)]
    layers = mlp.random_branches(random, WIDTH, WIDTH, depths[-1])
    bound = WIDTH**-0.5
    head = {"head.weight": random.uniform(-bound, bound, (CLASSES, WIDTH)), "head.bias": np.zeros(CLASSES)}
    if MomentumNet:
        torch.set_num_threads(1)
    for gamma in GAMMAS:
        points = {}
        for depth in depths:
            tensors = {**mlp.named(layers[:depth]), **head}
            for mode in ("exact", "approximate"):
                points.setdefault(mode, []).append({"layers": depth, **ours(experiment, mode, tensors, depth, gamma, files)})
            if MomentumNet:
                points.setdefault("momentumnet", []).append({"layers": depth, **theirs(tensors, gamma, X, y)})
        yield {"gamma": gamma, "samples": batch, "width": WIDTH, "points": points,
               "two_processes": two_processes(experiment, gamma, depths[-1], batch)}


FLOOR, CEILING = 1e-9, 1e3  # of the picture: 0 is drawn at the one, what is no number or larger at the other


def draw(cases):
    figure, axes = common.plt.subplots(2, len(cases), figsize=(3.4 * len(cases), 6), layout="constrained", sharex=True, sharey=True)
    for column, case in zip(axes.T, cases):
        for axis, key in zip(column, ("inverse", "gradient")):
            for name, points in case["points"].items():
                axis.plot([point["layers"] for point in points], [min(max(point[key], FLOOR), CEILING) for point in points],
                          "o-", ms=3, color=COLOURS[name], label=name)
            axis.set(xscale="log", yscale="log")
            axis.set_yticks([FLOOR, 1e-6, 1e-3, 1, CEILING], ["0", "1e-6", "1e-3", "1", "lost"])
        column[0].set_title(f"$\\gamma$ = {case['gamma']}")
        column[1].set_xlabel("layers")
    axes[0, 0].set_ylabel("error of the inverse, relative")
    axes[1, 0].set_ylabel("error of the gradient, relative")
    axes[0, -1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def sentence(case):
    def last_within(name, key):
        """The deepest network up to which the error is under a thousandth."""
        within = [point["layers"] for point in case["points"][name] if point[key] > 1e-3]
        depths = [point["layers"] for point in case["points"][name] if not within or point["layers"] < within[0]]
        return f"{depths[-1]} layers" if depths else "none"

    exact = case["points"]["exact"]
    away = sum(point["elements_that_differ"] + point["gradient_elements_that_differ"] for point in exact)
    others = "; ".join(f"{name}: inverse {last_within(name, 'inverse')}, gradient {last_within(name, 'gradient')}"
                       for name in case["points"] if name != "exact")
    apart = case["two_processes"]
    return (f"gamma {case['gamma']}: exact, up to {exact[-1]['layers']} layers {away} elements of inputs and gradients differ, "
            f"and {apart['differ']} of {apart['elements']} between two processes of {apart['layers']} layers. "
            f"Within a thousandth are, of the depths tried, {others}.")


def finite(value):
    """What is infinite as null, for JSON."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def inverse(experiment):
    cases = list(measure(experiment))
    left_out = [] if MomentumNet else ["momentumnet is left out: it cannot be imported."]
    experiment.write(draw(cases), {"cases": finite(cases)}, " ".join([*map(sentence, cases), *left_out]))


if __name__ == "__main__":
    common.run("inverse", __doc__, inverse)
