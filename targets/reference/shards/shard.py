"""The state of one shard: it knows which part of the line it owns, and refuses all other keys.

That is decided where a command has its place in the log, so that no command reaches a former owner, however old the map
of whoever sent it. A range leaves in steps, each an entry of the log, and each may be repeated:

    source: SEND       notes from now on which keys of the range change
            CHANGES    tells the keys that have changed since so many changes, and what they hold; at first all
    target: RECEIVE    takes them in, beside its state
    source: FREEZE     refuses the range from now on, and says how many changes there were in all
    target: ADOPT      owns the range, if it has received all of them
    source: DROP       forgets it

The last answers to clients go along, so that a command that is repeated at the new owner is not executed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness.targets.reference.placement import Piece, moved, owner, within
from harness.targets.reference.state import Answer
from harness.targets.reference.transactions import VersionedState, parse

MOVED = "MOVED"
"""How the answer begins to whoever asks a shard for a key that it does not own."""
STEPS = frozenset({"SEND", "CHANGES", "RECEIVE", "FREEZE", "ADOPT", "DROP"})
"""The commands of a move."""
_NOBODY = 0


def plain(command: list[str]) -> list[str]:
    """A command without the words that let it be repeated."""
    return command[3:] if command[:1] == ["ONCE"] else command


def keys_of(command: list[str]) -> list[str]:
    """The keys that a client's command reads or changes."""
    inner = plain(command)
    if inner[:1] == ["TXN"]:
        return list(dict.fromkeys(str(key) for _, key, _ in parse(inner[1])))
    return inner[1:2]


