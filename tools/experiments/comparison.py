#!/usr/bin/env python3
"""Learned networks beside ISTA, FISTA and oracle ISTA of as many iterations: mean F - F* on observations not trained on.

A Gaussian dictionary of 64 x 256 with unit columns and Gaussian observations, scaled so that lambda_max = 1; and,
where SHRINKWARP_DATA names a folder of recordings, the digits of it. lambda is 0.1 and 0.8 of lambda_max."""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

FRACTIONS = (0.1, 0.8)
DEPTHS = (1, 2, 5, 10, 30)
KINDS = ("step", "alista", "coupled", "lista")
EPOCHS = 100  # of networks with weight matrices, which begin as the step network of their depth
DEEP = 10
ITERATIONS = 60  # of the others, at their last depth
BASELINES = {"ISTA": "ista", "FISTA": "fista", "oracle ISTA": "oracle_ista"}  # and their names in the program's line


def gaussian_case(experiment):
    random = np.random.default_rng(experiment.seed)
    n, m, training, unseen, judging = experiment.size((64, 256, 2000, 1000, 5000), (8, 16, 200, 50, 200))
    D = common.gaussian_dictionary(random, n, m)
    X = common.with_lambda_max_one(D, random.standard_normal((training + unseen + judging, n)))
    return D, X[:training], X[training:training + unseen], X[training + unseen:]


def digits_case(experiment):
    """Every fourth digit is unseen, and of the others every tenth is for validation. lambda_max is brought to 1 here too,
    so that figures compare."""
    D, X = common.recording("digits")
    X = common.with_lambda_max_one(D, X)
    unseen = np.arange(len(X)) % 4 == 3
    return D, X[~unseen][:experiment.size(None, 100)], X[unseen][:experiment.size(None, 50)], None


def curves(experiment, name, case, fraction):
    """{method: [[depth, mean F - F*], ...]}, the mean of F* and the processor seconds of each kind's training."""
    D, training, unseen, judging = case
    files = [experiment.save(f"{name}-{part}", values) for part, values in zip("DXY", (D, training, unseen))]
    # Long steps go wrong on few observations, and then badly: many for validation keep most such networks out.
    validation = [] if judging is None else ["--validation", experiment.save(f"{name}-V", judging)]
    excess, seconds, steps = {}, {}, {}
    for kind in KINDS:
        passes = experiment.size(ITERATIONS if kind in ("step", "alista") else EPOCHS, 3)
        for depth in experiment.size(DEPTHS, (1, 3)):
            options = [*validation, "--epochs", passes]
            if kind in ("coupled", "lista"):
                options += ["--start", steps[depth]]
                if depth > DEEP:  # where Adam's steps, which no line search looks at, diverge
                    options += ["--optimizer", "lbfgs"]
            network, _, spent = experiment.train(kind, *files[:2], depth, fraction, *options)
            seconds[kind] = seconds.get(kind, 0) + spent
            judged = experiment.evaluate(network, files[0], files[2], *["--oracle"] * (kind == "step"))
            excess.setdefault(kind, []).append([depth, judged["network"]])
            if kind == "step":
                steps[depth] = network
                for method, key in BASELINES.items():
                    excess.setdefault(method, []).append([depth, judged[key]])
    return {"rows": D.shape[0], "atoms": D.shape[1], "training": len(training), "unseen": len(unseen),
            "lambda_fraction": fraction, "optimum": judged["optimum"], "excess": excess, "training_seconds": seconds}


def draw(cases):
    figure, axes = common.plt.subplots(1, len(cases), figsize=(4 * len(cases), 4), layout="constrained", squeeze=False)
    for axis, case in zip(axes[0], cases):
        for method, points in case["excess"].items():
            depths, values = zip(*points)
            axis.plot(depths, np.maximum(values, 1e-15), "--" if method in BASELINES else "o-", ms=3,
                      color=common.COLOURS[method], label=method)
        axis.set(yscale="log", xlabel="layers, iterations",
                 title=f"{case['name']}, {case['rows']} x {case['atoms']}, $\\lambda$ = {case['lambda_fraction']}")
    axes[0, 0].set_ylabel("mean F - F* on unseen observations")
    axes[0, -1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def sentence(case):
    """Who is best where, and the learned steps beside FISTA at the deepest networks."""
    at = {method: dict(map(tuple, points)) for method, points in case["excess"].items()}
    shared = sorted(set.intersection(*(set(values) for values in at.values())))
    best = {depth: min(at, key=lambda method: at[method].get(depth, np.inf)) for depth in at["step"]}
    depth = max(shared)
    table = ", ".join(f"{method} {common.number(values[depth])}" for method, values in at.items())
    return (f"{case['name']} at {case['lambda_fraction']} lambda_max: F - F* after {depth} layers is {table}; the "
            "least is of " + ", ".join(f"{method} at {depth}" for depth, method in best.items()) + ".")


def comparison(experiment):
    problems = {"gaussian": gaussian_case(experiment)}
    left_out = []
    if common.DATA:
        problems["digits"] = digits_case(experiment)
    else:
        left_out.append("Digits are left out: SHRINKWARP_DATA is not set.")
    cases = [{"name": name, **curves(experiment, name, case, fraction)} for name, case in problems.items()
             for fraction in FRACTIONS]
    experiment.write(draw(cases), {"epochs": EPOCHS, "iterations": ITERATIONS, "cases": cases}, " ".join([*map(sentence, cases), *left_out]))


if __name__ == "__main__":
    common.run("comparison", __doc__, comparison)
