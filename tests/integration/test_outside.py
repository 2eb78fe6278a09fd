"""Faults of processes, clocks and resources as an outside observer measures them, with probes of these tests' own.

Nothing here asks the fault tools, or believes what a nemesis says: process tables are read every 10 ms, servers are
asked for their time, control groups for their counters.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node
from harness.errors import FaultError
from harness.nemeses import victims
from harness.nemeses.clock import Clock
from harness.nemeses.kill import Kill
from harness.nemeses.pause import Pause
from harness.nemeses.restart import Restart
from harness.nemeses.squeeze import Squeeze
from harness.target import Target
from tests.integration.inside import on
from tests.integration.test_machines import Simple, running, until

ORDER = ["n1", "n2", "n3"]
ENVIRONMENTS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("local", "docker")]

# Serves only a while after it was started, as a store that has to catch up.
SLOW_START = """
# the observed server
import signal, socket, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("up", flush=True)
time.sleep(3)
listener = socket.create_server(("0.0.0.0", 7000))
while True: listener.accept()[0].close()
"""
# Shows both of its clocks, and has no other way to tell the time than asking for it.
SHOW = """
import itertools, select, time
for number in itertools.count():
    print(number, time.time(), time.monotonic(), flush=True)
    select.select([], [], [], 0.01)
"""
# Uses a processor as well as it can, and takes memory once it is told to by a file.
BURN = """
# the observed server
import os, sys
count, taken = 0, []
print("up", flush=True)
while True:
    count += 1
    if count % 20000 == 0 and os.path.exists(sys.argv[1]): taken.append(bytearray(b"x" * (1 << 20)))
"""
# Ends at once where a file says so.
FRAIL = """
import os, sys, time
if os.path.exists(sys.argv[1]): sys.exit("I cannot")
print("up", flush=True)
time.sleep(600)
"""

# Notes every 10 ms the state of each process whose command line holds a word, until a file is there: by number. What
# states there are it says in another file, whenever that changes.
WATCH = """
import json, os, sys, time
word, stop, phases = sys.argv[1:]
seen, said = [], None
while not os.path.exists(stop):
    now = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(pid) != os.getpid() and word in open(f"/proc/{pid}/cmdline").read():
                now[pid] = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
        except OSError: pass
    seen.append([time.time(), now])
    phase = "".join(sorted(now.values())).replace("R", "S").replace("D", "S") or "-"
    if phase != said:
        with open(phases, "a") as file: print(phase, file=file)
        said = phase
    time.sleep(0.01)
os.remove(stop)
os.remove(phases)
print(json.dumps(seen))
"""
# The counters of the control groups of the process whose command line holds a word, and the CPU time it has used.
COUNTERS = """
import json, os, sys
word, found = sys.argv[1], {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try: mine = int(pid) != os.getpid() and word in open(f"/proc/{pid}/cmdline").read()
    except OSError: continue
    if mine: break
else: sys.exit("there is no such process")
groups = dict(line.strip().split(":", 2)[1:] for line in open(f"/proc/{pid}/cgroup"))
for controller, names in (("cpu", ["cpu.stat"]), ("memory", ["memory.failcnt", "memory.limit_in_bytes"])):
    path = next((path for names, path in groups.items() if controller in names.split(",")), None)
    root = f"/proc/{pid}/root/sys/fs/cgroup"
    places = [f"{root}/{controller}{path}", f"{root}/{controller}"] if path else [f"{root}{groups['']}", root]
    for name in [*names, "memory.events", "memory.max"]:
        for place in places:
            if os.path.exists(f"{place}/{name}"):
                words = open(f"{place}/{name}").read().split()
                found |= dict(zip(words[::2], words[1::2])) if len(words) > 1 else {name: words[0]}
                break
fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
found["ticks"] = int(fields[11]) + int(fields[12])
print(json.dumps(found))
"""

WORDS = "the observed server"
"""What stands in the command line of a server, and in those of the probes, but in no other."""

Seen = list[tuple[float, dict[str, str]]]


class Watch:
    """The states of a node's processes while this context lasts, every 10 ms: it begins when a server was seen."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop = f"{node.directory}/watched"
        self._phases = f"{node.directory}/phases"
        self.seen: Seen = []

    async def __aenter__(self) -> Watch:
        argv = [self._node.python, "-c", WATCH, WORDS, self._stop, self._phases]
        self._task = asyncio.create_task(self._node.exec(argv, timeout=300))
        await self.shows("S")
        return self

    async def shows(self, phase: str) -> None:
        """Wait until this is what was seen last: else it might never be, as whoever looks may be held up."""

        async def does() -> bool:
            return (await self._node.exec(["cat", self._phases])).out.decode().split()[-1:] == [phase]

        await wait_until(does, seconds=90, what=f"{self._node.name} showing {phase}")

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.2)
        await self._node.write(self._stop, b"")
        result = await self._task
        assert result.code == 0, result.text
        self.seen = [(at, now) for at, now in json.loads(result.out)]

    def phases(self) -> list[str]:
        """What states there were, one after the other: ``S`` for one that goes on, ``-`` where there is no process."""
        words = ["".join(sorted(now.values())).replace("R", "S").replace("D", "S") or "-" for _, now in self.seen]
        return [word for word, before in zip(words, ["", *words], strict=False) if word != before]

    def numbers(self) -> set[str]:
        return {pid for _, now in self.seen for pid in now}


