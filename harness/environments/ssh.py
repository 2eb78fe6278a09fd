"""Nodes on existing machines, over ssh.

Every command goes over one connection for each host, whose key must be known. What the harness does to a host is held
by a leash: a process there that ends the servers, heals every fault and removes the data as soon as the connection is
gone, even if the harness was killed. Only processes that the run has started are ever touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import shlex
import socket
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, NamedTuple

import msgspec
import paramiko

from harness.environments.base import (
    ALWAYS,
    DISK_BYTES,
    LOG_TAIL,
    Node,
    RealEnvironment,
    Result,
    tool_command,
)
from harness.errors import FaultError, MissingError, NodeError, UsageError
from harness.faults.process import HOME_MARK, SESSIONS, TOOL_MARK
from harness.options import Text

_ROOT: Final = Path(__file__).parents[2]
_CONNECT_SECONDS: Final = 15.0
_CALL_SECONDS: Final = 30.0
_UNDO_SECONDS: Final = 60.0
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START: Final = """
cd "$1" && log=$2.log && command -v "$3" >/dev/null || exit 127
shift 3
setsid env "$@" >>"$log" 2>&1 </dev/null &
echo $! | tee -a "$SPLITBRAIN_SESSIONS"
"""
"""Starts a server that goes on: its directory, its name, its program, and what ``env`` is to be told."""
_ALIVE: Final = """
for pid; do
  state=$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat" 2>/dev/null)
  case "$state" in ""|Z|X) echo 0;; *) echo 1;; esac
done
"""
"""Says of each process whether it lives."""
_PLACE: Final = re.compile(
    r"(?:(?P<user>[\w.-]+)@)?(?P<host>[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(?P<port>[0-9]{1,5}))?"
)


class Place(NamedTuple):
    """Where a host is: as ``USER@HOST:PORT``, of which only the host must be given."""

    user: str | None
    host: str
    port: int

    @staticmethod
    def parse(text: str, option: str) -> Place:
        found = _PLACE.fullmatch(text.strip())
        port = int(found["port"] or 22) if found else 0
        if found is None or not 1 <= port <= 65535:
            raise UsageError(
                f"-o {option} has {text!r}, which is no host: write USER@HOST:PORT, of which HOST must be there"
            )
        return Place(found["user"], found["host"], port)


class SshNode:
    """One host."""

    def __init__(self, name: str, place: Place, options: SshEnvironment.Options, run_id: str, logs: Path) -> None:
        self.name = name
        try:
            self.address = socket.gethostbyname(place.host)
        except OSError as error:
            raise MissingError(f"there is no host named {place.host}: {error.strerror}") from None
        self.directory = f"{options.directory}/{run_id}"
        self.python = options.python
        self._place = place
        self._sudo = ["sudo", "-n"] if options.sudo else []
        self._logs = logs
        self._clients: list[paramiko.SSHClient] = []
        """Those to the hosts on the way, if there are some, and the one to this host last."""
        self._leash: paramiko.Channel | None = None
        self._pids: dict[str, int] = {}

    def connect(self, options: SshEnvironment.Options) -> None:
        """Connect, if that was not done. Raises ``MissingError`` with what to do when the host does not let us in."""
        if not self._clients:
            self._clients = connect(self._place, options)

    async def hold(self) -> None:
        """Put the host on its leash, which makes the node's file system."""
        request = {"directory": self.directory, "size": DISK_BYTES}
        argv = tool_command(self.python, "leash", request, "leash", os.devnull)
        leash: Any = await asyncio.to_thread(self._open, self._command(argv))
        said = await asyncio.to_thread(leash.makefile("rb").readline)
        if said.strip() != b"ready":
            errors = await asyncio.to_thread(leash.makefile_stderr("rb").read)
            why = errors.decode(errors="replace").strip() or "no answer"
            raise NodeError(f"{self._place.host} cannot be used: {why}")
        self._leash = leash

    def _command(self, argv: Sequence[str], marks: Sequence[str] = (f"{TOOL_MARK}=1",)) -> str:
        return shlex.join([*self._sudo, "env", _PATH, *marks, f"{HOME_MARK}={self.directory}", *argv])

    def _open(self, command: str) -> paramiko.Channel:
        transport = self._clients[-1].get_transport()
        if transport is None or not transport.is_active():
            raise NodeError(f"the connection to {self.name} is gone")
        channel = transport.open_session()
        channel.exec_command(command)
        return channel

    def _finish(self, command: str, given: bytes, timeout: float) -> Result:
        with contextlib.closing(self._open(command)) as channel:
            channel.settimeout(timeout)
            channel.sendall(given)
            channel.shutdown_write()
            out = channel.makefile("rb").read()
            err = channel.makefile_stderr("rb").read()
            return Result(channel.recv_exit_status(), out, err)

    def call(self, argv: Sequence[str]) -> Result:
        """Run a command and wait for it, without an event loop."""
        return self._finish(self._command(argv), b"", _CALL_SECONDS)

    async def exec(self, argv: Sequence[str], *, timeout: float = _CALL_SECONDS) -> Result:
        return await self._do(self._command(argv), b"", timeout)

    async def _do(self, command: str, given: bytes = b"", timeout: float = _CALL_SECONDS) -> Result:
        try:
            return await asyncio.to_thread(self._finish, command, given, timeout)
        except (paramiko.SSHException, EOFError) as error:
            raise NodeError(f"the connection to {self.name} broke: {error}") from None

    async def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        if (await self.running()).get(name):
            return
        given = [f"{key}={value}" for key, value in (env or {}).items()]
        words = ["sh", "-c", _START, "sh", self.directory, name, argv[0], *given, *argv]
        done = await self._do(self._command(words, marks=[f"SPLITBRAIN_SESSIONS={SESSIONS}"]))
        if done.code == 127:
            raise MissingError(f"{argv[0]} is not on {self._place.host}: install it there")
        if done.code != 0:
            raise NodeError(f"{name} could not be started on {self.name}: {done.text}")
        self._pids[name] = int(done.out.split()[-1])

    async def running(self) -> Mapping[str, bool]:
        if not self._pids:
            return {}
        done = await self.exec(["sh", "-c", _ALIVE, "sh", *map(str, self._pids.values())])
        return dict(zip(self._pids, (word == b"1" for word in done.out.split()), strict=True))

    async def write(self, path: str, data: bytes) -> None:
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1"'
        done = await self._do(self._command(["sh", "-c", script, "sh", path]), data)
        if done.code != 0:
            raise NodeError(f"{path} could not be written on {self.name}: {done.text}")

    async def log(self, name: str) -> str:
        done = await self.exec(["tail", "-c", str(LOG_TAIL), f"{self.directory}/{name}.log"])
        return done.out.decode(errors="replace") if done.code == 0 else ""

    async def stop(self) -> None:
        """Save the logs and let go of the leash, which undoes everything."""
        if self._leash is not None:
            self._logs.mkdir(parents=True, exist_ok=True)
            for name in self._pids:
                done = await self.exec(["cat", f"{self.directory}/{name}.log"])
                (self._logs / f"{name}.log").write_bytes(done.out)
            leash, self._leash = self._leash, None
            await asyncio.to_thread(_let_go, leash)
        self.close()

    def close(self) -> None:
        """End the connections."""
        for client in reversed(self._clients):
            client.close()


