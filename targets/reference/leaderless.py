"""What the modes without a primary have in common: cells on disk, commands on them, and comparing them with a peer's.

Every node takes writes. What becomes of two that did not know of one another is the option ``conflict``; counters,
sets and hashes are CRDTs and need no such choice.
"""

from __future__ import annotations

import importlib
import json
import zlib
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

from harness.targets.reference.cells import Cell, Counter, Elements, Fields, Last, Siblings, dump, load, stamps
from harness.targets.reference.clocks import HybridClock, WallClock
from harness.targets.reference.journal import Journal, Record
from harness.targets.reference.merkle import ROOT, Tree, leaf_of
from harness.targets.reference.peers import Message
from harness.targets.reference.replica import BASIC, READS, Site, Unavailable
from harness.targets.reference.state import Answer

ANTI_ENTROPY: Final = 1.0
"""Seconds between two comparisons with a random peer."""
_COMPACT: Final = 5000
"""The journal is rewritten when it has this many records, and twice as many as there are keys."""
_WRONG_TYPE: Final = {"error": "WRONGTYPE the key holds another kind of value"}


class Leaderless:
    """One node. A ``change`` is a command's effect on a key: a new cell, merged into what is there."""

    HANDLERS: ClassVar[dict[str, str]] = {"cells": "_on_cells", "tree": "_on_tree", "leaves": "_on_leaves"}
    role = "peer"
    commands: ClassVar[frozenset[str]] = BASIC | {"HSET", "HGETALL"}

    def __init__(self, site: Site) -> None:
        self.name = site.name
        self.nodes = site.nodes
        self.peers = [node for node in site.nodes if node != site.name]
        self.host = site.host
        self.options = site.options
        self._send = site.send
        self.cells: dict[str, Cell] = {}
        self._digests: dict[str, int] = {}
        self._journal = self._open_journal(site)
        for record in self._journal.records:
            if "key" in record:
                self._place(record["key"], load(record["cell"]), record["cell"])
        self._clock = self._make_clock()
        for cell in self.cells.values():
            self._learn(cell)
        self.conflicts = 0
        self._merge_values = _function(site.options.merge) if site.options.conflict == "merge" else None
        self._handlers: dict[str, Callable[[str, Message], None]] = {
            kind: getattr(self, method) for kind, method in self.HANDLERS.items()
        }

    def _open_journal(self, site: Site) -> Journal:
        return Journal(site.host.open(f"{site.data}/cells.a"), site.host.open(f"{site.data}/cells.b"))

    def _make_clock(self) -> HybridClock | WallClock:
        if self.options.conflict == "lww-wall":
            return WallClock(self.host, self.name)
        return HybridClock(self.host, self.name, self._journal)

    def start(self) -> None:
        """Begin to compare with others in the background."""
        if self.options.anti_entropy and self.peers:
            self._compare_later()

    def status(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "term": 0,
            "primary": None,
            "log_entries": self._journal.size,
            "keys": len(self.cells),
            "conflicts": self.conflicts,
            "storage_bytes": self._journal.bytes,
            "lag": 0,
        }

    # Commands

    async def execute(self, command: list[str]) -> Answer:
        """Execute a client's command here, and tell the others afterwards."""
        if command[0] in READS:
            return self.peek(command)
        key = command[1]
        after, answer = self._change(command, self.cells.get(key))
        if after is not None and self._take(key, after):
            self._spread([key])
        return answer

    def _spread(self, keys: list[str]) -> None:
        """Keys have changed here: tell other nodes."""

    def peek(self, command: list[str]) -> Answer:
        return self._read(command, self.cells.get(command[1]))

    def _read(self, command: list[str], cell: Cell | None) -> Answer:
        """What a read finds in a cell."""
        name = command[0]
        if cell is None:
            return None if name == "GET" else []
        wanted: dict[str, type[Elements] | type[Fields]] = {"SMEMBERS": Elements, "HGETALL": Fields}
        if name in wanted:
            return cell.read() if isinstance(cell, wanted[name]) else _WRONG_TYPE
        if isinstance(cell, Last):
            return cell.value
        if isinstance(cell, Counter):
            return str(cell.read())
        if not isinstance(cell, Siblings):
            return _WRONG_TYPE
        values = cell.read()
        if len(values) > 1 and self._merge_values is not None:
            return self._merge_values(values)
        return values if len(values) > 1 else next(iter(values), None)

    def _change(self, command: list[str], cell: Cell | None) -> tuple[Cell | None, Answer]:
        """The cell after a command, and its answer. Raises ``Unavailable`` for what needs one order of writes."""
        name, _, *arguments = command
        if name == "CAS":
            raise Unavailable("compare-and-set needs one order of all writes, which this mode does not have")
        if name in ("SET", "DEL"):
            return self._overwrite(cell, arguments[0] if name == "SET" else None)
        kinds: dict[str, type[Counter] | type[Elements] | type[Fields]] = {
            "INCRBY": Counter,
            "SADD": Elements,
            "SREM": Elements,
            "HSET": Fields,
        }
        before = kinds[name]() if cell is None or (isinstance(cell, Last) and cell.value is None) else cell
        if not isinstance(before, kinds[name]):
            return cell, _WRONG_TYPE
        if isinstance(before, Counter):
            after = before.change(self.name, int(arguments[0]))
            return after, after.read()
        if isinstance(before, Elements):
            present = arguments[0] in before.read()
            if name == "SADD":
                return before.add(self.name, arguments[0]), int(not present)
            return before.remove(arguments[0]), int(present)
        assert isinstance(before, Fields)
        return before.write(arguments[0], arguments[1], self._clock.stamp()), 1

    def _overwrite(self, cell: Cell | None, value: str | None) -> tuple[Cell, Answer]:
        answer: Answer = "OK" if value is not None else int(cell is not None)
        if cell is not None and not isinstance(cell, Last | Siblings):
            return cell, _WRONG_TYPE
        if self.options.conflict in ("siblings", "merge"):
            before = cell if isinstance(cell, Siblings) else Siblings()
            return before.write(self.name, value), answer
        return Last(value, self._clock.stamp()), answer

    # Cells

    def _take(self, key: str, cell: Cell) -> bool:
        """Merge a cell into what is here, on disk when this returns; whether that changed anything."""
        self._learn(cell)
        mine = self.cells.get(key)
        after = cell if mine is None else self._join(mine, cell)
        if mine is not None and after == mine:
            return False
        dumped = dump(after)
        self._journal.append([{"key": key, "cell": dumped}])
        self._place(key, after, dumped)
        if self._journal.size > max(_COMPACT, 2 * len(self.cells)):
            self._journal.rewrite(self._all_records())
        return True

    def _learn(self, cell: Cell | None) -> None:
        """Whatever is written here from now on is later than what is in this cell."""
        for stamp in stamps(cell):
            self._clock.saw(stamp)

    def _join(self, mine: Cell, theirs: Cell) -> Cell:
        """The least that includes both. Cells of different kinds cannot be merged: the kind decides."""
        if type(mine) is not type(theirs):
            return max(mine, theirs, key=lambda cell: cell.kind)
        joined = mine.merge(theirs)
        self.conflicts += joined not in (mine, theirs)
        return joined

    def _place(self, key: str, cell: Cell, dumped: Any) -> None:
        self.cells[key] = cell
        self._digests[key] = zlib.crc32(json.dumps(dumped, sort_keys=True).encode())

    def _all_records(self) -> Iterable[Record]:
        """What the journal must say to say all."""
        if isinstance(self._clock, HybridClock):
            yield {"clock": self._clock.reserved}
        yield from ({"key": key, "cell": dump(cell)} for key, cell in self.cells.items())

    # Anti-entropy: two nodes compare digests from the root of a tree down, and exchange what is in the differing leaves

    def _shares(self, key: str, peer: str) -> bool:
        """Whether a peer is to hold this key too."""
        return True

    def _tree(self, peer: str) -> Tree:
        return Tree({key: digest for key, digest in self._digests.items() if self._shares(key, peer)})

    def _compare_later(self) -> None:
        self.host.later(self.host.rng.uniform(0.5, 1.5) * ANTI_ENTROPY, self._compare)

    def _compare(self) -> None:
        peer = self.host.rng.choice(self.peers)
        self._post(peer, {"kind": "tree", "nodes": [(ROOT, self._tree(peer)[ROOT])]})
        self._compare_later()

    def _on_tree(self, sender: str, message: Message) -> None:
        tree = self._tree(sender)
        differing = tree.differing(((level, number), digest) for (level, number), digest in message["nodes"])
        if not differing:
            return
        if below := tree.children(differing):
            self._post(sender, {"kind": "tree", "nodes": below})
        else:
            leaves = [number for _, number in differing]
            self._post(sender, {"kind": "leaves", "leaves": leaves, "cells": self._in_leaves(sender, leaves)})

    def _on_leaves(self, sender: str, message: Message) -> None:
        self._post(sender, {"kind": "cells", "cells": self._in_leaves(sender, message["leaves"])})
        self._on_cells(sender, message)

    def _in_leaves(self, peer: str, leaves: Iterable[int]) -> list[Any]:
        wanted = set(leaves)
        keys = [key for key in self.cells if leaf_of(key) in wanted and self._shares(key, peer)]
        return [[key, dump(self.cells[key])] for key in keys]

    def _on_cells(self, sender: str, message: Message) -> None:
        for key, dumped in message["cells"]:
            self._take(key, load(dumped))

    # Messages

    def _post(self, peer: str, message: Message) -> None:
        message["sender"] = self.name
        self._send(peer, message)

    def receive(self, message: Message) -> None:
        """Handle a peer's message."""
        handler = self._handlers.get(message["kind"])
        if handler is not None:
            handler(message["sender"], message)


def _function(name: str) -> Callable[[list[str]], str]:
    module, _, attribute = name.partition(":")
    function: Callable[[list[str]], str] = getattr(importlib.import_module(module), attribute)
    return function
