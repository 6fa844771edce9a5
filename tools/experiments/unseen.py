#!/usr/bin/env python3
"""Networks on data unlike what they have seen: F - F* is bad there, the duality gap says so, and a solver mends it.

Step-LISTA and coupled LISTA are trained for lambda at 0.8 of lambda_max on x = D z + noise with a few nonzeros in z.
They are judged on unseen x of the same kind, with other lambdas, on pure noise, and on the same x with one channel
that is broken, of ten times the norm of x. (The scale of x alone makes no difference: codes scale with x where lambda
is a share of lambda_max.) Gaps come from `shrinkwarp certify`, which knows nothing of networks, and stand beside the
true F - F* of each problem. Last, `shrinkwarp solve --solver learned` goes on from the networks' codes until each has
a relative gap of 1e-6.
"""

import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

FRACTION = 0.8
NETWORKS = ("step", "coupled")
EPOCHS = 40  # of coupled LISTA
GAP = 1e-6  # of the solve that mends


def sparse_observations(random, D, count):
    """x = D z with n / 16 nonzeros in z, and noise of a tenth of its norm."""
    n, m = D.shape
    nonzeros = max(1, n // 16)
    Z = np.zeros((count, m))
    for row in Z:
        row[random.choice(m, nonzeros, replace=False)] = random.standard_normal(nonzeros)
    clean = Z @ D.T
    noise = random.standard_normal(clean.shape) * np.linalg.norm(clean, axis=1, keepdims=True) / np.sqrt(n)
    return clean + 0.1 * noise


def with_broken_channel(random, X):
    broken = X.copy()
    broken[np.arange(len(X)), random.integers(X.shape[1], size=len(X))] += 10 * np.linalg.norm(X, axis=1)
    return broken


def certified(experiment, dictionary, observations, codes, fraction):
    """Objectives and relative gaps of codes, by the certifier."""
    path = experiment.scratch / "certified.npz"
    experiment.call("certify", codes, "--dictionary", dictionary, "--observations", observations, "--lambda-fraction",
                    fraction, "--output", path, statuses=(0, 3))
    with np.load(path) as found:
        return found["objective"], found["relative_gap"]


def judged(experiment, network, dictionary, name, X, fraction):
    """What a network is worth on X. Excess and gaps are over 1/2 ||x||^2, so that conditions compare."""
    observations, codes = experiment.save(name, X), experiment.scratch / "codes.npy"
    line = experiment.evaluate(network, dictionary, observations, "--lambda-fraction", fraction, "--codes", codes)
    objective, gap = certified(experiment, dictionary, observations, codes, fraction)
    energy = 0.5 * (X * X).sum(1)
    excess = (objective - experiment.optimum(dictionary, observations, fraction)) / energy
    mended, _ = experiment.call("solve", "--dictionary", dictionary, "--observations", observations,
                                "--lambda-fraction", fraction, "--solver", "learned", "--network", network, "--gap", GAP,
                                "--output", experiment.scratch / "mended.npz", statuses=(0, 3))
    return {"observations": name, "lambda_fraction": fraction, "excess": excess, "gap": gap,
            "mean_gap_of": {key: line["relative_gaps"][key]["mean"] for key in ("network", "ista", "fista")},
            "mended": mended["converged"], "mended_worst_gap": mended["worst_gap"]}


def measure(experiment):
    random = np.random.default_rng(experiment.seed)
    n, m, training, count, layers = experiment.size((64, 256, 1000, 500, 8), (16, 32, 200, 40, 3))
    D = common.gaussian_dictionary(random, n, m)
    files = [experiment.save("D", D), experiment.save("training", sparse_observations(random, D, training))]
    alike = sparse_observations(random, D, count)
    conditions = [("alike", alike, FRACTION), ("alike", alike, 0.5), ("alike", alike, 0.1),
                  ("pure noise", random.standard_normal(alike.shape), FRACTION),
                  ("broken channel", with_broken_channel(random, alike), FRACTION)]
    for kind in NETWORKS:
        options = ["--epochs", experiment.size(EPOCHS, 5)] if kind == "coupled" else []
        network, _, _ = experiment.train(kind, *files, layers, FRACTION, *options)
        yield {"network": kind, "layers": layers,
               "conditions": [judged(experiment, network, files[0], *condition) for condition in conditions]}


def label(condition):
    return f"{condition['observations']}, {condition['lambda_fraction']} $\\lambda_{{max}}$"


def draw(cases):
    figure, axes = common.plt.subplots(1, 1 + len(cases), figsize=(14, 4), layout="constrained")
    places = np.arange(len(cases[0]["conditions"]))
    bars = [("ISTA", "ista", cases[0]), ("FISTA", "fista", cases[0])] + [(c["network"], "network", c) for c in cases]
    for i, (name, key, case) in enumerate(bars):
        heights = [max(condition["mean_gap_of"][key], 1e-16) for condition in case["conditions"]]
        axes[0].bar(places + 0.2 * (i - 1.5), heights, 0.2, color=common.COLOURS[name], label=name)
    axes[0].set_xticks(places, [label(condition) for condition in cases[0]["conditions"]], rotation=30, ha="right")
    axes[0].set(yscale="log", ylabel="mean relative duality gap")
    axes[0].legend(frameon=False, fontsize=8)
    cycle = list(common.COLOURS.values())[1:]
    for axis, case in zip(axes[1:], cases):
        for colour, condition in zip(cycle, case["conditions"]):
            excess, gap = (np.maximum(condition[key], 1e-16) for key in ("excess", "gap"))
            axis.loglog(excess, gap, ".", ms=3, color=colour, label=label(condition))
        ends = np.array([1e-16, 10.0])
        axis.plot(ends, ends, color="black", linewidth=0.8)
        axis.set(xlabel="(F - F*) / (½ ‖x‖²)", ylabel="certified relative gap",
                 title=f"{case['network']}: a point a problem")
        axis.legend(frameon=False, fontsize=7)
    return figure


def sentence(case):
    first, *others = case["conditions"]
    worst = max(others, key=lambda condition: condition["excess"].mean())
    under = sum(int((c["gap"] < c["excess"] - 1e-12).sum()) for c in case["conditions"])
    lost = [c for c in others if c["mean_gap_of"]["network"] > c["mean_gap_of"]["fista"]]
    plain = "; ".join(f"{c['observations']} at {c['lambda_fraction']}: {common.number(c['excess'].mean())}, gap "
                      f"{common.number(c['gap'].mean())}" for c in case["conditions"])
    total, mended = sum(len(c["gap"]) for c in case["conditions"]), sum(c["mended"] for c in case["conditions"])
    return (f"{case['network']} of {case['layers']} layers, mean F - F* and mean certified gap over 1/2 ||x||^2: "
            f"{plain}. Its F - F* is up to {common.number(worst['excess'].mean())} on what it has not seen, beside "
            f"{common.number(first['excess'].mean())} on what it has; its gap is larger than FISTA's in {len(lost)} of "
            f"{len(others)} such conditions, and the gap was under the true excess for {under} of {total} codes. Solving "
            f"on from the codes brought {mended} of {total} within {GAP:g}.")


def summarised(case):
    """For the file: quantiles in place of a number a problem."""
    def short(values):
        return {"mean": values.mean(), "median": np.median(values), "worst": values.max()}

    conditions = [{**c, "excess": short(c["excess"]), "gap": short(c["gap"]), "problems": len(c["gap"]),
                   "gaps_under_excess": int((c["gap"] < c["excess"] - 1e-12).sum())} for c in case["conditions"]]
    return {**case, "conditions": conditions}


def unseen(experiment):
    cases = list(measure(experiment))
    experiment.write(draw(cases), {"epochs": EPOCHS, "cases": [summarised(case) for case in cases]},
                     " ".join(map(sentence, cases)))


if __name__ == "__main__":
    common.run("unseen", __doc__, unseen)
