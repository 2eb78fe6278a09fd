"""Rolling restarts: one node after the other is asked to end by SIGTERM and is started again, as in an upgrade.

Who has not ended after a while is killed, as an orchestrator does. With ``rolling=ready`` the next node is taken once
the store is whole again, and the upgrade stops where it does not become so; with ``rolling=none`` at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster, wait_until
from harness.errors import NodeError, NothingToDo
from harness.nemeses.victims import (
    Aim,
    Aimed,
    aims,
    processes,
    resolve,
    revive,
    shuffled,
    table_in_words,
    tell,
    terminating,
)
from harness.nemesis import LASTS, Decks, EndsServers, Layer, Nemesis, Plan, Proof, Zones
from harness.target import Target

_READY_SECONDS = 10.0
"""How long a node may take to be ready again, unless the fault is over before."""
_PROOF_SECONDS = 2.0
"""What is left of the fault's time for its proof."""
_ANY_LENGTH = 60.0
"""Seconds that a fault may take which nobody has planned a length for."""


class Restart(Nemesis):
    """SIGTERM and start again the servers of some nodes, one after the other."""

    class Options(msgspec.Struct, frozen=True):
        """Whom, and how fast."""

        restart: Aim = "all"
        rolling: Annotated[Literal["ready", "none"], "what to wait for before the next node is taken"] = "ready"

    Fields = Aimed

    name: ClassVar[str] = "restart"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.KILL})
    layer: ClassVar[Layer] = Layer.PROCESS
    ends_servers: ClassVar[EndsServers] = "itself"

    def __init__(self, options: Options) -> None:
        self._aim = options.restart
        self._waits = options.rolling == "ready"
        self._down: set[str] = set()

    def decks(self, zones: Zones) -> Decks:
        return {"aim": aims(zones, self._aim)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        return {"aim": dealt["aim"], "order": shuffled(rng, zones)}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        loop = asyncio.get_running_loop()
        over = loop.time() + plan.get(LASTS, _ANY_LENGTH) - _PROOF_SECONDS
        victims = await resolve(cluster, target, plan)
        before: dict[str, list[str]] = {}
        terminated: dict[str, list[str]] = {}
        restarted: dict[str, list[str]] = {}
        stopped, took = "", 0.0
        for name in victims:
            if terminated and loop.time() + took > over:
                stopped = ", and there was no time for more"
                break
            began = loop.time()
            self._down.add(name)
            table = table_in_words(await processes(cluster, [name]))
            commands = (await tell(cluster, [name], terminating(plan)))[name]
            if not commands:
                continue  # another fault keeps it down
            terminated[name] = commands
            before |= table
            restarted[name] = (await revive(cluster, target, [name]))[name]
            patience = min(_READY_SECONDS, over - loop.time())
            if self._waits and name != victims[-1] and not await _ready(cluster, target, patience):
                stopped = ", and the store was not whole again in time for the next one"
                break
            took = loop.time() - began
        if not terminated:
            raise NothingToDo("there is no server process that could be restarted")
        # Another fault may keep it from starting again.
        ended = [name for name, started in restarted.items() if not started]
        back = [name for name in restarted if name not in ended]
        down = f", and {' '.join(ended)} did not start again" if ended else ""
        return {
            "said": f"{plan['aim']}: {' '.join(back) or 'nobody'}{down}{stopped}",
            "terminated": terminated,
            "ended": ended,
            "before": before,
        }

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        before: dict[str, list[str]] = done["before"]
        now = table_in_words(await processes(cluster, list(before)))
        back = [name for name in before if name not in done["ended"]]
        holds = bool(back) and all(
            before[name] and now[name] and not set(before[name]) & set(now[name]) for name in back
        )
        return Proof("the process table", before, now, holds)

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        started = await revive(cluster, target, sorted(self._down))
        self._down.clear()
        return {"started": started}


async def _ready(cluster: Cluster, target: Target, seconds: float) -> bool:
    """Whether the whole store is in service again within so many seconds."""
    try:
        await wait_until(lambda: target.ready(cluster), seconds=seconds, what="the store being ready again")
    except NodeError:
        return False
    return True
