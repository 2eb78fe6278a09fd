"""Find, kill, pause and resume every server process of the node that this runs in, and say what was seen.

The answer of every action is read from the process table after the action took effect.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TypedDict

TOOL_MARK = "SPLITBRAIN_TOOL"
"""Set in the environment of every process that belongs to the harness and not to the store; on local nodes that is the
harness itself as well."""
HOME_MARK = "SPLITBRAIN_HOME"
"""Set in the environment of tools on a host that has other processes as well: the directory in which the run's servers
were started, and whose file ``SESSIONS`` lists the session of each. Nothing else is touched then."""
PRIVATE_MARK = "SPLITBRAIN_PRIVATE"
"""Set in the environment of tools beside which servers run as the same user in the same network namespace: a directory
that only tools can reach."""
SESSIONS = ".splitbrain-sessions"
PASSAGE_SECONDS = 1.0
"""How long to wait for a process that is just becoming another program."""
_ENDING_SECONDS = 10.0
"""How long to wait for one that is ending: as long as it is not over, its place is not free."""
_STOPPED = "Tt"
TOGETHER_SECONDS = 1.0
"""How long before servers of several nodes are to end together they are told so."""
GRACE_SECONDS = 12.0
"""How long a server may take to end in an orderly way. etcd tries for 10 s to hand over what it leads; and while a peer
is paused it may wait for that for ever, so there has to be an end."""


class Server(TypedDict):
    """A server process. ``since`` is when it began, in clock ticks: who has its number later is another process."""

    pid: int
    since: int
    state: str
    command: str


class Seen(Server):
    """The same with the states of all its threads, and how many ticks of CPU time it has used."""

    threads: str
    used: int


class Signalled(Server):
    """A server that a signal was sent to, and whether SIGTERM was not enough."""

    forced: bool


def is_tool(pid: str) -> bool:
    """Whether a process belongs to the harness; waits while it becomes another program and has no environment yet.

    Raises ``FileNotFoundError`` or ``ProcessLookupError`` when it has given up its memory, or is gone.
    """
    deadline = time.monotonic() + PASSAGE_SECONDS
    while True:
        late = time.monotonic() > deadline  # before the look: who was stopped meanwhile has another one
        before = program(pid)
        if before is None:
            raise ProcessLookupError(f"process {pid} has ended")
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environ = file.read()
        except PermissionError:
            return False  # the harness can read its own: this belongs to the store
        is_all = before > 0 and before == program(pid)
        if environ or is_all or late:
            return any(item.startswith(TOOL_MARK.encode() + b"=") for item in environ.split(b"\0"))
        time.sleep(0.0005)


def program(pid: str) -> int | None:
    """What tells the program that a process runs from the next one: where its environment ends.

    It is 0 while the process becomes another program, and None when it has given up its memory. Raises
    ``FileNotFoundError`` or ``ProcessLookupError`` when it is gone.
    """
    _, fields = _stat(pid)
    memory, end = int(fields[20]), int(fields[48])
    return end if memory else None


def _stat(pid: str) -> tuple[str, list[str]]:
    """The name of a process, and the fields of its ``stat`` that follow, the first of which is its state."""
    with open(f"/proc/{pid}/stat") as file:
        name, _, rest = file.read().partition("(")[2].rpartition(")")
    return name, rest.split()


def _sessions() -> set[str] | None:
    """The sessions of the run's servers on a host with other processes; None on a node of our own."""
    home = os.environ.get(HOME_MARK)
    if home is None:
        return None
    try:
        with open(f"{home}/{SESSIONS}") as file:
            return set(file.read().split())
    except FileNotFoundError:
        return set()


def _is_at_home(pid: str) -> bool:
    """Whether a process works in the run's directory: a session's number may be somebody else's by now."""
    home = os.environ[HOME_MARK]
    return f"{os.readlink(f'/proc/{pid}/cwd')}/".startswith(f"{home}/")


