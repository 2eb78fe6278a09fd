"""Sees whether servers live, and reads what they print: records who has ended, and lines that tell of a crash.

Whether a fault has ended a server is not decided here: the checker ``crashes`` does, from the history.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from harness.cluster import Cluster, over_within
from harness.environments.base import LOG_TAIL, Node
from harness.errors import SplitbrainError, UsageError
from harness.operation import MONITOR, PRINTED, SERVER, Event
from harness.target import Target

_LOOK_SECONDS: Final = 2.0
_READ_EVERY: Final = 3
"""Logs are read at every so many looks, when a server has ended, and in the end."""
_PATIENCE_SECONDS: Final = 10.0
_MOST_LINES: Final = 20
"""How many lines of one server are recorded."""
_LONGEST: Final = 300

Patterns = Mapping[str, re.Pattern[str]]


def compiled(target: Target) -> Patterns:
    """What to look for in a target's logs. Raises ``UsageError`` for what is no regular expression."""
    patterns = {}
    for kind, pattern in target.log_patterns.items():
        try:
            patterns[kind] = re.compile(pattern)
        except re.error as error:
            raise UsageError(f"the target {target.name} has {pattern!r} in log_patterns: {error}") from None
    return patterns


class Surviving:
    """The servers of all nodes."""

    def __init__(
        self, cluster: Cluster, patterns: Patterns, clock: Callable[[], int], record: Callable[[Event], Any]
    ) -> None:
        self._nodes = [_Servers(node, patterns, clock, record) for node in cluster.nodes]

    async def until(self, over: asyncio.Event) -> None:
        """Look again and again until the run is over, and once more then: nobody has stopped the servers yet."""
        looks = 0
        while not over.is_set():
            await asyncio.gather(*(node.look(read=looks % _READ_EVERY == 0) for node in self._nodes))
            looks += 1
            await over_within(over, _LOOK_SECONDS)
        await asyncio.gather(*(node.look(read=True) for node in self._nodes))


class _Servers:
    """Those of one node."""

    def __init__(
        self, node: Node, patterns: Patterns, clock: Callable[[], int], record: Callable[[Event], Any]
    ) -> None:
        self._node = node
        self._patterns = patterns
        self._clock = clock
        self._record = record
        self._lives: dict[str, bool] = {}
        self._lived: dict[str, int] = {}
        """When each server was seen alive for the last time."""
        self._read: dict[str, int] = {}
        """When the log of each was read for the last time."""
        self._seen: dict[str, list[str]] = {}
        self._failure: str | None = None

    async def look(self, *, read: bool) -> None:
        """Record what has changed; a node that cannot be asked is told once."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                began = self._clock()
                for server, lives in (await self._node.running()).items():
                    await self._look_at(server, began, lives=lives, read=read)
            self._failure = None
        except (SplitbrainError, OSError) as error:  # a TimeoutError is one too
            why = str(error) or "it could not be asked in time"
            if why != self._failure:
                self._failure = why
                self._note(SERVER, None, why)

    async def _look_at(self, server: str, began: int, *, lives: bool, read: bool) -> None:
        before = self._lives.get(server)
        text = await self._node.log(server) if read or (before is not False and not lives) else None
        if before != lives:
            value: dict[str, Any] = {"server": server, "runs": lives}
            if not lives:
                last = next((line for line in reversed((text or "").splitlines()) if line.strip()), "")
                value |= {"since": self._lived.get(server, 0), "last": last.strip()[:_LONGEST]}
            self._note(SERVER, value)
        self._lives[server] = lives
        if lives:
            self._lived[server] = began
        if text is not None:
            self._search(server, text)

    def _search(self, server: str, text: str) -> None:
        now, since = self._clock(), self._read.get(server, 0)
        self._read[server] = now
        seen = self._seen.setdefault(server, [])
        # Of the last so many bytes the first line may be the end of one.
        lines = text[-LOG_TAIL:].splitlines()[len(text.encode()) >= LOG_TAIL :]
        for line in lines:
            kind = next((kind for kind, pattern in self._patterns.items() if pattern.search(line)), None)
            short = line.strip()[:_LONGEST]
            # Also one that had not been printed to its end when it was seen first.
            if kind is None or len(seen) >= _MOST_LINES or any(short.startswith(earlier) for earlier in seen):
                continue
            seen.append(short)
            self._note(PRINTED, {"server": server, "kind": kind, "line": short, "since": since})

    def _note(self, f: str, value: Any, error: str | None = None) -> None:
        self._record(Event(0, self._clock(), MONITOR, "info", f, value=value, node=self._node.name, error=error))
