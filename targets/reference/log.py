"""The write-ahead log: every entry, and the node's term and vote, on disk before anything depends on them."""

from __future__ import annotations

import json
from typing import NamedTuple

from targets.reference.disk import File


class Entry(NamedTuple):
    """A command, and the term of the primary that ordered it. An empty command changes nothing."""

    term: int
    command: list[str]


class Log:
    """Entries numbered from 1, the current term, and who got this node's vote in it.

    On disk it is one JSON line for each change. Appending below the end replaces what follows. A line torn by a
    crash is cut off when the log is opened again: nothing can have been acknowledged on the strength of it.
    """

    def __init__(self, file: File) -> None:
        self.entries: list[Entry] = []
        self.term = 0
        self.voted_for: str | None = None
        self._file = file
        self._load()

    @property
    def last(self) -> int:
        """The number of the last entry; 0 when there is none."""
        return len(self.entries)

    def term_of(self, index: int) -> int:
        """The term of an entry; 0 for the start of the log, -1 for an entry that is not there."""
        if index == 0:
            return 0
        return self.entries[index - 1].term if index <= len(self.entries) else -1

    def append(self, index: int, entries: list[Entry]) -> None:
        """Make ``entries`` the log from ``index`` on; returns once they are on disk."""
        lines = []
        for offset, entry in enumerate(entries):
            self._place(index + offset, entry)
            lines.append({"index": index + offset, "term": entry.term, "command": entry.command})
        self._write(lines)

    def vote(self, term: int, candidate: str | None) -> None:
        """Enter ``term`` having voted for ``candidate``; returns once that is on disk."""
        self.term, self.voted_for = term, candidate
        self._write([{"vote": candidate, "term": term}])

    def _place(self, index: int, entry: Entry) -> None:
        del self.entries[index - 1 :]
        self.entries.append(entry)

    def _write(self, lines: list[dict[str, object]]) -> None:
        self._file.append(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        self._file.sync()

    def _load(self) -> None:
        good = 0
        for line in self._file.read().splitlines(keepends=True):
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            good += len(line)
            if "index" in record:
                self._place(record["index"], Entry(record["term"], record["command"]))
            else:
                self.term, self.voted_for = record["term"], record["vote"]
        self._file.truncate(good)
