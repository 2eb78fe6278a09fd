"""Histories that are no plain files of plain operations: one sentence each, and nothing waits for ever."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HistoryError, UsageError
from harness.interop import read_history, source
from harness.recording import read_jsonl
from harness.run_directory import find_history

OWN = [
    '{"index":0,"time":1,"process":0,"type":"invoke","f":"write","key":"a:b","value":"x: y"}',
    '{"index":1,"time":2,"process":0,"type":"info","f":"write","key":"a:b","error":"Error: no: \\"{:\\""}',
    '{"index":2,"time":3,"process":"nemesis","type":"ok","f":"start-kill","value":{"said":"n1","killed":{"n1":[]}}}',
]


@pytest.mark.parametrize(
    "line",
    [
        '{"index":3,"time":4,"process":1,"type":"ok","f":"read","value":1,"value":2}',
        '{"index":3,"time":4,"process":1,"type":"ok","f":"read","value" :1,"value":2}',
        '{"index":3,"time":4,"process":1,"type":"ok","type":"fail","f":"read","value":1}',
        '{"index":3,"time":4,"process":1,"type":"ok","f":"read","other":1,"other":2}',
        '{"index":3,"time":4,"process":1,"type":"ok","f":"read","value":{"a":1,"a":2}}',
        '{"index":3,"time":4,"process":1,"type":"ok","f":"txn","value":[{"b":[{"a":1,"a":2}]}]}',
    ],
)
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path: Path, line: str, end: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join([*OWN, line]) + end)
    for read in (read_jsonl, read_history):
        with pytest.raises(HistoryError, match=r"history.jsonl, line 4: .*stands twice in one object"):
            read(path)


def test_keys_that_stand_once_are_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join([*OWN, '{"index":3,"time":4,"process":0,"type":"invoke","f":"read","value":null}']))
    assert len(read_jsonl(path)) == 4


def test_other_json_and_edn_have_each_key_once(tmp_path: Path) -> None:
    json = tmp_path / "array.json"
    json.write_text('[{"process":0,"type":"invoke","f":"read"},\n{"process":0,"type":"ok","f":"read","f":"write"}]')
    with pytest.raises(HistoryError, match=r'line 2: .*"f" stands twice'):
        read_history(json)
    edn = tmp_path / "history.edn"
    edn.write_text("{:process 0 :type :invoke :f :read}\n{:process 0 :type :ok :f :read :type :fail}")
    with pytest.raises(HistoryError, match="line 2: a map has the same key twice"):
        read_history(edn)
    edn.write_text("{:process 0 :type :invoke :f :read :odd {1 2, true 3, 1.0 4}}")
    assert len(read_history(edn)) == 1


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "run" / "history.jsonl").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        odd = {tmp_path / "socket": "a socket", tmp_path / "run": "a directory", Path("/dev/zero"): "a device"}
        for path, what in odd.items():
            with pytest.raises(UsageError, match=f"is {what}, and no history"):
                find_history(path)
    (tmp_path / "other").mkdir()
    os.mkfifo(tmp_path / "other" / "history.jsonl")
    with pytest.raises(UsageError, match="is a pipe, and no history"):
        find_history(tmp_path / "other")
    for missing in (tmp_path / "nowhere", Path("a\0b")):
        with pytest.raises(UsageError, match="there is no history"):
            find_history(missing)


def test_a_pipe_that_nobody_writes_to_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "PATIENCE", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(HistoryError, match=r"it is a pipe and nobody has written to it within 0.2 s"):
        read_history(find_history(pipe))
    # Somebody who holds it open and says no more.
    with open(pipe, "r+b", buffering=0) as writer:
        writer.write(OWN[0].encode())
        with pytest.raises(HistoryError, match=r"nobody has written the rest of it within 0.2 s"):
            read_history(pipe)


def test_a_pipe_is_read_when_a_writer_comes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    many = "".join(f'{{"index":{n},"time":{n},"process":{n},"type":"invoke","f":"read"}}\n' for n in range(5000))
    writer = threading.Thread(target=pipe.write_text, args=(many,))
    writer.start()
    history: Any = read_history(find_history(pipe))
    writer.join()
    assert len(history) == 5000
