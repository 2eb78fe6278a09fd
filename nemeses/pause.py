"""Pauses: every server process of the victims stands still (SIGSTOP), as in a long garbage collection.

With ``pause_only`` those of one program do, while others of the node go on: a supervisor without its store, or the
reverse.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster
from harness.environments.tools import ask
from harness.errors import NothingToDo
from harness.faults import process
from harness.faults.process import Seen
from harness.nemeses.victims import Aim, Aimed, Table, aims, identity, processes, revive, shuffled, strike, tell
from harness.nemesis import Decks, EndsServers, Layer, Nemesis, Plan, Proof, Zones
from harness.options import Text
from harness.target import Target

_LOOK_SECONDS = 0.3
"""The time between two looks at a server that stands still, in which it uses no CPU time."""


class Pause(Nemesis):
    """SIGSTOP every server process of some nodes; the heal resumes them, or starts those that were killed meanwhile."""

    class Options(msgspec.Struct, frozen=True):
        """Which nodes stand still, and what of them."""

        pause: Aim = "any"
        pause_only: Annotated[str, Text("the name of a program", r"[\w.-]{0,15}"), "the only program that does"] = ""

    Fields = Aimed

    name: ClassVar[str] = "pause"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.PAUSE})
    layer: ClassVar[Layer] = Layer.PAUSE
    ends_servers: ClassVar[EndsServers] = "never"

    def __init__(self, options: Options) -> None:
        self._aim = options.pause
        self._only = options.pause_only
        self._paused: set[str] = set()

    def decks(self, zones: Zones) -> Decks:
        return {"aim": aims(zones, self._aim)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        return {"aim": dealt["aim"], "order": shuffled(rng, zones)}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        cluster.down[self.name] = self._paused
        signal = ask(process.pause, only=self._only) if self._only else ask(process.pause)
        try:
            commands, before = await strike(cluster, target, plan, signal, self._paused)
        except NothingToDo as error:
            raise NothingToDo(f"{error}{f' that is {self._only}' if self._only else ''}") from None
        said = f"{plan['aim']}: {' '.join(commands)}{f', {self._only} only' if self._only else ''}"
        return {"said": said, "paused": commands, "before": self._states(before)}

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        before = done["before"]
        first = self._hit(await processes(cluster, list(before)))
        await asyncio.sleep(min(_LOOK_SECONDS, seconds / 4))
        then = self._hit(await processes(cluster, list(before)))
        stands_still = all(
            before[name].keys() == {identity(server) for server in servers}
            and all(server["threads"] == "T" for server in servers)
            and [server["used"] for server in servers] == [server["used"] for server in first[name]]
            for name, servers in then.items()
        )
        means = "the states of all threads in the process table of each node, twice, and their CPU time"
        return Proof(means, before, self._states(then), bool(then) and stands_still)

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        cluster.down.pop(self.name, None)
        resumed = await tell(cluster, sorted(self._paused), ask(process.resume))
        started = await revive(cluster, target, [name for name, commands in resumed.items() if not commands])
        self._paused.clear()
        return {"resumed": resumed, "started": started}

    def _hit(self, table: Table) -> dict[str, list[Seen]]:
        """The servers that are to stand still, by node."""
        return {
            name: [server for server in servers if self._only in ("", server["command"])]
            for name, servers in sorted(table.items())
        }

    def _states(self, table: Table) -> dict[str, dict[str, str]]:
        """The states of the threads of each of them, by node."""
        return {
            name: {identity(server): str(server["threads"]) for server in servers}
            for name, servers in self._hit(table).items()
        }
