#!/usr/bin/env python3
"""Learning to optimise with momentum: momentum LISTA beside LISTA, learned steps, ISTA and FISTA, on unseen observations.

Gaussian dictionary of 64 x 256 with unit columns, observations with lambda_max = 1. Momentum LISTA is a momentum residual
network whose branches are LISTA layers, f(z) = st(W1 z + W2 x, lambda theta) - z; it is trained from ISTA's branch with a gamma of
its own (`--start ista`), and from a trained step network, which has none (`--start step`).
"""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

FRACTIONS = (0.1, 0.5)
LEARNED = {
    "step": ("step", ()),
    "LISTA from ISTA": ("lista", ("--start", "ista")),
    "LISTA from steps": ("lista", ("--start", "step")),
    "momentum LISTA from ISTA": ("momentum-lista", ("--start", "ista", "--gamma", 0.2)),
    "momentum LISTA from steps": ("momentum-lista", ("--start", "step")),
}
COLOURS = dict(zip(LEARNED, ("#0072b2", "#e69f00", "#b06f00", "#7f3c8d", "#c58bd0")))


def measure(experiment):
    random = np.random.default_rng(experiment.seed)
    n, m, samples, unseen, epochs = experiment.size((64, 256, 2000, 1000, 60), (8, 12, 60, 40, 2))
    depths = experiment.size((2, 5, 10, 20), (2, 3))
    D = common.gaussian_dictionary(random, n, m)
    X, Y = (common.with_lambda_max_one(D, random.standard_normal((count, n))) for count in (samples, unseen))
    files = {name: experiment.save(name, values) for name, values in (("D", D), ("X", X), ("Y", Y))}
    for fraction in FRACTIONS:
        optimum = experiment.optimum(files["D"], files["Y"], fraction)
        lam = np.full(unseen, fraction)
        iterated = {name: [] for name in ("ISTA", "FISTA")}
        for name, method in (("ISTA", common.ista), ("FISTA", common.fista)):
            codes = [Z for _, Z in zip(range(max(depths)), method(D, Y, lam))]
            iterated[name] = [float((common.objective(D, Y, codes[depth - 1], lam) - optimum).mean()) for depth in depths]
        learned, gammas = {name: [] for name in LEARNED}, {}
        for name, (kind, options) in LEARNED.items():
            for depth in depths:
                passes = [] if kind == "step" else ["--epochs", epochs]
                path, _, _ = experiment.train(kind, files["D"], files["X"], depth, fraction, *options, *passes)
                said = experiment.evaluate(path, files["D"], files["Y"])
                learned[name].append(said["network"])
                if kind == "momentum-lista":
                    gammas.setdefault(name, []).append(common.read_network(path)["gamma"])
        yield {"lambda_fraction": fraction, "rows": n, "atoms": m, "samples": samples, "unseen": unseen, "layers": depths,
               "F_minus_optimum": {**iterated, **learned}, "gamma": gammas}


def draw(cases):
    figure, axes = common.plt.subplots(1, len(cases), figsize=(5 * len(cases), 3.8), layout="constrained")
    for axis, case in zip(axes, cases):
        for name, values in case["F_minus_optimum"].items():
            axis.plot(case["layers"], values, "o-", ms=3, label=name, color=COLOURS.get(name) or common.COLOURS[name])
        axis.set(yscale="log", xlabel="layers or iterations", title=f"$\\lambda$ = {case['lambda_fraction']} $\\lambda_{{max}}$")
    axes[0].set_ylabel("mean $F - F^*$ on unseen observations")
    axes[-1].legend(frameon=False, fontsize=8)
    return figure


def sentence(case):
    values = case["F_minus_optimum"]
    last = {name: common.number(series[-1]) for name, series in values.items()}
    return (f"At {case['lambda_fraction']} lambda_max, {case['layers'][-1]} layers: " +
            ", ".join(f"{name} {value}" for name, value in last.items()) + ".")


def momentum_lista(experiment):
    cases = list(measure(experiment))
    conclusion = "Mean F - F* on unseen observations. " + " ".join(map(sentence, cases))
    experiment.write(draw(cases), {"cases": cases}, conclusion)


if __name__ == "__main__":
    common.run("momentum_lista", __doc__, momentum_lista)
