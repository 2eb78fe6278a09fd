"""The history in memory: columns of events, and each invocation paired with its completion.

``History`` holds the events as columns, ``Operations`` pairs each invocation with its completion. How they come from a
file, and into one, is in ``harness.recording``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.columns import NOTHING, OTHER, SINGLE, Ints, codes, numbers, whole_numbers
from harness.errors import HistoryError
from harness.operation import MONITOR, NEMESIS, Event, EventType, ServedBy
from harness.packed import PACKED, TRANSACTION, Packer, Values

T = TypeVar("T")

INVOKE: Final = 0
OK: Final = 1
FAIL: Final = 2
INFO: Final = 3
TYPES: Final[tuple[EventType, ...]] = ("invoke", "ok", "fail", "info")
TYPE_CODES: Final = {name: code for code, name in enumerate(TYPES)}

NEMESIS_PROCESS: Final = -1
MONITOR_PROCESS: Final = -2
SPECIAL_PROCESSES: Final = {NEMESIS: NEMESIS_PROCESS, MONITOR: MONITOR_PROCESS}

NEVER: Final = np.iinfo(np.int64).max
"""The return time of an operation that crashed: it may take effect at any later time."""


@dataclass(frozen=True)
class Operations:
    """The clients' operations, one row each, in the order of their invocations.

    ``call`` and ``ret`` are nanoseconds; ``ret`` is ``NEVER`` for an operation without a known outcome. Where the times
    that were recorded are equal or step back, each is later than the one before by as little as can be.
    ``type`` is ``OK``, ``FAIL`` or ``INFO``. ``invoked`` and ``completed`` are rows of the history
    (``completed`` is -1 where the history ends before the completion).
    """

    history: History
    invoked: Ints
    completed: Ints
    type: NDArray[np.int8]
    call: Ints
    ret: Ints

    def __len__(self) -> int:
        return len(self.invoked)

    @cached_property
    def process(self) -> Ints:
        """The process of each operation."""
        return self.history.process[self.invoked]

    @cached_property
    def f(self) -> NDArray[np.int32]:
        """The function of each operation, a code into ``history.functions``."""
        return self.history.f[self.invoked]

    @cached_property
    def key(self) -> NDArray[np.int32]:
        """The key of each operation, a code into ``history.keys``."""
        return self.history.key[self.invoked]

    @cached_property
    def server(self) -> NDArray[np.int32]:
        """Who executed each operation, a code into ``history.nodes``: 0 where nobody knows."""
        return np.where(self.completed >= 0, self.history.server[self.completed], 0).astype(np.int32)

    @cached_property
    def term(self) -> Ints:
        """The term of the node that executed each operation; ``NOTHING`` where nobody knows."""
        return np.where(self.completed >= 0, self.history.term[self.completed], NOTHING)

    def argument(self, row: int) -> Any:
        """What the operation was invoked with."""
        return self.history.value[self.invoked[row]]

    def result(self, row: int) -> Any:
        """What the operation completed with; None where it never completed."""
        completed = self.completed[row]
        return None if completed < 0 else self.history.value[completed]

    def done(self, row: int) -> Any:
        """What the operation did, for people: as ``told``, or the answer if it had no argument or is a transaction."""
        told = self.history.value[self.told[row]]
        answer = self.result(row) if self.type[row] == OK else None
        return answer if told is None or (self.name(row) == "txn" and isinstance(answer, list)) else told

    @cached_property
    def told(self) -> Ints:
        """The row of the history that holds what each operation was to do, and did: of its invocation.

        In histories that are ``restated`` of its completion, if that was ok and says: one that names another value than
        the invocation did corrects it, as in Knossos. One of another shape ("OK", true) is an answer, and says nothing.
        """
        if not self.history.restated:
            return self.invoked
        done = np.flatnonzero(self.type == OK)
        asked, answered = self.invoked[done], self.completed[done]
        number, second = self.history.number, self.history.second
        value = self.history.value
        silent = (number[asked] == NOTHING) & (second[asked] == SINGLE)
        differs = (number[asked] != number[answered]) | (second[asked] != second[answered])
        unclear = ~silent & (differs | (number[asked] == OTHER) | (second[asked] == OTHER))
        corrected = silent
        for at in np.flatnonzero(unclear).tolist():
            corrected[at] = _is_alike(value[asked[at]], value[answered[at]])
        told = self.invoked.copy()
        told[done[corrected]] = answered[corrected]
        return told

    def error(self, row: int) -> str | None:
        """What the client said of a completion that is not ``ok``."""
        return self.history.error.get(int(self.completed[row]))

    def name(self, row: int) -> str:
        """The function of one operation, by name."""
        name: str = self.history.functions[self.history.f[self.invoked[row]]]
        return name

    def key_name(self, row: int) -> Any:
        """The key of one operation as the workload knows it."""
        return self.history.keys[self.history.key[self.invoked[row]]]

    def server_name(self, row: int) -> str | None:
        """The node that executed the operation, where that is known."""
        completed = self.completed[row]
        return None if completed < 0 else self.history.nodes[self.history.server[completed]]

    def node_name(self, row: int) -> str | None:
        """The node that the operation was sent to."""
        node: str | None = self.history.nodes[self.history.node[self.invoked[row]]]
        return node


def _is_alike(asked: Any, answered: Any) -> bool:
    """Whether two values are of one shape: both numbers, both text, both lists, ..."""
    if isinstance(asked, int | float) and isinstance(answered, int | float):
        return isinstance(asked, bool) == isinstance(answered, bool)
    return type(asked) is type(answered)


@dataclass(repr=False)
class History:
    """All events of a run as columns of equal length; ``f``, ``key`` and ``node`` are codes into their lists.

    Events happened in the order of the rows, whatever their times say.

    ``server`` is the node that executed what completes, a code into ``nodes``, and ``term`` its term, or ``NOTHING``.
    ``number`` is the value where that is a whole number or nothing, ``number`` and ``second`` are the two of a pair.
    """

    time: Ints
    process: Ints
    type: NDArray[np.int8]
    f: NDArray[np.int32]
    key: NDArray[np.int32]
    node: NDArray[np.int32]
    server: NDArray[np.int32]
    term: Ints
    number: Ints
    second: Ints
    value: Sequence[Any]
    functions: list[str]
    keys: list[Any]
    nodes: list[str | None]
    error: dict[int, str] = field(default_factory=dict)
    line: Ints | None = None
    """The line of the file that each event stood on, where that is not simply row + 1."""
    index: Ints | None = None
    """The file's own numbers of the events, where it has some that are not simply the rows."""
    torn: bool = False
    """The file ended in the middle of a line, as after a kill of the harness: that line is left out."""
    restated: bool = False
    """A completion says what was done, as in Jepsen's and Knossos' histories; else what the client was answered."""
    timeless: bool = False
    """Nothing is known of when anything happened, and each process was one after the other, as in AWDIT's files."""
    notes: list[str] = field(default_factory=list)
    """What whoever reads a verdict should know of how the history was read, a sentence each."""

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        return f"<History of {len(self):,} events>"

    @property
    def seconds(self) -> float:
        """When its last event happened."""
        return float(self.time[-1]) / 1e9 if len(self) else 0.0

    def events(self, rows: Iterable[int] | None = None) -> Iterator[Event]:
        """The events one by one, as they would be written: all, or those of these rows."""
        names = {code: name for name, code in SPECIAL_PROCESSES.items()}
        for row in range(len(self)) if rows is None else rows:
            process = int(self.process[row])
            yield Event(
                index=self.index_of(row),
                time=int(self.time[row]),
                process=names.get(process, process),
                type=TYPES[self.type[row]],
                f=self.functions[self.f[row]],
                key=self.keys[self.key[row]],
                value=self.value[row],
                node=self.nodes[self.node[row]],
                error=self.error.get(row),
                served_by=self._served_by(row),
            )

    def _served_by(self, row: int) -> ServedBy | None:
        node = self.nodes[self.server[row]]
        term = int(self.term[row])
        return None if node is None else ServedBy(node, None if term == NOTHING else term)

    def special(self, process: int) -> list[Event]:
        """The events of the nemesis or of the monitor."""
        return list(self.events(np.flatnonzero(self.process == process).tolist()))

    def line_of(self, row: int) -> int:
        """The number of the line that the event stood on, counted from 1."""
        return int(row) + 1 if self.line is None else int(self.line[row])

    def index_of(self, row: int) -> int:
        """The number of the event: the file's own, or its place in the history."""
        return int(row if self.index is None else self.index[row])

    def steps_back(self) -> list[str]:
        """A note if the recorded time steps back: then the order of the events counts alone."""
        steps = np.diff(self.time)
        back = np.flatnonzero(steps < 0)
        if not len(back):
            return []
        times = "once" if len(back) == 1 else f"{len(back):,} times"
        return [
            f"the recorded time steps back {times}, first on line {self.line_of(int(back[0]) + 1)}, by at most "
            f"{-int(steps.min()):,} ns: the order of the file counts"
        ]

    def _moments(self) -> Ints:
        """The times of the events, each later than the one before: the order of the file counts.

        Whoever records writes an invocation before anything is sent, and a completion after it came.
        """
        if (self.time[1:] > self.time[:-1]).all():
            return self.time
        places = np.arange(len(self))
        later = self.time - places
        np.maximum.accumulate(later, out=later)
        later += places
        return later

    def operations(self) -> Operations:
        """Pair each client's invocation with its completion.

        A crash (``info``) of a process that has nothing open changes nothing. Raises ``HistoryError`` for any other
        completion without an invocation, and for a process that invokes while its previous operation is still open.
        """
        time = self._moments()
        rows = np.flatnonzero(self.process >= 0)
        process = self.process[rows]
        # Small numbers sort several times faster, and process ids are small.
        small = not len(process) or int(process.max()) < 1 << 16
        rows = rows[np.argsort(process.astype(np.uint16) if small else process, kind="stable")]
        process, types = self.process[rows], self.type[rows]
        starts = types == INVOKE
        same_as_next = np.zeros(len(rows), dtype=bool)
        same_as_next[:-1] = process[1:] == process[:-1]
        answered = np.zeros(len(rows), dtype=bool)
        answered[:-1] = starts[:-1] & ~starts[1:] & same_as_next[:-1]
        follows = np.zeros(len(rows), dtype=bool)
        follows[1:] = answered[:-1]
        self._refuse_unpaired(rows, process, starts, follows, same_as_next)
        at = np.flatnonzero(starts)
        invoked = rows[at]
        completed = np.where(answered[at], rows[np.minimum(at + 1, len(rows) - 1)], -1) if len(rows) else at
        order = np.argsort(invoked, kind="stable")
        invoked, completed = invoked[order], completed[order]
        outcome = np.where(completed >= 0, self.type[completed], INFO).astype(np.int8)
        self._refuse_changed(invoked, completed)
        return Operations(
            history=self,
            invoked=invoked,
            completed=completed,
            type=outcome,
            call=time[invoked],
            ret=np.where(outcome == INFO, NEVER, time[completed]),
        )

    def client_functions(self) -> set[str]:
        """The functions that clients called, by name."""
        return {self.functions[code] for code in np.unique(self.f[self.process >= 0]).tolist()}

    def operations_or_completions(self) -> Operations:
        """The same, but where no client has any invocation each completion is an operation by itself, of its moment.

        Some tools record no more than that of transactions.
        """
        clients = self.process >= 0
        if not clients.any() or (self.type[clients] == INVOKE).any():
            return self.operations()
        rows = np.flatnonzero(clients)
        outcome = self.type[rows]
        return Operations(
            history=self,
            invoked=rows,
            completed=rows,
            type=outcome,
            call=self.time[rows],
            ret=np.where(outcome == INFO, NEVER, self.time[rows]),
        )

    def _refuse_unpaired(
        self,
        rows: Ints,
        process: Ints,
        starts: NDArray[np.bool_],
        follows: NDArray[np.bool_],
        same_as_next: NDArray[np.bool_],
    ) -> None:
        orphans = rows[~starts & ~follows & (self.type[rows] != INFO)]
        again = np.zeros(len(rows), dtype=bool)
        again[1:] = starts[:-1] & starts[1:] & same_as_next[:-1]
        doubles = rows[again]
        first = min([*orphans.tolist(), *doubles.tolist()], default=None)
        if first is None:
            return
        who = int(self.process[first])
        if first in orphans:
            what = f"process {who} completes ({TYPES[self.type[first]]}) an operation that it never invoked"
        else:
            what = f"process {who} invokes an operation while its previous one has not completed"
        raise HistoryError(what, line=self.line_of(first))

    def _refuse_changed(self, invoked: Ints, completed: Ints) -> None:
        known = completed >= 0
        a, b = invoked[known], completed[known]
        differs = (self.f[a] != self.f[b]) | (self.key[a] != self.key[b])
        changed = np.flatnonzero(differs & (self.type[b] != INFO))
        if len(changed):
            row, start = int(b[changed[0]]), int(a[changed[0]])
            answered = f"{self.functions[self.f[row]]!r} of key {self.keys[self.key[row]]!r}"
            asked = f"{self.functions[self.f[start]]!r} of key {self.keys[self.key[start]]!r}"
            message = f"process {self.process[row]} completes {answered}, but what it invoked is {asked}"
            raise HistoryError(message, line=self.line_of(row))


