"""What tools/experiments/scaling.py measures: solves by ranks and by workers of dask, and the parts of its model."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import common
import numpy as np
import ranks  # of tools/bench
import scaling_model as model

try:
    import dask
    import dask.array
    import distributed
    import shrinkwarp.dask
except ImportError:
    dask = None

FRACTIONS = (0.1, 0.3, 0.5)  # of each sample's lambda_max
BLOCKS = (8, 32, 256)  # problems of a chunk
WORKERS_BLOCK = 1024  # samples of a task of dask's
H100 = common.ROOT / "docs/benchmarks/iteration-h100-2026-11-27.jsonl"


def no_ranks(program):
    """Why there are no ranks to measure, or nothing."""
    if shutil.which("mpirun") is None:
        return "there is no mpirun"
    said = json.loads(subprocess.run([program, "info", "--json"], capture_output=True, text=True, check=True).stdout)
    return "" if said["mpi"] else "the program was built without MPI"


def median_and_range(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "runs": len(values)}


class Recording:
    """A dictionary and observations in files, and solves of them."""

    def __init__(self, experiment, name, dictionary, observations):
        self.experiment, self.name = experiment, name
        self.dictionary, self.observations = dictionary, observations
        self.rows, self.atoms = np.load(dictionary, mmap_mode="r").shape
        self.problems = len(np.load(observations, mmap_mode="r"))
        self.files = ["--dictionary", str(dictionary), "--observations", str(observations)]

    def command(self, fraction, output, observations=None):
        files = [*self.files[:3], str(observations or self.observations)]
        return [
            self.experiment.program,
            "solve",
            *files,
            "--lambda-fraction",
            str(fraction),
            "--output",
            str(output),
            "--threads",
            "1",
            "--json",
        ]

    def output(self, number=0):
        return self.experiment.scratch / f"Z{number}.npz"


def finished(process):
    """What the program said that this process ran."""
    out, error = process.communicate()
    if process.returncode:
        sys.exit(error.strip())
    return json.loads(out.splitlines()[-1])


def started(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# Solves by more than one


def scaling_of_ranks(recording, fraction, repeats, with_ranks):
    """One process of one thread, two such processes beside each other with half of the recording each, and two ranks,
    in turn: the second says what the machine has for two. Seconds of the solve, of the program, of the launcher beside
    it, and of processors."""
    keys = ("solve_seconds", "seconds", "launch_seconds", "processor_seconds")
    found = {kind: {key: [] for key in keys} for kind in ("one", "beside", "ranks")}
    X = np.load(recording.observations, mmap_mode="r")
    half = len(X) // 2
    halves = [recording.experiment.save("half0", X[:half]), recording.experiment.save("half1", X[half : 2 * half])]
    for _ in range(repeats):
        runs = {"one": [recording.command(fraction, recording.output())]}
        if len(os.sched_getaffinity(0)) > 1:
            runs["beside"] = [recording.command(fraction, recording.output(i), part) for i, part in enumerate(halves)]
        if with_ranks:
            runs["ranks"] = [[*ranks.mpirun(2), *recording.command(fraction, recording.output())]]
        for kind, commands in runs.items():
            begin, used = time.monotonic(), common.children_seconds()
            said = [finished(process) for process in [started(command) for command in commands]]
            wall = time.monotonic() - begin
            for key in ("solve_seconds", "seconds"):
                found[kind][key].append(max(line[key] for line in said))
            found[kind]["launch_seconds"].append(wall - found[kind]["seconds"][-1])
            found[kind]["processor_seconds"].append(common.children_seconds() - used)
            if kind == "ranks":
                found[kind].setdefault("busy", []).extend(
                    rank["busy_seconds"] / said[0]["solve_seconds"] for rank in said[0]["ranks"]
                )
    result = {
        kind: {key: median_and_range(values) for key, values in of.items()}
        for kind, of in found.items()
        if of["seconds"]
    }
    for kind in ("beside", "ranks"):
        if kind in result:  # neighbours in time, of which both have had what the machine did then
            ratios = [one / (2 * two) for one, two in zip(found["one"]["solve_seconds"], found[kind]["solve_seconds"])]
            result[kind]["efficiency"] = median_and_range(ratios)
    if "beside" in result and "ranks" in result:
        ratios = [two / mine for two, mine in zip(found["beside"]["solve_seconds"], found["ranks"]["solve_seconds"])]
        result["ranks"]["beside_by_ranks"] = median_and_range(ratios)
    return result


def scaling_of_workers(recording, fraction, repeats):
    """One and two worker processes of dask with a thread each, in turn; observations lie on the workers before, codes
    after. And how many tasks that do nothing a scheduler hands out in a second."""
    X = np.load(recording.observations).astype(np.float64)
    D = np.load(recording.dictionary).astype(np.float64)
    found, tasks = {1: [], 2: []}, []
    clusters = {}
    try:
        for count in found:
            clusters[count] = distributed.LocalCluster(
                n_workers=count, threads_per_worker=1, processes=True, dashboard_address=":0"
            )
        for repeat in range(repeats + 1):
            for count, cluster in clusters.items():
                with distributed.Client(cluster) as client:
                    blocks = dask.array.from_array(X, chunks=(WORKERS_BLOCK, -1)).persist()
                    distributed.wait(blocks)
                    client.rebalance(blocks)
                    begin = time.monotonic()
                    codes = shrinkwarp.dask.lasso(D, blocks, lam_fraction=fraction).codes.persist()
                    distributed.wait(codes)
                    if repeat:  # before the first the dictionary was not prepared
                        found[count].append(time.monotonic() - begin)
                    del codes, blocks
                    if count == 2:
                        begin = time.monotonic()
                        distributed.wait(
                            client.map(lambda value: value, range(1000 * (repeat + 1), 1000 * (repeat + 2)))
                        )
                        tasks.append(1000 / (time.monotonic() - begin))
    finally:
        for cluster in clusters.values():
            cluster.close()
    return {
        "block": WORKERS_BLOCK,
        "one": median_and_range(found[1]),
        "two": median_and_range(found[2]),
        "efficiency": median_and_range([one / (2 * two) for one, two in zip(found[1], found[2])]),
        "tasks_a_second": median_and_range(tasks),
    }


# Parts


def bytes_of(recording, fraction):
    """Bytes a problem: in, in the output, and in the journal, as it is just before the output is complete."""
    output = recording.output()
    journal = output.with_name(output.name + ".journal")
    process, opened = started(recording.command(fraction, output)), None
    while opened is None and process.poll() is None:
        try:
            opened = journal.open("rb")
        except FileNotFoundError:
            time.sleep(2e-4)
    said = finished(process)
    if opened is None:
        sys.exit(f"{journal}: found no journal of a solve that is done: it was too fast to be seen, wanted more samples")
    with opened:  # its name is gone, what was written is not
        journal_bytes = os.fstat(opened.fileno()).st_size
    N = recording.problems
    return {
        "lambda_fraction": fraction,
        "in": recording.observations.stat().st_size / N,
        "out": output.stat().st_size / N,
        "journal": journal_bytes / N,
        "nonzeros": said["nonzeros"] / N,
        "problems_per_second": N / said["solve_seconds"],
    }


def spread_of(recording, fraction, problems, repeats):
    """Times of single problems, consecutive ones, by their mean; and how much chunks of them differ, as calls for so
    many problems say. Of each the least of `repeats` calls, so that what else the machine does is left out."""

    def times(block):
        rounds = []
        for _ in range(repeats):
            line, _ = recording.experiment.call(
                "bench",
                "latency",
                *recording.files,
                "--lambda-fraction",
                fraction,
                "--block",
                block,
                "--calls",
                problems // block,
                "--seconds",
                60,
                threads=1,
            )
            rounds.append(line["seconds"])
        return np.min(rounds, 0)

    single = times(1)
    single /= single.mean()
    result = {"problems": len(single), "relative_deviation": single.std(), "most": single.max(), "chunks": []}
    for block in BLOCKS:
        if len(single) < 8 * block:
            break
        of_chunks = times(block)
        sums = single[: len(single) // block * block].reshape(-1, block).sum(1)
        result["chunks"].append(
            {
                "problems": block,
                "seconds": of_chunks.mean(),
                "relative_deviation": of_chunks.std() / of_chunks.mean(),
                "of_single_problems": sums.std() / sums.mean(),
                "most": of_chunks.max() / of_chunks.mean(),
            }
        )
    return result, single


def overhead_of(experiment, repeats, with_ranks):
    """What problems cost that take no solving: their lambda is over lambda_max. A rank reads them, keeps them in its
    journal and puts the output together; two ranks tell each other positions in the journal too, before and after."""
    N = experiment.size(1_000_000, 100_000)
    X = experiment.save("X_empty", np.ones((N, 2), np.float32))
    recording = Recording(experiment, "empty", experiment.save("D_empty", np.eye(2, dtype=np.float32)), X)
    command = recording.command(0, recording.output())
    place = command.index("--lambda-fraction")
    command[place : place + 2] = ["--lambda", "10"]
    found = {"one": [], "ranks": []}
    for _ in range(repeats):
        found["one"].append(finished(started(command)))
        if with_ranks:
            found["ranks"].append(finished(started([*ranks.mpirun(2), *command])))
    rest = {
        kind: [said["seconds"] - said["solve_seconds"] - said["output_seconds"] for said in lines]
        for kind, lines in found.items()
    }
    result = {
        "problems": N,
        "solve_seconds_a_problem": median_and_range([said["solve_seconds"] / N for said in found["one"]]),
        "output_seconds_a_problem": median_and_range([said["output_seconds"] / N for said in found["one"]]),
    }
    if with_ranks:
        blocks = model.MERGES * -(-N // model.MERGED_TOGETHER)
        result["merge_seconds_a_block"] = median_and_range([(two - one) / blocks for one, two in zip(*rest.values())])
    return result


def prepare_seconds(recording, fraction):
    """Of a dictionary in memory, and of what the first call makes of it, on one thread."""
    found = []
    for _ in range(recording.experiment.size(3, 1)):
        line, _ = recording.experiment.call(
            "bench",
            "solve",
            *recording.files,
            "--problems",
            min(recording.problems, 500),
            "--calls",
            3,
            "--lambda-fractions",
            fraction,
            threads=1,
        )
        found.append(line["prepare_seconds"] + max(0.0, line["first_seconds"] - statistics.median(line["seconds"])))
    return median_and_range(found)


def counter_of(program, seconds):
    """Calls of the counter that ranks share: by one of two ranks, which is not the one that has it, and by both."""
    found = {}
    for name, callers in (("one", 1), ("both", 0)):
        command = [
            *ranks.mpirun(2),
            program,
            "bench",
            "counter",
            "--callers",
            str(callers),
            "--seconds",
            str(seconds),
            "--json",
        ]
        line = finished(started(command))
        found[name] = {key: line[key] for key in ("calls_per_second", "seconds_a_call")}
        found["mpi"] = line["mpi"]
    return found


def disk_of(folder, rounds):
    """Appending 64 KiB, bringing it to the disk, and making and removing empty files, by one process in one folder."""
    piece, path = os.urandom(1 << 16), folder / "disk"
    with open(path, "wb", buffering=0) as file:
        begin = time.monotonic()
        for _ in range(8 * rounds):
            file.write(piece)
        append = 8 * rounds * len(piece) / (time.monotonic() - begin)
        os.fdatasync(file.fileno())
        syncs = []
        for _ in range(rounds):
            file.write(piece)
            begin = time.monotonic()
            os.fdatasync(file.fileno())
            syncs.append(time.monotonic() - begin)
    path.unlink()
    begin = time.monotonic()
    for i in range(rounds):
        (folder / f"disk{i}").touch()
    for i in range(rounds):
        (folder / f"disk{i}").unlink()
    return {
        "append_bytes_per_second": append,
        "sync_seconds": median_and_range(syncs),
        "files_made_and_removed_per_second": 2 * rounds / (time.monotonic() - begin),
    }


def steps_of(experiment):
    """A step of training of LISTA and of a momentum network, on one thread: seconds, flops, bytes of parameters."""
    layers, batch, runs = experiment.size((16, 8192, 2), (2, 256, 1))
    line, _ = experiment.call(
        "bench", "nets", "--networks", "lista", "--layers", layers, "--batch", batch, "--runs", runs, threads=1
    )
    m, n = line["atoms"], line["rows"]
    yield {
        "network": "LISTA",
        "shape": f"{n} x {m}, {layers} layers",
        "batch": batch,
        "seconds": line["median_seconds"],
        "flops": line["flops"],
        "parameter_bytes": 4 * layers * (m * m + m * n + m),
    }
    layers, batch = experiment.size((128, 1024), (4, 64))
    line, _ = experiment.call(
        "bench",
        "momentum",
        "--ways",
        "exact-recomputed",
        "--layers",
        layers,
        "--batch",
        batch,
        "--runs",
        runs,
        threads=1,
    )
    w, h = line["width"], line["hidden"]
    yield {
        "network": "momentum network",
        "shape": f"width {w}, {h} hidden, {layers} layers",
        "batch": batch,
        "seconds": line["median_seconds"],
        "flops": line["flops"],
        "parameter_bytes": 4 * layers * (2 * w * h + h + w),
    }


def measured_gpu(rows, atoms):
    """From iterations that were timed on an H100, at the size nearest to that of the dictionary: problems beyond which
    they take longer, and flops a second."""
    lines = [json.loads(line) for line in H100.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line["benchmark"] == "iteration"]
    size = min(
        {(line["rows"], line["atoms"]) for line in lines},
        key=lambda size: abs(np.log(size[0] * size[1] / (rows * atoms))),
    )
    time_of = {
        line["problems"]: line["residual_seconds"] + line["step_seconds"]
        for line in lines
        if (line["rows"], line["atoms"]) == size
    }
    few, many = min(time_of), max(time_of)
    return {
        "rows": size[0],
        "atoms": size[1],
        "slots": round(min(many, time_of[few] * many / time_of[many])),
        "flops_per_second": 4 * size[0] * size[1] * many / time_of[many],
        "from": H100.name,
    }
