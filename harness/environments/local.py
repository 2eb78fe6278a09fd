"""Nodes as Linux namespaces on this machine: real server processes on a throwaway network, no engine, no images.

The harness itself runs inside namespaces (see ``namespaces``), builds a bridge there, and gives every node its own
network, pid, mount and host name. Node data lives on a tmpfs that vanishes with the namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from harness.capability import OF_NODES, Capability
from harness.environments import namespaces
from harness.environments.base import (
    DISK_BYTES,
    LOG_TAIL,
    Node,
    RealEnvironment,
    Result,
    reasons,
)
from harness.environments.programs import search_path
from harness.environments.reader import Reader
from harness.environments.servers import UMASK, environment, unprivileged
from harness.environments.tools import ask, command
from harness.errors import MissingError, NodeError, field
from harness.faults import abilities, output
from harness.shipping import folders

_SUBNET: Final = "10.66.0"
_BRIDGE: Final = "splitbrain0"
_DATA: Final = "/dev/shm"
_TOOLS: Final = {"ip": "iproute2", "iptables": "iptables", "nsenter": "util-linux", "setpriv": "util-linux"}


class LocalNode:
    """One node: an init process that holds its namespaces open, and the servers started in them."""

    def __init__(self, name: str, address: str, logs: Path) -> None:
        self.name = name
        self.address = address
        self.directory = f"{_DATA}/{name}"
        self.python = sys.executable
        self.shipped = ""
        self._logs = logs
        self._holder: asyncio.subprocess.Process | None = None
        self._enter: list[str] = []
        self._init = 0
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._readers: dict[str, list[Reader]] = {}
        """Of each server, the last one reads what it prints now; others what it has left behind."""

    async def hold(self, interface: str) -> None:
        """Create the node's namespaces and plug it into the bridge."""
        # A file system of its own, so that it can be full without the others being so.
        Path(self.directory).mkdir()
        await _command("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},nosuid,nodev", "splitbrain", self.directory)
        self._logs.mkdir(parents=True, exist_ok=True)
        self._holder = await asyncio.create_subprocess_exec(
            *("unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", "echo up; exec sleep infinity"),
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if await self._holder.stdout.readline() != b"up\n":
            raise NodeError(f"the namespaces of {self.name} could not be made")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        self._init = int(children[0])
        self._enter = ["nsenter", "-t", children[0], "-n", "-m", "-u"]
        await _ip("link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", children[0])
        await _ip("link", "set", interface, "master", _BRIDGE, "up")
        for words in (
            ["hostname", self.name],
            ["ip", "link", "set", "lo", "up"],
            ["ip", "address", "add", f"{self.address}/24", "dev", "eth0"],
            ["ip", "link", "set", "eth0", "up"],
        ):
            result = await self.exec(words)
            if result.code != 0:
                raise NodeError(f"{' '.join(words)} failed in {self.name}: {result.text}")

    async def exec(self, argv: Sequence[str], *, timeout: float = 30.0) -> Result:
        process = await asyncio.create_subprocess_exec(
            *self._enter,
            "-p",
            "--",
            *argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), timeout)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        assert process.returncode is not None
        return Result(process.returncode, out, err)

    async def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        if shutil.which(argv[0], path=search_path()) is None:
            raise MissingError(f"{argv[0]} is not on this machine: install it, `splitbrain doctor` says how")
        if name in self._servers and self._servers[name].poll() is None:
            return
        # As root it may read what is in the home of whoever has called sudo, which its program may be.
        dropped = unprivileged(argv, keep=["dac_read_search"])
        reader = await self._new_reader(name)
        # The server is born in the node's pid namespace. nsenter would do that by staying its parent, and would
        # stand still with it in a pause, never to be resumed.
        with reader.open() as printed, namespaces.children_in(self._init):
            self._servers[name] = subprocess.Popen(
                [*self._enter, "--", *dropped],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                env=environment(self.directory, env, here=True),
                umask=UMASK,
            )

    async def _new_reader(self, name: str) -> Reader:
        """For a server that is about to start; what it printed before stands before that in its log."""
        readers = self._readers.setdefault(name, [])
        if readers:
            await readers[-1].catch_up()
        readers[:] = [reader for reader in readers if not reader.is_over()]
        readers.append(Reader(self._logs / f"{name}.log"))
        return readers[-1]

    async def running(self) -> Mapping[str, bool]:
        return {name: process.poll() is None for name, process in self._servers.items()}

    async def write(self, path: str, data: bytes) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(0o600)
        target.write_bytes(data)

    async def log(self, name: str) -> str:
        if name not in self._readers:
            return ""
        return (await self._readers[name][-1].last(LOG_TAIL)).decode(errors="replace")

    async def stop(self) -> None:
        """End the node's init, and with it everything in its pid namespace."""
        if self._holder is not None and self._holder.returncode is None:
            self._holder.kill()
            await self._holder.wait()
        for process in self._servers.values():
            await asyncio.to_thread(process.wait)
        self._servers.clear()
        for name, readers in self._readers.items():
            for reader in readers:
                await reader.end()
            output.join(str(self._logs / f"{name}.log"))
        self._readers.clear()