async def counters(node: Node) -> dict[str, Any]:
    result = await node.exec([node.python, "-c", COUNTERS, WORDS])
    assert result.code == 0, result.text
    found: dict[str, Any] = json.loads(result.out)
    return found


async def proved(nemesis: Any, cluster: Cluster, store: Target, plan: dict[str, Any], seconds: float = 3.0) -> bool:
    """Inject, and say whether the nemesis' own proof holds; in more time where this machine was too busy to look."""
    done = await nemesis.inject(cluster, store, plan)
    for patience in (seconds, 6.0, 12.0):
        try:
            return bool((await nemesis.prove(cluster, store, done, patience)).holds)
        except FaultError as error:
            if str(error) != "the counters of the servers' control groups could not be read in time":
                raise
    raise AssertionError("this machine is too slow to look at anything")


async def processes_are_killed_paused_and_restarted_when_it_is_said(cluster: Cluster) -> None:
    store, (first, _, third) = Simple(SLOW_START), cluster.nodes
    await running(store, cluster, "up")
    for options in (Kill.Options(signal="kill"), Kill.Options(signal="terminate")):
        kill = Kill(options)
        async with Watch(first) as hit, Watch(third) as spared:
            assert await proved(kill, cluster, store, {"aim": "n1", "order": ORDER})
            await hit.shows("-")
            await kill.heal(cluster, store)
            await hit.shows("S")
        assert hit.phases() == ["S", "-", "S"], (hit.phases(), hit.numbers(), options)
        assert len(hit.numbers()) == 2
        assert (spared.phases(), len(spared.numbers())) == (["S"], 1)
    pause = Pause(Pause.Options())
    async with Watch(first) as hit, Watch(third) as spared:
        assert await proved(pause, cluster, store, {"aim": "minority", "order": ORDER})
        await hit.shows("T")
        await pause.heal(cluster, store)
        await hit.shows("S")
    assert hit.phases() == ["S", "T", "S"]
    assert len(hit.numbers()) == 1
    assert spared.phases() == ["S"]


class Slow(Simple):
    """Ready once every node answers."""

    async def ready(self, cluster: Cluster) -> bool:
        return not await down(cluster)


async def down(cluster: Cluster) -> list[str]:
    """The nodes that do not answer."""

    async def answers(node: Node) -> bool:
        try:
            _, writer = await asyncio.open_connection(node.address, 7000)
        except OSError:
            return False
        writer.close()
        return True

    return [node.name for node in cluster.nodes if not await answers(node)]


async def a_rolling_restart_waits_until_the_last_one_is_ready_or_does_not(cluster: Cluster) -> None:
    store = Slow(SLOW_START)
    await running(store, cluster, "up")
    for rolling, most in (("ready", 1), ("none", 2)):
        await wait_until(lambda: store.ready(cluster), seconds=90, what="all answering")
        missed: list[int] = []
        over = asyncio.Event()

        async def watch(missed: list[int] = missed, over: asyncio.Event = over) -> None:
            while not over.is_set():
                missed.append(len(await down(cluster)))
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        restart = Restart(Restart.Options(rolling=rolling))  # type: ignore[arg-type]
        assert await proved(restart, cluster, store, {"aim": "all", "order": ORDER, "lasts": 30.0})
        over.set()
        await watching
        assert min(max(missed), 2) == most, missed
        assert await restart.heal(cluster, store) == {"started": {"n1": [], "n2": [], "n3": []}}
    # Where the store does not become whole again, an upgrade goes no further.
    cluster.down["kill"] = {"n1"}
    restart = Restart(Restart.Options())
    done = await restart.inject(cluster, store, {"aim": "all", "order": ORDER, "lasts": 4.0})
    assert list(done["terminated"]) == ["n1"]
    assert done["ended"] == ["n1"]
    assert not (await restart.prove(cluster, store, done, 1.0)).holds
    del cluster.down["kill"]
    assert [len(names) for names in (await restart.heal(cluster, store))["started"].values()] == [1]


