"""How long a solve takes on P devices, from measured parts and named assumptions; and a step of training on R ranks.

The rules of the program that matter here are repeated, with the names that they have in `tools/cli/shared_solve.cpp`:
ranks take chunks of consecutive problems from one counter, 256 at first and fewer towards the end, and hold no more
than is fair. A device is a number of slots with a problem in each: as many as it needs to be at its whole rate. A
problem stays in its slot as long as the measured spread of problem times says. All times are in seconds, all sizes in
bytes.
"""

import heapq
import math
from dataclasses import dataclass, replace
from functools import lru_cache

LARGEST_CHUNK, SMALLEST_CHUNK, CHUNKS_LEFT = 256, 8, 4  # kLargestChunk, kSmallestChunk, kChunksLeft
CALLS_A_CHUNK = 2  # of the counter: has a rank failed, and which chunk is next
CALLS_A_LOOK = 2  # of a rank that looks whether to stop and tells how far it is ...
LOOK_SECONDS = 0.05  # ... so often
SYNC_SECONDS = 2  # a journal goes to the disk
FILES = 2  # operations of the file system for each rank's journal: to make it and to remove it
POSITION_BYTES = 8  # of a problem, which all ranks tell each other ...
MERGES = 2  # ... before a solve and after it ...
MERGED_TOGETHER = 1 << 16  # ... so many problems at a time
ADDED_TOGETHER = 1 << 20  # numbers of a gradient, which ranks add in blocks
SIMULATED = 32  # devices: chunks depend on problems a device alone, so that these stand for any larger number ...
EVENTS = 400_000  # ... and fewer where they would have more problems than that, but 4


@dataclass(frozen=True)
class Work:
    """A recording: problems, and what each has in files."""

    problems: int
    bytes_in: float = 0
    bytes_out: float = 0
    bytes_journal: float = 0
    dictionary_bytes: float = 0


@dataclass(frozen=True)
class Cluster:
    """What devices, network and file system do. Whatever is not given costs nothing."""

    rate: float  # problems a second of a device that is full
    slots: int = 1  # problems that make it full
    least: int = 1  # problems that it may hold whatever is fair
    devices_a_node: int = 8
    prepare_seconds: float = 0  # of the dictionary, by each rank
    file_system: float = math.inf  # bytes a second of all nodes together
    node_link: float = math.inf  # bytes a second of a node, to the others or to the file system
    file_operations: float = math.inf  # a second: files made, removed, brought to the disk
    counter_seconds: float = 0  # rank 0 is taken by a call
    counter_delay: float = 0  # until a caller has its answer
    message_seconds: float = 0  # of a small message
    merge_seconds: float = 0  # of MERGED_TOGETHER positions, beside what the network takes
    merges: int = MERGES
    writer_seconds: float = 0  # of a rank that puts an output together, for each problem
    writers: int = 0  # ranks that write the output; 0: all
    largest_chunk: int = LARGEST_CHUNK
    look_seconds: float = LOOK_SECONDS


# Chunks


