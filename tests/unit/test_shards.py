"""The parts of a sharded store, each by itself: the map, what one shard owns, moves, transactions across shards."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import NothingToDo, UsageError
from harness.nemeses.reshard import Reshard, chosen, owners_of
from harness.target import ShardsSeen
from harness.targets.reference.bugs import BUGS, plant
from harness.targets.reference.bugs.shards import _ExclusiveState, _ForgetfulState, _GenerousState
from harness.targets.reference.options import Options
from harness.targets.reference.peers import Message
from harness.targets.reference.placement import END, PLACEMENTS, Piece, owner
from harness.targets.reference.raft import Raft
from harness.targets.reference.replica import NotPrimary, Site, Unavailable, Unknown
from harness.targets.reference.shards.calls import Calls
from harness.targets.reference.shards.group import Shard
from harness.targets.reference.shards.parts import of_move, of_opening, of_transaction
from harness.targets.reference.shards.prepared import ABORTED, COMMIT, FORGOTTEN, PreparedState
from harness.targets.reference.shards.shard_map import MapState
from harness.targets.reference.shards.two_phase import Coordinator
from harness.targets.reference.state import Answer, WrongTypeError
from harness.targets.reference.target import Reference

PIECES = (Piece("", 1), Piece("m", 2))
"""What is before m is of shard 1."""


def shard(number: int, state: type[PreparedState] = PreparedState) -> PreparedState:
    return state(None, number, PLACEMENTS["range"].point, PIECES)


def again(state: PreparedState) -> PreparedState:
    """The state as another node has it that was sent a snapshot."""
    return type(state)(json.loads(json.dumps(state.dump())), state.number, state.point, PIECES)


def error(answer: Answer) -> str:
    assert isinstance(answer, dict), answer
    return answer["error"].split()[0]


def changes(source: PreparedState, target: PreparedState, low: str, high: str) -> None:
    """One round of copying."""
    upto = target.apply(["RECEIVE", "2", low, high, "0", ""])
    text = str(source.apply(["CHANGES", "2", str(upto)]))
    target.apply(["RECEIVE", "2", low, high, str(upto), text])


def move(source: PreparedState, target: PreparedState, low: str, high: str, meanwhile: Any = None) -> None:
    """All steps of a move, and what clients do after the snapshot."""
    source.apply(["SEND", "2", low, high])
    changes(source, target, low, high)
    if meanwhile is not None:
        meanwhile()
    frozen = source.apply(["FREEZE", "2"])
    changes(source, target, low, high)
    assert target.apply(["ADOPT", "2", str(frozen)]) == "OK"
    source.apply(["DROP", "2"])


def test_a_shard_refuses_what_it_does_not_own() -> None:
    one = shard(1)
    assert one.apply(["SET", "a", "1"]) == "OK"
    assert error(one.apply(["SET", "m", "1"])) == error(one.read(["GET", "z"])) == "MOVED"
    assert error(one.apply(["ONCE", "c", "1", "SET", "z", "1"])) == "MOVED"
    assert one.contents() == {"a": '"1"'}


def test_a_move_takes_everything_along_and_leaves_nothing() -> None:
    one, two = shard(1), shard(2)
    for command in (
        ["SET", "a", "1"],
        ["SET", "c", "1"],
        ["RPUSH", "d", "x"],
        ["SADD", "e", "x"],
        ["SET", "f", "gone"],
        ["GRANT", "g", "1000"],
        ["FENCED", "g", "1", "v"],
        ["OPEN", "h", "acc", "5"],
        ["TXN", '[["append","i",1]]'],
        ["ONCE", "client", "7", "INCRBY", "j", "1"],
    ):
        one.apply(command)

    def meanwhile() -> None:
        one.apply(["SET", "c", "2"])
        one.apply(["DEL", "f"])
        one.apply(["SET", "b", "new"])

    move(one, two, "b", "k", meanwhile)
    assert one.contents() == {"a": '"1"'}
    assert error(one.apply(["SET", "c", "3"])) == "MOVED"
    for state in (two, again(two)):
        assert state.read(["GET", "b"]) == "new"
        assert state.read(["GET", "c"]) == "2"
        assert state.read(["GET", "f"]) is None
        assert state.read(["LRANGE", "d", "0", "-1"]) == ["x"]
        assert state.read(["SMEMBERS", "e"]) == ["x"]
        assert state.read(["HGETALL", "h"]) == ["acc", "5"]
        assert state.leases["g"] == (1000, 1)
        assert json.loads(str(state.apply(["TXN", '[["r","i",null]]']))) == [["r", "i", [1]]]
        # A repetition is answered as at the former owner, and a token is greater than those from there.
        assert [state.apply(["ONCE", "client", "7", "INCRBY", "j", "1"]), state.read(["GET", "j"])] == [1, "1"]
        assert state.apply(["GRANT", "c2", "10"]) == 2
    assert not again(one).owns("c")


def test_between_freeze_and_adoption_nobody_owns_a_range_and_every_step_may_be_repeated() -> None:
    one, two = shard(1), shard(2)
    one.apply(["SET", "c", "1"])
    for _ in range(2):
        one.apply(["SEND", "2", "b", "d"])
    changes(one, two, "b", "d")
    early = str(one.apply(["CHANGES", "2", "0"]))
    one.apply(["SET", "c", "2"])
    frozen = str(one.apply(["FREEZE", "2"]))
    assert str(one.apply(["FREEZE", "2"])) == frozen
    assert error(one.apply(["SET", "c", "3"])) == error(two.apply(["SET", "c", "3"])) == "MOVED"
    # Without what has changed since it may not be adopted, and an older copy takes no newer one's place.
    assert error(two.apply(["ADOPT", "2", frozen])) == "MOVED"
    changes(one, two, "b", "d")
    two.apply(["RECEIVE", "2", "b", "d", "0", early])
    for _ in range(2):
        assert two.apply(["ADOPT", "2", frozen]) == "OK"
    two.apply(["SET", "c", "4"])
    assert two.apply(["RECEIVE", "2", "b", "d", "0", early]) == "OVER"
    assert two.apply(["ADOPT", "2", frozen]) == "OK"
    for _ in range(2):
        one.apply(["DROP", "2"])
        assert one.apply(["SEND", "2", "b", "d"]) == "OVER"
    assert two.read(["GET", "c"]) == "4"


KEYS = st.sampled_from("abcdefgh")
COMMANDS = st.lists(
    st.tuples(st.sampled_from(["SET", "DEL", "INCRBY"]), KEYS, st.integers(0, 9)).map(
        lambda drawn: [drawn[0], drawn[1], *([str(drawn[2])] if drawn[0] != "DEL" else [])]
    )
)


@given(before=COMMANDS, meanwhile=COMMANDS, low=KEYS, high=KEYS | st.just(END))
def test_a_range_that_has_moved_holds_what_it_would_hold_had_it_stayed(
    before: list[list[str]], meanwhile: list[list[str]], low: str, high: str
) -> None:
    if low >= high:
        return
    one, two, alone = shard(1), shard(2), shard(1)
    for command in before:
        assert one.apply(command) == alone.apply(command)

    def write() -> None:
        for command in meanwhile:
            assert one.apply(command) == alone.apply(command)

    move(one, two, low, high, write)
    assert {**one.contents(), **two.contents()} == alone.contents()
    assert len(one.contents()) + len(two.contents()) == len(alone.contents())
    assert all(low <= key < high for key in two.contents())


def test_the_last_range_has_no_end() -> None:
    one, two = shard(1), shard(2)
    for key in ("x", "z", END, f"{END}z"):
        two.apply(["SET", key, "before"])
    move(two, one, "y", END, lambda: two.apply(["SET", f"{END}z", "meanwhile"]))
    assert two.contents() == {"x": '"before"'}
    assert [one.read(["GET", key]) for key in ("z", END, f"{END}z")] == ["before", "before", "meanwhile"]
    assert error(two.apply(["SET", f"{END}z", "after"])) == "MOVED"


def test_planted_bugs_lose_what_a_move_may_not_lose() -> None:
    one, two = shard(1, _ForgetfulState), shard(2, _ForgetfulState)
    one.apply(["SET", "c", "1"])
    move(one, two, "b", "d", lambda: one.apply(["SET", "c", "2"]))
    assert two.read(["GET", "c"]) == "1"
    one, two = shard(1, _ExclusiveState), shard(2, _ExclusiveState)
    one.apply(["SET", "b", "1"])
    move(one, two, "b", "d")
    assert two.read(["GET", "b"]) is None
    one = shard(1, _GenerousState)
    one.apply(["SEND", "2", "b", "d"])
    one.apply(["FREEZE", "2"])
    assert one.apply(["SET", "c", "1"]) == "OK"


def test_the_map_plans_one_move_at_a_time_and_ends_it() -> None:
    state = MapState(None, PIECES, 2)
    for wrong in (["b", "z", "2"], ["b", "c", "1"], ["c", "b", "2"], ["b", "c", "9"]):
        assert error(state.apply(["PLAN", *wrong])) == "DECLINED"
    assert state.apply(["PLAN", "b", "c", "2"]) == 2
    assert error(state.apply(["PLAN", "d", "e", "2"])) == "DECLINED"
    assert owner(state.pieces, "b") == 1
    state = MapState(json.loads(json.dumps(state.dump())), PIECES, 2)
    assert [state.apply(["FINISHED", "9"]), state.move is None] == [2, False]
    assert [state.apply(["FINISHED", "2"]), state.apply(["FINISHED", "2"]), state.move] == [3, 3, None]
    assert MapState(json.loads(json.dumps(state.dump())), PIECES, 2).planned == (2, "b", "c", 1, 2)
    assert [owner(state.pieces, point) for point in ("az", "b", "bz", "c", "m")] == [1, 2, 2, 1, 2]


# Transactions across shards

HOST: Any = SimpleNamespace(rng=random.Random(1))
"""As much of a machine as calls and coordinators need."""


def prepare(state: PreparedState, name: str, *commands: list[str], once: tuple[str, str] = ("", "0")) -> Answer:
    return state.apply(["PREPARE", name, "1", *once, json.dumps(commands)])


def decide(state: PreparedState, name: str, once: tuple[str, str] = ("", "0")) -> Answer:
    return state.apply(["DECIDE", name, *once, '"answer"', "[2]"])


def test_what_is_prepared_is_locked_until_it_is_decided_and_unseen_until_then() -> None:
    one, two = shard(1), shard(2)
    assert prepare(one, "t", ["SET", "a", "1"]) == '["OK"]'
    assert prepare(two, "t", ["SET", "z", "1"]) == '["OK"]'
    for state, key in ((one, "a"), (two, "z"), (again(two), "z")):
        assert error(state.read(["GET", key])) == error(state.apply(["SET", key, "2"])) == "LOCKED"
        assert error(prepare(state, "u", ["GET", key])) == "LOCKED"
    assert one.contents() == two.contents() == {}
    assert decide(one, "t") == decide(one, "t") == COMMIT
    for _ in range(2):
        two.apply(["FINISH", "t", COMMIT])
    assert (one.contents(), two.contents()) == ({"a": '"1"'}, {"z": '"1"'})
    assert one.decided == {"t": [2]}
    one.apply(["CLOSE", "t"])
    assert not one.decided
    # Whoever asks later is told the same, and nothing is prepared again.
    assert [one.apply(["RESOLVE", "t"]), decide(one, "t")] == [COMMIT, COMMIT]
    assert error(prepare(two, "t", ["SET", "z", "9"])) == error(prepare(one, "t", ["SET", "a", "9"])) == ABORTED


def many(state: PreparedState, *, committed: bool) -> None:
    """So many transactions that none before them is remembered."""
    for number in range(2000):
        prepare(state, f"more-{committed}-{number}", ["SET", "f", "1"])
        state.apply(["FINISH", f"more-{committed}-{number}", COMMIT if committed else ABORTED])


def test_of_a_commit_that_is_long_over_nobody_says_that_it_was_given_up() -> None:
    one, two = shard(1), shard(2)
    prepare(one, "t", ["SET", "a", "1"])
    prepare(two, "t", ["SET", "z", "1"])
    assert decide(one, "t") == COMMIT
    many(one, committed=True)
    assert [one.apply(["RESOLVE", "t", "2"]), one.apply(["RESOLVE", "t"])] == [COMMIT, COMMIT]
    two.apply(["FINISH", "t", COMMIT])
    one.apply(["CLOSE", "t"])
    for _ in range(2):  # also to a message that comes twice
        for state in (one, again(one)):
            assert [error(decide(state, "t")), state.apply(["RESOLVE", "t"])] == [FORGOTTEN, FORGOTTEN]
    # It is not prepared again, by a message that was as long on its way.
    assert error(prepare(one, "t", ["SET", "a", "9"])) == ABORTED


def test_transactions_that_do_nothing_are_no_reason_to_forget_a_commit() -> None:
    one = shard(1)
    prepare(one, "t", ["SET", "a", "1"])
    assert decide(one, "t") == COMMIT
    one.apply(["CLOSE", "t"])
    many(one, committed=False)
    assert again(one).apply(["RESOLVE", "t"]) == COMMIT


def test_a_shard_does_not_do_twice_what_it_has_prepared_twice() -> None:
    one, two = shard(1), shard(2)
    prepare(one, "t", ["INCRBY", "a", "1"])
    prepare(two, "t", ["INCRBY", "z", "1"])
    decide(one, "t")
    two.apply(["FINISH", "t", COMMIT])
    one.apply(["CLOSE", "t"])
    for number in range(2000):
        two.apply(["FINISH", f"more-{number}", COMMIT])
    assert prepare(two, "t", ["INCRBY", "z", "1"]) == "[2]"
    told = one.apply(["RESOLVE", "t", "2"])
    assert told != COMMIT
    assert one.apply(["RESOLVE", "t"]) == COMMIT
    two.apply(["FINISH", "t", str(told)])
    assert two.read(["GET", "z"]) == "1"


class Remembered(Calls):
    """Calls of a coordinator whose home has committed, and answers what it is given."""

    def __init__(self, decision: Answer, resolution: Answer) -> None:
        self.answers = {"PREPARE": '["OK"]', "DECIDE": decision, "RESOLVE": resolution}

    async def call(self, group: int, command: list[str], patience: float = 0.0) -> Answer:
        answer = self.answers.get(command[0], "OK")
        if answer is None:
            raise Unknown("no answer")
        return answer


@pytest.mark.parametrize(
    ("decision", "resolution", "outcome"),
    [
        (COMMIT, "", "OK"),
        (None, COMMIT, "OK"),
        (None, FORGOTTEN, Unknown),
        ({"error": FORGOTTEN}, "", Unknown),
        (None, None, Unknown),
        (None, ABORTED, Unavailable),
        ({"error": ABORTED}, "", Unavailable),
    ],
)
def test_only_what_was_certainly_given_up_is_said_to_be(decision: Answer, resolution: Answer, outcome: Any) -> None:
    site = Site("n1", ("n1",), HOST, lambda peer, message: None, "", Options())
    coordinator = Coordinator(site, {}, Remembered(decision, resolution), lambda key: 1 if key < "m" else 2)

    async def execute() -> Answer:
        return await coordinator.execute([["SET", "a", "1"], ["SET", "z", "1"]], (), lambda answers: answers[0])

    if isinstance(outcome, str):
        assert asyncio.run(execute()) == outcome
    else:
        with pytest.raises(outcome):
            asyncio.run(execute())


def test_a_command_of_another_type_is_refused_and_breaks_nothing() -> None:
    one = shard(1)
    one.apply(["SET", "a", "1"])
    assert error(prepare(one, "t", ["HGETALL", "a"])) == error(prepare(one, "u", ["RPUSH", "a", "1"])) == "WRONGTYPE"
    assert one.apply(["SET", "a", "2"]) == "OK"


def test_what_was_not_decided_is_given_up_for_good() -> None:
    one, two = shard(1), shard(2)
    prepare(one, "t", ["SET", "a", "1"])
    assert [one.apply(["RESOLVE", "t"]), error(decide(one, "t"))] == [ABORTED, ABORTED]
    two.apply(["FINISH", "t", ABORTED])
    assert error(prepare(two, "t", ["SET", "z", "1"])) == error(prepare(one, "t", ["SET", "a", "1"])) == ABORTED
    assert one.contents() == two.contents() == {}
    assert one.apply(["SET", "a", "2"]) == "OK"


def test_of_two_tries_of_one_command_one_commits() -> None:
    one, once = shard(1), ("client", "5")
    prepare(one, "first", ["SET", "a", "1"], once=once)
    prepare(one, "second", ["SET", "b", "1"], once=once)
    assert decide(one, "first", once) == COMMIT
    assert error(decide(one, "second", once)) == "ANSWERED"
    assert error(prepare(one, "third", ["SET", "c", "1"], once=once)) == "ANSWERED"
    assert error(prepare(one, "late", ["SET", "c", "1"], once=("client", "4"))) == ABORTED
    assert one.contents() == {"a": '"1"'}
    assert one.apply(["ONCE", "client", "5", "SET", "a", "9"]) == "answer"


def test_what_is_declined_stays_declined_whichever_try_comes_later() -> None:
    one, once = shard(1), ("client", "5")
    one.apply(["OPEN", "b", "x", "5"])
    assert error(prepare(one, "t", ["MOVE", "b", "9", "x", ""], once=once)) == "DECLINED"
    one.apply(["MOVE", "b", "90", "", "x"])
    assert error(prepare(one, "u", ["MOVE", "b", "9", "x", ""], once=once)) == "ANSWERED"
    prepare(one, "v", ["MOVE", "b", "1", "x", ""], once=("client", "6"))
    told = '{"error": "DECLINED too little is left"}'
    assert one.apply(["REJECT", "v", "client", "6", told, "[2]"]) == "DECLINED"
    assert error(one.apply(["REJECT", "v", "client", "6", told, "[2]"])) == ABORTED
    assert one.read(["HGETALL", "b"]) == ["x", "95"]


def test_a_range_does_not_leave_while_a_transaction_has_locked_something_in_it() -> None:
    one, two = shard(1), shard(2)
    prepare(one, "t", ["SET", "c", "1"])
    one.apply(["SEND", "2", "b", "d"])
    changes(one, two, "b", "d")
    assert error(one.apply(["FREEZE", "2"])) == "LOCKED"
    assert error(one.apply(["SET", "b", "1"])) == "MOVED"
    assert decide(one, "t") == COMMIT
    frozen = one.apply(["FREEZE", "2"])
    changes(one, two, "b", "d")
    assert two.apply(["ADOPT", "2", str(frozen)]) == "OK"
    assert two.read(["GET", "c"]) == "1"


def test_what_clients_ask_for_falls_apart_by_keys() -> None:
    steps = [["r", "a", None], ["append", "z", 1], ["r", "z", None]]
    parts, joined = of_transaction(json.dumps(steps), lambda key: 1 if key < "m" else 2)
    assert [json.loads(part[1]) for part in parts] == [steps[:1], steps[1:]]
    answers: list[Answer] = ['[["r","a",7]]', '[["append","z",1],["r","z",[1]]]']
    assert json.loads(str(joined(answers))) == [["r", "a", 7], ["append", "z", 1], ["r", "z", [1]]]
    assert of_opening("bank", ["x", "5"]) == [["OPEN", "bank", "x", "0"], ["OPEN", "bank/x", "x", "5"]]
    assert of_move("bank", "3", "x", "y") == [["MOVE", "bank/x", "3", "x", ""], ["MOVE", "bank/y", "3", "", "y"]]


# The nemesis, and the options

SEEN = ShardsSeen(4, [("", 1), ("g", 2), ("p", 1)], [1, 2, 3], ["a", "b", "c", "h"], False)


def plan(kind: str, at: float = 0.0, to: float = 0.0) -> dict[str, Any]:
    return {"kind": kind, "at": at, "to": to}


def test_the_nemesis_moves_what_holds_keys() -> None:
    assert chosen(SEEN, plan("move")) == ("", "g", 2)
    assert chosen(SEEN, plan("move", at=1.0)) == ("g", "p", 1)
    assert chosen(SEEN, plan("move", at=1.0, to=1.0)) == ("g", "p", 3)
    for at in (0.0, 1.0):
        assert chosen(SEEN, plan("split", at=at)) == ("b", "g", 2)
    assert chosen(SEEN._replace(points=["a", "p", "q", "r", "s", END]), plan("split")) == ("r", END, 2)
    assert chosen(SEEN, plan("merge", at=1.0)) == ("g", "p", 1)
    for nothing in (SEEN._replace(points=[]), SEEN._replace(moving=True), SEEN._replace(owners=[("", 0)])):
        with pytest.raises(NothingToDo):
            chosen(nothing, plan("move"))
    with pytest.raises(NothingToDo, match="split"):
        chosen(SEEN._replace(points=["a", "h", "z"]), plan("split"))
    with pytest.raises(NothingToDo, match="neighbour"):
        chosen(SEEN._replace(owners=[("", 1)]), plan("merge"))
    assert owners_of(SEEN, "b", "h") == [1, 2]
    assert owners_of(SEEN, "g", "p") == [2]
    assert owners_of(SEEN, "p", END) == [1]


QUIET = SEEN._replace(epoch=5)
BEHIND = SEEN._replace(epoch=3)
MOVING = SEEN._replace(epoch=4, moving=True)


@pytest.mark.parametrize(
    ("seen", "arrived"),
    [
        ([QUIET, QUIET, QUIET], True),
        ([QUIET, QUIET], True),
        ([QUIET, QUIET, MOVING], True),
        ([QUIET, BEHIND, BEHIND], False),
        ([BEHIND], False),
        ([BEHIND, MOVING, MOVING], False),
        ([], False),
    ],
)
def test_a_range_has_arrived_when_most_nodes_say_so(
    monkeypatch: pytest.MonkeyPatch, seen: list[ShardsSeen], arrived: bool
) -> None:
    monkeypatch.setattr("harness.nemeses.reshard._HEAL_SECONDS", 0.01)

    async def shards(_cluster: Any) -> dict[str, ShardsSeen]:
        return {f"n{number}": one for number, one in enumerate(seen)}

    store: Any = SimpleNamespace(name="store", sharding=SimpleNamespace(shards=shards))
    cluster: Any = SimpleNamespace(majority=2)
    healing = Reshard(Reshard.Options()).heal(cluster, store)
    if arrived:
        assert asyncio.run(healing) == {"epoch": 5}
    else:
        with pytest.raises(NothingToDo, match="arrived"):
            asyncio.run(healing)


@pytest.mark.parametrize(("asked", "said"), [("any", "move: p to the last goes to shard 2"), ("split", None)])
def test_where_nothing_can_be_split_a_piece_moves_if_it_may(asked: Any, said: str | None) -> None:
    async def shards(_cluster: Any) -> dict[str, ShardsSeen]:
        return {"n1": SEEN._replace(points=["z"])}

    async def reshard(_cluster: Any, low: str, high: str, to: int) -> int:
        assert (low, high, to) == ("p", END, 2)
        return 5

    store: Any = SimpleNamespace(name="store", sharding=SimpleNamespace(shards=shards, reshard=reshard))
    injecting = Reshard(Reshard.Options(reshard=asked)).inject(SimpleNamespace(), store, plan("split"))  # type: ignore[arg-type]
    if said is None:
        with pytest.raises(NothingToDo, match="split"):
            asyncio.run(injecting)
    else:
        done = asyncio.run(injecting)
        assert (done["said"], done["epoch"]) == (said, 5)


def test_every_kind_of_resharding_is_dealt() -> None:
    assert set(Reshard(Reshard.Options()).decks({"n1": "a"})["kind"]) == {"move", "split", "merge"}
    assert set(Reshard(Reshard.Options(reshard="split")).decks({"n1": "a"})["kind"]) == {"split"}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"shards": 3, "replication": "quorum"}, "is for replication=raft"),
        ({"shards": 3, "isolation": "snapshot"}, "no snapshot in common"),
        ({"shards": 3, "bug": "stale-reads"}, "of one group"),
        ({"bug": "two-owners"}, "needs"),
        ({"placement": "range"}, "places keys on shards: it needs"),
    ],
)
def test_what_shards_have_not_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Reference(Reference.Options(**options))


def test_bugs_are_planted_where_they_belong() -> None:
    assert plant(Raft, "two-owners") is Raft
    assert plant(Shard, "two-owners").STATE is _GenerousState
    assert issubclass(plant(Shard, "stale-reads"), BUGS["stale-reads"].mixin)
    store = Reference(Reference.Options(shards=3, bug="two-owners"))
    assert (store.leadership, store.membership, store.sharding) == ("none", None, store)
    assert Reference(Reference.Options()).sharding is None


# Calls between nodes


class Group:
    """Stands for a replica of a group: it knows who is primary, and answers."""

    def __init__(self, primary: str | None, answer: Answer | Exception) -> None:
        self.primary = primary
        self.answer = answer
        self.executed = 0

    async def execute(self, command: list[str]) -> Answer:
        self.executed += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def nodes(answer: Answer | Exception, deliver: Callable[[Message], int] = lambda message: 1) -> tuple[Calls, Group]:
    """The calls of n1, and the group's primary on n2, with a network that delivers each message so many times."""
    there, calls = Group("n2", answer), dict[str, Calls]()

    def send(peer: str, message: Message) -> None:
        for _ in range(deliver(message)):
            calls[peer].receive(message)

    for name, group in (("n1", Group("n2", None)), ("n2", there)):
        site = Site(name, ("n1", "n2"), HOST, send, "", Options())
        calls[name] = Calls(site, {1: group})  # type: ignore[dict-item]
    return calls["n1"], there


