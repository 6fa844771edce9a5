#!/usr/bin/env python3
"""Kernels with one line missing, and the report that must come of each.

The host executor and ThreadSanitizer are trusted to find a forgotten barrier, atomic or wait. Here each is taken out of a
copy of a kernel's source, the copy is built in place of the original, a small run of it is made (operations.cpp), and the
test fails unless the mistake is reported.

    mutations.py list RACES|WRONG|ALL         a line each: name, the file that is changed, the source that is compiled
    mutations.py write NAME ROOT TARGET       the mutated file to TARGET/shrinkwarp/..., from the tree ROOT
    mutations.py check NAME PROGRAM           runs PROGRAM for each operation and demands the report
    mutations.py clean ROOT PROGRAM           runs PROGRAM, which has no mutation, and demands that nothing is reported
"""

import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass

RACES = "RACES"  # ThreadSanitizer reports a data race, exit status 66
WRONG = "WRONG"  # the result is NaN, exit status 1, in every build

GRADIENT_STEP = "kernels/gradient_step/gradient_step.cu"
GROUP_STEP = "kernels/gradient_step/group_step.cu"
ITERATIONS = "kernels/proximal_iterations/proximal_iterations.cu"
STEP_NETWORK = "kernels/step_network/resident_network.cu"
LISTA_NETWORK = "kernels/lista_network/fused_pass.cu"
CERTIFICATE = "kernels/certificate/certificate.cu"
TILE_PRODUCT = "kernels/common/tile_product.cuh"
DEVICE = "kernels/common/device.cuh"
PANEL_BOUNDS = "kernels/panel_bounds/panel_bounds.cu"
ACTIVE_SETS = "kernels/active_set/active_sets.cu"
GROUP_SETS = "kernels/group_set/group_sets.cu"
WORKING_SET = "kernels/working_set/working_set.cu"
OPTIMIZER = "kernels/optimizer/optimizer.cu"
EXACT_MOMENTUM = "kernels/momentum_residual/exact_momentum.cu"
CHANNEL_SUMS = "kernels/common/channel_sums.cuh"
LINEAR = "kernels/linear/linear.cu"
NON_FINITE = "kernels/non_finite/non_finite.cu"
BARRIER = "__syncthreads();"


@dataclass
class Mutation:
    name: str
    report: str
    file: str  # that is changed
    source: str  # that is compiled with the changed file
    place: str  # found exactly once in `file`, and holds `removed` exactly once
    removed: str
    operations: tuple  # of operations.cpp
    kernels: tuple  # one for each operation; the report names it
    instead: str = ""


