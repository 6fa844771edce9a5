"""The command: cases, peers and what is written of them. `run --help` explains it."""

import argparse
import contextlib
import datetime
import json
import math
import os
import shlex
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from . import adapters, cases, machine, report
from .adapters.shrinkwarp_program import solver_names
from .judge import Judge
from .measure import MISSED, MISSING, REACHED, SLOWER, Latency, Rate, measure_latency, measure_rate
from .workers import Failed, Worker

SCHEMA = "shrinkwarp-peers-1"
LATENCY_CALLS = 500
SPAMS_LAMBDA = cases.Lambda(value=0.15)

DESCRIPTION = """Times this project beside what people use for many Lasso problems: same machine, same run, same number
of threads, and for each problem the same relative duality gap, checked in float64 from the codes that come back. Each
peer runs in a process of its own, with the loosest of its settings that brings every problem to the gap, and in the
fastest of its ways."""

EPILOG = """Examples:
  tools/bench/peers/run --case medium --fraction .5 --budget 5
  tools/bench/peers/run --output peers.jsonl          all cases: hours
  tools/bench/peers/run --report peers.jsonl

The Python that runs this has to have the peers (tools/bench/peers/requirements.txt); those that it lacks are shown as
missing. docs/benchmarks/peers.md says how time is taken, what is in whose favour, and what the JSON lines hold."""


def numbers(kind):
    return lambda text: [kind(word) for word in text.split(",") if word]


def parse(arguments):
    parser = argparse.ArgumentParser(prog="tools/bench/peers/run", description=DESCRIPTION, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--case", type=numbers(str), default=cases.NAMES, help=f"of {','.join(cases.NAMES)}; all")
    add("--fraction", type=numbers(float), default=[0.8, 0.5, 0.3, 0.1],
        help=f"of each problem's lambda_max; .8,.5,.3,.1 (the case {cases.SPAMS} has lambda .15)")
    add("--problems", type=numbers(int), default=None,
        help=f"{cases.MANY},100,1 ({cases.MANY_SPAMS} in the case {cases.SPAMS}); 1 is the latency of single problems")
    add("--threads", type=numbers(int), default=[1, 2], help="1,2")
    add("--peer", type=numbers(str), default=list(adapters.PEERS),
        help=f"of {','.join(adapters.PEERS)}; all; '' for none")
    add("--solver", type=numbers(str), default=None, help="of this project; all that the program has; '' for none")
    add("--gap", type=float, default=1e-6, help="relative duality gap of each problem; 1e-6")
    add("--peer-gap", type=float, default=None, help="a looser one for the peers, as a start; that of --gap")
    add("--budget", type=float, default=20.0, help="seconds for a figure; of what takes longer a part is solved; 20")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="of this project and PyTorch; cpu")
    add("--seed", type=int, default=0, help="of random cases and of the order of samples; 0")
    add("--program", default=os.environ.get("SHRINKWARP") or machine.ROOT / "build/cpu-release/bin/shrinkwarp",
        help="$SHRINKWARP, or build/cpu-release/bin/shrinkwarp")
    add("--output", help="a file to which each figure is added as a JSON line when it is made")
    add("--report", help="prints the table of such a file and measures nothing")
    options = parser.parse_args(arguments)
    for option, found, known in (("--case", options.case, cases.NAMES), ("--peer", options.peer, list(adapters.PEERS))):
        for name in found:
            if name not in known:
                parser.error(f"{option}: found {name!r}, wanted names of {', '.join(known)}")
    for option, found in (("--fraction", options.fraction), ("--problems", options.problems or [1]),
                          ("--threads", options.threads), ("--gap", [options.gap]), ("--budget", [options.budget])):
        if not found or min(found) <= 0:
            parser.error(f"{option}: found {found}, wanted numbers over 0")
    options.program = str(Path(options.program).resolve())
    options.peer_gap = options.peer_gap or options.gap
    return options


def say(text):
    print(text, file=sys.stderr, flush=True)


def main(arguments=None):
    options = parse(arguments)
    if options.report:
        with open(options.report, encoding="utf-8") as file:
            sys.stdout.write(report.render([json.loads(line) for line in file]))
        return 0
    if not os.access(options.program, os.X_OK):
        sys.exit(f"run: no program at {options.program}: build it, or name it with --program")
    options.solver = solver_names(options.program) if options.solver is None else options.solver
    lines = []
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(open(options.output, "a", encoding="utf-8")) if options.output else None

        def keep(line):
            lines.append(line)
            if output:
                output.write(json.dumps(line) + "\n")
                output.flush()

        try:
            Run(options, keep).all()
        except KeyboardInterrupt:
            say("interrupted")
    sys.stdout.write(report.render(lines))
    return 0


def command_text(arguments):
    """The command of these arguments, of files the names alone: folders say who measured where, and nothing of what."""

    def without_folder(word):
        option, equals, value = word.rpartition("=")
        return option + equals + Path(value).name if "/" in value else word

    return shlex.join(["tools/bench/peers/run", *map(without_folder, arguments)])


class Run:
    def __init__(self, options, keep):
        self.options, self.keep = options, keep
        self.machine = machine.describe(options.program, options.device)
        self.command = command_text(sys.argv[1:])

    def all(self):
        options, data = self.options, os.environ.get("SHRINKWARP_DATA")
        for name in options.case:
            with tempfile.TemporaryDirectory(prefix="shrinkwarp-peers-") as folder:
                try:
                    case = cases.make(name, Path(data) if data else None, options.program, folder, options.seed)
                except cases.Missing as reason:
                    say(f"{name}: left out, {reason}")
                    continue
                OfCase(self, case, Path(folder)).all()


