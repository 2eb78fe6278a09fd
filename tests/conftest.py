"""What a test needs of the machine: a missing server skips it, or fails it where SPLITBRAIN_REQUIRE names it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from harness.capability import Capability
from harness.environments import namespaces
from harness.environments.docker import DockerEnvironment
from harness.environments.local import LocalEnvironment
from harness.targets import postgres, postgres_client

# A suite that a shell started in the background ignores Ctrl-C, and one under nohup the end of its terminal; so would
# every command that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

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
        "postgres": lambda: _program(f"{postgres.BIN}/postgres") or postgres_client.missing(),
        "browser": lambda: _program("chromium"),
    }
    return looks[need]()


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    required = os.environ.get("SPLITBRAIN_REQUIRE", "").split(",")
    for marker in request.node.iter_markers("needs"):
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


@pytest.fixture(autouse=True)
def _company(request: pytest.FixtureRequest) -> Iterator[None]:
    """What looks at the whole machine runs while no other test does; it waits until those that have begun are done."""
    alone = request.node.get_closest_marker("alone") is not None
    with contextlib.ExitStack() as stack:
        with _locked("turnstile"):
            stack.enter_context(_locked("machine", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs alone comes first, while nobody has to be waited for, and what is over in a moment comes last.

    With ``--maxschedchunk 1`` workers take tests in this order, and so have the last ones at about the same time.
    """

    lengthy = ["integration", "end_to_end"]

    def turn(item: pytest.Item) -> tuple[bool, int]:
        folder = item.path.parent.name
        return item.get_closest_marker("alone") is None, lengthy.index(folder) if folder in lengthy else len(lengthy)

    items.sort(key=turn)


@pytest.fixture
def splitbrain(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command in an empty folder and return what it printed and its exit code."""

    def run(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        command: Sequence[str] = [SPLITBRAIN, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=timeout, check=False)

    return run