MUTATIONS = [
    # The ring of the tiled product: a half must be complete before it is read, and read before it is filled again.
    Mutation("ring_barrier", RACES, TILE_PRODUCT, GRADIENT_STEP,
             "__syncthreads();  // this half is complete", BARRIER,
             ("residual", "step", "group_step"), ("residual_kernel", "step_kernel", "extrapolated_step_kernel")),
    Mutation("ring_barrier_double", RACES, TILE_PRODUCT, CERTIFICATE,
             "__syncthreads();  // this half is complete", BARRIER,
             ("code_residual", "correlation"), ("code_residual_kernel", "correlation_kernel")),
    # The sums leave through the memory of the ring.
    Mutation("staging_barrier_before", RACES, TILE_PRODUCT, CERTIFICATE,
             "__syncthreads();  // the ring, or the staged columns", BARRIER,
             ("code_residual", "group_correlation"), ("code_residual_kernel", "group_correlation_kernel")),
    Mutation("staging_barrier_after", RACES, TILE_PRODUCT, CERTIFICATE,
             "    __syncthreads();\n    for (int col = static_cast<int>(threadIdx.x) / 32; col < Tile::kPassCols", BARRIER,
             ("code_residual", "group_correlation"), ("code_residual_kernel", "group_correlation_kernel")),
    Mutation("shares_barrier", RACES, GROUP_STEP, GROUP_STEP,
             "__syncthreads();  // all shares are there", BARRIER,
             ("group_step",), ("shrink_groups_kernel",)),
    Mutation("pack_barrier", RACES, GRADIENT_STEP, GRADIENT_STEP,
             "  __syncthreads();\n  for (int r = y; r < kPackTile", BARRIER,
             ("residual",), ("pack_kernel",)),
    Mutation("betas_barrier", RACES, GRADIENT_STEP, GRADIENT_STEP,
             "beta[spot.col0 + col] : T(0);\n  __syncthreads();", BARRIER,
             ("residual",), ("residual_kernel",)),
    Mutation("correlation_barrier_before", RACES, CERTIFICATE, CERTIFICATE,
             "const ThreadPlace<Tile> place;\n  __syncthreads();", BARRIER,
             ("correlation",), ("correlation_kernel",)),
    Mutation("correlation_barrier_after", RACES, CERTIFICATE, CERTIFICATE,
             "  __syncthreads();\n  const int col = static_cast<int>(threadIdx.x);", BARRIER,
             ("correlation",), ("correlation_kernel",)),
    Mutation("slices_barrier", RACES, CERTIFICATE, CERTIFICATE,
             "slices[slice][lane] = largest;\n  __syncthreads();", BARRIER,
             ("correlation",), ("partial_max_kernel",)),
    Mutation("fold_barrier_before", RACES, DEVICE, CERTIFICATE,
             "    __syncthreads();\n    value = partial[0];", BARRIER,
             ("gap", "group_gap"), ("dual_gap_kernel", "dual_gap_kernel")),
    Mutation("fold_barrier_after", RACES, DEVICE, CERTIFICATE,
             "partial[warp]);\n    __syncthreads();", BARRIER,
             ("gap",), ("dual_gap_kernel",)),
    Mutation("norm_fold_barrier", RACES, DEVICE, OPTIMIZER,
             "    __syncthreads();\n    value = partial[0];", BARRIER,
             ("norm",), ("squared_norm_kernel",)),
    # An active set: what a step has made is read by all threads in the next, and what one writes all have read before.
    Mutation("sets_load_barrier", RACES, ACTIVE_SETS, ACTIVE_SETS,
             "set.home[i + static_cast<std::int64_t>(c) * capacity];\n  __syncthreads();", BARRIER,
             ("sets",), ("solve_kernel",)),
    Mutation("sets_settle_barrier", RACES, ACTIVE_SETS, ACTIVE_SETS,
             "    __syncthreads();\n    double sign = 1;", BARRIER,
             ("sets",), ("solve_kernel",)),
    Mutation("sets_correlation_barrier", RACES, ACTIVE_SETS, ACTIVE_SETS,
             "      correlation(i) = sum;\n    }\n    __syncthreads();", BARRIER,
             ("sets",), ("solve_kernel",)),
    Mutation("sets_crossing_barrier", RACES, ACTIVE_SETS, ACTIVE_SETS,
             "__syncthreads();  // all have read the code that crosses", BARRIER,
             ("sets",), ("solve_kernel",)),
    Mutation("sets_join_barrier", RACES, ACTIVE_SETS, ACTIVE_SETS,
             "    ++support;\n    __syncthreads();", BARRIER,
             ("sets",), ("solve_kernel",)),
    Mutation("sets_leave_barrier", RACES, ACTIVE_SETS, ACTIVE_SETS,
             "right()[i] = H[i + k * ld];\n    __syncthreads();", BARRIER,
             ("sets",), ("solve_kernel",)),
    Mutation("sets_sweep_barrier", RACES, ACTIVE_SETS, ACTIVE_SETS,
             "right()[i] = H[i + p * ld];\n      __syncthreads();", BARRIER,
             ("sets",), ("solve_kernel",)),
    Mutation("start_load_barrier", RACES, ACTIVE_SETS, ACTIVE_SETS,
             "    set.active(i) = i;\n  }\n  __syncthreads();", BARRIER,
             ("start",), ("start_kernel",)),
    # Sets of groups: what a sweep's warp has found, correlations that have been told, panels of the factorisation and the sums
    # of the way back, what a step has moved.
    Mutation("groups_load_barrier", RACES, GROUP_SETS, GROUP_SETS,
             "set.correlation()[i] = sets.correlation.column(p)[i];\n  }\n  __syncthreads();", BARRIER,
             ("groups",), ("solve_kernel",)),
    Mutation("groups_sweep_barrier", RACES, GROUP_SETS, GROUP_SETS,
             "      __syncthreads();\n      for (int i = thread(); i < size && known[0] != 0; i += kThreads) {", BARRIER,
             ("groups",), ("solve_kernel",)),
    Mutation("groups_told_barrier", RACES, GROUP_SETS, GROUP_SETS,
             "      __syncthreads();\n      from = p + 1;", BARRIER,
             ("groups",), ("solve_kernel",)),
    Mutation("groups_change_barrier", RACES, GROUP_SETS, GROUP_SETS,
             "      change()[i] = sum;\n    }\n    __syncthreads();", BARRIER,
             ("groups",), ("solve_kernel",)),
    Mutation("groups_panel_barrier", RACES, GROUP_SETS, GROUP_SETS,
             "entry(i, start + c) = row[c] = value * inverse[c];\n        }\n      }\n      __syncthreads();", BARRIER,
             ("groups",), ("solve_kernel",)),
    Mutation("groups_sums_barrier", RACES, GROUP_SETS, GROUP_SETS,
             "if (lane() == 0) sums[warp()] = sum;\n      }\n      __syncthreads();", BARRIER,
             ("groups",), ("solve_kernel",)),
    Mutation("groups_moved_barrier", RACES, GROUP_SETS, GROUP_SETS,
             "correlation()[i] += part * change()[i];\n    __syncthreads();", BARRIER,
             ("groups",), ("solve_kernel",)),
    Mutation("groups_start_barrier", RACES, GROUP_SETS, GROUP_SETS,
             "sets.atom.column(p), count, sets);\n  __syncthreads();", BARRIER,
             ("group_start",), ("start_kernel",)),
    # The ring of halves.
    Mutation("panel_ring_barrier", RACES, PANEL_BOUNDS, PANEL_BOUNDS,
             "__syncthreads();  // this half has arrived", BARRIER,
             ("panel",), ("panel_bounds_kernel",)),
    # The bits of W in shared memory, the votes for new atoms, keys that become violators, and what thread 0 writes last.
    Mutation("look_bits_barrier", RACES, WORKING_SET, WORKING_SET,
             "in_set[w] = 0;\n  __syncthreads();", BARRIER,
             ("look",), ("look_kernel",)),
    Mutation("look_votes_barrier", RACES, DEVICE, WORKING_SET,
             "warp_counts[warp] = __popc(votes);\n    __syncthreads();", BARRIER,
             ("look",), ("look_kernel",)),
    Mutation("look_parts_barrier", RACES, WORKING_SET, WORKING_SET,
             "__syncthreads();  // keys are read at their places and later ones", BARRIER,
             ("group_look",), ("look_kernel",)),
    Mutation("look_keys_barrier", RACES, WORKING_SET, WORKING_SET,
             "      __syncwarp(kFullMask);\n      if (lane == 0) look.keys[q] = violator;", "__syncwarp(kFullMask);",
             ("look",), ("look_kernel",)),
    Mutation("look_last_barrier", RACES, WORKING_SET, WORKING_SET,
             "__syncthreads();  // all have read what is written now", BARRIER,
             ("look",), ("look_kernel",)),
    # Iterations on the chip: what one warp has made all others read, and what all have read is written again.
    Mutation("iterations_load_barrier", RACES, ITERATIONS, ITERATIONS,
             "__syncthreads();  // D and X have come", BARRIER,
             ("iterations",), ("iterations_kernel",)),
    Mutation("iterations_parts_barrier", RACES, ITERATIONS, ITERATIONS,
             "__syncthreads();  // all parts of R are there", BARRIER,
             ("iterations",), ("iterations_kernel",)),
    Mutation("iterations_residual_barrier", RACES, ITERATIONS, ITERATIONS,
             "__syncthreads();  // R is complete", BARRIER,
             ("iterations",), ("iterations_kernel",)),
    Mutation("iterations_restart_barrier", RACES, ITERATIONS, ITERATIONS,
             "__syncthreads();  // the sums of all warps are there", BARRIER,
             ("iterations",), ("iterations_kernel",)),
    # A network there and back: the same two, each way.
    Mutation("step_network_parts_barrier", RACES, STEP_NETWORK, STEP_NETWORK,
             "__syncthreads();  // all parts of R are there", BARRIER,
             ("step_network",), ("step_network_kernel",)),
    Mutation("step_network_residual_barrier", RACES, STEP_NETWORK, STEP_NETWORK,
             "__syncthreads();  // R is complete", BARRIER,
             ("step_network",), ("step_network_kernel",)),
    Mutation("step_network_back_parts_barrier", RACES, STEP_NETWORK, STEP_NETWORK,
             "__syncthreads();  // all parts of V are there", BARRIER,
             ("step_network",), ("step_network_kernel",)),
    Mutation("step_network_back_barrier", RACES, STEP_NETWORK, STEP_NETWORK,
             "__syncthreads();  // V is complete", BARRIER,
             ("step_network",), ("step_network_kernel",)),
    # Networks on the chip: the same of their codes and residuals; panels of weights need no barrier.
    Mutation("lista_network_load_barrier", RACES, LISTA_NETWORK, LISTA_NETWORK,
             "__syncthreads();  // X and lambda have come", BARRIER,
             ("free_network",), ("forward_kernel",)),
    Mutation("lista_network_residual_barrier", RACES, LISTA_NETWORK, LISTA_NETWORK,
             "__syncthreads();  // R is complete", BARRIER,
             ("coupled_network",), ("forward_kernel",)),
    Mutation("lista_network_read_barrier", RACES, LISTA_NETWORK, LISTA_NETWORK,
             "__syncthreads();  // all have read z", BARRIER,
             ("free_network", "momentum_network"), ("forward_kernel", "forward_kernel")),
    Mutation("lista_network_codes_barrier", RACES, LISTA_NETWORK, LISTA_NETWORK,
             "__syncthreads();  // z is complete", BARRIER,
             ("free_network", "coupled_network"), ("forward_kernel", "forward_kernel")),
    # Sums of rows: what the warps of a block have found is added by one of them.
    Mutation("row_sums_barrier", RACES, CHANNEL_SUMS, LINEAR,
             "__syncthreads();  // all shares of a piece are there", BARRIER,
             ("linear",), ("row_sums_kernel",)),
    # Each atomic of the library (check_atomics).
    Mutation("look_atomic", RACES, WORKING_SET, WORKING_SET,
             "atomicOr(&in_set[member / 32], 1u << member % 32);", "atomicOr(&in_set[member / 32], 1u << member % 32)",
             ("look",), ("look_kernel",), "in_set[member / 32] |= 1u << member % 32"),
    Mutation("range_atomic", RACES, EXACT_MOMENTUM, EXACT_MOMENTUM,
             "atomicMin(status, static_cast<int>(value));", "atomicMin(status, static_cast<int>(value))",
             ("exact_range",), ("exact_forward_kernel",), "if (value < *status) *status = static_cast<int>(value)"),
    Mutation("count_atomic", RACES, NON_FINITE, NON_FINITE,
             "atomicAdd(count, static_cast<unsigned long long>(found));",
             "atomicAdd(count, static_cast<unsigned long long>(found))",
             ("non_finite",), ("non_finite_kernel",), "*count += found"),
    # Asynchronous copies arrive at the wait, and leave NaN until then.
    Mutation("async_wait", WRONG, TILE_PRODUCT, CERTIFICATE, "cp_async_wait<0>();", "cp_async_wait<0>();",
             ("code_residual", "correlation"), ("", "")),
    Mutation("async_commit", WRONG, TILE_PRODUCT, CERTIFICATE, "cp_async_commit();", "cp_async_commit();",
             ("code_residual", "correlation"), ("", "")),
    Mutation("panel_async_wait", WRONG, PANEL_BOUNDS, PANEL_BOUNDS, "cp_async_wait<0>();", "cp_async_wait<0>();",
             ("panel",), ("",)),
    Mutation("panel_async_commit", WRONG, PANEL_BOUNDS, PANEL_BOUNDS, "cp_async_commit();", "cp_async_commit();",
             ("panel",), ("",)),
    Mutation("lista_network_async_wait", WRONG, LISTA_NETWORK, LISTA_NETWORK, "cp_async_wait<kStages - 2>();", "cp_async_wait<kStages - 2>();",
             ("free_network", "coupled_network"), ("", "")),
    Mutation("lista_network_async_commit", WRONG, LISTA_NETWORK, LISTA_NETWORK, "cp_async_commit();", "cp_async_commit();",
             ("free_network", "coupled_network"), ("", "")),
]
OPERATIONS = ("residual", "step", "group_step", "iterations", "step_network", "free_network", "coupled_network", "momentum_network",
              "code_residual", "correlation", "group_correlation", "gap", "group_gap", "norm", "adam", "exact_momentum",
              "exact_range", "panel", "sets", "start", "look", "groups",
              "group_start", "group_look", "linear", "non_finite")
