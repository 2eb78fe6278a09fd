"""What a test needs of the machine: a missing server skips it, or fails it where SPLITBRAIN_REQUIRE names it."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import IO

import pytest

from harness.capability import Capability
from harness.environments import namespaces
from harness.environments.docker import DockerEnvironment
from harness.environments.local import LocalEnvironment
from harness.targets import (
    mariadb_client,
    nats_client,
    postgres_client,
    postgres_servers,
    rabbitmq,
    rabbitmq_client,
    zookeeper,
    zookeeper_session,
)

# A suite that a shell started in the background ignores Ctrl-C, and one under nohup the end of its terminal; so would
# every command that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

SERVERS = frozenset(
    {
        "local",
        "docker",
        "ssh",
        "storage",
        "redis",
        "etcd",
        "mariadb",
        "postgres",
        "patroni",
        "nats",
        "rabbitmq",
        "zookeeper",
    }
)
"""What tests need that have a cluster of real processes."""
CLUSTERS = 4
"""How many such tests run at once."""
SPLITBRAIN = str(Path(sys.executable).with_name("splitbrain"))


def _program(name: str) -> str | None:
    return None if shutil.which(name) else f"{name} is not installed"


def _no_sshd() -> str | None:
    if os.geteuid() != 0:
        return "only root can start sshd"
    return _program("/usr/sbin/sshd") or _program("ssh-keygen") or namespaces.missing()


@cache
def missing(need: str) -> str | None:
    """Why this machine lacks something that tests need; None if it has it."""
    looks: dict[str, Callable[[], str | None]] = {
        "local": namespaces.missing,
        "docker": lambda: DockerEnvironment.missing(None),
        "storage": lambda: LocalEnvironment().lacks(Capability.STORAGE),
        "ssh": _no_sshd,
        "assembler": lambda: _program("x86_64-linux-gnu-as") or _program("aarch64-linux-gnu-as"),
        "sudo": lambda: _program("sudo"),
        "redis": lambda: _program("redis-server") or _program("redis-cli"),
        "etcd": lambda: _program("etcd"),
        "postgres": lambda: _program(f"{postgres_servers.BIN}/postgres") or postgres_client.missing(),
        "patroni": lambda: _program("patroni"),
        "tarantool": lambda: _program("tarantool"),
        "nats": lambda: _program("nats-server") or nats_client.missing(),
        "mariadb": lambda: _program("mariadbd") or mariadb_client.missing(),
        "rabbitmq": lambda: _program(f"{rabbitmq.BIN}/rabbitmq-server") or rabbitmq_client.missing(),
        "zookeeper": lambda: zookeeper.absent() or zookeeper_session.missing(),
        "browser": lambda: _program("chromium"),
    }
    return looks[need]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: those of a module come before those of a test, and one may need what is missing."""
    required = os.environ.get("SPLITBRAIN_REQUIRE", "").split(",")
    for marker in item.iter_markers("needs"):
        for need in marker.args:
            why = missing(need)
            if why is not None and need in required:
                pytest.fail(f"SPLITBRAIN_REQUIRE names {need}, but {why}")
            if why is not None:
                pytest.skip(why)


@contextlib.contextmanager
def _locked(what: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock that the workers of all suites on this machine share."""
    name = f"splitbrain-{what}-{os.getuid()}.lock"
    with (Path(tempfile.gettempdir()) / name).open("w") as lock:
        fcntl.flock(lock, how)
        yield


@pytest.fixture
def loopback() -> Iterator[None]:
    """The reference store's ports on this machine's own loopback, for one test at a time."""
    with _locked("loopback"):
        yield


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A command that runs in this process ignores signals in the end; what is started after it would inherit that."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    mask, hook = signal.pthread_sigmask(signal.SIG_BLOCK, ()), sys.unraisablehook
    yield
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    sys.unraisablehook = hook


def _on_servers(item: pytest.Item) -> bool:
    """Whether a test has a cluster of real processes, and so waits more than it computes."""
    return any(not SERVERS.isdisjoint(marker.args) for marker in item.iter_markers("needs"))


@contextlib.contextmanager
def _place(folder: Path) -> Iterator[None]:
    """One of the places for tests with clusters of their own, of which too many at once would be late for everything.

    Workers beyond these have what only computes.
    """
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context((folder / f"place-{number}.lock").open("w")) for number in range(CLUSTERS)]
        while (free := next(filter(_is_free, places), None)) is None:
            time.sleep(0.05)
        yield
        fcntl.flock(free, fcntl.LOCK_UN)  # whatever the test has forked has it open as well


def _is_free(place: IO[str]) -> bool:
    """Whether nobody had it; now it is ours."""
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _behind() -> Iterator[None]:
    """What only computes lets servers go first, which are taken for dead when they are late.

    Only root can take that back.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        if os.geteuid() == 0:
            os.setpriority(os.PRIO_PROCESS, 0, before + 3)
    yield
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, before)


@pytest.fixture(autouse=True)
def _company(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What looks at the whole machine runs while no other test does; it waits until those that have begun are done."""
    alone = request.node.get_closest_marker("alone") is not None
    shared = tmp_path_factory.getbasetemp().parent  # by the workers of this suite
    with contextlib.ExitStack() as stack:
        if "PYTEST_XDIST_WORKER" in os.environ:
            stack.enter_context(_place(shared) if _on_servers(request.node) else _behind())
        with _locked("turnstile"):
            stack.enter_context(_locked("machine", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs alone comes first, while nobody has to be waited for, and what is over in a moment comes last.

    In between those that wait for servers and those that compute are mixed, so that there is always some of both.
    Workers take tests in this order, one by one, and so have the last ones at about the same time; those of a module
    that share a browser go to one worker.
    """
    for item in items:
        if item.path.parent.name == "browser":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    served = [item for item in items if _on_servers(item)]
    others = sorted((item for item in items if not _on_servers(item)), key=lambda item: not _is_lengthy(item))
    # The last of those on servers begin while there still is something else to be done.
    turns = dict(zip(served, _parts([1] * len(served), 0.85), strict=True))
    turns |= zip(others, _parts([12 if _is_lengthy(item) else 1 for item in others], 1.0), strict=True)
    items.sort(key=lambda item: (item.get_closest_marker("alone") is None, turns[item]))


def _is_lengthy(item: pytest.Item) -> bool:
    """Whether it is of those that take seconds, mostly."""
    return item.path.parent.name in ("integration", "end_to_end", "browser")


def _parts(weights: Sequence[int], whole: float) -> list[float]:
    """How much of all has been done before each, if that many weigh so much."""
    return [whole * before / max(sum(weights), 1) for before in itertools.accumulate(weights[:-1], initial=0)][
        : len(weights)
    ]


@pytest.fixture
def splitbrain(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command in an empty folder and return what it printed and its exit code."""

    def run(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        command: Sequence[str] = [SPLITBRAIN, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=timeout, check=False)

    return run
