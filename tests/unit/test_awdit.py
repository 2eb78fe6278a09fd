"""AWDIT's plain text: its own form and Plume's, with the levels that small histories are known to have."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from harness.checkers.transactions.columns import Transactions
from harness.checkers.transactions.weak import judge
from harness.errors import HistoryError
from harness.history import History
from harness.interop import read_history

LEVELS = ("read-committed", "read-atomic", "causal")


def load(tmp_path: Path, text: str) -> History:
    path = tmp_path / "history.txt"
    path.write_text(text)
    return read_history(path)


def parts(history: History) -> list[tuple[int, str, Any]]:
    """Process, type and micro-operations of each transaction."""
    return [(event.process, event.type, event.value) for event in history.events()]  # type: ignore[misc]


def strongest(history: History) -> str:
    """The strongest of the weak levels that a history has."""
    transactions = Transactions.of(history.operations_or_completions())
    valid = [level for level in LEVELS if judge(transactions, level).validity == "valid"]  # type: ignore[arg-type]
    assert valid == list(LEVELS[: len(valid)])
    return valid[-1] if valid else "none"


def test_its_own_form(tmp_path: Path) -> None:
    history = load(tmp_path, "w 0 0\nw 1 0\n=====\nw 0 1\n-----\nr 0 1\n  r 1 0\n\n===\nr 0 0\n---\n")
    assert parts(history) == [
        (0, "ok", [["w", 0, 0], ["w", 1, 0]]),
        (1, "ok", [["w", 0, 1]]),
        (1, "ok", [["r", 0, 1], ["r", 1, 0]]),
        (2, "ok", [["r", 0, 0]]),
    ]
    assert [history.line_of(row) for row in range(4)] == [1, 4, 6, 10]
    assert "no times" in history.notes[0]


def test_plumes_form(tmp_path: Path) -> None:
    text = "w(0,7,0,-1)\nw(5,1,3,10)\nr(6,0,3,10)\nr(5,1,9,11)\nw(6,2,9,11)\nr(6,2,3,12)\n"
    history = load(tmp_path, text)
    assert parts(history) == [
        (0, "fail", [["w", 0, 7]]),
        (1, "ok", [["w", 5, 1], ["r", 6, None]]),
        (2, "ok", [["r", 5, 1], ["w", 6, 2]]),
        (1, "ok", [["r", 6, 2]]),
    ]


def test_transactions_of_plume_whose_lines_are_mixed(tmp_path: Path) -> None:
    history = load(tmp_path, "w(1,1,0,0)\nw(2,2,1,1)\nw(1,3,0,0)\r\nr(2,2,1,1)\n")
    assert [value for _, _, value in parts(history)] == [[["w", 1, 1], ["w", 1, 3]], [["w", 2, 2], ["r", 2, 2]]]


def test_nought_is_a_value_where_somebody_writes_it(tmp_path: Path) -> None:
    history = load(tmp_path, "w(1,0,0,0)\nr(1,0,1,1)\nr(2,0,1,1)\n")
    assert parts(history)[1][2] == [["r", 1, 0], ["r", 2, None]]


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("w 1 5\n=\nr 1 5\n", "causal"),
        # Two transactions that each write two keys, and one that sees half of each.
        ("w 0 1\nw 1 1\n===\nw 0 2\nw 1 2\n===\nr 0 1\nr 1 2\n", "read-committed"),
        # It saw the second write of a session by what another one had made of it, and then the first.
        ("w 0 1\n---\nw 0 2\n===\nr 0 2\nw 1 1\n===\nr 1 1\n---\nr 0 1\n", "read-atomic"),
        ("w 0 1\n===\nw 0 2\n===\nr 0 1\nr 0 2\n", "read-committed"),
        ("w 0 1\n---\nw 0 2\n===\nr 0 2\nr 0 1\n", "none"),
        # Each read what the other wrote only later.
        ("r 1 1\n---\nw 0 5\n===\nr 0 5\n---\nw 1 1\n", "none"),
        ("r 0 0\n", "none"),
        ("w 0 1\nw 0 2\n===\nr 0 1\n", "none"),
        ("r(0,0,0,0)\n", "causal"),
        ("w(0,5,0,-1)\nr(0,5,0,0)\n", "none"),
        ("w(0,5,0,1)\nr(0,0,0,2)\n", "read-committed"),
    ],
)
def test_levels(tmp_path: Path, text: str, level: str) -> None:
    assert strongest(load(tmp_path, text)) == level


def test_compressed(tmp_path: Path) -> None:
    path = tmp_path / "history.txt.gz"
    path.write_bytes(gzip.compress(b"w(0,1,0,0)\n"))
    assert len(read_history(path)) == 1


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("w(0,1,0,0)\nhello\n", 2, "hello"),
        ("w(0,1,0,0)\nx(0,1,0,0)\n", 2, "x"),
        ("w(0,1,0,0)\nr(0,-1,0,0)\n", 2, "r"),
        ("w(0,1,0,0)\nr(0,1,0)\n", 2, "r"),
        ("w(0,1,0,0)\nr(0,1,0,-2)\n", 2, "-2"),
        ("w(0,1,0,0)\nr(0,1,1,0)\n", 2, "two sessions"),
        (f"w(0,1,0,0)\nr(0,{10**19},0,0)\n", 2, "too large"),
        (f"w(0,{'9' * 10000},0,0)\n", 1, "too large"),
        (f"w(0,{1 << 62},0,0)\n", 1, "too large"),
        (f"w(0,1,0,{'9' * 5000})\n", 1, "too large"),
        ("w 0 1\nr 0\n", 2, "r 0"),
        ("w 0 1\n-=-\n", 2, "-=-"),
        ("w 0 1\nr 0 1 2\n", 2, "r 0 1 2"),
        (f"w 0 1\nr 0 {'1' * 5000}\n", 2, "too large"),
        ("w 0 1\nw(0,1,0,0)\n", 2, "w(0,1,0,0)"),
        ("w 0 1\n\x00\n", 2, "x00"),
    ],
)
def test_what_does_not_belong_there(tmp_path: Path, text: str, line: int, what: str) -> None:
    with pytest.raises(HistoryError) as error:
        load(tmp_path, text)
    assert error.value.line == line
    assert what in error.value.message
    assert len(error.value.message) < 500


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "history.txt"
    path.write_bytes(b"w 0 1\nr 0 \xff\n")
    with pytest.raises(HistoryError) as error:
        read_history(path)
    assert error.value.line == 2


def test_what_only_begins_like_one_is_none(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="no history"):
        load(tmp_path, "reads 0 1\n")
