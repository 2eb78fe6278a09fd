"""Nodes as containers on a private network, with the faults injected from a sidecar.

Each node is a small pod. Its sidecar comes first, from the node image: it owns the network and pid namespaces, holds
them open when every server of the node is dead, and has the fault tools. Each server is a container of its own that
joins the sidecar's namespaces, so an unmodified vendor image without a shell can be tested, and its server can be
killed and started again without losing the node's address or its rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import socket
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import docker
import docker.errors
import requests

import harness
from harness.environments.base import (
    ALWAYS,
    DISK_BYTES,
    LOG_TAIL,
    Node,
    RealEnvironment,
    Result,
    run_inside,
    run_tool,
    tool_command,
)
from harness.errors import MissingError, NodeError, SplitbrainError
from harness.faults.process import TOOL_MARK

T = TypeVar("T")

IMAGE: Final = f"splitbrain/node:{harness.__version__}"
RUN_LABEL: Final = "splitbrain.run"
OWNER_LABEL: Final = "splitbrain.owner"
"""Says which process on which machine a container belongs to, so that leftovers can be told from runs that still go."""

SOURCE_LABEL: Final = "splitbrain.source"
"""Says which sources an image was built from: an old reference store must not stand in for this one."""

_ROOT: Final = Path(__file__).parents[2]
_DATA: Final = "/var/lib/splitbrain"
_SOURCE: Final = "/opt/splitbrain"
_SIDECAR: Final[dict[str, Any]] = {
    "cap_add": ["NET_ADMIN", "NET_RAW", "SYS_PTRACE", "SYS_ADMIN"],
    "security_opt": ["apparmor=unconfined"],
}
"""What a sidecar may do, so that the fault tools can do their work."""
_CPU_PERIOD: Final = 100_000
_ATTEMPTS: Final = 5


def connect() -> Any:
    """A client of the Docker engine. Raises ``MissingError`` when none answers."""
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except (docker.errors.DockerException, requests.RequestException):
        raise MissingError(
            "no Docker engine answers: start one (apt-get install docker.io), or set DOCKER_HOST, or use --on local"
        ) from None
    return client


def source_digest() -> str:
    """A digest of the reference store as it is now: the part of the node image that must be up to date."""
    digest = hashlib.sha256()
    store = _ROOT / "targets" / "reference"
    for path in sorted(store.rglob("*.py")):
        digest.update(f"{path.relative_to(store)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def owner() -> str:
    """This process, told apart from every other one that ever ran on this machine."""
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    return f"{socket.gethostname()}/{os.getpid()}/{started}"


def alive(label: str) -> bool:
    """Whether the process that wrote an owner label still runs; processes of other machines count as running."""
    host, _, rest = label.partition("/")
    pid, _, started = rest.partition("/")
    if host != socket.gethostname():
        return True
    try:
        return Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()[19] == started
    except (OSError, ValueError):
        return False


def remove(client: Any, matches: Callable[[Mapping[str, str]], bool]) -> dict[str, list[str]]:
    """Remove every container, network and volume of ours whose labels match; the names of what was removed."""
    query = {"label": RUN_LABEL}
    removed: dict[str, list[str]] = {"containers": [], "networks": [], "volumes": []}
    # Other runs end meanwhile: a container of theirs may be gone between the engine's list and the look at it.
    listed = client.containers.list(all=True, filters=query, ignore_removed=True)
    containers = [container for container in listed if matches(container.labels)]
    # A sidecar last: the servers' containers live in its namespaces.
    for container in sorted(containers, key=lambda c: c.labels.get("splitbrain.part") == "sidecar"):
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True, v=True)
            removed["containers"].append(container.name)
    for kind, collection in (("networks", client.networks), ("volumes", client.volumes)):
        for thing in collection.list(filters=query):
            labels = thing.attrs.get("Labels") or {}
            if matches(labels):
                with contextlib.suppress(docker.errors.NotFound):
                    thing.remove()
                    removed[kind].append(thing.name)
    return removed


async def _call(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call the Docker SDK, which blocks, without stopping the clients."""
    try:
        return await asyncio.to_thread(function, *arguments, **named)
    except docker.errors.ImageNotFound as error:
        raise MissingError(f"the image is not there and cannot be pulled: {error.explanation}") from None
    except docker.errors.APIError as error:
        raise NodeError(f"the Docker engine refused: {error.explanation or error}") from None