class ShardState(VersionedState):
    """The state of one shard, what it owns, and what is coming or going.

    The steps that a planted bug gets wrong are methods of their own.
    """

    def __init__(
        self, dump: Any, number: int = _NOBODY, point: Callable[[str], str] = str, pieces: Sequence[Piece] = ()
    ) -> None:
        super().__init__(dump)
        self.number = number
        self.point = point
        kept = (dump or {}).get("shard", {"pieces": pieces, "leaving": None, "arriving": None, "left": 0, "came": 0})
        self.pieces = tuple(Piece(*piece) for piece in kept["pieces"])
        """The line as this shard knows it: up to date where it is its own."""
        self.leaving: dict[str, Any] | None = kept["leaving"] and {**kept["leaving"]}
        """The range that goes away: its ``move``, ``low`` and ``high``, the count of ``changes``, in which of them each
        key has ``changed`` last, at which the range was ``frozen``, and whether it is ``closed`` to new commands."""
        if self.leaving is not None:
            self.leaving["changed"] = dict(self.leaving["changed"])
        self.arriving: dict[str, Any] | None = kept["arriving"]
        """The range that comes: its ``move``, ``low`` and ``high``, up to which change, and the ``part`` itself."""
        self.left: int = kept["left"]
        """The last move that took something away from here."""
        self.came: int = kept["came"]
        """The last move that brought something here."""

    def dump(self) -> Any:
        leaving = self.leaving and {**self.leaving, "changed": dict(self.leaving["changed"])}
        shard = {
            "pieces": self.pieces,
            "leaving": leaving,
            "arriving": self.arriving,
            "left": self.left,
            "came": self.came,
        }
        return {**super().dump(), "shard": shard}

    def owns(self, key: str) -> bool:
        """Whether this shard is who answers for a key."""
        point = self.point(key)
        return owner(self.pieces, point) == self.number and not (
            self.leaving is not None and self.leaving["closed"] and self._is_leaving(point)
        )

    def _is_leaving(self, point: str) -> bool:
        leaving = self.leaving
        return leaving is not None and within(point, leaving["low"], leaving["high"])

    def refusal(self, keys: Iterable[str]) -> str | None:
        """Why a command on these keys cannot be executed here, now; None if it can."""
        strange = next((key for key in keys if not self.owns(key)), None)
        return None if strange is None else f"{MOVED} {strange} is not of shard {self.number}"

    def read(self, command: list[str]) -> Answer:
        """Answer as ``VersionedState`` does, where the key is this shard's."""
        if why := self.refusal(keys_of(command)):
            return {"error": why}
        return super().read(command)

    def apply(self, command: list[str]) -> Answer:
        """Run a command where the keys are this shard's; or a step of a move."""
        if not command:
            return None
        if command[0] in STEPS:
            step: Callable[..., Answer] = getattr(self, f"_{command[0].lower()}")
            return step(int(command[1]), *command[2:])
        if why := self.refusal(keys_of(command)):
            return {"error": why}
        return self._execute(command)

    def _execute(self, command: list[str]) -> Answer:
        """Run a client's command that is not refused."""
        answer = super().apply(command)
        self._note(keys_of(command))
        return answer

    def _install(self, written: Mapping[str, Any]) -> None:
        """Install a commit, and forget what was there before it: no snapshot is taken of one shard."""
        super()._install(written)
        for key in written:
            del self._versions[key][:-1]

    def _note(self, keys: Iterable[str]) -> None:
        """Remember what has changed of the range that is leaving."""
        for key in keys:
            if self.leaving is not None and self._is_leaving(self.point(key)):
                self.leaving["changes"] += 1
                self.leaving["changed"][key] = self.leaving["changes"]

    # What leaves

    def _send(self, move: int, low: str, high: str) -> Answer:
        """Begin to send a range; whether that is over already."""
        if move <= self.left:
            return "OVER"
        if self.leaving is None:
            self.leaving = {"move": move, "low": low, "high": high, "changes": 1, "changed": {}}
            self.leaving |= {"closed": False, "frozen": 0}
        return "OK"

    def _changes(self, move: int, after: str) -> Answer:
        """What changed in the range after so many changes, 0 for all of it, and how many changes that is."""
        if self.leaving is None or self.leaving["move"] != move:
            return {"error": f"{MOVED} the range is not here any more"}
        since, changed = int(after), self.leaving["changed"]
        held = sorted(self._held(self.leaving["low"], self.leaving["high"]))
        keys = held if not since else sorted(key for key, number in changed.items() if number > since)
        part = VersionedState()
        self._give(part, keys)
        return json.dumps({"upto": self.leaving["changes"], "keys": keys, "part": part.dump()})

    def _freeze(self, move: int) -> Answer:
        """Refuse the range from now on; after how many changes."""
        if self.leaving is None or self.leaving["move"] != move:
            return "OVER"
        self.leaving["closed"] = True
        if why := self._unfinished():
            return {"error": why}
        if not self.leaving["frozen"]:
            # One more: so that the last answers to clients, which are no keys, have to be received after this.
            self.leaving["changes"] += 1
            self.leaving["frozen"] = self.leaving["changes"]
        frozen: int = self.leaving["frozen"]
        return frozen

    def _unfinished(self) -> str | None:
        """What in the range that is leaving has to come to its end first."""
        return None

    def _drop(self, move: int) -> Answer:
        """Forget the range, which another shard has adopted."""
        if self.leaving is not None and self.leaving["move"] == move:
            low, high = self.leaving["low"], self.leaving["high"]
            self._remove(self._held(low, high))
            self.pieces = moved(self.pieces, low, high, _NOBODY)
            self.leaving, self.left = None, move
        return "OK"

    # What comes

    def _receive(self, move: int, low: str, high: str, since: str, text: str) -> Answer:
        """Take in what has changed since so many changes, if all before is here; up to which change all is here."""
        if move <= self.came:
            return "OVER"
        if self.arriving is None or self.arriving["move"] != move:
            part = VersionedState().dump()
            self.arriving = {"move": move, "low": low, "high": high, "upto": 0, "part": part}
        if text and int(since) == self.arriving["upto"]:
            changes = json.loads(text)
            part, more = _Part(self.arriving["part"]), _Part(changes["part"])
            part.replace(changes["keys"], more)
            self.arriving = {**self.arriving, "upto": changes["upto"], "part": part.dump()}
        upto: int = self.arriving["upto"]
        return upto

    def _adopt(self, move: int, frozen: str) -> Answer:
        """Own what has arrived, which must be everything up to the moment from which its former owner refuses it."""
        if move <= self.came:
            return "OK"
        if self.arriving is None or self.arriving["move"] != move or self.arriving["upto"] != int(frozen):
            return {"error": f"{MOVED} not all of it is here"}
        low, high = self.arriving["low"], self.arriving["high"]
        self._remove(self._held(low, high))
        part = _Part(self.arriving["part"])
        self._take(part)
        self.pieces = moved(self.pieces, low, high, self.number)
        self.arriving, self.came = None, move
        return "OK"

    def _held(self, low: str, high: str) -> list[str]:
        """The keys of a range that are here."""
        return [key for key in self.all_keys() if within(self.point(key), low, high)]

    def all_keys(self) -> set[str]:
        """All keys that are here."""
        return {*self._values, *self._fenced, *self._versions}

    def _give(self, part: VersionedState, keys: Iterable[str]) -> None:
        """Put these keys into a part that travels, and what must travel with any key."""
        give_keys(self, part, keys)
        part._granted = self._granted  # tokens grow wherever a lock goes
        part._answered = dict(self._answered)

    def _take(self, part: VersionedState) -> None:
        """Take a part into the state."""
        for mine, theirs in zip(_by_key(self), _by_key(part), strict=True):
            mine.update(theirs)
        for key in part._versions:
            self._versions[key] = [(self.version, part._versions[key][-1][1])]
        self._granted = max(self._granted, part._granted)
        for client, answered in part._answered.items():
            if answered[0] > self._answered.get(client, (-1, None))[0]:
                self._answered[client] = answered

    def _remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            for mine in _by_key(self):
                mine.pop(key, None)


class _Part(VersionedState):
    """A part of a shard's state on its way."""

    def replace(self, keys: Iterable[str], more: VersionedState) -> None:
        """Have these keys as another part has them, which may be not at all."""
        for mine, theirs in zip(_by_key(self), _by_key(more), strict=True):
            for key in keys:
                mine.pop(key, None)
            mine.update(theirs)
        self._granted, self._answered = more._granted, dict(more._answered)


def _by_key(state: VersionedState) -> tuple[dict[str, Any], ...]:
    """All that a state keeps for each key."""
    return state._values, state.leases, state._fenced, state._versions


def give_keys(state: VersionedState, part: VersionedState, keys: Iterable[str]) -> None:
    """Put these keys of a state, as they are now, into an empty one."""
    for mine, theirs in zip(_by_key(state), _by_key(part), strict=True):
        theirs.update({key: mine[key] for key in keys if key in mine})
    part._versions = {key: [(0, versions[-1][1])] for key, versions in part._versions.items()}
