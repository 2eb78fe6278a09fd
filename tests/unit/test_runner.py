"""The life of a run on virtual time, with a store in memory and faults that end as they are told."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.capability import Capability
from harness.checkers.evidence import Evidence
from harness.cluster import Cluster, Role
from harness.environments.base import Node
from harness.environments.simulation.environment import SimulatedNode, SimulationEnvironment
from harness.errors import FaultError, MissingError, NodeError, NothingToDo, SplitbrainError, StuckError
from harness.errors import field as named_field
from harness.experiment import Experiment
from harness.generator import Generator, repeat
from harness.history import OK, from_events
from harness.nemesis import Decks, Layer, Nemesis, Plan, Proof, Zones
from harness.operation import (
    FINISHED,
    MONITOR,
    NEMESIS,
    OWN_STATES,
    PROLONGS_LEASES,
    ROLE,
    STOPPED,
    Event,
    Failed,
    Operation,
    Served,
    ServedBy,
)
from harness.ownership import Ownership
from harness.recording import Recorder, read_jsonl
from harness.replication import OwnStates, progress_of
from harness.roles import leadership, sightings
from harness.run_directory import RunDirectory
from harness.runner import Run
from harness.target import Client, Target
from harness.timetable import Planned, Timetable
from harness.verdict import Budget
from harness.workloads.counter import CounterWorkload
from harness.workloads.register import Register


class Memory(Target):
    """A register in this process, for all clients."""

    name: ClassVar[str] = "memory"
    workloads: ClassVar[frozenset[str]] = frozenset({"register"})

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}
        self.calls: list[str] = []
        self.serves: Callable[[float], bool] = lambda seconds: True
        """Whether it is ready, by the time since the loop was made."""

    async def start(self, cluster: Cluster, node: Node) -> None:
        self.calls.append(f"start {node.name}")

    async def form(self, cluster: Cluster) -> None:
        self.calls.append("form")

    async def ready(self, cluster: Cluster) -> bool:
        return self.serves(asyncio.get_running_loop().time())

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        return [Role("n1", "primary")]

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        return _Client(self)


class _Client:
    def __init__(self, store: Memory) -> None:
        self._held = store.held

    async def open(self) -> None: ...

    async def invoke(self, operation: Operation) -> Any:
        await asyncio.sleep(0.01)
        if operation.f == "read":
            return self._held.get(operation.key)
        expected, new = operation.value if operation.f == "cas" else (self._held.get(operation.key), operation.value)
        if self._held.get(operation.key) != expected:
            raise Failed("another value")
        self._held[operation.key] = new
        return operation.value

    async def close(self) -> None: ...


Acts = Sequence[Any]
"""What happens at each call in turn, the last for ever after: an exception is raised, a number slept before."""


@dataclass
class Told(Nemesis):
    """A nemesis that does as it is told."""

    name: ClassVar[str] = "told"
    layer: ClassVar[Layer] = Layer.NETWORK
    injects: Acts = ()
    proves: Acts = ()
    heals: Acts = ()
    holds: bool = True
    calls: list[tuple[str, float]] = field(default_factory=list)
    needs: ClassVar[frozenset[Capability]] = frozenset()

    def decks(self, zones: Zones) -> Decks:
        return {"whom": dict.fromkeys(zones, 1.0)}

    def plan(self, rng: Any, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        return dict(dealt)

    async def _act(self, what: str, acts: Acts) -> None:
        before = sum(call[0] == what for call in self.calls)
        self.calls.append((what, asyncio.get_running_loop().time()))
        act = acts[min(before, len(acts) - 1)] if acts else None
        if isinstance(act, float):
            await asyncio.sleep(act)
        elif act is not None:
            raise act

    async def inject(self, cluster: Cluster, target: Any, plan: Plan) -> Plan:
        await self._act("inject", self.injects)
        return {**plan, "said": plan["whom"]}

    async def prove(self, cluster: Cluster, target: Any, done: Plan, seconds: float) -> Proof:
        await self._act("prove", self.proves)
        return Proof("a look", before=0, during=1, holds=self.holds)

    async def heal(self, cluster: Cluster, target: Any) -> Plan:
        await self._act("heal", self.heals)
        return {}


def named(called: str) -> type[Told]:
    """The same by another name."""

    class Other(Told):
        name = called

    return Other


@dataclass
class Done:
    """What came of a run."""

    run: Run
    store: Memory
    said: list[str]

    @property
    def events(self) -> list[Event]:
        return self.run.recorder.events

    def of(self, f: str, process: str = NEMESIS) -> list[Event]:
        """The events of one function that are no invocations."""
        return [one for one in self.events if (one.process, one.f) == (process, f) and one.type != "invoke"]

    @property
    def evidence(self) -> Any:
        return Evidence().check(from_events(self.events), Budget())

    @property
    def faults(self) -> dict[str, Any]:
        return dict(self.evidence.evidence["faults"])


Perform = Callable[..., Done]


@pytest.fixture
def perform(tmp_path: Path) -> Perform:
    def run(
        *nemeses: Told,
        stop_at: float | None = None,
        store: Memory | None = None,
        workload: Any = None,
        whys: Sequence[str | None] = (None,),
        **settings: Any,
    ) -> Done:
        given = {"time": 8.0, "interval": 2.0, "rate": 50.0, "concurrency": 3, "recovery": 5.0} | settings
        experiment = Experiment("memory", environment="simulation", **given)
        store, said = store or Memory(), list[str]()
        this = Run(
            experiment,
            environment=SimulationEnvironment(),
            target=store,
            workload=workload or Register(Register.Options()),
            nemeses={nemesis.name: nemesis for nemesis in nemeses},
            directory=RunDirectory.create(tmp_path, experiment),
            say=said.append,
        )

        async def main() -> None:
            if stop_at is not None:
                for why in whys:
                    asyncio.get_running_loop().call_later(stop_at, this.stop, why)
            await this.execute()

        SimulationEnvironment().run(main())
        done = Done(this, store, said)
        assert {one.type for one in done.events if one.process == MONITOR} <= {"info"}
        return done

    return run


def test_a_run_begins_with_what_is_planned_and_ends_with_having_finished(perform: Perform) -> None:
    done = perform(Told())
    assert done.store.calls == ["start n1", "start n2", "start n3", "form"]
    assert (done.events[0].process, done.events[0].f) == (MONITOR, "planned")
    assert (done.events[-1].process, done.events[-1].f) == (MONITOR, FINISHED)
    assert done.evidence.validity == "valid"
    assert done.faults["told"]["proved"] == done.faults["told"]["injected"] == done.faults["told"]["planned"] > 0
    assert done.faults["told"]["ok_operations_during"] > 0
    clients = Counter(one.type for one in done.events if isinstance(one.process, int))
    assert done.events[-1].value.events == dict(clients)
    assert 0.8 < clients["invoke"] / (8.0 * 50.0) < 1.2, "the rate"
    assert not done.of(OWN_STATES, MONITOR), "of a store whose nodes do not tell what they hold"
    assert [said.split(" ")[0] for said in done.said] == ["starting", "running", "healing,", "final", "stopping"]


def test_a_fault_is_proved_by_its_proof_and_by_nothing_before_it(perform: Perform) -> None:
    """Neither an invocation nor an injection that returned counts."""
    for nemesis, proofs in (
        (Told(holds=False), "fail"),
        (Told(proves=[FaultError("the probe broke")]), "info"),
        (Told(proves=[99.0]), "info"),
        (Told(injects=[FaultError("the tool broke")]), None),
        (Told(injects=[NothingToDo("nobody is there")]), None),
    ):
        done = perform(nemesis)
        assert {proof.type for proof in done.of("prove-told")} == ({proofs} if proofs else set())
        assert (done.faults["told"]["proved"], done.faults["told"]["ok_operations_during"]) == (0, 0)
        assert done.evidence.validity == "unknown"
        assert "told was asked for" in done.evidence.reason


def test_a_proof_runs_beside_the_schedule(perform: Perform) -> None:
    """One that never answers delays neither the end of its fault nor the end of the run."""
    done, quick = perform(Told(proves=[99.0])), perform(Told())
    ends = [[one.time for one in run.of("stop-told")] for run in (done, quick)]
    assert len(ends[0]) == len(ends[1]) > 0
    assert all(abs(slow - fast) < 1.1e9 for slow, fast in zip(*ends, strict=True))


def test_an_injection_is_tried_again_while_there_is_nobody_to_hit(perform: Perform) -> None:
    nobody = NothingToDo("nobody is primary")
    nemesis = Told(injects=[nobody, nobody, None])
    done = perform(nemesis, time=30.0, interval=10.0)
    assert done.of("start-told")[0].type == "ok"
    first, second, third = [moment for what, moment in nemesis.calls if what == "inject"][:3]
    assert (second - first, third - second) == pytest.approx((0.5, 0.5), abs=1e-3)


def test_faults_of_one_nemesis_do_not_delay_those_of_another(perform: Perform) -> None:
    both = (named("quick")(), named("stuck")(injects=[99.0]))
    done = perform(*both, overlap=True)
    assert done.faults["quick"]["proved"] == done.faults["quick"]["planned"] > 0
    assert done.faults["stuck"]["injected"] == 0
    assert done.of(FINISHED, MONITOR)


def test_faults_are_undone_by_layer_what_others_depend_on_first(perform: Perform) -> None:
    order: list[str] = []

    def noted(called: str, of: Layer) -> Told:
        class Noted(Told):
            name = called
            layer = of

            async def heal(self, cluster: Cluster, target: Any) -> Plan:
                order.append(self.name)
                return {}

        return Noted()

    perform(noted("a", Layer.MEMBERS), noted("b", Layer.PROCESS), noted("c", Layer.NETWORK), time=1.0)
    assert order[-3:] == ["c", "b", "a"]


def test_the_last_heal_is_tried_again_and_while_the_store_only_is_not_ready_for_it_until_it_is(
    perform: Perform,
) -> None:
    once = perform(Told(heals=[FaultError("not yet"), None]), time=1.0)
    (healed,) = once.of("heal")
    assert (healed.type, healed.value) == ("ok", {"told": {}})
    nobody = NothingToDo("there is no primary")
    later = perform(Told(heals=[nobody] * 6 + [None]), time=1.0)
    assert [one.type for one in later.of("heal")] == ["ok"]


def test_what_cannot_be_healed_is_said_and_is_no_pass(perform: Perform) -> None:
    for heals, said in (
        ([FaultError("the rule stays")], "told: the rule stays"),
        ([ValueError("odd")], "told: ValueError: odd"),
        ([99.0], "told: it was not done within 5 s"),
        ([NothingToDo("there is no primary")], "told: there is no primary"),
    ):
        done = perform(Told(heals=heals), named("other")(), time=1.0)
        (healed,) = done.of("heal")
        assert (healed.type, healed.error) == ("info", said)
        assert healed.value == {"other": {}}, "the others are healed all the same"
        assert done.evidence.validity == "unknown"


def test_a_run_that_is_stopped_says_so_heals_and_reads(perform: Perform) -> None:
    nemesis = Told()
    done = perform(nemesis, stop_at=2.0)
    (stopped,) = done.of(STOPPED, MONITOR)
    assert stopped.value["seconds"] == pytest.approx(2.0, abs=0.2)
    assert nemesis.calls[-1][0] == "heal"
    assert [one.type for one in done.events if one.f == "heal"] == ["invoke", "ok"]
    assert done.events[-1].f == FINISHED
    assert done.events[-1].time < 5e9, "the operations end early"
    assert any(one.f == "read" and one.time > stopped.time for one in done.events)


def test_the_final_reads_wait_until_the_store_serves_again(perform: Perform) -> None:
    store = Memory()
    store.serves = lambda seconds: seconds < 1 or seconds > 4
    done = perform(Told(), store=store, time=2.0)
    (recovered,) = done.of("recovered", MONITOR)
    assert recovered.value["seconds"] == pytest.approx(2.0, abs=0.3)
    assert all(one.time > recovered.time for one in done.events[-10:-1])


def test_a_store_that_does_not_come_back_is_read_all_the_same_and_is_no_pass(perform: Perform) -> None:
    store = Memory()
    store.serves = lambda seconds: seconds < 1
    done = perform(Told(), store=store)
    (recovered,) = done.of("recovered", MONITOR)
    assert (recovered.type, recovered.error) == ("info", "the store's recovery did not happen within 5 s")
    assert any(one.f == "read" and one.type == "ok" and one.time > recovered.time for one in done.events)
    assert done.evidence.validity == "unknown"


def test_a_store_that_is_never_ready_is_a_sentence(perform: Perform) -> None:
    store = Memory()
    store.serves = lambda seconds: False
    with pytest.raises(
        NodeError, match=r"memory being ready on all nodes, as Memory\.ready .* says, did not happen within 90 s"
    ):
        perform(store=store)


@pytest.mark.parametrize("whys", [(None, "a client does not come back"), ("a client does not come back", None)])
def test_every_reason_to_stop_is_noted_once(perform: Perform, whys: Sequence[str | None]) -> None:
    done = perform(Told(), stop_at=2.0, whys=[*whys, *whys])
    assert "a client does not come back" in [stopped.error for stopped in done.of(STOPPED, MONITOR)]
    assert len(done.of(STOPPED, MONITOR)) <= 2


def test_a_reason_that_comes_while_faults_are_healed_is_noted_although_a_person_had_stopped_the_run(
    perform: Perform,
) -> None:
    """A person's wish to stop changes nothing then, and is not noted."""
    store = Memory()
    store.serves = lambda seconds: seconds < 1 or seconds > 4
    done = perform(store=store, time=2.0, stop_at=3.0, whys=[None, "a client does not come back"])
    assert [stopped.error for stopped in done.of(STOPPED, MONITOR)] == ["a client does not come back"]


