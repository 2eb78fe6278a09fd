"""The history in the report, as the page holds it; that a browser reads it is for tests/browser."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.experiment import Experiment
from harness.history import History, from_events
from harness.operation import Event
from harness.report.history_table import columns_of, history_table
from harness.report.story import Story
from harness.run_directory import RunDirectory
from harness.verdict import Verdict


def told(history: History, path: Path) -> Story:
    return Story(RunDirectory(path), Experiment("reference"), Verdict("valid"), history)


def writes(values: Sequence[Any], process: int = 0) -> list[Event]:
    events = []
    for number, value in enumerate(values):
        at = number * 1000
        events.append(Event(2 * number, at, process, "invoke", "write", "x", value, "n1"))
        events.append(Event(2 * number + 1, at + 10, process, "ok", "write", "x", value, "n1"))
    return events


def opened(data: bytes) -> tuple[dict[str, Any], dict[str, list[int]], dict[str, list[str]]]:
    """The same as the page's script does: what is told, the columns and the texts."""
    head, _, rest = gzip.decompress(data).partition(b"\n")
    about = json.loads(head)
    columns: dict[str, list[int]] = {}
    for name, column in about["columns"].items():
        size = column["count"] * column["width"]
        planes = np.frombuffer(rest[:size], np.uint8).reshape(column["width"], column["count"]).astype(np.int64)
        numbers = sum((plane << (8 * place) for place, plane in enumerate(planes)), np.zeros(column["count"], np.int64))
        if column["steps"]:
            numbers = np.cumsum((numbers >> 1) ^ -(numbers & 1))
        columns[name] = (numbers + int(column["least"])).tolist()
        rest = rest[size:]
    sizes, _, rest = rest.partition(b"\n")
    texts = {}
    for name, size in json.loads(sizes).items():
        texts[name] = rest[:size].decode().split("\n")[:-1]
        rest = rest[size:]
    return about, columns, texts


def test_what_a_completion_repeats_takes_no_place() -> None:
    history = from_events(writes(range(100, 200)))
    data = columns_of(history, history.operations()).packed()
    assert data is not None
    about, columns, texts = opened(data)
    assert about["rows"] == 200
    assert columns["time"][:4] == [0, 10, 1000, 1010]
    assert columns["number"] == list(range(100, 200))
    assert columns["kind"] == [1, 7] * 100
    assert columns["f"] == [0] * 200
    assert texts["functions"] == ['"write"']
    assert "values" not in texts or texts["values"] == []
    assert len(data) < 700


def test_times_that_step_back_and_numbers_of_a_file() -> None:
    events = writes([1, 2])
    for event, time, index in zip(events, (50, 40, 60, 10), (7, 3, 90, 12), strict=True):
        event.time, event.index = time, index
    history = from_events(events)
    history.index = np.array([7, 3, 90, 12])
    data = columns_of(history, history.operations()).packed()
    assert data is not None
    _, columns, _ = opened(data)
    assert columns["time"] == [50, 40, 60, 10]
    assert columns["index"] == [7, 3, 90, 12]


def test_values_that_are_no_small_numbers_are_lines_of_json() -> None:
    values = ["a\nb", 2**60, -(2**60), [1, 2**60], 1.5, True, {"x": None}, [3, "ж"]]
    history = from_events(writes(values))
    data = columns_of(history, history.operations()).packed()
    assert data is not None
    _, _, texts = opened(data)
    assert [json.loads(line) for line in texts["values"][::2]] == values
    assert texts["values"][2] == str(2**60)


def test_lines_of_one_key_stand_together() -> None:
    events = []
    for number in range(6):
        events.append(Event(2 * number, number * 9, number, "invoke", "write", f"k{number % 2}", f"v{number}"))
    history = from_events(events)
    data = columns_of(history, history.operations()).packed()
    assert data is not None
    _, _, texts = opened(data)
    assert texts["values"] == ['"v0"', '"v2"', '"v4"', '"v1"', '"v3"', '"v5"']


def test_a_process_that_goes_to_another_node() -> None:
    events = writes([1, 2, 3])
    events[4].node = events[5].node = "n2"
    history = from_events(events)
    data = columns_of(history, history.operations()).packed()
    assert data is not None
    _, columns, texts = opened(data)
    assert columns["node"] == [1, 0, 0, 0, 1, 1]
    assert texts["nodes"] == ["null", '"n1"', '"n2"']


def test_a_million_operations_fit() -> None:
    rng = np.random.default_rng(1)
    events = []
    time = 0
    for number in range(10_000):
        time += int(rng.integers(1_000_000))
        events += [
            Event(2 * number, time, number % 10, "invoke", "read", f"k{rng.integers(5)}", None, f"n{number % 10 % 3}"),
        ]
        last = events[-1]
        time += int(rng.integers(1_000_000))
        value = int(rng.integers(number + 1))
        events += [Event(2 * number + 1, time, number % 10, "ok", "read", last.key, value, last.node)]
    history = from_events(events)
    data = columns_of(history, history.operations()).packed()
    assert data is not None
    assert len(data) / len(history) < 6


def test_texts_are_cut_and_said_to_be_where_they_are_too_much(tmp_path: Path) -> None:
    values = [os.urandom(20_000).hex() for _ in range(20)]
    story = told(from_events(writes(values)), tmp_path)
    whole = history_table(story)
    assert whole is not None
    assert not whole.note
    cut = history_table(story, most=100_000)
    assert cut is not None
    assert cut.note == "Texts of more than 2,000 characters are cut here."
    assert len(cut.data) <= 100_000
    _, _, texts = opened(base64.b64decode(cut.data))
    assert texts["values"][0] == f'~40002~"{values[0][:1999]}'
    columns = columns_of(story.history, story.operations)
    assert [opened(columns.packed(length) or b"")[2]["values"][0] for length in (200, None, 2000)] == [
        f'~40002~"{values[0][:199]}',
        f'"{values[0]}"',
        f'~40002~"{values[0][:1999]}',
    ]
    left_out = history_table(story, most=100)
    assert left_out is not None
    assert (left_out.data, left_out.note) == ("", "It is too large for this page.")


def test_a_history_that_no_browser_could_count_in_is_left_out(tmp_path: Path) -> None:
    events = writes([1, 2])
    events[-1].time = 2**60
    table = history_table(told(from_events(events), tmp_path))
    assert table is not None
    assert not table.data
    # A late beginning is none of that.
    for event in events:
        event.time = 2**60 + event.index
    table = history_table(told(from_events(events), tmp_path))
    assert table is not None
    _, columns, _ = opened(base64.b64decode(table.data))
    assert columns["time"] == [2**60 + at for at in range(4)]


def test_nothing_that_ends_its_element(tmp_path: Path) -> None:
    hostile = "</script><!--"
    table = history_table(told(from_events(writes([hostile, {hostile: hostile}])), tmp_path))
    assert table is not None
    assert "<" not in table.data
    assert (table.events, table.operations) == (4, 2)


def test_an_empty_history_has_no_table(tmp_path: Path) -> None:
    assert history_table(told(from_events([]), tmp_path)) is None


@pytest.mark.parametrize("rows", [1, 2])
def test_completions_alone(tmp_path: Path, rows: int) -> None:
    history = from_events([Event(at, at, at, "ok", "txn", None, [["r", 1, 2]]) for at in range(rows)])
    table = history_table(told(history, tmp_path))
    assert table is not None
    _, columns, texts = opened(base64.b64decode(table.data))
    assert columns["type"] == [1] * rows
    assert texts["values"] == ['[["r",1,2]]'] * rows
