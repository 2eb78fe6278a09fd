"""Timetables that no run could do as they say are refused before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.assembly import assemble
from harness.dealing import deal
from harness.errors import UsageError
from harness.experiment import Experiment
from harness.plugins import load, names
from harness.targets.reference.bugs import BUGS
from harness.timetable import Fault, Timetable, read_timetable, refuse_misplanned

ORDER = ["n1", "n2", "n3"]
KILL = {"name": "kill", "start": 1, "stop": 2, "plan": {"aim": "n1", "order": ORDER}}
CUT = {"name": "partition", "start": 1, "stop": 2, "plan": {"kind": "one", "order": ORDER, "how": "drop"}}
NETEM_PLAN = {"aim": "one", "order": ORDER, "quality": {"loss": 0.5}, "direction": "out", "seed": "7"}
NETEM = {"name": "netem", "start": 1, "stop": 2, "plan": NETEM_PLAN}
DEEP = json.dumps({"faults": [{**KILL, "plan": "?"}]}).replace('"?"', '{"a":' * 9999 + "1" + "}" * 9999)
WRITE = {"at": 1.0, "worker": 0, "f": "write", "key": "k0", "value": 1}


def refused(tmp_path: Path, table: Any, **more: Any) -> str:
    """What is said of a timetable, given as JSON or as text."""
    path = tmp_path / "timetable.json"
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    with pytest.raises(UsageError) as caught:
        assemble(Experiment("reference", timetable=read_timetable(path), **more))
    said = str(caught.value)
    assert said.isprintable()
    return said


def without(fault: dict[str, Any], field: str) -> dict[str, Any]:
    return {**fault, "plan": {name: value for name, value in fault["plan"].items() if name != field}}


def having(fault: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**fault, "plan": {**fault["plan"], **more}}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({**KILL, "name": "kil"}, "did you mean kill?"),
        ({**KILL, "name": ""}, "there is no nemesis named ''"),
        ({**KILL, "start": -1}, "start is -1, but it must be from 0"),
        ({**KILL, "stop": 1e12}, "stop is 1000000000000, but"),
        ({**KILL, "start": 3}, "it stops before it starts, at 2 s"),
        ({**KILL, "start": 40, "stop": 50}, "by then the run is over, after `time=30`"),
        ({**KILL, "start": "soon"}, "is not a timetable"),
        ({**KILL, "begin": 1}, "unknown field `begin`"),
        (without(KILL, "aim"), "missing required field `aim`"),
        (without(KILL, "order"), "missing required field `order`"),
        (having(KILL, aim="n9"), "aim is n9, but it must be primary, one, "),
        (having(KILL, aim="any"), "aim is any"),
        (having(KILL, order=["n1", "n9"]), "order is "),
        (having(KILL, order=[]), "order is "),
        (having(KILL, order=["n1", "n1"]), "order is "),
        (having(KILL, order="n1"), "`order`"),
        (having(KILL, kind="halves"), "unknown field `kind`"),
        (having(CUT, kind="any"), "Invalid enum value 'any'"),
        (having(CUT, how="burn"), "Invalid enum value 'burn'"),
        (having(CUT, flap=-1), "flap is -1"),
        (having(CUT, kind="links"), "links are for the kind links, and needed there"),
        (having(CUT, kind="links", links=[["n1", "n1"]]), "links is "),
        (having(CUT, kind="links", links=[["n1", "n9"]]), "links is "),
        (having(CUT, kind="clients"), "needs senders"),
        (having(NETEM, quality={"loss": 500}), "loss is 500"),
        (having(NETEM, quality={"delay": -5}), "delay is -5"),
        (having(NETEM, quality={"speed": 1}), "unknown field `speed`"),
        (having(NETEM, quality={}), "that would do nothing"),
        ({**NETEM, "plan": []}, "is not a timetable"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(tmp_path: Path, fault: dict[str, Any], said: str) -> None:
    assert said in refused(tmp_path, {"faults": [fault]})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "is not a timetable"),
        ("[1]", "is not a timetable"),
        ('{"faults": [{"name": "kill", "start": NaN, "stop": 2}]}', "is not a timetable"),
        ('{"faults": [{"name": "kill", "start": 1e999, "stop": 2}]}', "is not a timetable"),
        ({"fault": []}, "unknown field `fault`"),
        ({"operations": [{**WRITE, "at": -1}]}, "at is -1"),
        ({"operations": [{**WRITE, "worker": -1}]}, "worker is -1"),
        ({"operations": [{**WRITE, "worker": 10}]}, "there is no worker 10, they are 0 to 9"),
        ({"operations": [{**WRITE, "at": 31}]}, "by then the run is over, after `time=30`"),
        ({"final": [{**WRITE, "worker": 10}]}, "there is no worker 10"),
        ({"operations": [{**WRITE, "process": 1}]}, "unknown field `process`"),
        ({"operations": [{**WRITE, "f": "fly"}]}, "the workload has no such function, only cas, read, write"),
        ({"faults": [KILL, {**KILL, "start": 1.5}]}, "one of the same nemesis lasts until 2 s"),
        (DEEP, "nested too deeply"),
    ],
)
def test_a_timetable_that_cannot_be_is_refused(tmp_path: Path, table: Any, said: str) -> None:
    assert said in refused(tmp_path, table)


@pytest.mark.parametrize("name", names("nemeses"))
def test_what_a_nemesis_plans_is_what_a_timetable_may_hold(name: str) -> None:
    plugin = load("nemeses", name)
    nemesis = {name: plugin(plugin.Options())}
    for nodes in (3, 5):
        zones = {f"n{number}": "abc"[number % 3] for number in range(1, nodes + 1)}
        faults = deal(nemesis, zones, seed=nodes, time=2000, interval=5.0, failover=4.0, overlapping=False)
        assert len(faults) > 100
        refuse_misplanned(Timetable(faults), nemesis, list(zones), 2000, 1)


def test_the_timetables_of_planted_bugs_are_right() -> None:
    for bug in BUGS.values():
        if bug.timetable:
            table = read_timetable(Path(bug.arguments()[bug.arguments().index("--timetable") + 1]))
            assemble(Experiment("reference", nodes=bug.nodes, time=20.0, timetable=table))


def test_a_nemesis_that_was_asked_for_and_is_not_in_the_timetable_is_refused() -> None:
    table = Timetable((Fault("kill", 1.0, 2.0, {"aim": "one", "order": ["n1", "n2", "n3"]}),))
    with pytest.raises(UsageError, match="`nemeses` names partition, clock, but the timetable has no fault of that"):
        assemble(Experiment("reference", nemeses=("partition", "kill", "clock"), timetable=table))
    assert set(assemble(Experiment("reference", nemeses=("kill", "chaos"), timetable=table)).nemeses) == {"kill"}
