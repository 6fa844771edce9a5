#!/usr/bin/env python3
"""Learned networks in PyTorch beside `shrinkwarp bench nets`: same numbers, same shapes, same threads, no TF32.

    python3 tools/bench/torch_nets.py [--threads 1] [--lambda-fraction 0.1] [--device cuda] [--output nets.jsonl]

The program makes the problems and networks and hands them over in a file. Each way of writing a network in PyTorch must give
the same codes and gradients but for rounding; then the fastest run in turn with the program, which waits meanwhile:

    plain     a batch at once, the soft-threshold written as one finds it, with each problem's own lambda
    tuned     by hand for the cache or for fewer passes: a batch in parts, x / lambda with thresholds of one number a layer
    compiled  torch.compile of the fastest of these, where it exists

Ratios above 1 say that PyTorch takes longer. On a machine that others use, those by CPU time are the ones to read.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from torch_peer import ROOT, SCRIPT, Clock, Program, load_torch, ratio, read_safetensors

SPLIT = 1024  # problems of a part, where a way takes a batch in parts that stay in cache


# Soft-thresholding, of `u` which may be overwritten where nothing is differentiated.


def by_clamp(torch, u, t):
    c = torch.maximum(torch.minimum(u, t), -t)
    return u - c if torch.is_grad_enabled() else u.sub_(c)


def by_relu(torch, u, t):
    return torch.relu(u - t) - torch.relu(-u - t)


def by_sign(torch, u, t):
    return torch.sign(u) * torch.relu(torch.abs(u) - t)


SHRINK = {"clamp": by_clamp, "relu": by_relu, "sign": by_sign}


class Network:
    """One network: its problems and parameters, and the ways to compute it. Problems are rows."""

    def __init__(self, torch, tensors, kind, dtype, arguments):
        self.torch, self.kind, self.dtype = torch, kind, dtype
        self.layers = arguments.layers
        self.n, self.m = arguments.rows, arguments.atoms

        def place(values):
            return torch.tensor(values, dtype=getattr(torch, dtype), device=arguments.device)

        self.Dt = place(tensors["D"])  # [m, n]
        self.D = self.Dt.t()
        self.x, self.lam = place(tensors["X"]), place(tensors["lambda"])[:, None]
        ours = {name: tensors[f"{kind}.{dtype}.{name}"] for name in ("parameters", "codes", "gradient", "loss")}
        self.ours = {name: place(values.reshape(self.layers, -1) if name in ("parameters", "gradient") else values)
                     for name, values in ours.items()}

    def ways(self, what):
        """(product, shrink, problems of a part)."""
        products = {"lista": ["addmm", "cat"], "coupled": ["addmm"], "step": ["alpha"] if what == "forward" else
                    ["scaled residual", "scaled D", "addcmul"]}[self.kind]
        shrinks = list(SHRINK)
        if self.kind == "step" and what == "forward":
            shrinks.append("softshrink of x / lambda")
        parts = [len(self.x)] + ([SPLIT] if SPLIT < len(self.x) else [])
        return list(itertools.product(products, shrinks, parts))

    def is_plain(self, way):
        return way[1] in SHRINK and way[2] == len(self.x)

    def leaves(self, way):
        """A list of tensors a layer, from the parameters as the program has them."""
        m, n = self.m, self.n
        for values in self.ours["parameters"]:
            if self.kind == "step":
                yield [values[0].clone()]
                continue
            W, theta = values[:-m], values[-m:].clone()
            if self.kind == "coupled":
                yield [W.reshape(m, n).clone(), theta]
            elif way[0] == "cat":
                yield [W.reshape(m + n, m).clone(), theta]
            else:
                W = W.reshape(m + n, m)
                yield [W[:m].clone(), W[m:].clone(), theta]

    def as_parameters(self, layers):
        """Gradients of leaves in the program's order."""
        rows = []
        for layer in layers:
            parts = [leaf.grad if leaf.grad is not None else self.torch.zeros_like(leaf) for leaf in layer]
            rows.append(self.torch.cat([part.reshape(-1) for part in parts]))
        return self.torch.stack(rows)

    def codes(self, layers, way, x, lam):
        torch, (product, shrinking, _) = self.torch, way
        if shrinking not in SHRINK:
            return self.scaled_codes(layers, x, lam)
        shrink = SHRINK[shrinking]
        z = None
        for layer in layers:
            if self.kind == "step":
                (step,) = layer
                threshold = lam * step
                r = x if z is None else torch.addmm(x, z, self.Dt, alpha=-1)
                if product == "scaled D":
                    u = r @ (step * self.D) if z is None else torch.addmm(z, r, step * self.D)
                elif product == "addcmul":
                    u = step * (r @ self.D) if z is None else torch.addcmul(z, step, r @ self.D)
                elif product == "scaled residual":
                    u = (step * r) @ self.D if z is None else torch.addmm(z, step * r, self.D)
                else:
                    a = float(step)
                    u = a * (r @ self.D) if z is None else torch.addmm(z, r, self.D, alpha=a)
            elif self.kind == "coupled":
                W, theta = layer
                threshold = lam * torch.relu(theta)
                u = x @ W.t() if z is None else torch.addmm(z, torch.addmm(x, z, self.Dt, alpha=-1), W.t())
            elif product == "cat":
                W, theta = layer
                threshold = lam * torch.relu(theta)
                u = x @ W[self.m :] if z is None else torch.cat([z, x], 1) @ W
            else:
                W1, W2, theta = layer
                threshold = lam * torch.relu(theta)
                u = x @ W2 if z is None else torch.addmm(x @ W2, z, W1)
            z = shrink(torch, u, threshold)
        return z

    def scaled_codes(self, layers, x, lam):
        """Step-LISTA of x / lambda, whose thresholds are one number a layer."""
        torch, z = self.torch, None
        x = x / lam
        for (step,) in layers:
            a = float(step)
            u = a * (x @ self.D) if z is None else torch.addmm(z, torch.addmm(x, z, self.Dt, alpha=-1), self.D, alpha=a)
            z = torch.nn.functional.softshrink(u, a)
        return z.mul_(lam)

    def forward(self, way, compiled=None):
        """A function that returns the codes."""
        torch, layers, codes = self.torch, list(self.leaves(way)), compiled or self.codes

        def run():
            with torch.no_grad():
                parts = [codes(layers, way, x, lam) for x, lam in zip(self.x.split(way[2]), self.lam.split(way[2]))]
                return parts[0] if len(parts) == 1 else torch.cat(parts)

        return run

    def training(self, way, compiled=None):
        """A function that makes a step of training and returns gradient and loss."""
        torch, codes = self.torch, compiled or self.codes
        layers = [[leaf.requires_grad_() for leaf in layer] for layer in self.leaves(way)]
        leaves = [leaf for layer in layers for leaf in layer]
        optimizer = None if self.kind == "step" else torch.optim.Adam(leaves, lr=0.0)

        def run():
            for leaf in leaves:
                leaf.grad = None
            total = 0
            for x, lam in zip(self.x.split(way[2]), self.lam.split(way[2])):
                z = codes(layers, way, x, lam)
                r = torch.addmm(x, z, self.Dt, alpha=-1)
                loss = (0.5 * (r * r).sum() + (lam * z.abs()).sum()) / len(self.x)
                loss.backward()
                total = total + loss.detach()
            if optimizer is not None:
                optimizer.step()
            return layers, total

        return run

    def check(self, way, what, found):
        """Compares what a run returned with the program's."""
        eps = self.torch.finfo(getattr(self.torch, self.dtype)).eps
        # The rounding of each layer's sums, and in gradients that of entries that change between 0 and not.
        limit = self.layers * (self.n + self.m) * eps
        pairs = [("codes", found, limit)] if what == "forward" else [
            ("loss", found[1].reshape(1), limit), ("gradient", self.as_parameters(found[0]), 10 * limit)]
        for name, value, allowed in pairs:
            wanted = self.ours[name]
            off = float((value - wanted).abs().max() / wanted.abs().max())
            if not off <= allowed:
                sys.exit(f"{SCRIPT}: {self.kind} {self.dtype}, {way}: {name} differ by {off:.2e} of the largest, "
                         f"wanted at most {allowed:.2e}")


