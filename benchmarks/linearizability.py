"""How fast linearizability is decided: ``make bench-linearizability``. Every history is generated here, from a seed.

Each figure is the check alone, without parsing, unless it says otherwise: the median of three runs in fresh processes
with the kernels compiled and cached, and the peak memory of the process less what it had before the check.
"""

from __future__ import annotations

import heapq
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.history import History, from_events
from harness.operation import Event
from harness.recording import read_jsonl

MS = 1_000_000
RUNS = 3


def intervals(rng: random.Random, operations: int, clients: int) -> list[tuple[int, int, int, int, int]]:
    """Of operations of busy clients: when each takes effect, is invoked and returns (ns), its client and its number."""
    free = [(0, client) for client in range(clients)]
    plan = []
    for number in range(operations):
        now, client = heapq.heappop(free)
        call = now + int(rng.expovariate(1 / MS)) + 1
        point = call + int(rng.expovariate(1 / MS)) + 1
        ret = point + int(rng.expovariate(1 / MS)) + 1
        heapq.heappush(free, (ret, client))
        plan.append((point, call, ret, client, number))
    return plan


def simulate(
    operations: int,
    clients: int,
    *,
    crashed: float = 0.0,
    crashes: int | None = None,
    values: int | None = None,
    stale: bool = False,
    seed: int = 1,
) -> list[Event]:
    """A linearizable run of one register with exponential latencies: reads, writes and compare-and-sets.

    Written values are unique, or ``values`` different ones. Crashed operations have no completion, and half of them
    took effect. ``stale`` plants one read, at three quarters, of a value that was overwritten long before.
    """
    rng = random.Random(seed)

    doomed = set(rng.sample(range(operations), crashes)) if crashes is not None else set()
    plan = intervals(rng, operations, clients)

    state: int | None = None
    past: list[int | None] = [None]
    process = list(range(clients))
    outcomes = {}
    for point, _call, _ret, _client, number in sorted(plan):
        f = rng.choices(("read", "write", "cas"), (2, 2, 1))[0]
        new = number + 1 if values is None else rng.randrange(values)
        dies = (number in doomed) if crashes is not None else rng.random() < crashed
        argument: object = None
        result: object
        if number in doomed:
            f = "write"
        if f == "read":
            result = state
            if stale and number == operations * 3 // 4:
                result = past[len(past) // 2]
        else:
            argument = result = [state, new] if f == "cas" else new
            if not dies or rng.random() < 0.5:
                state = new
                past.append(new)
        outcomes[number] = (f, argument, result, dies, point)
    if stale and not any(n == operations * 3 // 4 and o[0] == "read" for n, o in outcomes.items()):
        return simulate(
            operations, clients, crashed=crashed, crashes=crashes, values=values, stale=stale, seed=seed + 1
        )
    moments = []
    for _, call, ret, client, number in plan:
        moments += [(call, 0, number, client), (ret, 1, number, client)]
    events: list[Event] = []
    for moment, ends, number, client in sorted(moments):
        f, argument, result, dies, _ = outcomes[number]
        if not ends:
            events.append(Event(len(events), moment, process[client], "invoke", f, "x", argument))
        elif dies:
            events.append(Event(len(events), moment, process[client], "info", f, "x", argument))
            process[client] += clients
        else:
            events.append(Event(len(events), moment, process[client], "ok", f, "x", result))
    return events


def planted() -> list[Event]:
    """10,000 operations of 10 clients with 100 crashed writes and one stale read."""
    return simulate(10_000, 10, crashes=100, stale=True)


CASES: dict[str, tuple[str, Callable[[], list[Event]]]] = {
    "1,000,000 operations, 10 clients, 0.1% crashed, unique writes": (
        "at most 1 s, 1 GB",
        lambda: simulate(1_000_000, 10, crashed=0.001),
    ),
    "100,000 operations, 50 clients, unique writes": ("at most 0.2 s", lambda: simulate(100_000, 50)),
    "10,000 operations, 20 clients, 5 values": (
        "at most 2 s, 500 MB",
        lambda: simulate(10_000, 20, values=5),
    ),
    "10,000 operations, 20 clients, 5 values, 1% crashed": ("", lambda: simulate(10_000, 20, values=5, crashed=0.01)),
    "10,000 operations, 20 clients, 5 values, one impossible read": ("", lambda: impossible(20)),
    "10,000 operations, 100 crashed writes, one stale read, unique writes": ("at most 0.1 s", planted),
}


def impossible(clients: int) -> list[Event]:
    """A history of 5 values whose last quarter holds a read of a value that was never written."""
    events = simulate(10_000, clients, values=5)
    for event in events[len(events) * 3 // 4 :]:
        if event.type == "ok" and event.f == "read":
            event.value = 77
            break
    return events


def measure(path: str) -> None:
    """In a fresh process: check one file, and print seconds, memory and verdict."""
    from harness.checkers.linearizability import Linearizable
    from harness.verdict import Budget

    history: History = read_jsonl(Path(path))
    warm = from_events(simulate(40, 3, values=2))
    Linearizable().check(warm, Budget())
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    began = time.perf_counter()
    verdict = Linearizable().check(history, Budget())
    seconds = time.perf_counter() - began
    used = memory("VmHWM") - before
    print(json.dumps({"seconds": seconds, "mb": used, "verdict": verdict.validity}))


def memory(what: str) -> float:
    """A figure of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    raise KeyError(what)


def command_seconds(*arguments: str) -> float:
    """The median wall-clock time of a whole command, start-up included."""
    splitbrain = str(Path(sys.executable).with_name("splitbrain"))
    times = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        subprocess.run([splitbrain, *arguments], capture_output=True, check=False)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def write(path: Path, events: list[Event]) -> None:
    """A history as splitbrain records it."""
    import msgspec

    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for start in range(0, len(events), 100_000):
            file.write(b"".join(encoder.encode(event) + b"\n" for event in events[start : start + 100_000]))


def main() -> None:
    """Run every case."""
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (goal, make)) in enumerate(CASES.items()):
            path = Path(folder) / f"{number}.jsonl"
            write(path, make())
            runs = []
            for _ in range(RUNS):
                command = [sys.executable, "-m", "benchmarks.linearizability", str(path)]
                runs.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
            seconds = statistics.median(run["seconds"] for run in runs)
            memory = max(run["mb"] for run in runs)
            wanted = f"  ({goal})" if goal else ""
            print(f"{name}: {seconds:.3f} s, {memory:.0f} MB, {runs[0]['verdict']}{wanted}", flush=True)
        big, small = f"{folder}/0.jsonl", Path(folder) / "small.jsonl"
        seconds = command_seconds("check", big)
        print(f"splitbrain check, 1,000,000 operations, all included: {seconds:.2f} s  (at most 8 s)")
        for values in (None, 3):
            write(small, simulate(200, 5, values=values))
            seconds = command_seconds("check", str(small))
            kind = "unique values" if values is None else "3 values"
            print(f"splitbrain check, 200 operations, {kind}: {seconds:.2f} s  (at most 1.5 s)")
        print(f"splitbrain --help: {command_seconds('--help'):.2f} s  (at most 0.4 s)")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        main()
