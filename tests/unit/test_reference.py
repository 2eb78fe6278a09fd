"""The parts of the reference store, each by itself."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.environments.simulation.disk import SimulatedDisk
from harness.targets.reference import metrics, resp
from harness.targets.reference.bugs import BUGS, plant
from harness.targets.reference.bugs.bug import SEEDS_FILE
from harness.targets.reference.elected import Elected
from harness.targets.reference.host import RealFile
from harness.targets.reference.journal import DiskError, Journal
from harness.targets.reference.log import Entry, Log
from harness.targets.reference.merkle import ROOT, Tree
from harness.targets.reference.options import Options
from harness.targets.reference.quorum import Quorum
from harness.targets.reference.raft import Raft
from harness.targets.reference.replica import Site
from harness.targets.reference.server import Server
from harness.targets.reference.state import State, WrongTypeError


def journal(folder: Path) -> Journal:
    return Journal(RealFile(folder / "a"), RealFile(folder / "b"))


def test_the_log_survives_being_opened_again(tmp_path: Path) -> None:
    log = Log(journal(tmp_path))
    log.vote(3, "n2")
    log.append(1, [Entry(3, ["SET", "a", "1"]), Entry(3, ["SET", "a", "2"])])
    log.append(2, [Entry(4, ["SET", "a", "3"])])
    again = Log(journal(tmp_path))
    assert again.entries(1, 9) == [Entry(3, ["SET", "a", "1"]), Entry(4, ["SET", "a", "3"])]
    assert (again.term, again.voted_for) == (3, "n2")
    assert [again.term_of(index) for index in range(4)] == [0, 3, 4, -1]


def test_a_snapshot_takes_the_place_of_entries_and_keeps_the_later_ones(tmp_path: Path) -> None:
    log = Log(journal(tmp_path))
    log.vote(2, "n1")
    log.append(1, [Entry(1, ["SET", "a", str(n)]) for n in range(10)])
    log.compact(7, 1, {"a": "6"})
    for same in (log, Log(journal(tmp_path))):
        assert (same.base, same.last, same.size, same.snapshot) == (7, 10, 3, {"a": "6"})
        assert [same.term_of(index) for index in (6, 7, 8, 11)] == [-1, 1, 1, -1]
        assert same[8] == Entry(1, ["SET", "a", "7"])
        assert (same.term, same.voted_for) == (2, "n1")


def test_a_torn_line_is_cut_off_and_the_journal_goes_on(tmp_path: Path) -> None:
    journal(tmp_path).append([{"n": 1}, {"n": 2}])
    path = max((tmp_path / "a", tmp_path / "b"), key=lambda one: one.stat().st_size)
    path.write_bytes(path.read_bytes()[:-3])
    torn = journal(tmp_path)
    assert torn.records == [{"n": 1}]
    torn.append([{"n": 3}])
    assert journal(tmp_path).records == [{"n": 1}, {"n": 3}]


def test_a_rewrite_that_was_cut_short_leaves_the_old_records(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.append([{"n": number} for number in range(5)])
    first.rewrite([{"n": "all"}])
    newest = max((tmp_path / "a", tmp_path / "b"), key=lambda one: one.stat().st_size)
    assert journal(tmp_path).records == [{"n": "all"}]
    before = newest.read_bytes()
    first.rewrite([{"n": "other"}])
    newer = tmp_path / ("b" if newest.name == "a" else "a")
    whole = newer.read_bytes()
    for size in range(len(whole)):
        newest.write_bytes(before)
        newer.write_bytes(whole[:size])
        assert journal(tmp_path).records == [{"n": "all"}]


def test_a_flipped_bit_ends_the_node_and_is_never_served(tmp_path: Path) -> None:
    journal(tmp_path).append([{"n": number} for number in range(5)])
    path = max((tmp_path / "a", tmp_path / "b"), key=lambda one: one.stat().st_size)
    whole = path.read_bytes()
    for place in range(whole.index(b"\n") + 1, len(whole)):
        data = bytearray(whole)
        data[place] ^= 4
        path.write_bytes(bytes(data))
        with pytest.raises(DiskError, match="corrupt"):
            journal(tmp_path)


def test_a_flipped_bit_that_was_cut_off_is_not_flipped_back_in_what_was_written_since() -> None:
    disk = SimulatedDisk(random.Random(1))
    file = disk.open("a")
    file.append(b"x" * 8)
    file.sync()
    disk.flip("a", 4, 3)
    assert file.read() != b"x" * 8
    file.truncate(0)
    file.append(b"y" * 8)
    assert not file.restore()
    assert file.read() == b"y" * 8


def test_a_full_disk_ends_the_node() -> None:
    disk = SimulatedDisk(random.Random(1))
    full = Journal(disk.open("a"), disk.open("b"))
    disk.full = True
    with pytest.raises(DiskError, match="No space left"):
        full.append([{"n": 1}])


def test_the_state_runs_commands() -> None:
    state = State()
    assert state.apply(["SET", "k", "1"]) == "OK"
    assert state.apply(["CAS", "k", "2", "3"]) == 0
    assert state.apply(["CAS", "k", "1", "3"]) == 1
    assert state.read(["GET", "k"]) == "3"
    assert [state.apply(["DEL", "k"]), state.apply(["DEL", "k"]), state.read(["GET", "k"])] == [1, 0, None]
    assert [state.apply(["INCRBY", "n", "5"]), state.apply(["INCRBY", "n", "-7"])] == [5, -2]
    assert [state.apply(["SADD", "s", "x"]), state.apply(["SADD", "s", "x"]), state.apply(["SREM", "s", "y"])] == [
        1,
        0,
        0,
    ]
    assert state.read(["SMEMBERS", "s"]) == ["x"]
    assert state.apply(["INCRBY", "s", "1"]) == {"error": "WRONGTYPE s holds no number"}
    # Python writes no number of more than 4300 digits.
    for digits, error in ((4300, "DECLINED the number would be too long"), (4301, "WRONGTYPE big holds no number")):
        state.apply(["SET", "big", "9" * digits])
        assert state.apply(["INCRBY", "big", "1"]) == {"error": error}
        assert state.read(["GET", "big"]) == "9" * digits
    with pytest.raises(WrongTypeError):
        state.read(["GET", "s"])


def test_lists_are_appended_to_and_read_and_survive_a_snapshot() -> None:
    state = State()
    assert [state.apply(["RPUSH", "l", word]) for word in "abc"] == [1, 2, 3]
    for state in (state, State(json.loads(json.dumps(state.dump())))):  # noqa: B020
        assert state.read(["LRANGE", "l", "0", "-1"]) == ["a", "b", "c"]
        assert state.read(["LRANGE", "l", "-2", "1"]) == ["b"]
        assert state.read(["LRANGE", "l", "5", "9"]) == state.read(["LRANGE", "none", "0", "-1"]) == []
        assert state.apply(["SADD", "l", "x"]) == {"error": "WRONGTYPE l holds no set"}
        assert state.apply(["INCRBY", "l", "1"]) == {"error": "WRONGTYPE l holds no number"}
        with pytest.raises(WrongTypeError, match="l holds no string"):
            state.read(["GET", "l"])
    state.apply(["SADD", "s", "x"])
    assert state.apply(["RPUSH", "s", "x"]) == {"error": "WRONGTYPE s holds no list"}
    assert [state.apply(["DEL", "l"]), state.read(["LRANGE", "l", "0", "-1"])] == [1, []]


def test_queues_and_banks_change_in_one_step_and_survive_a_snapshot() -> None:
    state = State()
    for word in "abc":
        state.apply(["RPUSH", "q", word])
    assert [state.apply(["LPOP", "q"]) for _ in range(2)] == ["a", "b"]
    assert state.apply(["OPEN", "bank", "x", "10", "y", "5"]) == "OK"
    for state in (state, State(json.loads(json.dumps(state.dump())))):  # noqa: B020
        assert state.read(["HGETALL", "bank"]) == ["x", "10", "y", "5"]
        assert state.apply(["OPEN", "bank", "x", "99"]) == "OK"
        assert state.apply(["MOVE", "bank", "4", "x", "y"]) == 6
        assert state.apply(["MOVE", "bank", "7", "x", "y"]) == {"error": "DECLINED too little is left"}
        assert state.apply(["MOVE", "bank", "1", "x", "z"]) == {"error": "DECLINED there is no account z"}
        assert [state.apply(["MOVE", "bank", "1", "y", ""]), state.apply(["MOVE", "bank", "3", "", "x"])] == [8, 0]
        assert state.read(["HGETALL", "bank"]) == ["x", "9", "y", "8"]
        assert [state.apply(["LPOP", "q"]), state.apply(["LPOP", "q"]), state.apply(["LPOP", "none"])] == [
            "c",
            None,
            None,
        ]
        for wrong in (["MOVE", "q", "1", "x", "y"], ["LPOP", "bank"], ["INCRBY", "bank", "1"], ["SADD", "bank", "x"]):
            assert "WRONGTYPE" in str(state.apply(wrong))


def test_leases_and_locks_are_of_one_holder_and_survive_a_snapshot() -> None:
    state = State()
    over = {"error": "DECLINED it had run out"}
    assert state.apply(["GRANT", "k", "2000"]) == 1
    for state in (state, State(json.loads(json.dumps(state.dump())))):  # noqa: B020
        assert state.apply(["GRANT", "k", "2000"]) == {"error": "DECLINED somebody has it"}
        assert state.read(["GET", "k"]) == "1"
        assert (state.leases, state.apply(["RENEW", "none", "9"])) == ({"k": (2000, 1)}, 0)
        assert state.apply(["GUARDED", "k", "1", "x"]) == "OK"
        assert state.leases == {"k": (2000, 2)}
        # The end of what it was before it was renewed is void; its token stays.
        assert [state.apply(["EXPIRE", "k", "1"]), state.apply(["RENEW", "k", "5"]), state.leases] == [
            0,
            1,
            {"k": (5, 3)},
        ]
        for wrong in (["GUARDED", "k", "3", "x"], ["RELEASE", "k", "0"], ["RELEASE", "none", "1"]):
            assert state.apply(wrong) == over
        assert [state.apply(["EXPIRE", "k", "3"]), state.read(["GET", "k"]), state.leases] == [1, None, {}]
        assert state.apply(["GUARDED", "k", "1", "x"]) == over
        assert state.apply(["GRANT", "k", "7"]) == 4
        # Who held it before may write until somebody with a newer token has.
        assert [state.apply(["FENCED", "k", token, "x"]) for token in ("1", "4", "4")] == ["OK", "OK", "OK"]
        assert state.apply(["FENCED", "k", "1", "x"]) == {"error": "DECLINED the token is older than one that was seen"}
        assert [state.apply(["RELEASE", "k", "4"]), state.leases] == [1, {}]
        assert "DECLINED" in str(state.apply(["FENCED", "k", "1", "x"]))
    # Who writes strings to a lock's key, or deletes it, has no lock, and breaks nothing.
    state.apply(["SET", "s", "1"])
    assert [state.apply([name, "s", "1", "x"][: 3 + (name == "GUARDED")]) for name in ("GUARDED", "RELEASE")] == [
        over,
        over,
    ]
    state.apply(["GRANT", "d", "5"])
    assert [state.apply(["DEL", "d"]), state.leases, state.apply(["RENEW", "d", "5"])] == [1, {}, 0]
    # What is written in its place is no lease, and stays when its time is over.
    for key, write in (("a", ["SET", "a", "x"]), ("b", ["INCRBY", "b", "1"]), ("c", ["CAS", "c", "?", "x"])):
        number = state.apply(["GRANT", key, "5"])
        state.apply([str(number) if word == "?" else word for word in write])
        assert (state.leases, state.apply(["EXPIRE", key, str(number)])) == ({}, 0)
        assert state.read(["GET", key]) is not None
    number = state.apply(["GRANT", "e", "5"])
    assert [state.apply(["CAS", "e", "other", "x"]), state.leases] == [0, {"e": (5, number)}]


async def test_a_node_says_who_has_served_a_command_and_in_which_term() -> None:
    class Primary(Elected):
        def __init__(self) -> None:
            self.state = State()

        def status(self) -> dict[str, Any]:
            return {"term": 7}

        async def execute(self, command: list[str]) -> Any:
            return self.state.apply(command) if command[0] == "RPUSH" else self.state.read(command)

    server = Server("n2", Primary(), {}, "")
    assert await server.answer(["SERVED", "RPUSH", "l", "1"]) == [b"n2", 7, 1]
    assert await server.answer(["SERVED", "LRANGE", "l", "0", "-1"]) == [b"n2", 7, [b"1"]]
    assert await server.answer(["SERVED", "PING"]) == [b"n2", 7, "PONG"]
    for wrong in (
        ["SERVED", "NONE"],
        ["SERVED"] * 400 + ["PING"],
        ["LRANGE", "l", "0", "x"],
        ["PEEK", "LRANGE", "l"],
        ["PEEK", "GET", "k", "0", "1"],
        ["MOVE", "bank", "x", "a", "b"],
        ["OPEN", "bank", "a", "1", "b", "x"],
        ["GRANT", "k", "1.5"],
        ["GUARDED", "k", "x", "v"],
        ["EXPIRE", "k", "1"],
        ["ONCE", "c", "1", "EXPIRE", "k", "1"],
        ["ONCE", "c", "9" * 4301, "SET", "k", "v"],
    ):
        assert isinstance(await server.answer(wrong), ValueError)


def test_a_repeated_command_is_answered_and_not_run_again() -> None:
    state = State()
    once = ["ONCE", "c1", "1", "INCRBY", "n", "5"]
    assert [state.apply(once), state.apply(once)] == [5, 5]
    assert state.apply(["ONCE", "c1", "2", "INCRBY", "n", "1"]) == 6
    again = State(state.dump())
    assert again.apply(["ONCE", "c1", "2", "INCRBY", "n", "1"]) == 6
    assert again.apply(once) is None
    assert again.read(["GET", "n"]) == "6"


def test_commands_are_read_in_both_forms_and_in_any_pieces() -> None:
    data = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n"
    for cut in range(len(data)):
        parser = resp.Parser()
        assert [*parser.feed(data[:cut]), *parser.feed(data[cut:])] == [[b"GET", b"k"], [b"PING"]]


@pytest.mark.parametrize("wrong", [b"*x\r\n", b"*1\r\n+GET\r\n", b"*1\r\n$-4\r\n", b"*99999999999\r\n", b"x" * 99999])
def test_what_is_not_resp_is_refused(wrong: bytes) -> None:
    with pytest.raises(resp.ProtocolError):
        list(resp.Parser().feed(wrong))


def test_replies_are_encoded() -> None:
    reply: resp.Reply = ["OK", 3, b"ab", None, ValueError("ERR no")]
    assert resp.encode(reply) == b"*5\r\n+OK\r\n:3\r\n$2\r\nab\r\n$-1\r\n-ERR no\r\n"


def test_merkle_trees_find_exactly_the_leaves_that_differ() -> None:
    from harness.targets.reference.merkle import leaf_of

    mine = {f"k{number}": number for number in range(200)}
    theirs = {**mine, "k7": -1, "new": 1}
    one, other = Tree(mine), Tree(theirs)
    assert one[ROOT] != other[ROOT]
    differing = [ROOT]
    while below := one.children(differing):
        differing = other.differing(below)
    assert {number for _, number in differing} == {leaf_of("k7"), leaf_of("new")}
    assert Tree(mine)[ROOT] == one[ROOT]


def test_metrics_are_in_prometheus_format() -> None:
    lines = metrics.text({"role": "backup", "term": 3, "lag": 2, "keys": 5}).splitlines()
    assert 'splitbrain_role{role="backup"} 1' in lines
    assert 'splitbrain_role{role="primary"} 0' in lines
    assert "splitbrain_term 3" in lines
    assert "# TYPE splitbrain_lag gauge" in lines


def test_every_bug_says_what_it_breaks_and_changes_its_replica() -> None:
    assert len(BUGS) >= 20
    for bug in BUGS.values():
        assert bug.breaks.endswith(".")
        changed = {name for name in vars(bug.mixin) if not name.startswith("__") or name == "__init__"}
        assert changed, bug.name
    two = plant(Raft, "stale-reads,vote-twice")
    assert issubclass(two, Raft)
    assert two._before_read is not Raft._before_read
    assert two._may_vote is not Raft._may_vote
    assert plant(Raft, "") is Raft


def test_a_bug_alone_says_which_replication_is_meant() -> None:
    from harness.errors import UsageError
    from harness.targets.reference.target import Reference

    assert Reference(Reference.Options(bug="small-quorums"))._options.replication == "quorum"
    assert Reference(Reference.Options(bug="stale-reads"))._options.replication == "raft"
    with pytest.raises(UsageError, match="no bug named"):
        Reference(Reference.Options(bug="nope"))
    for wrong in ({"bug": "small-quorums", "replication": "gossip"}, {"bug": "stale-reads,rumours-only"}):
        with pytest.raises(UsageError, match="a run has only one"):
            Reference(Reference.Options(**wrong))


def test_the_table_of_bugs_is_up_to_date() -> None:
    from harness.targets.reference.bugs.__main__ import table

    kept = Path(__file__).parents[2] / "targets/reference/BUGS.md"
    assert kept.read_text() == table() + "\n", "python -m harness.targets.reference.bugs > targets/reference/BUGS.md"
    assert json.loads(SEEDS_FILE.read_text()).keys() == BUGS.keys(), "make bench-bugs"


@pytest.mark.parametrize("name", BUGS)
def test_the_command_of_a_bug_names_its_seeds_and_no_place_of_this_machine(name: str) -> None:
    command = BUGS[name].command
    assert command.startswith(f"splitbrain hunt reference --bug {name} ")
    assert command.endswith(f" --seeds {BUGS[name].seeds}")
    assert "/" not in command


async def test_nobody_hears_of_a_change_that_its_own_node_could_not_keep() -> None:
    """Else the node would give the change's number to another one after its restart."""
    disk, heard = SimulatedDisk(random.Random(1)), []

    class Machine:
        rng, open, wall = random.Random(1), staticmethod(disk.open), staticmethod(time.time)

        def later(self, seconds: float, callback: Callable[..., object]) -> asyncio.TimerHandle:
            return asyncio.get_running_loop().call_later(seconds, callback)

    def send(peer: str, message: Any) -> None:
        heard.append(message["kind"])
        answer = {"kind": "got" if message["kind"] == "get" else "stored", "id": message["id"], "sender": peer}
        asyncio.get_running_loop().call_soon(node.receive, answer)

    site = Site("n1", ("n1", "n2", "n3"), Machine(), send, "/n1", Options(replication="quorum"))  # type: ignore[arg-type]
    node = Quorum(site)
    assert await node.execute(["SADD", "k", "1"]) == 1
    assert "put" in heard
    heard.clear()
    disk.full = True
    with pytest.raises(DiskError):
        await node.execute(["SADD", "k", "2"])
    assert "put" not in heard
