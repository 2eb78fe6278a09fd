"""Nodes on existing machines, over ssh.

Every command goes over one connection for each host, whose key must be known. What the harness does to a host is held
by a leash: a process there that ends the servers, heals every fault and removes the data as soon as the connection is
gone, or silent for half a minute, even if the harness was killed. Only processes that the run has started are ever
touched, and all that is written there lies in a directory which the leash makes for root alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shlex
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import msgspec
import paramiko

from harness.capability import Capability
from harness.environments.base import (
    DISK_BYTES,
    LOG_TAIL,
    Node,
    RealEnvironment,
    Result,
    reasons,
    run_tool,
)
from harness.environments.connections import PULSE_SECONDS, Place, check_files, connect
from harness.environments.servers import PATH, UMASK, environment, unprivileged
from harness.environments.tools import ask, command
from harness.errors import FaultError, MissingError, NodeError, UsageError, option
from harness.faults import abilities, deliver, guard, leash, output
from harness.faults.leash import ALIVE, READY, SERVERS
from harness.faults.output import NEW, OLD, joined
from harness.faults.process import HOME_MARK, SESSIONS, TOOL_MARK
from harness.options import Text
from harness.shipping import packed

_CALL_SECONDS: Final = 30.0
_UNDO_SECONDS: Final = 60.0
SILENCE_SECONDS: Final = 30.0
"""After how long without a word from the other end the harness, or the leash, takes the connection for broken."""
_SHIPPED: Final = ".splitbrain-shipped"
"""Below the node's directory, where servers are started."""
_NOWHERE: Final = "/nonexistent"
"""The directory of a node that has none yet: nothing is in it, so that no tool takes anything for its own."""
_BEGAN: Final = """
began() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f1,20; }
"""
"""Says of a process its state, and when it began in clock ticks: another one may have its number later."""
_START: Final = f"""{_BEGAN}
cd "$1" && command -v "$2" >/dev/null || exit 127
command -v setpriv >/dev/null || {{ echo "the command setpriv is not there: apt-get install util-linux" >&2; exit 1; }}
umask {UMASK:03o}
export pipe=.splitbrain-printed-$$ && mkfifo -m 600 "$pipe" || exit
sh -c "$3" <"$pipe" >/dev/null 2>&1 &
shift 3
setsid env -i "$@" >"$pipe" 2>&1 </dev/null &
since=$(began $!) && since=${{since#* }}
echo "$! $since" >>"$SPLITBRAIN_SERVERS"
echo $! >>"$SPLITBRAIN_SESSIONS"
echo "$! $since"
"""
"""Starts a server that goes on: its directory, its program, the command that reads what it prints, and what ``env`` is
to be told."""
_ALIVE: Final = f"""{_BEGAN}
while [ $# -gt 0 ]; do
  case "$(began "$1")" in "Z "*|"X "*) echo 0;; *" $2") echo 1;; *) echo 0;; esac
  shift 2
done
"""
"""Says of each process, with when it began, whether it lives."""


