"""Who does the work of a large check: threads or processes of this machine, or a Dask cluster."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import re
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from harness.errors import MissingError, UsageError

MOST = 1024
"""How many threads or processes an executor can have."""
_PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""


@contextlib.contextmanager
def connect(where: str) -> Iterator[Executor]:
    """The executor that ``threads:N``, ``processes:N`` or ``dask://HOST:PORT`` names.

    Raises ``UsageError`` for anything else, and ``MissingError`` when a cluster does not answer.
    """
    kind, _, rest = where.partition(":")
    count = int(rest) if re.fullmatch("[0-9]{1,6}", rest) else 0
    if kind in ("threads", "processes") and 1 <= count <= MOST:
        with _threads(count) if kind == "threads" else _processes(count) as executor:
            yield executor
    elif kind == "dask" and rest.startswith("//") and ":" in rest:
        with _dask(rest.removeprefix("//")) as executor:
            yield executor
    else:
        raise UsageError(f"an executor is threads:N, processes:N (1 to {MOST}) or dask://HOST:PORT, not {where!r}")


def size(where: str) -> int | None:
    """How many threads or processes an executor has; None for a cluster."""
    count = where.partition(":")[2]
    return int(count) if count.isdecimal() else None


@contextlib.contextmanager
def _threads(count: int) -> Iterator[Executor]:
    with ThreadPoolExecutor(count) as executor:
        try:
            yield executor
        except BaseException:
            # Whoever stops in the middle waits for what has begun, and for no more.
            executor.shutdown(wait=False, cancel_futures=True)
            raise


@contextlib.contextmanager
def _processes(count: int) -> Iterator[Executor]:
    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(count, initializer=_begin_work) as executor:
        try:
            yield executor
        except BaseException:
            # Whoever stops in the middle, as with Ctrl-C, does not wait for work that nobody will ask for.
            for worker in set(multiprocessing.active_children()) - before:
                worker.kill()
            # One that was just writing its result leaves half of it. Whoever reads it, which the executor waits for,
            # learns only so that there is no more to come: this process has the other end of the pipe open as well.
            executor._result_queue._writer.close()  # type: ignore[attr-defined]
            raise


def _begin_work() -> None:
    """What a worker does first.

    It lets the kernel end it when its parent dies, even by SIGKILL: it would wait for work for ever. And it leaves
    Ctrl-C, which a terminal sends to all of them, to its parent.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError:
        raise MissingError("Dask is not installed: pip install 'splitbrain[dask]'") from None
    try:
        client: Any = Client(f"tcp://{address}", timeout=10)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError):
        raise MissingError(f"no Dask scheduler answers at {address}") from None
    with client:
        yield client.get_executor()
