"""Wait on a host until the harness is gone, however that came, and then leave nothing of the run behind.

The harness holds the other end of this tool's input, over the connection that it steers the host by, and says a word
there every few seconds, which is answered. Where the input ends, or nothing was heard for ``silence`` seconds, all is
undone. The run's directory is made here, for root alone and under a name that nobody can know beforehand; while the run
goes, a file system of its own is mounted there. A host is one node of one run at a time: two would heal each other's
faults.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import signal
import stat
import subprocess
import time
from collections.abc import Iterator

from harness.faults.process import HOME_MARK
from harness.faults.tools import TOOLS

READY, ALIVE = "ready ", "alive"
"""What it says when the directory, whose path follows, is there; and to each word of the harness."""
SERVERS = ".splitbrain-servers"
"""The file in the run's directory that lists each server that was started: its process, and when that began."""
LOCK = "/run/splitbrain.lock"
_PATIENCE = 20.0
"""Seconds that a run which has just ended may take to undo everything."""
_END_SECONDS = 5.0
"""Seconds that a killed server may take to be gone."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def trusted(folder: str) -> str:
    """The real path of a folder, in which nobody but root can put something in place of what root made there.

    Raises ``SystemExit`` where somebody else could, or where it is no folder.
    """
    real = os.path.realpath(folder)
    place = "/"
    for part in ["", *real.split("/")[1:]]:
        place = os.path.join(place, part)
        try:
            seen = os.lstat(place)
        except OSError as error:
            raise SystemExit(f"{place}: {error.strerror}") from None
        if not stat.S_ISDIR(seen.st_mode):
            raise SystemExit(f"{place} is not a folder")
        if seen.st_uid != 0:
            raise SystemExit(f"{place} belongs to user {seen.st_uid}, who could put something else in its place")
        if seen.st_mode & _OTHERS_WRITE and not seen.st_mode & stat.S_ISVTX:
            raise SystemExit(f"everybody could put something else in the place of what is in {place}")
    return real


@contextlib.contextmanager
def claim() -> Iterator[None]:
    """Have this host to ourselves. Raises ``SystemExit`` if another run has it, and goes on having it."""
    trusted(os.path.dirname(LOCK))
    deadline = time.monotonic() + _PATIENCE
    while True:
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(LOCK) and os.path.samestat(os.fstat(lock), os.lstat(LOCK)):
                break  # else whoever had it has removed it meanwhile
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SystemExit("another run, or another node of this one, uses this host already") from None
            time.sleep(0.1)
        os.close(lock)
    try:
        yield
    finally:
        os.unlink(LOCK)
        os.close(lock)


@contextlib.contextmanager
def directory(folder: str, name: str, size: int) -> Iterator[str]:
    """A new directory in ``folder``, whose name begins with ``name``, on a file system of ``size`` bytes of its own.

    Only root can look into it. It is removed in the end, and where it cannot be had.
    """
    made = f"{trusted(folder)}/{name}-{secrets.token_hex(8)}"
    os.mkdir(made, 0o700)
    try:
        _check_owner(made)
        options = f"size={size},mode=0700,uid=0,gid=0,nosuid,nodev"
        command = ["mount", "-t", "tmpfs", "-o", options, "splitbrain", made]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
        _check_owner(made)
        yield made
    finally:
        subprocess.run(["umount", "-l", made], capture_output=True, check=False)
        os.rmdir(made)


def _check_owner(made: str) -> None:
    """Raise ``SystemExit`` unless it is root's directory, and nobody else's."""
    opened = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    seen = os.fstat(opened)
    os.close(opened)
    if seen.st_uid != 0 or stat.S_IMODE(seen.st_mode) != 0o700:
        raise SystemExit(f"{made} belongs to user {seen.st_uid}, with mode {stat.S_IMODE(seen.st_mode):o}")


def undo() -> list[str]:
    """End the servers and every fault, and let everybody use their ports; what could not be done."""
    failed = []
    for tool in TOOLS:
        try:
            if tool.undo is not None:
                tool.undo()
        except (SystemExit, OSError) as error:
            failed.append(str(error))
    return failed + _end_survivors()


def _end_survivors() -> list[str]:
    """End what was started and still lives although all servers were killed; a word on each.

    It has left the run's directory, so that no fault knew it for a server.
    """
    survivors = _survivors()
    for pid, (_, leads) in survivors.items():
        if leads:  # else its session's number might, in a thousand years, be somebody else's
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _END_SECONDS
    while (left := _survivors()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [
        f"{command} (process {pid}) {'still lives' if pid in left else 'had to be ended'}: it had left the run's"
        " directory, and no fault ever hit it"
        for pid, (command, _) in survivors.items()
    ]


def _survivors() -> dict[int, tuple[str, bool]]:
    """The living processes in the sessions of the servers that were started: each one's program, and if it leads."""
    try:
        with open(f"{os.environ[HOME_MARK]}/{SERVERS}") as file:
            started = dict(line.split() for line in file)
    except FileNotFoundError:
        return {}
    survivors = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            command, state, session, since = _look(pid)
            if session in started and state not in "ZX" and (pid != session or since == started[session]):
                survivors[int(pid)] = (command, pid == session)
    return survivors


def _look(pid: str) -> tuple[str, str, str, str]:
    """The program, the state, the session and the beginning of a process, in clock ticks."""
    with open(f"/proc/{pid}/stat") as file:
        command, _, rest = file.read().partition("(")[2].rpartition(")")
    fields = rest.split()
    return command, fields[0], fields[3], fields[19]


def wait(silence: float) -> list[str]:
    """Answer every word of the harness until its input ends; what there is to say if it fell silent before that."""
    heard = time.monotonic()
    while True:
        ready, _, _ = select.select([0], [], [], max(0.0, heard + silence - time.monotonic()))
        if not ready:
            return [f"nothing was heard of the harness for {silence:g} s, so that everything was undone then"]
        if not os.read(0, 4096):
            return []
        heard = time.monotonic()
        print(ALIVE, flush=True)


def _end(number: int, frame: object) -> None:
    raise SystemExit(f"it was ended by signal {number}")


def hold(folder: str, name: str, size: int, silence: float) -> list[str]:
    """Make the directory in ``folder``, say so, wait, and undo everything; what there is to complain of."""
    if os.geteuid() != 0:
        raise SystemExit("the user there is not root, as faults need: name root, or use `options.sudo=true`")
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in signals:
        signal.signal(number, _end)
    with claim(), directory(folder, name, size) as made:
        os.environ[HOME_MARK] = made
        complaints: list[str] = []
        try:
            print(READY + made, flush=True)
            complaints = wait(silence)
        except (SystemExit, OSError) as error:  # also of an output that nobody reads any more
            complaints = [str(error)]
        finally:
            for number in signals:
                signal.signal(number, signal.SIG_IGN)
            complaints += undo()
        return complaints


VERBS = (hold,)
