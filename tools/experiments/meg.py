#!/usr/bin/env python3
"""Learned networks on a real lead field, gap against time, beside FISTA and the exact solver of the program.

Needs SHRINKWARP_DATA with its folders `medium` (302 x 6138) and `small` (102 x 1536). Networks are trained on samples
of every other instant of the averaged recordings and judged on those between, lambda at half of each sample's
lambda_max. Step-LISTA is trained on both, momentum-LISTA, whose layers have m (m + n) weights each, on the small one
alone.

Times are processor seconds, which mean something on a machine that others use too. Networks and FISTA are NumPy in
float32, one and the same code for their products; the exact solver is `shrinkwarp solve --solver working-set` on one
thread, from files to file, less what it takes for one problem alone, which is given beside it as the preparation.
"""

import sys
import time

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

FRACTION = 0.5
FISTA_ITERATIONS = (2, 5, 10, 20, 50, 100, 200)
EXACT_GAPS = (1e-2, 1e-6)


def network_layers(kind, tensors, D, X, lam):
    """Yields the codes after each layer, in float32."""
    single = {name: values.astype(np.float32) for name, values in tensors.items()}
    if kind == "step":
        yield from common.step_layers(D, X, lam, single["steps"])
        return
    Z = np.zeros((len(X), D.shape[1]), np.float32)
    V = np.zeros_like(Z)
    for W1, W2, theta, gamma in zip(single["W1"], single["W2"], single["thresholds"], single["gamma"]):
        branch = common.soft_threshold(Z @ W1.T + X @ W2.T, lam[:, None] * np.maximum(theta, 0)) - Z
        V = gamma * V + (1 - gamma) * branch
        Z = Z + V
        yield Z


def timed(iterates, counts, X):
    """Codes and processor seconds a problem at each count of iterations."""
    spent, started = 0.0, time.process_time()
    for count, Z in enumerate(iterates, start=1):
        spent += time.process_time() - started
        if count in counts:
            yield count, Z, spent / len(X)
        if count == max(counts):
            return
        started = time.process_time()


def exact(experiment, files, energy, gap):
    path = experiment.scratch / "Z.npz"

    def call(observations):
        command = ["solve", "--dictionary", files["D"], "--observations", observations, "--lambda-fraction", FRACTION,
                   "--solver", "working-set", "--gap", gap, "--output", path]
        return experiment.call(*command, threads=1)[1]

    preparation = call(files["one"])
    seconds = (call(files["many"]) - preparation) / (len(energy) - 1)
    with np.load(path) as result:
        gaps = result["dual_gap"] / energy
    return {"gap": gap, "preparation_seconds": preparation, "seconds_a_problem": max(seconds, 1e-6),
            "median_gap": np.median(gaps), "worst_gap": gaps.max()}


def measure(experiment, name, networks):
    """networks: (kind, depths, how many samples it is trained on, options of training)."""
    D, X = common.recording(name)
    if experiment.quick:  # a corner of it
        D, X = np.ascontiguousarray(D[:, ::16]), X[::40]
    training, unseen = X[::2], X[1::2]
    unseen = unseen[:: experiment.size(3, 1)]
    many = np.tile(unseen, (experiment.size(20, 1), 1))  # enough for the time of one to be seen
    files = {key: experiment.save(f"{name}-{key}", values)
             for key, values in (("D", D), ("unseen", unseen), ("one", unseen[:1]), ("many", many))}
    lam = FRACTION * np.abs(unseen @ D).max(1)
    single = [values.astype(np.float32) for values in (D, unseen, lam)]

    def judged(codes):
        gap = common.relative_gap(D, unseen, codes.astype(np.float64), lam)
        return {"median_gap": np.median(gap), "worst_gap": gap.max()}

    counts = experiment.size(FISTA_ITERATIONS, (2, 20))
    points = {"FISTA": [{"layers": count, "seconds_a_problem": seconds, **judged(Z)}
                        for count, Z, seconds in timed(common.fista(*single), counts, unseen)],
              "working-set": [exact(experiment, files, 0.5 * (many * many).sum(1), gap) for gap in EXACT_GAPS]}
    for kind, depths, samples, options in networks:
        chosen = experiment.save(f"{name}-training", training[np.linspace(0, len(training) - 1, samples).astype(int)])
        points[kind] = []
        for depth in depths:
            network, line, training_seconds = experiment.train(kind, files["D"], chosen, depth, FRACTION, *options)
            layers = network_layers(kind, common.read_network(network), *single)
            (_, codes, seconds), = timed(layers, (depth,), unseen)
            points[kind].append({"layers": depth, "training_samples": samples, "training_seconds": training_seconds,
                                 "fell_back": line["fell_back"], "seconds_a_problem": seconds, **judged(codes)})
    return {"name": name, "rows": D.shape[0], "atoms": D.shape[1], "unseen": len(unseen), "lambda_fraction": FRACTION,
            "points": points}


