"""Faults that last: a process that stays in a node, does something again and again, and ends when it is told to.

It listens on a Unix socket: on a node of our own on an abstract one, which belongs to the node's network namespace and
ends with the process; on a host with other users in the run's directory, and beside the servers of an image in one that
only tools can reach, where nobody else can look or hold the name.
Both ends talk to processes of their own user only. A second start on the same node replaces the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness.faults.process import HOME_MARK, PRIVATE_MARK

_ANSWER_SECONDS = 20.0
_QUESTION_SECONDS = 5.0
"""How long whoever has connected may take to ask."""


class Work:
    """What a resident does: nothing, but for what a kind of it overrides."""

    def files(self) -> list[int]:
        """Descriptors with input that is to be handled."""
        return []

    def step(self) -> float:
        """Handle input and what has become due; seconds until something more becomes due."""
        return 60.0

    def ask(self, request: Any) -> Any:
        """Do what is asked, or say how it goes so far; requests and answers are what JSON can hold."""
        return None

    def end(self) -> Any:
        """Undo everything that nobody else will; what is to be reported of it."""
        return None


def detach(keep: int) -> None:
    """Let this process belong to nobody: to no session or folder, and with no file open but one."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    # Whoever reads what its parent prints would wait for a pipe that is open here.
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number != keep:
            with contextlib.suppress(OSError):
                os.close(number)


def start(name: str, prepare: Callable[[], Work]) -> None:
    """Let a process stay, which begins with ``prepare``. Raises ``SystemExit`` with what it says when that fails."""
    stop(name)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        with open(reading) as pipe:
            answer = pipe.read()
        os.waitpid(pid, 0)
        if answer != "ready":
            raise SystemExit(answer or f"the resident {name} ended at once")
        return
    # Twice, so that it is nobody's child: whoever runs this tool waits for the tool alone.
    if os.fork():
        os._exit(0)
    os.close(reading)
    code = 1
    try:
        detach(keep=writing)
        with _listening(name) as listener:
            work = prepare()
            os.write(writing, b"ready")
            os.close(writing)
            _serve(listener, work)
        code = 0
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(writing, (str(error) or type(error).__name__).encode())
    os._exit(code)


def ask(name: str, request: Any = None) -> Any:
    """What the resident of this name answers. Raises ``SystemExit`` where there is none, or when it fails."""
    answer = _call(name, {"ask": request})
    if answer is None:
        raise SystemExit(f"the resident {name} is not there")
    return _content(answer)


def stop(name: str) -> Any:
    """End the resident of this name; its report, None where there is none. It is gone when this returns."""
    answer = _call(name, "end")
    if answer is None:
        return None
    deadline = time.monotonic() + 10
    while _exists(name):
        if time.monotonic() > deadline:
            raise SystemExit(f"the resident {name} did not end")
        time.sleep(0.002)
    return _content(answer)


def _content(answer: dict[str, Any]) -> Any:
    if "failed" in answer:
        raise SystemExit(answer["failed"])
    return answer["said"]


def _call(name: str, question: Any) -> Any:
    with _connected(name) as asking:
        if asking is None:
            return None
        asking.sendall(json.dumps(question).encode())
        asking.shutdown(socket.SHUT_WR)
        answer = b""
        while data := asking.recv(65536):
            answer += data
    if not answer:
        raise SystemExit(f"the resident {name} did not answer")
    return json.loads(answer)


@contextlib.contextmanager
def _connected(name: str) -> Iterator[socket.socket | None]:
    """A connection to the resident of this name; None where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_ANSWER_SECONDS)
        try:
            with _address(name) as address:
                asking.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            yield None
            return
        if (user := _user(asking)) != os.geteuid():
            raise SystemExit(f"user {user} holds the name of the resident {name}")
        yield asking


def _user(connection: socket.socket) -> int:
    """Who is at the other end of a connection."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return int(user)


def _serve(listener: socket.socket, work: Work) -> None:
    while True:
        wait = work.step()
        ready, _, _ = select.select([listener.fileno(), *work.files()], [], [], max(wait, 0))
        if listener.fileno() in ready:
            asking, _ = listener.accept()
            with asking:
                if _user(asking) != os.geteuid():
                    continue
                try:
                    question = _question(asking)
                except (OSError, ValueError):
                    continue  # it is not one of ours that asks so
                try:
                    answer = {"said": work.end() if question is None else work.ask(question["ask"])}
                except (OSError, SystemExit) as error:
                    answer = {"failed": str(error)}
                with contextlib.suppress(OSError):  # who has asked may be gone
                    asking.sendall(json.dumps(answer).encode())
            if question is None:
                return


def _question(asking: socket.socket) -> dict[str, Any] | None:
    """What is asked, in ``ask``; None if it is to end. Raises ``ValueError`` for anything else, and ``OSError``."""
    asking.settimeout(_QUESTION_SECONDS)
    with asking.makefile("rb") as reader:
        question = json.load(reader)
    if question == "end":
        return None
    if not isinstance(question, dict) or "ask" not in question:
        raise ValueError("that is no question")
    return question


@contextlib.contextmanager
def _address(name: str) -> Iterator[str]:
    """Where the resident of this name listens."""
    home = os.environ.get(PRIVATE_MARK) or os.environ.get(HOME_MARK)
    if home is None:
        yield f"\0splitbrain-{name}"
        return
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield f"/proc/self/fd/{folder}/.splitbrain-{name}"  # however long the way there is
    finally:
        os.close(folder)


@contextlib.contextmanager
def _listening(name: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, _address(name) as address:
        is_file = address.startswith("/")
        if is_file:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)  # of one that was killed
        listener.bind(address)
        listener.listen()
        try:
            yield listener
        finally:
            if is_file:
                os.unlink(address)


def _exists(name: str) -> bool:
    with _connected(name) as asking:
        return asking is not None
