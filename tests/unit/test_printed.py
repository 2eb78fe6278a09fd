"""What a server in a container has printed, when there is too much of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from harness.environments.printed import Printed
from harness.faults.output import HEAD, LEFT_OUT, TAIL


class Stream:
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        pass


class Container:
    """One whose engine keeps only the end, as soon as somebody has listened."""

    def __init__(self, printed: list[bytes], kept: list[bytes]) -> None:
        self._printed, self._kept = printed, kept

    def logs(self, *, stream: bool, follow: bool) -> Stream:
        return Stream(self._printed if follow else self._kept)


def saved(tmp_path: Path, printed: list[bytes], kept: list[bytes]) -> bytes:
    before = set(threading.enumerate())
    one = Printed(Container(printed, kept))
    for thread in set(threading.enumerate()) - before:
        thread.join()
    one.save(tmp_path / "n1" / "x.log")
    return (tmp_path / "n1" / "x.log").read_bytes()


def test_little_is_kept_whole(tmp_path: Path) -> None:
    pieces = [b"a" * HEAD, b"b" * TAIL]
    assert saved(tmp_path, pieces, pieces) == b"".join(pieces)


def test_of_much_the_middle_is_left_out(tmp_path: Path) -> None:
    pieces = [b"a" * HEAD, b"-" * 1000, b"b" * TAIL]
    kept = saved(tmp_path, pieces, pieces)
    assert kept == pieces[0] + LEFT_OUT + pieces[2]


def test_what_the_engine_has_forgotten_was_heard_before(tmp_path: Path) -> None:
    printed = [b"first " * 10, b"-" * 100]
    kept = saved(tmp_path, printed, [b"last"])
    assert kept.startswith(b"".join(printed) + LEFT_OUT)
    assert kept.endswith(b"]\nlast")
