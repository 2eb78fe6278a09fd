"""What became of acknowledged transactions: by all orders in which their writes can have taken effect, by what the
final reads have of their appends, and planted losses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkers.fate import FATES
from harness.checkers.lost_transactions import LostTransactions
from harness.history import History, from_events
from harness.operation import NEMESIS, Event, ServedBy
from harness.verdict import Budget
from tests.random_runs import FOREVER, cases
from tests.unit.test_fates import told

Step = list[Any]
KEYS = ("x", "y")


class Did(NamedTuple):
    """A transaction, or another function's write; ``ret`` is ``FOREVER`` for one of unknown outcome."""

    steps: Any
    call: int
    ret: int
    by: str | None = "n1"
    type: str = "ok"
    f: str = "txn"
    key: str | None = None
    term: int | None = None


def history_of(did: Sequence[Did], healed: int = -1) -> History:
    """Each is of a process of its own, its number; of one moment whatever begins comes before what ends."""
    events = []
    for process, one in enumerate(did):
        asked = one.steps
        if one.f == "txn":
            asked = [[f, key, None if f == "r" else value] for f, key, value in one.steps]
        events.append(Event(0, 1000 * one.call, process, "invoke", one.f, one.key, asked))
        if one.ret != FOREVER:
            answer = one.steps if one.type == "ok" else asked
            served = ServedBy(one.by, one.term) if one.by is not None else None
            kind: Any = one.type
            events.append(Event(0, 1000 * one.ret, process, kind, one.f, one.key, answer, served_by=served))
    if healed >= 0:
        events.append(Event(0, 1000 * healed + 500, NEMESIS, "ok", "heal"))
    return from_events(sorted(events, key=lambda event: (event.time, event.type != "invoke")))


class Wrote(NamedTuple):
    """The last write of a transaction to a register: what it left, and what its client had read there before."""

    transaction: int
    value: Any
    found: Any
    did: Did


UNREAD = object()


def writes_of(did: Sequence[Did], key: str) -> list[Wrote]:
    """The writes that may have taken effect."""
    writes = []
    for number, one in enumerate(did):
        own = [step for step in one.steps if step[1] == key] if one.f == "txn" and one.type != "fail" else []
        values = [value for f, _, value in own if f == "w"]
        if values:
            read = one.type == "ok" and own[0][0] == "r"
            whole = one if one.type == "ok" else one._replace(ret=FOREVER)  # it may take effect at any later time
            writes.append(Wrote(number, values[-1], own[0][2] if read else UNREAD, whole))
    return writes


def final_values(did: Sequence[Did], key: str, healed: int) -> list[Any]:
    """What reads found that began after all faults and all changes of the key, of known outcome."""
    changes = [
        one.ret
        for one in did
        if one.f == "txn" and one.type != "info" and one.ret != FOREVER
        if any(f != "r" and of == key for f, of, _ in one.steps)
    ]
    over = max([healed, *changes])
    after = [one for one in did if one.f == "txn" and one.type == "ok" and one.call > over]
    return [value for one in after for f, of, value in one.steps if f == "r" and of == key]


def sources(did: Sequence[Did], key: str, value: Any) -> list[int]:
    """The transactions that may have left a value, if only for a moment: -1 is what was there at first."""
    wrote = [
        number
        for number, one in enumerate(did)
        if one.f == "txn" and one.type != "fail" and any(["w", key, value] == step for step in one.steps)
    ]
    return [-1, *wrote] if value is None else wrote


