"""Records on disk: JSON lines with a checksum each, in two files that are used in turn."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

from harness.targets.reference.host import File

Record = dict[str, Any]


_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class DiskError(SystemExit):
    """The disk is full or broken, or does not return what was written to it.

    It ends the process: a node that cannot write, or has lost what it wrote, cannot keep its promises.
    """


class Journal:
    """Appends records, and replaces all of them at once without ever being without the old ones.

    Each file begins with ``{"generation": N}``; a rewrite goes to the file that is not in use and ends with
    ``{"complete": true}``, so that a rewrite that a crash cut short is never taken for the journal. A last line that a
    crash cut short is cut off when the journal is opened: nothing can have been acknowledged on the strength of it.
    Any whole line whose checksum is wrong, even the last, raises ``DiskError``: acknowledged data is gone.
    """

    def __init__(self, first: File, second: File, *, sync: bool = True) -> None:
        self.size = 0
        """How many records there are."""
        self.bytes = 0
        """How large the file in use is."""
        self._sync = sync
        self._file, self._spare, self._generation = first, second, 0
        self.records: list[Record] = []
        """What was on disk when the journal was opened."""
        self._open(first, second)

    def append(self, records: Iterable[Record]) -> None:
        """Add records; returns once they are on disk. Raises ``DiskError``."""
        lines = [_line(record) for record in records]
        data = b"".join(lines)
        with _ENDING:
            self._file.append(data)
            if self._sync:
                self._file.sync()
        self.size += len(lines)
        self.bytes += len(data)

    def rewrite(self, records: Iterable[Record]) -> None:
        """Have these records and no others; returns once that is on disk. Raises ``DiskError``."""
        kept = list(records)
        self._generation += 1
        whole = b"".join(map(_line, [{"generation": self._generation}, *kept, {"complete": True}]))
        with _ENDING:
            self._spare.truncate(0)
            self._spare.append(whole)
            self._spare.sync()
            self._file, self._spare = self._spare, self._file
            self._spare.truncate(0)
        self.size, self.bytes = len(kept), len(whole)

    def _open(self, first: File, second: File) -> None:
        candidates = []
        for file, spare in ((first, second), (second, first)):
            lines, good = _read(file)
            whole = lines and (lines[0]["generation"] == 1 or {"complete": True} in lines)
            if whole:
                candidates.append((lines[0]["generation"], good, lines, file, spare))
        if not candidates:
            self.rewrite([])
            return
        self._generation, good, lines, self._file, self._spare = max(candidates, key=lambda candidate: candidate[0])
        self._file.truncate(good)
        self.records = [line for line in lines[1:] if line != {"complete": True}]
        self.size, self.bytes = len(self.records), good


class _Ending:
    """Turns an error of the disk into the end of the process."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise DiskError(f"the disk failed: {error}") from None


_ENDING = _Ending()


def _line(record: Record) -> bytes:
    text = _encode(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read(file: File) -> tuple[list[Record], int]:
    """The records of a file, and how many of its bytes they are."""
    records: list[Record] = []
    good = 0
    lines = file.read().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        whole = line.endswith(b"\n")
        if not whole or not _is_right(line):
            if whole or number < len(lines) or _is_right(line):  # only its end is wrong
                raise DiskError(
                    f"the disk is corrupt: line {number} of the journal, of {len(lines)}, is not what was written"
                )
            break
        records.append(json.loads(line[9:]))
        good += len(line)
    return records, good


def _is_right(line: bytes) -> bool:
    """Whether a line's checksum fits, whatever its last byte is."""
    return line[:9] == b"%08x " % zlib.crc32(line[9:-1])