def _let_go(leash: paramiko.Channel) -> None:
    leash.settimeout(_UNDO_SECONDS)
    leash.shutdown_write()
    said = leash.makefile("rb").read()
    failed = json.loads(said.splitlines()[-1])[1] if said.strip() else ["no answer"]
    if failed:
        raise NodeError(f"not everything could be undone: {'; '.join(failed)}")


def connect(place: Place, options: SshEnvironment.Options) -> list[paramiko.SSHClient]:
    """The connections that lead to a host whose key is known, the last one to itself. All must be kept.

    Raises ``MissingError`` with what to do.
    """
    way: list[paramiko.SSHClient] = []
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    try:
        client.load_system_host_keys()
        if options.known_hosts:
            client.load_system_host_keys(os.path.expanduser(options.known_hosts))
        through = None
        if options.jump:
            way = connect(Place.parse(options.jump, "jump"), msgspec.structs.replace(options, jump=""))
            bastion = way[-1].get_transport()
            assert bastion is not None
            through = bastion.open_channel("direct-tcpip", (place.host, place.port), ("127.0.0.1", 0))
        key = os.path.expanduser(options.key) or None
        client.connect(
            place.host, place.port, place.user, key_filename=key, sock=through, timeout=_CONNECT_SECONDS,
            banner_timeout=_CONNECT_SECONDS, auth_timeout=_CONNECT_SECONDS,
        )  # fmt: skip
    except paramiko.BadHostKeyException:
        raise MissingError(
            f"the host key of {place.host} is not the one that is known: somebody else may answer"
        ) from None
    except paramiko.AuthenticationException:
        raise MissingError(
            f"{place.host} does not let {place.user or 'this user'} in: use an agent, or -o key=FILE"
        ) from None
    except paramiko.SSHException as error:
        if "known_hosts" in str(error):
            raise MissingError(
                f"the host key of {place.host} is not known: check it, and put it into known_hosts (ssh-keyscan), or "
                "name another file with -o known_hosts=FILE"
            ) from None
        raise MissingError(f"{place.host} cannot be used over ssh: {error}") from None
    except OSError as error:
        raise MissingError(f"{place.host}, port {place.port}, cannot be reached: {error}") from None
    return [*way, client]


