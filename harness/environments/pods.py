"""A node of containers: a sidecar that owns the node's namespaces, and a container for each server.

The image of a server counts as hostile. What it can write to, the sidecar's tools look into without following a link,
and they keep neither answers nor sockets there. It has the sidecar's network and sees its processes, but has fewer
rights than they, so that the kernel lets it look into none of them; what they talk over lies where only they can reach.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import docker.errors
import requests

from harness.environments.base import DISK_BYTES, LOG_TAIL, Result, run_inside
from harness.environments.container_exec import execute
from harness.environments.engine import PART_LABEL, call
from harness.environments.printed import KEPT_BY_ENGINE, Printed
from harness.environments.tools import Request, ask, command
from harness.errors import FaultError, MissingError, NodeError
from harness.faults import deliver, disk, limits, netem, process, squeeze
from harness.faults.deliver import CONTENT
from harness.faults.process import PRIVATE_MARK, TOOL_MARK

A = TypeVar("A")

DATA: Final = "/var/lib/splitbrain"
SHIPPED: Final = "/opt/splitbrain"
"""In a server's container: what the run ships, in place of what the image may have there."""
PRIVATE: Final = "/run/splitbrain"
"""In a sidecar: what only tools can reach."""
_SCRATCH: Final = "size=16m,nosuid,nodev,noexec"
_OURS: Final[dict[str, Any]] = {
    "cap_drop": ["ALL"],
    # AppArmor's profile for containers would forbid to mount, and to look into the processes of another container.
    "security_opt": ["no-new-privileges:true", "apparmor=unconfined"],
    "read_only": True,
    "tmpfs": {PRIVATE: f"{_SCRATCH},mode=0700", "/tmp": f"{_SCRATCH},mode=1777"},
    "environment": {TOOL_MARK: "1", PRIVATE_MARK: PRIVATE},
    "log_config": KEPT_BY_ENGINE,
    "use_config_proxy": False,
}
"""How containers of the node image run."""
SIDECAR: Final[dict[str, Any]] = {
    **_OURS,
    "init": True,
    # Networks; looking into servers and stopping them, whoever they are; files of the store, whosever they are.
    "cap_add": ["NET_ADMIN", "NET_RAW", "SYS_PTRACE", "KILL", "DAC_OVERRIDE", "FOWNER"],
    "pids_limit": 1024,
    # A copy of all of the store's files counts as its own.
    "mem_limit": DISK_BYTES + (1 << 30),
    "memswap_limit": DISK_BYTES + (1 << 30),
}
_SMALL: Final[dict[str, Any]] = {**_OURS, "pids_limit": 64, "mem_limit": 256 << 20, "memswap_limit": 256 << 20}
HELPER: Final[dict[str, Any]] = {**_SMALL, "network_mode": "none"}
"""A container for one tool that takes a right which no sidecar has; it is gone when that is done."""
GATE: Final[dict[str, Any]] = {**_SMALL, "init": True}
"""A container that holds the network namespace of the clients open."""
SERVER: Final[dict[str, Any]] = {
    "user": "0:0",
    "cap_drop": ["ALL"],
    # What images need to become another user, and to serve on any port.
    "cap_add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "NET_BIND_SERVICE"],
    "security_opt": ["no-new-privileges:true"],
    "pids_limit": 8192,
    "log_config": KEPT_BY_ENGINE,
    # What the person's configuration says of proxies is not for a server.
    "use_config_proxy": False,
}
_MEMORY_SHARE: Final = 2
"""The servers of a container may have one part in so many of the machine's memory."""
_HELPER_SECONDS: Final = 60
_PIECE: Final = 48 << 10
"""How many bytes of a file fit into a variable of a command."""
_WRITE_SECONDS: Final = 30.0
_CPU_PERIOD: Final = 100_000
_ATTEMPTS: Final = 5
_LOOKS: Final = 15
_LOOK_SECONDS: Final = 2


class Images(NamedTuple):
    """The engine's ids of the images of a run, so that a name that moves meanwhile changes nothing."""

    node: str
    server: str
    name: str
    """How the person calls that of the servers."""


def help_out(
    client: Any,
    image: str,
    labels: Mapping[str, str],
    request: Request[A],
    *,
    rights: Sequence[str],
    volume: str | None = None,
) -> A:
    """What a tool answers that runs in a container of its own with these rights, perhaps with a node's data.

    Raises ``FaultError`` with the tool's own words when it fails.
    """
    mounts = {} if volume is None else {volume: {"bind": DATA, "mode": "rw"}}
    container = client.containers.create(
        image,
        command("python3", request),
        **HELPER,
        cap_add=list(rights),
        volumes=mounts,
        labels={**labels, PART_LABEL: "helper"},
    )
    try:
        container.start()
        code = container.wait(timeout=_HELPER_SECONDS)["StatusCode"]
        if code != 0:
            last_line = container.logs(stdout=False).decode(errors="replace").strip().splitlines()[-1:]
            raise FaultError(
                f"{request.name} failed in a container of its own: {' '.join(last_line) or 'it said nothing'}"
            )
        answer: A = json.loads(container.logs(stderr=False))[1]
        return answer
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True)


