"""tools/experiments/scaling_model.py: what can be worked out by hand, and what must not depend on details."""

import math
import re
import sys
from dataclasses import replace

import pytest

from program import ROOT

sys.path.insert(0, str(ROOT / "tools/experiments"))
import scaling_model as model  # noqa: E402
from scaling_model import Cluster, Step, Work  # noqa: E402

COUNTS = [1, 2, 3, 10, 32, 100, 1000, 10000]
REAL = Cluster(
    1e5,
    slots=50,
    least=25,
    prepare_seconds=0.1,
    file_system=1e10,
    node_link=2.5e10,
    file_operations=2e4,
    counter_seconds=5e-6,
    counter_delay=9e-6,
    message_seconds=2e-6,
    merge_seconds=1e-4,
    writer_seconds=1e-6,
)
RECORDING = Work(10**6, 1224, 180, 200, 1e7)
SPREAD = (0.5, 0.7, 1.1, 2.2, 0.5)


def test_chunks_are_those_of_the_program():
    """Its constants, and ranges that it hands out."""
    source = (ROOT / "tools/cli/shared_solve.cpp").read_text(encoding="utf-8")
    for name, value in (
        ("kLargestChunk", model.LARGEST_CHUNK),
        ("kSmallestChunk", model.SMALLEST_CHUNK),
        ("kChunksLeft", model.CHUNKS_LEFT),
    ):
        assert int(re.search(rf"{name} = (\d+);", source)[1]) == value
    assert [model.chunk_of(left, 2) for left in (10**6, 2048, 2047, 160, 80, 64, 9, 3)] == [
        256,
        256,
        255,
        20,
        10,
        8,
        8,
        3,
    ]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("problems", [1, 7, 8, 9, 100, 5000, 123456])
@pytest.mark.parametrize("largest", [256, 1000])
def test_chunks_are_counted(problems, ranks, largest):
    left, count = problems, 0
    while left:
        left -= model.chunk_of(left, ranks, largest)
        count += 1
    assert model.chunks(problems, ranks, largest) == count


def test_without_overhead_nothing_is_lost():
    for devices in COUNTS:
        assert model.seconds(Work(10**6), devices, Cluster(1e3)) == pytest.approx(1e3 / devices)
        assert model.efficiency(Work(10**6), devices, Cluster(1e3)) == pytest.approx(1)


def test_equal_problems_are_a_chunk_off_at_most():
    for devices in (1, 2, 7, 32):
        for problems in (1, 100, 5000, 20000):
            found = model.simulate(problems, devices)
            assert problems / devices <= found + 1e-9
            assert found <= problems / devices + model.chunk_of(problems, devices)


def test_slots_take_as_long_as_a_device():
    """4 slots at a quarter of the rate: 4 problems take as long as one after the other, and one as long as 4."""
    assert model.simulate(400, 1, slots=4) == pytest.approx(400)
    assert model.simulate(1, 1, slots=4) == pytest.approx(4)
    assert model.simulate(5, 1, slots=4) == pytest.approx(8)


def test_devices_hold_no_more_than_is_fair():
    """10 problems for two devices of 10 slots: 8 are the first's, at once or, where one is fair, one after another."""
    assert model.simulate(10, 2, slots=10, least=10) == pytest.approx(10)
    assert model.simulate(10, 2, slots=10, least=1) == pytest.approx(80)


def test_the_longest_problem_has_to_be_waited_for():
    assert model.simulate(1, 1, spread=(7, 1, 1)) == pytest.approx(1)  # the mean is of the problems there are
    long = (1,) * 99 + (101,)  # a mean of 2
    assert model.simulate(100, 50, spread=long) >= 50
    assert model.simulate(100, 1, spread=long) == pytest.approx(100)


def test_simulating_the_end_is_enough():
    """A whole simulation, and one whose beginning is a division."""
    cluster = Cluster(1.0, slots=8, least=4)
    for devices in (2, 5):
        whole = model.simulate(20000 * devices, devices, 8, 4, SPREAD)
        assert model.compute_seconds(20000 * devices, devices, cluster, SPREAD) == pytest.approx(whole, rel=1e-3)


def test_few_devices_stand_for_many():
    cluster = Cluster(1.0, slots=8, least=4)
    whole = model.simulate(100 * 300, 100, 8, 4, SPREAD)
    assert model.compute_seconds(100 * 300, 100, cluster, SPREAD) == pytest.approx(whole, rel=0.05)


def test_a_counter_caps_the_rate():
    """Of c calls a second and two calls for 256 problems, whatever the number of devices is."""
    cluster = Cluster(1e6, counter_seconds=1e-6, look_seconds=math.inf)
    for devices, share in ((10, 1), (1000, None)):
        found = model.terms(Work(10**9), devices, cluster)
        rate = 10**9 / found["seconds"]
        assert share is None or model.efficiency(Work(10**9), devices, cluster) == pytest.approx(share)
        assert rate <= 256 / 2 / 1e-6 * (1 + 1e-9)
    assert rate == pytest.approx(256 / 2 / 1e-6, rel=0.02)
    larger = model.seconds(Work(10**9), 1000, replace(cluster, largest_chunk=2560))
    assert larger < found["seconds"] / 5


