"""What one shard does for transactions across shards: it prepares its part, holds it locked, and ends as it is told.

Two-phase commit with presumed abort (Mohan, Lindsay & Obermarck, 1986). The shard of a transaction's first key is its
home, which decides by an entry of its log: a commit is written down there until every shard has heard of it, and of
what is not written down there nothing is done. All locks are held from the vote to the decision, and nobody waits for
one: whoever meets a lock is refused, and tries again.

    each:  PREPARE transaction home client number commands   votes, and says what its commands answer
    home:  DECIDE transaction client number answer shards    commits, unless it was given up, or done by another try
           REJECT transaction client number answer shards    the same, for what a shard has declined
           RESOLVE transaction [shard]                       what was decided; gives it up where nothing was
           CLOSE transaction                                 once all have heard of the commit
    other: FINISH transaction COMMIT|ABORTED                 does or forgets its part

A home forgets what is over long ago, and then can only say so. A shard has nothing left to do, since no commit is
forgotten before every shard has heard of it; a coordinator has to say that nobody knows what its transaction has done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from harness.targets.reference.replica import READS
from harness.targets.reference.shards.shard import MOVED, ShardState, give_keys, keys_of
from harness.targets.reference.state import Answer, WrongTypeError
from harness.targets.reference.transactions import VersionedState

LOCKED: Final = "LOCKED"
"""How the answer begins to whoever meets a lock."""
ABORTED: Final = "ABORTED"
FORGOTTEN: Final = "FORGOTTEN"
"""What a home says of a transaction that it does not know: it never has, or that is over long ago."""
ANSWERED: Final = "ANSWERED"
"""What a transaction is told that another try of the same command has committed; ``answer`` has what that answered."""
COMMIT: Final = "COMMIT"
DECLINED: Final = "DECLINED"
"""What the home answers once it has written down, for the client alone, that its command is declined."""
_KEPT: Final = 2000
"""Of how many commits a shard knows that they are over, and of how many other transactions."""
PHASES: Final = frozenset({"PREPARE", "DECIDE", "RESOLVE", "CLOSE", "FINISH", "REJECT"})


def is_final(answer: dict[str, str]) -> bool:
    """Whether a refusal is the store's answer to the client, and no reason to try again."""
    return not answer["error"].startswith((MOVED, LOCKED, ABORTED, FORGOTTEN))


