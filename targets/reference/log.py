"""The write-ahead log: every entry, and the node's term and vote, on disk before anything depends on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.targets.reference.journal import Journal, Record


class Entry(NamedTuple):
    """A command, and the term of the primary that ordered it. An empty command changes nothing."""

    term: int
    command: list[str]


class Log:
    """Entries numbered from 1, the current term, and who got this node's vote in it.

    The first ``base`` entries may have been replaced by a ``snapshot`` of the state after them. Appending below the
    end replaces what follows.
    """

    def __init__(self, journal: Journal) -> None:
        self.base = 0
        self.base_term = 0
        self.snapshot: Any = None
        self.term = 0
        self.voted_for: str | None = None
        self._entries: list[Entry] = []
        self._journal = journal
        for record in journal.records:
            self._take(record)

    @property
    def last(self) -> int:
        """The number of the last entry; 0 when there was none."""
        return self.base + len(self._entries)

    @property
    def bytes(self) -> int:
        """How much of the disk it takes."""
        return self._journal.bytes

    @property
    def size(self) -> int:
        """How many entries are kept."""
        return len(self._entries)

    def term_of(self, index: int) -> int:
        """The term of an entry; 0 for the start of the log, -1 for an entry that is not there."""
        if index == self.base:
            return self.base_term
        return self._entries[index - self.base - 1].term if self.base < index <= self.last else -1

    def __getitem__(self, index: int) -> Entry:
        assert self.base < index <= self.last, f"entry {index} is not in the log, {self.base + 1} to {self.last} are"
        return self._entries[index - self.base - 1]

    def entries(self, first: int, count: int) -> list[Entry]:
        """At most so many entries from ``first`` on."""
        assert first > self.base
        return self._entries[first - self.base - 1 : first - self.base - 1 + count]

    def append(self, index: int, entries: Sequence[Entry]) -> None:
        """Make ``entries`` the log from ``index`` on; returns once they are on disk."""
        del self._entries[index - self.base - 1 :]
        self._entries += entries
        self._journal.append(_entry(index + n, entry) for n, entry in enumerate(entries))

    def vote(self, term: int, candidate: str | None) -> None:
        """Enter ``term`` having voted for ``candidate``; returns once that is on disk."""
        self.term, self.voted_for = term, candidate
        self._journal.append([self._vote()])

    def compact(self, index: int, term: int, snapshot: Any) -> None:
        """Replace the entries up to ``index``, which is of ``term``, by a snapshot; later ones stay."""
        tail = self.entries(index + 1, self.last) if index < self.last else []
        self.base, self.base_term, self.snapshot, self._entries = index, term, snapshot, tail
        head: Record = {"base": index, "term": term, "snapshot": snapshot}
        self._journal.rewrite([self._vote(), head, *(_entry(index + n, e) for n, e in enumerate(tail, 1))])

    def _vote(self) -> Record:
        return {"vote": self.voted_for, "term": self.term}

    def _take(self, record: Record) -> None:
        if "index" in record:
            del self._entries[record["index"] - self.base - 1 :]
            self._entries.append(Entry(record["term"], record["command"]))
        elif "base" in record:
            self.base, self.base_term, self.snapshot = record["base"], record["term"], record["snapshot"]
        else:
            self.term, self.voted_for = record["term"], record["vote"]


def _entry(index: int, entry: Entry) -> Record:
    return {"index": index, "term": entry.term, "command": entry.command}