def orders(did: Sequence[Did], key: str, writes: Sequence[Wrote]) -> Iterator[tuple[int, ...]]:
    """All orders of all choices of some writes, as their places: none follows one that was invoked after it had
    returned, and each follows the one whose value its transaction had read.
    """
    after: list[set[int]] = []
    for one in writes:
        by = sources(did, key, one.found)
        after.append({at for at, other in enumerate(writes) if by == [other.transaction] and other.value == one.found})

    def grow(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        yield order
        for at, one in enumerate(writes):
            too_late = any(one.did.ret < writes[earlier].did.call for earlier in order)
            if at not in order and not too_late and after[at] <= {*order}:
                yield from grow((*order, at))

    return grow(())


def of_write(did: Sequence[Did], key: str, writes: Sequence[Wrote], one: Wrote, found: Sequence[Any]) -> str:
    """What certainly became of an acknowledged write, by all that may have been."""
    if not found:
        return "unknown"
    if one.value in found:
        return "kept" if {*found} == {one.value} else "unknown"
    for other in writes:
        same_side = (other.did.by, other.did.term) == (one.did.by, one.did.term)
        went_on = other.did.type == "ok" and one.did.by is not None and same_side
        if went_on and other.did.call > one.did.ret:
            return "overwritten"
        read = other.found == one.value and other.value != one.value
        if read and sources(did, key, one.value) == [one.transaction]:
            return "overwritten"
    for order in orders(did, key, writes):
        if order and any(writes[at] is one for at in order) and writes[order[-1]].value in found:
            return "unknown"
    return "lost"


def of_parts(parts: Sequence[str]) -> str:
    return next((fate for fate in ("lost", "unknown", "kept", "overwritten") if fate in parts), "unknown")


def contradicts_itself(did: Sequence[Did], key: str, writes: Sequence[Wrote]) -> bool:
    """Whether some writes can have taken effect in no order, as where something was read before it was written."""
    return len(set().union(*orders(did, key, writes))) < len(writes)


@st.composite
def on_registers(draw: st.DrawFn) -> tuple[list[Did], int]:
    """Transactions that write what may be read by others, of unique values as a rule, and reads in the end."""
    moments = st.integers(0, 20)
    keys = draw(st.sampled_from(["x", "xxxy"]))
    values = draw(st.sampled_from([range(1, 20), range(1, 20), range(1, 3)]))
    terms = draw(st.sampled_from([st.none(), st.just(1), st.sampled_from([1, 1, 2, None])]))
    did: list[Did] = []
    written = 0
    for _ in range(draw(st.integers(1, 5))):
        call, ret = sorted((draw(moments), draw(moments)))
        kind = draw(st.sampled_from(["ok", "ok", "ok", "ok", "fail", "info", "open"]))
        steps: list[Step] = []
        for _ in range(draw(st.integers(1, 2))):
            key = draw(st.sampled_from(keys))
            if draw(st.booleans()):
                steps.append(["r", key, draw(st.sampled_from([None, *values[: written + 1]]))])
            if draw(st.sampled_from([True, True, False])):
                steps.append(["w", key, values[written % len(values)]])
                written += 1
        by = draw(st.sampled_from(["n1", "n2", None])) if kind == "ok" else None
        did.append(Did(steps, call, FOREVER if kind == "open" else ret, by, kind, term=draw(terms)))
    if draw(st.integers(0, 9)) == 0:
        did.append(Did([["w", "x", None]], 1, 2))
    if draw(st.integers(0, 9)) == 0:
        kind = draw(st.sampled_from(["ok", "fail", "info"]))
        did.append(Did(1, 2, 3, None, kind, "increment", draw(st.sampled_from(KEYS))))
    for _ in range(draw(st.integers(1, 3))):
        call = draw(st.sampled_from([10, 21, 21, 21]))
        steps = [["r", key, draw(st.sampled_from([None, *values[: written + 1]]))] for key in sorted({*keys})]
        did.append(Did(steps, call, call + 1, draw(st.sampled_from(["n1", "n2"]))))
    return did, draw(st.sampled_from([-1, -1, 3, 22]))


def test_the_fate_of_a_transaction_on_registers_is_what_all_orders_of_its_writes_agree_on() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=cases(1000), deadline=None)
    @given(on_registers())
    def holds(drawn: tuple[list[Did], int]) -> None:
        did, healed = drawn
        said = told(history_of(did, healed))
        meant: dict[int, list[str]] = {number: [] for number in range(len(did))}
        certain = dict.fromkeys(meant, True)
        for key in KEYS:
            writes = writes_of(did, key)
            if contradicts_itself(did, key, writes):
                return
            found = final_values(did, key, healed)
            mixed = any(other.key == key and other.type != "fail" for other in did)
            for one in writes:
                if one.did.type == "ok":
                    fate = "unknown" if mixed else of_write(did, key, writes, one, found)
                    meant[one.transaction].append(fate)
                    # Of a value that several wrote, or nobody, it is not looked at who can have; nor of several values.
                    alone = len({*found}) == 1 and len(sources(did, key, found[0])) == 1
                    last = [write for write in writes if found and write.value == found[0]]
                    if fate == "lost" and not (alone and (found[0] is None or last)):
                        certain[one.transaction] = False
        for number, parts in meant.items():
            assert said[number] == of_parts(parts) or (not certain[number] and said[number] == "unknown")
            seen[of_parts(parts)] += bool(parts) and certain[number]

    holds()
    assert {fate for fate, times in seen.items() if times} == set(FATES), seen


