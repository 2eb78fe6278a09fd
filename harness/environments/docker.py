"""Nodes as containers on a private network, with the faults injected from a sidecar.

Each node is a small pod (``pods``). Its sidecar comes first, from the node image: it owns the network and pid
namespaces, holds them open when every server of the node is dead, and has the fault tools. Each server is a container
of its own that joins the sidecar's namespaces, so an unmodified vendor image without a shell can be tested, and its
server can be killed and started again without losing the node's address or its rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

import docker.errors
import msgspec
import requests

from harness.capability import Capability
from harness.environments.base import Node, RealEnvironment, reasons, run_tool
from harness.environments.engine import (
    IMAGE,
    OWNER_LABEL,
    PART_LABEL,
    RUN_LABEL,
    call,
    connect,
    digest_of,
    image_of,
    node_image,
    owner,
    remove,
)
from harness.environments.gate import Gate
from harness.environments.pods import GATE, SHIPPED, DockerNode, Images, help_out
from harness.environments.tools import ask
from harness.errors import MissingError, NodeError, SplitbrainError
from harness.faults import abilities, fence
from harness.faults.tools import TRIED
from harness.shipping import packed

_LOOKS: Final = 30
"""How often to look whether a gate is there."""
_MOST_LOOKS: Final = 300
"""The same while its process may still become it."""
_NO_GATE: Final = "the clients could not be moved into the run's network, and share their address with everybody here"
_GATE_MARK: Final = "SPLITBRAIN_GATE"
_BY_SOCKET: Final = "http+docker://localhost"
"""How the SDK calls an engine that it reaches by a Unix socket."""


class DockerEnvironment(RealEnvironment):
    """Containers on a private network of the local Docker engine."""

    name: ClassVar[str] = "docker"
    most: ClassVar[int] = 250
    one_machine: ClassVar[bool] = True

    never: ClassVar[Mapping[Capability, str]] = {
        Capability.STORAGE: "a file system that the sidecar mounts is not seen by servers in containers of their own"
    }

    def __init__(self, image: str | None = None, seed: int = 0, options: msgspec.Struct | None = None) -> None:
        self._image = image
        self._images: Images | None = None
        self._client: Any = None
        self._run_id: str | None = None
        self._nodes: list[DockerNode] = []
        self._gate: Gate | None = None

    def tried(self) -> Mapping[Capability, str | None]:
        return _tried()

    @classmethod
    def missing(cls, image: str | None) -> str | None:
        try:
            client = connect()
            node_image(client)
            image_of(client, image)
        except MissingError as error:
            return str(error)
        return None

    def pin_image(self) -> str:
        client = connect()
        servers = image_of(client, self._image)
        self._images = Images(node_image(client).id, servers.id, self._image or IMAGE)
        return digest_of(servers)

    async def start(self, names: Sequence[str], logs: Path, run_id: str, ships: Sequence[str] = ()) -> list[Node]:
        self._client = await asyncio.to_thread(connect)
        if self._images is None:
            await asyncio.to_thread(self.pin_image)
        assert self._images is not None
        # Runs of other directories may have the same name.
        self._run_id = f"{re.sub('[^A-Za-z0-9_.-]', '-', run_id)}-{secrets.token_hex(6)}"
        labels = {RUN_LABEL: self._run_id, OWNER_LABEL: owner()}
        network = f"splitbrain-{self._run_id}"
        # An internal network: nothing in it can reach the world, and the world cannot reach it.
        made = await call(self._client.networks.create, network, driver="bridge", internal=True, labels=labels)
        await call(made.reload)
        addresses = made.attrs["IPAM"]["Config"][0]
        shipped = packed(ships, f"{SHIPPED.strip('/')}/") if ships else b""
        for name in names:
            node = DockerNode(self._client, name, f"{network}-{name}", labels, self._images, logs / name, shipped)
            self._nodes.append(node)
        await asyncio.gather(*(node.hold(network) for node in self._nodes))
        self._gate, address = await self._opened(network, labels)
        self.driver = {"address": address or addresses["Gateway"]}
        subnet, gateway = addresses["Subnet"], addresses["Gateway"]
        shut = ask(fence.shut, subnet=subnet, gateway=gateway, clients_at_gateway=self._gate is None)
        await asyncio.gather(*(run_tool(node, shut) for node in self._nodes))
        if self._gate is not None:
            self._gate.enter()
        return list(self._nodes)

    async def _opened(self, network: str, labels: Mapping[str, str]) -> tuple[Gate | None, str | None]:
        """The gate for the clients, which takes root on the engine's own machine, and their address behind it."""
        # An engine that answers on a network could not be reached any more from behind the gate.
        if os.geteuid() != 0 or self._client.api.base_url != _BY_SOCKET:
            return None, None
        assert self._images is not None
        mark = f"{_GATE_MARK}={secrets.token_hex(16)}"
        container = await call(
            self._client.containers.create,
            self._images.node,
            ["sleep", "infinity"],
            name=f"{network}-gate",
            network=network,
            **{**GATE, "environment": [mark]},
            labels={**labels, PART_LABEL: "gate"},
        )
        await call(container.start)
        await call(container.reload)
        address = container.attrs["NetworkSettings"]["Networks"][network]["IPAddress"]
        process: int = container.attrs["State"]["Pid"]
        for look in range(_MOST_LOOKS):
            if (gate := Gate.held_by(process, address, mark)) is not None:
                return gate, address
            if look >= _LOOKS and not Gate.may_come(process):
                break
            await asyncio.sleep(0.1)
        return None, None

    async def guard(self, ports: Sequence[int]) -> str | None:
        """Behind the gate nobody else connects. That it takes root is no news to who is not."""
        return _NO_GATE if self._gate is None and os.geteuid() == 0 else None

    async def stop(self) -> None:
        if self._client is None:
            return
        if self._gate is not None:
            self._gate.leave()
            self._gate = None
        run_id = self._run_id
        try:
            for node in self._nodes:
                with contextlib.suppress(NodeError, MissingError, OSError, requests.RequestException):
                    await node.save_logs()
        finally:
            await call(remove, self._client, lambda labels: labels.get(RUN_LABEL) == run_id)
        self._nodes.clear()


@cache
def _tried() -> Mapping[Capability, str | None]:
    """Why faults that depend on the kernel cannot be had here: each is tried once, in a container of its own."""
    try:
        client = connect()
        labels = {RUN_LABEL: "doctor", OWNER_LABEL: owner()}
        rights = ["SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE"]
        answer = help_out(client, node_image(client).id, labels, ask(abilities.tried), rights=rights)
    except (SplitbrainError, docker.errors.DockerException, requests.RequestException) as error:
        return dict.fromkeys(map(Capability, TRIED), f"it could not be tried: {error}")
    # Control groups are the engine's, which sets the limits of its containers itself.
    return {**reasons(answer), Capability.SQUEEZE: None}