class SshEnvironment(RealEnvironment):
    """Existing machines, one node on each, over ssh (`-o hosts=USER@HOST:PORT,...`)."""

    class Options(msgspec.Struct, frozen=True):
        """Which machines, how to get in, and where data goes there."""

        hosts: Annotated[str, Text("USER@HOST:PORT with commas, of which HOST must be there"), "one for each node"] = ""
        key: Annotated[str, Text("a file"), "the private key, where no agent has it"] = ""
        known_hosts: Annotated[str, Text("a file"), "the hosts' public keys, where ssh's own file has them not"] = ""
        jump: Annotated[str, Text("USER@HOST:PORT, of which HOST must be there"), "a host on the way"] = ""
        sudo: Annotated[bool, "whether the user becomes root by sudo there"] = False
        python: Annotated[str, Text("a name or an absolute path, without spaces", r"[\w./+-]+"), "Python there"] = (
            "python3"
        )
        directory: Annotated[str, Text("an absolute path, without spaces", r"/[\w./+-]+"), "where data goes there"] = (
            "/var/tmp/splitbrain"
        )

    name: ClassVar[str] = "ssh"
    most: ClassVar[int] = 1000

    def __init__(self, image: str | None = None, seed: int = 0, options: Options | None = None) -> None:
        self._options = options or self.Options()
        self.python_reference = self._options.python
        self.source = ""
        self.driver: Mapping[str, Any] = {}
        self._places = [Place.parse(text, "hosts") for text in self._options.hosts.split(",") if self._options.hosts]
        if self._options.jump:
            Place.parse(self._options.jump, "jump")
        for name in ("key", "known_hosts"):
            file = os.path.expanduser(getattr(self._options, name))
            if file and not os.access(file, os.R_OK):
                raise UsageError(f"-o {name} is {file}, but there is no such file that can be read")
        self._nodes: list[SshNode] = []
        self._tried: dict[str, str | None] | None = None

    @classmethod
    def missing(cls, image: str | None) -> str | None:
        return None

    def refuses(self, nodes: int, programs: Mapping[str, str]) -> str | None:
        if len({place.host for place in self._places}) < len(self._places):
            return "-o hosts names a host twice: every node needs one of its own"
        if len(self._places) < nodes:
            return f"{nodes} nodes need as many hosts, but -o hosts names {len(self._places)}"
        return None

    def lacks(self, capability: str) -> str | None:
        if capability == "storage":
            return "a file system of our own is mounted on local nodes only"
        if capability in ALWAYS or not self._places:
            return None  # without hosts it cannot be told
        if self._tried is None:
            self._tried = self._try_all()
        return self._tried.get(capability)

    def _try_all(self) -> dict[str, str | None]:
        """Why faults that depend on the kernel cannot be had on one of the hosts; each is tried there."""
        found: dict[str, str | None] = {}
        for number, place in enumerate(self._places, 1):
            node = SshNode(f"n{number}", place, self._options, "try", Path())
            node.connect(self._options)
            with contextlib.closing(node):
                done = node.call(tool_command(node.python, "abilities", {}, "", os.devnull))
            if done.code != 0:
                raise MissingError(f"the fault tools do not run on {place.host}: {done.text.splitlines()[-1:]}")
            for name, why in json.loads(done.out)[1].items():
                found[name] = found.get(name) or (f"{why} (on {place.host})" if why else None)
        return found

    async def start(self, names: Sequence[str], logs: Path, run_id: str) -> list[Node]:
        if why := self.refuses(len(names), {}):
            raise UsageError(why)
        for name, place in zip(names, self._places, strict=False):
            self._nodes.append(SshNode(name, place, self._options, run_id, logs / name))
        for node in self._nodes:
            await asyncio.to_thread(node.connect, self._options)
        await asyncio.gather(*(node.hold() for node in self._nodes))
        self.source = f"{self._nodes[0].directory}/.splitbrain-source"
        first, place = self._nodes[0], self._places[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((first.address, 9))
            # The connection that steers the host must outlive a cut from the clients.
            self.driver = {"address": probe.getsockname()[0], "spare": place.port}
        await asyncio.gather(*(self._install(node) for node in self._nodes))
        return list(self._nodes)

    async def _install(self, node: SshNode) -> None:
        """Bring the bundled reference store along."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path in sorted((_ROOT / "targets" / "reference").rglob("*.py")):
                tar.add(path, str(path.relative_to(_ROOT)))
        await node.write(f"{node.directory}/.splitbrain-source.tar", packed.getvalue())
        script = 'mkdir -p "$1" && tar -xf "$1.tar" -C "$1" && touch "$1/targets/__init__.py"'
        done = await node.exec(["sh", "-c", script, "sh", self.source])
        if done.code != 0:
            raise NodeError(f"the reference store could not be brought to {node.name}: {done.text}")

    async def stop(self) -> None:
        failed = []
        for node in self._nodes:
            try:
                await node.stop()
            except (NodeError, FaultError, TimeoutError, OSError) as error:
                failed.append(f"{node.name}: {error}")
        self._nodes.clear()
        if failed:
            raise NodeError("; ".join(failed))
