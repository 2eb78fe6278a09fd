from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from targets.reference import resp
from targets.reference.disk import RealFile
from targets.reference.log import Entry, Log
from targets.reference.state import State


def test_the_log_survives_being_opened_again(tmp_path: Path) -> None:
    log = Log(RealFile(tmp_path / "log"))
    log.vote(3, "n2")
    log.append(1, [Entry(3, ["SET", "a", "1"]), Entry(3, ["SET", "a", "2"])])
    log.append(2, [Entry(4, ["SET", "a", "3"])])
    again = Log(RealFile(tmp_path / "log"))
    assert again.entries == [Entry(3, ["SET", "a", "1"]), Entry(4, ["SET", "a", "3"])]
    assert (again.term, again.voted_for) == (3, "n2")
    assert [again.term_of(index) for index in range(4)] == [0, 3, 4, -1]


def test_a_torn_line_is_cut_off_and_the_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    Log(RealFile(path)).append(1, [Entry(1, ["SET", "a", "1"]), Entry(1, ["SET", "a", "2"])])
    path.write_bytes(path.read_bytes()[:-7])
    log = Log(RealFile(path))
    assert log.last == 1
    log.append(2, [Entry(2, ["DEL", "a"])])
    assert Log(RealFile(path)).entries == [Entry(1, ["SET", "a", "1"]), Entry(2, ["DEL", "a"])]


def test_the_state_runs_commands() -> None:
    state = State()
    assert state.apply(["SET", "k", "1"]) == "OK"
    assert state.apply(["CAS", "k", "2", "3"]) == 0
    assert state.apply(["CAS", "k", "1", "3"]) == 1
    assert state.get("k") == "3"
    assert [state.apply(["DEL", "k"]), state.apply(["DEL", "k"]), state.get("k")] == [1, 0, None]


async def test_commands_are_read_in_both_forms() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n")
    reader.feed_eof()
    assert [await resp.read_command(reader) for _ in range(3)] == [[b"GET", b"k"], [b"PING"], None]


@pytest.mark.parametrize("wrong", [b"*x\r\n", b"*1\r\n+GET\r\n", b"*1\r\n$-4\r\n", b"*99999999999\r\n"])
async def test_what_is_not_resp_is_refused(wrong: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(wrong)
    reader.feed_eof()
    with pytest.raises(resp.ProtocolError):
        await resp.read_command(reader)


def test_replies_are_encoded() -> None:
    reply: resp.Reply = ["OK", 3, b"ab", None, ValueError("ERR no")]
    assert resp.encode(reply) == b"*5\r\n+OK\r\n:3\r\n$2\r\nab\r\n$-1\r\n-ERR no\r\n"
