"""The simulated network: links with latency and faults, TCP connections and datagrams over them.

Connections keep the order of their bytes and send again what was lost, so a cut stalls them as it would a real one.
Datagrams, which servers use among themselves, are lost, doubled and overtaken exactly as their link does it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from harness.environments.simulation.loop import CURRENT, NOBODY, Process, SimulatedLoop

LATENCY: Final = (0.0002, 0.001)
"""Seconds that a packet takes one way: a random time from this range."""
PACKET: Final = 500
"""Bytes that a packet counts as on a line with little bandwidth."""
FULL: Final = 1.0
"""Seconds of waiting that a line with little bandwidth holds; what comes then is lost."""
RETRANSMIT: Final = 0.2
"""Seconds after which a lost packet of a connection is sent again."""
_REMEMBERED: Final = 200_000
"""How many messages of servers are remembered."""
_RESET: Final = b"reset"
"""Stands for the end of a connection whose other end is gone; told apart from data by identity."""
HARNESS: Final = "harness"
"""The address of the clients."""


class Sent(NamedTuple):
    """A message of a server to another one, by the names of their nodes. Seconds; ``arrived`` is None if it was lost.

    ``kind`` and ``term`` are what the message says under these names, None where it says nothing.
    """

    source: str
    target: str
    sent: float
    arrived: float | None
    kind: Any
    term: Any


@dataclass(frozen=True)
class Quality:
    """How bad a link is: extra ``delay`` and ``jitter`` in seconds; the others are shares of packets from 0 to 1."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    rate: float = 0.0
    """Bytes a second; 0 is no limit."""


class Link:
    """One direction between two addresses. Its randomness is its own, so that links do not disturb one another."""

    __slots__ = ("_busy_until", "_cut", "_flap", "_line_free", "_random", "_since", "dropped", "quality")

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random
        self._busy_until = 0.0
        self._line_free = 0.0
        self._cut: str | None = None
        self._since = self._flap = 0.0
        self.quality: Quality | None = None
        self.dropped = 0

    def cut(self, how: str, now: float, flap: float = 0.0) -> None:
        """From now on ``drop``, ``reject`` or ``reset`` everything; with ``flap`` by turns of so many seconds."""
        self._cut, self._since, self._flap = how, now, flap

    def restore(self) -> None:
        """Let everything through."""
        self._cut = None

    def cut_at(self, now: float) -> str | None:
        """How the link is cut at this moment, if it is."""
        return None if self._flap and (now - self._since) // self._flap % 2 else self._cut

    def loses(self, now: float) -> bool:
        """Whether the packet that is sent now is lost; counts it."""
        quality = self.quality
        lost = self.cut_at(now) is not None or (
            # What is corrupt is noticed by its checksum, and thrown away.
            quality is not None
            and (
                self._random() < 1 - (1 - quality.loss) * (1 - quality.corrupt)
                or (quality.rate > 0 and self._line_free > now + FULL)
            )
        )
        self.dropped += lost
        return lost

    def latency(self, now: float, size: int = PACKET) -> float:
        """Seconds that the packet of so many bytes takes which is sent now."""
        low, high = LATENCY
        latency = low + (high - low) * self._random()
        if self.quality is not None:
            latency += self.quality.delay + self.quality.jitter * self._random()
            if self.quality.rate:
                self._line_free = max(self._line_free, now) + size / self.quality.rate
                latency += self._line_free - now
        return latency

    def arrivals(self, now: float, size: int = PACKET) -> list[float]:
        """When the datagram that is sent now arrives: never, once, or twice.

        In order, unless it is overtaken, or each takes another time.
        """
        if self.loses(now):
            return []
        times = [now + self.latency(now, size)]
        quality = self.quality
        if quality is not None and self._random() < quality.reorder:
            times[0] += 0.01 + 0.05 * self._random()
        elif quality is None or not quality.jitter:
            self._busy_until = times[0] = max(times[0], self._busy_until)
        if quality is not None and self._random() < quality.duplicate:
            times.append(times[0] + 0.05 * self._random())
        return times