def candidates(torch, network, what, clock, by_cpu_time):
    """The fastest ways of each sort, checked: {sort: (way, call)}."""
    make = network.forward if what == "forward" else network.training
    trials = []
    for way in network.ways(what):
        call = make(way)
        call()
        seconds, cpu_seconds, found = clock.time(call)
        network.check(way, what, found)
        trials.append((cpu_seconds if by_cpu_time else seconds, way, call))
    trials.sort(key=lambda trial: trial[0])
    plain = next(trial for trial in trials if network.is_plain(trial[1]))
    kept = {"plain": plain[1:]}
    if trials[0] is not plain:
        kept["tuned"] = trials[0][1:]
    if hasattr(torch, "compile"):
        way = trials[0][1]
        try:
            call = make(way, torch.compile(network.codes))
            network.check(way, what, call())
            kept["compiled"] = (way, call)
        except Exception as error:  # a machine without a compiler, say
            print("torch.compile:", str(error).splitlines()[0], file=sys.stderr)
    return kept


def compare(torch, program, network, what, arguments, clock):
    kept = candidates(torch, network, what, clock, arguments.device == "cpu")
    program.run(network.kind, network.dtype, what)
    ours, theirs = [], {sort: [] for sort in kept}
    for _ in range(arguments.runs):
        ours.append(program.run(network.kind, network.dtype, what))
        for sort, (_, call) in kept.items():
            theirs[sort].append(clock.time(call)[:2])
    line = {**program.identity, "benchmark": "torch nets", "torch_version": torch.__version__, "threads": arguments.threads,
            "network": network.kind, "type": network.dtype, "pass": what,
            **{name: getattr(arguments, name) for name in ("rows", "atoms", "layers", "batch", "lambda_fraction")},
            "load_average": os.getloadavg()[0]}
    for name in ("seconds", "cpu_seconds", "gemm_seconds", "gemm_cpu_seconds"):
        line[name] = [times[name] for times in ours]
    line["fraction_of_gemm"] = ratio(line["gemm_seconds"], line["seconds"])
    line["fraction_of_gemm_cpu"] = ratio(line["gemm_cpu_seconds"], line["cpu_seconds"])
    line["torch"] = {}
    for sort, (way, _) in kept.items():
        seconds, cpu_seconds = (list(times) for times in zip(*theirs[sort]))
        line["torch"][sort] = {"way": list(way), "seconds": seconds, "cpu_seconds": cpu_seconds,
                               "over_ours": ratio(seconds, line["seconds"]),
                               "over_ours_cpu": ratio(cpu_seconds, line["cpu_seconds"])}
    return line