async def only_what_was_started_and_lives_is_said_to_be_started(cluster: Cluster) -> None:
    victims._LIVE_SECONDS = 10.0  # in which a server that ends at once has ended on any machine
    store = Simple(FRAIL, "/dev/shm/frail")
    await running(store, cluster, "up")
    kill, pause = Kill(Kill.Options()), Pause(Pause.Options())
    plan = {"aim": "n1", "order": ORDER}
    assert await proved(pause, cluster, store, plan)
    assert (await pause.heal(cluster, store))["started"] == {}
    assert await proved(kill, cluster, store, plan)
    await cluster.nodes[0].write("/dev/shm/frail", b"")
    assert (await kill.heal(cluster, store))["started"] == {"n1": []}
    await cluster.nodes[0].exec(["rm", "/dev/shm/frail"])
    cluster.down["kill"] = set()
    kill._killed.add("n1")
    assert len((await kill.heal(cluster, store))["started"]["n1"]) == 1


def lines(log: str) -> dict[int, tuple[float, float]]:
    """What a server has shown of its clocks, wall and monotonic, by the number of the line."""
    words = [line.split() for line in log.splitlines()[1:-1]]
    return {int(number): (float(wall), float(monotonic)) for number, wall, monotonic in words}


async def shown(node: Node, count: int = 15) -> list[tuple[float, float]]:
    """What a server shows of its clocks from now on."""
    last = max(lines(await node.log("simple")), default=0)
    log = await until(node, lambda log: max(lines(log), default=0) > last + count + 1)
    return [clocks for number, clocks in lines(log).items() if number > last + 1]


CLOCKS: list[tuple[dict[str, Any], Callable[[list[float]], bool]]] = [
    ({"offset": 0.05, "rate": 1.0, "period": 0.0}, lambda ahead: min(ahead) > 0.03 and max(ahead) < 0.2),
    ({"offset": -5.0, "rate": 1.0, "period": 0.0}, lambda ahead: min(ahead) > -5.02 and max(ahead) < -4.8),
    ({"offset": 0.0, "rate": 1.2, "period": 0.0}, lambda ahead: ahead[-1] - ahead[0] > 0.02),
    ({"offset": 60.0, "rate": 1.0, "period": 0.2}, lambda ahead: {round(one, -1) for one in ahead} == {0, 60}),
]


async def clocks_show_what_was_asked_for(cluster: Cluster) -> None:
    store, (first, second, _) = Simple(SHOW), cluster.nodes
    await running(store, cluster, ".")
    for asked, seen in CLOCKS:
        clock = Clock(Clock.Options())
        assert await proved(clock, cluster, store, {"aim": "n1", "order": ORDER, **asked})
        # On this machine all namespaces and containers have one monotonic clock, which nobody has touched.
        true = time.time() - time.monotonic()
        assert seen([wall - monotonic - true for wall, monotonic in await shown(first, 40)]), asked
        assert max(abs(wall - monotonic - true) for wall, monotonic in await shown(second)) < 0.02
        await clock.heal(cluster, store)
        assert max(abs(wall - monotonic - true) for wall, monotonic in await shown(first)) < 0.02
    clock = Clock(Clock.Options())
    nothing = {"offset": 0.0, "rate": 1.0, "period": 0.0}
    assert not await proved(clock, cluster, store, {"aim": "n1", "order": ORDER, **nothing})
    with pytest.raises(FaultError, match="would leave the years 1970 to 2262"):
        await clock.inject(cluster, store, {"aim": "n1", "order": ORDER, **nothing, "offset": 1e30})
    await clock.heal(cluster, store)


