"""What the workloads of transactions invoke: fresh values of few keys, and the same ones for one seed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from harness.errors import UsageError
from harness.generator import Context, Generator, Pending
from harness.operation import Event, Operation
from harness.workload import Workload
from harness.workloads.atm import AtmWorkload
from harness.workloads.list_append import ListAppend
from harness.workloads.long_fork import LongFork
from harness.workloads.rmw import ReadModifyWrite
from harness.workloads.rw_register import RwRegister
from harness.workloads.write_skew import WriteSkew

WORKLOADS: list[type[Workload]] = [ListAppend, RwRegister, ReadModifyWrite, WriteSkew, LongFork]
Steps = list[list[Any]]


def made(kind: type[Workload], **options: Any) -> Workload:
    return kind(kind.Options(**options))


def drawn(generator: Generator) -> Iterator[Operation]:
    """All that it invokes on one process, which is always free."""
    while (found := generator.next(Context(0, [0], [0]))) is not None:
        step, generator = found
        assert not isinstance(step, Pending)
        yield step.operation


def transactions(workload: Workload, count: int = 2000, seed: int = 1) -> list[Steps]:
    operations = list(islice(drawn(workload.generator(random.Random(seed))), count))
    assert {(operation.f, operation.key) for operation in operations} == {("txn", None)}
    return [operation.value for operation in operations]


def writes(steps: Steps) -> list[tuple[Any, Any]]:
    return [(key, value) for function, key, value in steps if function != "r"]


@pytest.mark.parametrize("kind", WORKLOADS)
def test_the_seed_alone_decides(kind: type[Workload]) -> None:
    workload = made(kind)
    assert transactions(workload) == transactions(workload) == transactions(made(kind))
    assert transactions(workload) != transactions(workload, seed=2)


@pytest.mark.parametrize("kind", WORKLOADS)
def test_no_two_writes_of_a_key_are_the_same_and_reads_ask_only(kind: type[Workload]) -> None:
    found = [step for steps in transactions(made(kind)) for step in steps]
    written = [(key, value) for function, key, value in found if function != "r"]
    assert len(written) == len(set(written)) > 100
    assert all(type(key) is int and type(value) is int and min(key, value) >= 1 for key, value in written)
    assert {value for function, _, value in found if function == "r"} == {None}
    assert {function for function, _, _ in found} == {"r", "append" if kind is ListAppend else "w"}


@pytest.mark.parametrize("kind", [ListAppend, RwRegister])
def test_lengths_shares_and_lifetimes_are_as_the_options_say(kind: type[Workload]) -> None:
    found = transactions(made(kind, keys=3, writes=20, shortest=2, longest=5, read=0.25))
    assert {len(steps) for steps in found} == {2, 3, 4, 5}
    reads = sum(function == "r" for steps in found for function, _, _ in steps)
    assert reads / sum(map(len, found)) == pytest.approx(0.25, abs=0.02)
    values = Counter(key for steps in found for key, _ in writes(steps))
    assert set(values) == set(range(1, len(values) + 1))
    assert sorted(values.values())[3:] == [20] * (len(values) - 3)
    # At most three keys are in use at a time.
    last: dict[int, int] = {}
    first: dict[int, int] = {}
    for at, steps in enumerate(found):
        for key, _ in writes(steps):
            first.setdefault(key, at)
            last[key] = at
    for at in range(0, len(found), 50):
        assert sum(first[key] < at <= last[key] for key in values) <= 3


def test_whoever_modifies_a_register_has_read_it() -> None:
    for steps in transactions(made(ReadModifyWrite, keys=4, longest=4, writes=10)):
        read = [key for function, key, _ in steps if function == "r"]
        assert 1 <= len(read) == len(set(read)) <= 4
        changed = [key for key, _ in writes(steps)]
        assert set(changed) <= set(read)
        assert len(changed) == len(set(changed))


def test_both_of_a_pair_are_read_and_one_is_written() -> None:
    found = transactions(made(WriteSkew, pairs=2, writes=10, read=0.2))
    per_pair: Counter[int] = Counter()
    for steps in found:
        read = sorted(key for function, key, _ in steps if function == "r")
        assert read[0] % 2 == 1
        assert read[1] == read[0] + 1
        changed = writes(steps)
        assert len(changed) <= 1
        assert {key for key, _ in changed} <= set(read)
        per_pair[read[0]] += len(changed)
    assert sorted(per_pair.values())[2:] == [10] * (len(per_pair) - 2)
    assert sum(not writes(steps) for steps in found) / len(found) == pytest.approx(0.2, abs=0.03)


def test_registers_of_a_group_are_written_once_and_read_together_until_a_while_after() -> None:
    found = transactions(made(LongFork, groups=2, keys=3, read=0.7, after=4))
    written: set[int] = set()
    reads_since: defaultdict[int, int] = defaultdict(int)
    for steps in found:
        group = {(key - 1) // 3 for _, key, _ in steps}
        assert len(group) == 1
        members = {3 * group.copy().pop() + at for at in (1, 2, 3)}
        if steps[0][0] == "w":
            assert len(steps) == 1
            assert steps[0][1] not in written
            written.add(steps[0][1])
        else:
            assert {key for _, key, _ in steps} == members
            reads_since[min(members)] += members <= written
    assert max(reads_since.values()) == 4


def test_in_the_end_every_list_is_read_until_somebody_could() -> None:
    workload = made(ListAppend, keys=2, writes=5)
    keys = {key for steps in transactions(workload, 200) for key, _ in writes(steps)}
    final = workload.final()
    assert final is not None
    asked: list[list[int]] = []
    now = 0
    while (found := final.next(Context(now, [0], [0]))) is not None and len(asked) < 1000:
        step, final = found
        if isinstance(step, Pending):
            assert (now, step.until) == (0, 1_000_000_000)  # a replica has a second to hear of the last appends
            now = 1_000_000_000
            continue
        steps = step.operation.value
        asked.append([key for _, key, _ in steps])
        # Whoever is asked for the first key has no answer for a while.
        kind = "fail" if 1 in asked[-1] and len(asked) < 100 else "ok"
        final = final.update(Event(0, 0, 0, kind, "txn", None, [[f, key, [1]] for f, key, _ in steps]))  # type: ignore[arg-type]
    assert {key for some in asked for key in some} == keys
    assert max(map(len, asked)) == 8
    counts = Counter(key for some in asked for key in some)
    assert counts[max(keys)] == 2
    assert counts[1] > 2


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (ListAppend, {"shortest": 3, "longest": 2}, "shortest"),
        (RwRegister, {"shortest": 5}, "shortest"),
        (ReadModifyWrite, {"keys": 2}, "keys"),
    ],
)
def test_options_that_do_not_fit_are_refused(kind: type[Workload], options: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        made(kind, **options)


@pytest.mark.parametrize("kind", WORKLOADS)
def test_a_history_is_judged_as_a_whole_and_by_its_transactions(kind: type[Workload]) -> None:
    lost = {"lost"} if kind is ListAppend else set()
    assert set(made(kind, model="snapshot-isolation").checkers()) == {"transactions", "split-brain"} | lost


@pytest.mark.parametrize(
    ("options", "possible"),
    [
        ({}, True),
        ({"amount": 1000}, True),
        ({"amount": 501}, True),
        ({"amount": 400, "machines": 3}, True),
        ({"amount": 400}, False),  # both may be paid
        ({"amount": 500}, False),
        ({"amount": 2000}, False),  # neither may be
        ({"balance": 0}, False),
    ],
)
def test_cash_machines_can_pay_too_much_or_are_refused(options: dict[str, int], possible: bool) -> None:
    if possible:
        made(AtmWorkload, **options)
        return
    with pytest.raises(UsageError, match="can show no double payment"):
        made(AtmWorkload, **options)
