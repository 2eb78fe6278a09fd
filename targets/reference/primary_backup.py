"""Primary-backup replication with an elected primary.

One primary orders all commands in its log and sends them to the backups. When a backup hears nothing from a primary
for a while it stands for election in a higher term; a majority of votes makes it primary, and nobody votes for a log
that is behind its own. What an acknowledgement means is the mode's choice:

``sync``   a command is acknowledged when a majority holds it on disk, and a read is answered when a majority still
           followed this primary after the read arrived. Linearizable whatever is cut, paused or killed.
``async``  a command is acknowledged when it is on the primary's own disk, and reads are answered at once. Writes
           that no backup had yet received are lost with the primary, and a primary that was cut off does not know it.

After Oki & Liskov, "Viewstamped Replication" (1988), and Ongaro & Ousterhout, "In Search of an Understandable
Consensus Algorithm" (2014) for the election and the matching of logs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from targets.reference.log import Entry, Log
from targets.reference.state import State

Message = dict[str, Any]
Send = Callable[[str, Message], None]

HEARTBEAT = 0.05
ELECTION = (0.3, 0.6)
"""Seconds without a word from a primary after which a backup stands for election: a random time from this range."""
BATCH = 500
"""The most entries in one message."""


class NotPrimary(Exception):  # noqa: N818 - what the client reads
    """This node cannot answer; ``primary`` is who it believes can."""

    def __init__(self, primary: str | None) -> None:
        super().__init__(f"NOTPRIMARY {primary or '?'}")
        self.primary = primary


class Replica:
    """One node. ``receive`` takes the peers' messages, ``execute`` and ``read`` serve clients."""

    def __init__(self, name: str, peers: list[str], log: Log, send: Send, *, sync: bool, rng: random.Random) -> None:
        self.name = name
        self.peers = peers
        self.log = log
        self.role = "backup"
        self.primary: str | None = None
        self.state = State()
        self._applied = 0
        self._committed = 0
        self._send = send
        self._sync = sync
        self._rng = rng
        self._votes: set[str] = set()
        self._next: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._round = 0
        self._confirmed: dict[str, int] = {}
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._progress = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._apply()

    def start(self) -> None:
        """Begin to wait for a primary."""
        self._expect_primary()

    @property
    def majority(self) -> int:
        """How many nodes are more than half of all, this one included."""
        return (len(self.peers) + 1) // 2 + 1

    # Clients

    async def execute(self, command: list[str]) -> Any:
        """Order a command and return what it answered once it is acknowledged. Raises ``NotPrimary``."""
        if self.role != "primary":
            raise NotPrimary(self.primary)
        self.log.append(self.log.last + 1, [Entry(self.log.term, command)])
        index = self.log.last
        future = self._waiting[index] = asyncio.get_running_loop().create_future()
        if len(self.peers) == 0 or not self._sync:
            self._advance()
        self._replicate()
        return await future

    async def read(self, key: str) -> str | None:
        """The value of a key. Raises ``NotPrimary``."""
        if self.role != "primary":
            raise NotPrimary(self.primary)
        if self._sync and self.peers:
            await self._confirm()
        return self.state.get(key)

    async def _confirm(self) -> None:
        """Wait until a majority followed this primary after now, and all that was committed before now is applied."""
        term = self.log.term
        self._round += 1
        mine = self._round
        committed = self._committed
        self._replicate()
        while True:
            if self.role != "primary" or self.log.term != term:
                raise NotPrimary(self.primary)
            following = sum(self._confirmed.get(peer, 0) >= mine for peer in self.peers) + 1
            # Until an entry of its own term is committed, a new primary does not know what its predecessor committed.
            caught_up = self.log.term_of(self._committed) == term and self._applied >= committed
            if following >= self.majority and caught_up:
                return
            self._progress.clear()
            await self._progress.wait()

    # Replication

    def _replicate(self) -> None:
        for peer in self.peers:
            first = self._next.get(peer, self.log.last + 1)
            entries = self.log.entries[first - 1 : first - 1 + BATCH]
            message = {"kind": "append", "previous": first - 1, "previous_term": self.log.term_of(first - 1)}
            message |= {"entries": entries, "committed": self._committed, "round": self._round}
            self._post(peer, message)
            # Assume that it arrives; a backup that misses something says so.
            self._next[peer] = first + len(entries)

    def _heartbeat(self, term: int) -> None:
        if self.role == "primary" and self.log.term == term:
            for peer, held in self._held.items():
                self._next[peer] = min(self._next[peer], held + 1)
            self._replicate()
            asyncio.get_running_loop().call_later(HEARTBEAT, self._heartbeat, term)

    def _on_append(self, sender: str, message: Message) -> None:
        self.primary = sender
        if self.role != "backup":
            self._step_down()
        self._expect_primary()
        previous = message["previous"]
        if self.log.term_of(previous) != message["previous_term"]:
            self._post(sender, {"kind": "missing", "from": self._first_doubtful(previous)})
            return
        entries = [Entry(*entry) for entry in message["entries"]]
        at = previous + 1
        while entries and self.log.term_of(at) == entries[0].term:
            entries.pop(0)
            at += 1
        if entries:
            if at <= self._applied:
                self._rebuild(at)
            self.log.append(at, entries)
        held = previous + len(message["entries"])
        self._committed = max(self._committed, min(message["committed"], held))
        self._apply()
        self._post(sender, {"kind": "held", "held": held, "round": message["round"]})

    def _first_doubtful(self, index: int) -> int:
        """Where a primary whose entry at ``index`` is another one should go on: at the start of our entry's term."""
        if index > self.log.last:
            return self.log.last + 1
        term = self.log.term_of(index)
        while index > 1 and self.log.term_of(index - 1) == term:
            index -= 1
        return index

    def _on_held(self, sender: str, message: Message) -> None:
        if self.role != "primary":
            return
        self._held[sender] = max(self._held.get(sender, 0), message["held"])
        self._confirmed[sender] = max(self._confirmed.get(sender, 0), message["round"])
        self._advance()

    def _on_missing(self, sender: str, message: Message) -> None:
        if self.role == "primary":
            self._next[sender] = max(1, message["from"])

    def _advance(self) -> None:
        """Commit what enough nodes hold; only entries of this term, which carry all earlier ones with them."""
        held = sorted([self.log.last, *(self._held.get(peer, 0) for peer in self.peers)], reverse=True)
        enough = held[self.majority - 1] if self._sync else self.log.last
        if self.log.term_of(enough) == self.log.term:
            self._committed = max(self._committed, enough)
        self._apply()
        self._progress.set()

    def _apply(self) -> None:
        """Run the committed commands, in ``async`` mode all commands, and answer whoever waits for one."""
        end = self._committed if self._sync else self.log.last
        while self._applied < end:
            self._applied += 1
            answer = self.state.apply(self.log.entries[self._applied - 1].command)
            future = self._waiting.pop(self._applied, None)
            if future is not None and not future.done():
                future.set_result(answer)

    def _rebuild(self, index: int) -> None:
        """Forget what the commands from ``index`` on did: another primary ordered others in their place."""
        self.state = State()
        for entry in self.log.entries[: index - 1]:
            self.state.apply(entry.command)
        self._applied = index - 1

    # Elections

    def _expect_primary(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._rng.uniform(*ELECTION), self._stand)

    def _stand(self) -> None:
        if self.role == "primary":
            return
        self.role, self.primary = "candidate", None
        self.log.vote(self.log.term + 1, self.name)
        self._votes = {self.name}
        self._expect_primary()
        for peer in self.peers:
            self._post(peer, {"kind": "vote?", "last": self.log.last, "last_term": self.log.term_of(self.log.last)})
        self._count_votes()

    def _on_vote_request(self, sender: str, message: Message) -> None:
        mine = (self.log.term_of(self.log.last), self.log.last)
        if self.log.voted_for in (None, sender) and (message["last_term"], message["last"]) >= mine:
            if self.log.voted_for is None:
                self.log.vote(self.log.term, sender)
            self._expect_primary()
            self._post(sender, {"kind": "vote"})

    def _on_vote(self, sender: str, _message: Message) -> None:
        if self.role == "candidate":
            self._votes.add(sender)
            self._count_votes()

    def _count_votes(self) -> None:
        if len(self._votes) < self.majority:
            return
        self.role, self.primary = "primary", self.name
        self._next = dict.fromkeys(self.peers, self.log.last + 1)
        self._held, self._confirmed, self._round = {}, {}, 0
        self.log.append(self.log.last + 1, [Entry(self.log.term, [])])
        self._advance()
        self._heartbeat(self.log.term)

    def _step_down(self) -> None:
        """Back to backup. Whoever still waits is told that this node is not primary; the outcome is unknown to it."""
        self.role = "backup"
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the primary changed"))
        self._progress.set()
        self._expect_primary()

    # Messages

    def _post(self, peer: str, message: Message) -> None:
        self._send(peer, {**message, "term": self.log.term, "sender": self.name})

    def receive(self, message: Message) -> None:
        """Handle a peer's message: those of an older term are void, a newer term ends any role here."""
        if message["term"] < self.log.term:
            if message["kind"] in ("append", "vote?"):
                self._post(message["sender"], {"kind": "term"})
            return
        if message["term"] > self.log.term:
            self.log.vote(message["term"], None)
            self.primary = None
            if self.role != "backup":
                self._step_down()
        handlers = {
            "append": self._on_append,
            "held": self._on_held,
            "missing": self._on_missing,
            "vote?": self._on_vote_request,
            "vote": self._on_vote,
        }
        handler = handlers.get(message["kind"])
        if handler is not None:
            handler(message["sender"], message)
