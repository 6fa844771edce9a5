#!/usr/bin/env python3
"""Learning to optimise with momentum: momentum-LISTA beside LISTA, ISTA and FISTA, mean F - F* on observations not trained on.

A Gaussian dictionary of 64 x 256 with unit columns and Gaussian observations, scaled so that lambda_max = 1, lambda .1 and .8 of
it, 5, 10 and 20 layers. LISTA and momentum-LISTA begin as the trained step-LISTA of their depth, where gamma is 0
(`--start NET`), or as ISTA, there with gamma .2 (`--start ista --gamma`) and a larger learning rate.
"""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

FRACTIONS = (0.1, 0.8)
DEPTHS = (5, 10, 20)
EPOCHS = 30
RATE = 3e-3  # from ISTA; three times as much diverges in ten layers, a third leaves five twice as far from F* at lambda .1
DEEP = 10  # deeper ones that begin with long steps take L-BFGS: Adam's, which no line search looks at, diverge
GAMMA = 0.2
NETWORKS = {
    "lista": ["lista"],
    "momentum-lista": ["momentum-lista"],
    "lista from ista": ["lista", "--start", "ista", "--lr", RATE],
    "momentum-lista from ista": ["momentum-lista", "--start", "ista", "--lr", RATE, "--gamma", GAMMA],
}
ITERATIONS = {"ISTA": "ista", "FISTA": "fista"}  # and their names in the program's line


def curves(experiment, fraction):
    random = np.random.default_rng(experiment.seed)
    n, m, training, unseen, judging = experiment.size((64, 256, 2000, 500, 5000), (8, 16, 200, 50, 100))
    D = common.gaussian_dictionary(random, n, m)
    X = common.with_lambda_max_one(D, random.standard_normal((training + unseen + judging, n)))
    D, X, Y, V = (experiment.save(name, values) for name, values in
                  zip("DXYV", (D, X[:training], X[training:training + unseen], X[training + unseen:])))
    excess, seconds, gammas = {}, {}, {}
    for depth in experiment.size(DEPTHS, (2, 4)):
        step, _, _ = experiment.train("step", D, X, depth, fraction, "--validation", V, "--epochs", experiment.size(60, 3))
        for name, (kind, *options) in NETWORKS.items():
            start = [] if options else ["--start", step, *(["--optimizer", "lbfgs"] if depth > DEEP else [])]
            network, _, spent = experiment.train(kind, D, X, depth, fraction, *options, *start, "--validation", V, "--epochs",
                                                 experiment.size(EPOCHS, 5))
            judged = experiment.evaluate(network, D, Y)
            excess.setdefault(name, []).append([depth, judged["network"]])
            seconds[name] = seconds.get(name, 0) + spent
            if kind == "momentum-lista":
                gammas.setdefault(name, []).append([depth, common.read_network(network)["gamma"]])
        judged = experiment.evaluate(step, D, Y)
        excess.setdefault("step", []).append([depth, judged["network"]])
        for name, key in ITERATIONS.items():
            excess.setdefault(name, []).append([depth, judged[key]])
    return {"rows": n, "atoms": m, "training": training, "unseen": unseen, "lambda_fraction": fraction, "excess": excess,
            "learned_gammas": gammas, "training_seconds": seconds}


def draw(cases):
    figure, axes = common.plt.subplots(1, len(cases), figsize=(5 * len(cases) + 1, 4), layout="constrained")
    for axis, case in zip(axes, cases):
        for name, points in case["excess"].items():
            colour = common.COLOURS[name.removesuffix(" from ista")]
            line = "--" if name in ITERATIONS else "s:" if name.endswith(" from ista") else "o-"
            axis.plot(*zip(*points), line, ms=4, color=colour, label=name)
        axis.set(yscale="log", xlabel="layers, iterations", title=f"$\\lambda$ = {case['lambda_fraction']} $\\lambda_{{max}}$")
    axes[0].set_ylabel("mean F - F* on unseen observations")
    axes[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def sentence(case):
    last = {name: points[-1] for name, points in case["excess"].items()}
    values = ", ".join(f"{name} {common.number(value)}" for name, (_, value) in last.items())
    gammas = "; ".join(f"{name} learned gammas from {common.number(np.min(its[-1][1]))} to {common.number(np.max(its[-1][1]))}"
                       for name, its in case["learned_gammas"].items())
    return f"At {case['lambda_fraction']} lambda_max, {last['ISTA'][0]} layers: F - F* is {values}; {gammas}."


def momentum_lista(experiment):
    cases = [curves(experiment, fraction) for fraction in FRACTIONS]
    experiment.write(draw(cases), {"epochs": EPOCHS, "gamma_from_ista": GAMMA, "cases": cases}, " ".join(map(sentence, cases)))


if __name__ == "__main__":
    common.run("momentum_lista", __doc__, momentum_lista)
