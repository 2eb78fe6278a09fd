from __future__ import annotations

import pytest

from harness.checkers.linearizability.models import UNKNOWN, Call
from harness.checkers.linearizability.register_models import CasRegister
from harness.checkers.witness import Clock, sentence
from harness.history import from_events
from harness.verdict import Witness
from harness.words import count, operation, printable, shortened, show


def test_text_of_others_cannot_steer_a_terminal() -> None:
    assert printable("\x1b[31mred\x1b[0m\x9b2J\x07\r") == r"\x1b[31mred\x1b[0m\x9b2J\x07\r"
    assert printable("a\u202eb\ud800") == r"a\u202eb\ud800"
    assert printable("plain, wide 語, é 🙂\n\tindented") == "plain, wide 語, é 🙂\n\tindented"


@pytest.mark.parametrize(("most", "text"), [(6, "parti…"), (8, "partiti…"), (9, "partition"), (99, "partition")])
def test_a_text_is_as_long_as_there_is_room(most: int, text: str) -> None:
    assert shortened("partition", most) == text


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 faults"), (1, "1 fault"), (2, "2 faults"), (1000, "1,000 faults")]
)
def test_a_number_agrees_with_its_noun(number: int, words: str) -> None:
    assert count(number, "fault") == words


def test_a_plural_of_its_own() -> None:
    assert [count(n, "change of primary", "changes of primary") for n in (1, 2)] == [
        "1 change of primary",
        "2 changes of primary",
    ]


def test_what_a_read_finds_where_nothing_was_written_has_one_name() -> None:
    read = Witness(1, "read", "k", None, 0, 10, "ok")
    crashed = Witness(1, "read", "k", None, 0, None, "info")
    clock = Clock(from_events([]))
    assert show(None) == "nothing"
    assert "read nothing" in sentence(read, clock)
    assert "nothing" not in sentence(crashed, clock)
    assert operation("members-local", None, answered=True) == "members-local nothing"
    assert operation("delete", None, answered=True) == "delete"
    assert CasRegister().describe(Call("read", "k", None, None)) == "read() → nothing"
    assert CasRegister().describe(Call("read", "k", None, UNKNOWN)) == "read()"
    assert CasRegister().describe(Call("write", "k", 5, None)) == "write(5)"
