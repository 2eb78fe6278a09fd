"""The clients' way into a run's network in containers, for nobody else on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.environments import namespaces


class Gate:
    """A network namespace in which this thread, and those that ``asyncio.to_thread`` uses, make their sockets.

    What has been made before stays where it was, and sockets that have a path are the same everywhere.
    """

    def __init__(self, inside: int) -> None:
        self._inside = inside
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    @staticmethod
    def may_come(process: int) -> bool:
        """Whether a process is just becoming another program: it has no environment for a moment."""
        try:
            return not Path(f"/proc/{process}/environ").read_bytes()
        except OSError:
            return False

    @classmethod
    def held_by(cls, process: int, address: str, mark: str) -> Gate | None:
        """The gate that a process on this machine holds open; None where it cannot be entered.

        It must have ``mark`` in its environment, and ``address`` in its network: an engine on another machine, or with
        another view of process numbers, means somebody else by that number.
        """
        try:
            inside = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        gate = cls(inside)
        with contextlib.suppress(OSError):
            if mark.encode() in Path(f"/proc/{process}/environ").read_bytes().split(b"\0") and gate._leads_to(address):
                return gate
        gate.close()
        return None

    def _leads_to(self, address: str) -> bool:
        """Try it in a thread of its own, which ends then."""
        seen = []

        def look() -> None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
                self._set(self._inside)
                here.close()
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
                    there.bind((address, 0))
                    seen.append(address)

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return bool(seen)

    def enter(self) -> None:
        """Make the sockets of this thread, and of a running event loop's threads, in there from now on."""
        self._set(self._inside)
        threads = ThreadPoolExecutor(thread_name_prefix="gate", initializer=self._set, initargs=(self._inside,))
        asyncio.get_running_loop().set_default_executor(threads)

    def leave(self) -> None:
        """Make all sockets where they were made before. There is no way back."""
        self._set(self._outside)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        self.close()

    def close(self) -> None:
        """Let go of both network namespaces; from now on it cannot be entered."""
        os.close(self._inside)
        os.close(self._outside)

    @staticmethod
    def _set(namespace: int) -> None:
        namespaces.enter(namespace, namespaces.CLONE_NEWNET)
