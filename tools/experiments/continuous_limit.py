#!/usr/bin/env python3
"""Momentum networks of ever more layers beside the differential equations that they tend to.

A smooth field F(x, s) = W2(s) tanh(W1(s) x + b(s)) in the plane, weights that vary smoothly with s in [0, 1]; a network
of T layers has the branches f_t = h F(., t h) with h = 1/T, written as a network's file, and runs in the program, exact
mode, from 20 points. Layer t is the time t h, where v is h x'. So

  damped, gamma fixed:           h/(1 - gamma) x'' + x' = F, and in the limit x' = F
  plain, gamma fixed:            h/(1 - gamma) x'' + x' = F/(1 - gamma), and in the limit x' = F/(1 - gamma)
  damped, gamma = 1 - h/eps:     eps x'' + x' = F whatever T is
  plain, gamma = 1 - h/eps:      eps x'' + x' = eps T F: branches have to be h/eps times as large for the equation above

The error is the largest distance of a point from where the equation, solved by SciPy to 1e-10, has it at s = 1, over the
largest way of a point.
"""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import mlp  # noqa: E402
import numpy as np  # noqa: E402
from scipy.integrate import solve_ivp  # noqa: E402

LAYERS = (10, 20, 40, 80, 160, 320, 640, 1280)
GAMMA, EPS = 0.8, 0.3
HIDDEN = 8
SHOWN = (10, 40)  # of how many layers paths are drawn


class Field:
    """Weights A + B sin(2 pi s) + C cos(pi s) of each element, of the seed."""

    def __init__(self, random):
        self.parts = [random.standard_normal((3, *shape)) / np.sqrt(shape[-1])
                      for shape in ((HIDDEN, 2), (1, HIDDEN), (2, HIDDEN))]

    def weights(self, s):
        W1, b, W2 = (A + B * np.sin(2 * np.pi * s) + C * np.cos(np.pi * s) for A, B, C in self.parts)
        return W1, b[0], W2, np.zeros(2)

    def __call__(self, s, X):
        return mlp.branch(self.weights(s), X)

    def branches(self, T, share):
        """f_t = share F(., t/T)."""
        return [(W1, b1, share * W2, b2) for W1, b1, W2, b2 in (self.weights(t / T) for t in range(T))]


def solution(field, X, eps, factor):
    """eps x'' + x' = factor F from rest at X: x at 101 times [101, N, 2]. eps 0 is of the first order."""
    def second(s, state):
        x, v = state.reshape(2, -1, 2)
        return np.concatenate([v, (factor * field(s, x) - v) / eps]).ravel()

    def first(s, state):
        return (factor * field(s, state.reshape(-1, 2))).ravel()

    start = np.concatenate([X, 0 * X]).ravel() if eps > 0 else X.ravel()
    found = solve_ivp(second if eps > 0 else first, (0, 1), start, method="DOP853", rtol=1e-10, atol=1e-12,
                      t_eval=np.linspace(0, 1, 101))
    return found.y.T[:, :X.size].reshape(101, -1, 2)


def outputs(experiment, layers, gamma, plain, files):
    """Where the program's network takes the points; its head is the identity."""
    tensors = {**mlp.named(layers), "head.weight": np.eye(2), "head.bias": np.zeros(2)}
    path = mlp.write(experiment.scratch / "net.safetensors", tensors,
                     mlp.describe(2, HIDDEN, len(layers), 2, gamma, plain))
    to = experiment.scratch / "x.npy"
    experiment.call("net", "evaluate", path, "--samples", files, "--logits", to)
    return np.load(to).astype(np.float64)


# Form, gamma of T layers, what the branches h F are multiplied by, eps and factor of the equation they are compared with.
CASES = {
    "damped, gamma .8; x' = F": (False, lambda T: GAMMA, lambda T: 1, lambda T: 0, 1),
    "plain, gamma .8; x' = 5 F": (True, lambda T: GAMMA, lambda T: 1, lambda T: 0, 1 / (1 - GAMMA)),
    "plain, gamma .8; x' = F": (True, lambda T: GAMMA, lambda T: 1, lambda T: 0, 1),
    "damped, gamma 1 - h/.3; .3 x'' + x' = F": (False, lambda T: 1 - 1 / (EPS * T), lambda T: 1, lambda T: EPS, 1),
    "plain, gamma 1 - h/.3, f h/.3; .3 x'' + x' = F": (True, lambda T: 1 - 1 / (EPS * T), lambda T: 1 / (EPS * T),
                                                     lambda T: EPS, 1),
}


def measure(experiment):
    random = np.random.default_rng(experiment.seed)
    field = Field(random)
    X = random.uniform(-1, 1, (20, 2)).astype(np.float32).astype(np.float64)
    files = experiment.save("X", X)
    layers = experiment.size(LAYERS, (10, 40))
    paths = {"first": solution(field, X, 0, 1), "second": solution(field, X, EPS, 1)}
    for name, (plain, gamma, share, eps, factor) in CASES.items():
        errors = []
        for T in layers:
            wanted = solution(field, X, eps(T), factor)
            way = np.linalg.norm(wanted[-1] - X, axis=1).max()
            branches = field.branches(T, share(T) / T)
            found = outputs(experiment, branches, gamma(T), plain, files)
            twin = mlp.states(branches, X, gamma(T), plain)
            errors.append({"layers": T, "error": np.linalg.norm(found - wanted[-1], axis=1).max() / way,
                           "numpy_differs": np.abs(found - twin[-1]).max() / np.abs(twin).max()})
            if T in SHOWN:
                paths[name, T] = twin
        last = errors[-2:]
        rate = np.log(last[0]["error"] / last[1]["error"]) / np.log(last[1]["layers"] / last[0]["layers"])
        yield {"case": name, "form": "plain" if plain else "damped", "errors": errors, "order": rate}
    yield paths


def draw(cases, paths):
    figure, axes = common.plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    names = list(CASES)
    for axis, key, name in ((axes[0], "first", names[0]), (axes[1], "second", names[3])):
        for which in range(3):
            axis.plot(*paths[key][:, which].T, color="black", linewidth=1, label="equation" if which == 0 else None)
            for T, style, colour in zip(SHOWN, ("s", "."), ("#d55e00", "#0072b2")):
                axis.plot(*paths[name, T][:, which].T, style, ms=4, color=colour, label=f"{T} layers" if which == 0 else None)
        axis.set_title(name, fontsize=9)
        axis.legend(frameon=False)
    for case in cases:
        axes[2].plot([point["layers"] for point in case["errors"]], [point["error"] for point in case["errors"]], "o-", ms=3,
                     label=case["case"])
    T = np.array([point["layers"] for point in cases[0]["errors"]])
    axes[2].plot(T, 1 / T, ":", color="black", label="1/T")
    axes[2].set(xscale="log", yscale="log", xlabel="layers T", ylabel="error at s = 1, relative")
    axes[2].legend(frameon=False, fontsize=7)
    return figure


def continuous_limit(experiment):
    *cases, paths = measure(experiment)
    text = "; ".join(f"{case['case']}: {common.number(case['errors'][-1]['error'])} with {case['errors'][-1]['layers']} layers, "
                     f"order {case['order']:.2f}" for case in cases)
    worst = max(point["numpy_differs"] for case in cases for point in case["errors"])
    experiment.write(draw(cases, paths), {"cases": cases}, f"{text}. The program and NumPy differ by at most {common.number(worst)}.")


if __name__ == "__main__":
    common.run("continuous_limit", __doc__, continuous_limit)
