"""What a server in a container has printed: its beginning and its end, however much there was between them."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any, Final

import docker.errors
import requests
from docker.types import LogConfig

from harness.faults.output import HEAD, LEFT_OUT, TAIL

KEPT_BY_ENGINE: Final = LogConfig(type=LogConfig.types.JSON, config={"max-size": "32m", "max-file": "2"})
"""The engine keeps twice so much of each container, and forgets what is older."""


class Printed:
    """Listens to a container from its start on, until it has the beginning of what is printed."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self._beginning = bytearray()
        # It may wait as long as the server is silent: it is no work for the pool of threads that others need.
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(docker.errors.DockerException, requests.RequestException, OSError, ValueError):
            stream = self._container.logs(stream=True, follow=True)
            try:
                for piece in stream:
                    self._beginning += piece[: HEAD - len(self._beginning)]
                    if len(self._beginning) >= HEAD:
                        return
            finally:
                stream.close()

    def save(self, path: Path) -> None:
        """Add it to a file. Where something is left out, that is said in its place."""
        first, last, total = bytearray(), bytearray(), 0
        for piece in self._container.logs(stream=True, follow=False):
            total += len(piece)
            room = HEAD - len(first)
            first += piece[:room]
            last += piece[max(room, 0) :]
            del last[:-TAIL]
        known = bytes(self._beginning)
        left_out = total > len(first) + len(last)
        if not first.startswith(known):
            # The engine has forgotten the beginning.
            first, last = bytearray(known), (first + last)[-TAIL:]
            left_out = True
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(first)
            if left_out:
                file.write(LEFT_OUT)
            file.write(last)