def draw(cases):
    size = (5.5 * len(cases), 4.2)
    figure, axes = common.plt.subplots(1, len(cases), figsize=size, layout="constrained", sharey=True)
    for axis, case in zip(axes, cases):
        for method, points in case["points"].items():
            seconds = [point["seconds_a_problem"] for point in points]
            for key, line in (("median_gap", "o-"), ("worst_gap", ":")):
                axis.plot(seconds, [max(point[key], 1e-16) for point in points], line, ms=4,
                          color=common.COLOURS[method], label=method if line == "o-" else None)
            if "layers" in points[0]:
                for point, x in zip(points, seconds):
                    axis.annotate(str(point["layers"]), (x, point["median_gap"]), fontsize=7, xytext=(3, 3),
                                  textcoords="offset points", color=common.COLOURS[method])
        axis.set(xscale="log", yscale="log", xlabel="processor seconds a problem",
                 title=f"{case['name']}, {case['rows']} x {case['atoms']}, $\\lambda$ = {FRACTION} $\\lambda_{{max}}$")
    axes[0].set_ylabel("relative duality gap: median, dotted worst")
    axes[-1].legend(frameon=False)
    return figure


def sentence(case):
    points = case["points"]
    exact = points["working-set"][-1]
    words = []
    for kind in points:
        if kind in ("FISTA", "working-set"):
            continue
        last = points[kind][-1]
        same = [point for point in points["FISTA"] if point["layers"] == last["layers"]]
        beside = f" (FISTA of as many {common.number(same[0]['median_gap'])})" if same else ""
        reached = [point for point in points["FISTA"] if point["median_gap"] <= last["median_gap"]]
        worth = f"FISTA needs {reached[0]['layers']} iterations for it" if reached else "FISTA does not come to it"
        words.append(f"{kind} of {last['layers']} layers has a median gap of {common.number(last['median_gap'])}{beside}"
                     f", worst {common.number(last['worst_gap'])}, for {milliseconds(last)} a problem after "
                     f"{last['training_seconds']:.0f} s of training; {worth}")
    cheapest = min((point for kind in points for point in points[kind] if kind != "working-set"),
                   key=lambda point: point["seconds_a_problem"])
    place = "less" if exact["seconds_a_problem"] < cheapest["seconds_a_problem"] else "more"
    return (f"{case['name']}: " + "; ".join(words) + ". The exact solver reaches "
            f"{common.number(exact['worst_gap'])} at worst for {milliseconds(exact)} a problem, {place} than the cheapest "
            f"point of any other method here ({milliseconds(cheapest)}), and {exact['preparation_seconds']:.1f} s of "
            "preparation.")


def milliseconds(point):
    return f"{point['seconds_a_problem'] * 1e3:.2g} ms"


def meg(experiment):
    if not common.DATA:
        sys.exit("meg: SHRINKWARP_DATA is not set: this experiment is about a real lead field")
    depths, few, more = experiment.size((2, 5, 10), (2,)), experiment.size(48, 8), experiment.size(200, 8)
    iterations = ["--epochs", 20]
    epochs = ["--epochs", experiment.size(20, 2), "--batch", 50]
    cases = [measure(experiment, "medium", [("step", depths, few, iterations)]),
             measure(experiment, "small", [("step", depths, more, iterations),
                                           ("momentum-lista", experiment.size((2, 5), (2,)), more, epochs)])]
    experiment.write(draw(cases), {"cases": cases}, " ".join(map(sentence, cases)))


if __name__ == "__main__":
    common.run("meg", __doc__, meg)
