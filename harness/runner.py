"""The life of a run: start the store, drive it, hurt it, heal it, read it one last time, and judge."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from harness.beginning import began_now, versions_of
from harness.cluster import Cluster, over_within, wait_until
from harness.comparing import compare
from harness.dealing import deal, no_time_for
from harness.environments.base import Environment, Guards, Node
from harness.errors import MissingError, NodeError, SplitbrainError, StuckError, field
from harness.experiment import Experiment
from harness.generator import Generator, any_of, at_times, on_clients, on_nemesis, stagger, synchronize, time_limit
from harness.injection import Injection
from harness.interpreter import Interpreter, Worker
from harness.nemesis import Nemesis, Observes, Prepares
from harness.operation import (
    BEGAN,
    FINISHED,
    LEADERSHIP,
    MONITOR,
    NEMESIS,
    OWN_STATES,
    PROLONGS_LEASES,
    STOPPED,
    Event,
    EventType,
)
from harness.ownership import Ownership
from harness.periods import HEAL, PLANNED
from harness.plugins import users_frame, whose
from harness.recording import Recorder
from harness.run_directory import RunDirectory, written
from harness.seal import Seal
from harness.surviving import Surviving, compiled
from harness.target import Client, ReadsOwnState, Target
from harness.timetable import Fault, Timetable, by_worker
from harness.watching import watch_roles
from harness.words import count
from harness.workload import Workload

_STARTUP_SECONDS = 90.0
_LEAST_FINAL_SECONDS = 10.0
_OBSERVE_SECONDS = 2.5

_OPERATIONS, _FINAL_READS = "the operations", "the final reads"
"""The phases that end early when the run is stopped."""


class Run:
    """One run of an experiment. ``execute`` does it all; ``stop`` ends the operations early and still judges.

    ``mixed`` names the nemeses that nobody asked for by name: chaos has taken them, as many as it could.
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        environment: Environment,
        target: Target,
        workload: Workload,
        nemeses: Mapping[str, Nemesis],
        directory: RunDirectory,
        mixed: Collection[str] = (),
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.experiment = experiment
        self.directory = directory
        self.recorder = Recorder(directory.history)
        self._environment = environment
        self._target = target
        self._workload = workload
        self._nemeses = nemeses
        self._mixed = frozenset(mixed)
        self._say = say
        self._failover = target.failover
        self._patterns = compiled(target)
        self._timetable = experiment.timetable or Timetable(self._dealt())
        self._began: int | None = None
        self._interpreter: Interpreter | None = None
        self._phase: str | None = None
        self._waiting_for = "the environment"
        self._stopping = False
        self._noted: set[str | None] = set()
        """The reasons to stop that are in the history; None stands for a person's wish."""
        self.recorder.listen(self._go_on_only_while_recording)

    def _dealt(self) -> tuple[Fault, ...]:
        """The faults that the seed deals."""
        experiment = self.experiment
        return deal(
            self._nemeses,
            experiment.zone_of,
            seed=experiment.seed,
            time=experiment.time,
            interval=experiment.interval,
            failover=self._failover,
            overlapping=experiment.overlap,
        )

    @property
    def no_time_for(self) -> list[str]:
        """What the seed should deal and for which there is no time."""
        faults = self._timetable.faults
        return [] if self.experiment.timetable else no_time_for(self._nemeses, faults, self._failover)

    @property
    def began(self) -> int:
        """When it began, by the clock of its environment; 0 if it did not."""
        return self._began or 0

    def clock(self) -> int:
        """Nanoseconds since the run began."""
        return 0 if self._began is None else self._environment.clock() - self._began

    def stop(self, why: str | None = None) -> None:
        """End the operations now; the heal, the final reads and the verdict still follow."""
        self._stopping = True
        if self._interpreter is None or why in self._noted or (why is None and self._phase is None):
            return
        self._noted.add(why)
        self._note_stop(why)
        self._interpreter.stop()

    def _note_stop(self, why: str | None = None) -> None:
        seconds = min(self.clock() / 1e9, self.experiment.time)
        value: dict[str, Any] = {"seconds": round(seconds, 3)}
        if self._phase == _FINAL_READS:
            value["during"] = self._phase
        self._note(MONITOR, "info", STOPPED, value, why)

    def _go_on_only_while_recording(self, _event: Event) -> None:
        if self.recorder.failure is not None:
            self.stop(f"the history could not be written: {self.recorder.failure}")

    def give_up(self, why: str) -> None:
        """Note that the run broke off, after ``execute`` has raised ``StuckError``."""
        self._stopping = True
        # The event loop is gone, and its clock with it.
        last = self.recorder.events[-1].time if self.recorder.events else 0
        self.recorder.record(Event(0, last, MONITOR, "info", STOPPED, None, {"seconds": last / 1e9}, None, why))

    @property
    def _final_seconds(self) -> float:
        """How long the final reads may take: as long as the recovery before them, and what they wait for at first."""
        return self._workload.settle + max(self.experiment.recovery, _LEAST_FINAL_SECONDS)

    def _overdue(self) -> None:
        raise StuckError(f"{self._waiting_for} has not come back and does not let itself be cancelled")

    async def _patiently(self, who: str, what: Awaitable[Any], seconds: float = _STARTUP_SECONDS) -> None:
        """Wait for code of others. Raises ``NodeError`` that names it when it does not come back."""
        self._waiting_for = who
        try:
            async with asyncio.timeout(seconds) as patience:
                await what
        except TimeoutError:
            if not patience.expired():
                raise
            raise NodeError(f"{who} has not come back within {seconds:g} s") from None

    async def execute(self) -> None:
        """Run the experiment up to the end of its history. The environment is stopped whatever happens.

        Raises ``StuckError`` where code of others keeps a simulation from going on. ``recorder`` is still to be closed.
        """
        if not self._environment.real_time:
            # No person is there to see that virtual time goes on and on.
            most = 4 * _STARTUP_SECONDS + self.experiment.time + 5 * self._final_seconds
            asyncio.get_running_loop().call_later(most, self._overdue)
        try:
            nodes = await self._environment.start(
                self.experiment.node_names, self.directory.logs, self.directory.path.name, self._ships()
            )
            cluster = Cluster(self._environment, nodes, self.experiment.seed, self.experiment.zone_of)
            ownership = Ownership(cluster, self._target, lambda *noted: self._note(MONITOR, "info", *noted))
            await ownership.refuse_occupied()
            await self._keep_others_out()
            for nemesis in self._nemeses.values():
                if isinstance(nemesis, Prepares):
                    await self._patiently(whose(nemesis, "prepare"), nemesis.prepare(cluster))
            await self._start_store(cluster, ownership)
            if self._stopping:
                self._note_stop()
            else:
                await self._drive(cluster, ownership)
        except Exception as error:
            if not isinstance(error, SplitbrainError) and users_frame(error) is None:
                error.add_note(f"it was raised in, or by what came from, {self._waiting_for}")
            raise
        finally:
            await self._end()

    def _ships(self) -> list[str]:
        """The Python packages that the store and the faults need on nodes."""
        of_nemeses = {package for nemesis in self._nemeses.values() for package in nemesis.ships}
        return sorted(of_nemeses.union(self._target.ships))

    async def _end(self) -> None:
        """Stop the nodes. All is recorded by now: what goes wrong here must not take that along."""
        self._say("stopping the nodes")
        stopping = asyncio.ensure_future(self._environment.stop())
        cancelled = False
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                # Whoever aborts the run does not want its nodes left behind.
                cancelled = True
            except Exception as error:
                self.directory.lost.append(f"the nodes could not be stopped as they should: {error}")
        if cancelled:
            raise asyncio.CancelledError

    async def _keep_others_out(self) -> None:
        ports = self._target.ports
        if ports and isinstance(self._environment, Guards) and (why := await self._environment.guard(ports)):
            self._say(f"others who can reach these machines can connect to {self._target.name} too: {why}")

    async def _start_store(self, cluster: Cluster, ownership: Ownership) -> None:
        self._say(f"starting {self._target.name} on {count(len(cluster.nodes), 'node')}")
        try:
            starts = asyncio.gather(*(self._target.start(cluster, node) for node in cluster.nodes))
            await self._patiently(whose(self._target, "start"), starts)
            await self._patiently(whose(self._target, "form"), self._target.form(cluster))
            self._waiting_for = whose(self._target, "ready")
            await wait_until(
                lambda: self._in_service(cluster),
                seconds=_STARTUP_SECONDS,
                what=f"{self._target.name} being ready on all nodes, as {self._waiting_for} says,",
            )
            if not self._stopping:
                await ownership.check_whole(_STARTUP_SECONDS, lambda: self._stopping)
        except MissingError:
            raise
        except SplitbrainError as error:
            raise NodeError(f"{error}{await _last_words(cluster)}") from error

    async def _in_service(self, cluster: Cluster) -> bool:
        """Whether the store is ready. Raises ``NodeError`` when a server has ended: it never will be."""
        if self._stopping or await self._target.ready(cluster):
            return True
        for node in cluster.nodes:
            for name, alive in (await node.running()).items():
                if not alive:
                    raise NodeError(f"{self._target.name} did not start: {name} on {node.name} ended at once")
        return False

    async def _drive(self, cluster: Cluster, ownership: Ownership) -> None:
        experiment = self.experiment
        versions = await versions_of(self._target, cluster) if self._environment.real_time else {}
        workers = [
            Worker(number, node.name, self._client(cluster, node))
            for number in range(experiment.concurrency)
            for node in [cluster.nodes[number % len(cluster.nodes)]]
        ]
        self._began = self._environment.clock()
        injection = Injection(
            cluster,
            self._target,
            self._nemeses,
            clock=self.clock,
            note=self._note,
            recovery=experiment.recovery,
            going=lambda: self._phase is not None,
        )
        interpreter = self._interpreter = Interpreter(
            self.recorder,
            self.clock,
            workers,
            reads=self._workload.reads,
            timeout=experiment.timeout,
            nemesis=injection.do,
            stuck=self.stop,
            answers=self._workload.answers,
        )
        if self._stopping:  # while it was looked who listens
            self._note_stop()
        self._waiting_for = whose(self._target, "roles")
        over = asyncio.Event()
        watching = watch_roles(cluster, self._target, over, self.clock, self.recorder.record)
        surviving = Surviving(cluster, self._patterns, self.clock, self.recorder.record)
        watchers = [asyncio.create_task(watching), asyncio.create_task(surviving.until(over))]
        owned = asyncio.create_task(ownership.watch(over, self.stop))
        for name, nemesis in self._nemeses.items():
            if isinstance(nemesis, Observes):
                watchers.append(asyncio.create_task(self._watch_fault(cluster, name, nemesis, over)))
        try:
            if self._nemeses:
                self._note_plan()
            if self._environment.real_time:  # the servers' logs go by it
                self._note(MONITOR, "info", BEGAN, began_now(self.clock(), versions))
            self._note(MONITOR, "info", LEADERSHIP, self._target.leadership)
            if self._target.prolongs_leases:
                self._note(MONITOR, "info", PROLONGS_LEASES)
            self._phase = _OPERATIONS
            self._say(f"running for {experiment.time:g} s")
            if not self._stopping:
                await interpreter.run(self._main_phase())
            self._phase = None
            recovered = await self._recover(cluster, injection)
            if (final := self._final()) is not None:
                self._phase = _FINAL_READS
                self._say("final reads")
                over_at = self.clock() + int(self._final_seconds * 1e9)
                await interpreter.run(time_limit(self._final_seconds, synchronize(on_clients(final))))
                if self.clock() >= over_at:
                    who = whose(self._workload, "final")
                    seconds = f"{self._final_seconds:g} s (see {field('recovery')})"
                    self.stop(f"the operations of {who} had not ended after {seconds}")
            self._phase = None
            await ownership.conclude(whole=recovered)
            if recovered and isinstance(self._target, ReadsOwnState):
                self._waiting_for = whose(self._target, "own_state")
                states = await compare(cluster, self._target)
                if states is not None:
                    self._note(MONITOR, "info", OWN_STATES, states, states.why or None)
        finally:
            # Not by cancelling it: a client library that is cancelled as it times out may take the one for the other.
            over.set()
            await asyncio.gather(*watchers)
            await interpreter.close()
            await owned
        self._note_end()

    def _client(self, cluster: Cluster, node: Node) -> Client:
        client = self._target.client(cluster, node, self.experiment.timeout)
        if not isinstance(client, Client):
            lacking = [part for part in ("open", "invoke", "close") if part not in dir(client)]
            mistake = f"returned {type(client).__name__}, which has no {', '.join(lacking)}"
            raise SplitbrainError(f"{whose(self._target, 'client')} {mistake}")
        return client

    def _main_phase(self) -> Generator:
        experiment = self.experiment
        members = [on_clients(self._operations())]
        if self._nemeses:
            members.append(on_nemesis(at_times(self._timetable.fault_operations())))
        return time_limit(experiment.time, any_of(*members))

    def _operations(self) -> Generator:
        experiment = self.experiment
        if experiment.timetable is not None and experiment.timetable.operations is not None:
            return by_worker(experiment.timetable.operations, experiment.concurrency)
        clients = self._workload.generator(random.Random(f"{experiment.seed}/{self._workload.name}"))
        if experiment.rate > 0:
            clients = stagger(1 / experiment.rate, clients, random.Random(f"{experiment.seed}/stagger"))
        return clients

    def _final(self) -> Generator | None:
        timetable = self.experiment.timetable
        if timetable is not None and timetable.operations is not None:
            return by_worker(timetable.final, self.experiment.concurrency)
        return self._workload.final()

    def _note_plan(self) -> None:
        """Record what is going to be done: what never had its turn can be told from what was never asked for."""
        faults = [{"name": fault.name, "start": fault.start, "stop": fault.stop} for fault in self._timetable.faults]
        asked = sorted(set(self._nemeses) - self._mixed)
        ends = {name: nemesis.ends_servers for name, nemesis in sorted(self._nemeses.items())}
        plan = {"asked": asked, "mixed": sorted(self._mixed), "faults": faults, "ends_servers": ends}
        self._note(MONITOR, "info", PLANNED, plan)

    def _note_end(self) -> None:
        """Record that this is all: see ``harness.seal``."""
        kinds = Counter(event.type for event in self.recorder.events if isinstance(event.process, int))
        experiment = hashlib.sha256(written(self.experiment)).hexdigest()
        self._note(MONITOR, "info", FINISHED, Seal(dict(kinds), self.recorder.digest, experiment))

    async def _recover(self, cluster: Cluster, injection: Injection) -> bool:
        """Heal every fault, then wait until the store serves again; both stand in the history. Whether it does."""
        self._say("healing, and waiting for the store to recover")
        if self._nemeses:
            self._note(NEMESIS, "invoke", HEAL)
            healed, failed = await injection.heal_all()
            if failed:
                reasons = "; ".join(f"{name}: {error}" for name, error in failed.items())
                self._note(NEMESIS, "info", HEAL, healed, reasons)
            else:
                self._note(NEMESIS, "ok", HEAL, healed)
        began = self.clock()
        try:
            await wait_until(
                lambda: self._target.ready(cluster),
                seconds=self.experiment.recovery,
                what="the store's recovery",
            )
        except NodeError as error:
            self._note(MONITOR, "info", "recovered", None, str(error))
            return False
        self._note(MONITOR, "info", "recovered", {"seconds": round((self.clock() - began) / 1e9, 3)})
        return True

    def _note(self, process: str, kind: EventType, f: str, value: Any = None, error: str | None = None) -> None:
        self.recorder.record(Event(0, self.clock(), process, kind, f, None, value, None, error))

    async def _watch_fault(self, cluster: Cluster, name: str, nemesis: Observes, over: asyncio.Event) -> None:
        """Record what a nemesis sees of its own fault, until the run is over."""
        while not await over_within(over, _OBSERVE_SECONDS):
            try:
                self._note(MONITOR, "info", name, await nemesis.observe(cluster))
            except (SplitbrainError, OSError) as error:
                self._note(MONITOR, "info", name, None, str(error))


async def _last_words(cluster: Cluster) -> str:
    """The last line that a server printed on each node: the reason why a store did not start is usually there."""
    last_lines = []
    for node in cluster.nodes:
        for name, alive in (await node.running()).items():
            lines = (await node.log(name)).strip().splitlines()
            if lines and not alive:
                last_lines.append(f"{name} on {node.name} said: {lines[-1].strip()[:300]}")
    return "; " + "; ".join(last_lines) if last_lines else ""
