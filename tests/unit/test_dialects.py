"""The same histories in every form that tools have written them in, and what may go wrong with each."""

from __future__ import annotations

import gzip
import io
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.checkers.linearizability import Linearizable
from harness.errors import HistoryError
from harness.history import History
from harness.interop import edn, jepsen, read_history
from harness.verdict import Budget

Line = tuple[str, int, str, Any]

STALE: list[Line] = [
    ("invoke", 0, "write", 1), ("ok", 0, "write", 1), ("invoke", 1, "write", 2), ("ok", 1, "write", 2),
    ("invoke", 0, "read", None), ("ok", 0, "read", 1),
]  # fmt: skip
GOOD: list[Line] = [*STALE[:-1], ("ok", 0, "read", 2)]


def read(tmp_path: Path, content: str | bytes, *, independent: bool = False) -> History:
    path = tmp_path / "history"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_history(path, independent=independent)


def verdict(history: History, model: str = "register", initial: Any = None) -> str:
    return Linearizable(model, initial=initial).check(history, Budget()).validity


def maps(lines: list[Line]) -> list[str]:
    return [f"{{:type :{t}, :f :{f}, :value {edn.write(v)}, :process {p}}}" for t, p, f, v in lines]


def objects(lines: list[Line]) -> list[dict[str, Any]]:
    return [{"type": t, "process": p, "f": f, "value": v} for t, p, f, v in lines]


def logged(prefix: str, lines: list[Line]) -> str:
    return "\n".join(f"{prefix}{p}\t:{t}\t:{f}\t{edn.write(v)}" for t, p, f, v in lines)


def trace(text: str) -> str:
    noise = "java.lang.RuntimeException: {:type :invoke, :f :write}\n    at some.place(Place.java:1)\nsmi\xdfle \n"
    return "starting\n" + text.replace("\n", "\n" + noise)


FORMS = {
    "records": lambda h: "\n".join("#jepsen.history.Op" + m for m in maps(h)),
    "tagged vector": lambda h: "#jepsen.history.DenseHistory [" + "\n".join(maps(h)) + "]",
    "one namespace": lambda h: "\n".join(m.replace("{", "#:jepsen{", 1) for m in maps(h)),
    "knossos": lambda h: "[" + "\n".join(f"[{p} :{t} :{f} {edn.write(v)}]" for t, p, f, v in h) + "]",
    "knossos lines": lambda h: "\n".join(f"[{p} :{t} :{f} {edn.write(v)}]" for t, p, f, v in h),
    "named processes": lambda h: "\n".join(m.replace(":process ", ":process :p") for m in maps(h)),
    "json array": lambda h: json.dumps(objects(h)),
    "json array, indented": lambda h: json.dumps(objects(h), indent=2),
    "json lines": lambda h: "\n".join(json.dumps(o) for o in objects(h)),
    "json arrays": lambda h: json.dumps([[p, t, f, v] for t, p, f, v in h]),
    "json array lines": lambda h: "\n".join(json.dumps([p, t, f, v]) for t, p, f, v in h),
    "json, null times": lambda h: "\n".join(json.dumps({**o, "time": None, "index": None}) for o in objects(h)),
    "json, other fields": lambda h: "\n".join(
        json.dumps({"score": math.nan, **o, "error": {"a": [1]}, "at": 10**30, "time": "2031-05-14T10:00:00"})
        for o in objects(h)
    ),
    "json, cut off in its last line": lambda h: "\n".join(json.dumps(o) for o in objects(h)) + '\n{"type": "in',
    "history.txt": lambda h: logged("", h),
    "history.txt, errors": lambda h: logged("", [("info", 7, "write", 5), *h]) + "\t[:no \\what",
    "first log": lambda h: logged("INFO  jepsen.util - ", h),
    "log of threads": lambda h: trace(logged("INFO [2031-05-14 10:48:13,039] jepsen worker 3 - jepsen.util ", h)),
    "log of 2031": lambda h: trace(logged("2031-05-14 08:12:01,300{GMT}\tINFO\t[jepsen worker 1] jepsen.util: ", h)),
    "log in brackets": lambda h: logged("[2031-05-14 08:12:01,300] INFO jepsen.util - ", h),
    "all at one time": lambda h: "\n".join(m[:-1] + ", :time 7}" for m in maps(h)),
    "json, all at one time": lambda h: "\n".join(
        json.dumps({"index": at, "time": 7, **o}) for at, o in enumerate(objects(h))
    ),
    "times of -1": lambda h: "\n".join(m[:-1] + ", :time -1, :index -1}" for m in maps(h)),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_verdict(tmp_path: Path, form: str) -> None:
    write = FORMS[form]
    for lines, expected in ((STALE, "invalid"), (GOOD, "valid")):
        text = write(lines)  # type: ignore[no-untyped-call]
        data = text.encode("latin-1") if "\xdf" in text else text.encode()
        assert verdict(read(tmp_path, data)) == expected


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: gzip.compress(text.encode()),
        lambda text: gzip.compress(b"\xef\xbb\xbf" + text.encode()),
    ],
)
def test_every_wrapping_is_taken_off(tmp_path: Path, wrap: Any) -> None:
    events = [{"index": at, "time": 10 * at, **one} for at, one in enumerate(objects(STALE))]
    for text in ("\n".join(maps(STALE)), "\n".join(json.dumps(e) for e in events), logged("", STALE)):
        assert verdict(read(tmp_path, wrap(text))) == "invalid"


