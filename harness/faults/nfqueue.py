"""A bad network in userspace: packets wait in a queue of the kernel's firewall until this lets them go, late or never.

Speaks the kernel's netlink protocol for NFQUEUE by itself (see linux/netfilter/nfnetlink_queue.h), so a node needs
nothing but Python. What is held after it has arrived no longer counts against its sender's buffers, so that a delay
limits no bandwidth; what is held before it leaves would, so a copy is kept in its place and sent when it is due.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import random
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from harness.faults import buffers, resident

MARK = 0x5B
"""Set on packets that are sent from here: they must not wait a second time."""

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_NO_ENOBUFS = 270, 5
_PACKET, _VERDICT, _CONFIG = 0x300, 0x301, 0x302
_ERROR = 2
_REQUEST, _ACK = 1, 4
_COMMAND, _PARAMETERS, _LENGTH, _MASK, _FLAGS = 1, 2, 3, 4, 5
_IN_BUNDLES = 4
_PACKET_HEADER, _VERDICT_HEADER, _INTO, _OUT_OF, _PAYLOAD, _WHOLE_LENGTH = 1, 2, 5, 6, 10, 13
_LOCAL_IN = 1
_SIOCGIFMTU = 0x8921
_DROP, _ACCEPT = 0, 1
_COPY = 2
_HEADERS, _EVERYTHING = 64, 0xFFFF
_MOST_WAITING = 100_000
_BUFFER = 16 << 20
_AT_ONCE = 256
_LINE_SECONDS = 1.0
"""How much a line with little bandwidth holds; what comes then is lost."""


class Packet(NamedTuple):
    """A packet that waits in the queue: its content from the IP header on, perhaps the headers alone."""

    number: int
    arrived: bool
    """Whether it has come to this node, rather than being about to leave it."""
    device: int
    """Through which it came, or is to leave."""
    length: int
    content: bytes

    @property
    def is_ipv4(self) -> bool:
        return self.content[0] >> 4 == 4

    @property
    def header(self) -> int:
        """The length of its IP header."""
        return (self.content[0] & 15) * 4 if self.is_ipv4 else 40

    @property
    def source(self) -> bytes:
        return self.content[12:16] if self.is_ipv4 else self.content[8:24]

    @property
    def destination(self) -> bytes:
        return self.content[16:20] if self.is_ipv4 else self.content[24:40]


class Queue:
    """One queue of the firewall in this network namespace.

    ``whole``: single packets with all their content and correct checksums, rather than the headers of bundles as the
    kernel moves them.
    """

    def __init__(self, number: int, *, whole: bool) -> None:
        self._number = number
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self.socket.bind((0, 0))
        self.socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
        self.room = buffers.enlarge(self.socket, buffers.RECEIVED, _BUFFER)
        self._configure((_COMMAND, struct.pack(">BBH", 1, 0, socket.AF_INET)))
        self._configure((_PARAMETERS, struct.pack(">IB", _EVERYTHING if whole else _HEADERS, _COPY)))
        self._configure((_LENGTH, struct.pack(">I", _MOST_WAITING)))
        flags = 0 if whole else _IN_BUNDLES
        self._configure((_FLAGS, struct.pack(">I", flags)), (_MASK, struct.pack(">I", _IN_BUNDLES)))
        self.socket.setblocking(False)

    def overflowed(self) -> int:
        """How many packets the kernel has lost since they found no room to wait for this to read them."""
        with contextlib.suppress(OSError), open("/proc/net/netfilter/nfnetlink_queue") as table:
            for words in map(str.split, table):
                if words[0] == str(self._number):
                    return int(words[6])
        return 0

    def _configure(self, *attributes: tuple[int, bytes]) -> None:
        self._send(_CONFIG, _ACK, attributes)
        answer = self.socket.recv(65536)
        code = -struct.unpack_from("=i", answer, 16)[0] if struct.unpack_from("=H", answer, 4)[0] == _ERROR else 0
        if code:
            raise OSError(code, f"this kernel gives no packet queue: {os.strerror(code)}")

    def _send(self, kind: int, flags: int, attributes: Sequence[tuple[int, bytes]]) -> None:
        body = struct.pack(">BBH", socket.AF_UNSPEC, 0, self._number)
        for name, value in attributes:
            body += struct.pack("=HH", len(value) + 4, name) + value + bytes(-len(value) % 4)
        self.socket.send(struct.pack("=IHHII", len(body) + 16, kind, flags | _REQUEST, 0, 0) + body)

    def packets(self) -> Iterator[Packet]:
        """Those that have come, up to so many that others have their turn."""
        for _ in range(_AT_ONCE):
            try:
                data = self.socket.recv(1 << 17)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                if kind == _PACKET:
                    yield _packet(dict(_attributes(data[at + 20 : at + length])))
                at += (length + 3) & ~3

    def accept(self, number: int, changed: bytes | None = None) -> None:
        """Let a packet go, perhaps with other content."""
        attributes = [(_VERDICT_HEADER, struct.pack(">II", _ACCEPT, number))]
        self._send(_VERDICT, 0, attributes + ([(_PAYLOAD, changed)] if changed is not None else []))

    def drop(self, number: int) -> None:
        """Lose a packet."""
        self._send(_VERDICT, 0, [(_VERDICT_HEADER, struct.pack(">II", _DROP, number))])


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


def _packet(attributes: dict[int, bytes]) -> Packet:
    number, _, hook = struct.unpack(">IHB", attributes[_PACKET_HEADER])
    content = attributes[_PAYLOAD]
    device = attributes.get(_INTO) or attributes.get(_OUT_OF) or bytes(4)
    length = attributes.get(_WHOLE_LENGTH)
    whole = struct.unpack(">I", length)[0] if length else len(content)
    return Packet(number, hook == _LOCAL_IN, struct.unpack(">I", device)[0], whole, content)


class Sender:
    """Sends packets as they are, with ``MARK``: to others, or as if they had arrived, to this node itself."""

    def __init__(self) -> None:
        self._sockets = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # there is no IPv6
                self._sockets[family] = raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
                buffers.enlarge(raw, buffers.SENT, _BUFFER)
                raw.setblocking(False)

    def send(self, packet: Packet, content: bytes) -> None:
        """Send it, where there is a way."""
        with contextlib.suppress(OSError):
            if packet.is_ipv4:
                self._sockets[socket.AF_INET].sendto(content, (socket.inet_ntoa(packet.destination), 0))
            else:
                address = socket.inet_ntop(socket.AF_INET6, packet.destination)
                self._sockets[socket.AF_INET6].sendto(content, (address, 0, 0, packet.device))


@cache
def _largest(device: int) -> int:
    """The most bytes that can be sent through a device at once."""
    # Not from /sys, which may show the devices of another network namespace.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        request = struct.pack("16s16x", socket.if_indextoname(device).encode())
        mtu: int = struct.unpack_from("=i", fcntl.ioctl(asking, _SIOCGIFMTU, request), 16)[0]
        return mtu


class Degrade(resident.Work):
    """Lets the packets of a queue go as on a bad line; each link has a line of its own.

    ``quality``: ``delay`` and ``jitter`` in seconds; ``loss``, ``duplicate``, ``reorder`` and ``corrupt`` as shares of
    the packets; ``rate`` in bytes a second, 0 for no limit. ``leaving``: whether packets come that have yet to leave.
    """

    def __init__(self, number: int, quality: dict[str, float], seed: str, *, leaving: bool = False) -> None:
        whole = leaving or any(quality.get(share) for share in ("loss", "duplicate", "reorder", "corrupt"))
        self._queue = Queue(number, whole=whole)
        self._quality = quality
        self._random = random.Random(seed)
        self._held: list[tuple[float, int, bytes | None]] = []
        """Packets that wait: when they are due, and what is to be in them if something else."""
        self._copies: list[tuple[float, int, Packet, bytes]] = []
        """Packets that were dropped or doubled, to be sent from here."""
        self._line_free: dict[bytes, float] = {}
        self._sender = Sender()
        self._seen = dict.fromkeys(("packets", "delayed", "lost", "duplicated", "reordered", "corrupted"), 0)

    def files(self) -> list[int]:
        return [self._queue.socket.fileno()]

    def step(self) -> float:
        for packet in self._queue.packets():
            self._take(packet)
        now = time.monotonic()
        while self._held and self._held[0][0] <= now:
            _, number, changed = heapq.heappop(self._held)
            self._queue.accept(number, changed)
        while self._copies and self._copies[0][0] <= now:
            _, _, packet, content = heapq.heappop(self._copies)
            self._sender.send(packet, content)
        due = [heap[0][0] for heap in (self._held, self._copies) if heap]
        return min(due, default=now + 60.0) - now

    def _take(self, packet: Packet) -> None:
        quality, rng, now = self._quality, self._random, time.monotonic()
        self._seen["packets"] += 1
        line = packet.source if packet.arrived else packet.destination
        free = max(self._line_free.get(line, now), now)
        if self._happens("loss", "lost") or free - now > _LINE_SECONDS:
            self._queue.drop(packet.number)
            return
        due = now + quality.get("delay", 0.0) + quality.get("jitter", 0.0) * rng.random()
        if rate := quality.get("rate", 0.0):
            self._line_free[line] = free = free + packet.length / rate
            due = max(due, free)
        if self._happens("reorder", "reordered"):
            due += 0.01 + 0.05 * rng.random()
        changed = None
        if packet.length > packet.header and self._happens("corrupt", "corrupted"):
            spoiled = bytearray(packet.content)
            spoiled[rng.randrange(packet.header, len(spoiled))] ^= 1 << rng.randrange(8)
            changed = bytes(spoiled)
        if self._happens("duplicate", "duplicated"):
            self._copy(due + 0.05 * rng.random(), packet, packet.content)
        self._seen["delayed"] += due > now
        if packet.arrived or packet.length > _largest(packet.device):
            heapq.heappush(self._held, (due, packet.number, changed))
        else:
            self._copy(due, packet, changed or packet.content)
            self._queue.drop(packet.number)

    def _copy(self, due: float, packet: Packet, content: bytes) -> None:
        heapq.heappush(self._copies, (due, packet.number, packet, content))

    def _happens(self, what: str, counted: str) -> bool:
        happens = self._random.random() < self._quality.get(what, 0.0)
        self._seen[counted] += happens
        return happens

    def end(self) -> dict[str, Any]:
        """What still waits goes at once; what became of all, and what was lost although nobody asked for that."""
        lost = self._queue.overflowed()
        for _, number, changed in self._held:
            self._queue.accept(number, changed)
        for _, _, packet, content in sorted(self._copies):
            self._sender.send(packet, content)
        self._queue.socket.close()
        room = f"{self._queue.room >> 10} KiB, all that the kernel gives to wait in (net.core.rmem_max),"
        return {**self._seen, "note": f"{room} were too few: {lost} more packets were lost"} if lost else self._seen
