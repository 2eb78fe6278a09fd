"""How fast the checkers of sets, counters, queues, ... judge a million operations: ``make bench-checkers``.

Each history is a run that is made here, from a seed: 10 clients, one operation in a thousand crashed; a correct one,
unless its title says otherwise. A figure is the processor time of the check alone, in a fresh process without parsing,
and the peak memory of it less what there was before; the most that each may be stands beside them.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.linearizability import MS, intervals, memory, write
from harness.operation import (
    LEADERSHIP,
    MONITOR,
    NEMESIS,
    PRINTED,
    PROGRESS,
    ROLE,
    SERVER,
    Declined,
    Event,
    EventType,
    Failed,
    Indeterminate,
    Served,
    ServedBy,
)
from harness.periods import HEAL, PLANNED, PROVE, START, STOP
from harness.recording import read_jsonl
from harness.replication import Progress
from harness.roles import PRIMARY, Answer

S = 1000 * MS
CLIENTS = 10
OPERATIONS = 1_000_000
KEYS = 5
NODES = ("n1", "n2", "n3")
SECONDS, MEGABYTES = 5.0, 1500.0
"""The most that a check of so many operations may take."""

Object = Callable[[random.Random, int, int], tuple[str, Any, Any, Any]]
"""What a client does when its operation takes effect at a moment: function, key, argument, answer.

