"""Transactions as clients of etcd and Redis make them: what is asked, in which order, and what a refusal means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, get_args

import pytest
from hiredis import ReplyError

from harness.operation import Declined, Failed, Indeterminate
from harness.targets import redis_transactions
from harness.targets.etcd_calls import decode
from harness.targets.etcd_transactions import How, Transactions
from harness.targets.redis_transactions import Command, transact
from harness.targets.transactions import Steps, carry_out, keys_needed

STEPS: Steps = [["r", 1, None], ["append", 1, 7], ["r", 1, None], ["append", 2, 8], ["append", 1, 9], ["r", 3, None]]
DONE = [["r", 1, [5]], ["append", 1, 7], ["r", 1, [5, 7]], ["append", 2, 8], ["append", 1, 9], ["r", 3, None]]


def test_micro_operations_see_those_before_them() -> None:
    assert carry_out(STEPS, {1: [5]}) == (DONE, {1: [5, 7, 9], 2: [8]})
    assert carry_out([["w", 1, 2], ["r", 1, None]], {1: 9}) == ([["w", 1, 2], ["r", 1, 2]], {1: 2})
    assert keys_needed([["w", 1, 2], ["r", 1, None], ["r", 3, None], ["w", 3, 1], ["append", 4, 1]]) == [3, 4]
    with pytest.raises(Failed, match="swap"):
        carry_out([["swap", 1, 2]], {})


class Etcd:
    """One member: keys with what they hold and the revision of that. ``before`` is done before each commit."""

    def __init__(self, before: Callable[[Etcd], None] = lambda _: None, fails: Sequence[int] = ()) -> None:
        self.revision = 1
        self.held: dict[str, list[tuple[int, str]]] = {}
        self.asked: list[dict[str, Any]] = []
        self._before, self._fails = before, fails

    def put(self, key: str, value: str) -> None:
        self.revision += 1
        self.held.setdefault(key, []).append((self.revision, value))

    def now(self, key: str) -> str | None:
        return self.held[key][-1][1] if key in self.held else None

    async def post(self, method: str, body: dict[str, Any]) -> Any:
        assert method == "kv/txn"
        self.asked.append(body)
        if len(self.asked) in self._fails:
            raise TimeoutError
        if "compare" in body:
            self._before(self)
        succeeded = all(self._compares(one) for one in body.get("compare", ()))
        responses = [self._do(one) for one in body.get("success" if succeeded else "failure", ())]
        header = {"revision": str(self.revision)}
        return {"header": header, "responses": responses} | ({"succeeded": True} if succeeded else {})

    def _compares(self, compare: dict[str, Any]) -> bool:
        key, revision = decode(compare["key"]), int(compare["mod_revision"])
        modified = self.held[key][-1][0] if key in self.held else 0
        return modified < revision if compare["result"] == "LESS" else modified == revision

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        if "request_put" in request:
            self.put(decode(request["request_put"]["key"]), request["request_put"]["value"])
            return {}
        asked = request["request_range"]
        at = int(asked["revision"]) or self.revision
        versions = [version for version in self.held.get(decode(asked["key"]), []) if version[0] <= at]
        pairs = [{"mod_revision": str(modified), "value": value} for modified, value in versions[-1:]]
        return {"response_range": {"kvs": pairs} if pairs else {}}


def five(store: Etcd) -> Etcd:
    """A list that holds 5, as its key 1."""
    store.put("1", "WzVd")
    return store


def etcd(store: Etcd, how: How, steps: Steps) -> list[list[Any]]:
    return asyncio.run(Transactions(store.post, how, serializable=False).run(steps))


@pytest.mark.parametrize("how", get_args(How))
def test_etcd_answers_and_keeps_what_was_written(how: How) -> None:
    store = five(Etcd())
    assert etcd(store, how, STEPS) == DONE
    assert etcd(store, how, [["r", 1, None], ["r", 2, None]]) == [["r", 1, [5, 7, 9]], ["r", 2, [8]]]


def append_once(store: Etcd) -> None:
    """Somebody appends 6, once."""
    if store.now("1") == "WzVd":
        store.put("1", "WzUsIDZd")


@pytest.mark.parametrize(
    ("how", "left", "calls"),
    [("stm", [5, 6, 7, 9], 5), ("stm-repeatable-reads", [5, 6, 7, 9], 8), ("stm-read-committed", [5, 7, 9], 4)],
)
def test_etcds_library_tries_again_or_loses_an_update(how: How, left: list[int], calls: int) -> None:
    store = five(Etcd(append_once))
    answer = etcd(store, how, STEPS)
    # One call for each of three keys and a commit; after a commit that failed the library knows what there is.
    assert len(store.asked) == calls
    assert etcd(store, "revisions", [["r", 1, None]]) == [["r", 1, left]]
    assert answer[0] == ["r", 1, left[:-2]]


def test_etcd_declines_where_somebody_was_faster() -> None:
    store = five(Etcd(append_once))
    with pytest.raises(Declined):
        etcd(store, "revisions", STEPS)
    assert etcd(store, "revisions", [["r", 1, None], ["r", 2, None]]) == [["r", 1, [5, 6]], ["r", 2, None]]
    always = five(Etcd(lambda store: store.put("1", "WzVd")))
    with pytest.raises(Declined):
        etcd(always, "stm", STEPS)


def test_the_first_read_of_etcds_library_sets_the_revision_of_the_others_and_a_quorum_confirms_them() -> None:
    store = five(Etcd())
    etcd(store, "stm", [["r", 1, None], ["r", 2, None]])
    (first,), (second,), () = (body.get("success", ()) for body in store.asked)
    assert first["request_range"] | {"serializable": False, "revision": "0"} == first["request_range"]
    assert second["request_range"] | {"serializable": True, "revision": "2"} == second["request_range"]
    assert [one["request_range"]["serializable"] for one in store.asked[2]["failure"]] == [False, False]


@pytest.mark.parametrize("how", get_args(How))
def test_without_an_answer_of_etcd_only_a_commit_may_have_been_done(how: How) -> None:
    with pytest.raises(Failed):
        etcd(five(Etcd(fails=[1])), how, [["append", 1, 7]])
    with pytest.raises(TimeoutError):
        etcd(five(Etcd(fails=[2])), how, [["append", 1, 7]])
    with pytest.raises(TimeoutError):
        etcd(five(Etcd(fails=[1])), how, [["w", 1, 7]])
    for fails in (1, 2) if how not in ("revisions", "stm-read-committed") else (1,):
        with pytest.raises(Failed):
            etcd(five(Etcd(fails=[fails])), how, [["r", 1, None]])


class Redis:
    """Answers to commands from a list; an exception is raised in place of all that were sent with it."""

    def __init__(self, *answers: Any) -> None:
        self.sent: list[list[Command]] = []
        self._answers = list(answers)

    async def execute_each(self, commands: Sequence[Command]) -> list[Any]:
        self.sent.append(list(commands))
        answers = self._answers.pop(0)
        if isinstance(answers, Exception):
            raise answers
        assert len(answers) == len(commands)
        return list(answers)


def redis(store: Redis, steps: Steps, how: redis_transactions.How = "multi") -> list[list[Any]]:
    return asyncio.run(transact(store.execute_each, steps, how))


def test_redis_is_sent_a_transaction_in_one_go() -> None:
    store = Redis(["OK", *["QUEUED"] * 6, [["5"], 2, ["5", "7"], 1, 3, []]])
    assert redis(store, STEPS) == DONE
    whole = ("LRANGE", 1, 0, -1)
    appends = [("RPUSH", 1, 7), ("RPUSH", 2, 8), ("RPUSH", 1, 9)]
    assert store.sent == [
        [("MULTI",), whole, appends[0], whole, *appends[1:], ("LRANGE", 3, 0, -1), ("EXEC",)],
    ]


def test_who_only_reads_redis_finds_out_what_a_key_is() -> None:
    wrong = ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")
    store = Redis(["OK", *["QUEUED"] * 6, [["5"], wrong, wrong, "7", [], None]])
    steps: Steps = [["r", 1, None], ["r", 2, None], ["r", 3, None]]
    assert redis(store, steps) == [["r", 1, [5]], ["r", 2, 7], ["r", 3, None]]


def test_who_watches_redis_reads_first_and_then_writes() -> None:
    store = Redis(["OK", ["5"], [], []], ["OK", *["QUEUED"] * 3, [2, 1, 3]])
    assert redis(store, STEPS, "watch") == DONE
    assert store.sent[0] == [("WATCH", 1, 2, 3), *(("LRANGE", key, 0, -1) for key in (1, 2, 3))]
    assert store.sent[1] == [("MULTI",), ("RPUSH", 1, 7), ("RPUSH", 2, 8), ("RPUSH", 1, 9), ("EXEC",)]
    with pytest.raises(Declined):
        redis(Redis(["OK", ["5"], [], []], ["OK", *["QUEUED"] * 3, None]), STEPS, "watch")


READONLY = ReplyError("READONLY You can't write against a read only replica.")
ABORTED = ReplyError("EXECABORT Transaction discarded because of previous errors.")
APPEND: Steps = [["append", 1, 7], ["r", 1, None]]


@pytest.mark.parametrize(
    ("how", "steps", "answers", "error"),
    [
        ("multi", APPEND, [["OK", READONLY, "QUEUED", ABORTED]], Failed),
        ("multi", APPEND, [["OK", "QUEUED", "QUEUED", [READONLY, []]]], Indeterminate),
        ("multi", APPEND, [["OK", "QUEUED", "QUEUED", [1, READONLY]]], Indeterminate),
        ("multi", APPEND, [[READONLY, READONLY, READONLY, READONLY]], Failed),
        ("multi", APPEND, [[READONLY, 1, ["7"], ReplyError("ERR EXEC without MULTI")]], Indeterminate),
        ("multi", APPEND, [OSError("lost")], OSError),
        ("multi", [["r", 1, None]], [OSError("lost")], Failed),
        ("watch", APPEND, [OSError("lost")], Failed),
        ("watch", APPEND, [["OK", ["5"]], OSError("lost")], OSError),
        ("lua", APPEND, [[READONLY]], ReplyError),
        ("lua", APPEND, [OSError("lost")], OSError),
    ],
)
def test_what_redis_refuses_as_a_whole_is_a_failure(
    how: redis_transactions.How, steps: Steps, answers: list[Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        redis(Redis(*answers), steps, how)
