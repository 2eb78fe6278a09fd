"""Transactions of the reference store: what its state does, and what its clients ask for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from harness.operation import Declined, Failed, Indeterminate, Operation
from harness.targets.reference.bugs import BUGS, transactions
from harness.targets.reference.client import Isolation, ReferenceClient
from harness.targets.reference.elected import Elected
from harness.targets.reference.raft import Raft
from harness.targets.reference.server import Server
from harness.targets.reference.transactions import KEPT, VersionedState, parse

Steps = list[list[Any]]


def done(state: VersionedState, *steps: list[Any], at: int | None = None) -> Any:
    """What a transaction answers: its reads, or why not. With ``at`` it is one of that snapshot."""
    words = ["TXN"] if at is None else ["COMMIT", str(at)]
    answer = state.apply([*words, json.dumps(steps)])
    if not isinstance(answer, str):
        return answer
    answers = json.loads(answer)
    assert [(f, key) for f, key, _ in answers] == [(f, key) for f, key, _ in steps]
    return [value for f, _, value in answers if f == "r"]


def again(state: VersionedState) -> VersionedState:
    """The state of a node that got it as a snapshot of the log."""
    return VersionedState(json.loads(json.dumps(state.dump())))


def test_a_transaction_is_done_as_a_whole_and_sees_its_own_writes() -> None:
    state = VersionedState()
    assert done(state, ["r", 1, None], ["append", 1, 7], ["r", 1, None], ["w", "x", 3], ["r", "x", None]) == [
        None,
        [7],
        3,
    ]
    dumped = state.dump()
    for state in (state, again(state)):  # noqa: B020
        assert done(state, ["append", 1, 8], ["append", 1, 9], ["r", 1, None]) == [[7, 8, 9]]
        assert "WRONGTYPE" in str(done(state, ["append", 1, 10], ["append", "x", 1]))
        assert done(state, ["r", 1, None], ["r", "x", None]) == [[7, 8, 9], 3]
        assert state.version == state.read(["BEGIN"]) == 2
        assert state.contents() == {"1 (transactions)": "[7, 8, 9]", "x (transactions)": "3"}
        assert done(VersionedState(dumped), ["r", 1, None]) == [[7]]
        # Keys of other commands are others.
        assert state.read(["GET", "x"]) is None


def test_of_two_that_write_one_key_the_first_committer_wins() -> None:
    state = VersionedState()
    done(state, ["w", "x", 1], ["w", "y", 1])
    for state in (state, again(state)):  # noqa: B020
        assert done(state, ["r", "x", None], ["w", "x", 2], at=1) == [1]
        assert "DECLINED" in str(done(state, ["r", "x", None], ["w", "y", 5], ["w", "x", 3], at=1))
        assert done(state, ["r", "x", None], ["r", "y", None], at=1) == [1, 1]
        # Each of the two has seen what the other one then changed.
        assert done(state, ["r", "x", None], ["r", "y", None], ["w", "y", 2], at=1) == [1, 1]
        assert done(state, ["r", "x", None], ["r", "y", None]) == [2, 2]


def test_a_snapshot_that_is_too_old_or_of_a_lost_history_is_refused_and_takes_no_room() -> None:
    state = VersionedState()
    for value in range(1, KEPT + 3):
        done(state, ["w", "x", value], ["w", value, value])
    assert "too old" in str(done(state, ["r", "x", None], at=1))
    assert "too old" in str(done(state, ["r", "x", None], at=KEPT + 3))
    for state in (state, again(state)):  # noqa: B020
        assert done(state, ["r", "x", None], ["r", 3, None], at=2) == [2, None]
        assert len(state.dump()["transactions"]["keys"]["x"]) == KEPT + 1


@pytest.mark.parametrize(
    "wrong",
    ["", "3", "[" * 100_000, '[["r", "x"]]', '[["cas", "x", 1]]', '[["w", "x", [1]]]', '[["r", null, {}]]', "[[]]"],
)
async def test_what_is_no_transaction_is_refused_before_it_is_ordered(wrong: str) -> None:
    class Primary(Elected):
        def __init__(self) -> None:
            pass

    with pytest.raises(ValueError, match=r"transaction|micro-operation"):
        parse(wrong)
    for words in (["TXN", wrong], ["COMMIT", "1", wrong], ["ONCE", "c", "1", "TXN", wrong], ["COMMIT", "x", "[]"]):
        assert str(await Server("n1", Primary(), {}, "").answer(words)).startswith("ERR ")


class Client(ReferenceClient):
    """A client of a store in memory; ``between`` happens before each of its commands, which are kept in ``sent``."""

    def __init__(self, isolation: Isolation, between: Callable[[list[str]], None] = lambda _: None) -> None:
        super().__init__("a", "c", 1.0, None, repeats=True, isolation=isolation)
        self.state = VersionedState()
        self.sent: list[str] = []
        self._between = between

    async def _send(self, *words: Any) -> Any:
        command = [str(word) for word in words]
        self._between(command)
        name = next(word for word in command if word in ("BEGIN", "TXN", "COMMIT"))
        self.sent.append(name)
        answer = self.state.read(command) if name == "BEGIN" else self.state.apply(command)
        if isinstance(answer, dict):
            raise Declined(answer["error"])
        return answer

    async def transact(self, *steps: list[Any]) -> Any:
        return [value for f, _, value in await self.invoke(Operation("txn", None, [*steps])) if f == "r"]


MIXED: Steps = [["r", "x", None], ["r", "y", None], ["append", "x", 1], ["r", "z", None], ["r", "x", None]]


@pytest.mark.parametrize(
    ("isolation", "sent", "answer"),
    [
        ("serializable", ["TXN"], [[7], [7], [7], [7, 1]]),
        ("snapshot", ["BEGIN", "COMMIT"], None),
        ("read-committed", ["TXN"] * 4, [[7], [7, 7], [7, 7, 7], [7, 7, 7, 7, 1]]),
    ],
)
async def test_each_isolation_lets_others_in_between_its_own_commands(
    isolation: Isolation, sent: list[str], answer: Any
) -> None:
    """Somebody appends to all lists before each command."""

    def append(_command: list[str]) -> None:
        done(client.state, *(["append", key, 7] for key in "xyz"))

    client = Client(isolation, append)
    if answer is None:
        with pytest.raises(Declined, match="another transaction has written x"):
            await client.transact(*MIXED)
    else:
        assert await client.transact(*MIXED) == answer
    assert client.sent == sent


@pytest.mark.parametrize("isolation", ["serializable", "snapshot", "read-committed"])
async def test_a_transaction_whose_answer_is_lost_may_have_been_done_unless_it_only_reads(isolation: Isolation) -> None:
    def lost(command: list[str]) -> None:
        if f'"{what}"' in command[-1]:
            raise TimeoutError

    client = Client(isolation, lost)
    what = "append"
    with pytest.raises((OSError, Indeterminate)):
        await client.transact(["append", "x", 1])
    what = "r"
    with pytest.raises(Failed):
        await client.transact(["r", "x", None])
    client = Client(isolation, lambda command: lost([*command, '"r"'] if command == ["BEGIN"] else command))
    with pytest.raises((Failed, OSError)) as raised:
        await client.transact(["r", "x", None], ["append", "x", 2])
    assert isinstance(raised.value, OSError) == (isolation == "serializable")


def test_there_is_a_planted_bug_for_each_kind_of_anomaly() -> None:
    of_transactions = [bug for bug in BUGS.values() if bug.mixin.__module__ == transactions.__name__]
    told = " ".join(bug.breaks for bug in of_transactions)
    kinds = ("G0", "G1a", "G1b", "G1c", "internal", "lost-update", "G-single", "long fork", "write skew", "-realtime")
    assert [kind for kind in kinds if kind not in told] == []
    assert all(issubclass(bug.mixin, Raft) and bug.checker == "transactions" for bug in of_transactions)