class DockerNode:
    """One pod: a sidecar, and a container for each server."""

    def __init__(self, client: Any, name: str, stem: str, labels: Mapping[str, str], image: str, logs: Path) -> None:
        self.name = name
        self.address = ""
        self.directory = _DATA
        self.python = "python3"
        self._client = client
        self._stem = stem
        self._labels = labels
        self._image = image
        self._logs = logs
        self._sidecar: Any = None
        self._servers: dict[str, Any] = {}
        self._commands: dict[str, tuple[list[str], dict[str, str]]] = {}

    async def hold(self, network: str) -> None:
        """Start the sidecar and learn the node's address."""
        # A file system of its own, so that it can be full without the host's being so.
        disk = {"type": "tmpfs", "device": "tmpfs", "o": f"size={DISK_BYTES}"}
        volume = await _call(
            self._client.volumes.create, name=self._stem, labels=self._labels, driver="local", driver_opts=disk
        )
        self._sidecar = await _call(
            self._client.containers.run,
            IMAGE,
            ["sleep", "infinity"],
            name=self._stem,
            hostname=self.name,
            detach=True,
            init=True,
            network=network,
            **_SIDECAR,
            environment={TOOL_MARK: "1"},
            volumes={volume.name: {"bind": _DATA, "mode": "rw"}},
            labels={**self._labels, "splitbrain.part": "sidecar"},
        )
        await _call(self._sidecar.reload)
        self.address = self._sidecar.attrs["NetworkSettings"]["Networks"][network]["IPAddress"]

    async def exec(self, argv: Sequence[str], *, timeout: float = 30.0) -> Result:
        code, (out, err) = await asyncio.wait_for(_call(self._sidecar.exec_run, list(argv), demux=True), timeout)
        return Result(code, out or b"", err or b"")

    async def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        command = (list(argv), dict(env or {}))
        if name in self._servers and self._commands[name] != command:
            # A container cannot be told to run another command.
            await self._replace(name)
        self._commands[name] = command
        if name in self._servers:
            container = self._servers[name]
            # The engine notices a kill a little later than the kernel, and would take it for running until then.
            with contextlib.suppress(requests.RequestException):
                await _call(container.wait, timeout=2)
                await _call(container.start)
            return
        pod = f"container:{self._sidecar.id}"
        try:
            container = await _call(
                self._client.containers.create,
                self._image,
                list(argv[1:]),
                entrypoint=[argv[0]],
                name=f"{self._stem}-{name}",
                network_mode=pod,
                pid_mode=pod,
                user="0:0",
                environment=dict(env or {}),
                volumes={self._stem: {"bind": _DATA, "mode": "rw"}},
                labels={**self._labels, "splitbrain.part": "server"},
            )
            self._servers[name] = container
            await _call(container.start)
        except NodeError as error:
            if "executable file not found" in str(error) or "no such file" in str(error):
                raise MissingError(f"{argv[0]} is not in the image {self._image}") from None
            raise

    async def _replace(self, name: str) -> None:
        """Remove a server's container, keeping what it printed."""
        await self._save_log(name)
        await _call(self._servers.pop(name).remove, force=True)

    own_tools = frozenset({"squeeze", "limits"})

    async def own_tool(self, tool: str, request: Mapping[str, Any]) -> Any:
        """Squeeze: the limits of a container are the engine's, and so is what is known of one that has ended."""
        if tool == "limits":
            return await run_inside(self, tool, request) | await self._ended()
        heals = request["do"] == "heal"
        # The engine cannot take a limit of memory away: as much as the machine has is none.
        none = {"cpu_quota": -1, "memory": (await _call(self._client.info))["MemTotal"]} if heals else {}
        for container in self._servers.values():
            await _call(container.reload)
            if heals:
                await self._limit(container, **none)
            # A container that the kernel ended for want of memory keeps its limits until it is healed.
            elif container.status == "running":
                await self._squeeze(container, request.get("cpu"), request.get("memory"))
        return {"servers": len(await run_tool(self, "process", {"do": "list"}))}

    async def _squeeze(self, container: Any, cpu: float | None, memory: int | None) -> None:
        if cpu is not None:
            await self._limit(container, cpu_quota=round(cpu * _CPU_PERIOD))
        for attempt in range(_ATTEMPTS if memory is not None else 0):
            usage = (await _call(container.stats, stream=False, one_shot=True))["memory_stats"]["usage"]
            try:
                await self._limit(container, memory=usage + memory)
                return
            except NodeError:
                # The kernel sets no limit below what there is, and that may have grown meanwhile.
                if attempt == _ATTEMPTS - 1:
                    raise

    async def _limit(self, container: Any, *, cpu_quota: int | None = None, memory: int | None = None) -> None:
        """Have the engine set limits: microseconds of CPU time in each period, and bytes."""
        cpu = {} if cpu_quota is None else {"cpu_period": _CPU_PERIOD, "cpu_quota": cpu_quota}
        bytes_ = {} if memory is None else {"mem_limit": memory, "memswap_limit": memory}
        await _call(container.update, **cpu, **bytes_)

    async def _ended(self) -> dict[str, Any]:
        """What ``limits`` says of the servers that the kernel has ended for want of memory."""
        found = {}
        for name, container in self._servers.items():
            await _call(container.reload)
            state, limits = container.attrs["State"], container.attrs["HostConfig"]
            if not state["Running"] and state["OOMKilled"]:
                cpu = limits["CpuQuota"] / limits["CpuPeriod"] if limits["CpuQuota"] > 0 else None
                found[f"{name}, which is over"] = {
                    "used": 0.0, "held": 0, "cpu": cpu, "throttled": 0, "throttled_seconds": 0.0,
                    "memory": limits["Memory"], "at_limit": 0, "ended": 1, "groups": [container.id],
                }  # fmt: skip
        return found

    async def running(self) -> Mapping[str, bool]:
        for container in self._servers.values():
            await _call(container.reload)
        return {name: container.status == "running" for name, container in self._servers.items()}

    async def write(self, path: str, data: bytes) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
        if not await _call(self._sidecar.put_archive, "/", archive.getvalue()):
            raise NodeError(f"{path} could not be written on {self.name}")

    async def log(self, name: str) -> str:
        if name not in self._servers:
            return ""
        output: bytes = await _call(self._servers[name].logs, tail=1000)
        return output[-LOG_TAIL:].decode(errors="replace")

    async def save_logs(self) -> None:
        """Copy what every server printed into the run's directory."""
        for name in self._servers:
            await self._save_log(name)

    async def _save_log(self, name: str) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        output: bytes = await _call(self._servers[name].logs)
        with (self._logs / f"{name}.log").open("ab") as file:
            file.write(output)