def test_a_call_is_answered_by_the_primary_however_often_messages_come() -> None:
    calls, there = nodes(["a", "b"], lambda message: 3)
    assert asyncio.run(calls.call(1, ["X"])) == ["a", "b"]
    assert there.executed == 3


@pytest.mark.parametrize(
    ("answer", "lost", "error"),
    [
        (NotPrimary("n1"), "", Unavailable),
        (Unavailable("not now"), "", Unavailable),
        (Unknown("who knows"), "", Unknown),
        ("done", "call", Unknown),
        ("done", "answer", Unknown),
    ],
)
def test_a_call_that_may_have_been_executed_is_unknown(
    answer: Answer | Exception, lost: str, error: type[Exception]
) -> None:
    calls, there = nodes(answer, lambda message: int(message["kind"] != lost))
    with pytest.raises(error):
        asyncio.run(calls.call(1, ["X"]))
    assert there.executed == int(lost != "call")


def test_nobody_is_called_where_no_primary_is_known() -> None:
    site = Site("n1", ("n1",), HOST, lambda peer, message: None, "", Options())
    with pytest.raises(Unavailable):
        asyncio.run(Calls(site, {1: Group(None, None)}).call(1, ["X"]))  # type: ignore[dict-item]


def test_what_was_said_to_an_earlier_run_of_a_node_answers_no_call_of_this_one() -> None:
    late: list[Message] = []

    def forget(message: Message) -> int:
        late.append(message)
        return 0

    before, _ = nodes("of the first run", forget)
    with pytest.raises(Unknown):
        asyncio.run(before.call(1, ["X"]))
    [call] = late

    def answer_late(message: Message) -> int:
        reply = {"kind": "answer", "number": call["number"], "answer": "of the first run", "error": "", "done": False}
        after.receive(reply)
        return 1

    after, _ = nodes("of this run", answer_late)
    assert asyncio.run(after.call(1, ["X"])) == "of this run"


@pytest.mark.parametrize("primary", ["n1", "n2"])
def test_a_call_of_another_type_is_answered_so(primary: str) -> None:
    calls, there = nodes(WrongTypeError("it holds no bank"))
    calls._groups[1].primary = primary
    calls._groups[1].answer = there.answer  # type: ignore[attr-defined]
    assert error(asyncio.run(calls.call(1, ["HGETALL", "a"]))) == "WRONGTYPE"
