"""The bundled reference store as a target: starting its processes, and who believes to be what."""

from __future__ import annotations

import importlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from typing import Annotated, Any, ClassVar, get_type_hints

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster, Role, holds_within, wait_until
from harness.environments.base import Node
from harness.errors import NodeError, NothingToDo, UsageError, option
from harness.errors import field as named
from harness.options import Code, Limit, Nodes, Number, Text
from harness.target import ChangesMembers, Client, Leadership, Reshards, ShardsSeen, Target
from harness.targets.reference.bugs import BUGS, Bug
from harness.targets.reference.client import ReferenceClient
from harness.targets.reference.metrics import METRICS_PORT
from harness.targets.reference.options import Options as NodeOptions
from harness.targets.reference.peers import PEER_PORT
from harness.targets.reference.placement import PLACEMENTS, Piece, Placement, joined, owner
from harness.targets.reference.server import CLIENT_PORT
from harness.targets.resp import connected, quick, quick_info

MERGES = NodeOptions.merge.partition(":")[0]
"""The module of the functions that come along."""
_FILE = ".splitbrain-secret"
"""The file in a node's directory with the secret. By its name it is no data, which faults might spoil."""
_PATIENCE = 5.0
"""Seconds to wait for a primary that can change the members, and for what a node holds."""
_PLAN_SECONDS = 0.5
"""How long after a move was asked for, and nobody has answered, nodes may come to know of it."""
_HINTS = get_type_hints(NodeOptions)
_TRANSACTIONS = frozenset({"list-append", "rw-register", "rmw", "long-fork", "write-skew"})
_ONE_ORDER = frozenset({"append", "queue", "unique-ids", "bank", "atm", "watch", "lock", "lease"}) | _TRANSACTIONS
"""The workloads that need commands which only modes with one order of them have."""
_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
"""No module comes from the directory that a server happens to be started in."""
_LIMITS: Mapping[str, Limit] = {
    "bug": Text("names that `list bugs` shows, with commas", r"[a-z0-9-]+(,[a-z0-9-]+)*"),
    "witness": Nodes(("",), most=1),
    "merge": Code(own=MERGES),
}
"""What is allowed beyond numbers from the least to the most."""


def _declared(field: Field[Any]) -> tuple[str, Any, Any]:
    """An option of a node as the command line has it."""
    hint, default, about = _HINTS[field.name], field.default, field.metadata
    if field.name == "replication":
        hint, default = hint | None, None
    limit = Number(about["least"], about["most"]) if "least" in about else _LIMITS.get(field.name)
    what = f"{', '.join(about['of'])}: {about['what']}" if about["of"] else about["what"]
    return field.name, Annotated[hint, limit, what], default