def test_looks_alone_take_the_counter():
    """2 calls each 50 ms: 40 a second and device, and a thousand devices have rank 0 busy with calls of 25 us."""
    for devices, slower in ((100, 1), (1000, 1), (4000, 4)):
        cluster = Cluster(1.0, counter_seconds=25e-6)
        assert 1 / model.efficiency(Work(10**9), devices, cluster) == pytest.approx(slower, rel=0.01)


def test_a_file_system_caps_the_rate():
    """Observations while they solve, the output afterwards."""
    work = Work(10**8, bytes_in=1000, bytes_out=300, bytes_journal=200)
    cluster = Cluster(1e5, file_system=1e10)
    assert model.seconds(work, 10_000, cluster) == pytest.approx(10**8 * 1200 / 1e10 + 10**8 * 500 / 1e10)
    assert model.seconds(work, 1, cluster) == pytest.approx(1000 + 5)


def test_one_writer_takes_as_long_for_any_number():
    one = Cluster(1e5, writer_seconds=1e-6, writers=1)
    for devices in COUNTS:
        assert model.terms(Work(10**6), devices, one)["output"] == pytest.approx(1)
        assert model.terms(Work(10**6), devices, replace(one, writers=0))["output"] == pytest.approx(1 / devices)


def test_positions_are_merged_in_blocks():
    cluster = Cluster(1e5, merge_seconds=1e-3)
    assert model.terms(Work(10 * 2**16), 1, cluster)["merge"] == 0
    assert model.terms(Work(10 * 2**16), 2, cluster)["merge"] == pytest.approx(0.02)
    assert model.terms(Work(10 * 2**16 + 1), 1000, cluster)["merge"] == pytest.approx(0.022)
    assert model.terms(Work(10**6), 1000, replace(cluster, merges=0))["merge"] == 0


def test_more_costs_never_less():
    base = {devices: model.seconds(RECORDING, devices, REAL, SPREAD) for devices in COUNTS}
    worse = {
        "rate": 5e4,
        "prepare_seconds": 0.2,
        "file_system": 1e9,
        "node_link": 1e10,
        "file_operations": 1e3,
        "counter_seconds": 1e-4,
        "counter_delay": 1e-4,
        "message_seconds": 1e-3,
        "merge_seconds": 1e-2,
        "writer_seconds": 1e-4,
        "writers": 1,
    }
    for name, value in worse.items():
        for devices in COUNTS:
            assert model.seconds(RECORDING, devices, replace(REAL, **{name: value}), SPREAD) >= base[devices] * (
                1 - 1e-12
            ), name
    for name in ("bytes_in", "bytes_out", "bytes_journal", "dictionary_bytes"):
        work = replace(RECORDING, **{name: 100 * getattr(RECORDING, name)})
        for devices in COUNTS:
            assert model.seconds(work, devices, REAL, SPREAD) >= base[devices]


def test_terms_are_the_whole():
    for devices in COUNTS:
        found = model.terms(RECORDING, devices, REAL, SPREAD)
        whole = found.pop("seconds")
        assert sum(found.values()) == pytest.approx(whole)
        assert all(value >= 0 for value in found.values())


def test_no_part_alone_stops_growth_before_all_do():
    found = model.stops(RECORDING, REAL, SPREAD, COUNTS)
    assert list(found) == ["all", *model.PARTS]
    assert found["all"] is not None
    assert all(found[part] is None or found[part] >= found["all"] for part in model.PARTS)


@pytest.mark.parametrize(
    "part, costs",
    [
        ("start", {"prepare_seconds": 1.0}),
        ("stragglers", {"slots": 2000, "least": 256}),
        ("chunk counter", {"counter_seconds": 1e-4}),
        ("file system", {"file_operations": 1.0}),
        ("network", {"merge_seconds": 1.0}),
    ],
)
def test_what_costs_alone_stops_alone(part, costs):
    found = model.stops(Work(10**6), Cluster(1e4, **costs), SPREAD if part == "stragglers" else None, COUNTS)
    assert found[part] == found["all"] is not None
    assert all(found[other] is None for other in model.PARTS if other != part)


# Training


def test_a_step_on_one_rank_exchanges_nothing():
    step = Step(0.5, 1e9, 1e9, 1.0)
    assert step.of(1) == step.of(1, True) == 0.5 and step.efficiency(1) == 1


def test_a_step_without_a_network():
    step = Step(1.0, 1e9)
    for ranks in COUNTS:
        assert step.of(ranks) == pytest.approx(1 / ranks) and step.of(ranks, True) == 1
    assert step.most_ranks() == 100_000


def test_what_a_step_exchanges():
    step = Step(1.0, 1e9, 1e10, 1e-6)  # 239 blocks, each with two messages to each other rank, and one more
    assert step.exchange(2) == pytest.approx(0.1 + 479e-6)
    assert step.exchange(4) == pytest.approx(0.15 + 3 * 479e-6)
    # 1 / R = 2 (R - 1) / R times .1: half of the time with 6 ranks, and a little less of exchange.
    assert Step(1.0, 1e9, 1.01e10).most_ranks() == 6 and Step(1.0, 1e9, 0.99e10).most_ranks() == 5
    # A batch for each: R - 1 messages of weights and 2 (R - 1) of the only block take a second.
    assert Step(1.0, 4, message_seconds=0.99e-4).most_ranks(True) == 3368
