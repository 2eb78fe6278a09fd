"""EDN of a map a line, read quickly: the same as the reader of whole EDN finds, or nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HistoryError
from harness.interop import edn, plain_edn, read_history
from harness.interop.fields import plain

LINES = [
    "{:index 0, :time 12, :process 3, :type :invoke, :f :txn, :value [[:r 3 nil] [:append 2 1]]}",
    '{:type :ok, :f :txn, :value [["r" 3 [1 2]] [:append "x-1" -4]], :process 3, :time 13, :index 1}',
    "{:process :nemesis, :type :info, :f :start, :value {:grudge {:n1 [:n2]}}, :time 14, :index 2}",
    '{:index 3, :time 15, :process 4, :type :info, :f :txn, :value nil, :error "timed out, or so"}',
    "{:index 4, :time 16, :process 5, :type :ok, :f :read, :value [true false nil 1.5 :a/b]}",
    "{:index 5, :time 17, :process 6, :type :ok, :f :read, :value #{1 2}}",
    "{:index 6, :time 18, :process 7, :type :ok, :f :read, :value 123456789012345678901234567890}",
    "{:index 7, :time 19, :process 8, :type :ok, :f :read, :value 2/3} ; a comment",
    '{:index 8, :time 20, :process 9, :type :ok, :f :read, :value "nil :r 1, 2"}',
    "{:index 9, :time 21, :process 9, :type :invoke, :f :read, :value {1 2, [3] 4}}",
    "{:index 10, :time 22, :process 10, :type :ok, :f :read, :value [nil? nilly :nil x]}",
    "{:index  11,  :time 23, :process 10, :type :ok, :f :read, :value (1 2)}",
    "",
]


def _slowly(text: str) -> list[Any]:
    return [(plain(form.value, strict=False), form.line) for form in edn.read(text)]


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_read_as_whole_edn_is(line: str) -> None:
    quickly = plain_edn.operations(line)
    assert quickly is not None
    assert [(plain(form, strict=False), at) for form, at in quickly] == _slowly(line)


def test_some_lines_are_taken_quickly() -> None:
    read = plain_edn.operations("\n".join(LINES))
    assert read is not None
    quick = [line for form, line in read if isinstance(form, plain_edn.Plain)]
    assert quick[:3] == [1, 2, 3]
    assert [line for _, line in read] == list(range(1, len(LINES)))


def test_a_mutated_text_is_read_as_whole_edn_is_or_not_at_all() -> None:
    rng = random.Random(3)
    text = "\n".join(LINES[:5] * 2)
    read = 0
    for _ in range(2000):
        at = rng.randrange(len(text))
        changed = (
            text[:at] + rng.choice(['"', "{", "}", "[", "]", " ", ":", "\n", ",", "9", "n", "#", "'"]) + text[at + 1 :]
        )
        quickly = plain_edn.operations(changed)
        if quickly is not None:
            read += 1
            assert [(plain(form, strict=False), at) for form, at in quickly] == _slowly(changed), changed
    assert read > 200


def test_a_key_given_twice_is_refused_as_before(tmp_path: Path) -> None:
    file = tmp_path / "history.edn"
    file.write_text("{:index 0, :time 1, :process 0, :process 1, :type :invoke, :f :read, :value nil}\n")
    with pytest.raises(HistoryError, match="same key twice"):
        read_history(file)


def test_a_key_of_an_invocation_is_that_of_its_completion(tmp_path: Path) -> None:
    file = tmp_path / "history.edn"
    file.write_text(
        '{:index 0, :time 1, :process 0, :type :invoke, :f :read, :value #jepsen.independent/tuple ["k" nil]}\n'
        "{:index 1, :time 2, :process 0, :type :info, :f :read, :value nil}\n"
    )
    history = read_history(file)
    assert [event.key for event in history.events()] == ["k", "k"]
