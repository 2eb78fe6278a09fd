"""Re-execute the harness inside throwaway Linux namespaces, with a user namespace when it is not root.

Everything that is started inside (processes, interfaces, rules, mounts) ends with the process tree: the kernel kills
a pid namespace whole when its first process dies, and that one dies with the harness, even by SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from harness.environments.programs import search_path
from harness.errors import MissingError, SplitbrainError
from harness.faults import resident, squeeze
from harness.faults.process import TOOL_MARK

INSIDE: Final = "SPLITBRAIN_INSIDE"
"""Set in the environment of a harness that already lives in namespaces of its own: who made them, as ``owner`` says."""
_MADE: Final = "SPLITBRAIN_NAMESPACES"
"""Set there as well: which namespaces these are."""

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUTS: Final = 0x04000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
_MS_PRIVATE_RECURSIVE: Final = 0x44000
_PR_SET_PDEATHSIG: Final = 1

_FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def inside() -> bool:
    """Whether this process already is in namespaces that ``reexecute`` made, and not only told so."""
    return bool(os.environ.get(INSIDE)) and os.environ.get(_MADE) == _namespaces()


def _namespaces() -> str:
    """Those that this process is in: no others have these numbers while it lives."""
    return ",".join(os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "pid", "uts"))


def missing() -> str | None:
    """Why namespaces cannot be had here, in one sentence; None if they can."""
    pid = os.fork()
    if pid == 0:
        try:
            _unshare()
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
        return None
    return (
        "this machine does not let you make Linux namespaces: run as root, or allow unprivileged user namespaces "
        "(sysctl kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu)"
    )


def reexecute(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run ``argv`` in new namespaces and return its exit code; signals to this process are passed on to it.

    Must be called before the process has threads. ``argv`` begins with those signals blocked, so that none is lost
    before it listens. Raises ``MissingError`` when namespaces cannot be had, and ``SplitbrainError`` when a
    signal ended what ran in them.
    """
    run = str(owner(os.getpid()))
    if os.geteuid() == 0:
        remove_leftovers()
        _sweep_after_this_process(run)
    try:
        _unshare()
    except OSError:
        raise MissingError(missing() or "namespaces could not be made") from None
    sys.stdout.flush()
    sys.stderr.flush()
    harness = os.getpid()
    # A signal that comes now waits until there is somebody who knows what to do with it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    pid = os.fork()
    if pid == 0:
        # TOOL_MARK, since a child shares the harness's memory until it becomes a server: no fault may touch it before.
        marks = {INSIDE: run, TOOL_MARK: "1", "PATH": search_path()}
        _run_as_init(lambda: _exec(argv, {**environment, **marks, _MADE: _namespaces()}), harness)
    return _wait_for(pid)


def owner(pid: int) -> str | None:
    """A process of this machine, told apart from every other one that ever had its number; None if there is none."""
    try:
        return f"{pid}-{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    except OSError:
        return None


def remove_leftovers() -> list[str]:
    """Remove the control groups of runs whose harness is gone, and the process with it that was to remove them.

    Returns their places. Only root can make such groups, or remove them.
    """
    removed = []
    for place in squeeze.leftovers("*"):
        parts = _OWNED.match(os.path.basename(place))
        if parts is not None and owner(int(parts[2])) != parts[1]:
            # One that is not empty has been taken over by somebody who still needs it.
            with contextlib.suppress(OSError):
                os.rmdir(place)
                removed.append(place)
    return sorted(removed)


_OWNED: Final = re.compile(r"splitbrain-((\d+)-\d+)-")


def _sweep_after_this_process(run: str) -> None:
    """Leave a process that waits for the end of this one, however it comes, and removes the run's control groups.

    They are all that does not vanish with the namespaces.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(reading)
        _HELD.append(writing)
        return
    os.close(writing)
    resident.detach(keep=reading)
    for number in _FORWARDED:
        signal.signal(number, signal.SIG_IGN)
    os.read(reading, 1)
    with contextlib.suppress(SystemExit):
        squeeze.remove(squeeze.leftovers(run))
    os._exit(0)


_HELD: list[int] = []
"""The end of a pipe that is open as long as this process lives."""


@contextlib.contextmanager
def children_in(pid: int) -> Iterator[None]:
    """Within this block, processes that this thread starts are born in the pid namespace of ``pid``.

    Must not await or start threads inside: the kernel refuses new threads meanwhile.
    """
    with open(f"/proc/{pid}/ns/pid") as there, open("/proc/self/ns/pid") as here:
        enter(there.fileno(), _CLONE_NEWPID)
        try:
            yield
        finally:
            enter(here.fileno(), _CLONE_NEWPID)


def enter(namespace: int, kind: int) -> None:
    """Be in another namespace from now on: this thread for one of the network, its children for one of processes.

    ``namespace`` is an open file, ``kind`` the kernel's flag of it. Raises ``OSError``.
    """
    if ctypes.CDLL(None, use_errno=True).setns(namespace, kind) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _unshare() -> None:
    namespaces = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWPID | CLONE_NEWNET
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0 and libc.unshare(namespaces) == 0:
        return
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(namespaces | _CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _run_as_init(start: Callable[[], NoReturn], harness: int) -> NoReturn:
    """Be process 1 of the new pid namespace: start the harness, pass signals on, reap, end with its exit code."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # A group of its own, so that a Ctrl-C at the terminal arrives once, through the process outside.
        os.setpgid(0, 0)
        libc.mount(b"none", b"/", None, _MS_PRIVATE_RECURSIVE, None)
        if libc.mount(b"proc", b"/proc", b"proc", 0, None) != 0:
            raise OSError(ctypes.get_errno(), "mounting /proc in a new pid namespace")
        child = os.fork()
        if child == 0:
            # The signals stay blocked until the harness has begun to listen: see ``harness.cli.stopping``.
            start()

        def forward(number: int, _frame: FrameType | None) -> None:
            os.kill(child, number)

        _hand_signals_to(forward)
        while True:
            ended, status = os.wait()
            if ended == child:
                os._exit(_code(status))
    except BaseException as error:
        print(f"splitbrain: the namespaces of this run (harness {harness}) failed: {error}", file=sys.stderr)
        os._exit(4)


def _exec(argv: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    for number in _FORWARDED:
        signal.signal(number, signal.SIG_DFL)
    os.execvpe(argv[0], list(argv), environment)


def _wait_for(pid: int) -> int:
    def forward(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, number)

    _hand_signals_to(forward)
    code = _code(os.waitpid(pid, 0)[1])
    if code > _KILLED:
        what = signal.Signals(code - _KILLED).name
        raise SplitbrainError(
            f"the harness inside its namespaces was ended by {what}; `splitbrain check` judges what it had recorded"
        )
    return code


_KILLED: Final = 128
"""What is added to the number of the signal that a process was ended by, to tell it by an exit code."""


def _hand_signals_to(forward: Callable[[int, FrameType | None], None]) -> None:
    """Pass on what comes, and what has come while signals were blocked, unless it is ignored here."""
    for number in _FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _KILLED - code
