from __future__ import annotations

import random
from collections.abc import Sequence

from harness.generator import time_limit
from harness.nemesis import Nemesis, schedule
from nemeses.kill import Kill
from nemeses.partition import Partition
from nemeses.pause import Pause
from tests.unit.test_generator import drive

NODES = ["n1", "n2", "n3", "n4", "n5"]


def made() -> dict[str, Nemesis]:
    return {
        "partition": Partition(Partition.Options()),
        "kill": Kill(Kill.Options()),
        "pause": Pause(Pause.Options()),
    }


def faults(seed: int, nodes: Sequence[str] = NODES, latency: int = 10_000_000) -> list[object]:
    steps = drive(time_limit(300, schedule(made(), nodes, seed, 2.0)), latency=latency)
    return [(step.operation.f, step.operation.value) for step in steps]


def test_the_seed_alone_decides_the_faults() -> None:
    first = faults(3)
    slower = faults(3, latency=500_000_000)
    assert first[: len(slower)] == slower[: len(first)]
    assert first != faults(4)


def test_every_fault_is_stopped_before_the_next_and_all_families_occur() -> None:
    names = [str(f) for f, _ in faults(1)]  # type: ignore[misc]
    for start, stop in zip(names[::2], names[1::2], strict=False):
        assert stop == start.replace("start-", "stop-")
    assert {name.removeprefix("start-") for name in names[::2]} == {"partition", "kill", "pause"}


def test_an_option_fixes_the_aim() -> None:
    rng = random.Random(1)
    plans = [Kill(Kill.Options(kill="primary")).plan(rng, NODES) for _ in range(20)]
    assert {plan["aim"] for plan in plans} == {"primary"}
    kinds = {Partition(Partition.Options()).plan(rng, NODES)["kind"] for _ in range(50)}
    assert kinds == {"halves", "one", "primary", "majority"}
