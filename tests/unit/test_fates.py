"""What became of acknowledged writes, against all orders in which they can have taken effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkers.fate import FATES
from harness.checkers.fates import fates
from harness.checkers.lists import Lists
from harness.history import History, from_events
from harness.operation import NEMESIS, Event, ServedBy
from tests.random_runs import FOREVER, cases
from tests.unit import test_branches as branches

NODES = ("n1", "n2", "n3")


class Did(NamedTuple):
    """One operation; ``ret`` is ``FOREVER`` for one of unknown outcome. ``by`` asked, or acknowledged in a ``term``."""

    f: str
    key: str
    value: Any
    call: int
    ret: int
    by: str | None = None
    type: str = "ok"
    term: int | None = None


def history_of(operations: Sequence[Did], healed: int | None = None) -> History:
    """Each operation is of a process of its own, its number; of one moment whatever begins comes before what ends."""
    events = []
    for process, one in enumerate(operations):
        reads = one.f.startswith(("read", "members"))
        node = one.by if reads else None
        events.append(Event(0, 1000 * one.call, process, "invoke", one.f, one.key, None if reads else one.value, node))
        if one.ret != FOREVER:
            served = ServedBy(one.by, one.term) if one.by is not None and not reads else None
            kind: Any = one.type
            events.append(Event(0, 1000 * one.ret, process, kind, one.f, one.key, one.value, node, served_by=served))
    if healed is not None:
        events.append(Event(0, 1000 * healed + 500, NEMESIS, "ok", "heal"))
    return from_events(sorted(events, key=lambda event: (event.time, event.type != "invoke")))


def told(history: History) -> dict[int, str]:
    """The fate of each operation, by its process."""
    operations = history.operations()
    codes = fates(operations, Lists(operations)).tolist()
    return {int(operations.process[row]): FATES[code] for row, code in enumerate(codes)}


def orders(some: Sequence[Did]) -> Iterator[tuple[int, ...]]:
    """All orders of all choices of some operations, as their places: none follows one that was invoked after it had
    returned. Which of them took effect nobody knows: in a split brain even one that was acknowledged may have not.
    """

    def grow(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        yield order
        for at in range(len(some)):
            if at not in order and not any(some[at].ret < some[earlier].call for earlier in order):
                yield from grow((*order, at))

    return grow(())


def left(one: Did) -> Any:
    """What a write leaves in its register."""
    return {"write": one.value, "cas": one.value[1] if one.f == "cas" else None, "delete": None}[one.f]


@st.composite
def others(draw: st.DrawFn, f: str) -> list[Did]:
    """Now and then what another function does, of which nobody knows what it leaves behind."""
    kind = draw(st.sampled_from(["ok", "fail", "info"]))
    return draw(st.sampled_from([[], [], [], [Did(f, draw(st.sampled_from("xy")), 1, 2, 3, None, kind)]]))


def mixed(operations: Sequence[Did], key: str, f: str) -> bool:
    """Whether it may have done that to a key."""
    return any((other.f, other.key) == (f, key) and other.type != "fail" for other in operations)


@st.composite
def registers(draw: st.DrawFn) -> tuple[list[Did], int | None]:
    """Changes of registers, of unique values or not, and reads of them at any time, of anything."""
    operations = draw(others("increment"))
    moments, values = st.integers(0, 20), draw(st.sampled_from([range(1, 9), range(1, 3)]))
    late = draw(st.integers(0, 24))
    terms = draw(st.sampled_from([st.none(), st.just(1), st.sampled_from([1, 1, 2, None])]))
    for number in range(draw(st.integers(1, 5))):
        call, ret = sorted((draw(moments), draw(moments)))
        # Where nothing is ever written there is no register.
        f = draw(st.sampled_from(["write", "write", "write", "cas", "delete"])) if number else "write"
        new = values[number] if len(values) > 2 else draw(st.sampled_from(values))
        value = {"write": new, "cas": [draw(st.sampled_from(values)), new], "delete": None}[f]
        kind = draw(st.sampled_from(["ok", "ok", "ok", "ok", "fail", "info", "open"]))
        by = draw(st.sampled_from([*NODES[:2], None])) if kind == "ok" else None
        ret = FOREVER if kind == "open" else ret
        operations.append(Did(f, draw(st.sampled_from("xxxy")), value, call, ret, by, kind, draw(terms)))
    for _ in range(draw(st.integers(1, 3))):
        call = draw(st.sampled_from([late, 21]))
        f = draw(st.sampled_from(["read", "read-local"]))
        found = draw(st.sampled_from([None, *values[:6]]))
        operations.append(Did(f, draw(st.sampled_from("xxxy")), found, call, call + 1, draw(st.sampled_from(NODES))))
    return operations, draw(st.sampled_from([None, None, 3, 22]))


def of_register(one: Did, writes: Sequence[Did], found: set[Any]) -> str:
    """What certainly became of an acknowledged write, by all that may have been."""
    if not found:
        return "unknown"
    if left(one) in found:
        return "kept" if len(found) == 1 else "unknown"  # where nodes differ, nobody knows which of them goes on
    side = [other for other in writes if other.type == "ok" and (other.by, other.term) == (one.by, one.term)]
    whole = [order for order in orders(side) if len(order) == len(side)]
    if one.by is not None and not any(side[order[-1]] is one for order in whole):
        return "overwritten"  # its own side went on with another one, in whichever order it did them
    with_it = [order for order in orders(writes) if any(writes[at] is one for at in order)]
    return "unknown" if any(left(writes[order[-1]]) in found for order in with_it) else "lost"


def test_the_fate_of_a_register_is_what_all_orders_of_its_writes_agree_on() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=cases(500), deadline=None)
    @given(registers())
    def holds(drawn: tuple[list[Did], int | None]) -> None:
        operations, healed = drawn
        said = told(history_of(operations, healed))
        for process, one in enumerate(operations):
            writes = [
                other
                if other.type == "ok"
                else other._replace(ret=FOREVER)  # nobody knows when it takes effect, if it does
                for other in operations
                if other.f in ("write", "cas", "delete") and other.key == one.key and other.type != "fail"
            ]
            changes = one.f in ("write", "cas", "delete")
            if one.type != "ok" or not changes or mixed(operations, one.key, "increment"):
                assert said[process] == "unknown"
                continue
            over = max(other.ret for other in writes if other.ret != FOREVER)
            over = max(over, -1 if healed is None else healed)
            finals = [other for other in operations if other.f.startswith("read") and other.key == one.key]
            found = {other.value for other in finals if other.call > over}
            meant = of_register(one, writes, found)
            seen[meant] += 1
            # Nothing is there at first. Of a value that several wrote, or nobody, it is not looked at who can have.
            times = Counter([None, *map(left, writes)])
            if meant == "lost" and any(times[value] != 1 for value in found):
                assert said[process] in ("lost", "unknown")
            else:
                assert said[process] == meant

    holds()
    assert set(seen) == set(FATES), seen


@st.composite
def sets(draw: st.DrawFn) -> list[Did]:
    """Elements are added and removed, and in the end, when all that is known of is over, nodes tell what they have."""
    operations = draw(others("write"))
    moments = st.integers(0, 12)
    for _ in range(draw(st.integers(1, 5))):
        call, ret = sorted((draw(moments), draw(moments)))
        f = draw(st.sampled_from(["add", "add", "add", "remove"]))
        kind = draw(st.sampled_from(["ok", "ok", "ok", "fail", "info", "open"]))
        by = draw(st.sampled_from([*NODES, None])) if kind == "ok" else None
        ret = FOREVER if kind == "open" else ret
        operations.append(Did(f, draw(st.sampled_from("xxxy")), draw(st.integers(1, 3)), call, ret, by, kind))
    for _ in range(draw(st.integers(0, 4))):
        call = draw(st.integers(0, 20))
        shown = sorted(draw(st.sets(st.integers(1, 4))))
        operations.append(
            Did("members-local", draw(st.sampled_from("xxxy")), shown, call, call + 1, draw(st.sampled_from(NODES)))
        )
    return operations


def of_element(one: Did, changes: Sequence[Did], finals: Sequence[Did]) -> str:
    """What certainly became of an element that was added, by all that may have been."""
    there = [one.value in read.value for read in finals]
    if not there or (any(there) and not all(there)):
        return "unknown"
    if all(there):
        return "kept"
    for order in orders(changes):
        held = False
        for at in order:
            held = changes[at].f == "add"
        if not held and any(changes[at] is one for at in order):
            return "unknown"  # it was there, and somebody has removed it
    return "lost"


def test_the_fate_of_an_element_of_a_set_is_what_all_orders_of_its_changes_agree_on() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=cases(500), deadline=None)
    @given(sets())
    def holds(operations: list[Did]) -> None:
        said = told(history_of(operations))
        for process, one in enumerate(operations):
            if one.type != "ok" or one.f != "add" or mixed(operations, one.key, "write"):
                assert said[process] == "unknown"
                continue
            changes = [
                other if other.type == "ok" else other._replace(ret=FOREVER)
                for other in operations
                if (other.key, other.value) == (one.key, one.value) and other.type != "fail"
            ]
            mine = [other for other in operations if other.key == one.key]
            over = max(other.ret for other in mine if other.f != "members-local" and other.type == "ok")
            reads = [other for other in mine if other.f == "members-local"]
            finals = {read.by: read for read in sorted(reads, key=lambda read: read.call) if read.call > over}
            meant = of_element(one, changes, list(finals.values()))
            seen[meant] += 1
            # Of an element that anybody tried to remove nothing is told.
            if any(other.f == "remove" for other in changes):
                assert said[process] == "unknown"
            else:
                assert said[process] == meant

    holds()
    assert set(seen) == set(FATES) - {"overwritten"}, seen


def test_the_fate_of_an_append_is_told_by_the_final_reads() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=cases(300), deadline=None)
    @given(branches.anything())
    def holds(operations: list[branches.Did]) -> None:
        said = told(branches.history_of(operations))
        plain = [one._replace(value=branches.as_tuples(one.value)) for one in operations]
        for process, one in enumerate(plain):
            if one.f != "append" or one.type != "ok":
                assert said[process] == "unknown"
                continue
            mine = [other for other in plain if other.key == one.key]
            over = max(other.ret or 0 for other in mine if other.f == "append" and other.type != "info")
            reads = [other for other in mine if other.f == "read-list" and other.type == "ok"]
            by = [one.value in (other.value or ()) for other in reads if other.call > over]
            # Where nodes differ in the end, nobody knows which of them goes on.
            meant = "unknown" if not by or any(by) != all(by) else "kept" if all(by) else "lost"
            assert said[process] == meant
            seen[meant] += 1

    holds()
    assert set(seen) == set(FATES) - {"overwritten"}, seen
