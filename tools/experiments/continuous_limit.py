#!/usr/bin/env python3
"""The differential equation that momentum networks of many layers come to.

A field F(x, t) = W2(t) tanh(W1(t) x + b1(t)) + b2(t) on t in [0, 1], whose weights are linear in t. A network of T layers with
h = 1 / T and gamma = 1 - h / eps has the branches h F(x, h l) in the damped form and h^2 F in the plain one; the equations are
eps x'' + x' = F and eps x'' + x' = eps F, from x(0) with x'(0) = 0, solved by SciPy to 1e-10. A residual network of
branches h F is Euler's method for x' = F. Networks are run by `shrinkwarp net evaluate` in exact mode, whose logits are the last x.
"""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import mlp  # noqa: E402
import numpy as np  # noqa: E402
from scipy.integrate import solve_ivp  # noqa: E402

WIDTH, HIDDEN = 4, 16
EPS = (0.1, 0.5)
FORMS = {"damped": False, "plain": True}


def field(random):
    """F as a function of x [N, width] and t, and its weights at t."""
    (first,), (last,) = (mlp.random_branches(random, WIDTH, HIDDEN, 1, 4.0) for _ in range(2))

    def layer(t):
        return tuple((1 - t) * a + t * b for a, b in zip(first, last))

    return (lambda X, t: mlp.branch(layer(t), X)), layer


def limit(F, X, eps, plain):
    """x(1) of the equation; eps None: of x' = F."""
    shape, size = X.shape, X.size

    def slope(t, state):
        x = state[:size].reshape(shape)
        if eps is None:
            return F(x, t).ravel()
        v = state[size:]
        return np.concatenate([v, (F(x, t).ravel() * (eps if plain else 1) - v) / eps])

    start = X.ravel() if eps is None else np.concatenate([X.ravel(), np.zeros(size)])
    return solve_ivp(slope, (0, 1), start, rtol=1e-10, atol=1e-12).y[:size, -1].reshape(shape)


def network(experiment, layer, X, layers, eps, plain):
    """The last x of a network, as the program has it."""
    h = 1 / layers
    scaled = []
    for t in range(layers):
        W1, b1, W2, b2 = layer(h * t)
        scale = h * h if plain else h
        scaled.append((W1, b1, scale * W2, scale * b2))
    tensors = {**mlp.named(scaled), "head.weight": np.eye(WIDTH), "head.bias": np.zeros(WIDTH)}
    gamma = None if eps is None else 1 - h / eps
    if gamma is not None:
        tensors["momentum.gamma"] = np.full(layers, gamma)
    path = mlp.write(experiment.scratch / "net.safetensors", tensors, mlp.describe(WIDTH, HIDDEN, layers, WIDTH, gamma, plain))
    samples, logits = experiment.save("X", X.astype(np.float32)), experiment.scratch / "logits.npy"
    experiment.call("net", "evaluate", path, "--samples", samples, "--logits", logits)
    return np.load(logits)


def measure(experiment):
    random = np.random.default_rng(experiment.seed)
    F, layer = field(random)
    X = random.standard_normal((experiment.size(50, 5), WIDTH)).astype(np.float32).astype(np.float64)
    depths = experiment.size((20, 50, 100, 200, 500, 1000, 2000), (20, 40))
    for name, eps, plain in [("residual, $x' = F$", None, False),
                             *((f"{form}, eps = {eps}", eps, plain) for form, plain in FORMS.items() for eps in EPS)]:
        wanted = limit(F, X, eps, plain)
        errors = [float(np.sqrt(((network(experiment, layer, X, depth, eps, plain) - wanted) ** 2).mean())) for depth in depths]
        # What another equation would say: how far apart the limits are.
        apart = float(np.sqrt(((wanted - limit(F, X, None, False)) ** 2).mean()))
        yield {"network": name, "eps": eps, "plain": plain, "layers": depths, "error": errors, "from_x_prime_equals_F": apart,
               "slope": float(np.polyfit(np.log(depths), np.log(errors), 1)[0])}


def draw(cases):
    figure, axis = common.plt.subplots(figsize=(6, 4), layout="constrained")
    for case, colour in zip(cases, common.plt.cm.tab10.colors):
        axis.plot(case["layers"], case["error"], "o-", ms=3, color=colour, label=case["network"])
    depths = np.array(cases[0]["layers"], float)
    axis.plot(depths, cases[0]["error"][0] * depths[0] / depths, "k:", label="1 / T")
    axis.set(xscale="log", yscale="log", xlabel="layers T", ylabel="root mean square of $x_T - x(1)$")
    axis.legend(frameon=False, fontsize=8)
    return figure


def sentence(case):
    return (f"{case['network'].replace('$', '')}: {common.number(case['error'][0])} with {case['layers'][0]} layers, "
            f"{common.number(case['error'][-1])} with {case['layers'][-1]}, as T^{case['slope']:.2f}")


def continuous_limit(experiment):
    cases = list(measure(experiment))
    conclusion = "Root mean square error of the last x. " + "; ".join(map(sentence, cases)) + "."
    experiment.write(draw(cases), {"cases": cases}, conclusion)


if __name__ == "__main__":
    common.run("continuous_limit", __doc__, continuous_limit)