ATOMIC = re.compile(r"\batomic(Add|Sub|Exch|Min|Max|Inc|Dec|CAS|And|Or|Xor)\b")


def fail(message):
    sys.exit(f"mutations: {message}")


def by_name(name):
    found = [mutation for mutation in MUTATIONS if mutation.name == name]
    if not found:
        fail(f"found the name '{name}', wanted one of {', '.join(m.name for m in MUTATIONS)}")
    return found[0]


def write(mutation, root, target):
    text = (root / mutation.file).read_text()
    times = text.count(mutation.place)
    if times != 1:
        fail(f"{mutation.name}: found {mutation.place!r} {times} times in {mutation.file}, wanted once: "
             "the kernel has changed, change the mutation with it")
    assert mutation.place.count(mutation.removed) == 1
    changed = text.replace(mutation.place, mutation.place.replace(mutation.removed, mutation.instead))
    written = target / "shrinkwarp" / mutation.file
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(changed)


def run(program, operation):
    return subprocess.run([program, operation], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)


def check(mutation, program):
    for operation, kernel in zip(mutation.operations, mutation.kernels):
        done = run(program, operation)
        what = f"{mutation.name}, operation {operation}"
        if mutation.report == WRONG:
            if done.returncode != 1 or "wrong result" not in done.stdout or "nan" not in done.stdout:
                fail(f"{what}: exit status {done.returncode}, wanted 1 and a result of NaN\n{done.stdout}")
            print(f"{what}: {done.stdout.strip()}")
            continue
        frames = re.findall(r"#(\d+) (.*?) \S*?(kernels/[\w/]+\.cuh?:\d+)", done.stdout)
        if done.returncode != 66 or "WARNING: ThreadSanitizer: data race" not in done.stdout or not frames:
            fail(f"{what}: exit status {done.returncode}, wanted 66 and a data race in a kernel's source\n{done.stdout}")
        if not any(kernel in function for _, function, _ in frames):
            fail(f"{what}: a data race, wanted one in {kernel}\n{done.stdout}")
        places = dict.fromkeys(place for depth, _, place in frames if depth == "0")
        print(f"{what}: data race in {kernel}, {' and '.join(places)}")