def servers() -> list[Server]:
    """The living server processes in this pid namespace: not its init, not the tools of the harness."""
    living: list[Server] = []
    sessions = _sessions()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or entry == "1" or int(entry) == os.getpid():
            continue
        try:
            if sessions is None and is_tool(entry):
                continue
            name, fields = _stat(entry)
            state, session = fields[0], fields[3]
            if sessions is not None and not (session in sessions and _is_at_home(entry)):
                continue
        except (FileNotFoundError, ProcessLookupError):
            _wait_until_over(entry)
            continue
        if state in "ZX":
            _wait_until_over(entry)
        # Docker's engine is about to start something there: a server that is none yet, or a tool without its mark.
        elif not name.startswith("runc:"):
            living.append({"pid": int(entry), "since": int(fields[19]), "state": state, "command": name})
    return living


def _wait_until_over(pid: str) -> None:
    """Wait for a process that is ending: until it and all its threads are done, its parent takes it for running."""
    deadline = time.monotonic() + _ENDING_SECONDS
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while True:
            late = time.monotonic() > deadline
            _, (state, *_) = _stat(pid)
            if late or state == "X" or (state == "Z" and len(os.listdir(f"/proc/{pid}/task")) == 1):
                return
            time.sleep(0.0005)


def look() -> list[Seen]:
    """The servers, each with the states of all its threads and the CPU time that it has used."""
    table: list[Seen] = []
    for server in servers():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            threads = _threads(str(server["pid"]))
            used = sum(map(int, _stat(str(server["pid"]))[1][11:13]))
            table.append({**server, "threads": "".join(sorted(threads)), "used": used})
    return table


def _threads(pid: str) -> set[str]:
    """The states of the threads of a process. Raises ``FileNotFoundError`` when it is gone."""
    states = set()
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            states.add(_stat(f"{pid}/task/{thread}")[1][0])
    return states


def pids() -> list[int]:
    """The process numbers of the same."""
    return [server["pid"] for server in servers()]


def _send(number: int, until_states: str = "", only: str = "") -> list[Signalled]:
    """Signal every server, or those of one command, until it is in one of these states, or gone; those signalled."""
    signalled: dict[int, Signalled] = {}
    deadline = time.monotonic() + 10
    while left := [
        server for server in servers() if server["state"] not in until_states and only in ("", server["command"])
    ]:
        if time.monotonic() > deadline:
            raise SystemExit(f"after 10 s these processes still do not show it: {left}")
        for server in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server["pid"], number)
        signalled |= {server["pid"]: {**server, "forced": False} for server in left}
        time.sleep(0.005)
    return list(signalled.values())


def terminate(grace: float = GRACE_SECONDS) -> list[Signalled]:
    """Ask every server to end, once, and kill what is not gone after ``grace`` seconds, as an orchestrator does.

    A stopped server cannot end before it goes on: it is let alone.
    """
    asked: dict[int, Signalled] = {}
    deadline = time.monotonic() + min(grace, GRACE_SECONDS)
    while left := [server for server in servers() if server["state"] not in _STOPPED]:
        if time.monotonic() > deadline:
            forced = _send(signal.SIGKILL, _STOPPED)
            return [*(asked | {server["pid"]: {**server, "forced": True} for server in forced}).values()]
        for server in left:
            if server["pid"] not in asked:
                asked[server["pid"]] = {**server, "forced": False}
                with contextlib.suppress(ProcessLookupError):
                    os.kill(server["pid"], signal.SIGTERM)
        time.sleep(0.005)
    return list(asked.values())


def kill(at: float = 0.0) -> list[Signalled]:
    """End every server at once; at a moment of the monotonic clock, if that is near, at which other nodes' end as well.

    Tools begin at different times: a store may save in between what the first of its nodes to die has not.
    """
    known = servers() if at else []
    time.sleep(min(max(at - time.monotonic(), 0.0), TOGETHER_SECONDS))
    for server in known:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server["pid"], signal.SIGKILL)
    killed: dict[int, Signalled] = {server["pid"]: {**server, "forced": False} for server in known}
    return [*(killed | {server["pid"]: server for server in _send(signal.SIGKILL)}).values()]


def pause(only: str = "") -> list[Signalled]:
    """Let every server stand still, or only those of one command."""
    return _send(signal.SIGSTOP, _STOPPED, only)


def resume() -> list[Signalled]:
    """Let every server that stands still go on."""
    return _send(signal.SIGCONT, "RSDI")


VERBS = (look, kill, terminate, pause, resume)
