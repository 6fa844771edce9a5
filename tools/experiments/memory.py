#!/usr/bin/env python3
"""What activations take in a training step of residual and momentum networks, against depth.

An mlp of 16 features, without a stem, on batches of 4,096 samples, 10 to 1,000 blocks of 16 hidden features. Two figures
of each network: what the program says that a step has for activations (`activation_bytes` of `net train`), and the peak
resident size of a process that trains for one pass of one step, less that of one on a quarter of the samples: what does
not grow with the batch, parameters, optimiser and files, is in both, so that the difference is of 3/4 of the
activations and of the samples themselves. It is scaled to the whole batch.
"""

import subprocess
import sys

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402

WIDTH = 16
DEPTHS = (10, 20, 50, 100, 200, 500, 1000)
GAMMA = 0.9
SMALLER = 4  # the batch that is taken off, as a part of the whole one
KINDS = {
    "residual, stored": [],
    "momentum, stored": ["--gamma", GAMMA, "--store-activations"],
    "momentum 0.5, exact": ["--gamma", 0.5],
    "momentum 0.9, exact": ["--gamma", GAMMA],
    "momentum 0.9, approximate": ["--gamma", GAMMA, "--mode", "approximate"],
}
# A process counts what its parent had in memory when it was forked: the parent is this small one, not NumPy.
MEASURE = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def train(experiment, files, depth, options):
    """One pass of one step. @return what the program says of activations, peak resident size, both bytes"""
    command = [experiment.program, "net", "train", "mlp", "--width", WIDTH, "--hidden", WIDTH, "--blocks", depth, *options,
               *files, "--batch", 1 << 24, "--epochs", 1, "--lr", 1e-9, "--output", experiment.scratch / "net.safetensors",
               "--threads", experiment.threads, "--json"]
    said = subprocess.run([sys.executable, "-S", "-c", MEASURE, *map(str, command)], capture_output=True, text=True)
    if said.returncode:
        sys.exit(said.stderr.strip())
    line, kib = said.stdout.splitlines()
    return common.json.loads(line)["activation_bytes"], int(kib) * 1024


def measure(experiment):
    random = np.random.default_rng(experiment.seed)
    batch, depths = experiment.size((4096, DEPTHS), (512, (10, 100)))
    files = {}
    for samples in (batch, batch // SMALLER):
        X, y = random.standard_normal((samples, WIDTH)).astype(np.float32), random.integers(0, 10, samples)
        X, y = experiment.save(f"X{samples}", X), experiment.save(f"y{samples}", y)
        files[samples] = ["--samples", X, "--labels", y, "--classes", 10]
    few = [experiment.save("V", np.zeros((20, WIDTH))), experiment.save("w", np.arange(20) % 10)]
    few = ["--validation-samples", few[0], "--validation-labels", few[1]]
    for kind, options in KINDS.items():
        points = []
        for depth in depths:
            said, whole = train(experiment, [*files[batch], *few], depth, options)
            _, part = train(experiment, [*files[batch // SMALLER], *few], depth, options)
            points.append({"layers": depth, "activation_bytes": said, "peak_resident_bytes": whole,
                           "measured_bytes": (whole - part) * SMALLER / (SMALLER - 1)})
        first, last = points[0], points[-1]
        elements = WIDTH * batch * (last["layers"] - first["layers"])
        grows = {key: (last[key] - first[key]) / elements for key in ("activation_bytes", "measured_bytes")}
        yield {"network": kind, "width": WIDTH, "batch": batch, "points": points, "bytes_an_element_and_layer": grows}


def draw(cases):
    figure, axes = common.plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for key, axis, title in (("activation_bytes", axes[0], "as the program says"),
                             ("measured_bytes", axes[1], "as measured: peak of the process by batch")):
        for case, colour in zip(cases, common.plt.cm.tab10.colors):
            axis.plot([point["layers"] for point in case["points"]], [point[key] / 2**20 for point in case["points"]], "o-", ms=3,
                      color=colour, label=case["network"])
        axis.set(xscale="log", yscale="log", xlabel="layers", title=title)
    axes[0].set_ylabel("MiB of activations in a training step")
    axes[0].legend(frameon=False)
    return figure


def sentence(case):
    first, last = case["points"][0], case["points"][-1]
    mib = [f"{point[key] / 2**20:.3g}" for point in (first, last) for key in ("activation_bytes", "measured_bytes")]
    grows = case["bytes_an_element_and_layer"]
    return (f"{case['network']}: {mib[0]} MiB with {first['layers']} layers and {mib[2]} with {last['layers']} (measured {mib[1]} and "
            f"{mib[3]}), {8 * grows['activation_bytes']:.3g} bits an element and layer.")


def memory(experiment):
    cases = list(measure(experiment))
    experiment.write(draw(cases), {"cases": cases}, " ".join(map(sentence, cases)))


if __name__ == "__main__":
    common.run("memory", __doc__, memory)
