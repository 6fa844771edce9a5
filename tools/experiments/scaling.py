#!/usr/bin/env python3
"""A solve on 1 and 2 ranks as measured, on 1 to 10,000 GPUs as predicted, and what stops growth first.

Measured on this machine: one process, two beside each other, two ranks of mpirun and, where dask and shrinkwarp can be
imported, one and two workers of dask; and the parts: bytes of a problem in observations, journal and output, how long
problems and chunks of them take and how much that differs, calls of the counter that ranks share, the disk,
preparation, the output, a step of training. Predicted: how long N samples take on P GPUs (scaling_model.py). No GPU's
rate of whole solves has been measured: it is an assumption, as are file systems and networks, and the predictions are
for several of them. Without mpirun one process is measured, and what ranks share is left out.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

import common  # noqa: E402, before NumPy: it sets the number of threads
import numpy as np  # noqa: E402
import scaling_model as model  # noqa: E402
import scaling_parts as parts  # noqa: E402
from scaling_picture import draw  # noqa: E402

FRACTION = 0.3
SAMPLES = (10**5, 10**6, 10**8, 10**9)
RATES = (1e4, 1e5, 1e6)  # problems a second of a GPU: assumed
# Assumed: bytes a second of all files together, and how long rank 0 is taken by a call of the counter over the network.
CLUSTERS = {
    "10 GB/s, 5 us": {"file_system": 1e10, "counter_seconds": 5e-6},
    "100 GB/s, 1 us": {"file_system": 1e11, "counter_seconds": 1e-6},
}
# Assumed alike for all.
COMMON = {"node_link": 25e9, "file_operations": 2e4, "message_seconds": 2e-6, "devices_a_node": 8, "least": 256}
MENDED = {"largest_chunk": 8192, "look_seconds": 1.0, "merges": 0, "prepare_seconds": 0.0}  # what could be better
BANDWIDTHS = (12.5e9, 50e9)  # bytes a second of a rank in training: assumed
COUNTS = sorted({round(10 ** (k / 8)) for k in range(33)})  # 1 to 10,000 devices


def recordings(experiment):
    """A phantom, and where there is one a real lead field, whose recording is repeated."""
    sensors, sources, samples = experiment.size((306, 5124, 10000), (30, 200, 2000))
    files = experiment.scratch / "D.npy", experiment.scratch / "X.npy"
    options = [
        "phantom",
        "meg",
        "--sensors",
        sensors,
        "--sources",
        sources,
        "--samples",
        samples,
        "--quiet",
        "--seed",
        experiment.seed,
        "--dictionary",
        files[0],
        "--observations",
        files[1],
    ]
    parts.subprocess.run([experiment.program, *map(str, options)], check=True)
    yield parts.Recording(experiment, "phantom", *files)
    if common.DATA and not experiment.quick and (Path(common.DATA) / "medium").is_dir():
        D, X = common.recording("medium")
        X = np.resize(X, (4000, X.shape[1]))
        yield parts.Recording(
            experiment,
            "medium",
            experiment.save("D2", D.astype(np.float32)),
            experiment.save("X2", X.astype(np.float32)),
        )


def measure(recording, with_ranks):
    """Solves by more than one, and the parts of a problem. @return also the times of single problems"""
    experiment = recording.experiment
    problems, repeats = experiment.size((5000, 5), (1000, 2))
    spread, times = parts.spread_of(recording, FRACTION, min(problems, recording.problems), experiment.size(5, 1))
    result = {
        "recording": recording.name,
        "rows": recording.rows,
        "atoms": recording.atoms,
        "problems": recording.problems,
        "lambda_fraction": FRACTION,
        "runs": parts.scaling_of_ranks(recording, FRACTION, repeats, with_ranks),
        "bytes_a_problem": [parts.bytes_of(recording, fraction) for fraction in parts.FRACTIONS],
        "spread": spread,
        "prepare_seconds": parts.prepare_seconds(recording, FRACTION),
    }
    if parts.dask:
        result["dask"] = parts.scaling_of_workers(recording, FRACTION, repeats)
    return result, times


def predicted_here(case, counter):
    """What the model says of two ranks here, if each has the rate of one process, and of one beside another."""
    runs, N = case["runs"], case["problems"]
    delay = counter["both"]["seconds_a_call"] if counter else 0
    rates = {"at the rate of one process": N / runs["one"]["solve_seconds"]["median"]}
    if "beside" in runs:
        rates["at the rate of one beside another"] = N // 2 / runs["beside"]["solve_seconds"]["median"]
    return {
        name: model.seconds(
            model.Work(N), 2, model.Cluster(rate, counter_seconds=delay / 2, counter_delay=delay), case["times"]
        )
        for name, rate in rates.items()
    }


def cluster_of(rate, assumed, case, gpu, **more):
    overhead = case["overhead"]
    return model.Cluster(
        rate,
        slots=gpu["slots"],
        prepare_seconds=case["prepare_seconds"]["least"],
        writer_seconds=overhead["output_seconds_a_problem"]["least"],
        merge_seconds=max(0.0, overhead.get("merge_seconds_a_block", {}).get("least", 0.0)),
        **{**COMMON, "counter_delay": assumed["counter_seconds"] + 2 * COMMON["message_seconds"], **assumed, **more},
    )


def work_of(N, case):
    of = next(entry for entry in case["bytes_a_problem"] if entry["lambda_fraction"] == FRACTION)
    return model.Work(N, of["in"], of["out"], of["journal"], 4 * case["rows"] * case["atoms"])


def predict(case, times, gpu, counts):
    """Of each N, rate and cluster: where growth stops, and by what; and the curve of efficiency."""
    for N in SAMPLES:
        for rate in RATES:
            for name, assumed in CLUSTERS.items():
                work, cluster = work_of(N, case), cluster_of(rate, assumed, case, gpu)
                stops = model.stops(work, cluster, times, counts)
                alone = {part: stops[part] for part in model.PARTS if stops[part]}
                one = model.replace(cluster, writers=1)
                mended = model.replace(cluster, **MENDED)
                yield {
                    "samples": N,
                    "rate": rate,
                    "cluster": name,
                    "stops": stops,
                    "first": min(alone, key=alone.get, default=None),
                    "stops_with_one_writer": model.first_under_half(work, one, times, counts),
                    "stops_mended": model.first_under_half(work, mended, times, counts),
                    "points": [[devices, *predicted_point(work, devices, cluster, times)] for devices in counts],
                }


def predicted_point(work, devices, cluster, times):
    found = model.terms(work, devices, cluster, times)
    return found["seconds"], found["ideal"] / found["seconds"]


def predict_training(steps, gpu):
    """Up to how many ranks a step scales: as measured on a thread here, and on a GPU at the rate of its iteration."""
    for step in steps:
        for device, seconds in (
            ("a thread, measured", step["seconds"]),
            ("a GPU, predicted", step["flops"] / gpu["flops_per_second"]),
        ):
            for bandwidth in BANDWIDTHS:
                asked = model.Step(seconds, step["parameter_bytes"], bandwidth, COMMON["message_seconds"])
                yield {
                    "network": step["network"],
                    "shape": step["shape"],
                    "batch": step["batch"],
                    "device": device,
                    "seconds": seconds,
                    "parameter_bytes": step["parameter_bytes"],
                    "bandwidth": bandwidth,
                    "most_ranks": min(asked.most_ranks(), step["batch"]),
                    "most_ranks_batch_a_rank": asked.most_ranks(True),
                    "points": [[ranks, asked.efficiency(ranks), asked.efficiency(ranks, True)] for ranks in COUNTS],
                }


def each_alone(case, gpu, counts):
    """The efficiency that each part alone would leave, for one size, rate and cluster."""
    N, rate, name = SAMPLES[2], RATES[1], list(CLUSTERS)[0]
    work, cluster = work_of(N, case), cluster_of(rate, CLUSTERS[name], case, gpu)
    asked = {part: model.only(part, work, cluster, case["times"]) for part in model.PARTS}
    asked["all"] = work, cluster, case["times"]
    curves = {
        part: [[devices, model.efficiency(of[0], devices, *of[1:])] for devices in counts] for part, of in asked.items()
    }
    return {"samples": N, "rate": rate, "cluster": name, "curves": curves}


# Words


def words_of_runs(case, here):
    runs, size = case["runs"], f"{case['rows']} x {case['atoms']}, {case['problems']:,} samples"
    one = runs["one"]
    text = f"{case['recording']}, {size}: one process {one['solve_seconds']['median']:.3g} s"
    for kind, name in (("beside", "two processes with half each"), ("ranks", "two ranks")):
        if kind in runs:
            of = runs[kind]
            used = of["processor_seconds"]["median"] / one["processor_seconds"]["median"]
            text += f", {name} {of['solve_seconds']['median']:.3g} s ({efficiency_of(of)}, {used:.3g} times the "
            text += "processor time)"
    if "beside_by_ranks" in runs.get("ranks", {}):
        text += f"; the two processes take {runs['ranks']['beside_by_ranks']['median']:.3f} of the time of the ranks"
    if "ranks" in runs:
        text += "; predicted for two ranks " + " and ".join(f"{value:.3g} s {name}" for name, value in here.items())
    if "dask" in case:
        text += f"; two workers of dask: {efficiency_of(case['dask'])}"
    return text + "."


def efficiency_of(of):
    found = of["efficiency"]
    return f"efficiency {found['median']:.3f}, {found['least']:.3f} to {found['most']:.3f}"


def words_of_predictions(predictions):
    stopped = [entry for entry in predictions if entry["first"]]
    firsts = {part: sum(entry["first"] == part for entry in stopped) for part in model.PARTS}
    ended = sum(entry["stops"]["all"] is not None for entry in predictions)
    text = (
        f"Predicted, growth stops (less than half of the time is spent on solving) within 10,000 GPUs in {ended} "
        f"of {len(predictions)} cases; of parts alone the first is "
    )
    text += (
        ", ".join(f"{part} in {count}" for part, count in sorted(firsts.items(), key=lambda item: -item[1]) if count)
        + "."
    )
    for N in SAMPLES:
        found = [entry for entry in predictions if entry["samples"] == N and entry["rate"] == RATES[1]]
        ends = [
            f"{describe(entry['stops']['all'])} ({entry['cluster']}; first {entry['first'] or 'nothing'})"
            for entry in found
        ]
        text += f" {N:,} samples at {RATES[1]:,.0f}/s: " + ", ".join(ends) + "."
    return text


def describe(devices):
    return f"{devices:,}" if devices else "over 10,000"


def tables(predictions, training):
    """What docs/scaling.md has, in its form."""
    heads = ["samples", "problems/s of a GPU", "file system, call", "all", *model.PARTS, "one writer", "mended"]
    rows = [
        [
            f"{entry['samples']:,}",
            f"{entry['rate']:,.0f}",
            entry["cluster"],
            f"**{describe(entry['stops']['all'])}**",
            *(describe(entry["stops"][part]) for part in model.PARTS),
            describe(entry["stops_with_one_writer"]),
            describe(entry["stops_mended"]),
        ]
        for entry in predictions
    ]
    yield heads, rows
    heads = ["network", "a step", "parameters", "bandwidth of a rank", "one batch for all", "a batch for each"]
    rows = [
        [
            f"{entry['network']} ({entry['shape']}, batch {entry['batch']:,})",
            f"{float(format(1e3 * entry['seconds'], '.3g')):,g} ms, {entry['device']}",
            f"{entry['parameter_bytes'] / 1e6:.3g} MB",
            f"{entry['bandwidth'] / 1e9:g} GB/s",
            f"{entry['most_ranks']:,}",
            f"{entry['most_ranks_batch_a_rank']:,}",
        ]
        for entry in training
    ]
    yield heads, rows


def as_text(heads, rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows]) + "\n"


def words_of_training(training):
    found = [entry for entry in training if entry["device"].startswith("a GPU")]
    return (
        "Training, a step of one batch on GPUs scales up to "
        + ", ".join(
            f"{entry['most_ranks']:,} ranks ({entry['network']}, {entry['bandwidth'] / 1e9:g} GB/s)" for entry in found
        )
        + "."
    )


def scaling(experiment):
    reason = parts.no_ranks(experiment.program)
    counter = None if reason else parts.counter_of(experiment.program, experiment.size(1.0, 0.05))
    overhead = parts.overhead_of(experiment, experiment.size(4, 1), not reason)
    cases, here = [], []
    for recording in recordings(experiment):
        case, times = measure(recording, not reason)
        case["times"], case["overhead"] = tuple(times.tolist()), overhead
        cases.append(case)
        here.append(predicted_here(case, counter))
    first = cases[0]
    gpu = parts.measured_gpu(first["rows"], first["atoms"])
    steps = list(parts.steps_of(experiment))
    counts = experiment.size(COUNTS, COUNTS[::8])
    predictions = list(predict(first, first["times"], gpu, counts))
    alone = each_alone(first, gpu, counts)
    training = list(predict_training(steps, gpu))
    figure = draw(first, here[0], [entry for entry in predictions if entry["rate"] == RATES[1]], alone, training)
    words = [words_of_runs(case, predicted) for case, predicted in zip(cases, here)]
    if reason:
        words.insert(0, f"Ranks are left out: {reason}.")
    if parts.dask is None:
        words.append("Workers of dask are left out: dask, distributed or shrinkwarp cannot be imported.")
    for case, predicted in zip(cases, here):
        del case["times"], case["overhead"]
        case["predicted_seconds"] = predicted
    result = {
        "measured": {
            "cases": cases,
            "counter": counter,
            "overhead": overhead,
            "disk": parts.disk_of(experiment.scratch, experiment.size(200, 20)),
            "steps": steps,
            "gpu": gpu,
        },
        "assumed": {"rates": RATES, "clusters": CLUSTERS, "common": COMMON, "bandwidths": BANDWIDTHS, "mended": MENDED},
        "predicted": {"solves": predictions, "alone": alone, "training": training},
    }
    experiment.output.mkdir(parents=True, exist_ok=True)
    text = "\n".join(as_text(*table) for table in tables(predictions, training))
    (experiment.output / "scaling.md").write_text(text, encoding="utf-8")
    experiment.write(figure, result, " ".join([*words, words_of_predictions(predictions), words_of_training(training)]))


if __name__ == "__main__":
    common.run("scaling", __doc__, scaling)
