"""Transactions as arrays: the same comes out as went in, and what does not fit is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.history import from_events
from harness.operation import Event
from harness.packed import Packer, Values, only_read

_KEYS = st.one_of(st.integers(-5, 5), st.sampled_from(["x", "y", "1"]))
_NUMBERS = st.integers(-(2**61), 2**61)
_VALUES = st.one_of(st.none(), _NUMBERS, st.lists(_NUMBERS, max_size=4))
_TRANSACTIONS = st.lists(st.tuples(st.sampled_from(["r", "w", "append"]), _KEYS, _VALUES).map(list), max_size=4)
_ODD = st.sampled_from(
    [
        None,
        5,
        "text",
        [["cas", "x", 1]],
        [["r", "x"]],
        [["r", True, 1]],
        [["w", "x", 1.0]],
        [["w", "x", True]],
        [["r", "x", [1, 2.0]]],
        [["r", "x", [None]]],
        [["w", "x", 2**62]],
        [["w", ["x"], 1]],
        [("r", "x", 1)],
    ]
)


def _history(values: list[Any]) -> list[Event]:
    return [Event(at, at, at, "invoke", "txn", value=value) for at, value in enumerate(values)]


@given(st.lists(st.one_of(_TRANSACTIONS, _ODD), max_size=8))
def test_what_goes_in_comes_out(values: list[Any]) -> None:
    history = from_events(_history(values))
    assert [history.value[row] for row in range(len(values))] == values
    assert [repr(value) for value in history.value] == [repr(value) for value in values]
    assert [event.value for event in history.events()] == values


def test_only_transactions_of_whole_numbers_are_packed() -> None:
    packer = Packer()
    taken = packer.add([[["r", "x", None]], [["w", "x", 1.5]], [["append", 3, 4], ["r", 3, [4]]], "no transaction"])
    assert taken.tolist() == [True, False, True, False]
    assert packer.pack().unpack(1) == [["append", 3, 4], ["r", 3, [4]]]


def test_other_functions_keep_their_values() -> None:
    history = from_events(
        [Event(0, 0, 0, "invoke", "write", value=[["r", "x", None]]), Event(1, 1, 1, "invoke", "txn", value=[])]
    )
    assert isinstance(history.value, Values)
    assert history.value[0] == [["r", "x", None]]
    assert history.value[-1] == []
    assert history.value[0:2] == [[["r", "x", None]], []]


@pytest.mark.parametrize("lists", [1, 3])
def test_chunks_go_on_where_the_last_one_ended(lists: int) -> None:
    packer = Packer()
    for chunk in range(3):
        packer.add([[["r", f"k{chunk}", list(range(chunk + 1))] for _ in range(lists)]])
    packed = packer.pack()
    assert [packed.unpack(at) for at in range(3)] == [
        [["r", f"k{at}", list(range(at + 1))] for _ in range(lists)] for at in range(3)
    ]


def test_transactions_that_only_read_are_known() -> None:
    values = [
        [["r", "x", None]],
        [["w", "x", 1]],
        [],
        [["r", "x", 1.5]],
        [["w", "x", 1.5]],
        None,
        [["r", 1, [2]], ["r", 2, 3]],
    ]
    history = from_events(_history(values))
    wanted = [True, False, True, True, False, False, True]
    assert only_read(history.value, np.arange(len(values))).tolist() == wanted
    assert only_read(values, np.arange(len(values))).tolist() == wanted