async def a_monotonic_clock_never_steps_back(cluster: Cluster) -> None:
    store, node, clock = Simple(SHOW), cluster.nodes[0], Clock(Clock.Options())
    await running(store, cluster, ".")
    plan = {"aim": "n1", "order": ORDER, "monotonic": True}
    seen = await shown(node)
    for asked in (
        {"offset": 30.0, "rate": 1.0, "period": 0.0},
        {"offset": -30.0, "rate": 1.2, "period": 0.0},
        {"offset": 10.0, "rate": 0.8, "period": 0.2},
    ):
        assert await proved(clock, cluster, store, {**plan, **asked})
        seen += await shown(node)
        await clock.heal(cluster, store)
        seen += await shown(node)
    assert await proved(clock, cluster, store, {**plan, "offset": 5.0, "rate": 1.0, "period": 0.0, "monotonic": False})
    await clock.heal(cluster, store)
    asked_at = time.time()
    seen += await shown(node)
    monotonic = [one for _, one in seen]
    assert monotonic == sorted(monotonic)
    # The wall clock is right again, and so tells how long ago the last line was printed.
    assert asked_at - 5 < seen[-1][0] < time.time() + 5
    assert seen[-1][1] - seen[-1][0] + (time.time() - time.monotonic()) > 39
    kill = Kill(Kill.Options())
    await kill.inject(cluster, store, {"aim": "n1", "order": ORDER})
    await kill.heal(cluster, store)

    async def the_kernels() -> bool:
        log = (await node.log("simple")).splitlines()
        return abs(float(log[-2].split()[-1]) - time.monotonic()) < 5

    await wait_until(the_kernels, seconds=90, what="a server that is started anew having the kernel's clock")


async def a_squeeze_leaves_what_was_asked_for_and_nothing_else(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    take = f"{node.directory}/take"
    store = Simple(BURN, take)
    await running(store, cluster, "up")
    plan: dict[str, Any] = {"aim": "n1", "order": ORDER}

    async def throttled() -> int:
        """How often the server's group had to wait while it was looked at."""
        first = await counters(node)
        await asyncio.sleep(1)
        return int((await counters(node))["nr_throttled"]) - int(first["nr_throttled"])

    squeeze, patience = Squeeze(Squeeze.Options()), 30.0  # it proves as soon as it can
    assert await proved(squeeze, cluster, store, {**plan, "cpu": 0.02}, patience)
    first, began = await counters(node), time.monotonic()
    assert await throttled() > 0
    then = await counters(node)
    assert (then["ticks"] - first["ticks"]) / 100 < 0.02 * (time.monotonic() - began) + 0.2
    assert not has_memory_limit(then)
    assert (await squeeze.heal(cluster, store))["started"] == {"n1": []}
    assert await throttled() == 0
    # What it never comes near to is not scarce.
    for never in ({"cpu": 1000.0}, {"memory": 64}, {"cpu": 0.02, "memory": 4096}):
        assert not await proved(squeeze, cluster, store, {**plan, **never}, 1.5), never
        await squeeze.heal(cluster, store)
    assert await proved(squeeze, cluster, store, {**plan, "cpu_of_used": 0.25}, patience)
    assert await throttled() > 0
    await squeeze.heal(cluster, store)
    await node.write(take, b"")
    assert await proved(squeeze, cluster, store, {**plan, "memory_of_held": 0.01}, patience)
    await node.exec(["rm", take])

    async def gone() -> bool:
        return (await node.exec([node.python, "-c", COUNTERS, WORDS])).code != 0

    await wait_until(gone, seconds=90, what="the kernel ending a server that takes too much")
    assert len((await squeeze.heal(cluster, store))["started"]["n1"]) == 1


def has_memory_limit(found: dict[str, Any]) -> bool:
    """Whether a control group has less memory than this machine could have."""
    limit = found.get("memory.limit_in_bytes", found.get("memory.max"))
    return limit is not None and limit != "max" and int(limit) < 1 << 32


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(
    "scenario",
    [
        processes_are_killed_paused_and_restarted_when_it_is_said,
        a_monotonic_clock_never_steps_back,
        a_squeeze_leaves_what_was_asked_for_and_nothing_else,
    ],
)
def test_on_local_nodes_and_in_containers(environment: str, scenario: Any) -> None:
    on(environment, scenario)


@pytest.mark.needs("local")
@pytest.mark.parametrize(
    "scenario",
    [
        a_rolling_restart_waits_until_the_last_one_is_ready_or_does_not,
        only_what_was_started_and_lives_is_said_to_be_started,
        clocks_show_what_was_asked_for,
    ],
)
def test_on_local_nodes(scenario: Any) -> None:
    on("local", scenario)
