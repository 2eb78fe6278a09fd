"""A bad network in userspace: packets wait in a queue of the kernel's firewall until this lets them go, late or never.

For kernels without the queueing discipline netem. Speaks the kernel's netlink protocol for NFQUEUE by itself (see
linux/netfilter/nfnetlink_queue.h), so a node needs nothing but Python. Packets of connections arrive whole and with
their checksums, so a corrupt one is noticed by its receiver.
"""

from __future__ import annotations

import errno
import heapq
import os
import random
import socket
import struct
import time
from collections.abc import Iterator

from harness.faults import resident

MARK = 0x5B
"""Set on packets that were let through already: copies must not wait a second time."""

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_NO_ENOBUFS = 270, 5
_SO_RCVBUFFORCE = 33
_PACKET, _VERDICT, _CONFIG = 0x300, 0x301, 0x302
_ERROR = 2
_REQUEST, _ACK = 1, 4
_COMMAND, _PARAMETERS, _LENGTH = 1, 2, 3
_PACKET_HEADER, _VERDICT_HEADER, _PAYLOAD = 1, 2, 10
_DROP, _ACCEPT = 0, 1
_COPY_WHOLE = 2


class Queue:
    """One queue of the firewall in this network namespace."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self.socket.bind((0, 0))
        self.socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        self._configure(_COMMAND, struct.pack(">BBH", 1, 0, socket.AF_INET))
        self._configure(_PARAMETERS, struct.pack(">IB", 0xFFFF, _COPY_WHOLE))
        self._configure(_LENGTH, struct.pack(">I", 10_000))
        self.socket.setblocking(False)

    def _configure(self, kind: int, value: bytes) -> None:
        self._send(_CONFIG, _ACK, [(kind, value)])
        answer = self.socket.recv(65536)
        code = -struct.unpack_from("=i", answer, 16)[0] if struct.unpack_from("=H", answer, 4)[0] == _ERROR else 0
        if code:
            raise OSError(code, f"this kernel gives no packet queue: {os.strerror(code)}")

    def _send(self, kind: int, flags: int, attributes: list[tuple[int, bytes]]) -> None:
        body = struct.pack(">BBH", socket.AF_UNSPEC, 0, self._number)
        for name, value in attributes:
            body += struct.pack("=HH", len(value) + 4, name) + value + bytes(-len(value) % 4)
        self.socket.send(struct.pack("=IHHII", len(body) + 16, kind, flags | _REQUEST, 0, 0) + body)

    def packets(self) -> Iterator[tuple[int, bytes]]:
        """Those that have come: number and content from the IP header on."""
        while True:
            try:
                data = self.socket.recv(1 << 17)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                if kind == _PACKET:
                    found = dict(_attributes(data[at + 20 : at + length]))
                    yield struct.unpack_from(">I", found[_PACKET_HEADER])[0], found.get(_PAYLOAD, b"")
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


class Degrade(resident.Work):
    """Lets the packets of a queue go as on a bad line.

    ``quality``: ``delay`` and ``jitter`` in seconds; ``loss``, ``duplicate``, ``reorder`` and ``corrupt`` as shares of
    the packets; ``rate`` in bytes a second, 0 for no limit.
    """

    def __init__(self, number: int, quality: dict[str, float], seed: str) -> None:
        self._queue = Queue(number)
        self._quality = quality
        self._random = random.Random(seed)
        self._waiting: list[tuple[float, int, bytes | None]] = []
        self._copies: list[tuple[float, int, bytes]] = []
        self._line_free = 0.0
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        self._raw.setblocking(False)
        self._seen = dict.fromkeys(("packets", "delayed", "lost", "duplicated", "reordered", "corrupted"), 0)

    def files(self) -> list[int]:
        return [self._queue.socket.fileno()]

    def ask(self, request: object) -> dict[str, int]:
        """How many packets came so far, and what became of them."""
        return self._seen

    def step(self) -> float:
        for number, packet in self._queue.packets():
            self._take(number, packet)
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, number, changed = heapq.heappop(self._waiting)
            self._queue.accept(number, changed)
        while self._copies and self._copies[0][0] <= now:
            self._send_copy(heapq.heappop(self._copies)[2])
        due = [heap[0][0] for heap in (self._waiting, self._copies) if heap]
        return min(due, default=now + 60.0) - now

    def _take(self, number: int, packet: bytes) -> None:
        quality, rng, now = self._quality, self._random, time.monotonic()
        self._seen["packets"] += 1
        if self._happens("loss", "lost"):
            self._queue.drop(number)
            return
        due = now + quality.get("delay", 0.0) + quality.get("jitter", 0.0) * rng.random()
        if rate := quality.get("rate", 0.0):
            self._line_free = max(self._line_free, now) + len(packet) / rate
            due = max(due, self._line_free)
        if self._happens("reorder", "reordered"):
            due += 0.01 + 0.05 * rng.random()
        changed = None
        if len(packet) > 20 and self._happens("corrupt", "corrupted"):
            spoiled = bytearray(packet)
            spoiled[rng.randrange((packet[0] & 15) * 4, len(packet))] ^= 1 << rng.randrange(8)
            changed = bytes(spoiled)
        if self._happens("duplicate", "duplicated"):
            heapq.heappush(self._copies, (due + 0.05 * rng.random(), number, packet))
        self._seen["delayed"] += due > now
        heapq.heappush(self._waiting, (due, number, changed))

    def _happens(self, what: str, counted: str) -> bool:
        happens = self._random.random() < self._quality.get(what, 0.0)
        self._seen[counted] += happens
        return happens

    def _send_copy(self, packet: bytes) -> None:
        try:
            self._raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EMSGSIZE, errno.EPERM, errno.EHOSTUNREACH, errno.ENETUNREACH):
                raise

    def end(self) -> dict[str, int]:
        """What still waits goes at once."""
        for _, number, changed in self._waiting:
            self._queue.accept(number, changed)
        self._queue.socket.close()
        return self._seen
