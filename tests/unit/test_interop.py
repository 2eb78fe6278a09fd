from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from harness.checkers.linearizability import Linearizable
from harness.errors import HistoryError
from harness.history import History
from harness.interop import edn, jepsen, read_history
from harness.verdict import Budget

STALE = [
    ("invoke", 0, "write", 1),
    ("ok", 0, "write", 1),
    ("invoke", 1, "write", 2),
    ("ok", 1, "write", 2),
    ("invoke", 0, "read", None),
    ("ok", 0, "read", 1),
]


def value(text: str) -> Any:
    (form,) = edn.read(text)
    return form.value


def load(tmp_path: Path, text: str, *, independent: bool = False) -> History:
    path = tmp_path / "history"
    path.write_text(text)
    return read_history(path, independent=independent)


def verdict(history: History, model: str = "cas-register") -> str:
    return Linearizable(model).check(history, Budget()).validity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nil", None),
        ("[1 -2, 3N 4.5 1e3 2.5M]", [1, -2, 3, 4.5, 1000.0, 2.5]),
        (r'"a\n\"b\" \\ \u0041"', 'a\n"b" \\ A'),
        ('{:a [1], "b" #{2}}', {"a": [1], "b": frozenset({2})}),
        ("(true false) ; done", [True, False]),
        ("[1 #_ [2 3] 4]", [1, 4]),
        (r"[\a \newline \u0042]", ["a", "\n", "B"]),
        ('#inst "2020"', edn.Tagged("inst", "2020")),
    ],
)
def test_edn_values(text: str, expected: Any) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("{:a 1}\n{:b", 2, "never closed"),
        ("[1\n2", 1, "never closed"),
        ("{:a}", 1, "key without a value"),
        ("[1 2}", 1, "closed by"),
        ("\n]", 2, "closes nothing"),
        ('\n\n"abc', 3, "not EDN"),
        (r'"\q"', 1, "unknown escape"),
        ("12ab", 1, "neither a number nor a name"),
        ("[" * 500, 1, "nested"),
    ],
)
def test_wrong_edn_is_named_by_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(HistoryError, match=said) as caught:
        list(edn.read(text))
    assert caught.value.line == line


def test_what_is_written_reads_back() -> None:
    original = {"a": [None, True, 1, 2.5, 'q"\\\n\t'], edn.Keyword("k"): {"x": edn.Keyword("y")}}
    assert value(edn.write(original)) == original


def keywords(kind: str, process: int, f: str, v: Any) -> str:
    return f"{{:type :{kind}, :f :{f}, :value {edn.write(v)}, :process {process}}}"


def strings(kind: str, process: int, f: str, v: Any) -> str:
    return f'{{"type" "{kind}" "f" "{f}" "value" {edn.write(v)} "process" {process}}}'


def logged(kind: str, process: int, f: str, v: Any) -> str:
    return f"INFO  jepsen.util - {process}\t:{kind}\t:{f}\t{edn.write(v)}"


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(keywords(*op) for op in STALE),
        "[" + "\n".join(keywords(*op) for op in STALE) + "]",
        "; a comment\n(" + ",".join(keywords(*op) for op in STALE) + ")",
        "\n".join(strings(*op) for op in STALE),
        "\n".join(logged(*op) for op in STALE),
        "starting up\n" + "\n".join(logged(*op).replace("\t", " ") for op in STALE),
        "\n".join(logged(*op).partition(" - ")[2] for op in STALE),
    ],
)
def test_every_form_of_a_history_gives_the_same_verdict(tmp_path: Path, text: str) -> None:
    assert verdict(load(tmp_path, text)) == "invalid"


def test_a_good_history_stays_good_in_every_form(tmp_path: Path) -> None:
    good = [*STALE[:-1], ("ok", 0, "read", 2)]
    for write in (keywords, strings, logged):
        assert verdict(load(tmp_path, "\n".join(write(*op) for op in good))) == "valid"


def test_operations_of_a_crashed_process_and_of_the_nemesis(tmp_path: Path) -> None:
    text = "\n".join(
        [
            "INFO  jepsen.util - 0\t:invoke\t:write\t1",
            "INFO  jepsen.util - :nemesis\t:info\t:start\tnil",
            "INFO  jepsen.util - 0\t:info\t:write\t:timed-out",
            "INFO  jepsen.util - 5\t:invoke\t:read\tnil",
            "INFO  jepsen.util - 5\t:ok\t:read\t1",
        ]
    )
    history = load(tmp_path, text)
    assert len(history.operations()) == 2
    assert verdict(history) == "valid"


@pytest.mark.parametrize("wrap", ["[{k} {v}]", "#jepsen.independent/tuple [{k} {v}]"])
def test_independent_keys_are_checked_apart(tmp_path: Path, wrap: str) -> None:
    lines = []
    for kind, process, f, v in STALE[:4]:
        lines.append(keywords(kind, process, f, 0).replace(":value 0", ":value " + wrap.format(k=f'"k{v}"', v=v)))
    for kind, seen in (("invoke", "nil"), ("ok", "1")):
        lines.append(keywords(kind, 0, "read", 0).replace(":value 0", ":value " + wrap.format(k='"k1"', v=seen)))
    history = load(tmp_path, "\n".join(lines), independent=wrap.startswith("["))
    assert history.keys == ["k1", "k2"]
    assert verdict(history) == "valid"


def test_times_are_used_where_every_operation_has_one(tmp_path: Path) -> None:
    timed = [keywords(*op)[:-1] + f", :time {10 * at}}}" for at, op in enumerate(STALE)]
    assert load(tmp_path, "\n".join(timed)).time.tolist() == [0, 10, 20, 30, 40, 50]
    assert load(tmp_path, "\n".join([*timed[:-1], keywords(*STALE[-1])])).time.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{:type :okay, :f :read, :process 1}", "type 'okay'"),
        ("{:type :ok, :f :read, :process -1}", "process -1"),
        ("{:type :ok, :f 7, :process 1}", "function 7"),
        ("[1 2]", "an operation is a map"),
        ("{:type :ok, :f :read", "never closed"),
        ("{:type :ok, :f :read, :process 3, :value 1}", "never invoked"),
    ],
)
def test_a_wrong_operation_is_named_by_its_line(tmp_path: Path, line: str, said: str) -> None:
    text = "\n".join([*(keywords(*op) for op in STALE), line])
    with pytest.raises(HistoryError, match=said) as caught:
        load(tmp_path, text).operations()
    assert caught.value.line == len(STALE) + 1


def test_an_empty_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="empty"):
        load(tmp_path, " \n")
    path = tmp_path / "binary"
    path.write_bytes(b"{:a 1}\n\xff\xfe")
    with pytest.raises(HistoryError, match="not text") as caught:
        read_history(path)
    assert caught.value.line == 2


def test_a_converted_history_reads_back_the_same(tmp_path: Path) -> None:
    history = load(tmp_path, "\n".join(keywords(*op) for op in STALE))
    out = io.StringIO()
    jepsen.to_edn(history, out.write)
    again = load(tmp_path, out.getvalue())
    assert list(again.events()) == list(history.events())