def table(lines):
    rows = ["torch / ours, by CPU time in brackets"]
    for line in lines:
        ratios = [f"{sort} {found['over_ours']:.2f} ({found['over_ours_cpu']:.2f})" for sort, found in line["torch"].items()]
        rows.append(f"{line['network']:8} {line['type']:8} {line['pass']:9} {'  '.join(ratios)}")
    rows += ["", f"{'network':8} {'type':8} {'pass':9} {'ours, ms':>9} {'of gemm':>8} {'by CPU time':>12}  torch, ms"]
    for line in lines:
        times = [f"{1e3 * median(found['seconds']):.1f} {sort} ({', '.join(map(str, found['way']))})"
                 for sort, found in line["torch"].items()]
        rows.append(f"{line['network']:8} {line['type']:8} {line['pass']:9} {1e3 * median(line['seconds']):9.1f} "
                    f"{line['fraction_of_gemm']:8.2f} {line['fraction_of_gemm_cpu']:12.2f}  {', '.join(times)}")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/cpu-release/bin/shrinkwarp"))
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--atoms", type=int, default=256)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--lambda-fraction", type=float, default=0.1)
    parser.add_argument("--networks", default="lista,coupled,step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--output", help="a file for one JSON object a network and pass")
    arguments = parser.parse_args()
    torch = load_torch(arguments)
    clock = Clock(torch, arguments.device)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "nets.safetensors")
        names = ("networks", "rows", "atoms", "layers", "batch", "lambda_fraction", "threads", "device")
        program = Program("nets", arguments, names, file)
        tensors = read_safetensors(file)
        for kind in arguments.networks.split(","):
            for dtype in ["float32", "float64"] if kind == "step" else ["float32"]:
                network = Network(torch, tensors, kind, dtype, arguments)
                for what in ("forward", "training"):
                    lines.append(compare(torch, program, network, what, arguments, clock))
                    print(kind, dtype, what, "done", file=sys.stderr)
                    if arguments.output:
                        text = "".join(json.dumps(line) + "\n" for line in lines)
                        Path(arguments.output).write_text(text, encoding="utf-8")
        program.close()
    print(table(lines))


if __name__ == "__main__":
    main()
