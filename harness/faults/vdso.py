"""Give a process its own idea of the time, without touching anybody else's clock.

Programs read their clocks in the vDSO, a few pages of code that the kernel maps into each process. This writes other
code over the functions there, in one process's private copy of the page: it makes the real system call and shifts what
that answers. So it works for every program that asks the vDSO, statically linked ones too (Go), unlike a preloaded
library. A program that makes the system call itself is not deceived, and neither are the kernel's own time-outs.

The code is in ``vdso_source``; a test assembles it and compares. It runs inside a node, in a sidecar, or over ssh, and
needs the right to trace the process.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from harness.faults.process import PASSAGE_SECONDS, program


class Architecture(NamedTuple):
    """Code to write over a machine's vDSO: parts of it by offset, and the functions that lead there."""

    code: bytes
    main: str
    others: dict[str, int]
    """Functions that are replaced by a jump to this offset in the code."""


ARCHITECTURES = {
    "x86_64": Architecture(
        bytes.fromhex(
            "b8e40000000f0585c075774c8d05fe00000085ff741d83ff0574184983c02083ff01740f83ff04740a83ff06740583ff07754f4c690e00ca"
            "9a3b4c034e084c89c8492b004989c249f76810480facd0204901c1498b48184885c9740c4c89d0489948f7f9a80175044d0348084c89c848"
            "99b900ca9a3b48f7f94889064889560831c0c366662e0f1f840000000000669057564883ec1831ff4889e6e860ffffff488b0c24488b4424"
            "084883c4185e5f4885f6740748c706000000004885ff741148890f4899b9e803000048f7f94889470831c0c366662e0f1f84000000000090"
            "574883ec1031ff4889e6e811ffffff488b04244883c4105f4885ff7403488907c366662e0f1f8400000000000f1f4000"
        ),
        "__vdso_clock_gettime",
        {"__vdso_gettimeofday": 0x90, "__vdso_time": 0xE0},
    ),
    "aarch64": Architecture(
        bytes.fromhex(
            "e903002a280e80d2010000d4200400b58a060010890100343f150071400100544a8100913f050071e00000543f110071a00000543f190071"
            "600000543f1d0071810200542b3040a90d4099d24d73a7f26b310d9b4c3940a94f4141a96c010ccb917d0f9b887d4f9b1181d1936b01118b"
            "700000b48c0dd09a4c0000376b010e8b6c0dcd9a8ead0d9b2c3800a9000080d2c0035fd61f2003d51f2003d51f2003d5fd7bbda9e00701a9"
            "00008052e1830091d4ffff97e00741a9eb3342a9410000b43f0000f9800000b40d7d80d28c0dcd9a0b3000a9000080d2fd7bc3a8c0035fd6"
        ),
        "__kernel_clock_gettime",
        {"__kernel_gettimeofday": 0xA0},
    ),
}

_PARAMETERS = struct.Struct("<4q")
_PATIENCE = 10.0
"""Seconds to wait for a moment at which no thread of the process is inside its vDSO."""


class Unpatchable(Exception):  # noqa: N818 - a state of the process, not an error in the program
    """The clocks of this process, or of every process on this machine, cannot be changed; says why."""


class Skew(NamedTuple):
    """How a clock is wrong: ``offset`` ns ahead, and ``drift`` * 2**-32 ns more for each that passed since ``base``.

    With a strobe ``period`` the offset comes and goes every so many ns.
    """

    base: int = 0
    offset: int = 0
    drift: int = 0
    period: int = 0

    def at(self, now: int) -> int:
        """How many ns the clock is ahead when the true one shows ``now``."""
        passed = now - self.base
        jump = 0 if self.period and passed // self.period & 1 else self.offset
        return jump + (passed * self.drift >> 32)

    def going_on(self, now: int, change: Skew) -> Skew:
        """What follows on a clock that never steps back: it goes on from what it shows, and jumps forward only."""
        offset = self.at(now) + max(change.offset, 0)
        return Skew(now, offset, change.drift) if offset or change.drift else NONE


NONE = Skew()


class Vdso:
    """The vDSO as the kernel made it, the same for every process of this machine, and where it is overwritten."""

    def __init__(self) -> None:
        machine = platform.machine()
        if machine not in ARCHITECTURES:
            raise Unpatchable(f"clocks can be changed on {' and '.join(ARCHITECTURES)} only, not on {machine}")
        self._code, main, others = ARCHITECTURES[machine]
        self.original = _look(os.getpid())
        functions = symbols(self.original)
        if main not in functions or any(name not in functions for name in others):
            raise Unpatchable(f"this kernel's vDSO has no function {main}")
        self._at, room = functions[main]
        self._parameters = self._at + len(self._code)
        if room < len(self._code) + 2 * _PARAMETERS.size:
            raise Unpatchable(f"this kernel's {main} is only {room} bytes long: there is no room for other code")
        self._jumps = {
            functions[name][0]: _jump(machine, functions[name][0], self._at + to) for name, to in others.items()
        }

    def patches(self, wall: Skew, monotonic: Skew) -> dict[int, bytes]:
        """What is written where, by offset in the vDSO."""
        return {self._at: self._code + _PARAMETERS.pack(*wall) + _PARAMETERS.pack(*monotonic), **self._jumps}

    def read(self, pid: int) -> tuple[Skew, Skew]:
        """The skew of a process's wall clock and of its monotonic clock, as they stand in its memory."""
        image = _look(pid)
        if image == self.original:
            return NONE, NONE
        wall = Skew(*_PARAMETERS.unpack_from(image, self._parameters))
        monotonic = Skew(*_PARAMETERS.unpack_from(image, self._parameters + _PARAMETERS.size))
        expected = bytearray(self.original)
        for at, data in self.patches(wall, monotonic).items():
            expected[at : at + len(data)] = data
        if image != bytes(expected):
            raise Unpatchable(f"the vDSO of process {pid} is not the one of this machine: a program of 32 bits?")
        return wall, monotonic

    def write(self, pid: int, wall: Skew, monotonic: Skew) -> None:
        """Change the clocks of a process while all its threads stand still outside the vDSO.

        The monotonic clock goes on from what it shows, as no kernel lets it step back: what ``monotonic`` says is
        added to that, if it leads forward. Without any skew, the process gets back the code that the kernel gave it.
        Raises ``Unpatchable``, and ``ProcessLookupError`` or ``FileNotFoundError`` when the process has ended.
        """
        with _standing_still(pid) as start, open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            _, shown = self.read(pid)
            monotonic = shown.going_on(time.monotonic_ns(), monotonic)
            patches = self.patches(wall, monotonic)
            if (wall, monotonic) == (NONE, NONE):
                patches = {at: self.original[at : at + len(data)] for at, data in patches.items()}
            try:
                for at, data in patches.items():
                    memory.seek(start + at)
                    memory.write(data)
            except OSError as error:
                _mapped(pid)
                raise Unpatchable(f"this kernel protects the vDSO of process {pid}: {error.strerror}") from None
            if self.read(pid) != (wall, monotonic):
                raise Unpatchable(f"the vDSO of process {pid} did not take the change")