class Reference(Target):
    """Raft, primary-backup, quorums, multi-primary or gossip; its planted bugs are shown by `list bugs`."""

    Options = msgspec.defstruct("Options", [_declared(field) for field in fields(NodeOptions)], frozen=True)

    name: ClassVar[str] = "reference"
    workloads: ClassVar[frozenset[str]] = frozenset({"register", "converge", "set", "counter"} | _ONE_ORDER)
    programs: ClassVar[Mapping[str, str]] = {}
    ports: ClassVar[tuple[int, ...]] = (CLIENT_PORT, PEER_PORT, METRICS_PORT)
    ships: ClassVar[Sequence[str]] = ("harness.targets.reference",)
    bugs: ClassVar[Mapping[str, Bug]] = BUGS
    placements: ClassVar[Mapping[str, Placement]] = PLACEMENTS
    claims: ClassVar[str] = (
        "replication=raft, primary-backup with acknowledge=sync, and quorum with R + W > N and write_back: "
        "linearizable under every fault, and transactions as strong as their isolation says; "
        "everything else: nodes hold the same once faults are over"
    )

    failover = 2.0
    prolongs_leases: ClassVar[bool] = True
    able_with: ClassVar[Mapping[Capability, str]] = {
        Capability.MEMBERSHIP: f"{option('replication', 'raft')} without {option('shards')}",
        Capability.RESHARD: f"{option('shards', 2)} or more",
    }

    def __init__(self, options: msgspec.Struct) -> None:
        self._given = options
        """Kept, so that a program's own store can be made again elsewhere."""
        self._clients = 0
        self.secret = secrets.token_hex(32)
        """What clients and peers have to say first. It stands in nodes' files only, and is not for the simulation."""
        self._told: set[Node] = set()
        """The nodes that have the file with the secret."""
        # As a node reads them, since a type checker knows the fields of a struct only where a class declares them.
        given: dict[str, Any] = {field.name: getattr(options, field.name) for field in fields(NodeOptions)}
        bugs = [name for name in given["bug"].split(",") if name]
        for name in bugs:
            if name not in BUGS:
                raise UsageError(f"there is no bug named {name!r}: `splitbrain list bugs` shows what there is")
        modes = sorted({BUGS[name].replication for name in bugs})
        replication = given["replication"] or (modes or [NodeOptions.replication])[0]
        if len(modes) > 1 or (modes and replication != modes[0]):
            chosen = f", not {replication}" if len(modes) == 1 else ""
            raise UsageError(
                f"{named('bug', given['bug'])} is of replication={' and '.join(modes)}{chosen}: "
                "a run has only one replication"
            )
        for field in fields(NodeOptions):
            knows = field.metadata["of"]
            if knows and replication not in knows and given[field.name] != field.default:
                raise UsageError(
                    f"{option(field.name)} is for replication={' or '.join(knows)}, and does nothing with {replication}"
                )
        asked = self._options = NodeOptions(**given | {"replication": replication})
        if asked.conflict != "merge" and asked.merge != NodeOptions.merge:
            raise UsageError(f"{option('merge')} is for conflict=merge, and does nothing without")
        for name in ("r", "w"):
            if given[name] > asked.n:
                raise UsageError(f"{option(name)} is {given[name]}, but each key is held by n={asked.n} nodes only")
        if asked.conflict == "merge":
            _refuse_what_merges_nothing(asked.merge)
        if asked.shards:
            _refuse_what_shards_have_not(asked, bugs)
        elif sharded := [name for name in bugs if BUGS[name].sharded]:
            raise UsageError(f"the bug {sharded[0]} is of shards: it needs {option('shards')}")
        elif asked.placement != NodeOptions.placement:
            raise UsageError(
                f"{option('placement', asked.placement)} places keys on shards: it needs {option('shards')}"
            )
        # Each shard has a primary of its own, and each of them acknowledges writes.
        self.leadership: Leadership = "primary" if self._elects and not asked.shards else "none"

    def misfit(self, zones: Mapping[str, str]) -> str | None:
        options = self._options
        if options.n > max(len(zones), NodeOptions.n):
            return f"{option('n')} is {options.n}, but there are {len(zones)} nodes to hold each key"
        if options.replication == "quorum" and (most := max(options.r, options.w)) > len(zones):
            both = f"{option('r')} and {option('w')} are {options.r} and {options.w}"
            return f"{both}, which takes {most} nodes, but there are {len(zones)}"
        return None

    def unfit_for(self, workload: str) -> str | None:
        if self._elects or workload not in _ONE_ORDER:
            return None
        return f"the workload {workload} needs replication=raft or primary-backup, not {self._options.replication}"

    @property
    def _elects(self) -> bool:
        return self._options.replication in ("raft", "primary-backup")

    async def start(self, cluster: Cluster, node: Node) -> None:
        argv = [node.python, "-m", "harness.targets.reference.server", "--name", node.name]
        for member in cluster.nodes:
            argv += ["--node", f"{member.name}={member.address}"]
        argv += ["--data", node.directory, "--options", json.dumps(msgspec.to_builtins(self._options))]
        if cluster.environment.real_time:
            file = f"{node.directory}/{_FILE}"
            if node not in self._told:  # later its disk may be full
                await node.write(file, self.secret.encode())
                self._told.add(node)
            argv += ["--secret", file]
        await node.start("reference", argv, _ENVIRONMENT | {"PYTHONPATH": node.shipped})

    def _password(self, cluster: Cluster) -> str | None:
        return self.secret if cluster.environment.real_time else None

    async def _ask(self, cluster: Cluster, name: str, *words: str) -> Any:
        """What a node answers to a command; None without an answer."""
        return await quick(cluster.node(name).address, CLIENT_PORT, *words, password=self._password(cluster))

    async def form(self, cluster: Cluster) -> None:
        """Nothing to do: the nodes find one another."""

    async def ready(self, cluster: Cluster) -> bool:
        roles = await self.roles(cluster)
        if len(roles) < len(cluster.nodes) or not self._elects:
            return len(roles) == len(cluster.nodes)
        if self._options.shards and not await self._all_are_led(cluster):
            return False
        primaries = [role for role in roles if role.role == "primary"]
        return len(primaries) == 1 and len({role.term for role in roles}) == 1

    async def _infos(self, cluster: Cluster) -> Mapping[str, Mapping[str, str]]:
        nodes = [(node.name, node.address) for node in cluster.nodes]
        return await quick_info(nodes, CLIENT_PORT, self._password(cluster))

    async def _all_are_led(self, cluster: Cluster) -> bool:
        """Whether every shard has a primary, too; roles are those in the group of the map."""
        led = ",".join(info.get("leads", "") for info in (await self._infos(cluster)).values()).split(",")
        return {str(shard) for shard in range(self._options.shards + 1)} <= set(led)

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        answers = await self._infos(cluster)
        return [
            Role(
                name,
                "replica" if info["role"] == "backup" else str(info["role"]),
                int(info["term"]),
                int(info["applied"]) if "applied" in info else None,
            )
            for name, info in answers.items()
        ]

    async def own_state(self, cluster: Cluster, node: Node) -> Mapping[str, str] | None:
        if not self._elects or node.name == self._options.witness:
            return None
        async with connected(node.address, CLIENT_PORT, _PATIENCE, self._password(cluster)) as link:
            words = await link.execute_command("CONTENTS", patience=_PATIENCE)
        return dict(zip(words[::2], words[1::2], strict=True))

    @property
    def membership(self) -> ChangesMembers | None:
        """Raft can change its members, where there is one group of them."""
        return self if self._options.replication == "raft" and not self._options.shards else None

    @property
    def sharding(self) -> Reshards | None:
        """Shards can hand ranges of keys to one another."""
        return self if self._options.shards > 1 else None

    async def shards(self, cluster: Cluster) -> Mapping[str, ShardsSeen]:
        """What each node says of the shards."""
        return {name: _seen(told) for name, told in (await self._told_of_shards(cluster)).items()}

    async def _told_of_shards(self, cluster: Cluster) -> Mapping[str, Mapping[str, Any]]:
        names = [node.name for node in cluster.nodes]
        answers = await cluster.on_each(names, lambda node: self._ask(cluster, node.name, "SHARDS"))
        return {name: json.loads(answer) for name, answer in answers.items() if isinstance(answer, bytes | str)}

    async def reshard(self, cluster: Cluster, low: str, high: str, shard: int) -> int:
        """Ask whoever is primary of the map for a move; the epoch that begins with it."""
        before = max((told["epoch"] for told in (await self._told_of_shards(cluster)).values()), default=0)
        primaries = [role.node for role in await self.roles(cluster) if role.role == "primary"]
        for primary in primaries:
            answer = await self._ask(cluster, primary, "RESHARD", low, high, str(shard))
            if isinstance(answer, int):
                return answer
        epochs: list[int] = []

        async def is_planned() -> bool:
            """Whether nodes know of the move, although nobody has answered."""
            planned = [told["planned"] for told in (await self._told_of_shards(cluster)).values() if told["planned"]]
            epochs.extend(
                epoch for epoch, *move, _, target in planned if epoch > before and (*move, target) == (low, high, shard)
            )
            return bool(epochs)

        if primaries and await holds_within(is_planned, _PLAN_SECONDS):
            return epochs[0]
        raise NothingToDo("no primary has taken the range for one that can be moved now")

    async def leave(self, cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
        """Let nodes leave a Raft cluster, one after the other; the members afterwards."""
        return await self._change_members(cluster, "REMOVE", names)

    async def join(self, cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
        """Let them join again."""
        return await self._change_members(cluster, "ADD", names)

    async def members(self, cluster: Cluster) -> Sequence[str]:
        """The members as the primary knows them."""
        for role in await self.roles(cluster):
            if role.role == "primary":
                answer = await self._ask(cluster, role.node, "MEMBERS")
                if isinstance(answer, list):
                    return answer
        raise NothingToDo("no primary says who the members are")

    async def _change_members(self, cluster: Cluster, change: str, names: Sequence[str]) -> Sequence[str]:
        members: list[str] = []

        async def changed(name: str) -> bool:
            """Whether it is done. If not, who believes to be primary is asked for it; a deposed one cannot do it."""
            nonlocal members
            for role in await self.roles(cluster):
                if role.role == "primary":
                    answer = await self._ask(cluster, role.node, "MEMBERS")
                    if isinstance(answer, list):
                        members = answer
                        if (name in members) == (change == "ADD"):
                            return True
                    await self._ask(cluster, role.node, "MEMBERS", change, name)
            return False

        primary = next((role.node for role in await self.roles(cluster) if role.role == "primary"), None)
        if primary is not None:
            # All at once: a store that takes one change at a time refuses, and is then asked for one after the other.
            await self._ask(cluster, primary, "MEMBERS", change, *names)
        for name in names:
            try:
                await wait_until(lambda name=name: changed(name), seconds=_PATIENCE, what=f"{change} {name}")  # type: ignore[misc]
            except NodeError as error:
                if not members:
                    raise NothingToDo(str(error)) from None
        return members

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        self._clients += 1
        identity, password = f"{node.name}-{self._clients}", self._password(cluster)
        return ReferenceClient(
            node.address, identity, timeout, password, repeats=self._elects, isolation=self._options.isolation
        )


def _seen(told: Mapping[str, Any]) -> ShardsSeen:
    """What a node says, with the owners as each shard's own state has them."""
    lines = {int(number): [Piece(*piece) for piece in pieces] for number, pieces in told["owned"].items()}
    starts = sorted({piece.start for pieces in lines.values() for piece in pieces})
    owners = (
        Piece(start, next((number for number, pieces in lines.items() if owner(pieces, start) == number), 0))
        for start in starts
    )
    return ShardsSeen(told["epoch"], joined(owners), sorted(lines), told["points"], told["moving"])


def _refuse_what_shards_have_not(asked: NodeOptions, bugs: Sequence[str]) -> None:
    if asked.isolation != NodeOptions.isolation:
        raise UsageError(f"{option('isolation')} is {asked.isolation}, but shards have no snapshot in common")
    if alone := [name for name in bugs if not BUGS[name].sharded]:
        raise UsageError(f"the bug {alone[0]} is of one group for all keys, without {option('shards')}")


def _refuse_what_merges_nothing(name: str) -> None:
    module, _, function = name.partition(":")
    try:
        merge = getattr(importlib.import_module(module), function, None)
    except ImportError:
        merge = None
    if not callable(merge):
        raise UsageError(f"{option('merge')} is {name}, but there is no such function: write MODULE:FUNCTION")