class SshNode:
    """A host as a node of one run: its commands, servers and files go over one connection, which its leash watches."""

    def __init__(self, name: str, place: Place, options: SshEnvironment.Options, run_id: str, logs: Path) -> None:
        self.name = name
        self.address = ""
        self.directory = _NOWHERE
        self.python = options.python
        self.shipped = _SHIPPED
        self._place = place
        self._options = options
        self._run_id = run_id
        self._sudo = ["sudo", "-n"] if options.sudo else []
        self._logs = logs
        self._clients: list[paramiko.SSHClient] = []
        """Those to the hosts on the way, if there are some, and the one to this host last."""
        self._leash: paramiko.Channel | None = None
        self._answers: Any = None
        """What the leash says, line by line."""
        self._over = threading.Event()
        self._pulse: threading.Thread | None = None
        self._lost: str | None = None
        """Why the connection is taken for broken."""
        self._servers: dict[str, tuple[str, str]] = {}
        """Of each server its process, and when that began."""

    def connect(self) -> None:
        """Connect, if that was not done. Raises ``MissingError`` with what to do when the host does not let us in."""
        if self._clients:
            return
        addresses = self._place.addresses()
        through = Place.parse(self._options.jump, "jump") if self._options.jump else None
        self._clients = connect(self._place, self._options, through=through)
        self.address = addresses[0] if ":" not in addresses[0] else self._own_address()

    def _own_address(self) -> str:
        """The IPv4 address of a host that was reached by IPv6: stores and faults are told of that one."""
        words = self.call(["ip", "-o", "-4", "address", "show", "scope", "global"]).out.decode(errors="replace").split()
        ipv4 = [after.partition("/")[0] for word, after in itertools.pairwise(words) if word == "inet"]
        if len(ipv4) != 1:
            raise MissingError(
                f"{self._place.host} has {len(ipv4)} IPv4 addresses, and stores and faults need just one: name that"
            )
        return ipv4[0]

    async def clients(self) -> list[str]:
        """The addresses that clients may come from: this machine's own on the way there, and what is seen there."""
        own = towards(self.address)
        if self._options.jump:
            return [own]
        connection = (await self._do(shlex.join(["sh", "-c", "echo $SSH_CONNECTION"]))).out.decode().split()
        return [own, *connection[:1]]

    async def hold(self) -> None:
        """Put the host on its leash, which makes the node's directory, and keep in touch with it."""
        options = self._options
        name = f"splitbrain-{self._run_id}"
        held = ask(leash.hold, folder=options.directory, name=name, size=DISK_BYTES, silence=SILENCE_SECONDS)
        channel = await asyncio.to_thread(self._open, self._command(command(self.python, held)))
        channel.settimeout(_UNDO_SECONDS)
        self._answers = channel.makefile("rb")
        line = (await asyncio.to_thread(self._answers.readline)).decode(errors="replace").rstrip("\n")
        if not line.startswith(READY):
            errors = await asyncio.to_thread(_errors, channel)
            raise NodeError(f"{self._place.host} cannot be used: {errors or 'no answer'}")
        self._leash = channel
        self.directory = line.removeprefix(READY)
        channel.settimeout(SILENCE_SECONDS)
        self._pulse = threading.Thread(target=self._keep_in_touch, args=(channel,), daemon=True)
        self._pulse.start()

    def _keep_in_touch(self, channel: paramiko.Channel) -> None:
        """Say a word to the leash every few seconds, and hear its answer; a connection without one is closed."""
        while not self._over.wait(min(PULSE_SECONDS, SILENCE_SECONDS / 3)):
            try:
                channel.sendall(b".")
                answer = self._answers.readline().decode(errors="replace").strip()
            except (OSError, paramiko.SSHException, EOFError):
                answer = ""
            if answer != ALIVE:
                self._lost = f"the connection to {self._place.host} broke, and what was there was undone by itself"
                if answer:
                    self._lost += f": {'; '.join(json.loads(answer)[1])}"
                self.close()
                return

    def _command(self, argv: Sequence[str], marks: Sequence[str] = (f"{TOOL_MARK}=1",)) -> str:
        return shlex.join([*self._sudo, "env", f"PATH={PATH}", *marks, f"{HOME_MARK}={self.directory}", *argv])

    def _open(self, line: str) -> paramiko.Channel:
        transport = self._clients[-1].get_transport() if self._clients else None
        if transport is None or not transport.is_active():
            raise NodeError(self._lost or f"the connection to {self.name} is gone")
        channel = transport.open_session()
        channel.exec_command(line)
        return channel

    def _finish(self, line: str, given: bytes, timeout: float) -> Result:
        with contextlib.closing(self._open(line)) as channel:
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

    async def _do(self, line: str, given: bytes = b"", timeout: float = _CALL_SECONDS) -> Result:
        try:
            return await asyncio.to_thread(self._finish, line, given, timeout)
        except TimeoutError:
            raise
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise NodeError(self._lost or f"the connection to {self.name} broke: {error}") from None

    async def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        if (await self.running()).get(name):
            return
        given = [f"{key}={value}" for key, value in environment(self.directory, env).items()]
        words = ["sh", "-c", _START, "sh", self.directory, argv[0], self._reader(name), *given, *unprivileged(argv)]
        marks = [f"SPLITBRAIN_SESSIONS={SESSIONS}", f"SPLITBRAIN_SERVERS={SERVERS}"]
        done = await self._do(self._command(words, marks))
        if done.code == 127:
            raise MissingError(f"{argv[0]} is not on {self._place.host}: install it there")
        if done.code != 0:
            raise NodeError(f"{name} could not be started on {self.name}: {done.text}")
        process, since = done.out.decode().split()
        self._servers[name] = (process, since)

    def _reader(self, name: str) -> str:
        """The command that keeps what a server prints."""
        followed = ask(output.follow, path=f"{self.directory}/{name}.log")
        return f'rm -f "$pipe"; exec {shlex.join(command(self.python, followed))}'

    async def running(self) -> Mapping[str, bool]:
        if not self._servers:
            return {}
        asked = [word for server in self._servers.values() for word in server]
        done = await self.exec(["sh", "-c", _ALIVE, "sh", *asked])
        return dict(zip(self._servers, (word == b"1" for word in done.out.split()), strict=True))

    async def write(self, path: str, data: bytes) -> None:
        argv = command(self.python, ask(deliver.deliver, path=path))
        done = await self._do(self._command(argv), data)
        if done.code != 0:
            raise NodeError(f"{path} could not be written on {self.name}: {_last_line(done.err)}")

    async def log(self, name: str) -> str:
        path = f"{self.directory}/{name}.log"
        return (await self._printed(path, path + OLD, path + NEW, end=str(LOG_TAIL))).decode(errors="replace")

    async def _printed(self, *files: str, end: str = "+1") -> bytes:
        """What is in these files one after the other, as far as they are there: all, or so many bytes at its end."""
        script = 'end=$1; shift; cat "$@" 2>/dev/null | tail -c "$end"'
        return (await self.exec(["sh", "-c", script, "sh", end, *files])).out

    async def stop(self) -> None:
        """Save the logs and let go of the leash, which undoes everything. Raises ``NodeError`` if something stays."""
        self._over.set()
        if self._pulse is not None:
            await asyncio.to_thread(self._pulse.join)
        failed = [] if self._lost is None else [self._lost]
        if self._leash is not None and self._lost is None:
            try:
                await self._save_logs()
            except (NodeError, OSError) as error:
                failed.append(f"the logs could not be saved: {error}")
            failed += await asyncio.to_thread(self._let_go, self._leash)
        self._leash = None
        self.close()
        if failed:
            raise NodeError("; ".join(failed))

    async def _save_logs(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        for name in self._servers:
            path = f"{self.directory}/{name}.log"
            first, rest = await self._printed(path), await self._printed(path + OLD, path + NEW)
            (self._logs / f"{name}.log").write_bytes(joined(first, rest))

    def _let_go(self, channel: paramiko.Channel) -> list[str]:
        """Let the leash undo everything; what it could not, or found odd."""
        try:
            channel.settimeout(_UNDO_SECONDS)
            channel.shutdown_write()
            lines = self._answers.read().splitlines()
            failed: list[str] = json.loads(lines[-1])[1] if lines else [_errors(channel) or "no answer"]
        except (OSError, EOFError, paramiko.SSHException, ValueError) as error:
            failed = [f"nobody can tell whether everything was undone: {error}"]
        return failed

    def close(self) -> None:
        """End the connections."""
        for client in reversed(self._clients):
            client.close()


def towards(address: str) -> str:
    """The address by which this machine talks to another one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


def _errors(channel: paramiko.Channel) -> str:
    """The last line that a command complained with."""
    return _last_line(channel.makefile_stderr("rb").read())


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


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
        directory: Annotated[
            str, Text("an absolute path, without spaces", r"/[\w./+-]+"), "a folder of root's for the run's directory"
        ] = "/var/tmp"

    name: ClassVar[str] = "ssh"
    most: ClassVar[int] = 1000

    never: ClassVar[Mapping[Capability, str]] = {
        Capability.STORAGE: "a file system of our own is mounted on local nodes only"
    }

    def __init__(self, image: str | None = None, seed: int = 0, options: Options | None = None) -> None:
        self._options = options or self.Options()
        check_files(self._options)
        self._places = [Place.parse(text, "hosts") for text in self._options.hosts.split(",") if self._options.hosts]
        if self._options.jump:
            Place.parse(self._options.jump, "jump")
        self._nodes: list[SshNode] = []
        self._tried: dict[Capability, str | None] | None = None

    @classmethod
    def missing(cls, image: str | None) -> str | None:
        return None

    def refuses(self, nodes: int, programs: Mapping[str, str]) -> str | None:
        if len({place.host for place in self._places}) < len(self._places):
            return f"{option('hosts')} names a host twice: every node needs one of its own"
        if len(self._places) < nodes:
            return f"{nodes} nodes need as many hosts, but {option('hosts')} names {len(self._places)}"
        return None

    def tried(self) -> Mapping[Capability, str | None]:
        # Without hosts it cannot be told.
        if self._tried is None:
            self._tried = self._try_all()
        return self._tried

    def _try_all(self) -> dict[Capability, str | None]:
        """Why faults that depend on the kernel cannot be had on one of the hosts; each is tried there."""
        whys: dict[Capability, str | None] = {}
        for number, place in enumerate(self._places, 1):
            node = SshNode(f"n{number}", place, self._options, "try", Path())
            node.connect()
            with contextlib.closing(node):
                done = node.call(command(node.python, ask(abilities.tried)))
            if done.code != 0:
                raise MissingError(f"the fault tools do not run on {place.host}: {_last_line(done.err)}")
            for capability, why in reasons(json.loads(done.out)[1]).items():
                whys[capability] = whys.get(capability) or (f"{why} (on {place.host})" if why else None)
        return whys

    async def start(self, names: Sequence[str], logs: Path, run_id: str, ships: Sequence[str] = ()) -> list[Node]:
        if why := self.refuses(len(names), {}):
            raise UsageError(why)
        for name, place in zip(names, self._places, strict=False):
            self._nodes.append(SshNode(name, place, self._options, run_id, logs / name))
        for node in self._nodes:
            await asyncio.to_thread(node.connect)
        await asyncio.gather(*(node.hold() for node in self._nodes))
        first, place = self._nodes[0], self._places[0]
        # The connection that steers the host must outlive a cut from the clients.
        self.driver = {"address": towards(first.address), "spare": place.port}
        if ships:
            archive = packed(ships)
            await asyncio.gather(*(self._install(node, archive) for node in self._nodes))
        return list(self._nodes)

    async def _install(self, node: SshNode, archive: bytes) -> None:
        """Bring along what a run ships."""
        folder = f"{node.directory}/{_SHIPPED}"
        await node.write(f"{folder}.tar", archive)
        script = 'mkdir "$1" && tar --no-same-owner -xf "$1.tar" -C "$1"'
        done = await node.exec(["sh", "-c", script, "sh", folder])
        if done.code != 0:
            raise NodeError(f"what the run ships could not be brought to {node.name}: {done.text}")

    async def guard(self, ports: Sequence[int]) -> str | None:
        hosts = [node.address for node in self._nodes]
        failed = await self._each(lambda node: self._put_up(node, ports, hosts))
        knocks = ask(guard.knock, addresses=hosts, ports=list(ports))
        silent = {"the clients": await self.measure(knocks)}
        silent |= await self._each(lambda node: run_tool(node, knocks))
        if any(silent.values()):
            await self._each(lambda node: run_tool(node, ask(guard.take_down)))
            return "; ".join(f"{', '.join(unheard)} would not hear {who}" for who, unheard in silent.items() if unheard)
        return "; ".join(f"{name}: {', '.join(why)}" for name, why in failed.items()) or None

    async def _each(self, do: Callable[[SshNode], Awaitable[Any]]) -> dict[str, Any]:
        """What there is to be said of nodes, by name; nothing of those of which there is nothing."""
        answers = await asyncio.gather(*map(do, self._nodes))
        return {node.name: answer for node, answer in zip(self._nodes, answers, strict=True) if answer}

    async def _put_up(self, node: SshNode, ports: Sequence[int], hosts: list[str]) -> list[str]:
        clients = await node.clients()
        # Where the clients are on this very host, they are of the user that the harness is.
        user = os.geteuid() if clients[0] == node.address else 0
        return await run_tool(node, ask(guard.put_up, list(ports), hosts, clients, user))

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