def test_a_run_that_is_stopped_before_its_operations_begin_says_so(perform: Perform) -> None:
    class Slow(Memory):
        async def ready(self, cluster: Cluster) -> bool:
            await asyncio.sleep(1)
            return True

    done = perform(store=Slow(), stop_at=0.5)
    assert done.of(STOPPED, MONITOR)
    assert not done.of(FINISHED, MONITOR)


def test_a_run_that_is_stopped_while_it_is_looked_who_listens_says_so(
    perform: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(self: Ownership, *, whole: bool) -> None:
        await asyncio.sleep(1)

    monkeypatch.setattr(Ownership, "check", look)
    assert perform(stop_at=0.5).of(STOPPED, MONITOR)


def test_the_time_of_final_reads_begins_when_the_workload_has_waited(perform: Perform) -> None:
    class Counts(Memory):
        def client(self, cluster: Cluster, node: Node, timeout: float) -> Any:
            return _Counter()

    class _Counter:
        async def open(self) -> None: ...

        async def invoke(self, operation: Operation) -> Any:
            await asyncio.sleep(0.01)
            return 1 if operation.value is None else operation.value

        async def close(self) -> None: ...

    workload = CounterWorkload(CounterWorkload.Options(settle=60.0))
    done = perform(store=Counts(), workload=workload, time=2.0, recovery=5.0)
    assert not done.of(STOPPED, MONITOR)
    assert [one for one in done.events if one.f == "read-local" and one.type == "ok"]


class Holding(Memory):
    """A store whose nodes each tell what they hold."""

    def __init__(self, **held: Sequence[dict[str, str] | None]) -> None:
        super().__init__()
        self.told = {name: list(answers) for name, answers in held.items()}

    async def own_state(self, cluster: Cluster, node: Node) -> dict[str, str] | None:
        answers = self.told[node.name]
        return answers.pop(0) if len(answers) > 1 else answers[0]


def test_nodes_are_compared_once_they_have_had_time_to_agree(perform: Perform) -> None:
    store = Holding(n1=[{"k": "1"}], n2=[{"k": "0"}, {}, {"k": "1"}], n3=[None])
    (noted,) = perform(store=store).of(OWN_STATES, MONITOR)
    assert noted.value == OwnStates(("n1", "n2"), 1)


def test_nodes_that_never_agree_are_told_apart_key_by_key(perform: Perform) -> None:
    many = {f"k{at:02}": "x" * 300 for at in range(30)}
    done = perform(store=Holding(n1=[many], n2=[{"k00": "y", "l": "1"}], n3=[many]))
    (noted,) = done.of(OWN_STATES, MONITOR)
    assert (noted.value.keys, noted.value.differing, len(noted.value.differ)) == (31, 31, 20)
    assert noted.value.differ["k00"] == {"n1": "x" * 200 + "...", "n2": "y", "n3": "x" * 200 + "..."}
    assert noted.value.differ["k01"]["n2"] is None
    assert not perform(store=Holding(n1=[many], n2=[None], n3=[None])).of(OWN_STATES, MONITOR)


def test_a_store_that_does_not_tell_what_its_nodes_hold_is_noted(perform: Perform) -> None:
    class Silent(Holding):
        async def own_state(self, cluster: Cluster, node: Node) -> dict[str, str] | None:
            raise ValueError("no such thing")

    class Slow(Holding):
        async def own_state(self, cluster: Cluster, node: Node) -> dict[str, str] | None:
            await asyncio.Event().wait()
            return None

    odd: list[Any] = [5, ["a"], {1: "a", "b": 2}, {"a": {"b": 1}}, {"a": float("nan")}]
    for held in odd:
        perform(store=Holding(n1=[held], n2=[{"a": "1"}], n3=[{"a": "1"}]))  # it is told, or no difference at worst
    for store, error in ((Silent(), "ValueError: no such thing"), (Slow(), "no answer of all nodes within 10 s")):
        (noted,) = perform(store=store).of(OWN_STATES, MONITOR)
        assert error in str(noted.error)


def test_how_far_nodes_are_is_recorded_about_twice_a_second(perform: Perform) -> None:
    class Far(Memory):
        async def roles(self, cluster: Cluster) -> Sequence[Role]:
            (node,) = cluster.nodes
            known = node.name != "n3"
            return [Role(node.name, "primary", 2, int(asyncio.get_running_loop().time() * 10) if known else None)]

    found = progress_of(from_events(perform(store=Far(), time=8.0).events))
    assert found.keys() == {"n1", "n2"}
    asked = [one.asked for one in found["n1"]]
    assert len(asked) >= 8
    assert all(450_000_000 <= other - one < 700_000_000 for one, other in pairwise(asked))
    assert all(abs(one.position - one.asked / 1e8) <= 20 and one.role == "primary" for one in found["n1"])


def test_roles_that_never_come_are_noted_once(perform: Perform) -> None:
    class Dumb(Memory):
        async def roles(self, cluster: Cluster) -> Sequence[Role]:
            await asyncio.Event().wait()
            return []

    noted = perform(store=Dumb(), time=25.0).of(ROLE, MONITOR)
    assert sorted(str(one.node) for one in noted) == ["n1", "n2", "n3"]
    assert all("does not come back" in str(one.error) for one in noted)


def test_a_time_out_of_the_store_s_own_is_noted_as_what_it_is(perform: Perform) -> None:
    class Impatient(Memory):
        async def roles(self, cluster: Cluster) -> Sequence[Role]:
            raise TimeoutError("no answer")

    noted = perform(store=Impatient()).of(ROLE, MONITOR)
    assert {one.error for one in noted} == {"TimeoutError: no answer"}


def test_each_node_is_asked_by_itself_what_it_is(perform: Perform) -> None:
    """One that does not answer for a while, or never, is unknown, and keeps nobody from answering."""

    class Odd(Memory):
        async def roles(self, cluster: Cluster) -> Sequence[Role]:
            (node,) = cluster.nodes
            now = asyncio.get_running_loop().time()
            if node.name == "n3":
                await asyncio.sleep(0.45)
                return []
            # Whatever it says of others is hearsay.
            lost = node.name == "n1" and int(now) % 4 == 3
            return (
                []
                if lost
                else [Role("n3", "primary", 9), Role(node.name, "primary" if node.name == "n1" else "replica", 2)]
            )

    seen = sightings(from_events(perform(store=Odd()).events))
    of = {name: [one for one in seen if one.node == name] for name in ("n1", "n2", "n3")}
    assert {(one.role, one.term) for one in of["n1"]} == {("primary", 2), (None, None)}
    assert {(one.role, one.term) for one in of["n2"]} == {("replica", 2)}
    assert {(one.role, one.term) for one in of["n3"]} == {(None, None)}
    assert [one.lasting for one in of["n2"]] == [False, True]
    assert [one.lasting for one in of["n3"]] == [False, True]
    assert [one.role for one in of["n1"]][:4] in (
        ["primary", "primary", None, None],
        [None, None, "primary", "primary"],
    )
    assert all(one.start <= one.end for one in seen)


def test_who_served_an_operation_stands_with_its_completion(perform: Perform, tmp_path: Path) -> None:
    class Tells(Memory):
        leadership = "primary"
        prolongs_leases = True

        def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
            inner = super().client(cluster, node, timeout)

            class Told:
                open, close = inner.open, inner.close

                async def invoke(self, operation: Operation) -> Any:
                    return Served(await inner.invoke(operation), by="n2", term=7 if operation.f == "write" else None)

            return Told()

    done = perform(store=Tells())
    served = {(e.f, e.type): e.served_by for e in done.events if isinstance(e.process, int)}
    assert served["write", "ok"] == ServedBy("n2", 7)
    assert served["read", "ok"] == ServedBy("n2")
    assert served["write", "invoke"] is None
    assert leadership(from_events(done.events)) == "primary"
    assert PROLONGS_LEASES in {e.f for e in done.events}
    assert PROLONGS_LEASES not in {e.f for e in perform().events}
    path = tmp_path / "again.jsonl"
    recorder = Recorder(path)
    for event in done.events:
        recorder.record(event)
    recorder.close()
    history = read_jsonl(path)
    assert [event.served_by for event in history.events()] == [event.served_by for event in done.events]
    operations = history.operations()
    writes = [row for row in range(len(operations)) if operations.name(row) == "write" and operations.type[row] == OK]
    assert writes
    assert {(operations.server_name(row), int(operations.term[row])) for row in writes} == {("n2", 7)}


@pytest.mark.parametrize("wrong", [Served(1, by=5), Served(1, by="n1", term="x"), Served(1, by="n1", term=-1)])  # type: ignore[arg-type]
def test_a_client_that_names_nobody_is_named(perform: Perform, wrong: Served) -> None:
    class Tells(Memory):
        def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
            inner = super().client(cluster, node, timeout)

            class Told:
                open, close = inner.open, inner.close

                async def invoke(self, operation: Operation) -> Any:
                    return wrong

            return Told()

    with pytest.raises(SplitbrainError, match="`by` is the name of a node"):
        perform(store=Tells())


def test_what_there_is_no_time_for_is_told_but_not_of_a_timetable(perform: Perform) -> None:
    assert perform(Told(), time=1.0).run.no_time_for == ["a turn of told"]
    assert perform(Told()).run.no_time_for == []
    assert perform(Told(), time=1.0, timetable=Timetable()).run.no_time_for == []


def test_a_run_that_is_stopped_during_its_final_reads_says_so(perform: Perform) -> None:
    class Endless(Register):
        def final(self) -> Generator:
            return repeat(Operation("read", "k"))

    done = perform(workload=Endless(Register.Options()), time=2.0)
    (noted,) = done.of(STOPPED, MONITOR)
    assert noted.value == {"seconds": 2.0, "during": "the final reads"}
    assert "Endless.final" in str(noted.error)
    assert f"had not ended after 10 s (see {named_field('recovery')})" in str(noted.error)
    (noted,) = perform(stop_at=1.0).of(STOPPED, MONITOR)
    assert noted.value == {"seconds": pytest.approx(1.0, abs=0.2)}


def test_a_wish_to_stop_that_comes_after_the_final_reads_changes_nothing(perform: Perform) -> None:
    store = Holding(n1=[{"k": "1"}], n2=[{"k": "0"}], n3=[None])  # compared for a while, as they differ
    done = perform(store=store, time=2.0, stop_at=6.0)
    assert done.of(OWN_STATES, MONITOR)
    assert not done.of(STOPPED, MONITOR)


def test_a_history_that_cannot_be_written_ends_the_run(perform: Perform, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, data: bytes) -> int:
        if asyncio.get_running_loop().time() > 2:
            raise OSError(28, os.strerror(28))
        return len(data)

    monkeypatch.setattr("harness.recording.os.write", full)
    (noted,) = perform().of(STOPPED, MONITOR)
    assert noted.error == f"the history could not be written: {os.strerror(28)}"
    assert noted.value["seconds"] == pytest.approx(2.0, abs=0.2)


def test_a_run_that_is_given_up_says_so_at_the_moment_of_its_last_event(perform: Perform) -> None:
    run = perform(time=1.0).run
    events = run.recorder.events
    last = events[-1].time + 5
    run.recorder.record(Event(0, last, MONITOR, "info", "seen"))
    run.give_up("the store does not give way")
    assert events[-1] == Event(
        len(events) - 1,
        last,
        MONITOR,
        "info",
        STOPPED,
        value={"seconds": last / 1e9},
        error="the store does not give way",
    )
    events.clear()
    run.give_up("nothing began")
    assert (events[0].time, events[0].value) == (0, {"seconds": 0.0})


class Hangs(Memory):
    """A store whose functions hang, or raise, as they are told."""

    def __init__(self, where: str, error: BaseException | None = None, *, deaf: float = 0.0) -> None:
        """``deaf`` is the time up to which it does not let itself be cancelled."""
        super().__init__()
        self.where, self.error, self.deaf = where, error, deaf
        self.cancelled: list[float] = []

    async def _call(self, what: str) -> None:
        while what == self.where:
            if self.error is not None:
                raise self.error
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                self.cancelled.append(asyncio.get_running_loop().time())
                if self.cancelled[-1] > self.deaf:
                    raise

    async def start(self, cluster: Cluster, node: Node) -> None:
        await super().start(cluster, node)
        await self._call("start")

    async def form(self, cluster: Cluster) -> None:
        await super().form(cluster)
        await self._call("form")


@pytest.mark.parametrize("where", ["start", "form"])
def test_a_store_that_does_not_come_back_is_named(perform: Perform, where: str) -> None:
    with pytest.raises(NodeError, match=rf"^Hangs\.{where} .* has not come back within 90 s"):
        perform(store=Hangs(where))


def test_what_a_store_raises_itself_goes_on_as_it_is_with_who_was_waited_for(perform: Perform) -> None:
    with pytest.raises(TimeoutError, match=r"^of its own\b") as raised:
        perform(store=Hangs("form", TimeoutError("of its own")))
    assert "it was raised in, or by what came from, Hangs.form" in raised.value.__notes__[0]
    missing = MissingError("there is no such program")
    with pytest.raises(MissingError) as lacking:
        perform(store=Hangs("start", missing))
    assert lacking.value is missing
    assert not getattr(missing, "__notes__", ())


def test_a_simulation_that_others_keep_from_going_on_is_broken_off(perform: Perform) -> None:
    store = Hangs("form", deaf=400.0)
    with pytest.raises(StuckError, match=r"Hangs\.form .* does not let itself be cancelled"):
        perform(store=store)
    # Four times what a store may take to start, the run's time, and five times what its final reads may take.
    assert store.cancelled == pytest.approx([90, 4 * 90 + 8 + 5 * 10], abs=0.1)


def test_what_an_environment_raises_is_said_to_be_its_own(perform: Perform, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(self: SimulationEnvironment, *given: Any) -> list[Node]:
        ships.append(given[-1])
        raise RuntimeError("no nodes")

    ships: list[Sequence[str]] = []
    monkeypatch.setattr(Memory, "ships", ("b", "a"))
    monkeypatch.setattr(Told, "ships", ("c", "a"))
    monkeypatch.setattr(SimulationEnvironment, "start", fails)
    with pytest.raises(RuntimeError, match="no nodes") as raised:
        perform(Told())
    assert ships == [["a", "b", "c"]]
    assert raised.value.__notes__ == ["it was raised in, or by what came from, the environment"]


def test_before_a_store_is_started_it_is_looked_for_strangers_and_faults_are_prepared(
    perform: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Memory()

    class Prepared(Told):
        async def prepare(self, cluster: Cluster) -> None:
            store.calls.append("prepare")

    async def look(self: Ownership) -> None:
        store.calls.append("look")

    async def check(self: Ownership, *given: Any) -> None:
        store.calls.append("check")
        self._note("owners", 3, "one is not known")

    class Guarded(SimulationEnvironment):  # of its own, since Python remembers which classes follow a protocol
        async def guard(self, ports: Sequence[int]) -> str:
            store.calls.append("guard")
            return f"{ports[0]} is open"

    monkeypatch.setattr(Ownership, "refuse_occupied", look)
    monkeypatch.setattr(Ownership, "check_whole", check)
    monkeypatch.setitem(globals(), "SimulationEnvironment", Guarded)
    monkeypatch.setattr(Memory, "ports", (7,))
    done = perform(Prepared(), store=store, time=1.0)
    assert store.calls == ["look", "guard", "prepare", "start n1", "start n2", "start n3", "form", "check", "check"]
    assert done.said[0] == "others who can reach these machines can connect to memory too: 7 is open"
    assert {(one.type, one.value, one.error) for one in done.of("owners", MONITOR)} == {("info", 3, "one is not known")}


@pytest.mark.parametrize("alive", [True, False])
def test_a_server_that_ends_at_once_is_a_sentence_with_its_last_words(
    perform: Perform, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    async def running(self: SimulatedNode) -> Mapping[str, bool]:
        return {"mute": False, "server": alive or self.name != "n2"} if self.name != "n3" else {"server": True}

    async def log(self: SimulatedNode, name: str) -> str:
        return "starting\nreading\n  no such file \n" if name == "server" else ""

    monkeypatch.setattr(SimulatedNode, "running", running)
    monkeypatch.setattr(SimulatedNode, "log", log)
    store = Memory()
    store.serves = lambda seconds: False
    with pytest.raises(NodeError) as raised:
        perform(store=store)
    last_words = "" if alive else "; server on n2 said: no such file"
    assert str(raised.value) == f"memory did not start: mute on n1 ended at once{last_words}"


def test_nodes_are_stopped_whatever_happens_and_what_goes_wrong_in_that_takes_nothing_along(
    perform: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops: list[float] = []

    async def stop(self: SimulationEnvironment) -> None:
        await asyncio.sleep(1)
        stops.append(asyncio.get_running_loop().time())
        raise OSError("it is busy")

    monkeypatch.setattr(SimulationEnvironment, "stop", stop)
    done = perform(time=1.0)
    assert done.run.directory.lost == ["the nodes could not be stopped as they should: it is busy"]
    with pytest.raises(NodeError):
        perform(store=Hangs("form", NodeError("no")))
    assert len(stops) == 2


def test_who_aborts_a_run_while_its_nodes_are_stopped_waits_for_that(
    perform: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops: list[float] = []

    async def stop(self: SimulationEnvironment) -> None:
        (main,) = (task for task in asyncio.all_tasks() if "main" in repr(task.get_coro()))
        main.cancel()
        await asyncio.sleep(1)
        stops.append(asyncio.get_running_loop().time())

    monkeypatch.setattr(SimulationEnvironment, "stop", stop)
    with pytest.raises(asyncio.CancelledError):
        perform(time=1.0)
    assert len(stops) == 1


def test_what_a_nemesis_sees_of_its_fault_is_recorded_every_few_seconds(perform: Perform) -> None:
    class Watched(Told):
        async def observe(self, cluster: Cluster) -> Any:
            if len(times) == 1:
                times.append(0.0)
                raise FaultError("it cannot be seen")
            times.append(asyncio.get_running_loop().time())
            return {"seen": len(times)}

    times: list[float] = []
    noted = perform(Watched()).of("told", MONITOR)
    assert [(one.type, one.value, one.error) for one in noted[:3]] == [
        ("info", {"seen": 1}, None), ("info", None, "it cannot be seen"), ("info", {"seen": 3}, None),
    ]  # fmt: skip
    assert [round((other.time - one.time) / 1e9, 1) for one, other in pairwise(noted)] == [2.5] * (len(noted) - 1)


def test_nodes_of_a_store_that_does_not_serve_again_are_not_compared(perform: Perform) -> None:
    store = Holding(n1=[{"k": "1"}], n2=[{"k": "1"}], n3=[{"k": "1"}])
    store.serves = lambda seconds: seconds < 1
    assert not perform(store=store).of(OWN_STATES, MONITOR)


def test_a_client_that_lacks_a_function_is_named_with_it(perform: Perform) -> None:
    class Half:
        async def open(self) -> None: ...

    class Odd(Memory):
        def client(self, cluster: Cluster, node: Node, timeout: float) -> Any:
            return Half()

    with pytest.raises(SplitbrainError, match=r"Odd\.client .* returned Half, which has no invoke, close$"):
        perform(store=Odd())


def test_clients_are_closed_in_the_end(perform: Perform, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[float] = []

    async def close(self: _Client) -> None:
        closed.append(asyncio.get_running_loop().time())

    monkeypatch.setattr(_Client, "close", close)
    perform(time=1.0)
    assert len(closed) == 3


def test_the_operations_of_a_timetable_are_done_in_place_of_the_workload_s(perform: Perform) -> None:
    planned = (Planned(1.0, 1, "write", "k", 5), Planned(2.0, 0, "read", "k"))
    timetable = Timetable(operations=planned, final=(Planned(0.0, 2, "read", "k"),))
    done = perform(timetable=timetable)
    seen = [(one.process, one.f, one.value) for one in done.events if isinstance(one.process, int)]
    assert [one for one in seen if one[1] == "write"] == [(1, "write", 5)] * 2
    assert [one for one in seen if one[1] == "read"] == [
        (0, "read", None), (0, "read", 5), (2, "read", None), (2, "read", 5),
    ]  # fmt: skip


def test_a_run_s_time_begins_when_its_store_serves(perform: Perform) -> None:
    store = Memory()
    store.serves = lambda seconds: seconds > 30
    done = perform(store=store)
    assert done.events[0].time == 0
    assert 8 < done.events[-1].time / 1e9 < 30


def test_a_rate_may_be_low(perform: Perform) -> None:
    done = perform(rate=1.0)
    assert sum(one.type == "invoke" and one.time < 8e9 for one in done.events) < 30


def test_without_a_rate_clients_do_not_wait(perform: Perform) -> None:
    done = perform(rate=0.0, time=2.0)
    assert sum(one.type == "invoke" and one.time < 2e9 for one in done.events) > 500
