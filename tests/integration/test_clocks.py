"""Clocks as real servers see them: Redis' TIME, a Go program's log, a Python process; and nobody else's."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.faults import process, vdso
from harness.nemeses.clock import Clock
from harness.targets.etcd import Etcd
from harness.targets.redis import PORT, Redis
from harness.targets.resp import quick
from tests.integration.inside import on
from tests.integration.test_faults import ENVIRONMENTS, reference, serving

HOUR = 3600.0
PLAN = {"aim": "n1", "order": ["n1", "n2", "n3"], "offset": HOUR, "rate": 1.0, "period": 0.0}
# Not time.sleep, which asks the kernel to wake it at a moment of the true monotonic clock.
SHOW = """
import itertools, select, time
for number in itertools.count(): print(number, time.time(), time.monotonic()); select.select([], [], [], 0.02)
"""


async def redis_time(store: Redis, node: Node) -> float:
    """How far Redis' own clock is ahead of this machine's."""
    found: list[float] = []

    async def told() -> bool:
        """There is no answer where this machine stands still for half a second."""
        asked = time.time()
        answer = await quick(node.address, PORT, "TIME", password=store.password)
        if answer is not None:
            seconds, micros = answer
            found.append(int(seconds) + int(micros) / 1e6 - (asked + time.time()) / 2)
        return bool(found)

    await wait_until(told, seconds=90, what=f"the time of Redis on {node.name}")
    return found[0]


async def redis_shows_the_skewed_time_and_its_neighbours_do_not(cluster: Cluster) -> None:
    store, clock = Redis(Redis.Options()), Clock(Clock.Options())
    for node in cluster.nodes:
        await store.start(cluster, node)

    async def up() -> bool:
        return all(
            [await quick(node.address, PORT, "PING", password=store.password) == "PONG" for node in cluster.nodes]
        )

    await wait_until(up, seconds=90, what="Redis")
    host = time.time() - time.monotonic()
    done = await clock.inject(cluster, store, PLAN)
    assert abs(done["ahead"]["n1"] - HOUR) < 0.1
    assert [round(await redis_time(store, node), -1) for node in cluster.nodes] == [HOUR, 0, 0]
    assert abs((await clock.observe(cluster))["n1"] - HOUR) < 0.1
    # A server that is started meanwhile is skewed as well.
    await run_tool(cluster.nodes[0], ask(process.kill))
    await store.start(cluster, cluster.nodes[0])
    await wait_until(up, seconds=90, what="Redis, again")
    assert [round(await redis_time(store, node), -1) for node in cluster.nodes] == [HOUR, 0, 0]
    assert abs(time.time() - time.monotonic() - host) < 1
    await clock.heal(cluster, store)
    assert [round(await redis_time(store, node), -1) for node in cluster.nodes] == [0, 0, 0]


async def a_go_program_shows_the_skewed_time(cluster: Cluster) -> None:
    store, clock = await serving(cluster, Etcd(Etcd.Options()), 60), Clock(Clock.Options())
    first, second = cluster.nodes[:2]

    async def logged(node: Node) -> list[datetime.datetime]:
        found = re.findall(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", await node.log("etcd"))
        return [datetime.datetime.fromisoformat(text) for text in found]

    await clock.inject(cluster, store, {**PLAN, "offset": 40 * 24 * HOUR})
    # Whatever it is asked to do, it now logs with the skewed date: here, that a peer is gone and comes back.
    await run_tool(cluster.nodes[2], ask(process.kill))

    async def jumped() -> bool:
        stamps = await logged(first)
        return max(stamps) - min(stamps) > datetime.timedelta(days=39)

    await wait_until(jumped, seconds=60, what="etcd's log showing the other date")
    stamps = await logged(second)
    assert max(stamps) - min(stamps) < datetime.timedelta(days=1)
    await clock.heal(cluster, store)
    await store.start(cluster, cluster.nodes[2])
    await wait_until(lambda: store.ready(cluster), seconds=60, what="etcd being whole again")


async def clocks_drift_strobe_and_come_right_again(cluster: Cluster) -> None:
    node, clock = cluster.nodes[0], Clock(Clock.Options())
    await node.start("shower", [node.python, "-uc", SHOW])

    async def shown(after: int) -> list[tuple[int, float, float]]:
        """The lines after that of a number. A log is cut off where it begins, and its last line is not whole yet."""
        lines = [line.split() for line in (await node.log("shower")).split("\n")[1:-1]]
        return [(int(number), float(a), float(b)) for number, a, b in lines if int(number) > after]

    async def some_more(count: int = 60) -> list[tuple[float, float]]:
        """What is shown from now on. Lines are not counted: only the end of a log can be read."""
        before = max((number for number, *_ in await shown(-1)), default=-1)

        async def there() -> bool:
            return len(await shown(before)) > count

        await wait_until(there, seconds=60, what="the process going on")
        return [(wall, monotonic) for _, wall, monotonic in (await shown(before))[1:]]

    await some_more()
    await clock.inject(cluster, reference(), {**PLAN, "offset": 0.0, "rate": 1.5})
    steps = await some_more()
    assert 1.4 < (steps[-1][0] - steps[0][0]) / (steps[-1][1] - steps[0][1]) < 1.6
    await clock.inject(cluster, reference(), {**PLAN, "offset": -HOUR, "period": 0.2})
    apart = {round(wall - monotonic, -2) for wall, monotonic in await some_more()}
    assert max(apart) - min(apart) == HOUR
    await clock.inject(cluster, reference(), {**PLAN, "monotonic": True})
    ahead = (await some_more())[-1][1] - time.monotonic()
    assert abs(ahead - HOUR) < 10
    await clock.heal(cluster, reference())
    wall, monotonic = (await some_more())[-1]
    assert abs(wall - time.time()) < 10
    assert abs(monotonic - HOUR - time.monotonic()) < 10  # it never steps back


async def the_harness_keeps_its_own_clock_while_it_starts_servers(cluster: Cluster) -> None:
    """What it starts shares its memory at first, and with that its clock."""
    node, clock, right = cluster.nodes[0], Clock(Clock.Options()), time.time() - time.monotonic()
    await node.start("shower", [node.python, "-uc", SHOW])
    await clock.inject(cluster, reference(), PLAN)
    for _ in range(20):
        await run_tool(node, ask(process.kill))
        await node.start("shower", [node.python, "-uc", SHOW])
        assert abs(time.time() - time.monotonic() - right) < 1
    assert process.is_tool(str(os.getpid()))

    async def runs() -> bool:
        """What starts a server becomes nsenter, and setpriv, before it becomes the server."""
        return [one["command"] for one in await run_tool(node, ask(process.look))] == [Path(node.python).name]

    await wait_until(runs, seconds=90, what="the last server running")


@pytest.mark.needs("local")
def test_the_harness_keeps_its_own_clock_while_it_starts_servers() -> None:
    on("local", the_harness_keeps_its_own_clock_while_it_starts_servers)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(redis_shows_the_skewed_time_and_its_neighbours_do_not, marks=pytest.mark.needs("redis")),
        pytest.param(a_go_program_shows_the_skewed_time, marks=pytest.mark.needs("etcd")),
        clocks_drift_strobe_and_come_right_again,
    ],
)
def test_on_real_nodes(environment: str, scenario: Any) -> None:
    on(environment, scenario)


def test_a_process_gets_back_the_code_that_the_kernel_gave_it() -> None:
    image = vdso.Vdso()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        image.write(other.pid, vdso.Skew(0, 5, 0, 0), vdso.NONE)
        assert image.read(other.pid) == (vdso.Skew(0, 5, 0, 0), vdso.NONE)
        image.write(other.pid, vdso.NONE, vdso.NONE)
        assert vdso._look(other.pid) == image.original
        other.communicate(b"\n")


def test_a_process_is_known_and_has_a_clock_while_it_becomes_one_program_after_another(tmp_path: Path) -> None:
    restless = tmp_path / "restless"
    restless.write_text('#!/bin/sh\nexec "$0"\n')
    restless.chmod(0o755)
    image = vdso.Vdso()
    with subprocess.Popen([restless], env={process.TOOL_MARK: "1"}) as other:
        try:
            for _ in range(300):
                assert image.read(other.pid)[0].offset in (0, 5)
                image.write(other.pid, vdso.Skew(0, 5, 0, 0), vdso.NONE)
            assert all(process.is_tool(str(other.pid)) for _ in range(2000))
        finally:
            other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            image.read(other.pid)


@pytest.mark.needs("assembler")
@pytest.mark.parametrize(("machine", "prefix"), [("x86_64", "x86_64-linux-gnu-"), ("aarch64", "aarch64-linux-gnu-")])
def test_the_code_is_what_its_source_says(machine: str, prefix: str, tmp_path: Path) -> None:
    source = Path(vdso.__file__).parent / "vdso_source" / f"{machine}.s"
    subprocess.run([f"{prefix}as", source, "-o", tmp_path / "o"], check=True)
    subprocess.run([f"{prefix}objcopy", "-O", "binary", "--only-section=.text", "o", "b"], cwd=tmp_path, check=True)
    assert (tmp_path / "b").read_bytes() == vdso.ARCHITECTURES[machine].code