class DockerNode:
    """One pod: a sidecar, and a container for each server."""

    def __init__(
        self,
        client: Any,
        name: str,
        stem: str,
        labels: Mapping[str, str],
        images: Images,
        logs: Path,
        archive: bytes = b"",
    ) -> None:
        self.name = name
        self.address = ""
        self.directory = DATA
        self.python = "python3"
        self.shipped = SHIPPED
        self._client = client
        self._archive = archive
        """What the run ships, to be unpacked in each server's container; empty for nothing."""
        self._stem = stem
        self._labels = labels
        self._images = images
        self._logs = logs
        self._sidecar: Any = None
        self._memory = 0
        """How many bytes a server may have, unless it is squeezed."""
        self._servers: dict[str, Any] = {}
        self._printed: dict[str, Printed] = {}
        self._commands: dict[str, tuple[list[str], dict[str, str]]] = {}

    async def hold(self, network: str) -> None:
        """Start the sidecar and learn the node's address."""
        self._memory = (await call(self._client.info))["MemTotal"] // _MEMORY_SHARE
        # A file system of its own, so that it can be full without the host's being so.
        disk = {"type": "tmpfs", "device": "tmpfs", "o": f"size={DISK_BYTES},nosuid,nodev"}
        volume = await call(
            self._client.volumes.create, name=self._stem, labels=self._labels, driver="local", driver_opts=disk
        )
        self._sidecar = await call(
            self._client.containers.create,
            self._images.node,
            ["sleep", "infinity"],
            name=self._stem,
            hostname=self.name,
            network=network,
            # The engine asks other servers for the names that it does not know itself: there are none.
            dns=["127.0.0.1"],
            **SIDECAR,
            volumes={volume.name: {"bind": DATA, "mode": "rw"}},
            labels={**self._labels, PART_LABEL: "sidecar"},
        )
        await call(self._sidecar.start)
        await call(self._sidecar.reload)
        self.address = self._sidecar.attrs["NetworkSettings"]["Networks"][network]["IPAddress"]

    async def exec(self, argv: Sequence[str], *, timeout: float = 30.0) -> Result:
        return await self._exec(argv, timeout)

    async def _exec(self, argv: Sequence[str], timeout: float, environment: Mapping[str, str] | None = None) -> Result:
        return await asyncio.wait_for(call(execute, self._sidecar, argv, environment), timeout)

    async def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        words = (list(argv), dict(env or {}))
        if name in self._servers and self._commands[name] != words:
            # A container cannot be told to run another command.
            await self._replace(name)
        self._commands[name] = words
        if name in self._servers:
            container = self._servers[name]
            if not await self._runs(container):
                await call(container.start)
            return
        pod = f"container:{self._sidecar.id}"
        try:
            container = await call(
                self._client.containers.create,
                self._images.server,
                list(argv[1:]),
                entrypoint=[argv[0]],
                name=f"{self._stem}-{name}",
                network_mode=pod,
                pid_mode=pod,
                **SERVER,
                mem_limit=self._memory,
                memswap_limit=self._memory,
                environment=dict(env or {}),
                volumes={self._stem: {"bind": DATA, "mode": "rw"}},
                labels={**self._labels, PART_LABEL: "server"},
            )
            self._servers[name] = container
            if self._archive:
                await call(container.put_archive, "/", self._archive)
            await call(container.start)
            self._printed[name] = Printed(container)
        except NodeError as error:
            if "executable file not found" in str(error) or "no such file" in str(error):
                raise MissingError(f"{argv[0]} is not in the image {self._images.name}") from None
            raise

    async def _runs(self, container: Any) -> bool:
        """Whether a server runs. The engine notices an end later than the kernel, and takes it to run until then."""
        for _ in range(_LOOKS):
            with contextlib.suppress(requests.RequestException):
                await call(container.wait, timeout=_LOOK_SECONDS)
                return False
            with contextlib.suppress(NodeError):  # it has just ended
                table = await call(container.top, ps_args="-o pid,stat")
                if any(not state.startswith(("Z", "X")) for _, state in table["Processes"] or ()):
                    return True
        raise NodeError(f"the engine does not learn whether {container.name} has ended")

    async def _replace(self, name: str) -> None:
        """Remove a server's container, keeping what it printed."""
        await self._save_log(name)
        await call(self._servers.pop(name).remove, force=True)

    own_tools = frozenset({squeeze, limits, disk, netem})

    async def own_tool(self, request: Request[Any]) -> Any:
        """The limits of a container are the engine's, and so is what is known of one that has ended.

        What takes the right to mount, the sidecar has done for it.
        """
        own: dict[Callable[..., Any], Callable[..., Awaitable[Any]]] = {
            squeeze.squeeze: self._squeeze_all,
            squeeze.heal: self._heal_all,
            limits.look: self._look,
            disk.fill: self._fill,
            disk.heal: self._make_room,
            netem.mechanism: self._mechanism,
        }
        return await (own[request.do](**request.given) if request.do in own else run_inside(self, request))

    async def _help(self, request: Request[A], rights: Sequence[str], volume: str | None = None) -> A:
        more = {"rights": rights, "volume": volume}
        answer: A = await call(help_out, self._client, self._images.node, self._labels, request, **more)
        return answer

    async def _mechanism(self) -> str:
        return await self._help(ask(netem.mechanism), ["SYS_ADMIN", "NET_ADMIN", "NET_RAW"])

    async def _fill(self, path: str) -> int:
        size = await self._help(ask(disk.shrink, path), ["SYS_ADMIN"], self._stem)
        await run_inside(self, ask(disk.use_up, path))
        return size

    async def _make_room(self, path: str, size: int) -> None:
        await run_inside(self, ask(disk.empty, path))
        await self._help(ask(disk.grow, path, size), ["SYS_ADMIN"], self._stem)

    async def _squeeze_all(self, cpu: float | None = None, memory: int | None = None) -> squeeze.Squeezed:
        for container in self._servers.values():
            await call(container.reload)
            # A container that the kernel ended for want of memory keeps its limits until it is healed.
            if container.status == "running":
                await self._squeeze(container, cpu, memory)
        return await self._counted()

    async def _heal_all(self) -> squeeze.Squeezed:
        for container in self._servers.values():
            await self._limit(container, cpu_quota=-1, memory=self._memory)
        return await self._counted()

    async def _counted(self) -> squeeze.Squeezed:
        return {"servers": len(await run_inside(self, ask(process.look)))}

    async def _squeeze(self, container: Any, cpu: float | None, memory: int | None) -> None:
        if cpu is not None:
            await self._limit(container, cpu_quota=round(cpu * _CPU_PERIOD))
        before: int | None = None
        for attempt in range(_ATTEMPTS if memory is not None else 0):
            usage = (await call(container.stats, stream=False, one_shot=True))["memory_stats"]["usage"]
            grown = 0 if before is None else max(usage - before, 0)
            before = usage
            try:
                await self._limit(container, memory=usage + memory + 2 * grown)
                return
            except NodeError:
                # The kernel sets no limit below what there is, and that may have grown meanwhile: it will again.
                if attempt == _ATTEMPTS - 1:
                    raise

    async def _limit(self, container: Any, *, cpu_quota: int | None = None, memory: int | None = None) -> None:
        """Have the engine set limits: microseconds of CPU time in each period, and bytes."""
        cpu = {} if cpu_quota is None else {"cpu_period": _CPU_PERIOD, "cpu_quota": cpu_quota}
        bytes_ = {} if memory is None else {"mem_limit": memory, "memswap_limit": memory}
        await call(container.update, **cpu, **bytes_)

    async def _look(self) -> dict[str, limits.Counts]:
        return await run_inside(self, ask(limits.look)) | await self._ended()

    async def _ended(self) -> dict[str, limits.Counts]:
        """What ``limits`` says of the servers that the kernel has ended for want of memory."""
        counts: dict[str, limits.Counts] = {}
        for name, container in self._servers.items():
            await call(container.reload)
            state, host = container.attrs["State"], container.attrs["HostConfig"]
            if not state["Running"] and state["OOMKilled"]:
                cpu = host["CpuQuota"] / host["CpuPeriod"] if host["CpuQuota"] > 0 else None
                counts[f"{name}, which is over"] = {
                    "used": 0.0, "held": 0, "cpu": cpu, "throttled": 0, "throttled_seconds": 0.0,
                    "memory": host["Memory"], "at_limit": 0, "ended": 1, "groups": [container.id],
                }  # fmt: skip
        return counts

    async def running(self) -> Mapping[str, bool]:
        for container in self._servers.values():
            await call(container.reload)
        return {name: container.status == "running" for name, container in self._servers.items()}

    async def write(self, path: str, data: bytes) -> None:
        for at in range(0, max(len(data), 1), _PIECE):
            # A server may have any user, and nobody else is in its container.
            piece = ask(deliver.deliver, path=path, append=at > 0, mode=0o644, home=self.directory)
            # It may hold a password, and everybody on the machine sees the arguments of a command.
            content = {CONTENT: base64.b64encode(data[at : at + _PIECE]).decode()}
            done = await self._exec(command(self.python, piece), _WRITE_SECONDS, content)
            if done.code != 0:
                raise NodeError(f"{path} could not be written on {self.name}: {done.text}")

    async def log(self, name: str) -> str:
        if name not in self._servers:
            return ""
        output: bytes = await call(self._servers[name].logs, tail=1000)
        return output[-LOG_TAIL:].decode(errors="replace")

    async def save_logs(self) -> None:
        """Copy what every server printed into the run's directory."""
        for name in self._servers:
            await self._save_log(name)

    async def _save_log(self, name: str) -> None:
        if name in self._printed:
            await call(self._printed[name].save, self._logs / f"{name}.log")