class DockerEnvironment(RealEnvironment):
    """Containers on a private network of the local Docker engine."""

    name: ClassVar[str] = "docker"
    most: ClassVar[int] = 250

    def __init__(self, image: str | None = None, seed: int = 0) -> None:
        self.python_reference = "python3"
        self.source = _SOURCE
        self._image = image or IMAGE
        self._client: Any = None
        self._run_id: str | None = None
        self._nodes: list[DockerNode] = []
        self.driver: Mapping[str, Any] = {}

    def lacks(self, capability: str) -> str | None:
        if capability == "storage":
            return "a file system that the sidecar mounts is not seen by servers in containers of their own"
        return None if capability in ALWAYS else _tried().get(capability)

    @classmethod
    def missing(cls, image: str | None) -> str | None:
        try:
            client = connect()
        except MissingError as error:
            return str(error)
        node_image = _find(client, IMAGE)
        if node_image is None:
            return f"the engine has no node image {IMAGE}: `splitbrain images build` makes it (--bootstrap: offline)"
        if node_image.labels.get(SOURCE_LABEL) != source_digest():
            return f"the engine's node image {IMAGE} was built from other sources: `splitbrain images build` renews it"
        if image is not None and _find(client, image) is None:
            try:
                client.images.pull(image)
            except docker.errors.APIError as error:
                return f"the image {image} is not there and cannot be pulled: {error.explanation or error}"
        return None

    async def start(self, names: Sequence[str], logs: Path, run_id: str) -> list[Node]:
        self._client = await asyncio.to_thread(connect)
        self._run_id = run_id
        labels = {RUN_LABEL: run_id, OWNER_LABEL: owner()}
        network = f"splitbrain-{run_id}"
        # An internal network: nothing in it can reach the world, and the world cannot reach it.
        made = await _call(self._client.networks.create, network, driver="bridge", internal=True, labels=labels)
        await _call(made.reload)
        self.driver = {"address": made.attrs["IPAM"]["Config"][0]["Gateway"]}
        for name in names:
            stem = f"splitbrain-{run_id}-{name}"
            self._nodes.append(DockerNode(self._client, name, stem, labels, self._image, logs / name))
        await asyncio.gather(*(node.hold(network) for node in self._nodes))
        return list(self._nodes)

    async def stop(self) -> None:
        if self._client is None:
            return
        for node in self._nodes:
            with contextlib.suppress(NodeError):
                await node.save_logs()
        run_id = self._run_id
        await _call(remove, self._client, lambda labels: labels.get(RUN_LABEL) == run_id)
        self._nodes.clear()


@cache
def _tried() -> Mapping[str, str | None]:
    """Why faults that depend on the kernel cannot be had here: each is tried once, in a sidecar of its own."""
    try:
        client = connect()
        command = tool_command("python3", "abilities", {}, "", os.devnull)
        labels = {RUN_LABEL: "doctor", OWNER_LABEL: owner()}
        printed = client.containers.run(IMAGE, command, remove=True, labels=labels, network_mode="none", **_SIDECAR)
    except (SplitbrainError, docker.errors.DockerException, requests.RequestException) as error:
        return dict.fromkeys(("clock", "netem"), f"it could not be tried: {error}")
    found: dict[str, str | None] = json.loads(printed)[1]
    # Control groups are the engine's, which sets the limits of its containers itself.
    return {**found, "squeeze": None}


def _find(client: Any, image: str) -> Any:
    try:
        return client.images.get(image)
    except docker.errors.ImageNotFound:
        return None
