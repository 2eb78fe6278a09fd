"""The simulated network: TCP connections in memory, with latency, and cuts that stall them as a real one would."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable
from typing import Any, Final

from harness.environments.simulation.loop import CURRENT, Process, SimulatedLoop

LATENCY: Final = (0.0002, 0.001)
"""Seconds that a packet takes one way: a random time from this range."""
RETRANSMIT: Final = 0.2
"""Seconds after which a packet that was dropped is sent again."""
_RESET: Final = b"reset"
"""Stands for the end of a connection whose other end is gone; told apart from data by identity."""
_NOBODY: Final = contextvars.Context()
"""The context of what belongs to no process."""
HARNESS: Final = "harness"
"""The address of the clients."""


class Network:
    """All addresses, who listens where, and which directed links are cut."""

    def __init__(self, loop: SimulatedLoop, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self._listeners: dict[tuple[str, int], tuple[Callable[[], Any], Process | None]] = {}
        self.addresses: dict[str, str] = {}
        """The address of each node by name."""
        self.cut: dict[tuple[str, str], str] = {}
        """Directed links (from, to) by address that are cut, and how: drop or reject."""
        self.dropped: dict[tuple[str, str], int] = {}
        self._pipes: list[Pipe] = []

    def here(self) -> str:
        """The address of the process that runs now."""
        process = CURRENT.get()
        return HARNESS if process is None else self.addresses[process.node]

    def latency(self) -> float:
        """The time that one packet takes."""
        return self._rng.uniform(*LATENCY)

    def blocked(self, source: str, target: str) -> str | None:
        """How the link is cut, if it is; counts the packet that was to be sent."""
        how = self.cut.get((source, target))
        if how is not None:
            self.dropped[source, target] = self.dropped.get((source, target), 0) + 1
        return how

    def listen(self, factory: Callable[[], Any], host: str, port: int) -> Listener:
        """Accept connections to an address and port from now on."""
        self._listeners[host, port] = (factory, CURRENT.get())
        return Listener(self, (host, port))

    def reset(self, process: Process) -> None:
        """A process was killed: its connections end."""
        for pipe in self._pipes:
            if pipe.process is process:
                pipe.reset()
        self._pipes = [pipe for pipe in self._pipes if not pipe.is_closing()]

    def close(self, where: tuple[str, int]) -> None:
        """No longer accept connections."""
        self._listeners.pop(where, None)

    async def connect(self, factory: Callable[[], Any], host: str, port: int) -> tuple[Pipe, Any]:
        """Open a connection, as ``loop.create_connection`` does."""
        source = self.here()
        while self.blocked(source, host) or self.blocked(host, source):
            if "reject" in (self.cut.get((source, host)), self.cut.get((host, source))):
                raise OSError(113, "No route to host")
            await asyncio.sleep(RETRANSMIT)
        await asyncio.sleep(self.latency() + self.latency())
        listener = self._listeners.get((host, port))
        if listener is None or (listener[1] is not None and listener[1].state == "dead"):
            raise ConnectionRefusedError(111, "Connection refused")
        accept, server = listener
        near = Pipe(self, self._loop, source, host, CURRENT.get())
        far = Pipe(self, self._loop, host, source, server)
        near.peer, far.peer = far, near
        self._pipes += [near, far]
        protocol = factory()
        near.start(protocol)
        context = server.context() if server is not None else None
        self._loop.call_soon(lambda: far.start(accept()), context=context)
        return near, protocol


class Listener:
    """What ``loop.create_server`` answers with."""

    def __init__(self, network: Network, where: tuple[str, int]) -> None:
        self._network = network
        self._where = where

    def close(self) -> None:
        """Stop listening."""
        self._network.close(self._where)

    async def wait_closed(self) -> None:
        """Nothing to wait for."""

    async def serve_forever(self) -> None:
        """Until the process ends."""
        await asyncio.get_running_loop().create_future()


class Pipe(asyncio.Transport):
    """One end of a connection: bytes arrive in order, later where the link is cut meanwhile."""

    def __init__(
        self, network: Network, loop: SimulatedLoop, source: str, target: str, process: Process | None
    ) -> None:
        super().__init__()
        self._network = network
        self._loop = loop
        self._source = source
        self._target = target
        self.process = process
        self._protocol: Any = None
        self._closing = False
        self._outgoing: list[bytes | None] = []
        self._sending = False
        self._early: list[bytes | None] = []
        self._paused = False
        self.peer: Pipe | None = None

    def start(self, protocol: Any) -> None:
        """Hand the connection to its protocol."""
        self._protocol = protocol
        protocol.connection_made(self)
        self.resume_reading()

    def write(self, data: Any) -> None:
        if not self._closing and data and not self._is_dead():
            self._send(bytes(data))

    def close(self) -> None:
        if not self._closing and not self._is_dead():
            self._closing = True
            self._send(None)
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._target, 0) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        early, self._early = self._early, []
        for data in early:
            self._deliver(data)

    def reset(self) -> None:
        """The process at this end was killed: its kernel closes the connection."""
        self._closing = True
        self._send(_RESET)

    def _is_dead(self) -> bool:
        return self.process is not None and self.process.state == "dead"

    def _send(self, data: bytes | None) -> None:
        self._outgoing.append(data)
        if not self._sending:
            self._sending = True
            self._schedule(self._network.latency())

    def _schedule(self, delay: float) -> None:
        # The network runs by itself, whatever becomes of the process that sent.
        self._loop.call_at(self._loop.time() + delay, self._transmit, context=_NOBODY)

    def _transmit(self) -> None:
        if self._network.blocked(self._source, self._target) is not None:
            self._schedule(RETRANSMIT)
            return
        outgoing, self._outgoing = self._outgoing, []
        self._sending = False
        assert self.peer is not None
        for data in outgoing:
            self.peer.arrive(data)

    def arrive(self, data: bytes | None) -> None:
        """Bytes, or the end of the stream, reach this end."""
        context = self.process.context() if self.process is not None else _NOBODY
        self._loop.call_soon(self._deliver, data, context=context)

    def _deliver(self, data: bytes | None) -> None:
        if self._protocol is None or self._paused:
            self._early.append(data)
        elif self._closing:
            return
        elif data is _RESET:
            self._closing = True
            self._protocol.connection_lost(ConnectionResetError(104, "Connection reset by peer"))
        elif data is not None:
            self._protocol.data_received(data)
        elif not self._protocol.eof_received():
            self.close()
