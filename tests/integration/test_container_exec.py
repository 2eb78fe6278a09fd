"""What a command printed in a container is all there, however late this process is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from docker.errors import APIError

from harness.environments.base import Result
from harness.environments.container_exec import execute
from harness.environments.engine import connect, node_image

pytestmark = pytest.mark.needs("docker")


@pytest.fixture(scope="module")
def container() -> Iterator[Any]:
    client = connect()
    made = client.containers.run(node_image(client), ["sleep", "600"], detach=True, init=True, network_mode="none")
    yield made
    made.remove(force=True)


def test_a_client_that_is_late_loses_nothing(container: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first output has arrived together with the headers by then: the SDK's ``exec_run`` loses it."""
    at_once = HTTPConnection.getresponse

    def late(self: Any) -> Any:
        time.sleep(0.5)
        return at_once(self)

    monkeypatch.setattr(HTTPConnection, "getresponse", late)
    done = execute(container, ["sh", "-c", "echo out; echo $X >&2; exit 3"], {"X": "err"})
    assert done == Result(3, b"out\n", b"err\n")


def test_long_output_is_whole_and_streams_are_told_apart(container: Any) -> None:
    done = execute(container, ["sh", "-c", "head -c 3000000 /dev/zero; head -c 70000 /dev/zero >&2"])
    assert done == Result(0, bytes(3_000_000), bytes(70_000))
    assert execute(container, ["true"]) == Result(0, b"", b"")
    assert execute(container, ["no-such-program"]).code in (126, 127)


def test_what_the_engine_refuses_is_an_error(container: Any) -> None:
    client = connect()
    gone = client.containers.create(node_image(client), ["true"], network_mode="none")
    gone.remove()
    with pytest.raises(APIError):
        execute(gone, ["true"])