@st.composite
def on_lists(draw: st.DrawFn) -> tuple[list[Did], int]:
    """Transactions that append to lists, of unique elements as a rule, and reads of any part of them."""
    moments = st.integers(0, 20)
    did: list[Did] = []
    elements = draw(st.sampled_from([range(1, 20), range(1, 20), range(1, 3)]))
    written = 0
    for _ in range(draw(st.integers(1, 5))):
        call, ret = sorted((draw(moments), draw(moments)))
        kind = draw(st.sampled_from(["ok", "ok", "ok", "fail", "info", "open"]))
        steps: list[Step] = []
        for _ in range(draw(st.integers(1, 3))):
            append = draw(st.sampled_from([True, True, False]))
            value = elements[written % len(elements)] if append else draw(st.sampled_from([None, [1], [2, 1]]))
            written += append
            steps.append(["append" if append else "r", draw(st.sampled_from(KEYS)), value])
        by = draw(st.sampled_from(["n1", "n2", None])) if kind == "ok" else None
        did.append(Did(steps, call, FOREVER if kind == "open" else ret, by, kind))
    some = range(1, max(2, min(written, len(elements)) + 1))
    for _ in range(draw(st.integers(0, 4))):
        call = draw(st.sampled_from([10, 21, 21, 21]))
        shown = [e for e in some if draw(st.sampled_from([True, True, False]))] + draw(st.sampled_from([[], [], [1]]))
        did.append(Did([["r", draw(st.sampled_from(KEYS)), draw(st.sampled_from([shown, shown, None]))]], call, 23))
    match draw(st.integers(0, 11)):
        case 0:
            did.append(Did([["w", "x", 7]], 1, 2, None, draw(st.sampled_from(["ok", "fail", "info"]))))
        case 1:
            did.append(Did([["r", "x", 7]], 22, 24))
        case 2:
            did.append(Did(1, 2, 3, None, draw(st.sampled_from(["ok", "fail", "info"])), "increment", "x"))
    return did, draw(st.sampled_from([-1, -1, 3, 22]))


def of_append(did: Sequence[Did], key: str, element: int, healed: int) -> str:
    """What the final reads tell of an element that was acknowledged."""
    found = final_values(did, key, healed)
    happened = [one for one in did if one.type != "fail"]
    steps = [step for one in happened if one.f == "txn" for step in one.steps]
    other = any(one.key == key for one in happened) or any((f, of) == ("w", key) for f, of, _ in steps)
    if not found or other or not all(isinstance(value, list | None) for value in found):
        return "unknown"
    has = [element in (value or []) for value in found]
    if not any(has):
        return "lost"
    return "kept" if all(has) and steps.count(["append", key, element]) == 1 else "unknown"


def test_the_fate_of_a_transaction_on_lists_is_what_all_final_reads_agree_on() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=cases(1000), deadline=None)
    @given(on_lists())
    def holds(drawn: tuple[list[Did], int]) -> None:
        did, healed = drawn
        history = history_of(did, healed)
        said = told(history)
        lost = set()
        for number, one in enumerate(did):
            appends = [step for step in one.steps if step[0] == "append"] if one.f == "txn" else []
            writes = [step for step in one.steps if step[0] == "w"] if one.f == "txn" else []
            if one.type != "ok" or not appends:
                assert said[number] == "unknown" or writes
                continue
            parts = [of_append(did, key, element, healed) for _, key, element in appends]
            assert said[number] == of_parts(parts)
            seen[said[number]] += 1
            lost |= {number} if "lost" in parts else set()
        # What is lost is lost to the other checker as well.
        verdict = LostTransactions().check(history, Budget())
        assert verdict.evidence["transactions_lost"] == len(lost)
        assert (verdict.validity == "invalid") == bool(lost)

    holds()
    assert set(seen) == set(FATES) - {"overwritten"}, seen


def one_after_the_other(*transactions: tuple[str | None, list[Step]]) -> list[str]:
    did = [Did(steps, 10 * at, 10 * at + 5, by) for at, (by, steps) in enumerate(transactions)]
    said = told(history_of(did))
    return [said[number] for number in range(len(did))]