class OfCase:
    """All figures of one case; its files lie in a folder."""

    def __init__(self, run, case, folder):
        self.run, self.options, self.case, self.folder = run, run.options, case, folder
        self.problems = self.options.problems or [case.many, 100, 1]
        self.rules = [SPAMS_LAMBDA] if case.name == cases.SPAMS else [cases.Lambda(f) for f in self.options.fraction]
        self.judge = Judge(case.D)
        self.X = case.observations(max(*self.problems, LATENCY_CALLS), self.options.seed)
        np.save(folder / "D.npy", case.D)
        np.save(folder / "X.npy", self.X)
        self.lambdas = {}
        for index, rule in enumerate(self.rules):
            self.lambdas[rule] = rule.of(case.D, self.X)
            np.save(folder / self.file_of(rule), self.lambdas[rule])

    def file_of(self, rule):
        return f"lambdas-{self.rules.index(rule)}.npy"

    def all(self):
        peers = [f"{adapters.OURS} {solver}" for solver in self.options.solver] + self.options.peer
        for threads in self.options.threads:
            for peer in peers:
                self.measure(peer, threads)

    def measure(self, peer, threads):
        """A line for each lambda and number of problems: of the fastest of the peer's ways that reach the gap."""
        cls = adapters.class_of(peer)
        found = {(rule, problems): [] for rule in self.rules for problems in self.problems}
        for variant in cls.variants:
            self.measure_variant(peer, variant, threads, found)
        for (rule, problems), ways in found.items():
            chosen = min(ways, key=Way.order)
            line = self.line(peer, cls.stops, threads, rule, problems, chosen, ways)
            self.run.keep(line)
            say(f"{self.case.name}, {report.counted(problems)}, {report.counted_threads(threads)}, lambda {rule}: "
                f"{report.row(line).strip()}")

    def measure_variant(self, peer, variant, threads, found):
        """Adds a Way to each list of `found`."""
        options = self.options
        gap = options.gap if adapters.is_ours(peer) else options.peer_gap
        job = {"peer": peer, "variant": variant, "threads": threads, "device": options.device, "gap": gap,
               "program": options.program}
        try:
            worker = Worker(job, threads, self.folder, options.budget)
        except (cases.Missing, Failed) as reason:
            for (_, problems), ways in found.items():
                ways.append(Way(variant, failure(problems, reason)))
            return
        done = []
        with worker:
            for (rule, problems), ways in found.items():
                rival = min((way.seconds() for way in ways if way.result.status == REACHED), default=math.inf)
                try:
                    result = self.measure_one(worker, rule, problems, gap, rival)
                except (cases.Missing, Failed) as reason:
                    result = failure(problems, reason)
                    if isinstance(reason, Failed):
                        say(f"{peer} ({variant}), {report.counted(problems)}, lambda {rule}: {reason}")
                done.append(Way(variant, result, worker.versions, os.getloadavg()[0]))
                ways.append(done[-1])
            with contextlib.suppress(Failed):
                peak = worker.peak_bytes()
                for way in done:
                    way.peak_bytes = peak

    def measure_one(self, worker, rule, problems, gap, rival_seconds):
        """A Rate, or a Latency of one problem. @raises Missing, Failed"""
        worker.lambdas = self.file_of(rule)

        def gaps_of(codes):
            count = codes.shape[0]
            return self.judge.relative_gaps(self.X[:count], self.lambdas[rule][:count], codes)

        if problems == 1:
            return measure_latency(worker, gaps_of, LATENCY_CALLS, gap, self.options.budget)
        return measure_rate(worker, gaps_of, problems, gap, self.options.budget, rival_seconds)

    def line(self, peer, stops, threads, rule, problems, chosen, ways):
        case, options, result = self.case, self.options, chosen.result
        line = {
            "schema": SCHEMA,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "command": self.run.command,
            **self.run.machine,
            "device": options.device,
            "load": chosen.load,
            "case": case.name,
            "origin": case.origin,
            "rows": case.D.shape[0],
            "atoms": case.D.shape[1],
            "distinct": len(case.X),
            "seed": options.seed,
            "problems": problems,
            "threads": threads,
            "lambda_rule": str(rule),
            "gap": options.gap if adapters.is_ours(peer) else options.peer_gap,
            "budget_seconds": options.budget,
            "peer": peer,
            "ours": adapters.is_ours(peer),
            "stops": stops,
            "variant": chosen.variant,
            "versions": chosen.versions,
            "peak_bytes": chosen.peak_bytes,
            **asdict(result),
        }
        if problems > 1 and result.solved:
            line["total_seconds"] = result.total_seconds
            line["problems_per_second"] = problems / result.total_seconds
            # Where a call took no longer than the set-up alone there is no telling them apart.
            apart = result.solve_seconds > 0.01 * result.setup_seconds
            line["problems_per_second_prepared"] = result.solved / result.solve_seconds if apart else None
        line["ways"] = [way.summary() for way in ways]
        return finite(line)


class Way:
    """One variant of a peer and what came of it."""

    def __init__(self, variant, result, versions=None, load=None):
        self.variant, self.result, self.versions, self.load, self.peak_bytes = variant, result, versions, load, None

    def order(self):
        """The smaller the better."""
        return [REACHED, SLOWER, MISSED, MISSING].index(self.result.status), self.seconds()

    def seconds(self):
        seconds = self.result.median_seconds if isinstance(self.result, Latency) else self.result.total_seconds
        return seconds if math.isfinite(seconds) else math.inf

    def summary(self):
        return {"variant": self.variant, "status": self.result.status, "setting": self.result.setting,
                "seconds": self.seconds(), "worst_gap": self.result.worst_gap, "reason": self.result.reason}


def failure(problems, reason):
    if problems == 1:
        return Latency(MISSING, reason=str(reason))
    return Rate(MISSING, problems=problems, reason=str(reason))


def finite(value):
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
