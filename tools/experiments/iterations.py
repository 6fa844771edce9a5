#!/usr/bin/env python3
"""How many iterations ISTA, FISTA and oracle ISTA take to relative gaps of 1e-2 to 1e-6, on several lambdas.

NumPy in float64 on a Gaussian dictionary of 64 x 256 with unit columns. Oracle ISTA is ISTA with the step 1 /
||D_S||^2 of the code's support S: one iteration of it costs an eigenvalue more, so it counts as what a perfect choice
of steps would bring.
"""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

FRACTIONS = (0.8, 0.5, 0.3, 0.1)
GAPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
METHODS = {"ISTA": common.ista, "FISTA": common.fista, "oracle ISTA": common.oracle_ista}


def counts(method, D, X, lam, most):
    """[gaps, problems]: after which iteration the gap is first met; `most` + 1 where it is not."""
    found = np.full((len(GAPS), len(X)), most + 1)
    for iteration, Z in zip(range(1, most + 1), method(D, X, lam)):
        gap = common.relative_gap(D, X, Z, lam)
        for row, wanted in zip(found, GAPS):
            row[(gap <= wanted) & (row > most)] = iteration
        if (found <= most).all():
            break
    return found


def measure(experiment):
    random = np.random.default_rng(experiment.seed)
    n, m, problems, most = experiment.size((64, 256, 30, 10000), (8, 12, 5, 1000))
    D = common.gaussian_dictionary(random, n, m)
    X = common.with_lambda_max_one(D, random.standard_normal((problems, n)))
    for fraction in FRACTIONS:
        found = {name: counts(method, D, X, np.full(problems, fraction), most) for name, method in METHODS.items()}
        yield {"lambda_fraction": fraction, "most": most, "problems": problems,
               "median": {name: np.median(values, 1) for name, values in found.items()},
               "worst": {name: values.max(1) for name, values in found.items()}}


def draw(cases):
    size = (3.2 * len(cases), 3.6)
    figure, axes = common.plt.subplots(1, len(cases), figsize=size, layout="constrained", sharey=True)
    for axis, case in zip(axes, cases):
        for name in METHODS:
            axis.plot(GAPS, case["median"][name], "o-", ms=3, color=common.COLOURS[name], label=name)
            axis.plot(GAPS, case["worst"][name], ":", color=common.COLOURS[name])
        axis.set(xscale="log", yscale="log", xlabel="relative duality gap",
                 title=f"$\\lambda$ = {case['lambda_fraction']}")
        axis.invert_xaxis()
    axes[0].set_ylabel("iterations: median, dotted worst")
    axes[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def sentence(case):
    def count(name):
        return f"{case['median'][name][-1]:.0f}" if case["median"][name][-1] <= case["most"] else f"over {case['most']}"

    return f"At {case['lambda_fraction']} lambda_max: " + ", ".join(f"{name} {count(name)}" for name in METHODS) + "."


def iterations(experiment):
    cases = list(measure(experiment))
    conclusion = f"Median iterations to a relative gap of {GAPS[-1]:g}. " + " ".join(map(sentence, cases))
    experiment.write(draw(cases), {"gaps": GAPS, "cases": cases}, conclusion)


if __name__ == "__main__":
    common.run("iterations", __doc__, iterations)