class Network:
    """All addresses, who listens where, and the links between them."""

    def __init__(self, loop: SimulatedLoop, seed: int) -> None:
        self._loop = loop
        self._seed = seed
        self._listeners: dict[tuple[str, int], tuple[Callable[[], Any], Process | None]] = {}
        self._endpoints: dict[tuple[str, str], tuple[Callable[[Any], None], Process | None]] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self.addresses: dict[str, str] = {}
        """The address of each node by name."""
        self.sent: deque[Sent] = deque(maxlen=_REMEMBERED)
        """The last messages of servers to one another."""
        self._pipes: list[Pipe] = []

    def link(self, source: str, target: str) -> Link:
        """The link from one address to another."""
        link = self._links.get((source, target))
        if link is None:
            link = self._links[source, target] = Link(f"{self._seed}/{source}/{target}")
        return link

    def links(self, source: str) -> Mapping[str, Link]:
        """The links that leave an address, by target."""
        return {target: link for (start, target), link in self._links.items() if start == source}

    def here(self) -> str:
        """The address of the process that runs now."""
        process = CURRENT.get()
        return HARNESS if process is None else self.addresses[process.node]

    # Datagrams

    def receive(self, address: str, receiver: Callable[[Any], None], port: str = "") -> None:
        """Hand datagrams for an address and port to the running process, by this function, from now on."""
        self._endpoints[address, port] = (receiver, CURRENT.get())

    def deafen(self, address: str, port: str) -> None:
        """Hand over no more of them."""
        self._endpoints.pop((address, port), None)

    def post(self, source: str, target: str, message: Any, port: str = "", size: int = PACKET) -> list[float]:
        """Send a datagram: any object, which nobody may change from now on, that counts as so many bytes.

        When it arrives: never, once or twice.
        """
        arrivals = self.link(source, target).arrivals(self._loop.time(), size)
        for when in arrivals:
            self._loop.call_at(when, self._hand_over, (target, port), message, context=NOBODY)
        return arrivals

    def _hand_over(self, target: tuple[str, str], message: Any) -> None:
        endpoint = self._endpoints.get(target)
        if endpoint is not None:
            self._loop.run_as(endpoint[1], endpoint[0], message)

    # Connections

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
        there, back = self.link(source, host), self.link(host, source)
        while there.loses(now := self._loop.time()) or back.loses(now):
            if "reject" in (there.cut_at(now), back.cut_at(now)):
                raise OSError(113, "No route to host")
            if there.cut_at(now) == "reset":
                raise ConnectionRefusedError(111, "Connection refused")
            await asyncio.sleep(RETRANSMIT)
        await asyncio.sleep(there.latency(now) + back.latency(now))
        listener = self._listeners.get((host, port))
        if listener is None or (listener[1] is not None and listener[1].state == "dead"):
            raise ConnectionRefusedError(111, "Connection refused")
        accept, server = listener
        near = Pipe(self._loop, there, CURRENT.get(), host)
        far = Pipe(self._loop, back, server, source)
        near.peer, far.peer = far, near
        self._pipes += [near, far]
        protocol = factory()
        near.start(protocol)
        self._loop.run_as(server, lambda: far.start(accept()))
        return near, protocol


class Listener:
    """The server of ``loop.create_server``, as asyncio has it: it can be closed, and waited for."""

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
    """One end of a connection: bytes arrive in order, later where the link loses them meanwhile."""

    def __init__(self, loop: SimulatedLoop, link: Link, process: Process | None, target: str) -> None:
        super().__init__()
        self._loop = loop
        self._link = link
        self._target = target
        self.process = process
        self._protocol: Any = None
        self._closing = False
        self._outgoing: list[bytes | None] = []
        self._sending = False
        self._early: list[bytes | None] = []
        self._paused = False
        self._broken = False
        """Whether it was reset, so that what the other end sends is answered by a reset."""
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
            self.arrive(data)

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
            self._schedule(self._link.latency(self._loop.time()))

    def _schedule(self, delay: float) -> None:
        # The network runs by itself, whatever becomes of the process that sent.
        self._loop.call_later(delay, self._transmit, context=NOBODY)

    def _transmit(self) -> None:
        assert self.peer is not None
        peer = self.peer
        now = self._loop.time()
        if self._link.cut_at(now) == "reset":
            self._break()
            return
        if self._link.loses(now):
            self._schedule(RETRANSMIT)
            return
        if peer._broken:
            self._break()
            return
        outgoing, self._outgoing = self._outgoing, []
        self._sending = False
        for data in outgoing:
            if peer.process is None:
                peer.arrive(data)
            else:
                self._loop.run_as(peer.process, peer.arrive, data)

    def _break(self) -> None:
        """What was sent is answered by a reset."""
        self._broken, self._sending = True, False
        self._outgoing.clear()
        if self.process is None:
            self.arrive(_RESET)
        else:
            self._loop.run_as(self.process, self.arrive, _RESET)

    def arrive(self, data: bytes | None) -> None:
        """Bytes, or the end of the stream, reach this end."""
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