def test_standard_input_and_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import threading

    data = gzip.compress("\n".join(maps(STALE)).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert verdict(read_history(Path("-"))) == "invalid"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    assert verdict(read_history(pipe)) == "invalid"
    writer.join()


def test_a_compressed_file_that_was_cut_off_is_one_sentence(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join(maps(STALE) * 50).encode())
    for data in (whole[:-20], whole[:20], whole[:15] + b"xxxx" + whole[19:]):
        with pytest.raises(HistoryError, match="cannot be decompressed"):
            read(tmp_path, data)


ODD = [
    '#object[java.net.SocketException 0x1b2c "gone"]', '#object[a.b$c 0x1 "\\q"]', "#:clojure.error{:phase :x}",
    "#::{:a 1}",
    "1/2", "##NaN", "##-Inf", "#inst \"2031-05-14\"", "#uuid \"x\"", "#a.B{:c 1}", "12ab", "\\o377", "#<Object a.B@1>",
    "#'clojure.core/inc", "#\"a+\\d\"", "^{:a 1} [2]", "@x", "#(f %)", "::k", "017", "2r101", "9" * 6000,
    "{[1 2] 3, #{4} {5 6}}",
    "#{#a [1] {:b 2} 12ab}", "1e400", "\"\\ud800\"", "nil", "a'b#", "'(1)", "{#a [1] 2}",
]  # fmt: skip


@pytest.mark.parametrize("literal", ODD)
def test_no_literal_fails_a_file_where_it_does_not_matter(tmp_path: Path, literal: str) -> None:
    lines = maps(STALE)
    lines[1] = lines[1][:-1] + f", :error {literal}, :else {literal}, {literal} 1}}"
    lines.insert(2, f"{{:type :info, :f :start, :process :nemesis, :value {literal}}}")
    lines.insert(
        3,
        f"{{:type :invoke, :f :write, :process 9, :value 3}} {{:type :info, :f :write, :process 9, :value {literal}}}",
    )
    history = read(tmp_path, "\n".join(lines))
    assert verdict(history) == "invalid"
    out = io.StringIO()
    jepsen.to_edn(history, out.write)
    assert list(read(tmp_path, out.getvalue()).events()) == list(history.events())


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("#{1 2}", frozenset({1, 2})), ("4/2", 2), ("2/4", "1/2"), ("0x1F", 31), ("-2r101", -5), ("##Inf", math.inf),
        ("#:a{:b 1, :c/d 2, :_/e 3}", {"a/b": 1, "c/d": 2, "e": 3}),
        ('"\\uD83D\\uDE00"', "\U0001f600"), ("^:m [1]", [1]),
    ],
)  # fmt: skip
def test_literals_mean_what_clojure_means(text: str, meant: Any) -> None:
    (form,) = edn.read(text)
    assert form.value == meant


