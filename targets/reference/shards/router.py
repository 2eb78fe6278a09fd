"""One node of a store of several shards: its part in every group, and the way of each command to the right one.

A node knows the map as far as its part in group 0 has heard of it. Where that is old, a shard refuses, and the router
asks again once it has heard more; where the shard's primary is another node, the client is sent there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from harness.targets.reference.bugs.bug import plant
from harness.targets.reference.elected import Elected
from harness.targets.reference.peers import Message
from harness.targets.reference.placement import PLACEMENTS, owner
from harness.targets.reference.replica import Site, Unavailable, Unknown
from harness.targets.reference.shards.calls import Calls
from harness.targets.reference.shards.group import Shard
from harness.targets.reference.shards.mover import Mover
from harness.targets.reference.shards.parts import BANKS, of_balances, of_move, of_opening, of_transaction
from harness.targets.reference.shards.prepared import is_final
from harness.targets.reference.shards.shard import keys_of, plain
from harness.targets.reference.shards.shard_map import MAP_GROUP, MapGroup
from harness.targets.reference.shards.two_phase import Coordinator
from harness.targets.reference.state import Answer

_PATIENCE: Final = 0.3
"""Seconds in which a command that was refused is tried again."""
_REST: Final = (0.005, 0.03)
_TOTALS: Final = ("log_entries", "log_last", "committed", "applied", "keys", "storage_bytes")
"""What a node says of itself that is the sum over its groups."""


class Router:
    """One node: a ``Replica`` made of one for each group."""

    commands: ClassVar[frozenset[str]] = Elected.commands - {"BEGIN", "COMMIT"} | {"RESHARD", "SHARDS"}

    def __init__(self, site: Site) -> None:
        self.host = site.host
        self._point = PLACEMENTS[site.options.placement].point
        self.map_group = plant(MapGroup, site.options.bug)(_site(site, MAP_GROUP))
        shard = plant(Shard, site.options.bug)
        self.shards = {number: shard(_site(site, number), number) for number in range(1, site.options.shards + 1)}
        self.groups: dict[int, Elected] = {MAP_GROUP: self.map_group, **self.shards}
        self._calls = Calls(site, self.groups)
        self._coordinator = plant(Coordinator, site.options.bug)(site, self.shards, self._calls, self._owner)
        self._mover = plant(Mover, site.options.bug)(self.map_group, self._calls)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def role(self) -> str:
        """What this node is in the group of the map."""
        return self.map_group.role

    def start(self) -> None:
        """Begin to take part in every group."""
        for group in self.groups.values():
            group.start()
        loop = asyncio.get_running_loop()
        self._tasks += [loop.create_task(self._mover.run()), loop.create_task(self._coordinator.run())]

    def receive(self, message: Message) -> None:
        """Hand a peer's message to the group that it is of."""
        group = message.get("group")
        if group is None:
            self._calls.receive(message)
        else:
            self.groups[group].receive(message)

    async def execute(self, command: list[str]) -> Answer:
        """Execute a command in the shard that owns its keys; or say what is where, or plan a move."""
        if command[0] == "SHARDS":
            return self._describe()
        if command[0] == "RESHARD":
            return await self.map_group.execute(["PLAN", *command[1:]])
        deadline = self.host.monotonic() + _PATIENCE
        while True:
            answer = await self._try(command)
            if not isinstance(answer, dict) or is_final(answer):
                return answer
            if self.host.monotonic() > deadline:
                raise Unavailable(answer["error"])
            # Two that have met each other's locks do not meet again at once.
            await asyncio.sleep(self.host.rng.uniform(*_REST))

    async def _try(self, command: list[str]) -> Answer:
        name, *words = plain(command)
        if name in BANKS:
            return await self._bank(command, name, words)
        shards = {self._owner(key) for key in keys_of(command)} or {min(self.shards)}
        if len(shards) == 1:
            return await self.shards[shards.pop()].execute(command)
        parts, joined = of_transaction(words[0], self._owner)
        return await self._coordinator.execute(parts, _once(command), joined)

    async def _bank(self, command: list[str], name: str, words: list[str]) -> Answer:
        """What is done to a bank, whose accounts are in several shards."""
        if name != "HGETALL":
            parts = of_opening(words[0], words[1:]) if name == "OPEN" else of_move(*words)
            return await self._coordinator.execute(parts, _once(command), _first) if parts else 0
        try:
            roster = await self._calls.call(self._owner(words[0]), command)
        except Unknown as unknown:
            raise Unavailable(str(unknown)) from None
        if not isinstance(roster, list) or not roster:
            return roster
        parts = of_balances(words[0], roster)
        return await self._coordinator.execute(parts, (), _all_words)

    def _owner(self, key: str) -> int:
        """The shard that owns a key, as far as this node knows."""
        return owner(self.map_group.state.pieces, self._point(key))

    def peek(self, command: list[str]) -> Answer:
        """Answer a read from what this node itself holds of the shard that owns the key, as far as it knows."""
        answer = self._peek(command)
        if command[0] != "HGETALL" or not isinstance(answer, list):
            return answer
        return _all_words([self._peek(part) for part in of_balances(command[1], answer)])

    def _peek(self, command: list[str]) -> Answer:
        owners = [shard for shard in self.shards.values() if shard.state.owns(command[1])]
        return (owners or [self.shards[self._owner(command[1])]])[0].peek(command)

    def contents(self) -> dict[str, str]:
        """Everything that clients can see, a text for each key."""
        return {key: text for shard in self.shards.values() for key, text in shard.state.contents().items()}

    def status(self) -> dict[str, Any]:
        """What the node is in the group of the map, and the sums over all groups."""
        each = [group.status() for group in self.groups.values()]
        return {
            "role": self.role,
            "term": each[MAP_GROUP]["term"],
            "primary": self.map_group.primary,
            **{name: sum(status[name] for status in each) for name in _TOTALS},
            "lag": max(status["lag"] for status in each),
            "epoch": self.map_group.state.epoch,
            "leads": ",".join(str(number) for number, group in self.groups.items() if group.role == "primary"),
        }

    def _describe(self) -> str:
        """What this very node knows: the map, what each shard's own state owns, and at which points its keys are."""
        state = self.map_group.state
        owned = {number: shard.state.pieces for number, shard in self.shards.items()}
        points = {self._point(key) for shard in self.shards.values() for key in shard.state.all_keys()}
        told = {"epoch": state.epoch, "pieces": state.pieces, "moving": state.move is not None}
        return json.dumps({**told, "planned": state.planned, "owned": owned, "points": sorted(points)})


def _once(command: list[str]) -> list[str]:
    """The client and the number of a command that may be repeated."""
    return command[1:3] if command[0] == "ONCE" else []


def _first(answers: Sequence[Answer]) -> Answer:
    return answers[0]


def _all_words(answers: Sequence[Answer]) -> Answer:
    return [word for answer in answers if isinstance(answer, list) for word in answer]


def _site(site: Site, group: int) -> Site:
    """A node's place in one of the groups: a folder, and messages, of its own."""

    def send(peer: str, message: Message) -> None:
        message["group"] = group
        site.send(peer, message)

    sending: Callable[[str, Message], None] = send
    return Site(site.name, site.nodes, site.host, sending, f"{site.data}/group-{group}", site.options)