@pytest.mark.parametrize(
    ("transactions", "fates"),
    [
        # A transaction is lost where any of what it appended is.
        (
            [("n1", [["append", 1, 1], ["append", 2, 1]]), ("n2", [["r", 1, [1]], ["r", 2, None]])],
            ["lost", "unknown"],
        ),
        ([("n1", [["append", 1, 1], ["append", 2, 1]]), ("n2", [["r", 1, [1]]])], ["unknown", "unknown"]),
        ([("n1", [["append", 1, 1]]), ("n2", [["r", 1, [1]]]), ("n2", [["r", 1, []]])], ["unknown"] * 3),
        # Somebody has read it and replaced it, whoever that was; what that wrote is gone.
        (
            [
                ("n1", [["w", 1, 1]]),
                ("n1", [["r", 1, 1], ["w", 1, 2]]),
                ("n2", [["r", 1, 2], ["w", 1, 3]]),
                ("n2", [["r", 1, 1]]),
            ],
            ["kept", "overwritten", "lost", "unknown"],
        ),
        # Nobody knows whether it was there when it was replaced by somebody who had not seen it.
        ([("n1", [["w", 1, 1]]), ("n2", [["w", 1, 2]]), ("n2", [["r", 1, 2]])], ["unknown", "kept", "unknown"]),
        # One that its own transaction has replaced is no write of its own.
        ([("n1", [["w", 1, 1], ["w", 1, 2]]), ("n2", [["r", 1, 2]])], ["kept", "unknown"]),
        (
            [("n1", [["w", 1, 1]]), ("n1", [["append", 2, 1], ["w", 1, 2]]), ("n2", [["r", 2, [1]], ["r", 1, 2]])],
            ["overwritten", "kept", "unknown"],
        ),
        # What others change beside them, and what is no transaction of these, is left alone.
        ([("n1", [["w", 1, 1]]), ("n1", [["append", 1, 2]]), ("n2", [["r", 1, None]])], ["unknown"] * 3),
    ],
)
def test_what_certainly_became_of_transactions(transactions: Any, fates: list[str]) -> None:
    assert one_after_the_other(*transactions) == fates


def test_what_a_transaction_has_read_came_before_what_it_wrote() -> None:
    first, end = Did([["w", 1, 1]], 0, 5), Did([["r", 1, 1]], 40, 41)
    # It was read before its writer had returned.
    did = [first._replace(ret=20), Did([["r", 1, 1], ["w", 1, 2]], 1, 10, "n2"), end]
    assert told(history_of(did)) == {0: "kept", 1: "lost", 2: "unknown"}
    # Who was invoked early has read what was written late.
    did = [first, Did([["w", 1, 2]], 10, 20, "n2"), Did([["r", 1, 2], ["w", 1, 3]], 1, 30, "n3"), end]
    assert told(history_of(did)) == {0: "kept", 1: "overwritten", 2: "lost", 3: "unknown"}


def test_where_nothing_else_can_have_come_after_it_a_write_is_lost_whatever_is_found() -> None:
    did = [Did([["w", 1, 1]], 0, 5), Did([["w", 1, 2]], 4, 10, "n2"), Did([["w", 1, 3]], 11, 15, "n3")]
    found = [*did, Did([["r", 1, 9]], 40, 41)]
    assert told(history_of(found)) == {0: "unknown", 1: "unknown", 2: "lost", 3: "unknown"}


def test_of_a_key_that_transactions_and_others_change_nothing_is_told() -> None:
    def write(*steps: Step, kind: str = "ok") -> dict[int, str]:
        did = [
            Did([*steps], 0, 1, "n1", kind),
            Did(1, 2, 3, "n1", f="write", key="x"),
            Did(5, 4, 5, "n1", f="read", key="x"),
        ]
        return told(history_of(did))

    assert write(["w", "y", 1])[1] == write(["w", "x", 1], kind="fail")[1] == "lost"
    assert write(["w", "x", 1])[1] == write(["append", "x", 1], kind="info")[1] == "unknown"


@pytest.mark.parametrize("value", ["a text", {"a": 1}, [["add", 1, 2]], 7])
def test_transactions_of_another_kind_have_no_fate(value: Any) -> None:
    events = [Event(0, at, 0, kind, "txn", None, value) for at, kind in enumerate(("invoke", "ok"))]  # type: ignore[arg-type]
    assert told(from_events(events)) == {0: "unknown"}
