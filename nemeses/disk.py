"""Bad disks: full, or with files of the store that were spoiled before a node starts again and meets them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.errors import NothingToDo, UsageError, option
from harness.faults import disk, process, witness
from harness.faults.disk import Flipped
from harness.nemeses.victims import Aim, Aimed, aims, refuse_other_fields, resolve, revive, shuffled, tell
from harness.nemesis import Decks, Layer, Nemesis, Plan, Proof, Zones
from harness.options import Number, Seconds, Share, Text
from harness.target import Target

_AIMS = ("primary", "one", "minority")
"""Never a majority: what all copies of the data have lost, no store can have kept."""
_DRAWN = ("full", "flip")
"""The others take from a node for good what it has promised to keep, and no store can bear that at any moment."""
_FOR_GOOD = ("truncate", "rollback")
_OLD, _BACKUP = "old", "backup"
_REGIONS = ("head", "middle", "tail")
_FULL = "No space left on device"
_SAYS = {
    "flip": "a bit of {file} was flipped",
    "truncate": "{file} was cut off",
    "rollback": "its files are those of {age:g} s earlier",
}


class Disk(Nemesis):
    """Fill disks, or flip a bit, cut off the end or bring back an older state of what servers find as they start again.

    The heal restores.

    ``disk=truncate`` cuts off the end of a file, ``disk=rollback`` brings back all files as they were a while ago.
    Where a server will not start with that, the heal gives it what it had before, as an administrator would from a
    backup; where it does start, what was taken away stays so, which no store can bear at any moment: neither is drawn.
    """

    class Options(msgspec.Struct, frozen=True):
        """What happens, to whom, and where on the disk."""

        disk: Annotated[Literal["any", "full", "flip", "truncate", "rollback"], "what happens"] = "any"
        spoil: Aim = "any"
        file: Annotated[
            str | None, Text("a file's name or path, * for any letters"), "which file is spoiled; else the largest"
        ] = None
        region: Annotated[
            Literal["any", "head", "middle", "tail"], "in which third of a file's data a bit is flipped"
        ] = "any"
        bytes: Annotated[int, Number(1, 1_000_000), "how many are cut off the end of a file's data"] = 64
        age: Annotated[float, Seconds(0.1, 10), "how much older the files are that a rollback brings back"] = 1.0

    class Fields(Aimed, frozen=True, kw_only=True):
        """What is done to which of the files."""

        kind: Literal["full", "flip", "truncate", "rollback"]
        file: str | None = None
        place: Annotated[float | None, Share(0, 1)] = None
        bit: Annotated[int | None, Number(0, 7)] = None
        bytes: Annotated[int | None, Number(1, 1_000_000_000)] = None
        age: Annotated[float | None, Seconds(0.1, 10)] = None

        def __post_init__(self) -> None:
            wanted = {"flip": {"file", "place", "bit"}, "truncate": {"file", "place", "bytes"}, "rollback": {"age"}}
            refuse_other_fields(self, self.kind, wanted.get(self.kind, set()))

    name: ClassVar[str] = "disk"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.DISK})
    layer: ClassVar[Layer] = Layer.RESOURCE

    def __init__(self, options: Options) -> None:
        for name, kinds in {
            "file": ("any", "flip", "truncate"),
            "region": ("any", "flip"),
            "bytes": ("truncate",),
            "age": ("rollback",),
        }.items():
            if getattr(options, name) != getattr(type(options)(), name) and options.disk not in kinds:
                raise UsageError(f"{option(name)} is for disk={' or '.join(kinds)}, not for disk={options.disk}")
        self._options = options
        self._aim = options.spoil
        self._full: dict[str, int] = {}
        """By node, how large its disk was."""
        self._flipped: dict[str, list[Flipped]] = {}
        """By node, what to flip back."""
        self._backed_up: set[str] = set()
        """The nodes that keep what they had before something was taken from them for good."""
        self._why: dict[str, str] = {}
        """By node, why its servers may not start again."""

    def decks(self, zones: Zones) -> Decks:
        kinds = _DRAWN if self._options.disk == "any" else (self._options.disk,)
        return {"aim": aims(zones, self._aim, _AIMS), "kind": dict.fromkeys(kinds, 1.0)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        options, kind = self._options, dealt["kind"]
        place = rng.random()
        if options.region in _REGIONS:
            place = (_REGIONS.index(options.region) + place) / len(_REGIONS)
        where = {"file": options.file or "", "place": round(place, 6)}
        more: dict[str, Plan] = {
            "flip": {**where, "bit": rng.randrange(8)},
            "truncate": {**where, "place": 1.0, "bytes": options.bytes},
            "rollback": {"age": options.age},
        }
        return {"aim": dealt["aim"], "order": shuffled(rng, zones), "kind": kind, **more.get(kind, {})}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        kind = plan["kind"]
        victims = sorted(await resolve(cluster, target, plan))
        if kind == "full":
            before = await cluster.on_each(victims, _write)
            await cluster.on_each(victims, self._fill)
            return {"said": f"full: {' '.join(victims)}", "kind": kind, "before": before}
        if kind == "rollback":
            await cluster.on_each(victims, lambda node: run_tool(node, ask(disk.back_up, node.directory, _OLD)))
            await asyncio.sleep(plan["age"])
        # What runs could still write over what is spoiled, from its memory, and would meet files that are half copied.
        cluster.down[self.name] = set(victims)
        try:
            await tell(cluster, victims, ask(process.kill))
            if kind in _FOR_GOOD:
                self._backed_up.update(victims)
                await cluster.on_each(victims, lambda node: run_tool(node, ask(disk.back_up, node.directory, _BACKUP)))
            if kind == "rollback":
                seen: dict[str, Any] = await cluster.on_each(victims, _roll_back)
            else:
                seen = await cluster.on_each(victims, lambda node: self._spoil(node, plan))
        finally:
            cluster.down.pop(self.name, None)
            await revive(cluster, target, victims)
        if not any(seen.values()):
            raise NothingToDo(f"there is nothing to spoil on the disks of {', '.join(victims)}")
        for name, damage in seen.items():
            if damage:
                self._why[name] = _SAYS[kind].format(file=damage.get("file"), age=plan.get("age", 0))
        return {
            "said": f"{kind}: {' '.join(victims)}",
            "kind": kind,
            "before": {name: damage and damage["before"] for name, damage in seen.items()},
            "spoiled": {name: damage and damage["spoiled"] for name, damage in seen.items()},
            **({"bit": plan["bit"]} if "bit" in plan else {}),
        }

    async def _fill(self, node: Node) -> None:
        self._full.setdefault(node.name, await run_tool(node, ask(disk.fill, node.directory)))

    async def _spoil(self, node: Node, plan: Plan) -> Any:
        """Spoil a file of a node whose servers are down: what was there, and what is there then, as it is read."""
        spot = await run_tool(node, ask(disk.find, node.directory, file=plan["file"], place=plan["place"]))
        if spot is None:
            return None
        file, at = spot["file"], spot["at"]
        look = ask(witness.around, file, at)
        before = await run_tool(node, look)
        if plan["kind"] == "flip":
            done = await run_tool(node, ask(disk.flip, file, at, plan["bit"]))
            self._flipped.setdefault(node.name, []).append(done)
        else:
            await run_tool(node, ask(disk.truncate, file, plan["bytes"]))
        spoiled = await run_tool(node, look)
        return {"file": file.removeprefix(f"{node.directory}/"), "before": before, "spoiled": spoiled}

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        """A full disk refuses a write that it took before. What was spoiled was read before and after that.

        That was done while servers were down, who may have changed it since; whether they run is what is asked now.
        """
        before = done["before"]
        if done["kind"] == "full":
            during = await cluster.on_each(sorted(before), _write)
            full = all(
                not before[name]["errors"] and list(outcome["errors"]) == [_FULL] for name, outcome in during.items()
            )
            return Proof("a write by another process", before, during, full)
        during = {name: reading for name, reading in done["spoiled"].items() if reading}
        holds = all(_is_spoiled(done, before[name], reading) for name, reading in during.items())
        refused = await self._refused(cluster, sorted(during.keys() - cluster.kept_down))
        means = "reading it while the servers were down"
        return Proof(means, before, {**during, **({"refused": refused} if refused else {})}, holds)

    async def _refused(self, cluster: Cluster, names: Sequence[str]) -> dict[str, str]:
        """Of some nodes that nothing keeps down those whose servers do not run nevertheless, and why that is."""
        asked = [name for name in names if name in self._why]
        alive = await tell(cluster, asked, ask(process.look))
        return {name: f"{name} did not start again: {self._why[name]}" for name in asked if not alive[name]}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        """Make room, and flip bits back. Who does not start without what was taken from it gets its backup."""
        hit = sorted({*self._full, *self._flipped, *self._backed_up})
        free = [name for name in hit if name not in cluster.kept_down]
        cluster.down[self.name] = set(hit)  # who starts now would meet files that are half copied
        try:
            seen = await self._mend(cluster, free)
        finally:
            cluster.down.pop(self.name, None)
        started = await revive(cluster, target, hit)
        for known in (self._full, self._flipped, self._backed_up, self._why):
            known.clear()
        return {"started": started, **{what: nodes for what, nodes in seen.items() if nodes}}

    async def _mend(self, cluster: Cluster, free: Sequence[str]) -> dict[str, Any]:
        """Make all disks good again; what was seen. Of those that are ``free`` to run, who does not gets its backup."""
        full = sorted(self._full)
        await cluster.on_each(full, lambda node: run_tool(node, ask(disk.heal, node.directory, self._full[node.name])))
        writes = await cluster.on_each(full, _write)
        flipped = sorted(self._flipped)
        mended = await cluster.on_each(flipped, lambda node: run_tool(node, ask(disk.mend, self._flipped[node.name])))
        refused = await self._refused(cluster, free)
        restored = sorted(self._backed_up & set(refused))
        await cluster.on_each(restored, lambda node: run_tool(node, ask(disk.restore, node.directory, _BACKUP)))
        await cluster.on_each(sorted(self._backed_up), _forget_copies)
        return {"refused": refused, "mended": mended, "restored": restored, "writes": writes}


def _is_spoiled(done: Plan, before: Any, during: Any) -> bool:
    """Whether what was read is what was asked for."""
    if done["kind"] == "flip":
        changed = int(before["bytes"], 16) ^ int(during["bytes"], 16)
        one_bit = changed.bit_count() == 1 and changed.bit_length() % 8 == (done["bit"] + 1) % 8
        return one_bit and before["size"] == during["size"]
    if done["kind"] == "truncate":
        return bool(during["size"] < before["size"] and len(during["bytes"]) < len(before["bytes"]))
    return bool(during["now"] == before["old"] != before["now"])


async def _roll_back(node: Node) -> Any:
    """Bring back the files of a node whose servers are down: a hash of all, of those that were kept and are then."""
    look = ask(witness.digest, node.directory)
    before = {
        "old": await run_tool(node, ask(witness.digest, node.directory, _OLD)),
        "now": await run_tool(node, look),
    }
    await run_tool(node, ask(disk.restore, node.directory, _OLD))
    return {"before": before, "spoiled": {"now": await run_tool(node, look)}}


async def _forget_copies(node: Node) -> None:
    for copy in (_OLD, _BACKUP):
        await run_tool(node, ask(disk.forget, node.directory, copy))


async def _write(node: Node) -> witness.Written:
    return await run_tool(node, ask(witness.room, node.directory))