def test_sets_compare_as_sets_and_nan_is_a_value(tmp_path: Path) -> None:
    for wrote, seen, expected in (
        ("#{1 2}", "#{2 1}", "valid"),
        ("#{1 [2 #{3 4}]}", "#{[2 #{4 3}] 1}", "valid"),
        ("#{1 2}", "#{1 3}", "invalid"),
        ("##NaN", "##NaN", "valid"),
        ("1/2", "2/4", "valid"),
        ("1/2", "1/3", "invalid"),
    ):
        for repeat in (1, 2):  # unique values, and repeated ones: two ways of deciding
            lines = [f"[0 :invoke :write {wrote}] [0 :ok :write {wrote}]"] * repeat
            text = "\n".join([*lines, f"[0 :invoke :read nil] [0 :ok :read {seen}]"])
            assert verdict(read(tmp_path, text)) == expected, (wrote, seen)
    text = "[0 :invoke :add 1] [0 :ok :add 1] [0 :invoke :read nil] [0 :ok :read {}]"
    for seen, expected in (("#{1}", "valid"), ("[1]", "valid"), ("#{}", "invalid")):
        assert verdict(read(tmp_path, text.replace("{}", seen)), "set") == expected


OWN = '{"index":4,"time":0,"process":0,"type":"invoke"'
TIMED = "{:type :invoke, :f :read, :process 0, :time"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[[0 :invoke :write 1]\n [0 :ok :write 1]\n [0 :ok :write 1]]", 3, "never invoked"),
        ("[[0 :invoke :write 1]\n [0 :ok :write 1] 7]", 2, "an operation is a map, not 7"),
        ("({:type :invoke, :f :read, :process 0}\n\n{:type :what, :f :read, :process 0})", 3, "type 'what'"),
        ("[0 :invoke :write 1]\n[0 :ok :write 12ab]", 2, "'12ab' is neither a number nor a name"),
        ("[0 :invoke :write 1]\n[0 :ok :write #<Object>]", 2, "neither"),
        ("[0 :invoke :write 1]\n[0 :ok :write " + "9" * 6000 + "]", 2, "longer than 4,000 digits"),
        ("[0 :invoke :write 1]\n[0 :ok :write " + "[" * 100_000, 2, "nested more than 200 deep"),
        ("[0 :invoke :write 1]\n[0 :ok :write " + "#a " * 100_000, 2, "nested more than 200 deep"),
        ("[0 :invoke :write 1]\n[" + "1" * 26 + " :ok :write 1]", 2, "process 1{26}, not a number"),
        ("[0 :invoke :write 1]\n[-3 :ok :write 1]", 2, "process -3"),
        ("[0 :invoke :write 1]\n[nil :ok :write 1]", 2, "process nil"),
        ("0\t:invoke\t:write\t1\n0\t:ok\t:write\t[1", 2, "never closed"),
        ("0\t:invoke\t:write\t1\n0x\t:ok\t:write\t1", 2, "looks like an operation"),
        ("1" * 26 + "\t:invoke\t:write\t1", 1, "process"),
        ("9" * 6000 + "\t:invoke\t:write\t1", 1, "process"),
        ("hello\nworld", 1, "neither JSON, EDN nor a log"),
        ('[[0, "invoke", "write", 1],\n[0, "ok", "write", ' + "[" * 100_000, 2, "deep"),
        ('{"type": "invoke", "process": 0, "f": "write", "value": ' + "[" * 500 + "]" * 500 + "}\n", 1, "deep"),
        ('{"type": "invoke", "process": 0, "f": "write", "value": ' + "9" * 6000 + "}", 1, "longer than 4,000 digits"),
        ('{"type": "invoke", "process": ' + "9" * 26 + ', "f": "write"}', 1, "process 9{26}"),
        ('{"index":0,"time":0,"process":' + "9" * 26 + ',"type":"invoke","f":"read"}', 1, "process 9{26}"),
        ('{"index":0,"time":0,"process":-1,"type":"invoke","f":"read"}\n', 1, "process -1"),
        ('{"index":0,"time":-5,"process":1,"type":"invoke","f":"read"}\n', 1, "time -5"),
        (OWN + ',"f":"write","value":' + "[" * 300 + "]" * 300 + "}\n", 1, "deep"),
        ('[{"type": "invoke",\n"process": 0, "f": "read"}\n', 3, "array|expecting"),
        ('{"type": "invoke", "process": 0, "f": "read"}\n{"type": }\n', 2, "not JSON"),
        (f"{TIMED} 5, :index 3}}\n{TIMED} 6, :index 3}}", 2, "index 3 appears a second time"),
        (f"{TIMED} 5}}\n{TIMED} -6}}", 2, "time -6"),
        (f"{TIMED} 5}}\n{TIMED} :soon}}", 2, "time 'soon'"),
        ("{:type :invoke, :f :read, :process 0, :time " + "9" * 26 + "}", 1, "time 9{26}"),
        ("{:type :invoke, :f :read, :process 0, :index -7}", 1, "index -7"),
        (f'{OWN},"f":"read"}}\n' * 2, 2, "index 4 appears a second time"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(HistoryError, match=said) as caught:
        verdict(read(tmp_path, text))
    assert caught.value.line == line
    assert len(str(caught.value)) < 800


def test_messages_cannot_steer_a_terminal(tmp_path: Path) -> None:
    for text in (
        "[0 :invoke :wri\x1b[31mte 1]\n[0 :ok :read 1]",
        '{"type": "\\u001b[31m", "process": 0, "f": "read"}',
        '[0 :invoke "\\u001b[2J" 1]\n[0 :ok "\\u001b[2J" 1]',
    ):
        with pytest.raises(HistoryError) as caught:
            verdict(read(tmp_path, text))
        assert str(caught.value).isprintable()
    text = '{:type :invoke, :f :write, :process 0, :key "\\u001b[2Jx", :value 1, :node "\\u001b[31m"}\n'
    history = read(tmp_path, text + text.replace("invoke", "ok") + text.replace("write", "read").replace("0,", "1,"))
    history = read(
        tmp_path,
        text + text.replace("invoke", "ok") + text.replace("write", "read")
        + text.replace("write", "read").replace("invoke", "ok").replace("value 1", 'value "\\u001b[1m"'),
    )  # fmt: skip
    (anomaly,) = Linearizable("register").check(history, Budget()).anomalies
    assert anomaly.text.isprintable()


def test_the_order_of_the_file_counts_where_time_steps_back(tmp_path: Path) -> None:
    def timed(lines: list[Line], times: list[int]) -> str:
        return "\n".join(m[:-1] + f", :time {t}}}" for m, t in zip(maps(lines), times, strict=True))

    times = [100, 300, 200, 250, 240, 190]
    good, stale = (read(tmp_path, timed(lines, times)) for lines in (GOOD, STALE))
    assert (verdict(good), verdict(stale)) == ("valid", "invalid")
    (note,) = good.notes
    assert "steps back 3 times, first on line 3, by at most 100 ns" in note
    assert good.time.tolist() == times
    out = io.StringIO()
    jepsen.to_edn(stale, out.write)
    again = read(tmp_path, out.getvalue())
    assert list(again.events()) == list(stale.events())
    assert verdict(again) == "invalid"
    own = [{"index": at, "time": t, **one} for at, (t, one) in enumerate(zip(times, objects(STALE), strict=True))]
    recorded = read(tmp_path, "\n".join(json.dumps(one) for one in own))
    assert verdict(recorded) == "invalid"
    assert "steps back" in recorded.notes[0]
    assert not read(tmp_path, timed(GOOD, [1, 2, 3, 4, 5, 6])).notes


def test_operations_are_named_by_the_files_own_index(tmp_path: Path) -> None:
    lines = [m[:-1] + f", :index {100 + 3 * at}}}" for at, m in enumerate(maps(STALE))]
    history = read(tmp_path, "\n".join(lines))
    (anomaly,) = Linearizable("register").check(history, Budget()).anomalies
    assert "(index 112)" in anomaly.text
    assert {one.index for one in anomaly.operations} == {100, 106, 112}
    assert [event.index for event in history.events()] == [100, 103, 106, 109, 112, 115]
    own = [{"index": 50 + at, "time": at, **one} for at, one in enumerate(objects(STALE))]
    (anomaly,) = Linearizable("register").check(read(tmp_path, "\n".join(map(json.dumps, own))), Budget()).anomalies
    assert "(index 54)" in anomaly.text


def test_a_crash_of_a_process_with_nothing_open_changes_nothing(tmp_path: Path) -> None:
    crash = "{:type :info, :f :crash, :process 0, :value nil}"
    for at in range(len(STALE) + 1):
        for lines, expected in ((GOOD, "valid"), (STALE, "invalid")):
            text = maps(lines)
            text.insert(at, crash.replace("0", "8"))
            assert verdict(read(tmp_path, "\n".join(text))) == expected
    # With something open it is that which crashed.
    opened = "\n".join(maps([("invoke", 0, "write", 1)])) + crash
    assert verdict(read(tmp_path, opened)) == "valid"
    for kind in ("ok", "fail"):
        with pytest.raises(HistoryError, match="never invoked"):
            verdict(read(tmp_path, crash.replace("info", kind)))


@pytest.mark.parametrize(
    ("lines", "keyed"),
    [
        (["0 :invoke :write [0 5]", "0 :ok :write [0 5]", "0 :invoke :read [0 nil]", "0 :ok :read [0 5]"], True),
        (["0 :invoke :enqueue [a 5]", "0 :ok :enqueue [a 5]", "0 :invoke :dequeue [a nil]"], True),
        (["0 :invoke :write [0 5]", "0 :ok :write [0 5]", "0 :invoke :read nil", "0 :ok :read [0 5]"], False),
        (["0 :invoke :cas [1 2]", "0 :ok :cas [1 2]", "1 :invoke :cas [2 nil]"], False),
        (["0 :invoke :txn [[:r 1 nil] [:w 2 3]]"], False),
    ],
)
def test_pairs_that_look_like_keys_are_noted(tmp_path: Path, lines: list[str], keyed: bool) -> None:
    text = "\n".join(f"[{line}]" for line in lines)
    history = read(tmp_path, text)
    assert [("`independent=True`" in note) for note in history.notes] == ([True] if keyed else [])
    if keyed:
        assert not read(tmp_path, text, independent=True).notes
        assert read(tmp_path, text, independent=True).keys != [None]


def test_named_processes_are_numbered_and_the_nemesis_is_none(tmp_path: Path) -> None:
    text = '[:a :invoke :write 1] [3 :invoke :read nil] [:nemesis :info :start 1] ["b" :invoke :read nil]'
    history = read(tmp_path, text)
    assert history.process.tolist() == [4, 3, -1, 5]
    assert "'a' is 4, 'b' is 5" in history.notes[0]


def values(rng: random.Random, depth: int = 0) -> Any:
    scalars = [
        None,
        True,
        False,
        0,
        -7,
        1 << 70,
        2.5,
        -1e300,
        "",
        "x",
        'q"\\\n\t\x1b\x00\x7f\u2028',
        "\U0001f600",
        "#_",
        ":k",
    ]
    if depth > 3 or rng.random() < 0.6:
        return rng.choice(scalars)
    if rng.random() < 0.5:
        return [values(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(["a", "b c", "", "\x1b"]): values(rng, depth + 1) for _ in range(rng.randrange(3))}


@pytest.mark.parametrize("seed", range(40))
def test_what_convert_writes_is_always_read(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    keyed = rng.random() < 0.5
    lines = []
    for at in range(30):
        process: Any = rng.choice([at, "nemesis", "monitor"])
        event = {
            "index": 2 * at, "time": rng.randrange(50), "process": process, "type": rng.choice(["invoke", "info"]),
            "f": rng.choice(["read", "start-kill", "read all", "", "a/b", "7", "\x1b[1m", 'q"']) or "x",
            "key": values(rng) if keyed and isinstance(process, int) else None, "value": values(rng),
        }  # fmt: skip
        lines.append(json.dumps(event))
    history = read(tmp_path, "\n".join(lines) + "\n")
    out = io.StringIO()
    jepsen.to_edn(history, out.write)
    assert out.getvalue().replace("\n", "").isprintable()
    again = read(tmp_path, out.getvalue(), independent=keyed and any(key is not None for key in history.keys))
    assert [e.value for e in again.events()] == [e.value for e in history.events()]
    assert [(e.f, e.process, e.time, e.index) for e in again.events()] == [
        (e.f, e.process, e.time, e.index) for e in history.events()
    ]
    assert [e.key for e in again.events()] == [e.key for e in history.events()]


def sample_files() -> dict[str, tuple[str, str]]:
    """Files in the style of real ones, and the model of each."""
    rng = random.Random(5)
    register: list[Line] = []
    for at in range(40):
        f, value = rng.choice([("read", None), ("write", at), ("cas", [at - 1, at])])
        register += [("invoke", at % 5, f, value), (rng.choice(["ok", "ok", "fail", "info"]), at % 5, f, value)]
    strings = [
        f'{{:process {p}, :type :{t}, :f :{f}, :key "{k}", :value "{v}"}}'
        for p in range(4) for k in range(3) for f, v in (("append", f"x {p} {k} y"), ("get", ""))
        for t in ("invoke", "ok")
    ]  # fmt: skip
    own = [{"index": at, "time": at, **one} for at, one in enumerate(objects(register))]
    return {
        "log": (logged("INFO  jepsen.util - ", register), "cas-register"),
        "edn": ("[" + "\n".join(maps(register)) + "]", "cas-register"),
        "own": ("\n".join(map(json.dumps, own)), "cas-register"),
        "json": (json.dumps(objects(register), indent=1), "cas-register"),
        "strings": ("\n".join(strings), "kv"),
    }  # fmt: skip


def mutated(rng: random.Random, data: bytes) -> bytes:
    kind = rng.randrange(5)
    at = rng.randrange(len(data))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 2:
        odd = [b"\x1b[31m", b"\xff", b"#", b"{", b"]", b'"', b"\\ud800", b"9" * 5000, b"##NaN", b"\x00", b"nil"]
        return data[:at] + rng.choice(odd) + data[at:]
    lines = data.split(b"\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    if kind == 3:
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines.insert(one, lines[other])
    return b"\n".join(lines)


@pytest.mark.parametrize("name", ["log", "edn", "own", "json", "strings"])
def test_mutated_files_give_a_verdict_or_one_sentence(tmp_path: Path, name: str) -> None:
    text, model = sample_files()[name]
    rng = random.Random(name)
    outcomes = set()
    for _ in range(40):
        outcome, line, said = outcome_of(tmp_path, mutated(rng, text.encode()), model)
        outcomes.add(outcome)
        assert said.isprintable()
        assert len(said) < 800
        assert outcome != "error" or line is not None, said
    assert "error" in outcomes
    assert len(outcomes) > 1


def outcome_of(tmp_path: Path, data: bytes, model: str) -> tuple[str, int | None, str]:
    """The verdict, or the line and the sentence of the error."""
    try:
        return verdict(read(tmp_path, data), model), None, ""
    except HistoryError as error:
        return "error", error.line, str(error)