def check_atomics(root):
    for path in sorted((root / "kernels").rglob("*.cu*")):
        file = str(path.relative_to(root))
        found = len(ATOMIC.findall(path.read_text()))
        removed = sum(1 for m in MUTATIONS if m.file == file and ATOMIC.match(m.removed))
        if found != removed:
            fail(f"{file} has {found} atomics and {removed} mutations that remove one, wanted one each")


def clean(root, program):
    check_atomics(root)
    for operation in OPERATIONS:
        done = run(program, operation)
        if done.returncode != 0 or "ThreadSanitizer" in done.stdout:
            fail(f"operation {operation} without a mutation: exit status {done.returncode}, wanted 0\n{done.stdout}")
        print(f"{operation}: right, and nothing reported")


def main(command, *arguments):
    if command == "list":
        chosen = [m for m in MUTATIONS if arguments[0] in (m.report, "ALL")]
        print("\n".join(f"{m.name} {m.file} {m.source}" for m in chosen))
    elif command == "write":
        write(by_name(arguments[0]), pathlib.Path(arguments[1]), pathlib.Path(arguments[2]))
    elif command == "check":
        check(by_name(arguments[0]), arguments[1])
    elif command == "clean":
        clean(pathlib.Path(arguments[0]), arguments[1])
    else:
        fail(f"found the command '{command}', wanted list, write, check or clean")


if __name__ == "__main__":
    main(*sys.argv[1:])