The answer may be ``Served``, or the exception by which a client tells that there is none.
"""


def simulate(make: Callable[[], Object], operations: int = OPERATIONS, seed: int = 1) -> list[Event]:
    """A run of an object whose operations take effect at one moment of their intervals."""
    rng = random.Random(seed)
    plan = intervals(rng, operations, CLIENTS)
    act = make()
    did: dict[int, tuple[str, Any, Any, Any]] = {}
    for point, _, _, client, number in sorted(plan):
        did[number] = act(rng, point, client)
    process = list(range(CLIENTS))
    events: list[Event] = []
    moments = [(call, 0, number, client) for _, call, _, client, number in plan]
    moments += [(ret, 1, number, client) for _, _, ret, client, number in plan]
    for moment, ends, number, client in sorted(moments):
        f, key, argument, answer = did[number]
        dies = rng.random() < 0.001 and f not in ("acquire", "release")
        kind: EventType = "invoke" if not ends else "info" if dies else "ok"
        error = served = None
        if ends and isinstance(answer, Failed | Indeterminate):
            kind, error = "fail" if isinstance(answer, Failed) else "info", str(answer)
        elif kind == "ok" and isinstance(answer, Served):
            answer, served = answer.value, ServedBy(answer.by, answer.term)
        value = answer if kind == "ok" else argument
        event = Event(len(events), moment, process[client], kind, f, key, value, node_of(client), error, served)
        events.append(event)
        if kind == "info":
            process[client] += CLIENTS
    return events


def node_of(client: int) -> str:
    """The node that a client asks."""
    return NODES[client % len(NODES)]


def merged(*parts: Iterable[Event]) -> list[Event]:
    """Events in the order of their times."""
    events = sorted((event for part in parts for event in part), key=lambda event: event.time)
    for index, event in enumerate(events):
        event.index = index
    return events


def observed(now: int, f: str, value: Any, node: str | None = None) -> Event:
    """What the monitor has seen at some moment."""
    return Event(0, now, MONITOR, "info", f, None, value, node)


def one_set() -> Object:
    """One set that grows to 998,000 elements, read 10 times as a whole."""
    held: list[int] = []

    def act(rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        if rng.random() < 0.00001:
            return "read", None, None, list(held)
        held.append(len(held))
        return "add", None, held[-1], held[-1]

    return act


def many_sets() -> Object:
    """10,000 sets of about 40 elements; a third of the operations are reads, some remove."""
    held: list[list[int]] = [[] for _ in range(10_000)]
    number = 0

    def act(rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        nonlocal number
        at, kind = rng.randrange(len(held)), rng.random()
        if kind < 0.33:
            return "members", f"s{at}", None, list(held[at])
        if kind < 0.5 and held[at]:
            gone = held[at].pop()
            return "remove", f"s{at}", gone, gone
        number += 1
        held[at].append(number)
        return "add", f"s{at}", number, number

    return act


def counters() -> Object:
    """Five counters that go up and down."""
    total = [0] * KEYS

    def act(rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        at = rng.randrange(KEYS)
        if rng.random() < 0.25:
            return "read", f"c{at}", None, total[at]
        by = rng.randint(1, 5) * rng.choice((1, 1, -1))
        total[at] += by
        return "increment", f"c{at}", by, by

    return act


def queues() -> Object:
    """Five queues that are hardly ever empty before they are drained in the end."""
    inside: list[deque[int]] = [deque() for _ in range(KEYS)]
    number = acts = 0

    def act(rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        nonlocal number, acts
        acts += 1
        at = rng.randrange(KEYS)
        if rng.random() < 0.5 or acts > 0.95 * OPERATIONS:
            return "dequeue", f"q{at}", None, inside[at].popleft() if inside[at] else None
        number += 1
        inside[at].append(number)
        return "enqueue", f"q{at}", number, number

    return act


def identifiers() -> Object:
    """One sequence."""
    given = 0

    def act(rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        nonlocal given
        given += 1
        return "generate", None, None, given

    return act


def bank() -> Object:
    """Eight accounts."""
    balances = {f"a{number}": 1000 for number in range(8)}
    begun = False

    def act(rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        nonlocal begun
        if not begun:
            begun = True
            return "init", None, dict(balances), dict(balances)
        if rng.random() < 0.4:
            return "read", None, None, dict(balances)
        one, other = rng.sample(sorted(balances), 2)
        amount = min(rng.randint(1, 5), balances[one])
        balances[one] -= amount
        if rng.random() < 0.5:
            answer = {"account": one, "amount": amount, "balance": balances[one]}
            return "withdraw", None, {"account": one, "amount": amount}, answer
        balances[other] += amount
        moved = {"from": one, "to": other, "amount": amount}
        return "transfer", None, moved, moved

    return act


def locks() -> Object:
    """Five locks, tried by everybody."""
    holder: list[int | None] = [None] * KEYS
    token = [0] * KEYS

    def act(rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        at = client % KEYS
        if holder[at] == client and rng.random() < 0.3:
            holder[at] = None
            return "release", f"l{at}", None, None
        if holder[at] == client:
            return "write", f"l{at}", [token[at], 1], [token[at], 1]
        if holder[at] is not None:
            return "acquire", f"l{at}", None, False
        holder[at] = client
        token[at] += 1
        return "acquire", f"l{at}", None, token[at]

    return act


def leases() -> Object:
    """Leases of 50 ms, a new one for every fifty operations."""
    until: list[int] = []

    def act(rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        if not until or rng.random() < 0.02:
            until.append(now + 50 * MS)
            return "grant", f"l{len(until)}", 0.05, 0.05
        at = rng.randrange(max(0, len(until) - 10), len(until))
        alive = now < until[at]
        if rng.random() < 0.1:
            until[at] = now + 50 * MS if alive else until[at]
            return "renew", f"l{at + 1}", None, alive
        return "read", f"l{at + 1}", None, alive

    return act


def watches() -> Object:
    """A log that three streams follow."""
    log: list[int] = []
    position = [0] * 3

    def act(rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        if rng.random() < 0.8 or client >= len(position):
            log.append(len(log) + 1)
            return "put", f"k{client}", len(log), len(log)
        since, position[client] = position[client], len(log)
        return "watch", f"w{client}", since or None, {"events": log[since:], "next": len(log)}

    return act


def reads_of_all() -> Object:
    """Writes of five keys, and a hundred reads of all that a key has."""
    written: list[list[int]] = [[] for _ in range(KEYS)]
    count = 0

    def act(rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        nonlocal count
        count += 1
        mine = written[count % KEYS]
        if count % (OPERATIONS // 100) == 0:
            return "read", f"k{count % KEYS}", None, list(mine)
        mine.append(count)
        return "write", f"k{count % KEYS}", count, count

    return act


class Appends:
    """Ten lists at a time; one of a hundred elements is left alone, and another one begun, as in the workload.

    ``primary`` says who serves a client at a moment. From ``split`` on, and until its end, n1 goes on by itself with
    what it holds then.
    """

    def __init__(self, primary: Callable[[int, int], str], split: range) -> None:
        self.held: dict[str, list[int]] = {}
        """The lists as they are in the end."""
        self._primary, self._split = primary, split
        self._own: dict[str, list[int]] = {}
        """Those of n1 while it is by itself."""
        self._current = [f"k{number}" for number in range(10)]
        self._begun = len(self._current)
        self._number = 0

    def __call__(self, rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        by, at = self._primary(now, client), rng.randrange(len(self._current))
        key = self._current[at]
        elements = self.held.setdefault(key, [])
        if now in self._split and by == "n1":
            elements = self._own.setdefault(key, list(elements))
        if rng.random() < 0.5:
            return "read-list", key, None, Served(list(elements), by)
        self._number += 1
        elements.append(self._number)
        if len(elements) >= 100:
            self._begun += 1
            self._current[at] = f"k{self._begun}"
        return "append", key, self._number, Served(self._number, by)


def lists(*, split: bool) -> list[Event]:
    """Lists of a store with one primary, another one every five seconds; or with one split brain of thirty seconds.

    Completions tell who served them and no terms, as those of Redis do, so that it takes what nodes say. In the end all
    lists are read once more.
    """
    begin, end, over = 100 * S, 130 * S, 1000 * S
    reigns = [("n1", 1, 0, end), ("n2", 2, begin, over)]
    if not split:
        reigns = [(NODES[n % 3], n, 5 * S * n, 5 * S * (n + 1)) for n in range(over // (5 * S))]

    def primary(now: int, client: int) -> str:
        if not split:
            return reigns[now // (5 * S)][0]
        return "n1" if now < begin or (now < end and node_of(client) == "n1") else "n2"

    held = Appends(primary, range(begin, end) if split else range(0))
    events = simulate(lambda: held)
    last = events[-1].time
    said = []
    for node, term, since, ends in reigns:
        until = min(ends, last)
        if since < until - S:
            said.append(observed(until, ROLE, Answer(PRIMARY, until - 2 * MS, until - MS, term, since + MS), node))
            for other in (name for name in NODES if name != node and not split):
                answer = Answer("replica", until - 2 * MS, until - MS, term, since + MS)
                said.append(observed(until, ROLE, answer, other))
    final = []
    for number, (key, elements) in enumerate(held.held.items()):
        now, served = last + 2 * S + 2 * number * MS, ServedBy(primary(last, 0))
        final.append(Event(0, now, 0, "invoke", "read-list", key))
        final.append(Event(0, now + MS, 0, "ok", "read-list", key, elements, served_by=served))
    heal = Event(0, last + S, NEMESIS, "ok", HEAL)
    return merged([observed(0, LEADERSHIP, "primary")], events, said, [heal], final)


def registers() -> Object:
    """Five registers; of every ten seconds there are four in which a third of the operations come to nothing."""
    value = [0] * KEYS
    count = 0

    def act(rng: random.Random, now: int, client: int) -> tuple[str, Any, Any, Any]:
        nonlocal count
        count += 1
        at = rng.randrange(KEYS)
        f = rng.choice(("read", "write", "cas"))
        argument = {"read": None, "write": count, "cas": [value[at] if rng.random() < 0.5 else -1, count]}[f]
        answer: Any = argument
        if now % (10 * S) > 6 * S and rng.random() < 0.3:
            port = rng.randrange(6000, 7000)
            refused = rng.random() < 0.7
            answer = Failed(f"port {port} is shut") if refused else Indeterminate(f"port {port} is silent")
        elif f == "read":
            answer = value[at]
        elif isinstance(argument, list) and argument[0] != value[at]:
            answer = Declined("it holds another value")
        else:
            value[at] = count
        return f, f"r{at}", argument, answer

    return act


def faults(operations: int = OPERATIONS) -> list[Event]:
    """Registers while the primary is killed every ten seconds; another node then panics, which nothing explains."""
    events = simulate(registers, operations)
    last = events[-1].time
    seen = [observed(0, SERVER, {"server": "db", "runs": True}, node) for node in NODES]
    plans, strikes = [], []
    for number, start in enumerate(range(6 * S, last, 10 * S)):
        end, node, other = start + 4 * S, NODES[number % 3], NODES[(number + 1) % 3]
        plans.append({"name": "kill", "start": start / S, "stop": end / S})
        done = {"said": node, "killed": {node: ["db"]}}
        for at, kind, f in ((0, "invoke", START), (1, "ok", START), (2, "ok", PROVE)):
            strikes.append(Event(0, start + at * MS, NEMESIS, kind, f"{f}kill", value=done))  # type: ignore[arg-type]
        strikes += [Event(0, end, NEMESIS, kind, f"{STOP}kill") for kind in ("invoke", "ok")]
        ended = {"server": "db", "runs": False, "since": start - S, "last": "good bye"}
        seen.append(observed(start + 5 * MS, SERVER, ended, node))
        seen.append(observed(end + 5 * MS, SERVER, {"server": "db", "runs": True}, node))
        line = {"server": "db", "kind": "panic", "line": f"panic: {number}", "since": start - S}
        seen += [observed(start + at * MS, PRINTED, line, other) for at in range(20)]
        since = max(start - 6 * S, 1)
        seen.append(observed(start, ROLE, Answer(PRIMARY, start - MS, start, number, since), node))
    for number, now in enumerate(range(MS, last, 450 * MS)):
        for node in NODES:
            leads = node == NODES[(now + 4 * S) // (10 * S) % 3]
            position = number if leads else max(number - 3, 0)
            progress = Progress(position, PRIMARY if leads else "replica", now - MS, now, (now + 4 * S) // (10 * S))
            seen.append(observed(now, PROGRESS, progress, node))
    planned = observed(0, PLANNED, {"asked": ["kill"], "faults": plans, "ends_servers": {"kill": "itself"}})
    return merged([planned], events, strikes, seen, [Event(0, last + S, NEMESIS, "ok", HEAL)])


CASES: dict[str, tuple[str, Callable[[], list[Event]]]] = {
    "one set, read 10 times": ("elements", partial(simulate, one_set)),
    "10,000 sets, with removals": ("elements", partial(simulate, many_sets)),
    "5 counters": ("total", partial(simulate, counters)),
    "5 queues": ("queue", partial(simulate, queues)),
    "identifiers": ("unique-ids", partial(simulate, identifiers)),
    "a bank of 8 accounts": ("bank", partial(simulate, bank)),
    "5 locks": ("lock", partial(simulate, locks)),
    "20,000 leases": ("lease", partial(simulate, leases)),
    "3 streams of 940,000 changes": ("watch", partial(simulate, watches)),
    "5 keys, read 100 times as a whole": ("causal-reverse", partial(simulate, reads_of_all)),
    "5,000 lists, by their branches": ("branches", ORDERLY := partial(lists, split=False)),
    "5,000 lists, 60 primaries": ("split-brain", ORDERLY),
    "5,000 lists, of which some fork, by their branches": ("branches", SPLIT := partial(lists, split=True)),
    "5,000 lists, one split brain of 30 s": ("split-brain", SPLIT),
    "30 faults, availability": ("availability", faults),
    "30 faults, replication": ("replication", faults),
    "30 faults, servers that panic": ("crashes", faults),
}


def measure(path: str, name: str) -> None:
    """In a fresh process: check one file, and print seconds, memory and verdict."""
    from harness.plugins import load
    from harness.verdict import Budget

    history = read_jsonl(Path(path))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    began = time.process_time()
    verdict = load("checkers", name)().check(history, Budget())
    seconds = time.process_time() - began
    said = {"seconds": seconds, "mb": memory("VmHWM") - before, "verdict": verdict.validity, "reason": verdict.reason}
    print(json.dumps(said))


def main(wanted: str = "") -> None:
    """Run every case, or those whose name has ``wanted`` in it."""
    with tempfile.TemporaryDirectory() as folder:
        path, made = Path(folder) / "history.jsonl", None
        for title, (name, make) in CASES.items():
            if wanted not in title:
                continue
            if make is not made:  # the same history may be another checker's as well
                write(path, make())
                made = make
            command = [sys.executable, "-m", "benchmarks.checkers", str(path), name]
            ran = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            said = f" ({ran['reason']})" if ran["reason"] else ""
            limits = f"at most {SECONDS:g} s, {MEGABYTES:,.0f} MB"
            over = ": TOO MUCH" if ran["seconds"] > SECONDS or ran["mb"] > MEGABYTES else ""
            figures = f"{ran['seconds']:.2f} s, {ran['mb']:.0f} MB, {ran['verdict']}{said}"
            print(f"{title}: {figures}  ({limits}{over})", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        measure(sys.argv[1], sys.argv[2])
    else:
        main(*sys.argv[1:])