class LocalEnvironment(RealEnvironment):
    """Nodes in namespaces of this machine."""

    name: ClassVar[str] = "local"
    most: ClassVar[int] = 250
    one_machine: ClassVar[bool] = True
    driver: Mapping[str, Any] = {"address": f"{_SUBNET}.254"}

    def __init__(self, image: str | None = None, seed: int = 0, options: msgspec.Struct | None = None) -> None:
        self._nodes: list[LocalNode] = []

    def tried(self) -> Mapping[Capability, str | None]:
        return _tried()

    @classmethod
    def missing(cls, image: str | None) -> str | None:
        if sys.platform != "linux":
            return f"local nodes need Linux: use {field('environment', 'docker')}"
        for tool, package in _TOOLS.items():
            if shutil.which(tool, path=search_path()) is None:
                return f"the command {tool} is not on this machine: apt-get install {package}"
        return None if namespaces.inside() else namespaces.missing()

    async def start(self, names: Sequence[str], logs: Path, run_id: str, ships: Sequence[str] = ()) -> list[Node]:
        if not namespaces.inside():
            raise NodeError(
                "local nodes live in namespaces of their own: start the harness through namespaces.reexecute"
            )
        await _command("mount", "-t", "tmpfs", "-o", "nosuid,nodev", "splitbrain", _DATA)
        await _ip("link", "set", "lo", "up")
        await _ip("link", "add", _BRIDGE, "type", "bridge")
        await _ip("address", "add", f"{_SUBNET}.254/24", "dev", _BRIDGE)
        await _ip("link", "set", _BRIDGE, "up")
        shipped = folders(ships)  # which every node sees
        for number, name in enumerate(names, 1):
            node = LocalNode(name, f"{_SUBNET}.{number}", logs / name)
            node.shipped = shipped
            self._nodes.append(node)
            await node.hold(f"sb{number}")
        return list(self._nodes)

    async def stop(self) -> None:
        for number, node in enumerate(self._nodes, 1):
            await node.stop()
            # The kernel takes its time to remove it with the node, and another run in here may be about to begin.
            with contextlib.suppress(NodeError):
                await _ip("link", "delete", f"sb{number}")
        if self._nodes:
            await _ip("link", "delete", _BRIDGE)
            await _command("umount", "-l", _DATA)
        self._nodes.clear()


@cache
def _tried() -> Mapping[Capability, str | None]:
    """Why faults that depend on the kernel cannot be had here: each is tried once, in a process of its own."""
    argv = command(sys.executable, ask(abilities.tried))
    if os.geteuid() != 0:
        argv = ["unshare", "--user", "--map-root-user", *argv]
    here = {**os.environ, "PATH": search_path()}
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, env=here)
    if done.returncode != 0:
        why = f"it could not be tried: {done.stderr.strip().splitlines()[-1:]}"
        tried: Mapping[Capability, str | None] = dict.fromkeys(OF_NODES, why)
    else:
        tried = reasons(json.loads(done.stdout)[1])
    return {**tried, Capability.STORAGE: _lacks_storage()}


def _lacks_storage() -> str | None:
    """Why there can be no file system of our own."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is not there, or not for this user"
    try:
        importlib.import_module("mfusepy")
    except ImportError:
        return "mfusepy is not installed: pip install 'splitbrain[storage]'"
    except OSError:
        return "libfuse is not on this machine: apt-get install fuse3"
    return None


async def _ip(*arguments: str) -> None:
    await _command("ip", *arguments)


async def _command(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise NodeError(f"{' '.join(argv)} failed: {out.decode(errors='replace').strip()}")
