"""How a run goes about faults of any kind: turns, proofs, ends. In the simulation, with made-up nemeses."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from harness.capability import Capability
from harness.checkers.evidence import Evidence
from harness.cluster import Cluster
from harness.environments.simulation.environment import SimulationEnvironment
from harness.errors import FaultError, NothingToDo
from harness.experiment import Experiment
from harness.history import MONITOR_PROCESS, NEMESIS_PROCESS, History
from harness.nemesis import Decks, Layer, Nemesis, Plan, Proof, Zones
from harness.operation import Event
from harness.recording import read_jsonl
from harness.run_directory import RunDirectory
from harness.runner import Run
from harness.target import Target
from harness.targets.reference.target import Reference
from harness.verdict import Budget, Verdict
from harness.workloads.register import Register


class Idle(Nemesis):
    """Does nothing to anybody, and measures that."""

    name: ClassVar[str] = "idle"
    needs: ClassVar[frozenset[Capability]] = frozenset()
    layer: ClassVar[Layer] = Layer.RESOURCE

    def __init__(self) -> None:
        pass

    def decks(self, zones: Zones) -> Decks:
        return {"aim": {"one": 1.0}}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        return dict(dealt)

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        return {"said": "nothing"}

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        return Proof("a look", 1, 1, holds=False)

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        return {}


class Seen(Idle):
    name = "seen"

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        return Proof("a look", 1, 2, holds=True)


class Slow(Seen):
    """Takes long to inject."""

    name = "slow"

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        await asyncio.sleep(12)
        return {}


class SlowProof(Seen):
    """Its proof would never come to an end."""

    name = "slow-proof"

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        await asyncio.sleep(3600)
        raise AssertionError


class Refused(Idle):
    name = "refused"

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        raise NothingToDo("there is nobody")


def run(folder: Path, *nemeses: Idle, time: float = 20.0, recovery: float = 60.0) -> tuple[History, Verdict]:
    names = tuple(nemesis.name for nemesis in nemeses)
    shape = {"environment": "simulation", "time": time, "recovery": recovery, "rate": 50.0, "seed": 1}
    experiment = Experiment("reference", nemeses=names, **shape)  # type: ignore[arg-type]
    directory = RunDirectory.create(folder, experiment)
    environment = SimulationEnvironment(None, 1)
    run = Run(
        experiment,
        environment=environment,
        target=Reference(Reference.Options()),
        workload=Register(Register.Options()),
        nemeses={nemesis.name: nemesis for nemesis in nemeses},
        directory=directory,
    )
    environment.run(run.execute())
    history = read_jsonl(directory.history)
    return history, Evidence().check(history, Budget())


def done(history: History, f: str) -> list[Event]:
    return [event for event in history.special(NEMESIS_PROCESS) if event.f == f and event.type != "invoke"]


def test_a_fault_that_was_measured_counts_and_one_that_was_not_makes_the_run_unknown(tmp_path: Path) -> None:
    _, verdict = run(tmp_path, Seen())
    assert verdict.validity == "valid"
    _, verdict = run(tmp_path, Seen(), Idle())
    assert verdict.validity == "unknown"
    assert "idle was asked for, injected and never proved (not seen in a look)" in verdict.reason
    _, verdict = run(tmp_path, Refused(), Seen())
    assert "refused was asked for and never injected (there is nobody)" in verdict.reason


def test_a_fault_that_takes_long_is_waited_for_by_no_other_and_not_by_the_clients(tmp_path: Path) -> None:
    history, _ = run(tmp_path, Slow(), Seen(), time=15.0)
    seconds = [event.time / 1e9 for event in done(history, "start-seen")]
    planned = next(event.value for event in history.special(MONITOR_PROCESS) if event.f == "planned")
    wanted = [fault["start"] for fault in planned["faults"] if fault["name"] == "seen"]
    assert [round(at, 1) for at in seconds] == [round(at, 1) for at in wanted]
    healing = [e.time / 1e9 for e in history.special(NEMESIS_PROCESS) if e.f == "heal" and e.type == "invoke"]
    assert healing[0] < 15.0 + 1.5


def test_a_fault_that_has_nobody_to_hit_is_tried_again_while_its_time_lasts(tmp_path: Path) -> None:
    class Later(Seen):
        name = "later"
        tries = 0

        async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
            self.tries += 1
            if self.tries < 3:
                raise NothingToDo("not yet")
            return {"said": "now"}

    _, verdict = run(tmp_path, Later(), time=10.0)
    assert verdict.validity == "valid"
    assert verdict.evidence["faults"]["later"]["refused"] == 0


def test_a_proof_does_not_keep_its_fault_from_ending(tmp_path: Path) -> None:
    history, verdict = run(tmp_path, SlowProof())
    planned = next(event.value for event in history.special(MONITOR_PROCESS) if event.f == "planned")
    wanted = [round(fault["stop"], 1) for fault in planned["faults"] if fault["stop"] < 20]
    assert [round(event.time / 1e9, 1) for event in done(history, "stop-slow-proof")] == wanted
    assert verdict.validity == "unknown"
    assert "nothing could be measured within 3 s" in verdict.reason


def test_a_proof_that_could_not_be_had_is_tried_again_while_its_fault_lasts(tmp_path: Path) -> None:
    class Busy(Seen):
        name = "busy"
        tries = 0

        async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
            self.tries += 1
            if self.tries == 1:
                raise FaultError("a machine was 2 s late")
            return await super().prove(cluster, target, done, seconds)

    class Never(Seen):
        name = "never"
        tries = 0

        async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
            self.tries += 1
            raise FaultError(f"try {self.tries} was in vain")

    never = Never()
    history, verdict = run(tmp_path, Busy(), never)
    assert next(event.type for event in done(history, "prove-busy")) == "ok"
    assert never.tries > 2
    assert "never was asked for, injected and never proved (try 1 was in vain)" in verdict.reason
    assert "busy" not in verdict.reason


def test_an_injection_that_never_ends_does_not_keep_the_run_from_ending(tmp_path: Path) -> None:
    class Hangs(Seen):
        name = "hangs"

        async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
            await asyncio.sleep(1e9)
            return {}

    _, verdict = run(tmp_path, Hangs(), time=5.0, recovery=2.0)
    assert verdict.validity == "unknown"
    assert "the faults were not healed (hangs: it was not done within 2 s)" in verdict.reason


def test_a_proof_that_does_not_want_to_end_is_left_behind(tmp_path: Path) -> None:
    class Deaf(Seen):
        name = "deaf"

        async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)

    _, verdict = run(tmp_path, Deaf(), time=6.0)
    assert verdict.validity == "unknown"


def test_a_heal_that_breaks_loses_nothing_and_the_others_are_healed(tmp_path: Path) -> None:
    healed: list[str] = []

    class Breaks(Seen):
        name = "breaks"
        layer = Layer.NETWORK

        async def heal(self, cluster: Cluster, target: Target) -> Plan:
            raise KeyError("x")

    class After(Seen):
        name = "after"

        async def heal(self, cluster: Cluster, target: Target) -> Plan:
            healed.append(self.name)
            return {}

    _, verdict = run(tmp_path, Breaks(), After(), time=5.0)
    assert healed
    assert verdict.validity == "unknown"
    assert "the faults were not healed (breaks: KeyError: 'x')" in verdict.reason


def test_faults_are_undone_in_the_order_in_which_they_stand_in_each_others_way(tmp_path: Path) -> None:
    healed: list[str] = []

    class First(Seen):
        name = "z"
        layer = Layer.NETWORK

        async def heal(self, cluster: Cluster, target: Target) -> Plan:
            healed.append(self.name)
            return {}

    class Last(First):
        name = "a"
        layer = Layer.MEMBERS

    run(tmp_path, Last(), First(), time=5.0)
    assert healed[-2:] == ["z", "a"]


def test_what_is_planned_stands_in_the_history_before_anything_happens(tmp_path: Path) -> None:
    history, verdict = run(tmp_path, Seen(), Idle(), time=2.5)
    first = next(iter(history.special(MONITOR_PROCESS)))
    assert first.f == "planned"
    assert first.value["asked"] == ["idle", "seen"]
    assert "had no turn in the time that there was" in verdict.reason


class Late(Slow):
    """Takes longer to inject than it is meant to last, and a moment to be proved."""

    name = "late"

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        await asyncio.sleep(0.5)
        return Proof("a look", 1, 2, holds=True)


def test_a_fault_that_took_all_of_its_time_to_inject_can_still_be_proved(tmp_path: Path) -> None:
    _, verdict = run(tmp_path, Late())
    assert verdict.validity == "valid", verdict.reason
