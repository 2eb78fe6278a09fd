"""A log that an elected primary orders: the part that Raft and primary-backup replication have in common.

One primary orders all commands in its log and sends them to the backups. When a backup hears nothing from a primary
for a while it stands for election in a higher term; enough votes make it primary, and nobody votes for a log that is
behind its own. A primary that has not heard from enough others for a while steps down by itself.

After Oki & Liskov, "Viewstamped Replication" (1988), and Ongaro & Ousterhout, "In Search of an Understandable
Consensus Algorithm" (2014), whose names for the messages' fields are kept where the field knows them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, Final

from harness.targets.reference.host import Timer
from harness.targets.reference.journal import Journal
from harness.targets.reference.log import Entry, Log
from harness.targets.reference.peers import Message
from harness.targets.reference.replica import BASIC, READS, NotPrimary, Site, Unknown
from harness.targets.reference.state import Answer, State
from harness.targets.reference.transactions import VersionedState

HEARTBEAT: Final = 0.1
ELECTION: Final = (0.3, 0.6)
"""Seconds without a word from a primary after which a backup stands for election: a random time from this range."""
BATCH: Final = 500
"""The most entries in one message."""


class Elected:
    """One node; ``primary`` is whom it believes to be that."""

    HANDLERS: ClassVar[dict[str, str]] = {
        "append": "_on_append",
        "held": "_on_held",
        "missing": "_on_missing",
        "vote?": "_on_vote_request",
        "vote": "_on_vote",
    }
    """The method for each kind of message."""
    commands: ClassVar[frozenset[str]] = BASIC.union(
        ("RPUSH", "LRANGE", "LPOP", "OPEN", "MOVE", "HGETALL"),
        ("GRANT", "RENEW", "RELEASE", "GUARDED", "FENCED"),
        ("TXN", "BEGIN", "COMMIT"),
    )

    def __init__(self, site: Site) -> None:
        self.name = site.name
        self.host = site.host
        self.options = site.options
        self.members: Sequence[str] = site.nodes
        self.role = "backup"
        self.primary: str | None = None
        self._send = site.send
        self.log = self._open_log(site)
        self.state: State = self._open_state(self.log.snapshot)
        self.applied = self.committed = self.log.base
        self._votes: set[str] = set()
        self._next: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._round = 0
        self._round_began: dict[int, float] = {}
        self._confirmed: dict[str, int] = {}
        self._heard_from: dict[str, float] = {}
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._readers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._counted: dict[tuple[str, int], float] = {}
        """Since when this primary counts the time of each lease, by its key and number."""
        self._timer: Timer | None = None
        self._deadline = 0.0
        # A node that was just restarted does not know to whom it was loyal: it waits as if it had just heard.
        self._heard = self.host.monotonic()
        self._handlers: dict[str, Callable[[str, Message], None]] = {
            kind: getattr(self, method) for kind, method in self.HANDLERS.items()
        }

    def _open_log(self, site: Site) -> Log:
        return Log(Journal(site.host.open(f"{site.data}/log.a"), site.host.open(f"{site.data}/log.b")))

    def _open_state(self, dump: Any) -> VersionedState:
        return VersionedState(dump)

    def start(self) -> None:
        """Begin to wait for a primary."""
        self._expect_primary()

    def status(self) -> dict[str, Any]:
        behind = [self.log.last - self._held.get(peer, 0) for peer in self.peers] if self.role == "primary" else []
        return {
            "role": self.role,
            "term": self.log.term,
            "primary": self.primary,
            "log_entries": self.log.size,
            "log_last": self.log.last,
            "committed": self.committed,
            "applied": self.applied,
            "lag": max(behind, default=self.log.last - self.applied),
            "keys": len(self.state),
            "storage_bytes": self.log.bytes,
        }

    @property
    def peers(self) -> list[str]:
        """The other members."""
        return [member for member in self.members if member != self.name]

    def is_majority(self, nodes: Collection[str]) -> bool:
        """Whether these are more than half of the members."""
        return 2 * sum(member in nodes for member in self.members) > len(self.members)

    # Clients

    async def execute(self, command: list[str]) -> Answer:
        """Order a command and return what it answered once it is acknowledged; reads go past the log."""
        self._require_primary()
        if command[0] in READS:
            await self._before_read()
            return self.state.read(command)
        return await self._order(command)

    def peek(self, command: list[str]) -> Answer:
        return self.state.read(command)

    def _require_primary(self) -> None:
        if self.role != "primary":
            raise NotPrimary(self.primary)

    async def _order(self, command: list[str]) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[self.log.last + 1] = future
        self._append(command)
        return await future

    def _append(self, *commands: list[str]) -> None:
        if commands:
            self._hold(self.log.last + 1, [Entry(self.log.term, command) for command in commands])
            self._advance()
            self._replicate()

    def _end_leases(self) -> None:
        """Order the end of leases whose time this primary has counted to the end.

        What an earlier primary had counted is not known: a new one begins anew, so no lease ends early.
        """
        now = self.host.monotonic()
        leases = {(key, number): milliseconds / 1000 for key, (milliseconds, number) in self.state.leases.items()}
        self._counted = {lease: self._counted.get(lease, now) for lease in leases}
        over = [lease for lease, seconds in leases.items() if now >= self._counted[lease] + seconds]
        self._counted |= dict.fromkeys(over, now)
        self._append(*(["EXPIRE", key, str(number)] for key, number in over))

    async def _before_read(self) -> None:
        """Return once the state is fresh enough for a read that arrives now."""
        await self._confirm()

    async def _confirm(self) -> None:
        """Wait until a majority followed this primary after now, and all that was committed before now is applied."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._replicate()
        # Until an entry of its own term is committed, a new primary does not know what its predecessor committed.
        committed = max(self.committed, self._own_term_from)
        self._readers.append((self._round, committed, future))
        self._admit_readers()
        await future

    def _admit_readers(self) -> None:
        """Let those reads go on that have waited for enough."""
        left = []
        for reader in self._readers:
            round_, committed, future = reader
            if self.applied >= committed and self._followed_since(round_):
                if not future.done():
                    future.set_result(None)
            else:
                left.append(reader)
        self._readers = left

    def _followed_since(self, round_: int) -> bool:
        following = {self.name, *(peer for peer, confirmed in self._confirmed.items() if confirmed >= round_)}
        return self.is_majority(following)

    # Replication

    def _replicate(self) -> None:
        """Send every peer what it lacks; a message without entries is a heartbeat."""
        self._round += 1
        self._round_began[self._round] = self.host.monotonic()
        if len(self._round_began) > 1000:
            del self._round_began[next(iter(self._round_began))]
        for peer in self.peers:
            self._replicate_to(peer)

    def _replicate_to(self, peer: str) -> None:
        first = self._next.get(peer, self.log.last + 1)
        entries = self.log.entries(first, BATCH)
        self._post(
            peer,
            {
                "kind": "append",
                "previous": first - 1,
                "previous_term": self.log.term_of(first - 1),
                "entries": entries,
                "committed": self.committed,
                "round": self._round,
            },
        )
        # Assume that it arrives; a backup that misses something says so, and a heartbeat sends it again.
        self._next[peer] = first + len(entries)

    def _heartbeat(self, term: int) -> None:
        if self.role != "primary" or self.log.term != term:
            return
        if self._is_deserted():
            self._step_down()
            return
        for peer, held in self._held.items():
            self._next[peer] = min(self._next.get(peer, held + 1), held + 1)
        self._end_leases()
        self._replicate()
        self.host.later(HEARTBEAT, self._heartbeat, term)

    def _is_deserted(self) -> bool:
        """Whether too few others were heard of for longer than an election takes."""
        since = self.host.monotonic() - ELECTION[1]
        heard = {self.name, *(peer for peer, when in self._heard_from.items() if when >= since)}
        return not self._are_enough(heard)

    def _on_append(self, sender: str, message: Message) -> None:
        if self.role == "primary":
            return  # there is one primary a term
        self.primary = sender
        if self.role == "candidate":
            self._step_down()
        self._heard = self.host.monotonic()
        self._expect_primary()
        previous: int = message["previous"]
        if not self._fits(previous, message["previous_term"]):
            self._post(sender, {"kind": "missing", "from": self._first_doubtful(previous)})
            return
        entries = [Entry(*entry) for entry in message["entries"]]
        held = previous + len(entries)
        at = previous + 1
        while entries and (at <= self.log.base or self.log.term_of(at) == entries[0].term):
            entries.pop(0)
            at += 1
        if entries:
            if at <= self.applied:
                self._rebuild(at)
            self._hold(at, entries)
        self.committed = max(self.committed, min(message["committed"], held))
        self._apply()
        self._post(sender, {"kind": "held", "held": held, "round": message["round"]})

    def _fits(self, previous: int, term: int) -> bool:
        """Whether what the primary sends continues this log."""
        return previous < self.log.base or self.log.term_of(previous) == term

    def _hold(self, index: int, entries: list[Entry]) -> None:
        """Take entries into the log; they are on disk when this returns."""
        self.log.append(index, entries)

    def _first_doubtful(self, index: int) -> int:
        """Where a primary whose entry at ``index`` is another one should go on: at the start of our entry's term."""
        if index > self.log.last:
            return self.log.last + 1
        term = self.log.term_of(index)
        while index > self.log.base + 1 and self.log.term_of(index - 1) == term:
            index -= 1
        return index

    def _on_held(self, sender: str, message: Message) -> None:
        if self.role != "primary":
            return
        self._heard_from[sender] = self.host.monotonic()
        self._held[sender] = max(self._held.get(sender, 0), message["held"])
        self._confirmed[sender] = max(self._confirmed.get(sender, 0), message["round"])
        self._advance()

    def _on_missing(self, sender: str, message: Message) -> None:
        if self.role == "primary":
            self._heard_from[sender] = self.host.monotonic()
            self._next[sender] = max(1, message["from"])
            if sender in self._held:
                self._held[sender] = min(self._held[sender], message["from"] - 1)

    def _advance(self) -> None:
        """Commit what enough nodes hold, and answer those who wait."""
        if self.committed < self.log.last:
            enough = self._committable()
            if self._may_commit(enough):
                self.committed = max(self.committed, enough)
            self._apply()
        if self._readers:
            self._admit_readers()

    def _committable(self) -> int:
        """The last entry that enough nodes hold: here a majority."""
        held = sorted(self.log.last if member == self.name else self._held.get(member, 0) for member in self.members)
        return held[(len(held) - 1) // 2]

    def _may_commit(self, index: int) -> bool:
        """Only entries of this term are committed by counting; they carry all earlier ones with them."""
        return self.log.term_of(index) == self.log.term

    def _apply(self) -> None:
        """Run the committed commands, and answer whoever waits for one."""
        while self.applied < self.committed:
            self.applied += 1
            answer = self._run(self.log[self.applied].command)
            future = self._waiting.pop(self.applied, None)
            if future is not None and not future.done():
                future.set_result(answer)

    def _run(self, command: list[str]) -> Answer:
        return self.state.apply(command)

    def _rebuild(self, index: int) -> None:
        """Forget what the commands from ``index`` on did: another primary ordered others in their place."""
        self.state = self._open_state(self.log.snapshot)
        self.applied = self.log.base
        for at in range(self.log.base + 1, index):
            self._run(self.log[at].command)
            self.applied = at
        self.committed = min(self.committed, self.applied)

    # Elections

    def _expect_primary(self) -> None:
        """Stand for election if nothing is heard from a primary for a while from now on."""
        wait = self.host.rng.uniform(*ELECTION)
        self._deadline = self.host.monotonic() + wait
        if self._timer is None:
            self._timer = self.host.later(wait, self._check_deadline)

    def _check_deadline(self) -> None:
        left = self._deadline - self.host.monotonic()
        # One timer that goes on, rather than a new one for each message.
        self._timer = self.host.later(left, self._check_deadline) if left > 0 else None
        if left <= 0:
            self._stand()

    def _stand(self) -> None:
        """Nothing was heard from a primary for too long."""
        if self.role != "primary":
            self._expect_primary()
            if self._may_stand():
                self._ask_for_votes()

    def _ask_for_votes(self) -> None:
        """Become a candidate in the next term."""
        self.role, self.primary = "candidate", None
        self.log.vote(self._next_term(), self.name)
        self._votes = {self.name}
        for peer in self.peers:
            self._post(peer, {"kind": "vote?", **self._position()})
        self._count_votes()

    def _next_term(self) -> int:
        return self.log.term + 1

    def _may_stand(self) -> bool:
        return self.name in self.members

    def _position(self) -> Message:
        return {"last": self.log.last, "last_term": self.log.term_of(self.log.last)}

    def _is_current(self, message: Message) -> bool:
        """Whether a candidate's log is not behind this one: else it could lack what was acknowledged."""
        mine = (self.log.term_of(self.log.last), self.log.last)
        return (message["last_term"], message["last"]) >= mine

    def _may_vote(self, candidate: str, message: Message) -> bool:
        return self.log.voted_for in (None, candidate) and self._is_current(message)

    def _on_vote_request(self, sender: str, message: Message) -> None:
        if self._may_vote(sender, message):
            self._vote_for(sender)
            self._expect_primary()
            self._post(sender, {"kind": "vote"})

    def _vote_for(self, candidate: str) -> None:
        """Remember the vote, also across a crash: a second one in the same term could make a second primary."""
        if self.log.voted_for is None:
            self.log.vote(self.log.term, candidate)

    def _on_vote(self, sender: str, _message: Message) -> None:
        if self.role == "candidate":
            self._votes.add(sender)
            self._count_votes()

    def _are_enough(self, nodes: Collection[str]) -> bool:
        """Whether these can make a primary."""
        return self.is_majority(nodes)

    def _count_votes(self) -> None:
        if self._are_enough(self._votes):
            self._become_primary()

    def _become_primary(self) -> None:
        self.role, self.primary = "primary", self.name
        now = self.host.monotonic()
        self._next = dict.fromkeys(self.peers, self.log.last + 1)
        self._held, self._confirmed, self._round, self._round_began = {}, {}, 0, {}
        self._heard_from = dict.fromkeys(self._votes, now)
        self._counted = {}
        self._open_term()
        self._advance()
        self._heartbeat(self.log.term)

    def _open_term(self) -> None:
        """An empty command of this term: once that is committed, everything before it is."""
        self._own_term_from = self.log.last + 1
        self.log.append(self.log.last + 1, [Entry(self.log.term, [])])

    def _step_down(self) -> None:
        """Back to backup. The commands in the log may yet be committed by somebody else: nobody knows."""
        self.role = "backup"
        waiting, self._waiting = self._waiting, {}
        readers, self._readers = self._readers, []
        for future in waiting.values():
            if not future.done():
                future.set_exception(Unknown("this node is no longer primary"))
        for _, _, reading in readers:
            if not reading.done():
                reading.set_exception(NotPrimary(self.primary))
        self._expect_primary()

    # Messages

    def _post(self, peer: str, message: Message) -> None:
        message["term"] = self.log.term
        message["sender"] = self.name
        self._send(peer, message)

    def receive(self, message: Message) -> None:
        """Handle a peer's message: those of an older term are void, a newer term ends any role here."""
        term: int = message["term"]
        if term != self.log.term:
            if term < self.log.term:
                if not self._accepts_old_term(message):
                    return
            else:
                self._enter(term)
        handler = self._handlers.get(message["kind"])
        if handler is not None:
            handler(message["sender"], message)

    def _enter(self, term: int) -> None:
        """Somebody is in a newer term: go there, with a free vote."""
        self.log.vote(term, None)
        self.primary = None
        if self.role != "backup":
            self._step_down()

    def _accepts_old_term(self, message: Message) -> bool:
        """Messages of an older term are refused (the term is a fencing token), and their sender learns the new one."""
        if message["kind"] in ("append", "vote?"):
            self._post(message["sender"], {"kind": "term"})
        return False

    _own_term_from = 0
    """The first entry of this node's own term as primary."""
