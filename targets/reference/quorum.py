"""Leaderless replication with quorums: N nodes hold each key, a write waits for W of them and a read asks R.

Any node coordinates. It reads first, so that what it writes is later than what it found. With R + W > N the two meet
in at least one node, and with reads that write back what they found a register is linearizable (Attiya, Bar-Noy &
Dolev, "Sharing Memory Robustly in Message-Passing Systems", 1995; Lynch & Shvartsman, "Robust Emulation of Shared
Memory Using Dynamic Quorum-Acknowledged Broadcasts", 1997, for many writers). With sloppy quorums other nodes stand in
for those that do not answer, and hand over what they hold for them as soon as they can; then nodes merely converge
(DeCandia et al., "Dynamo: Amazon's Highly Available Key-value Store", 2007).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from harness.targets.reference.cells import Cell, dump, load
from harness.targets.reference.journal import Record
from harness.targets.reference.leaderless import Leaderless
from harness.targets.reference.peers import Message
from harness.targets.reference.replica import READS, NotPrimary, Site, Unavailable, Unknown
from harness.targets.reference.state import Answer

PATIENCE: Final = 0.35
"""Seconds that a coordinator waits for a quorum."""
STAND_IN: Final = 0.1
"""Seconds after which other nodes are asked to stand in for those that did not answer."""
HAND_OVER: Final = 0.5
"""Seconds between two tries to hand over what is held for another node."""


class Quorum(Leaderless):
    """A node that asks W of a key's nodes to write and R to read, and is one of those itself for other keys."""

    HANDLERS = Leaderless.HANDLERS | {
        "get": "_on_get",
        "put": "_on_put",
        "got": "_on_answer",
        "stored": "_on_answer",
        "taken": "_on_taken",
    }

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._rounds: dict[int, _Round] = {}
        # Answers to a node's former life must not be taken for answers to this one.
        self._last_round = self.host.rng.getrandbits(40)
        self._hints: dict[tuple[str, str], Cell] = {}
        for record in self._journal.records:
            if "hint" in record:
                self._hints[record["hint"], record["of"]] = load(record["cell"])
            elif "handed" in record:
                self._hints.pop((record["handed"], record["of"]), None)

    def start(self) -> None:
        super().start()
        if self.options.sloppy:
            self.host.later(HAND_OVER, self._hand_over)

    def status(self) -> dict[str, Any]:
        return super().status() | {"lag": len(self._hints), "hints": len(self._hints)}

    def homes(self, key: str) -> list[str]:
        """The N nodes that are to hold a key, by preference."""
        first = zlib.crc32(key.encode()) % len(self.nodes)
        return [self.nodes[(first + at) % len(self.nodes)] for at in range(min(self.options.n, len(self.nodes)))]

    def _shares(self, key: str, peer: str) -> bool:
        homes = self.homes(key)
        return self.name in homes and peer in homes

    def _quorums(self) -> tuple[int, int]:
        """How many answers a read and a write wait for."""
        return self.options.r, self.options.w

    # Clients

    async def execute(self, command: list[str]) -> Answer:
        key = command[1]
        homes = self.homes(key)
        is_read = command[0] in READS
        if self.name not in homes and not is_read and not self._takes_stamps(command):
            raise NotPrimary(homes[0])  # only a node that keeps the key can number its changes
        cell, agreeing = await self._read_quorum(key, homes)
        if is_read:
            if cell is not None:
                await self._settle(key, homes, cell, agreeing)
            return self._read(command, cell)
        if self.name in homes and key in self.cells:
            cell = self.cells[key] if cell is None else self._join(self.cells[key], cell)
        after, answer = self._change(command, cell)
        if after is not None:
            if self.name in homes:
                # On disk here before anybody else sees it: a change that others know must not get its number twice.
                self._take(key, after)
            await self._write_quorum(key, homes, after)
        return answer

    def peek(self, command: list[str]) -> Answer:
        if self.name not in self.homes(command[1]):
            raise Unavailable("this node is not one of those that hold the key")
        return super().peek(command)

    def _takes_stamps(self, command: list[str]) -> bool:
        """Whether what the command writes is ordered by a time stamp, which any node can give."""
        by_time = self.options.conflict.startswith("lww")
        return command[0] == "HSET" or (command[0] in ("SET", "DEL", "CAS") and by_time)

    async def _read_quorum(self, key: str, homes: Sequence[str]) -> tuple[Cell | None, set[str]]:
        """What R nodes know of a key, merged, and which of them know all of it."""
        need, _ = self._quorums()
        answers = await self._ask(self._readers(homes), {"kind": "get", "key": key}, need)
        if len(answers) < need:
            raise Unavailable(f"only {len(answers)} of the {need} nodes that a read needs have answered")
        cells = {node: load(dumped) for node, dumped in answers.items() if dumped is not None}
        merged = self._merged(cell for _, cell in sorted(cells.items()))
        self._learn(merged)
        return merged, {node for node, cell in cells.items() if cell == merged}

    def _merged(self, cells: Iterable[Cell]) -> Cell | None:
        """All cells in one; None of none."""
        merged: Cell | None = None
        for cell in cells:
            merged = cell if merged is None else self._join(merged, cell)
        return merged

    def _readers(self, homes: Sequence[str]) -> Sequence[str]:
        """Whom a read asks: with sloppy quorums everybody, since anybody may stand in for a home."""
        return self.nodes if self.options.sloppy else homes

    async def _settle(self, key: str, homes: Sequence[str], cell: Cell, agreeing: set[str]) -> None:
        """Before a read answers: W nodes must hold what it found, or the next read might find something older."""
        if len(agreeing) >= self._quorums()[1]:
            return
        if self.options.write_back:
            await self._write_quorum(key, homes, cell)
        else:
            self._repair(key, [home for home in homes if home not in agreeing], cell)

    def _repair(self, key: str, nodes: Iterable[str], cell: Cell) -> None:
        """Tell nodes that hold something older, without waiting for them (read repair)."""
        for node in nodes:
            self._deliver(node, {"kind": "put", "key": key, "cell": dump(cell), "id": 0, "hint": None})

    async def _write_quorum(self, key: str, homes: Sequence[str], cell: Cell) -> None:
        """Return once W nodes hold a cell. Raises ``Unknown``: the nodes that did answer keep it."""
        _, need = self._quorums()
        message = {"kind": "put", "key": key, "cell": dump(cell), "hint": None}
        if not self.options.sloppy:
            stored = len(await self._ask(homes, message, need))
        else:
            answered = await self._ask(homes, message, need, STAND_IN)
            silent = [home for home in homes if home not in answered]
            stored = len(answered)
            if stored < need:
                others = [node for node in (self.name, *self.nodes) if node not in homes]
                stand_ins = dict(zip(dict.fromkeys(others), silent, strict=False))
                hinted = await self._ask(stand_ins, message, need - stored, hints=stand_ins)
                stored += len(hinted)
        if stored < need:
            raise Unknown(f"only {stored} of the {need} nodes that a write needs have stored it")

    # Rounds of messages

    async def _ask(
        self,
        nodes: Iterable[str],
        message: Message,
        need: int,
        seconds: float = PATIENCE,
        hints: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send a message to nodes, and return the answers once there are enough, or no more time."""
        self._last_round += 1
        number = self._last_round
        round_ = self._rounds[number] = _Round(need, asyncio.get_running_loop().create_future())
        timer = self.host.later(seconds, round_.end)
        try:
            for node in nodes:
                self._deliver(node, {**message, "id": number, **({"hint": hints[node]} if hints else {})})
            await round_.over
        finally:
            timer.cancel()
            del self._rounds[number]
        return round_.answers

    def _deliver(self, node: str, message: Message) -> None:
        if node == self.name:
            self.receive({**message, "sender": self.name})
        else:
            self._post(node, message)

    def _on_answer(self, sender: str, message: Message) -> None:
        round_ = self._rounds.get(message["id"])
        if round_ is not None:
            round_.take(sender, message.get("cell"))

    def _on_get(self, sender: str, message: Message) -> None:
        key = message["key"]
        known = [self.cells[key]] if key in self.cells else []
        known += [cell for (_, of), cell in self._hints.items() if of == key]
        merged = self._merged(known)
        answer = None if merged is None else dump(merged)
        self._deliver(sender, {"kind": "got", "id": message["id"], "cell": answer})

    def _on_put(self, sender: str, message: Message) -> None:
        key, cell = message["key"], load(message["cell"])
        if message["hint"] is None:
            self._take(key, cell)
        else:
            self._hold_hint(message["hint"], key, cell)
        if message["id"]:
            self._deliver(sender, {"kind": "stored", "id": message["id"]})

    # Hinted handoff

    def _hold_hint(self, home: str, key: str, cell: Cell) -> None:
        """Keep a cell for a node that did not answer; on disk when this returns."""
        hint = self._hints.get((home, key))
        cell = cell if hint is None else self._join(hint, cell)
        self._hints[home, key] = cell
        self._journal.append([{"hint": home, "of": key, "cell": dump(cell)}])

    def _hand_over(self) -> None:
        for (home, key), cell in self._hints.items():
            message = {"kind": "cells", "cells": [[key, dump(cell)]], "handed": True}
            self._post(home, message)
        self.host.later(HAND_OVER, self._hand_over)

    def _on_cells(self, sender: str, message: Message) -> None:
        super()._on_cells(sender, message)
        if message.get("handed"):
            self._post(sender, {"kind": "taken", "cells": message["cells"]})

    def _on_taken(self, sender: str, message: Message) -> None:
        """A home has what was held for it."""
        for key, dumped in message["cells"]:
            held = self._hints.get((sender, key))
            if held is not None and held == load(dumped):
                del self._hints[sender, key]
                self._journal.append([{"handed": sender, "of": key}])

    def _all_records(self) -> Iterable[Record]:
        yield from super()._all_records()
        yield from ({"hint": home, "of": key, "cell": dump(cell)} for (home, key), cell in self._hints.items())


class _Round:
    """The answers to one question."""

    def __init__(self, need: int, over: asyncio.Future[None]) -> None:
        self._need = need
        self.over = over
        self.answers: dict[str, Any] = {}

    def take(self, node: str, answer: Any) -> None:
        """Count the answer of a node; enough of them are the end of waiting."""
        self.answers[node] = answer
        if len(self.answers) >= self._need:
            self.end()

    def end(self) -> None:
        """There are enough answers, or no more time."""
        if not self.over.done():
            self.over.set_result(None)