def chunk_of(left, ranks, largest=LARGEST_CHUNK):
    """Problems of the next chunk."""
    return min(left, max(SMALLEST_CHUNK, min(largest, left // (CHUNKS_LEFT * ranks))))


def chunks(problems, ranks, largest=LARGEST_CHUNK):
    """How many there are in all."""
    turn = largest * CHUNKS_LEFT * ranks  # from here on they shrink
    count = max(0, -(-(problems - turn) // largest))
    left = problems - count * largest
    while left > 0:
        chunk = chunk_of(left, ranks, largest)
        same = 1
        if chunk == SMALLEST_CHUNK:
            same = left // chunk
        elif chunk < largest:  # until left // (CHUNKS_LEFT ranks) is smaller
            same = max(1, (left - chunk * CHUNKS_LEFT * ranks) // chunk + 1)
        count += same
        left -= same * chunk
    return count


def simulate(problems, devices, slots=1, least=1, spread=(1.0,), largest=LARGEST_CHUNK):
    """When the last of `problems` is done, in units of a device's time for one problem when it is full.

    `spread`: times of consecutive problems, repeated as needed and scaled so that those there are have a mean of 1."""
    length = len(spread)
    whole, rest = divmod(problems, length)
    mean = (whole * sum(spread) + sum(spread[:rest])) / problems
    work = [slots * value / mean for value in spread]
    left = problems
    following, ends, held = (
        [0] * devices,
        [0] * devices,
        [0] * devices,
    )  # of each device's chunk, and problems in its slots
    running = []  # (end, device)
    now = 0.0
    waiting = list(range(devices))
    while True:
        for device in waiting:
            while held[device] < slots and (devices == 1 or held[device] < max(least, left // (2 * devices))):
                if following[device] == ends[device]:
                    if left == 0:
                        break
                    chunk = chunk_of(left, devices, largest)
                    following[device] = problems - left
                    ends[device] = following[device] + chunk
                    left -= chunk
                heapq.heappush(running, (now + work[following[device] % length], device))
                following[device] += 1
                held[device] += 1
        if not running:
            return now
        now, device = heapq.heappop(running)
        held[device] -= 1
        waiting = (device,)


@lru_cache(maxsize=None)
def _simulated(*case):
    return simulate(*case)


def compute_seconds(problems, devices, cluster, spread=None):
    """Until the last problem is done, where nothing but problems of different length, chunks and slots is in the way.

    Before the end all devices are full: only the last problems are simulated, and of many devices SIMULATED. Without a
    spread problems are divided evenly and nothing is lost."""
    if spread is None:
        return problems / (devices * cluster.rate)
    a_device = problems / devices
    tail = cluster.largest_chunk * (CHUNKS_LEFT + 4) + 4 * cluster.slots
    full = max(0.0, a_device - tail)
    few = min(devices, max(4, min(SIMULATED, int(EVENTS / (a_device - full)))))
    simulated = max(1, round((a_device - full) * few))
    last = _simulated(simulated, few, cluster.slots, cluster.least, tuple(spread), cluster.largest_chunk)
    return (full + last) / cluster.rate


# A whole solve


def terms(work, devices, cluster, spread=None):
    """The parts of a solve's time, and the whole."""
    N = work.problems

    def of_all(nodes):  # bytes a second between them and the files
        return min(cluster.file_system, nodes * cluster.node_link)

    nodes = math.ceil(devices / cluster.devices_a_node)
    ideal = N / (devices * cluster.rate)
    compute = compute_seconds(N, devices, cluster, spread)
    # A rank that asks waits for its answer, and rank 0 answers one call after the other.
    of_chunks = CALLS_A_CHUNK * chunks(N, devices, cluster.largest_chunk) / N * cluster.rate
    calls = of_chunks + CALLS_A_LOOK / cluster.look_seconds  # a device and second of solving
    slowdown = max(1 + calls * cluster.counter_delay, devices * calls * cluster.counter_seconds)
    counted = compute * slowdown

    data = N * (work.bytes_in + work.bytes_journal) / of_all(nodes)  # while they solve
    moved = max(counted, data)
    moved *= max(1, devices / SYNC_SECONDS / cluster.file_operations)
    dictionary = nodes * work.dictionary_bytes / of_all(nodes)
    files = FILES * devices / cluster.file_operations
    merge = 0.0
    if devices > 1:
        a_block = 2 * math.ceil(math.log2(devices)) * cluster.message_seconds
        if nodes > 1:
            a_block += 2 * POSITION_BYTES * MERGED_TOGETHER / cluster.node_link
        merge = cluster.merges * math.ceil(N / MERGED_TOGETHER) * (a_block + cluster.merge_seconds)
    writers = cluster.writers or devices
    output = max(
        N * (work.bytes_journal + work.bytes_out) / of_all(math.ceil(writers / cluster.devices_a_node)),
        N * cluster.writer_seconds / writers,
    )
    parts = {
        "start": cluster.prepare_seconds,
        "dictionary": dictionary,
        "files": files,
        "merge": merge,
        "output": output,
    }
    return {
        "ideal": ideal,
        "stragglers": compute - ideal,
        "counter": counted - compute,
        "journal and observations": moved - counted,
        **parts,
        "seconds": moved + sum(parts.values()),
    }


def seconds(work, devices, cluster, spread=None):
    return terms(work, devices, cluster, spread)["seconds"]


def efficiency(work, devices, cluster, spread=None):
    """Share of the devices' time in which they solve at their whole rate."""
    found = terms(work, devices, cluster, spread)
    return found["ideal"] / found["seconds"]


# What stops growth


def only(part, work, cluster, spread):
    """Work, cluster and spread in which one part alone costs anything."""
    bare = Cluster(
        cluster.rate,
        devices_a_node=cluster.devices_a_node,
        largest_chunk=cluster.largest_chunk,
        look_seconds=cluster.look_seconds,
    )
    no_bytes = Work(work.problems)
    if part == "start":
        return no_bytes, replace(bare, prepare_seconds=cluster.prepare_seconds), None
    if part == "stragglers":
        return no_bytes, replace(bare, slots=cluster.slots, least=cluster.least), spread
    if part == "chunk counter":
        return (
            no_bytes,
            replace(bare, counter_seconds=cluster.counter_seconds, counter_delay=cluster.counter_delay),
            None,
        )
    if part == "file system":
        return (
            work,
            replace(
                bare,
                file_system=cluster.file_system,
                file_operations=cluster.file_operations,
                node_link=cluster.node_link,
                writer_seconds=cluster.writer_seconds,
                writers=cluster.writers,
            ),
            None,
        )
    return (
        no_bytes,
        replace(
            bare,
            node_link=cluster.node_link,
            message_seconds=cluster.message_seconds,
            merge_seconds=cluster.merge_seconds,
            merges=cluster.merges,
        ),
        None,
    )


# The last: positions that ranks tell each other, two all-reductions by the network.
PARTS = ("start", "stragglers", "chunk counter", "file system", "network")


def first_under_half(work, cluster, spread, counts):
    """The smallest number of devices among `counts` at which less than half of their time is spent on solving."""
    return next((devices for devices in counts if efficiency(work, devices, cluster, spread) < 0.5), None)


def stops(work, cluster, spread, counts):
    """That number of all parts together ("all") and of each alone."""
    return {
        "all": first_under_half(work, cluster, spread, counts),
        **{part: first_under_half(*only(part, work, cluster, spread), counts) for part in PARTS},
    }


# Training


@dataclass(frozen=True)
class Step:
    """A step of data-parallel training: each rank has a part of the batch, and all have the sum of their gradients."""

    seconds: float  # of one rank for the whole batch
    parameter_bytes: float
    bandwidth: float = math.inf  # bytes a second of a rank, each way
    message_seconds: float = 0

    def exchange(self, ranks):
        """An all-gather of weights; and of each block of float32 an all-to-all of parts, which are added, and an
        all-gather of the sums, with a message to each other rank in either."""
        blocks = math.ceil(self.parameter_bytes / (4 * ADDED_TOGETHER))
        return (
            2 * (ranks - 1) / ranks * self.parameter_bytes / self.bandwidth
            + (1 + 2 * blocks) * (ranks - 1) * self.message_seconds
        )

    def of(self, ranks, batch_a_rank=False):
        """Seconds of a step, with one batch for all or with one for each."""
        return self.seconds / (1 if batch_a_rank else ranks) + self.exchange(ranks)

    def efficiency(self, ranks, batch_a_rank=False):
        return self.seconds / (1 if batch_a_rank else ranks) / self.of(ranks, batch_a_rank)

    def most_ranks(self, batch_a_rank=False, limit=100_000):
        """Up to so many ranks half of their time is spent on the network's layers."""
        low, high = 1, limit
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.efficiency(middle, batch_a_rank) >= 0.5 else (low, middle - 1)
        return low