class PreparedState(ShardState):
    """The state of a shard, with its part in transactions across shards.

    The steps that a planted bug gets wrong are methods of their own.
    """

    def __init__(self, dump: Any, *place: Any) -> None:
        super().__init__(dump, *place)
        kept = (dump or {}).get("phases", {"prepared": {}, "decided": {}, "committed": {}, "aborted": {}})
        self.prepared: dict[str, dict[str, Any]] = dict(kept["prepared"])
        """By transaction its ``home``, its ``commands`` here, and what they ``answered``."""
        self.decided: dict[str, list[int]] = dict(kept["decided"])
        """The commits that this shard, as their home, has decided, and who has to hear of each."""
        self._committed: dict[str, str] = dict(kept["committed"])
        """The commits that are over, by age, each with what is said of it: none of them is prepared again."""
        self._aborted: dict[str, str] = dict(kept["aborted"])
        """Likewise those that did nothing, or nothing any more, after they were forgotten. They may be many, where many
        are refused, which is no reason to forget a commit."""

    def dump(self) -> Any:
        phases: dict[str, dict[str, Any]] = {"prepared": self.prepared, "decided": self.decided}
        phases |= {"committed": self._committed, "aborted": self._aborted}
        return {**super().dump(), "phases": {name: dict(kept) for name, kept in phases.items()}}

    def refusal(self, keys: Iterable[str]) -> str | None:
        """Why a command on these keys cannot be executed here, now: also because a transaction has locked one."""
        keys = list(keys)
        return super().refusal(keys) or self._locked(keys)

    def _locked(self, keys: Iterable[str]) -> str | None:
        locks = {key for part in self.prepared.values() for key in _keys(part["commands"])}
        locked = next((key for key in keys if key in locks), None)
        return None if locked is None else f"{LOCKED} a transaction is about to change {locked}"

    def _unfinished(self) -> str | None:
        """A range does not leave before the transactions that have locked something in it are over."""
        keys = (key for part in self.prepared.values() for key in _keys(part["commands"]))
        return f"{LOCKED} a transaction is not over" if any(self._is_leaving(self.point(key)) for key in keys) else None

    def apply(self, command: list[str]) -> Answer:
        """Run a command, as ``ShardState`` does; or a phase of a transaction."""
        if command and command[0] in PHASES:
            phase: Callable[..., Answer] = getattr(self, f"_{command[0].lower()}")
            return phase(*command[1:])
        return super().apply(command)

    def _prepare(self, transaction: str, home: str, client: str, number: str, text: str) -> Answer:
        """Vote: what the commands answer, or why they cannot be executed."""
        if transaction in self._aborted or transaction in self._committed or transaction in self.decided:
            return {"error": ABORTED}
        if transaction in self.prepared:
            voted: str = self.prepared[transaction]["answered"]
            return voted
        if int(home) == self.number and (done := self._done(client, number)):
            return done
        commands = json.loads(text)
        if why := self.refusal(_keys(commands)):
            return {"error": why}
        answers = self._tried(commands)
        if error := next((answer for answer in answers if isinstance(answer, dict)), None):
            if int(home) == self.number:
                self._remember(client, number, error)
            return error
        answered = json.dumps(answers)
        self._hold(transaction, {"home": int(home), "commands": commands, "answered": answered})
        return answered

    def _done(self, client: str, number: str) -> Answer:
        """What another try of the same command of a client was answered; that it was, if the client has gone on."""
        done = self._answered.get(client) if client else None
        if done is None or done[0] < int(number):
            return None
        return {"error": ANSWERED, "answer": json.dumps(done[1])} if done[0] == int(number) else {"error": ABORTED}

    def _tried(self, commands: Iterable[list[str]]) -> list[Answer]:
        """What commands would answer, without doing anything."""
        there = self._seen(_keys(commands))
        try:
            return [there.read(command) if command[0] in READS else there.apply(command) for command in commands]
        except WrongTypeError as error:
            return [{"error": f"WRONGTYPE {error}"}]

    def _seen(self, keys: Iterable[str]) -> VersionedState:
        """What a transaction sees of these keys."""
        there = VersionedState()
        give_keys(self, there, keys)
        return there

    def _hold(self, transaction: str, part: dict[str, Any]) -> None:
        """Keep the part of a transaction, whose keys are locked while it is kept."""
        self.prepared[transaction] = part

    def _decide(self, transaction: str, client: str, number: str, answer: str, shards: str) -> Answer:
        """Commit as home."""
        if self._has_committed(transaction):
            return COMMIT
        if transaction not in self.prepared:
            return {"error": self._why_not(transaction)}
        if done := self._done(client, number):
            self._end(transaction, ABORTED)
            return done
        self._remember(client, number, json.loads(answer))
        self._write_down(transaction, json.loads(shards))
        self._end(transaction, COMMIT)
        return COMMIT

    def _reject(self, transaction: str, client: str, number: str, answer: str, _shards: str) -> Answer:
        """As home, answer a client for good that a shard has declined: no other try may commit after that."""
        if transaction not in self.prepared:
            return {"error": self._why_not(transaction)}
        done = self._done(client, number)
        self._end(transaction, ABORTED)
        if not done:
            self._remember(client, number, json.loads(answer))
        return done or DECLINED

    def _why_not(self, transaction: str) -> str:
        """What is to be said of a transaction that is not prepared, and has not committed as far as is known."""
        return self._aborted.get(transaction, FORGOTTEN)

    def _remember(self, client: str, number: str, answer: Answer) -> None:
        if client:
            self._answered[client] = (int(number), answer)

    def _write_down(self, transaction: str, shards: list[int]) -> None:
        """Remember the decision: whoever has lost its coordinator asks for it."""
        if shards:
            self.decided[transaction] = shards

    def _resolve(self, transaction: str, shard: str = "") -> Answer:
        """Say as home what was decided, to the coordinator or to a shard; what was not is given up.

        A shard that asks once all have heard of a commit has prepared it again, for a message that was long on its way.
        """
        if self._has_committed(transaction) and (not shard or transaction in self.decided):
            return COMMIT
        told = ABORTED if transaction in self.prepared else self._why_not(transaction)
        self._end(transaction, told)
        return told

    def _has_committed(self, transaction: str) -> bool:
        return transaction in self.decided or transaction in self._committed

    def _finish(self, transaction: str, decision: str) -> Answer:
        """End as the home has decided."""
        self._end(transaction, decision)
        return "OK"

    def _close(self, transaction: str) -> Answer:
        """Forget a commit that all have heard of."""
        self.decided.pop(transaction, None)
        return "OK"

    def _end(self, transaction: str, told: str) -> None:
        """Do what was prepared, or do not; and let go of its locks. What is told first is told ever after."""
        part = self.prepared.pop(transaction, None)
        if part is not None and told == COMMIT:
            self._do(part["commands"])
        if transaction not in self._committed and transaction not in self._aborted:
            over = self._committed if told == COMMIT else self._aborted
            over[transaction] = told
            if len(over) > _KEPT:
                del over[next(iter(over))]

    def _do(self, commands: Iterable[list[str]]) -> None:
        for command in commands:
            if command[0] not in READS:
                self._execute(command)


def _keys(commands: Iterable[list[str]]) -> list[str]:
    return [key for command in commands for key in keys_of(command)]