@contextlib.contextmanager
def _standing_still(pid: int) -> Iterator[int]:
    """Stop a process where no thread executes in its vDSO; where that begins. One that was stopped before stays so."""
    stopped_before = _states(pid) <= {"T", "t"}
    deadline = time.monotonic() + _PATIENCE
    while True:
        if not stopped_before:
            os.kill(pid, signal.SIGSTOP)
        try:
            while not _states(pid) <= {"T", "t"} and time.monotonic() < deadline:
                time.sleep(0.0002)
            # Only now: before it stopped it may have become another program, whose vDSO is elsewhere.
            vdso = _mapped(pid)
            if vdso and all(place not in vdso for place in _places(pid)):
                yield vdso.start
                return
        finally:
            if not stopped_before:
                os.kill(pid, signal.SIGCONT)
        if stopped_before or time.monotonic() > deadline:
            raise Unpatchable(f"process {pid} reads its clock all the time, or was stopped while it did")
        time.sleep(0.001)


def _look(pid: int) -> bytes:
    """The vDSO of a process as it stands in its memory; waits while the process becomes another program."""
    deadline = time.monotonic() + PASSAGE_SECONDS
    why, late = "it has none", False
    while not late:
        late = time.monotonic() > deadline  # before the look: who was stopped meanwhile has another one
        if vdso := _mapped(pid):
            try:
                with open(f"/proc/{pid}/mem", "rb") as memory:
                    memory.seek(vdso.start)
                    image = memory.read(len(vdso))
            except OSError as error:
                why = str(error.strerror)
            else:
                if len(image) == len(vdso):
                    return image
        time.sleep(0.0005)
    raise Unpatchable(f"the vDSO of process {pid} cannot be read: {why}")


def _states(pid: int) -> set[str]:
    """The states of a process's threads, but for those that are over."""
    states, threads = set(), []
    with contextlib.suppress(FileNotFoundError):
        threads = os.listdir(f"/proc/{pid}/task")
    for thread in threads:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/task/{thread}/stat") as f:
            states.add(f.read().rpartition(")")[2].split()[0])
    if not states - set("XZ"):
        raise ProcessLookupError(f"process {pid} has ended")
    return states - set("XZ")


def _places(pid: int) -> list[int]:
    """Where each thread of a stopped process is: its instruction pointer."""
    places = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        name = f"/proc/{pid}/task/{thread}/syscall"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(name) as file:
            words = file.read().split()
            if words[-1] == "running":
                raise Unpatchable(f"a thread of process {pid} would not stop")
            places.append(int(words[-1], 16))
    return places


def _mapped(pid: int) -> range:
    """Where the vDSO of a process is: nowhere while it becomes another program.

    Raises ``ProcessLookupError`` or ``FileNotFoundError`` when the process has given up its memory, or is gone.
    """
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            if line.split()[5:] == ["[vdso]"]:
                start, _, end = line.split(maxsplit=1)[0].partition("-")
                return range(int(start, 16), int(end, 16))
    if program(str(pid)) is None:
        raise ProcessLookupError(f"process {pid} has ended")
    return range(0)


def symbols(image: bytes) -> dict[str, tuple[int, int]]:
    """The functions that a vDSO exports: offset and size by name (ELF, 64 bits, little endian)."""
    if image[:6] != b"\x7fELF\x02\x01":
        raise Unpatchable("this kernel's vDSO is not an ELF file of 64 bits")
    offset, size, count = *struct.unpack_from("<Q", image, 0x28), *struct.unpack_from("<HH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, offset + size * number) for number in range(count)]
    functions = {}
    for section in sections:
        if section[1] == 11:  # SHT_DYNSYM
            names = sections[section[6]][4]
            for at in range(section[4], section[4] + section[5], 24):
                name, _, _, _, value, length = struct.unpack_from("<IBBHQQ", image, at)
                text = image[names + name : image.index(b"\0", names + name)].decode()
                functions[text] = (value, length)
    return functions


def _jump(machine: str, source: int, target: int) -> bytes:
    """The instruction at ``source`` that jumps to ``target``."""
    if machine == "x86_64":
        return b"\xe9" + struct.pack("<i", target - source - 5)
    return struct.pack("<I", 0x14000000 | ((target - source) // 4 & 0x3FFFFFF))