_COLUMNS: Final[dict[str, type[np.integer[Any]]]] = {
    "time": np.int64,
    "process": np.int64,
    "type": np.int8,
    "f": np.int32,
    "key": np.int32,
    "node": np.int32,
    "server": np.int32,
    "term": np.int64,
    "number": np.int64,
    "second": np.int64,
}


class HistoryBuilder:
    """Collects events into columns, a chunk at a time."""

    def __init__(self) -> None:
        self._columns: dict[str, list[NDArray[Any]]] = {c: [] for c in _COLUMNS}
        self._values: list[Any] = []
        self._packer = Packer()
        self._places: list[NDArray[np.int32]] = []
        self._error: dict[int, str] = {}
        self._functions: dict[str, int] = {}
        self._keys: dict[Any, int] = {}
        self._nodes: dict[str | None, int] = {None: 0}

    def __len__(self) -> int:
        return len(self._values)

    def add(self, events: Sequence[Event]) -> None:
        """Append these events."""
        base = len(self._values)
        processes = [e.process for e in events]
        given: Sequence[int] = processes  # type: ignore[assignment]
        if not {int}.issuperset(map(type, processes)):
            given = [_client(p) if isinstance(p, int) else SPECIAL_PROCESSES.get(p, _NOBODY) for p in processes]
        process = whole_numbers(given, "process", base)
        special = given is not processes
        odd = (process < 0) & (process != NEMESIS_PROCESS) & (process != MONITOR_PROCESS) if special else process < 0
        if len(unknown := np.flatnonzero(odd)):
            row = int(unknown[0])
            message = f"process {processes[row]!r} is neither a number from 0 on, nor 'nemesis' or 'monitor'"
            raise HistoryError(message, line=base + row + 1)
        columns = self._columns
        columns["time"].append(whole_numbers([e.time for e in events], "time", base))
        columns["process"].append(process)
        if len(early := np.flatnonzero(columns["time"][-1] < 0)):
            row = int(early[0])
            message = f"the time {events[row].time} is before the run began"
            raise HistoryError(message, line=base + row + 1)
        columns["type"].append(codes(TYPE_CODES, [e.type for e in events]).astype(np.int8))
        columns["f"].append(codes(self._functions, [e.f for e in events]))
        columns["key"].append(codes(self._keys, [e.key for e in events]))
        columns["node"].append(codes(self._nodes, [e.node for e in events]))
        server, term = self._served(events, base)
        columns["server"].append(server)
        columns["term"].append(term)
        values = [e.value for e in events]
        self._pack(events, values)
        number, second = numbers(values, base)
        columns["number"].append(number)
        columns["second"].append(second)
        self._values += values
        errors = [e.error for e in events]
        if any(errors):
            self._error.update({base + at: error for at, error in enumerate(errors) if error is not None})

    def _pack(self, events: Sequence[Event], values: list[Any]) -> None:
        """Pack those that are transactions, and leave ``PACKED`` in their places."""
        place = np.full(len(events), -1, np.int32)
        rows = [row for row, event in enumerate(events) if event.f == TRANSACTION and event.value is not None]
        if rows:
            before = len(self._packer)
            taken = np.array(rows)[self._packer.add([values[row] for row in rows])]
            place[taken] = np.arange(before, len(self._packer))
            for row in taken.tolist():
                values[row] = PACKED
        self._places.append(place)

    def _served(self, events: Sequence[Event], base: int) -> tuple[NDArray[np.int32], Ints]:
        """The columns ``server`` and ``term``."""
        served = [e.served_by for e in events]
        if not any(served):
            return np.zeros(len(events), np.int32), np.full(len(events), NOTHING, np.int64)
        server = codes(self._nodes, [None if s is None else s.node for s in served])
        terms = [NOTHING if s is None or s.term is None else s.term for s in served]
        return server, whole_numbers(terms, "term", base)

    def build(
        self, *, line: Ints | None = None, index: Ints | None = None, torn: bool = False, restated: bool = False
    ) -> History:
        """The history of all events added so far; the rest is as ``History`` has it."""
        columns: dict[str, Any] = {
            name: np.concatenate(parts) if parts else np.zeros(0, dtype=_COLUMNS[name])
            for name, parts in self._columns.items()
        }
        return History(
            **columns,
            value=Values(np.concatenate(self._places), self._values, self._packer.pack())
            if len(self._packer)
            else self._values,
            functions=list(self._functions),
            keys=list(self._keys),
            nodes=list(self._nodes),
            error=self._error,
            line=line,
            index=index,
            torn=torn,
            restated=restated,
        )


_NOBODY: Final = -3
"""A process that is nobody: neither a client's number nor a special one."""


def _client(process: int) -> int:
    return process if process >= 0 else _NOBODY


def from_events(events: Iterable[Event]) -> History:
    """The history of these events, in memory."""
    builder = HistoryBuilder()
    builder.add(list(events))
    return builder.build()


def observed(history: History, f: str, kind: type[T]) -> Iterator[tuple[str | None, T]]:
    """What the monitor has recorded by a name, and of which node; what is not of our own making is passed over."""
    for event in history.special(MONITOR_PROCESS):
        if event.f != f or event.value is None:
            continue
        try:
            observation = msgspec.convert(event.value, kind)
        except msgspec.ValidationError:
            continue
        yield event.node, observation
