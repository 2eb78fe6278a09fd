"""What models make of operations as tools record them: completions, owners, beginnings, and what they do not have."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from harness import session
from harness.checkers.linearizability import Linearizable
from harness.checkers.linearizability.models import MODELS, Call
from harness.errors import HistoryError, UsageError
from harness.history import History, from_events
from harness.interop import read_history
from harness.operation import Event
from harness.recording import Recorder
from harness.verdict import Budget, Verdict
from tests.models import SHAPES


def read(tmp_path: Path, *operations: str) -> History:
    """A history of ``process type f value`` each."""
    path = tmp_path / "history.edn"
    path.write_text("\n".join(f"[{operation}]" for operation in operations))
    return read_history(path)


def check(history: History, model: str, initial: Any = None) -> Verdict:
    return Linearizable(model, initial=initial).check(history, Budget())


@pytest.mark.parametrize(
    ("model", "operations", "expected"),
    [
        ("register", ["0 :invoke :write 1", "0 :ok :write 2", "0 :invoke :read nil", "0 :ok :read 2"], "valid"),
        ("register", ["0 :invoke :write 1", "0 :ok :write 2", "0 :invoke :read nil", "0 :ok :read 1"], "invalid"),
        ("register", ["0 :invoke :write nil", "0 :ok :write 2", "0 :invoke :read nil", "0 :ok :read 2"], "valid"),
        ("register", ["0 :invoke :write 1", "0 :ok :write nil", "0 :invoke :read nil", "0 :ok :read 1"], "valid"),
        ("register", ["0 :invoke :write 1", "0 :ok :write true", "0 :invoke :read nil", "0 :ok :read 1"], "valid"),
        ("register", ["0 :invoke :write a", "0 :ok :write b", "0 :invoke :read nil", "0 :ok :read b"], "valid"),
        ("register", ["0 :invoke :write 1", "0 :info :write 2", "1 :invoke :read nil", "1 :ok :read 2"], "invalid"),
        (
            "cas-register",
            ["0 :invoke :cas [nil 1]", "0 :ok :cas [nil 2]", "0 :invoke :read nil", "0 :ok :read 2"],
            "valid",
        ),
        (
            "cas-register",
            ["0 :invoke :cas [nil 1]", "0 :ok :cas true", "0 :invoke :read nil", "0 :ok :read 1"],
            "valid",
        ),
        ("set", ["0 :invoke :add 1", "0 :ok :add 2", "0 :invoke :read nil", "0 :ok :read #{2}"], "valid"),
        (
            "fifo-queue",
            ["0 :invoke :enqueue nil", "0 :ok :enqueue 2", "0 :invoke :dequeue nil", "0 :ok :dequeue 2"],
            "valid",
        ),
        ("kv", ["0 :invoke :put a", "0 :ok :put b", "0 :invoke :get nil", "0 :ok :get a"], "invalid"),
        ("semaphore", ["0 :invoke :acquire nil", "0 :ok :acquire 3"], "invalid"),
        (
            "mutex",
            ["0 :invoke :acquire nil", "0 :ok :acquire a", "1 :invoke :acquire nil", "1 :ok :acquire b"],
            "invalid",
        ),
        (
            "reentrant-mutex",
            ["0 :invoke :acquire nil", "0 :ok :acquire a", "1 :invoke :acquire nil", "1 :ok :acquire b"],
            "invalid",
        ),
        (
            "reentrant-mutex",
            ["0 :invoke :acquire nil", "0 :ok :acquire a", "1 :invoke :acquire nil", "1 :ok :acquire a"],
            "valid",
        ),
        # A crashed operation need not say whose it was.
        ("reentrant-mutex", ["0 :invoke :acquire nil", "1 :invoke :release a", "1 :ok :release a"], "valid"),
        (
            "reentrant-mutex",
            [
                "0 :invoke :acquire a",
                "0 :ok :acquire a",
                "1 :invoke :release nil",
                "2 :invoke :acquire b",
                "2 :ok :acquire b",
            ],
            "valid",
        ),
        (
            "reentrant-mutex",
            [
                "0 :invoke :acquire a",
                "0 :ok :acquire a",
                "1 :invoke :acquire nil",
                "2 :invoke :acquire b",
                "2 :ok :acquire b",
            ],
            "invalid",
        ),
    ],
)
def test_a_completion_stands_for_the_operation(
    tmp_path: Path, model: str, operations: list[str], expected: str
) -> None:
    assert check(read(tmp_path, *operations), model).validity == expected
    # The same by the search, where registers with unique writes do without.
    if model in ("register", "cas-register"):
        again = ["9 :invoke :write x", "9 :ok :write x", "9 :invoke :write x", "9 :ok :write x"]
        after = [*operations, *again]
        assert check(read(tmp_path, *after), model).validity == expected


OWN_ANSWERS: list[tuple[str, list[tuple[str, Any, Any]], str]] = [
    ("register", [("write", 5, 1), ("read", None, 5)], "valid"),
    ("register", [("write", 5, 1), ("read", None, 1)], "invalid"),
    ("register", [("write", None, 1), ("read", None, None)], "valid"),
    ("register", [("write", "a", "OK"), ("read", None, "a")], "valid"),
    ("register", [("write", [5], [1]), ("read", None, [5])], "valid"),
    ("cas-register", [("write", 0, 1), ("cas", [0, 5], [1, 1]), ("read", None, 5)], "valid"),
    ("cas-register", [("write", 0, 1), ("cas", [0, 5], [1, 1]), ("read", None, 1)], "invalid"),
    ("set", [("add", 7, 1), ("read", None, [7])], "valid"),
    ("set", [("add", 7, 1), ("read", None, [1])], "invalid"),
    ("fifo-queue", [("enqueue", 7, 1), ("enqueue", 8, 2), ("dequeue", None, 7)], "valid"),
    ("stack", [("push", 7, 1), ("push", 8, 2), ("pop", None, 8)], "valid"),
    ("kv", [("append", "a", ""), ("append", "b", "a"), ("get", None, "ab")], "valid"),
    ("reentrant-mutex", [("acquire", "a", "OK"), ("release", "a", "OK")], "valid"),
    ("semaphore", [("acquire", 2, 0), ("release", 2, 2)], "valid"),
]


@pytest.mark.parametrize(("model", "operations", "expected"), OWN_ANSWERS)
def test_in_splitbrains_own_histories_a_completion_is_an_answer(
    tmp_path: Path, model: str, operations: list[tuple[str, Any, Any]], expected: str
) -> None:
    # Again a register with values that repeat: those are searched, unique ones are not.
    again = [("write", -1, 1), ("write", -1, 1)] if model.endswith("register") else []
    for number, done in enumerate((operations, [*operations, *again])):
        recorder = Recorder(tmp_path / f"{number}.jsonl")
        for at, (f, argument, answer) in enumerate(done):
            recorder.record(Event(0, 2 * at, 0, "invoke", f, None, argument))
            recorder.record(Event(0, 2 * at + 1, 0, "ok", f, None, answer))
        recorder.close()
        for history in (recorder.history(), read_history(tmp_path / f"{number}.jsonl")):
            assert check(history, model).validity == expected


def test_json_of_other_tools_has_completions_that_stand_for_the_operation(tmp_path: Path) -> None:
    fields = [("invoke", "write", 1), ("ok", "write", 2), ("invoke", "read", None), ("ok", "read", 2)]
    objects: list[dict[str, Any]] = [{"process": 0, "type": t, "f": f, "value": v} for t, f, v in fields]
    timed = [{"index": at, "time": at, **one} for at, one in enumerate(objects)]
    for lines, expected in (
        ("\n".join(map(json.dumps, objects)), "valid"),
        (json.dumps(objects), "valid"),
        (json.dumps(timed), "valid"),
        (json.dumps([[0, t, f, v] for t, f, v in fields]), "valid"),
        ("\n".join(map(json.dumps, timed)), "invalid"),
    ):
        (tmp_path / "history.json").write_text(lines)
        assert check(read_history(tmp_path / "history.json"), "register").validity == expected, lines


def test_an_explanation_tells_what_was_written_and_what_a_transaction_read() -> None:
    def only(f: str, argument: Any, answer: Any) -> Any:
        events = [Event(0, 1, 0, "invoke", f, None, argument), Event(0, 2, 0, "ok", f, None, answer)]
        return from_events(events).operations().done(0)

    assert only("write", 5, 1) == 5
    assert only("add", 7, 1) == 7
    assert only("read", None, 7) == 7
    assert only("txn", [["r", "x", None]], [["r", "x", 5]]) == [["r", "x", 5]]
    assert only("txn", [["w", "x", 5]], None) == [["w", "x", 5]]


@pytest.mark.parametrize("f", ["add", "inc", "dec"])
@pytest.mark.parametrize("answers", [(1, 1), (1, 2), (2, 1), (0, 1), (7, 8), (-1, -2), ("nil", "true")])
def test_what_a_counter_answers_to_a_change_neither_corrects_nor_moves_it(
    tmp_path: Path, f: str, answers: tuple[object, object]
) -> None:
    first, second = answers
    one_by_one = [f"0 :invoke :{f} 1", f"0 :ok :{f} {first}", f"0 :invoke :{f} 1", f"0 :ok :{f} {second}"]
    at_once = [f"0 :invoke :{f} 1", f"1 :invoke :{f} 1", f"0 :ok :{f} {first}", f"1 :ok :{f} {second}"]
    unsaid = [f"0 :invoke :{f} nil", f"0 :ok :{f} {first}", f"0 :invoke :{f} nil", f"0 :ok :{f} {second}"]
    for operations in (one_by_one, at_once, unsaid):
        for seen in range(-4, 16):
            history = read(tmp_path, *operations, "0 :invoke :read nil", f"0 :ok :read {seen}")
            right = seen == (-2 if f == "dec" else 2)
            assert check(history, "counter").validity == ("valid" if right else "invalid"), (operations, seen)


def test_what_was_done_is_what_is_told(tmp_path: Path) -> None:
    history = read(tmp_path, "0 :invoke :write 1", "0 :ok :write 2", "0 :invoke :read nil", "0 :ok :read 3")
    (anomaly,) = check(history, "register").anomalies
    operations = history.operations()
    assert [operations.done(row) for row in range(2)] == [2, 3]
    assert [one.value for one in anomaly.operations] == [3]


@pytest.mark.parametrize(
    ("model", "operations", "line", "said"),
    [
        (
            "reentrant-mutex",
            ["0 :invoke :acquire a", "0 :ok :acquire a", "0 :invoke :release nil", "0 :ok :release nil"],
            3,
            "release names no owner",
        ),
        (
            "fenced-lock",
            ["0 :invoke :acquire nil", "0 :ok :acquire nil"],
            1,
            "fencing token, a whole number, not with nothing",
        ),
        ("semaphore", ["0 :invoke :acquire x", "0 :ok :acquire x"], 1, "takes a whole number, not 'x'"),
        ("counter", ["0 :invoke :add 1.5", "0 :ok :add 1.5"], 1, "takes a whole number, not 1.5"),
        (
            "set",
            ["0 :invoke :add 1", "0 :ok :add 1", "0 :invoke :read nil", "0 :ok :read 5"],
            3,
            "list of elements, not with 5",
        ),
        (
            "register",
            ["0 :invoke :cas [1 2]", "0 :ok :cas [1 2]"],
            1,
            "register has no function 'cas', only read, write; cas-register has it",
        ),
        ("cas-register", ["0 :invoke :acquire 1"], 1, "mutex, reentrant-mutex, fenced-lock, semaphore have it"),
        ("stack", ["0 :invoke :enqueue 1"], 1, "fifo-queue, unordered-queue have it"),
        ("kv", ["0 :invoke :frobnicate 1"], 1, "no model has it"),
        (
            "multi-register",
            ["0 :invoke :txn [[:append :x 1]]"],
            1,
            "no micro-operation 'append', only r, w; list-append has it",
        ),
        ("multi-register", ["0 :invoke :txn [[:r :x nil] [:inc :x 1]]"], 1, "'inc', only r, w; no model has it"),
        (
            "list-append",
            ["0 :invoke :txn [[:r :x nil]]", "0 :ok :txn [[:w :x 1]]"],
            1,
            "'w', only append, r; multi-register has it",
        ),
        ("multi-register", ["0 :invoke :txn 7"], 1, "a txn takes a list of steps"),
        ("multi-register", ["0 :invoke :txn [7]"], 1, "a step of a txn is"),
    ],
)
def test_what_a_model_does_not_have_is_refused_with_the_line(
    tmp_path: Path, model: str, operations: list[str], line: int, said: str
) -> None:
    with pytest.raises(HistoryError) as caught:
        check(read(tmp_path, *operations), model)
    assert said in caught.value.message
    assert caught.value.line == line


BEGINNINGS: dict[str, tuple[Any, list[str], Any]] = {
    "register": (7, ["0 :invoke :read nil", "0 :ok :read 7"], None),
    "cas-register": ([7], ["0 :invoke :cas [[7] 8]", "0 :ok :cas [[7] 8]"], None),
    "multi-register": ({"1": 2}, ["0 :invoke :txn [[:r 1 nil]]", "0 :ok :txn [[:r 1 2]]"], 2),
    "list-append": ({"x": [5]}, ["0 :invoke :txn [[:r :x nil]]", "0 :ok :txn [[:r :x [5]]]"], {"x": 5}),
    "kv": ("a", ["0 :invoke :append b", "0 :ok :append b", "0 :invoke :get nil", "0 :ok :get \"ab\""], None),
    "counter": (5, ["0 :invoke :add 1", "0 :ok :add 1", "0 :invoke :read nil", "0 :ok :read 6"], "x"),
    "set": ([1, [2]], ["0 :invoke :read nil", "0 :ok :read #{1 [2]}"], 5),
    "fifo-queue": ([1, 2], ["0 :invoke :dequeue nil", "0 :ok :dequeue 1"], 5),
    "unordered-queue": ([1, 2], ["0 :invoke :dequeue nil", "0 :ok :dequeue 2"], 5),
    "stack": ([1, 2], ["0 :invoke :pop nil", "0 :ok :pop 2"], "x"),
    "mutex": (True, ["0 :invoke :release nil", "0 :ok :release nil"], 5),
    "reentrant-mutex": ("a", ["0 :invoke :release a", "0 :ok :release a"], None),
    "fenced-lock": (7, ["0 :invoke :acquire nil", "0 :ok :acquire 8"], "x"),
    "semaphore": (3, ["0 :invoke :acquire 3", "0 :ok :acquire 3"], -1),
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_every_model_can_begin_in_another_state(tmp_path: Path, model: str) -> None:
    initial, operations, wrong = BEGINNINGS[model]
    history = read(tmp_path, *operations)
    assert check(history, model, initial).validity == "valid"
    if model == "fenced-lock":
        assert check(history, model, 8).validity == "invalid"
    else:
        assert check(history, model).validity == "invalid"
    if wrong is not None:
        with pytest.raises(UsageError, match="begins with"):
            check(history, model, wrong)


def test_keys_of_an_initial_object_reach_keys_of_any_type(tmp_path: Path) -> None:
    for key, name in (("1", "1"), ("-1.5", "-1.5"), (":x", "x"), ('"1"', "1"), ("[1 2]", "[1, 2]"), ("true", "true")):
        history = read(tmp_path, f"0 :invoke :txn [[:r {key} nil]]", f"0 :ok :txn [[:r {key} 2]]")
        assert check(history, "multi-register", {name: 2}).validity == "valid"
        assert check(history, "multi-register", {name: 3}).validity == "invalid"


def test_transactions_on_lists(tmp_path: Path) -> None:
    writes = ["0 :invoke :txn [[:append :x 1]]", "0 :ok :txn [[:append :x 1]]"]
    crashed = ["1 :invoke :txn [[:append :x 2] [:append :y 3]]"]
    for seen, y, expected in (
        ("[1]", "nil", "valid"), ("[1 2]", "[3]", "valid"), ("[1 2]", "nil", "invalid"), ("[2 1]", "[3]", "invalid"),
        ("[1 1]", "nil", "invalid"), ("[1]", "[]", "valid"), ("[]", "[]", "invalid"), ("[1 2]", "[]", "invalid"),
        ("[1]", "0", "invalid"), ("[1]", "false", "invalid"),
    ):  # fmt: skip
        reads = ["2 :invoke :txn [[:r :x nil] [:r :y nil]]", f"2 :ok :txn [[:r :x {seen}] [:r :y {y}]]"]
        assert check(read(tmp_path, *writes, *crashed, *reads), "list-append").validity == expected


@pytest.mark.parametrize("name", sorted(MODELS))
def test_an_object_without_one_of_its_parts_is_possible_as_well(name: str) -> None:
    rng = random.Random(name)
    model = MODELS[name]()
    touched = 0
    for _ in range(300):
        state, calls = model.init(), []
        for _ in range(8):
            f, arguments, results = rng.choice(SHAPES[name])
            call = Call(f, None, rng.choice(arguments), rng.choice(results))
            if after := list(model.step(state, call)):
                state = rng.choice(after)
                calls.append(call)
        for part in {part for call in calls for part in model.parts(call)}:
            touched += 1
            left = {model.init()}
            for call in calls:
                if part not in set(model.parts(call)):
                    left = {after for one in left for after in model.step(one, call)}
            assert left, (calls, part)
    assert bool(touched) == (name in PARTED)


PARTED = {"set", "fifo-queue", "unordered-queue", "stack"}


@pytest.mark.parametrize(
    ("model", "put", "take", "order", "wrong"),
    [
        ("fifo-queue", "enqueue", "dequeue", [*range(30)], [*range(10), 11, 10, *range(12, 30)]),
        ("stack", "push", "pop", [*range(30)], [*reversed(range(12, 30)), 10, 11, *reversed(range(10))]),
        ("unordered-queue", "enqueue", "dequeue", [*range(30)], [*range(20), 5, *range(21, 30)]),
        ("set", "add", "remove", [*range(30)], []),
    ],
)
def test_an_explanation_names_every_operation_that_is_needed_and_few_others(
    tmp_path: Path, model: str, put: str, take: str, order: list[int], wrong: list[int]
) -> None:
    operations = [f"0 :{t} :{put} {v}" for v in order for t in ("invoke", "ok")]
    for value in wrong:
        operations += [f"0 :invoke :{take} nil", f"0 :ok :{take} {value}"]
    if model == "set":
        operations += ["1 :invoke :read nil", f"1 :ok :read [{' '.join(map(str, order[:-1]))}]"]
    (anomaly,) = check(read(tmp_path, *operations), model).anomalies
    named = {(one.f, str(one.value)) for one in anomaly.operations}
    needed = {
        "fifo-queue": {("enqueue", "10"), ("enqueue", "11"), ("dequeue", "11")},
        "stack": {("push", "10"), ("push", "11"), ("pop", "10")},
        "unordered-queue": {("enqueue", "5"), ("dequeue", "5")},
        "set": {("add", "29"), ("read", str(order[:-1]))},
    }[model]
    assert needed <= named
    if model != "set":
        assert len(anomaly.operations) <= 4
        assert f"{take} {wrong[10] if model == 'fifo-queue' else 10 if model == 'stack' else 5}" in anomaly.text


def test_a_model_of_ones_own_that_fails_is_a_usage_error(tmp_path: Path) -> None:
    from harness.checkers.linearizability.models import Model

    class Broken(Model):
        def init(self) -> Any:
            return 0

        def step(self, state: Any, call: Call) -> Any:
            return [{}[call.argument]] if call.f == "get" else [[state]]

    for f in ("get", "put"):
        with pytest.raises(UsageError, match=r"the model Broken failed at \w+ of 5: (KeyError|TypeError)"):
            Linearizable(Broken()).check(read(tmp_path, f"0 :invoke :{f} 5", f"0 :ok :{f} 5"), Budget())


def test_a_model_of_ones_own_begins_where_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from harness.checkers.linearizability.register_models import Register\n"
        "class Mine(Register):\n    pass\n"
        "class Fixed(Register):\n    def __init__(self):\n        super().__init__()\n"
    )
    read(tmp_path, "0 :invoke :read nil", "0 :ok :read 7")

    def code(name: str, initial: str | None) -> int:
        model = f"{tmp_path}/mine.py:{name}"
        begins = None if initial is None else int(initial)
        return session.check(tmp_path / "history.edn", model, initial=begins).exit_code

    assert code("Mine", "7") == 0
    assert code("Mine", "8") == code("Mine", None) == 1
    with pytest.raises(UsageError, match="cannot begin with 7"):
        code("Fixed", "7")
