#!/usr/bin/env python3
"""A momentum network in PyTorch and momentumnet beside `shrinkwarp bench momentum`: same weights, same samples, same threads.

    python3 tools/bench/torch_momentum.py [--threads 1] [--layers 128] [--device cuda] [--output momentum.jsonl]

The program makes weights, samples and a gradient of the output, and hands them over in a file with what it computes from
them. A step of training is the forward pass and the gradients of <output, given gradient> by weights and samples. Each way of
PyTorch but `recomputed` must give the same output and gradients but for rounding: momentumnet's way back is not the way there
to the last bit, and by how much its gradients are off is in the lines. Then all run in turn with the program, which waits
meanwhile:

    recomputed  momentumnet's MomentumNet(..., use_backprop=False), which stores no activations
    stored      momentumnet's MomentumNet(..., use_backprop=True)
    written     the momentum network's formula and autograd, as a layer in Python; without momentumnet the only way
    residual    x + f(x) and autograd

Ratios above 1 say that PyTorch takes longer. On a machine that others use, those by CPU time are the ones to read.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from torch_peer import ROOT, SCRIPT, Clock, Program, load_torch, ratio, read_safetensors

OURS = ["exact-recomputed", "approximate-recomputed", "approximate-stored", "residual-stored"]


class Way:
    """A network of PyTorch's. `net` takes the list of branches and x; `beside` is our way of the same mathematics."""

    def __init__(self, torch, tensors, arguments, name, beside, make):
        self.torch, self.name, self.beside, self.ours = torch, name, beside, tensors
        linear = torch.nn.Linear

        def place(values):
            return torch.tensor(values, device=arguments.device)

        self.branches = []
        for t in range(arguments.layers):
            branch = torch.nn.Sequential(linear(arguments.width, arguments.hidden), torch.nn.Tanh(),
                                         linear(arguments.hidden, arguments.width)).to(arguments.device)
            with torch.no_grad():
                for ours, theirs in ((0, 0), (1, 2)):
                    for what in ("weight", "bias"):
                        getattr(branch[theirs], what).copy_(place(tensors[f"layers.{t}.{ours}.{what}"]))
            self.branches.append(branch)
        self.parameters = [p for branch in self.branches for p in branch.parameters()]
        self.x, self.dY = place(tensors["X"]).requires_grad_(), place(tensors["dY"])
        self.net = make(self.branches)

    def step(self):
        """A step of training. Returns the output."""
        self.x.grad = None
        for parameter in self.parameters:
            parameter.grad = None
        y = self.net(self.x)
        (y * self.dY).sum().backward()
        return y.detach()

    def check(self, arguments):
        """Compares one step with the program's; returns by how much output and gradients differ."""
        found = {"Y": self.step(), "dX": self.x.grad}
        for t, branch in enumerate(self.branches):
            for ours, theirs in ((0, 0), (1, 2)):
                for what in ("weight", "bias"):
                    found[f"gradient.layers.{t}.{ours}.{what}"] = getattr(branch[theirs], what).grad
        off, largest = {}, {}
        for name, value in found.items():
            wanted = self.torch.tensor(self.ours[f"{self.beside}.{name}"], device=arguments.device)
            kind = "gradient" if name.startswith("gradient") else name
            off[kind] = max(off.get(kind, 0.0), float((value - wanted).abs().max()))
            largest[kind] = max(largest.get(kind, 0.0), float(wanted.abs().max()))
        # Each layer rounds sums of so many terms once more than the last.
        limit = arguments.layers * (arguments.width + arguments.hidden) * 2.0**-23
        for kind, value in off.items():
            if not value <= (float("inf") if self.name == "recomputed" and kind != "Y" else limit * largest[kind]):
                sys.exit(f"{SCRIPT}: {self.name}: {kind} differs by {value / largest[kind]:.2e} of the largest, wanted "
                         f"at most {limit:.2e}")
        return max(off[kind] / largest[kind] for kind in off)


def by_formula(gamma, momentum):
    """A network written out for autograd."""

    def make(branches):
        def net(x):
            v = 0
            for branch in branches:
                v = gamma * v + (1 - gamma) * branch(x) if momentum else branch(x)
                x = x + v
            return x

        return net

    return make


