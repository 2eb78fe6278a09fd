"""Code of somebody else's computes and answers, and can do nothing else."""

from __future__ import annotations

import os
import platform
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.faults import confined, dial
from harness.faults.vdso import ARCHITECTURES, symbols


def test_what_computes_or_reads_a_clock_gives_its_answer() -> None:
    before = time.time()
    answer = confined.ask(lambda: lambda: struct.pack("=d", time.time()), 8)
    assert before - 1 <= struct.unpack("=d", answer)[0] <= time.time() + 1


def test_whatever_else_is_tried_gives_none_and_does_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made"

    def writes() -> bytes:
        made.write_bytes(b"x")
        return b"done"

    def forks() -> bytes:
        os.fork()
        return b"done"

    def for_ever() -> bytes:
        while True:
            pass

    def fails() -> bytes:
        raise ValueError

    attempts: list[Callable[[], bytes]] = [writes, forks, for_ever, fails, lambda: os.getcwd().encode()]
    for attempt in attempts:
        assert confined.ask(lambda attempt=attempt: attempt, 4) == b""  # type: ignore[misc]
    assert not made.exists()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the code of the attack is for x86_64")
def test_code_that_a_server_puts_in_the_place_of_its_clock_gets_nowhere(tmp_path: Path) -> None:
    made = tmp_path / "made"
    image = bytearray(dial._image("self"))
    start, _ = symbols(bytes(image))[ARCHITECTURES["x86_64"].main]
    # mov eax, 83 (mkdir); lea rdi, [rip + 10]; mov esi, 0777; syscall; xor eax, eax; ret
    code = bytes.fromhex("b853000000 488d3d0a000000 beff010000 0f05 31c0 c3")
    attack = code + str(made).encode() + b"\0"
    image[start : start + len(attack)] = attack
    with pytest.raises(SystemExit, match="does something else"):
        dial._ahead(bytes(image))
    assert not made.exists()
    # It is not for a mistake in the attack that nothing was made.
    pid = os.fork()
    if pid == 0:
        dial.Dial(bytes(image)).ahead(0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert made.is_dir()
