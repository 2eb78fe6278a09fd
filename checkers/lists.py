"""All reads of all lists at once: how much of each agrees with its list's trunk, and which leave it.

The trunk of a list is what is read last, or else the longest read. Every other read is compared with it as a whole;
only those that leave it are looked at one by one. Linear in what was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.final_reads import settled
from harness.checkers.pairs import Pairs
from harness.checkers.timeline import select
from harness.columns import Ints, codes, hashable
from harness.errors import HistoryError
from harness.history import FAIL, NEVER, OK, Operations
from harness.words import named, show

APPEND: Final = "append"
READ: Final = "read-list"
Path = tuple[int, ...]
"""The elements of a read, as codes."""


class Lists:
    """The appends and the answered reads of a history.

    ``reads`` and ``appends`` are rows of the operations; ``length`` is how many elements each read found. ``final``
    reads began after every fault was healed and all appends to their list had returned. ``trunk`` is by key the read
    that is its trunk, -1 where there is none, and ``common`` by read how many elements it has in common with that.
    """

    def __init__(self, operations: Operations) -> None:
        self.operations = operations
        self.appends: Ints = select(operations, APPEND)
        rows = select(operations, READ)
        self.reads: Ints = rows[operations.type[rows] == OK]
        answers = self._answers()
        self.length: Ints = np.fromiter(map(len, answers), np.int64, len(answers))
        self.key: Ints = operations.key[self.reads].astype(np.int64)
        self.append_key: Ints = operations.key[self.appends].astype(np.int64)
        self.keys = len(operations.history.keys)
        self.final = self._final()
        self.trunk = self._trunk()
        self.common = self._common(answers)
        self._kept = np.concatenate([self.trunk[self.trunk >= 0], np.flatnonzero(self.common < self.length)])
        """The reads whose elements are in ``elements``, from ``start`` on; every other one begins a trunk."""
        lengths = self.length[self._kept]
        self.start: Ints = np.full(len(self.reads), -1, dtype=np.int64)
        self.start[self._kept] = np.cumsum(lengths) - lengths
        self._names: list[Any] | None = None
        value = operations.history.value
        appended = [value[row] for row in operations.invoked[self.appends].tolist()]
        self.appended, self.elements = self._numbered(appended, [answers[read] for read in self._kept.tolist()])

    def _answers(self) -> list[list[Any]]:
        """What each read answered. Raises ``HistoryError`` where that is no list; nothing is an empty one."""
        history = self.operations.history
        completed = self.operations.completed[self.reads].tolist()
        answers = [history.value[row] for row in completed]
        for at, answer in enumerate(answers):
            if type(answer) is not list:
                if not isinstance(answer, list | tuple | None):
                    line = history.line_of(completed[at])
                    raise HistoryError(f"a list is read as {show(answer)}, which is none", line=line)
                answers[at] = list(answer or ())
        return answers

    def _numbered(self, appended: list[Any], answers: Sequence[Sequence[Any]]) -> tuple[Ints, Ints]:
        """The elements that were appended, and that were read, as numbers."""
        read = [*chain.from_iterable(answers)]
        if {int}.issuperset(map(type, chain(appended, read))):
            try:
                return np.fromiter(appended, np.int64, len(appended)), np.fromiter(read, np.int64, len(read))
            except OverflowError:
                pass
        known: dict[Any, int] = {}
        numbers = codes(known, [hashable(element) for element in chain(appended, read)])
        self._names = list(known)
        return numbers[: len(appended)].astype(np.int64), numbers[len(appended) :].astype(np.int64)

    def name(self, element: int) -> Any:
        """An element as clients know it."""
        return element if self._names is None else self._names[element]

    def path(self, read: int) -> Path:
        """What a read found."""
        start = int(self.start[read if self.start[read] >= 0 else self.trunk[self.key[read]]])
        return tuple(self.elements[start : start + int(self.length[read])].tolist())

    def _final(self) -> NDArray[np.bool_]:
        return settled(self.operations, self.appends, self.reads)

    def _trunk(self) -> Ints:
        trunk = np.full(self.keys, -1, dtype=np.int64)
        order = np.lexsort((np.arange(len(self.reads)), self.length, self.final))
        trunk[self.key[order]] = order  # the last one stays
        return trunk

    def _common(self, answers: Sequence[list[Any]]) -> Ints:
        common = self.length.copy()
        trunks = [answers[read] if read >= 0 else [] for read in self.trunk.tolist()]
        for read, (key, answer) in enumerate(zip(self.key.tolist(), answers, strict=True)):
            trunk = trunks[key]
            if trunk[: len(answer)] != answer:
                common[read] = agreement(trunk, answer)
        return common

    @cached_property
    def _append_of(self) -> Pairs:
        """The appends by list and element. One that failed may have been tried again: that is the append then."""
        return Pairs(self.append_key, self.appended, self._failed)

    def repeated(self) -> int | None:
        """An append that did not fail, of an element that another one before it put into its list; None if unique."""
        again = self._append_of.again
        again = again[~self._failed[again]]
        return int(self.appends[again[0]]) if len(again) else None

    def append_of(self, key: Ints, element: Ints) -> Ints:
        """Which append put each element into its list: a place in ``appends``; -1 where there is none."""
        return self._append_of.find(key, element)

    @cached_property
    def off(self) -> Mapping[int, list[int]]:
        """By key, the reads that leave their list's trunk, or go on where it ends."""
        by_key: dict[int, list[int]] = {}
        for read in np.flatnonzero(self.common < self.length).tolist():
            by_key.setdefault(int(self.key[read]), []).append(read)
        return by_key

    def leaves(self, key: int) -> list[Path]:
        """The reads of a list that no other one continues, in order; more than one where it has forked."""
        paths = {self.path(read) for read in self.off.get(key, ())}
        if self.trunk[key] >= 0:
            paths.add(self.path(int(self.trunk[key])))
        # In this order a read stands right before one that continues it, if there is any.
        ordered = sorted(paths)
        following = [*ordered[1:], None]
        return [
            path for path, after in zip(ordered, following, strict=True) if after is None or after[: len(path)] != path
        ]

    @cached_property
    def forked(self) -> list[int]:
        """The keys of lists that have forked, in the order of their numbers."""
        return [key for key in sorted(self.off) if len(self.leaves(key)) > 1]

    @cached_property
    def has_final(self) -> NDArray[np.bool_]:
        """By key, whether there is a final read."""
        there: NDArray[np.bool_] = self.last >= 0
        return there

    @cached_property
    def last(self) -> Ints:
        """By key, the final read that was invoked last, -1 where there is none."""
        last = np.full(self.keys, -1, dtype=np.int64)
        final = np.flatnonzero(self.final)
        np.maximum.at(last, self.key[final], final)
        return last

    @cached_property
    def held(self) -> NDArray[np.bool_]:
        """By append, whether the last read of its list has its element."""
        held = np.zeros(len(self.appends), dtype=bool)
        _, append = self._appends_in(*self._stored(self.last[self.last >= 0]))
        held[append[append >= 0]] = True
        return held

    def _stored(self, reads: Ints) -> tuple[Ints, Ints, Ints]:
        """Of each read its key, where its elements begin, and how many there are."""
        start = np.where(self.start[reads] >= 0, self.start[reads], self.start[self.trunk[self.key[reads]]])
        return self.key[reads], start, self.length[reads]

    def _appends_in(self, key: Ints, start: Ints, lengths: Ints) -> tuple[Ints, Ints]:
        """The elements of some reads, one after the other: of which read each is, and by which append (see there)."""
        which = np.repeat(np.arange(len(key)), lengths)
        place = start[which] + np.arange(len(which)) - (np.cumsum(lengths) - lengths)[which]
        return which, self.append_of(key[which], self.elements[place])

    @cached_property
    def final_holders(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """By append, whether any final read of its list has its element, and whether all have: nodes may differ."""
        finals = np.stack(self._stored(np.flatnonzero(self.final)))
        # Most final reads of a list are the same.
        key, start, lengths = np.unique(finals, axis=1) if finals.size else finals
        which, append = self._appends_in(key, start, lengths)
        holders = np.unique(np.stack([which, append])[:, append >= 0], axis=1)[1]
        held = np.bincount(holders, minlength=len(self.appends))
        reads = np.bincount(key, minlength=self.keys)[self.append_key]
        return held > 0, (held == reads) & (reads > 0)

    @cached_property
    def lost(self) -> NDArray[np.bool_]:
        """By append, whether it was known, as acknowledged or as read before, and the last read does not have it."""
        operations = self.operations
        seen = np.full(len(self.appends), NEVER, dtype=np.int64)
        read, element, returned = self.suspects
        append = self.append_of(self.key[read], element)
        np.minimum.at(seen, append[append >= 0], returned[append >= 0])
        last = self.last[self.append_key]
        before = (last >= 0) & ~self._failed
        before[before] = seen[before] < operations.call[self.reads[last[before]]]
        known = (operations.type[self.appends] == OK) | before
        lost: NDArray[np.bool_] = known & (last >= 0) & ~self.held
        return lost

    @cached_property
    def disordered(self) -> Ints:
        """The appends that stand in a trunk before one which had returned when they were invoked."""
        trunks = self.trunk[self.trunk >= 0]
        lengths = self.length[trunks]
        which = np.repeat(trunks, lengths)
        append = self.append_of(self.key[which], self.elements[: len(which)])
        call, ret = np.full(len(which), -1, dtype=np.int64), np.full(len(which), NEVER, dtype=np.int64)
        known = append >= 0
        known[known] = ~self._failed[append[known]]
        rows = self.appends[append[known]]
        call[known], ret[known] = self.operations.call[rows], self.operations.ret[rows]
        _least_from(ret, lengths)
        wrong: Ints = np.unique(append[ret < call])
        return wrong

    @cached_property
    def _failed(self) -> NDArray[np.bool_]:
        failed: NDArray[np.bool_] = self.operations.type[self.appends] == FAIL
        return failed

    def key_name(self, key: int) -> str:
        """A list as people read it."""
        return named(self.operations.history.keys[key])

    @cached_property
    def staleness(self) -> Ints:
        """By read, for how long (ns) an append had been acknowledged that is there in the end and missing in it.

        Zero for reads that miss nothing, and for lists that nobody has read in the end.
        """
        operations = self.operations
        stale = np.zeros(len(self.reads), dtype=np.int64)
        trunks = self.trunk[self.has_final]
        if not len(trunks):
            return stale
        lengths = self.length[trunks] + 1  # and one place behind the end
        begin = np.full(self.keys, -1, dtype=np.int64)
        begin[self.key[trunks]] = np.cumsum(lengths) - lengths
        which = np.repeat(np.arange(len(trunks)), lengths)
        position = np.arange(len(which)) - (np.cumsum(lengths) - lengths)[which]
        inside = position < self.length[trunks][which]
        place = np.where(inside, self.start[trunks][which] + position, 0)
        since = np.full(len(which), NEVER, dtype=np.int64)
        if len(self.elements) and len(self.appends):
            append = self.append_of(self.key[trunks][which], self.elements[place])
            known = inside & (append >= 0)
            rows = self.appends[append[known]]
            since[known] = np.where(operations.type[rows] == OK, operations.ret[rows], NEVER)
        _least_from(since, lengths)
        asked = begin[self.key] >= 0
        missing = since[begin[self.key[asked]] + self.common[asked]]
        stale[asked] = np.maximum(operations.call[self.reads[asked]] - missing, 0)
        return stale

    @cached_property
    def earliest(self) -> Ints:
        """By element of every read that is a trunk, in order: when the first read that has it, there, had returned."""
        trunks = self.trunk[self.trunk >= 0]
        lengths = self.length[trunks]
        begin = np.full(self.keys, -1, dtype=np.int64)
        begin[self.key[trunks]] = np.cumsum(lengths) - lengths
        first = np.full(int(lengths.sum()), NEVER, dtype=np.int64)
        some = self.common > 0
        last = begin[self.key[some]] + self.common[some] - 1
        np.minimum.at(first, last, self.operations.ret[self.reads[some]])
        _least_from(first, lengths)
        return first

    @cached_property
    def suspects(self) -> tuple[Ints, Ints, Ints]:
        """Elements among which every wrong one is: the read, the element, and when the first read had returned it.

        They are those of the trunks and of all reads that leave them.
        """
        trunks = self.trunk[self.trunk >= 0]
        others = np.array([read for reads in self.off.values() for read in reads], dtype=np.int64)
        reads = np.concatenate([trunks, others])
        which = np.repeat(reads, self.length[reads])
        length = self.length[reads]
        place = np.repeat(self.start[reads] - (np.cumsum(length) - length), length) + np.arange(len(which))
        rest = which[len(self.earliest) :]
        return which, self.elements[place], np.concatenate([self.earliest, self.operations.ret[self.reads[rest]]])


def agreement(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many elements two reads have in common."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _least_from(values: Ints, lengths: Ints) -> None:
    """Put in place of each value the least of it and all that follow it in its own of several runs of these lengths."""
    ends = np.cumsum(lengths)
    for start, end in zip((ends - lengths).tolist(), ends.tolist(), strict=True):
        values[start:end] = np.minimum.accumulate(values[start:end][::-1])[::-1]
