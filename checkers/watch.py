"""Change streams: whoever watches is told of every change, once, and everybody in one order.

What etcd promises of watches, and what its robustness tests and Jepsen's etcd test hold it to: ordered, unique,
reliable, atomic, resumable. Since each stream begins at the beginning and leaves nothing out, of any two one is the
beginning of the other; so that each is compared with the longest one only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.checkers.findings import Findings
from harness.checkers.timeline import begins, ends, select
from harness.columns import Ints, hashable
from harness.errors import HistoryError
from harness.history import FAIL, OK, History, Operations
from harness.verdict import Budget, Checker, Verdict
from harness.words import named, show


class Watch(Checker):
    """Judges ``watch``, which is answered with the values that were ``put`` since a position, oldest first.

    It begins at a position, nothing for the beginning, and is answered with ``events`` and the ``next`` position. The
    watch of the same key that begins there goes on with it, rather one of the same process: together they are a stream.
    It returns when it was told of all that was there when it was invoked, so that a stream which does not know of what
    was acknowledged before is wrong; unless it says that there is ``more``. Every value is put once.
    """

    def blind(self, history: History) -> str:
        """Why nothing could have been wrong; empty where something could."""
        operations: Operations = history.operations()
        watched, put = (select(operations, name) for name in ("watch", "put"))
        if not (operations.type[put] != FAIL).any():
            return "nothing was put"
        return "" if (operations.type[watched] == OK).any() else "nobody watched"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations: Operations = history.operations()
        findings = Findings(operations)
        puts = _Puts(operations)
        streams = _streams(operations, puts)
        for stream in streams:
            judge = _Judge(operations, puts, stream, findings)
            judge.phantoms()
            judge.repeated()
            judge.omissions()
            judge.against_time()
        longest = max(streams, key=lambda stream: (stream.whole, len(stream.told)), default=None)
        if longest is not None:
            places = longest.places(len(puts.rows))
            for stream in (stream for stream in streams if stream is not longest):
                pair = _Pair(puts, longest, places, stream, findings)
                pair.orders()
                pair.gaps()
        told = sum(len(stream.told) for stream in streams)
        return findings.verdict("wrong event", {"puts": len(puts.rows), "streams": len(streams), "events": told})


class _Puts:
    """What was put: its values, and when. Moments are places in the history; an unknown outcome ends after all."""

    def __init__(self, operations: Operations) -> None:
        # What failed comes last: a value may have been put anew.
        rows = select(operations, "put")
        self.rows = np.concatenate([rows[operations.type[rows] != FAIL], rows[operations.type[rows] == FAIL]])
        self.failed = operations.type[self.rows] == FAIL
        self.number: dict[Any, int] = {}
        """By value, which of the rows put it."""
        values = operations.history.value
        for number, event in enumerate(operations.invoked[self.rows].tolist()):
            if self.number.setdefault(hashable(values[event]), number) != number and not self.failed[number]:
                line = operations.history.line_of(event)
                text = f"{show(values[event])} is put twice, so that nobody can tell which of the two was watched"
                raise HistoryError(text, line=line)
        self.values = [values[event] for event in operations.invoked[self.rows].tolist()]
        self.call, self.ret = begins(operations, self.rows), ends(operations, self.rows)
        self.acknowledged = operations.type[self.rows] == OK


@dataclass
class _Stream:
    """Watches of one key that go on with one another."""

    key: Any
    whole: bool
    """Whether it is known from its beginning."""
    rows: list[int] = field(default_factory=list)
    events: list[list[Any]] = field(default_factory=list)
    """What each of the watches was told."""
    partial: list[bool] = field(default_factory=list)
    """Whether each of them has said that there is more."""
    inherited: int = 0
    """How many of the first rows are another stream's, which this one goes on with too."""
    told: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Which puts it was told of, by number; -1 for what nobody has put."""
    by: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Which of the rows told it."""
    without: set[int] = field(default_factory=set)
    """Puts that it is known to lack, or to be late with."""

    def take_over(self, other: _Stream, count: int) -> None:
        """Begin with the first watches of another stream."""
        self.whole, self.inherited = other.whole, count
        self.rows, self.events, self.partial = other.rows[:count], other.events[:count], other.partial[:count]

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Forget the other events."""
        self.told, self.by = self.told[which], self.by[which]

    def teller(self, put: int) -> int:
        """The row of the watch that told of a put."""
        return self.rows[int(self.by[np.flatnonzero(self.told == put)[0]])]

    def places(self, puts: int) -> Ints:
        """Where in the stream each of so many puts is; -1 for those it was not told of."""
        place = np.full(puts, -1)
        place[self.told] = np.arange(len(self.told))
        return place


def _streams(operations: Operations, puts: _Puts) -> list[_Stream]:
    rows = select(operations, "watch")
    rows = rows[operations.type[rows] == OK]
    streams: list[_Stream] = []
    ended: dict[Any, tuple[_Stream, int]] = {}
    for row in rows[np.argsort(operations.completed[rows], kind="stable")].tolist():
        key, begin, answer = operations.key_name(row), operations.argument(row), _answer(operations, row)
        who = key, int(operations.process[row])
        origin = ended.get((*who, hashable(begin))) or ended.get((key, hashable(begin))) if begin is not None else None
        if origin is not None and len(origin[0].rows) == origin[1]:
            stream = origin[0]
        else:
            stream = _Stream(key, whole=begin is None)
            if origin is not None:  # another watch has gone on from there as well
                stream.take_over(*origin)
            streams.append(stream)
        stream.rows.append(row)
        stream.events.append(answer["events"])
        stream.partial.append(bool(answer.get("more")))
        after = hashable(answer["next"])
        ended[(*who, after)] = ended[key, after] = stream, len(stream.rows)
    for stream in streams:
        lengths = [len(events) for events in stream.events]
        told = (puts.number.get(hashable(value), -1) for events in stream.events for value in events)
        stream.told = np.fromiter(told, np.int64, sum(lengths))
        stream.by = np.repeat(np.arange(len(lengths)), lengths)
    return streams


def _answer(operations: Operations, row: int) -> dict[str, Any]:
    answer = operations.result(row)
    if not isinstance(answer, dict) or not isinstance(answer.get("events"), list) or "next" not in answer:
        line = operations.history.line_of(int(operations.completed[row]))
        raise HistoryError(f'a watch is answered with "events", a list, and "next", not {show(answer)}', line=line)
    return answer


class _Judge:
    """One stream, held against what was put. What is wrong by itself is not judged any further."""

    def __init__(self, operations: Operations, puts: _Puts, stream: _Stream, findings: Findings) -> None:
        self._puts, self._stream, self._findings = puts, stream, findings
        self._title = _title(stream)
        self._begun = begins(operations, np.array(stream.rows))
        self._over = ends(operations, np.array(stream.rows))

    def phantoms(self) -> None:
        """What nobody has put, what certainly was not put, and what was put only after it was told."""
        stream, puts = self._stream, self._puts
        wrong = stream.told < 0
        if len(puts.rows):
            wrong = wrong | puts.failed[stream.told] | (puts.call[stream.told] > self._over[stream.by])
        own = self._own(wrong)
        values = [value for events in stream.events for value in events] if own else []
        for at in own:
            if self._findings.enough("phantom"):
                continue
            row, put = stream.rows[stream.by[at]], int(stream.told[at])
            why = "which nobody has put" if put < 0 else f"although {self._did(put)}"
            if put >= 0:
                why += ", which failed" if puts.failed[put] else ", and only then"
            text = f"{self._title} was told of {show(values[at])}, {why}: {self._findings.did(row)}."
            self._findings.add("phantom", text, [row] if put < 0 else [row, int(puts.rows[put])])
        stream.keep(~wrong)

    def repeated(self) -> None:
        """What one watch was told twice, and what a later one was told again: the stream has gone back."""
        stream = self._stream
        _, first, which = np.unique(stream.told, return_index=True, return_inverse=True)
        again = first[which] != np.arange(len(stream.told))
        for at in self._own(again):
            before, now = int(stream.by[first[which[at]]]), int(stream.by[at])
            kind, how = ("duplicated", "twice") if before == now else ("replayed", "once more")
            if self._findings.enough(kind):
                continue
            rows = [stream.rows[before], stream.rows[now]]
            put = int(stream.told[at])
            text = f"{self._title} was told of {self._value(put)} {how}: {self._findings.did(rows[1])}."
            self._findings.add(kind, text, [*rows, int(self._puts.rows[put])])
        stream.keep(~again)

    def omissions(self) -> None:
        """What the stream was not told of in time, or never."""
        puts, never = self._puts, len(self._stream.rows)
        by = np.full(len(puts.rows), never)
        """By which of the watches each put was told; past the last one for those that were not."""
        by[self._stream.told] = self._stream.by
        due = self._due()
        self._missing(due, by)
        self._passed_by(due & (by == never))

    def _missing(self, wanted: NDArray[np.bool_], by: Ints) -> None:
        """What was acknowledged before a watch began, and was told by none until that one, or by a later one only."""
        stream, puts = self._stream, self._puts
        complete = np.flatnonzero(~np.array(stream.partial))
        due = np.searchsorted(self._begun[complete], puts.ret)
        due = np.append(complete, len(stream.rows))[due]
        for put in np.flatnonzero(wanted & (due < len(stream.rows)) & (by > due)).tolist():
            stream.without.add(put)
            kind = "missing" if by[put] == len(stream.rows) else "late"
            if due[put] < stream.inherited or self._findings.enough(kind):
                continue
            rows = [int(puts.rows[put]), stream.rows[due[put]], *([stream.rows[by[put]]] if kind == "late" else [])]
            when = "never" if kind == "missing" else "only later"
            text = (
                f"{self._title} was {when} told of {self._value(put)}: {self._did(put)}, and was acknowledged before "
                f"{self._findings.did(rows[1])}, which returns all that is there."
            )
            self._findings.add(kind, text, rows)

    def _passed_by(self, never: NDArray[np.bool_]) -> None:
        """What was never told, although what was put only when it had been acknowledged was."""
        stream, puts = self._stream, self._puts
        call = puts.call[stream.told]
        at = np.searchsorted(np.maximum.accumulate(call), puts.ret)
        for put in np.flatnonzero(never & (at < len(call))).tolist():
            if put in stream.without:
                continue
            stream.without.add(put)
            if stream.by[at[put]] < stream.inherited or self._findings.enough("gap"):
                continue
            later, row = int(stream.told[at[put]]), stream.rows[stream.by[at[put]]]
            text = (
                f"{self._title} has a gap: it was told of {self._value(later)} and not of {self._value(put)}, although "
                f"{self._did(put)}, and was acknowledged before {self._did(later)}."
            )
            self._findings.add("gap", text, [row, int(puts.rows[put]), int(puts.rows[later])])

    def _due(self) -> NDArray[np.bool_]:
        """Which puts the stream must know of sometime: of one without its beginning those after its first event."""
        stream, puts = self._stream, self._puts
        due: NDArray[np.bool_] = puts.acknowledged & stream.whole
        if not stream.whole and len(stream.told) and puts.acknowledged[stream.told[0]]:
            due = puts.acknowledged & (puts.call > puts.ret[stream.told[0]])
        return due

    def _own(self, which: NDArray[np.bool_]) -> list[int]:
        """Those of its events that were told by watches of its own."""
        own: list[int] = np.flatnonzero(which & (self._stream.by >= self._stream.inherited)).tolist()
        return own

    def against_time(self) -> None:
        """What was told after something that was put only when it had been acknowledged."""
        stream, puts = self._stream, self._puts
        call, ret = puts.call[stream.told], np.where(puts.acknowledged, puts.ret, np.iinfo(np.int64).max)[stream.told]
        latest = np.maximum.accumulate(call)
        wrong = np.zeros(len(ret), dtype=bool)
        wrong[1:] = ret[1:] < latest[:-1]
        for at in self._own(wrong):
            put = int(stream.told[at])
            if put in stream.without or self._findings.enough("reordered"):
                continue
            later = int(stream.told[np.flatnonzero(call[:at] > ret[at])[0]])
            text = (
                f"{self._title} was told of {self._value(later)} before {self._value(put)}, although {self._did(put)}, "
                f"and was acknowledged before {self._did(later)}."
            )
            told = [stream.teller(number) for number in (later, put)]
            self._findings.add("reordered", text, [int(puts.rows[put]), int(puts.rows[later]), *told])

    def _value(self, put: int) -> str:
        return show(self._puts.values[put])

    def _did(self, put: int) -> str:
        return self._findings.did(int(self._puts.rows[put]))


class _Pair:
    """A stream and the longest one, held against each other."""

    def __init__(self, puts: _Puts, longest: _Stream, places: Ints, stream: _Stream, findings: Findings) -> None:
        self._puts, self._longest, self._stream, self._findings = puts, longest, stream, findings
        self._in_longest, self._in_stream = places, stream.places(len(puts.rows))
        self._both = stream.told[self._places(longest, stream.told) >= 0]
        """What both were told of, as the stream was."""

    def _places(self, stream: _Stream, puts: Ints) -> Ints:
        """Where in a stream some puts are; -1 for those it was not told of."""
        places: Ints = (self._in_longest if stream is self._longest else self._in_stream)[puts]
        return places

    def orders(self) -> None:
        """What the two were told of in different orders."""
        order = self._places(self._longest, self._both)
        latest = np.maximum.accumulate(order)
        for at in (1 + np.flatnonzero(order[1:] < latest[:-1])).tolist():
            if self._findings.enough("reordered"):
                continue
            pair = [int(self._longest.told[latest[at - 1]]), int(self._both[at])]
            first, second = (show(self._puts.values[put]) for put in pair)
            text = (
                f"{_title(self._stream)} was told of {first} before {second}, {_title(self._longest, small=True)} of "
                f"{second} before {first}: there is no one order."
            )
            told = [stream.teller(put) for stream in (self._stream, self._longest) for put in pair]
            self._findings.add("reordered", text, [*told, *(int(self._puts.rows[put]) for put in pair)])

    def gaps(self) -> None:
        """What one of them was told of, and the other one was not, although it was told of what came later."""
        after = []
        for one, other in ((self._longest, self._stream), (self._stream, self._longest)):
            shared = self._places(one, self._both)
            start = 0 if other.whole or not len(shared) else int(shared.min())
            end = int(shared.max()) + 1 if len(shared) else start
            for put in self._lacking(other, one.told[start:end]).tolist():
                self._gap(one, other, put)
            after.append(self._lacking(other, one.told[end:]))
        together = len(self._both) > 0 or (self._stream.whole and self._longest.whole)
        if together and all(map(len, after)):
            # Each goes on with what the other was not told of: one of the two has passed by something.
            self._gap(self._longest, self._stream, int(after[0][0]), but=int(after[1][0]))

    def _lacking(self, stream: _Stream, puts: Ints) -> Ints:
        """Those of some puts that a stream was not told of, and of which that is not known yet."""
        absent = puts[self._places(stream, puts) < 0]
        return absent[~np.isin(absent, np.fromiter(stream.without, np.int64, len(stream.without)))]

    def _gap(self, one: _Stream, other: _Stream, put: int, but: int | None = None) -> None:
        if self._findings.enough("gap"):
            return
        value, row = show(self._puts.values[put]), one.teller(put)
        if but is None:
            who = f"{_title(other)} has a gap: it was not told of {value}, but of what came later"
            rows = [row, other.rows[-1], int(self._puts.rows[put])]
        else:
            there = show(self._puts.values[but])
            who = (
                f"{_title(other)} or {_title(one, small=True)} has a gap: the one was told of {there} and not of "
                f"{value}, the other of {value} and not of {there}"
            )
            rows = [row, other.teller(but), int(self._puts.rows[put]), int(self._puts.rows[but])]
        text = f"{who}. Of {value} {_title(one, small=True)} was told when {self._findings.did(row)}."
        self._findings.add("gap", text, rows)


def _title(stream: _Stream, *, small: bool = False) -> str:
    name = f"stream {named(stream.key)}" if stream.key is not None else "the stream"
    return name if small else name[0].upper() + name[1:]
