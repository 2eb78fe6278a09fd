"""The bundled reference store as a target: starting its processes, and who believes to be what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, get_type_hints

import msgspec

from harness.cluster import Cluster, Role, wait_until
from harness.environments.base import Node
from harness.errors import NodeError, NothingToDo, UsageError
from harness.target import Client
from targets.reference.bugs import BUGS, Bug
from targets.reference.client import ReferenceClient
from targets.reference.options import Options as NodeOptions
from targets.reference.server import CLIENT_PORT
from targets.resp import quick, quick_info

_PATIENCE = 5.0
"""Seconds to wait for a primary that can change the members."""
_HINTS = get_type_hints(NodeOptions)


class Reference:
    """Raft, primary-backup, quorums, multi-primary or gossip; its planted bugs are shown by `list bugs`."""

    Options = msgspec.defstruct(
        "Options", [(field.name, _HINTS[field.name], field.default) for field in fields(NodeOptions)], frozen=True
    )

    name: ClassVar[str] = "reference"
    workloads: ClassVar[frozenset[str]] = frozenset({"register", "converge", "set", "counter"})
    programs: ClassVar[Mapping[str, str]] = {}
    bugs: ClassVar[Mapping[str, Bug]] = BUGS
    claims: ClassVar[str] = (
        "replication=raft, primary-backup with acknowledge=sync, and quorum with R + W > N and write_back: "
        "linearizable under every fault; everything else: nodes hold the same once faults are over"
    )

    failover: ClassVar[float] = 2.0

    def __init__(self, options: Any) -> None:
        self._clients = 0
        bugs = [name for name in options.bug.split(",") if name]
        for name in bugs:
            if name not in BUGS:
                raise UsageError(f"there is no bug named {name!r}: `splitbrain list bugs` shows what there is")
        modes = sorted({BUGS[name].replication for name in bugs})
        if len(modes) > 1 or (modes and options.replication not in (modes[0], NodeOptions.replication)):
            raise UsageError(f"the bugs are those of replication={' and '.join(modes)}: a run has only one")
        # A bug alone says which replication is meant.
        self._options = msgspec.structs.replace(options, replication=modes[0]) if modes else options

    @property
    def _elects(self) -> bool:
        return self._options.replication in ("raft", "primary-backup")

    async def start(self, cluster: Cluster, node: Node) -> None:
        environment = cluster.environment
        argv = [environment.python_reference, "-m", "targets.reference.server", "--name", node.name]
        for other in cluster.nodes:
            argv += ["--node", f"{other.name}={other.address}"]
        argv += ["--data", node.directory, "--options", json.dumps(msgspec.to_builtins(self._options))]
        await node.start("reference", argv, {"PYTHONPATH": environment.source, "PYTHONUNBUFFERED": "1"})

    async def form(self, cluster: Cluster) -> None:
        """Nothing to do: the nodes find one another."""

    async def ready(self, cluster: Cluster) -> bool:
        roles = await self.roles(cluster)
        if len(roles) < len(cluster.nodes) or not self._elects:
            return len(roles) == len(cluster.nodes)
        primaries = [role for role in roles if role.role == "primary"]
        return len(primaries) == 1 and len({role.term for role in roles}) == 1

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        answers = await quick_info([(node.name, node.address) for node in cluster.nodes], CLIENT_PORT)
        return [
            Role(name, "replica" if info["role"] == "backup" else str(info["role"]), int(info["term"]))
            for name, info in answers.items()
        ]

    @property
    def abilities(self) -> frozenset[str]:
        """Raft can change its members."""
        return frozenset({"membership"} if self._options.replication == "raft" else ())

    async def leave(self, cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
        """Let nodes leave a Raft cluster, one after the other; the members afterwards."""
        return await self._change_members(cluster, "REMOVE", names)

    async def join(self, cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
        """Let them join again."""
        return await self._change_members(cluster, "ADD", names)

    async def _change_members(self, cluster: Cluster, change: str, names: Sequence[str]) -> Sequence[str]:
        members: list[str] = []

        async def changed(name: str) -> bool:
            """Whether the change is done. Whoever believes to be primary is asked; a deposed one cannot do it."""
            nonlocal members
            for role in await self.roles(cluster):
                if role.role == "primary":
                    address = cluster.node(role.node).address
                    await quick(address, CLIENT_PORT, "MEMBERS", change, name)
                    found = await quick(address, CLIENT_PORT, "MEMBERS")
                    if isinstance(found, list):
                        members = found
                        return (name in members) == (change == "ADD")
            return False

        primary = next((role.node for role in await self.roles(cluster) if role.role == "primary"), None)
        if primary is not None:
            # All at once: a store that takes one change at a time refuses, and is then asked for one after the other.
            await quick(cluster.node(primary).address, CLIENT_PORT, "MEMBERS", change, *names)
        for name in names:
            try:
                await wait_until(lambda name=name: changed(name), seconds=_PATIENCE, what=f"{change} {name}")  # type: ignore[misc]
            except NodeError as error:
                if not members:
                    raise NothingToDo(str(error)) from None
        return members

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        self._clients += 1
        return ReferenceClient(node.address, f"{node.name}-{self._clients}", timeout, repeats=self._elects)
