"""How fast the checkers of sets, counters, queues, ... judge a million operations: ``make bench-checkers``.

Each history is a correct run that is made here, from a seed: 10 clients, one operation in a thousand crashed. A figure
is the processor time of the check alone, in a fresh process without parsing, and the peak memory of it less what there
was before.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.linearizability import MS, intervals, memory, write
from harness.operation import Event
from harness.recording import read_jsonl

CLIENTS = 10
OPERATIONS = 1_000_000
KEYS = 5

Object = Callable[[random.Random, int, int], tuple[str, Any, Any, Any]]
"""What a client does when its operation takes effect at a moment: function, key, argument, answer."""


def simulate(make: Callable[[], Object], operations: int, seed: int = 1) -> list[Event]:
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
        kind: Any = "invoke" if not ends else "info" if dies else "ok"
        value = answer if kind == "ok" else argument
        events.append(Event(len(events), moment, process[client], kind, f, key, value, f"n{client % 3 + 1}"))
        if kind == "info":
            process[client] += CLIENTS
    return events


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


CASES: dict[str, tuple[str, Callable[[random.Random], Object]]] = {
    "one set, read 10 times": ("elements", one_set),
    "10,000 sets, with removals": ("elements", many_sets),
    "5 counters": ("total", counters),
    "5 queues": ("queue", queues),
    "identifiers": ("unique-ids", identifiers),
    "a bank of 8 accounts": ("bank", bank),
    "5 locks": ("lock", locks),
    "20,000 leases": ("lease", leases),
    "3 streams of 940,000 changes": ("watch", watches),
    "5 keys, read 100 times as a whole": ("causal-reverse", reads_of_all),
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
        path = Path(folder) / "history.jsonl"
        for title, (name, make) in CASES.items():
            if wanted not in title:
                continue
            write(path, simulate(make, OPERATIONS))
            command = [sys.executable, "-m", "benchmarks.checkers", str(path), name]
            ran = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            said = f" ({ran['reason']})" if ran["reason"] else ""
            print(f"{title}: {ran['seconds']:.2f} s, {ran['mb']:.0f} MB, {ran['verdict']}{said}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        measure(sys.argv[1], sys.argv[2])
    else:
        main(*sys.argv[1:])
