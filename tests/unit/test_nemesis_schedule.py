from __future__ import annotations

import json
import random
from itertools import islice, pairwise

from harness.nemesis import Nemesis, schedule
from harness.operation import Operation
from harness.plugins import load, names
from nemeses.kill import Kill
from nemeses.membership import Membership
from nemeses.partition import KINDS, Partition

NODES = ["n1", "n2", "n3", "n4", "n5"]
EVERY = [load("nemeses", name) for name in names("nemeses")]


def faults(seed: int, count: int = 200, *, overlapping: bool = False) -> list[tuple[float, Operation]]:
    made: dict[str, Nemesis] = {nemesis.name: nemesis(nemesis.Options()) for nemesis in EVERY}
    return list(islice(schedule(made, NODES, seed, 2.0, overlapping=overlapping), count))


def test_the_seed_alone_decides_the_faults_and_json_can_hold_them() -> None:
    for overlapping in (False, True):
        first = faults(3, overlapping=overlapping)
        assert first == faults(3, overlapping=overlapping)
        assert first != faults(4, overlapping=overlapping)
        json.dumps([operation.value for _, operation in first])


def test_every_fault_is_stopped_before_the_next_and_all_families_occur() -> None:
    steps = [operation.f for _, operation in faults(1)]
    for start, stop in zip(steps[::2], steps[1::2], strict=True):
        assert stop == start.replace("start-", "stop-")
    assert {step.removeprefix("start-") for step in steps[::2]} == {nemesis.name for nemesis in EVERY}


def test_overlapping_faults_are_in_the_order_of_time_and_two_at_once_on_average() -> None:
    steps = faults(1, 2000, overlapping=True)
    assert all(earlier[0] <= later[0] for earlier, later in pairwise(steps))
    active: set[str] = set()
    weighted = 0.0
    for (now, operation), (then, _) in pairwise(steps):
        name = operation.f.removeprefix("start-").removeprefix("stop-")
        if operation.f.startswith("start-"):
            assert name not in active
            active.add(name)
        else:
            active.remove(name)
        weighted += len(active) * (then - now)
    assert 1 < weighted / steps[-1][0] < 3


def test_an_option_fixes_the_aim() -> None:
    rng = random.Random(1)
    plans = [Kill(Kill.Options(kill="primary")).plan(rng, NODES) for _ in range(20)]
    assert {plan["aim"] for plan in plans} == {"primary"}
    kinds = {Partition(Partition.Options()).plan(rng, NODES)["kind"] for _ in range(300)}
    assert kinds == set(KINDS)
    assert {len(Membership(Membership.Options(leaving=2)).plan(rng, NODES)["leaving"]) for _ in range(9)} == {2}
