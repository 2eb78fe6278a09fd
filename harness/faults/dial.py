"""Read the clocks of the servers of the node that this runs in, as these servers do: by running what stands there.

Each server's copy of the vDSO is taken from its memory and its ``clock_gettime`` is called, beside the kernel's own. So
nothing is believed of what whoever set a clock has noted, and a clock that was not set shows the true time. What stands
there the server may have written itself: it runs in a process that can do nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import platform
import struct
import time
from collections.abc import Callable

from harness.faults import confined
from harness.faults.process import servers
from harness.faults.vdso import ARCHITECTURES, symbols

_TIMES = 5
CLOCKS = {"wall": time.CLOCK_REALTIME, "monotonic": time.CLOCK_MONOTONIC}


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64))


class Dial:
    """A copy of a vDSO that can be run."""

    def __init__(self, image: bytes) -> None:
        self._pages = mmap.mmap(-1, len(image), prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self._pages.write(image)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(len(image)), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
            raise OSError(ctypes.get_errno(), "its pages cannot be made executable")
        function = symbols(image)[ARCHITECTURES[platform.machine()].main][0]
        self._call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Time))(start + function)

    def ahead(self, clock: int) -> tuple[float, float]:
        """When it was looked (monotonic), and by how many seconds one of its clocks was ahead of the kernel's then."""
        shown, best = _Time(), (1 << 63, 0, 0)
        # It may be interrupted between two looks: the quickest of several times counts.
        for _ in range(_TIMES):
            began = time.monotonic_ns()
            early = time.clock_gettime_ns(clock)
            if self._call(clock, ctypes.byref(shown)) != 0:
                raise OSError("it answers with an error")
            late = time.clock_gettime_ns(clock)
            ended = time.monotonic_ns()
            answer = int(shown.seconds) * 10**9 + int(shown.nanoseconds)
            best = min(best, (ended - began, (began + ended) // 2, answer - (early + late) // 2))
        return best[1] / 1e9, best[2] / 1e9


_ANSWER = struct.Struct(f"={1 + len(CLOCKS)}d")


def _ahead(image: bytes) -> dict[str, float]:
    """By how many seconds the clocks of a copy of the vDSO are ahead, and when that was.

    A clock that drifts is judged by these moments: they are of the look itself, not of when its answer came. Raises
    ``SystemExit`` where the clocks show nothing.
    """

    def prepare() -> Callable[[], bytes]:
        dial = Dial(image)

        def look() -> bytes:
            seen = [dial.ahead(clock) for clock in CLOCKS.values()]
            return _ANSWER.pack(seen[0][0], *(ahead for _, ahead in seen))

        return look

    answer = confined.ask(prepare, _ANSWER.size)
    if len(answer) < _ANSWER.size:
        raise SystemExit("a server's code for its clock answers with an error, or does something else")
    return dict(zip(("at", *CLOCKS), _ANSWER.unpack(answer), strict=True))


def _image(pid: int | str) -> bytes:
    """The vDSO in a process's memory. Raises ``OSError`` when the process has ended, or is about to."""
    with open(f"/proc/{pid}/maps") as maps:
        places = [line.split()[0].split("-") for line in maps if line.split()[5:] == ["[vdso]"]]
    if not places:
        raise ProcessLookupError(f"process {pid} has no vDSO now")
    start, end = (int(word, 16) for word in places[0])
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(start)
        return memory.read(end - start)


def read() -> dict[str, dict[str, float]]:
    """By how many seconds each server's clocks are ahead, and when that was; servers by command and number."""
    true = _image("self")
    ahead = {}
    for server in servers():
        with contextlib.suppress(OSError):
            image = _image(server["pid"])
            # The kernel's own code works only where the kernel has put it, and is right.
            right = {"at": time.monotonic(), **dict.fromkeys(CLOCKS, 0.0)}
            ahead[f"{server['command']} {server['pid']}"] = right if image == true else _ahead(image)
    return ahead


def watch(samples: int, every: float) -> list[dict[str, dict[str, float]]]:
    """Read the clocks so many times, every so many seconds.

    Answers ``[{"redis-server 7": {"at": 4711.0, "wall": 5.0, "monotonic": 0.0}}, ...]``.
    """
    began = time.monotonic()
    taken = []
    for number in range(samples):
        time.sleep(max(0.0, began + number * every - time.monotonic()))
        taken.append(read())
    return taken


VERBS = (watch,)
