"""Faults that last: a process that stays in a node, does something again and again, and ends when it is told to.

It listens on an abstract Unix socket, which belongs to the node's network namespace and ends with the process: there
is no file to leave behind, and a second start on the same node replaces the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any


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
            said = pipe.read()
        os.waitpid(pid, 0)
        if said != "ready":
            raise SystemExit(said or f"the resident {name} ended at once")
        return
    # Twice, so that it is nobody's child: whoever runs this tool waits for the tool alone.
    if os.fork():
        os._exit(0)
    os.close(reading)
    code = 1
    try:
        detach(keep=writing)
        with _listen(name) as listener:
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
    return _said(answer)


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
    return _said(answer)


def _said(answer: dict[str, Any]) -> Any:
    if "failed" in answer:
        raise SystemExit(answer["failed"])
    return answer["said"]


def _call(name: str, question: Any) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(20)
        try:
            asking.connect(_address(name))
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        asking.sendall(json.dumps(question).encode())
        asking.shutdown(socket.SHUT_WR)
        said = b""
        while data := asking.recv(65536):
            said += data
    return json.loads(said)


def _serve(listener: socket.socket, work: Work) -> None:
    while True:
        wait = work.step()
        ready, _, _ = select.select([listener.fileno(), *work.files()], [], [], max(wait, 0))
        if listener.fileno() in ready:
            asking, _ = listener.accept()
            with asking:
                with asking.makefile("rb") as reader:
                    question = json.load(reader)
                ends = question == "end"
                try:
                    answer = {"said": work.end() if ends else work.ask(question["ask"])}
                except (OSError, SystemExit) as error:
                    answer = {"failed": str(error)}
                asking.sendall(json.dumps(answer).encode())
            if ends:
                return


def _address(name: str) -> str:
    return f"\0splitbrain-{name}"


def _listen(name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(_address(name))
    listener.listen()
    return listener


def _exists(name: str) -> bool:
    with open("/proc/self/net/unix") as table:
        return any(line.split()[-1] == f"@splitbrain-{name}" for line in table)
