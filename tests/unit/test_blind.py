"""A history in which nothing could have been wrong is no pass: whatever the store does, it would look the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.checkers.crashes import Crashes
from harness.checkers.elements import Elements
from harness.checkers.linearizability import Linearizable
from harness.checkers.overwritten import Overwritten
from harness.checkers.split_brain import SplitBrain
from harness.checkers.total import Total
from harness.conduct import simulate
from harness.experiment import Experiment
from harness.history import History, from_events
from harness.judging import judge
from harness.operation import Event
from harness.verdict import Budget, Checker, Verdict
from tests.histories import Op, history


def locks(*names: str) -> History:
    events: list[Event] = []
    for name in names:
        for kind in ("invoke", "ok"):
            events.append(Event(0, len(events), 0, kind, name))
    return from_events(events)


def writes(count: int) -> list[Op]:
    return [Op("write", n, 2 * n, 2 * n + 1) for n in range(count)]


@pytest.mark.parametrize(
    ("model", "seen", "blind"),
    [
        ("cas-register", history([]), True),
        ("cas-register", history(writes(1)), True),
        ("cas-register", history(writes(500)), True),
        ("cas-register", history([Op("read", None, 0, 1)]), True),
        ("cas-register", history([Op("read", None, 0, 1), Op("read", None, 2, 3)]), True),
        ("cas-register", history([Op("read", None, 0, 1, "a"), Op("write", 1, 2, 3, "b")]), True),
        ("cas-register", history([Op("read", None, 0, 1), Op("write", 1, 2, 3)]), False),
        ("cas-register", history([Op("write", 1, 0, None), Op("read", 1, 2, 3), Op("read", 1, 4, 5)]), False),
        ("cas-register", history([*writes(500), Op("read", 499, 2000, 2001)]), False),
        ("cas-register", history([Op("write", 1, 0, 1), Op("cas", [1, 2], 2, 3)]), False),
        ("mutex", locks("acquire"), True),
        ("mutex", locks("acquire", "release"), False),
        ("fifo-queue", locks("enqueue", "enqueue"), True),
    ],
)
def test_two_operations_whose_order_matters_are_the_least(model: str, seen: History, blind: bool) -> None:
    checker = Linearizable(model)
    assert checker.check(seen, Budget()).validity == "valid"
    assert bool(checker.blind(seen)) is blind
    verdict = judge(seen, {"linearizable": checker}, Budget())
    assert verdict.validity == ("unknown" if blind else "valid")


@pytest.mark.parametrize("checker", [Elements(), Total(), Overwritten()])
def test_who_compares_final_reads_needs_one(checker: Any) -> None:
    events = [Event(0, 0, 0, "invoke", "add", "k", 1, "n1"), Event(1, 1, 0, "ok", "add", "k", 1, "n1")]
    assert judge(from_events(events), {"one": checker}, Budget()).validity == "unknown"


def test_what_has_no_checkers_or_no_success_is_no_pass() -> None:
    assert judge(locks("acquire", "release"), {}, Budget()).reason == "nobody: nothing was checked"
    failed = [Event(0, 0, 0, "invoke", "write", "k", 1), Event(1, 1, 0, "fail", "write", "k", 1)]

    class Content(Checker):
        def check(self, history: History, budget: Budget) -> Verdict:
            return Verdict("valid")

    verdict = judge(from_events(failed), {"content": Content()}, Budget())
    assert (verdict.validity, verdict.reason) == ("unknown", "no operation of a client succeeded")


WORKLOAD = """
from harness.generator import limit, repeat
from harness.operation import Operation
from harness.workloads.register import Register

class Unchecked(Register):
    name = "register"
    def checkers(self): return {}

class OneRead(Register):
    name = "register"
    def generator(self, rng): return limit(1, repeat(Operation("read", "k0")))
    def final(self): return None
"""


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        ("Unchecked", "nothing was checked: the workload register has no checkers, and `checkers` names none"),
        ("OneRead", "nothing in it could be wrong"),
    ],
)
def test_a_run_that_tests_nothing_is_no_pass(tmp_path: Path, workload: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(WORKLOAD)
    name = f"{tmp_path}/mine.py:{workload}"
    experiment = Experiment("reference", name, environment="simulation", time=1.0)
    verdict = simulate(experiment, tmp_path / "runs").verdict
    assert verdict.validity == "unknown"
    assert said in verdict.reason


def test_a_verdict_speaks_of_fields_and_in_the_terminal_of_options(
    tmp_path: Path, splitbrain: Callable[..., Any]
) -> None:
    (tmp_path / "mine.py").write_text(WORKLOAD)
    words = ["--workload", "./mine.py:Unchecked", "--on", "simulation", "--time", "1", "--runs", "r"]
    done = splitbrain("run", "reference", *words)
    assert done.returncode == 3
    assert "has no checkers, and --checker names none" in done.stdout
    (run,) = (tmp_path / "r").iterdir()
    assert "has no checkers, and `checkers` names none" in (run / "verdict.json").read_text()
    done = splitbrain("check", f"r/{run.name}", "--trust")
    assert "has no checkers, and --checker names none" in done.stdout


@pytest.mark.parametrize("kind", ["fail", "info"])
def test_a_file_without_success_is_no_pass(tmp_path: Path, splitbrain: Callable[..., Any], kind: str) -> None:
    (tmp_path / "history.edn").write_text(
        f"{{:type :invoke :f :write :value 1 :process 0}}\n{{:type :{kind} :f :write :value 1 :process 0}}"
    )
    done = splitbrain("check", "history.edn", "--model", "register")
    assert (done.returncode, done.stdout) == (3, "unknown: no operation of a client succeeded\n")


@pytest.mark.parametrize(
    ("checker", "claims", "found"),
    [
        (SplitBrain(), None, "unknown"),
        (SplitBrain(), "primary", "unknown"),
        (SplitBrain(), "none", "valid"),
        (Crashes(), None, "unknown"),
        (Crashes(), "primary", "valid"),
    ],
)
def test_what_tells_nothing_of_nodes_shows_neither_split_brain_nor_crash(
    checker: Checker, claims: str | None, found: str
) -> None:
    events = [Event(0, 0, "monitor", "info", "leadership", value=claims)] if claims else []
    events += [Event(0, 0, 0, "invoke", "write", "k", 1), Event(0, 0, 0, "ok", "write", "k", 1)]
    seen = from_events(replace(event, index=place, time=place) for place, event in enumerate(events))
    assert judge(seen, {"it": checker}, Budget()).validity == found
