"""Runs a command in a container, and returns all of what it printed.

The SDK's own ``exec_run`` asks for the connection to be upgraded, and then reads from the socket below the reader of
HTTP, which may have taken the first output along with the headers: a client that is a little late loses it (issue 3332
of docker-py). Asked for an ordinary answer, the engine sends the same frames as its body.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import requests
from docker.errors import APIError, create_api_error_from_http_exception

from harness.environments.base import Result

_HEAD: Final = struct.Struct(">BxxxL")
"""Of each frame: from which stream, and how many bytes follow."""
_OUT: Final = 1
_ENDING_SECONDS: Final = 10.0
"""How long a command may take to be over in the eyes of the engine, once it has closed what it printed to."""


def execute(container: Any, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Result:
    """Run a command in a container. Raises ``docker.errors.APIError`` where the engine refuses, or loses it."""
    api = container.client.api
    begun: str = api.exec_create(container.id, list(argv), environment=environment)["Id"]
    where = f"{api.base_url}/v{api.api_version}/exec/{begun}/start"
    # Only reaching the engine is bounded here: how long a command may take is for who asks.
    with api.post(where, json={"Tty": False, "Detach": False}, stream=True, timeout=(api.timeout, None)) as answer:
        try:
            answer.raise_for_status()
        except requests.HTTPError as error:
            raise create_api_error_from_http_exception(error) from None
        printed = answer.content
    out, err = bytearray(), bytearray()
    for stream, data in _frames(printed):
        (out if stream == _OUT else err).extend(data)
    return Result(_code(api, begun), bytes(out), bytes(err))


def _frames(printed: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEAD.size <= len(printed):
        stream, length = _HEAD.unpack_from(printed, at)
        at += _HEAD.size
        yield stream, printed[at : at + length]
        at += length


def _code(api: Any, begun: str) -> int:
    deadline = time.monotonic() + _ENDING_SECONDS
    while True:
        late = time.monotonic() > deadline
        seen = api.exec_inspect(begun)
        if seen["ExitCode"] is not None:
            return int(seen["ExitCode"])
        if late:
            raise APIError(f"the engine does not know how a command in {seen['ContainerID'][:12]} has ended")
        time.sleep(0.05)
