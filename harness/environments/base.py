"""The protocol between a run and the place where its nodes live."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec

from harness.errors import FaultError


def run_in_real_time(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end as fast as it goes."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


class Result(msgspec.Struct, frozen=True):
    """What a command in a node ended with."""

    code: int
    out: bytes
    err: bytes = b""

    @property
    def text(self) -> str:
        """Everything that the command printed, errors last."""
        return (self.out + self.err).decode(errors="replace").strip()


class Node(Protocol):
    """One machine of the cluster, seen from the harness.

    ``address`` is reachable from the harness and from the other nodes. ``directory`` is where servers on the node
    keep their data. ``python`` is an interpreter in the node that runs the fault tools (standard library only).
    """

    name: str
    address: str
    directory: str
    python: str

    async def exec(self, argv: Sequence[str], *, timeout: float = 30.0) -> Result:
        """Run a command inside the node's namespaces, as root, with the fault tools at hand."""
        ...

    async def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start a server that goes on running; what it prints goes to the log ``name``.

        Starting a name again after the server ended starts it anew; while it runs nothing is done. Raises
        ``MissingError`` when the program is not there.
        """
        ...

    async def running(self) -> Mapping[str, bool]:
        """The servers that were started on this node, and whether each still runs."""
        ...

    async def write(self, path: str, data: bytes) -> None:
        """Write a file inside the node, making the folders above it."""
        ...

    async def log(self, name: str) -> str:
        """What the server has printed so far, its last 64 KiB."""
        ...


class Environment(Protocol):
    """A place that can start nodes. ``capabilities`` names the faults that it can do here."""

    name: ClassVar[str]
    real_time: ClassVar[bool]
    python_reference: str
    """The interpreter that can run the bundled reference store inside a node."""
    source: str
    """Where the product's packages are inside a node."""

    @classmethod
    def missing(cls, image: str | None) -> str | None:
        """Why this machine cannot have this environment, in one sentence with what to do; None if it can."""
        ...

    @property
    def capabilities(self) -> frozenset[str]: ...

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end, on the event loop that this environment needs."""
        ...

    def clock(self) -> int:
        """Monotonic nanoseconds of the machine that drives the clients, from any moment on."""
        ...

    async def start(self, names: Sequence[str], logs: Path, run_id: str) -> list[Node]:
        """Start one node for each name; server logs are to end up below ``logs/<node>/``."""
        ...

    async def stop(self) -> None:
        """End everything that ``start`` and the nodes started; safe to call at any moment."""
        ...


@runtime_checkable
class SimulatesTools(Protocol):
    """A node on which no command can run, and that does itself what the fault tools would do."""

    async def simulate_tool(self, tool: str, request: Mapping[str, Any]) -> Any: ...


_TAIL = """
if __name__ == "__main__":
    import json as _json, sys as _sys
    _text = _json.dumps([_sys.argv[2], main(_json.loads(_sys.argv[1]))])
    with open(_sys.argv[3], "w") as _file:
        _file.write(_text)
    print(_text)
"""
"""What turns a tool into a command: the answer is printed, and kept in a file beside the node's data."""

_FAULTS = Path(__file__).parents[1] / "faults"
_calls = itertools.count()


async def run_tool(node: Node, tool: str, request: Mapping[str, Any], *, timeout: float = 30.0) -> Any:
    """Run one of the fault tools of ``harness.faults``, by name, inside a node and return what its ``main`` answers.

    A tool is one file of the standard library: its source is handed to the node's interpreter, so that what runs is
    always this version, in an image, in a namespace or over ssh alike. Raises ``FaultError`` with the tool's own
    words when it fails.
    """
    if isinstance(node, SimulatesTools):
        return await node.simulate_tool(tool, request)
    source = (_FAULTS / f"{tool}.py").read_text() + _TAIL
    call, file = str(next(_calls)), f"{node.directory}/.splitbrain-answer"
    try:
        argv = [node.python, "-I", "-S", "-c", source, json.dumps(request), call, file]
        result = await node.exec(argv, timeout=timeout)
        if result.code == 0 and not result.out:
            # Docker's engine now and then loses what a command printed; a fault must not be repeated to hear it again.
            result = await node.exec(["cat", file], timeout=timeout)
    except TimeoutError:
        raise FaultError(f"{tool} did not finish on {node.name} within {timeout:g} s") from None
    if result.code != 0:
        said = result.text.splitlines()[-1:] or ["it said nothing"]
        raise FaultError(f"{tool} failed on {node.name}: {said[0]}")
    try:
        answered, answer = json.loads(result.out)
    except ValueError:
        raise FaultError(f"{tool} on {node.name} answered something odd: {result.text[:200]}") from None
    if answered != call:
        raise FaultError(f"{tool} on {node.name} gave no answer")
    return answer
