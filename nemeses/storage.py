"""Bad storage: a file system under the store that fails, is slow, reads badly, or loses what was never synced.

It is mounted on every node before the store is started, so that the store's files are on it from the beginning.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.errors import FaultError, UsageError, option
from harness.faults import misbehave, process, witness
from harness.faults.misbehave import Kind as Misbehaviour
from harness.faults.witness import PATIENCE
from harness.nemeses.victims import ANY, Aim, Aimed, aims, refuse_other_fields, resolve, revive, shuffled, tell
from harness.nemesis import Decks, Layer, Nemesis, Plan, Proof, Zones
from harness.options import Seconds, Share, Text
from harness.target import Target

_DRAWN = ("lost", "slow", "errors", "readonly", "torn", "unreadable")
"""Not ``wrong``: a store without checksums believes what it reads, and promises nothing for that."""
_MINORITIES = ("primary", "one", "minority")
_SAYS: Final = {"readonly": "Read-only file system", "errors": "Input/output error"}
_UNREADABLE: Final = "Input/output error"
_AT_A_START: Final = ("unreadable", "wrong")
"""Stores read when they start, so they are started again with these."""
_LOSES: Final = ("lost", "torn")
_HOLD_SECONDS: Final = 1.0
_TRIES: Final = 5.0
_MOST_TRIES: Final = 400

Kind = Literal[Misbehaviour, "lost", "torn"]


class Storage(Nemesis):
    """Make the file system of some nodes fail, slow, or read badly; or kill them and lose what was not synced.

    ``torn`` loses a part of it: of each file any writes, the latest perhaps in the middle; of renames and the like the
    later ones.
    """

    class Options(msgspec.Struct, frozen=True):
        """What happens, to whom, how often, and to which files."""

        storage: Annotated[Literal["any", Kind], "what happens"] = "any"
        under: Aim = "any"
        slowness: Annotated[float | None, Seconds(0.001, 60), "how long a sync takes, where they are slow"] = None
        share: Annotated[float, Share(0.001, 1), "how much of what is asked goes wrong, unless it is lost"] = 1.0
        path: Annotated[
            str, Text("a file's name or path, * for any letters"), "the files that it hits, unless it is lost"
        ] = "*"

    class Fields(Aimed, frozen=True, kw_only=True):
        """What goes wrong, how often, and with which files."""

        kind: Kind
        seed: str | None = None
        share: Annotated[float | None, Share(0.001, 1)] = None
        path: str | None = None
        delay: Annotated[float | None, Seconds(0.001, 60)] = None

        def __post_init__(self) -> None:
            wanted = {"lost": set[str](), "torn": {"seed"}, "slow": {"seed", "share", "path", "delay"}}
            refuse_other_fields(self, self.kind, wanted.get(self.kind, {"seed", "share", "path"}))

    name: ClassVar[str] = "storage"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.STORAGE})
    layer: ClassVar[Layer] = Layer.RESOURCE
    ships: ClassVar[Sequence[str]] = ("harness.faults",)

    def __init__(self, options: Options) -> None:
        if options.slowness is not None and options.storage not in ("any", "slow"):
            raise UsageError(f"{option('slowness')} is for storage=any or slow, not for storage={options.storage}")
        if options.storage in _LOSES and (options.share, options.path) != (1.0, "*"):
            raise UsageError(
                f"{option('share')} and {option('path')} are not for storage={options.storage}, which hits everything"
            )
        self._options = options
        self._aim = options.under
        self._hit: set[str] = set()

    async def prepare(self, cluster: Cluster) -> None:
        """Mount the file system. Raises ``FaultError`` where it cannot be."""

        async def mount(node: Node) -> None:
            program = [node.python, "-m", "harness.faults.mount", node.directory]
            try:
                done = await node.exec(["env", f"PYTHONPATH={node.shipped}", *program])
            except TimeoutError:
                raise FaultError(f"the file system was not mounted on {node.name} in time") from None
            if done.code != 0:
                raise FaultError(f"the file system could not be mounted on {node.name}: {done.text}")

        await cluster.on_each([node.name for node in cluster.nodes], mount)

    def decks(self, zones: Zones) -> Decks:
        if self._options.storage == ANY:
            return {"aim": aims(zones, self._aim), "kind": dict.fromkeys(_DRAWN, 1.0)}
        # What all copies of the data have lost, no store can have kept.
        choices = {"choices": _MINORITIES} if self._options.storage == "wrong" else {}
        return {"aim": aims(zones, self._aim, **choices), "kind": {self._options.storage: 1.0}}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        slowness, seed, kind = rng.choice((0.05, 0.2, 0.5)), f"{rng.getrandbits(32):08x}", dealt["kind"]
        plan: Plan = {"aim": dealt["aim"], "order": shuffled(rng, zones), "kind": kind}
        if kind in _LOSES:
            return plan | ({"seed": seed} if kind == "torn" else {})
        plan |= {"seed": seed, "share": self._options.share, "path": self._options.path}
        if kind == "slow":
            plan["delay"] = slowness if self._options.slowness is None else self._options.slowness
        return plan

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))
        kind = plan["kind"]
        self._hit.update(victims)
        if kind in _LOSES:
            lost = await self._lose(cluster, victims, plan.get("seed"))
            words = f"{kind}: {' '.join(victims)}, {sum(lost.values())} changes"
            return {"said": words, "kind": kind, "lost": lost}
        before = await cluster.on_each(victims, lambda node: _use(node, 1.0))
        how, delay = {"share": plan["share"], "file": plan["path"], "seed": plan["seed"]}, plan.get("delay", 0.0)
        fault = ask(misbehave.begin, kind=kind, delay=delay, **how)
        await cluster.on_each(victims, lambda node: run_tool(node, fault))
        if kind in _AT_A_START:
            await tell(cluster, victims, ask(process.kill))
            await revive(cluster, target, victims)
        parts = [kind, *([f"{plan['delay']:g} s"] if "delay" in plan else [])]
        parts += [f"{plan['share']:.3g} of {plan['path']}"] if (plan["share"], plan["path"]) != (1.0, "*") else []
        asked = {str(name): plan[name] for name in ("kind", "share", "delay") if name in plan}
        return {"said": f"{' '.join(parts)}: {' '.join(victims)}", "before": before, **asked}

    async def _lose(self, cluster: Cluster, victims: list[str], seed: str | None) -> dict[str, int]:
        """Let the power fail on these nodes while they write; how many of the store's changes each has lost."""
        cluster.down[self.name] = set(victims)
        hold, lose = ask(misbehave.hold, seconds=_HOLD_SECONDS), ask(misbehave.lose, seed=seed)
        await asyncio.gather(
            cluster.on_each(victims, lambda node: run_tool(node, ask(witness.leave, node.directory))),
            cluster.on_each(victims, lambda node: run_tool(node, hold)),
        )
        await tell(cluster, victims, ask(process.kill))
        return await cluster.on_each(victims, lambda node: run_tool(node, lose))

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        """What another process sees of its own files; of a loss also what the store's own has become."""
        kind = done["kind"]
        if kind in _LOSES:
            left = await cluster.on_each(
                sorted(done["lost"]), lambda node: run_tool(node, ask(witness.left, node.directory))
            )
            holds = sum(done["lost"].values()) > 0
            holds &= all(seen == {"synced": True, "unsynced": False} for seen in left.values())
            before = {"written": ["synced", "unsynced"]}
            return Proof("files of another process", before, {"left": left, "lost": done["lost"]}, holds)
        before = done["before"]
        during = await cluster.on_each(sorted(before), lambda node: _use(node, done["share"]))
        holds = all(_is_bad(done, before[name], seen) for name, seen in during.items())
        return Proof("files of another process", before, during, holds)

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        hit = sorted(self._hit)
        await cluster.on_each(hit, lambda node: run_tool(node, ask(misbehave.heal)))
        seen = await cluster.on_each(hit, lambda node: run_tool(node, ask(witness.finish, node.directory)))
        self._hit.clear()
        cluster.down.pop(self.name, None)
        return {"seen": seen, "started": await revive(cluster, target, hit)}


def _is_bad(done: Plan, before: Any, during: Any) -> bool:
    """Whether what another process saw is the fault that was asked for, and was not there before."""
    kind = done["kind"]
    writes, reads = during["write"], during["read"]
    if kind == "slow":
        return bool(before["write"]["sync"] < min(done["delay"], PATIENCE) <= writes["sync"])
    if kind == "wrong":
        return bool(before["read"]["wrong"] == 0 < reads["wrong"])
    what, error = ("read", _UNREADABLE) if kind == "unreadable" else ("write", _SAYS[kind])
    failed = during[what]["errors"].get(error, 0)
    often = failed == during[what]["tries"] if done["share"] >= 1 else failed > 0
    return error not in before[what]["errors"] and often


async def _use(node: Node, share: float) -> witness.Used:
    """What a process sees that writes, syncs and reads; as often as it takes to meet what happens to a share."""
    tries = 1 if share >= 1 else min(math.ceil(_TRIES / share), _MOST_TRIES)
    return await run_tool(node, ask(witness.use, node.directory, tries))