def ways_of(torch, tensors, arguments, gamma):
    """Our ways each with those of PyTorch that are the same mathematics."""
    try:
        from momentumnet import MomentumNet
    except ImportError:
        print("momentumnet is not installed: only what PyTorch itself offers is compared", file=sys.stderr)
        MomentumNet = None
    made = []
    if MomentumNet:
        made = [("recomputed", "exact-recomputed", lambda f: MomentumNet(f, gamma, use_backprop=False)),
                ("stored", "approximate-stored", lambda f: MomentumNet(f, gamma, use_backprop=True))]
    made += [("written", "approximate-stored", by_formula(gamma, True)),
             ("residual", "residual-stored", by_formula(gamma, False))]
    return [Way(torch, tensors, arguments, *what) for what in made]


def compare(torch, program, tensors, arguments):
    """A line for each way, ours and PyTorch's, of steps that ran in turn."""
    clock = Clock(torch, arguments.device)
    ways = ways_of(torch, tensors, arguments, program.identity["gamma"])
    errors = {way.name: way.check(arguments) for way in ways}
    ours = {name: [] for name in OURS}
    theirs = {way.name: [] for way in ways}
    for run in range(arguments.runs + 1):  # the first is to warm up
        for name in OURS:
            ours[name].append(program.run(name, "training"))
            for way in ways:
                if way.beside == name:
                    theirs[way.name].append(clock.time(way.step)[:2])
        if run == 0:
            for times in (*ours.values(), *theirs.values()):
                times.clear()
    identity = {**program.identity, "benchmark": "torch momentum", "torch_version": torch.__version__, "pass": "training",
                "load_average": os.getloadavg()[0]}
    times = {name: {what: [run[what] for run in runs] for what in runs[0]} for name, runs in ours.items()}
    stored = min(("approximate-stored", "residual-stored"), key=lambda name: median(times[name]["cpu_seconds"]))
    lines = []
    for name in OURS:
        line = {**identity, "way": name, **times[name], "torch": {}}
        line["fraction_of_gemm_cpu"] = ratio(line["gemm_cpu_seconds"], line["cpu_seconds"])
        line["over_stored"] = ratio(line["seconds"], times[stored]["seconds"])
        line["over_stored_cpu"] = ratio(line["cpu_seconds"], times[stored]["cpu_seconds"])
        for way in ways:
            # momentumnet's way without stored activations beside each of ours: what one has for training in little memory.
            if way.beside == name or (way.name == "recomputed" and name == "approximate-recomputed"):
                seconds, cpu_seconds = (list(values) for values in zip(*theirs[way.name]))
                line["torch"][way.name] = {"seconds": seconds, "cpu_seconds": cpu_seconds, "difference": errors[way.name],
                                           "over_ours": ratio(seconds, line["seconds"]),
                                           "over_ours_cpu": ratio(cpu_seconds, line["cpu_seconds"])}
        lines.append(line)
    return lines


def table(lines):
    rows = ["a step of training, torch / ours, by CPU time in brackets"]
    for line in lines:
        ratios = [f"{name} {found['over_ours']:.2f} ({found['over_ours_cpu']:.2f})" for name, found in line["torch"].items()]
        rows.append(f"{line['way']:23} {'  '.join(ratios)}")
    rows += ["", f"{'way':23} {'ours, ms':>9} {'of gemm':>8} {'of stored':>10}  torch, ms"]
    for line in lines:
        times = [f"{1e3 * median(found['seconds']):.0f} {name}" for name, found in line["torch"].items()]
        rows.append(f"{line['way']:23} {1e3 * median(line['seconds']):9.0f} {line['fraction_of_gemm_cpu']:8.2f} "
                    f"{line['over_stored_cpu']:10.2f}  {', '.join(times)}")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/cpu-release/bin/shrinkwarp"))
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--gamma", type=float, default=0.9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", help="a file for one JSON object a way")
    arguments = parser.parse_args()
    torch = load_torch(arguments)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "momentum.safetensors")
        names = ("width", "hidden", "layers", "batch", "gamma", "threads", "device")
        program = Program("momentum", arguments, names, file)
        lines = compare(torch, program, read_safetensors(file), arguments)
        program.close()
    if arguments.output:
        Path(arguments.output).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    print(table(lines))


if __name__ == "__main__":
    main()
