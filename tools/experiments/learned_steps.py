#!/usr/bin/env python3
"""Learned steps beside 1 / L and 1 / L_S, the step that descends as long as the code stays on its support S.

ISTA's step 1 / L is safe for every code. A code in use has few atoms, and ||D_S||^2 = L_S is far under L; Ablin,
Moreau, Massias and Gramfort (2019) found that learned steps lie between both. A step-LISTA is trained for lambda of
0.1 and 0.8 of lambda_max twice: by gradient descent with a line search, as they did, and by L-BFGS, which is the
default. S of a layer are the atoms in use before or after it: between two codes on S the objective falls for every
step up to 1 / L_S.
"""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

FRACTIONS = (0.1, 0.8)
OPTIMIZERS = ("linesearch", "lbfgs")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def measure(experiment):
    random = np.random.default_rng(experiment.seed)
    n, m, training, looked_at, layers = experiment.size((64, 256, 2000, 300, 10), (8, 16, 100, 20, 3))
    D = common.gaussian_dictionary(random, n, m)
    X = common.with_lambda_max_one(D, random.standard_normal((training + looked_at, n)))
    files = [experiment.save("D", D), experiment.save("X", X[:training])]
    unseen = X[training:]
    support_steps = common.SupportSteps(D)
    safe = 1 / support_steps.lipschitz
    for fraction in FRACTIONS:
        judged_by = [files[0], experiment.save("Y", unseen)]
        for optimizer in OPTIMIZERS:
            network, _, _ = experiment.train("step", *files, layers, fraction, "--optimizer", optimizer,
                                             "--epochs", 100)
            steps = common.read_network(network)["steps"]
            excess = experiment.evaluate(network, *judged_by)
            quantiles, share_over, before = [], [], np.zeros((looked_at, m), bool)
            for step, Z in zip(steps, common.step_layers(D, unseen, np.full(looked_at, fraction), steps)):
                largest = np.array([support_steps.of(row) for row in before | (Z != 0)])
                before = Z != 0
                quantiles.append(np.quantile(largest, QUANTILES))
                share_over.append(float((step > largest).mean()))
            yield {"lambda_fraction": fraction, "optimizer": optimizer, "steps": steps, "inverse_lipschitz": safe,
                   "quantiles": quantiles, "share_of_samples_over": share_over, "excess": excess["network"],
                   "ista": excess["ista"], "fista": excess["fista"]}


def draw(cases):
    figure, axes = common.plt.subplots(len(FRACTIONS), len(OPTIMIZERS), figsize=(12, 6), layout="constrained",
                                       sharex=True, sharey="row")
    for axis, case in zip(axes.flat, cases):
        layers = np.arange(1, len(case["steps"]) + 1)
        quantiles = np.array(case["quantiles"]).T / case["inverse_lipschitz"]
        axis.fill_between(layers, quantiles[0], quantiles[-1], color="#d4d4d4",
                          label="1 / $L_S$, 5 % to 95 % of samples")
        axis.fill_between(layers, quantiles[1], quantiles[-2], color="#a8a8a8", label="25 % to 75 %")
        axis.plot(layers, quantiles[2], color="black", label="median")
        axis.plot(layers, case["steps"] / case["inverse_lipschitz"], "o-", ms=3, color=common.COLOURS["step"],
                  label="learned step")
        axis.axhline(1, color=common.COLOURS["FISTA"], linewidth=1, label="1 / L")
        axis.set(yscale="log", title=f"$\\lambda$ = {case['lambda_fraction']}, {case['optimizer']}")
    for axis in axes[-1]:
        axis.set_xlabel("layer")
    for axis in axes[:, 0]:
        axis.set_ylabel("steps, times L")
    axes[0, -1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def sentence(case):
    steps, safe = case["steps"], case["inverse_lipschitz"]
    median = np.array(case["quantiles"])[:, len(QUANTILES) // 2]
    between = int(((steps >= 0.99 * safe) & (steps <= median)).sum())  # 1/L itself to the rounding of training
    over = int((steps > median).sum())
    return (f"At {case['lambda_fraction']} lambda_max, {case['optimizer']}: {between} of {len(steps)} steps lie between "
            f"1/L and the median of 1/L_S, {over} above it; the mean step is {steps.mean() / safe:.2g}/L and the largest "
            f"{steps.max() / safe:.2g}/L, the mean of the medians {median.mean() / safe:.2g}/L; F - F* is "
            f"{common.number(case['excess'])} (ISTA {common.number(case['ista'])}, FISTA "
            f"{common.number(case['fista'])}).")


def learned_steps(experiment):
    cases = list(measure(experiment))
    experiment.write(draw(cases), {"quantile_levels": QUANTILES, "cases": cases}, " ".join(map(sentence, cases)))


if __name__ == "__main__":
    common.run("learned_steps", __doc__, learned_steps)
