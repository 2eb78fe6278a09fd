"""See what a network does to packets: numbered datagrams between machines, echoed and counted at both ends.

Runs on all machines concerned at the same time. It is no part of what makes faults, and asks nothing of the servers
under test, so that it measures the network alone, whether they run or not.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import defaultdict
from itertools import pairwise
from typing import TypedDict

from harness.faults import buffers

LEAST_SIZE = 48
MARK = 0x5C
"""Set on what is sent, where that is allowed: no firewall of the node's own need take it for a server's."""
_BUFFER = 8 << 20


class _Needed(TypedDict):
    me: str
    peers: dict[str, str]
    session: str
    port: int
    every: float
    seconds: float
    linger: float


class Asked(_Needed, total=False):
    """One machine's part of a measurement.

    ``me``, the own name; ``peers``, addresses by name; ``session``, told apart from others', on a ``port`` of its own,
    the same on all machines; ``every`` so many seconds a datagram to each, for ``seconds``, and ``linger`` seconds
    longer of listening. Perhaps ``address`` to be reached at, ``size`` and ``burst`` (how many bytes at once, in how
    many datagrams), and ``enough``: end once so many came from each of ``senders``, and as many came back from each
    peer.
    """

    address: str
    size: int
    burst: int
    enough: int
    senders: list[str]


class Summary(TypedDict):
    """What came from one peer, and came back.

    ``missed``: of the numbers between the first and the last that came those that did not;
    ``first``: what was lost before; ``hole``: most of them in a row; ``rate``: bytes a second;
    ``round_trips``: seconds, the shortest, and those that a tenth and nine tenths are shorter than.
    """

    sent: int
    heard: int
    missed: int
    doubled: int
    overtaken: int
    first: int | None
    hole: int
    rate: float | None
    round_trips: list[float] | None


class Watched(TypedDict):
    """What was seen of each peer, how many seconds this lasted, and how many datagrams were damaged, if that shows.

    ``stalled``: for how many seconds, at the longest, the machine did nothing although it was time.
    """

    lasted: float
    stalled: float
    damaged: int | None
    peers: dict[str, Summary]


class Tally:
    """What came from one peer, and how long what went there and back took."""

    def __init__(self) -> None:
        self.sent = 0
        self._numbers: set[int] = set()
        self._latest = -1
        self._doubled = 0
        self._overtaken = 0
        self._arrived: list[tuple[float, int]] = []
        self._round_trips: list[float] = []

    def hear(self, number: int, size: int, now: float) -> None:
        """A numbered datagram of so many bytes arrives."""
        if number in self._numbers:
            self._doubled += 1
            return
        self._overtaken += number < self._latest
        self._latest = max(self._latest, number)
        self._numbers.add(number)
        self._arrived.append((now, size))

    def answered(self, seconds: float) -> None:
        """An echo comes back after so many seconds."""
        self._round_trips.append(seconds)

    @property
    def heard(self) -> int:
        """How many came from the peer."""
        return len(self._numbers)

    @property
    def returned(self) -> int:
        """How many came back from it."""
        return len(self._round_trips)

    def summary(self) -> Summary:
        """All of it as JSON."""
        numbers, times = sorted(self._numbers), sorted(self._round_trips)
        lasted = self._arrived[-1][0] - self._arrived[0][0] if self._arrived else 0.0
        return {
            "sent": self.sent,
            "heard": len(numbers),
            "missed": numbers[-1] - numbers[0] + 1 - len(numbers) if numbers else 0,
            "doubled": self._doubled,
            "overtaken": self._overtaken,
            "first": numbers[0] if numbers else None,
            "hole": max((b - a - 1 for a, b in pairwise(numbers)), default=0),
            "rate": sum(size for _, size in self._arrived[1:]) / lasted if lasted else None,
            "round_trips": [times[0], times[len(times) // 10], times[len(times) * 9 // 10]] if times else None,
        }


def has_enough(tallies: dict[str, Tally], asked: Asked) -> bool:
    """Whether something was called enough, and all of that was heard."""
    enough = asked.get("enough", 0)
    heard = all(tallies[name].heard >= enough for name in asked.get("senders", ()))
    return enough > 0 and heard and all(tallies[name].returned >= enough for name in asked["peers"])


class Watch:
    """One machine's part of a measurement: it sends to its peers, echoes, and counts.

    Raises ``OSError`` if another program has the port.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._me, self._peers, self._port = asked["me"], asked["peers"], asked["port"]
        self._mark = f"{asked['session']} ".encode()
        self._every, self._seconds, self._linger = asked["every"], asked["seconds"], asked["linger"]
        self._burst, self._size = asked.get("burst", 1), asked.get("size", LEAST_SIZE)
        self._tallies: dict[str, Tally] = defaultdict(Tally)
        self._sent: dict[tuple[str, int], float] = {}
        self._number = 0
        self._line = _bound(asked.get("address", ""), self._port)

    def run(self) -> Watched:
        """Watch; what was seen."""
        damaged = _damaged()
        began = due = time.monotonic()
        over = began + self._seconds
        end = over + self._linger
        satisfied, stalled, awaited = False, 0.0, began
        with self._line:
            while (now := time.monotonic()) < end:
                stalled = max(stalled, now - awaited)
                if due <= now < over:
                    self._ping(now)
                    due = max(due + self._every, now)
                awaited = max(min(due if due < over else end, end), now)
                self._hear(awaited - time.monotonic())
                if not satisfied and has_enough(self._tallies, self._asked):
                    # Others may have begun later, and need a few more.
                    satisfied, end = True, min(end, now + self._linger)
        return {
            "lasted": time.monotonic() - began,
            "stalled": max(stalled, now - awaited),
            "damaged": _damaged() - damaged,
            "peers": {name: tally.summary() for name, tally in self._tallies.items()},
        }

    def _ping(self, now: float) -> None:
        for _ in range(self._burst):
            for name, address in self._peers.items():
                self._send(address, "ping", self._number, self._me, name)
                self._tallies[name].sent += 1
                self._sent[name, self._number] = now
            self._number += 1

    def _send(self, address: str, kind: str, number: int, sender: str, receiver: str) -> None:
        words = self._mark + f"{kind} {number} {sender} {receiver} ".encode()
        with contextlib.suppress(OSError):  # there is no way, says another fault
            self._line.sendto(words.ljust(self._size if kind == "ping" else 0, b"x"), (address, self._port))

    def _hear(self, wait: float) -> None:
        """Handle what has come when something came, or the wait is over."""
        if not select.select([self._line], [], [], max(wait, 0.0))[0]:
            return
        for _ in range(64):
            try:
                data, (address, _) = self._line.recvfrom(65536)
            except BlockingIOError:
                return
            except OSError:  # an answer to an earlier datagram: nobody there, or no way
                continue
            if not data.startswith(self._mark):  # somebody else's
                continue
            kind, number, sender, receiver = data.decode().split()[1:5]
            if kind == "ping":
                self._tallies[sender].hear(int(number), len(data), time.monotonic())
                self._send(address, "pong", int(number), receiver, sender)
            elif began := self._sent.pop((sender, int(number)), None):
                self._tallies[sender].answered(time.monotonic() - began)


def _bound(address: str, port: int) -> socket.socket:
    # Not to be shared: of two who have one port only the later hears anything.
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    buffers.enlarge(line, buffers.RECEIVED, _BUFFER)
    with contextlib.suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    line.bind((address, port))
    line.setblocking(False)
    return line


def _damaged() -> int:
    """How many datagrams of this network namespace had a wrong checksum so far."""
    with open("/proc/net/snmp") as table:
        names, values = [line.split()[1:] for line in table if line.startswith("Udp:")]
    return int(dict(zip(names, values, strict=True)).get("InCsumErrors", 0))


def watch(asked: Asked) -> Watched:
    """Watch, as ``asked``. Raises ``OSError`` if another program has the port."""
    return Watch(asked).run()


VERBS = (watch,)
