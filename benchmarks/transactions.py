"""How fast the isolation of transactions is decided: ``make bench-transactions``. Every history is made here.

Each row is one check in a fresh process that has made its history before, with the compiled code compiled: seconds by
the clock, by the processor in brackets, and the peak memory of the whole process, history included, while it checks.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.linearizability import MS, memory
from harness.history import History, HistoryBuilder
from harness.operation import Event

CHUNK = 100_000
CLIENTS = 20
LENGTH = 4
"""Micro-operations of a transaction."""
LIVE_KEYS = 10
LONGEST_LIST = 32
REGISTERS = 1000

Micro = list[Any]
Execute = Callable[[int, int, int], list[Micro]]
"""Takes effect: number of the transaction, its client and the moment (ns); returns the answers of all its parts."""


def moments(transactions: int, clients: int, seed: int) -> Iterator[tuple[int, int, int, int]]:
    """What happens in turn: when (ns), 0 a call, 1 an effect or 2 a return, of which client and transaction.

    Each client makes one transaction after the other; the three parts of waiting are exponential, of 1 ms each.
    """
    rng = np.random.default_rng(seed)
    each = -(-transactions // clients)
    waits = rng.exponential(MS, (clients, each * 3)).astype(np.int64) + 1
    times = np.cumsum(waits, axis=1).reshape(-1)
    order = np.argsort(times, kind="stable")
    client, place = np.divmod(order, each * 3)
    number, what = np.divmod(place, 3)
    number = number * clients + client
    kept = number < transactions
    columns = (times[order][kept], what[kept], client[kept], number[kept])
    for start in range(0, len(columns[0]), CHUNK):
        yield from zip(*(column[start : start + CHUNK].tolist() for column in columns), strict=True)


def simulate(transactions: int, execute: Execute, *, stranger: int = -1, seed: int = 1) -> Iterator[Event]:
    """A run of transactions each of which takes effect at one moment between its call and its return.

    ``stranger`` is the number of one that a process makes that makes no other.
    """
    answers: dict[int, list[Micro]] = {}
    waiting: dict[int, Event] = {}
    calls: list[Event] = []
    index = 0
    for now, what, client, number in moments(transactions, CLIENTS, seed):
        if what == 1:
            answer = answers[client] = execute(number, client, now)
            waiting[client].value = [[f, key, None if f == "r" else value] for f, key, value in answer]
            continue
        process = client if number != stranger else CLIENTS
        if what == 0:
            event = waiting[client] = Event(index, now, process, "invoke", "txn")
        else:
            event = Event(index, now, process, "ok", "txn", None, answers.pop(client))
        index += 1
        calls.append(event)
        # What is called has no value before it takes effect: events wait until all before them have one.
        if len(calls) >= CHUNK:
            ready = next((at for at, one in enumerate(calls) if one.value is None), len(calls))
            yield from calls[:ready]
            del calls[:ready]
    yield from calls


def lists(transactions: int, *, stale: bool = False, seed: int = 1) -> Iterator[Event]:
    """Transactions on ten lists at a time, each of which grows to 32 elements; half of the micro-operations read.

    ``stale``: the one in the middle, of a process of its own, misses an append that had returned before it was called,
    and otherwise touches a key of its own, so that nothing but real time says so.
    """
    rng = random.Random(seed)
    draws = np.random.default_rng(seed).integers(0, LIVE_KEYS * 2, (transactions, LENGTH), dtype=np.int8)
    current = list(range(LIVE_KEYS))
    held: list[list[int]] = [[] for _ in range(LIVE_KEYS)]
    begun = LIVE_KEYS
    old: list[tuple[int, int, list[int]]] = []
    """Moment, key and what it held before an append, of the last few."""

    def execute(number: int, client: int, now: int) -> list[Micro]:
        nonlocal begun
        if stale and number == transactions // 2:
            key, before = next((key, before) for when, key, before in old if when < now - 100 * MS)
            begun += 1
            return [["r", key, before], ["append", begun - 1, 1], ["r", begun - 1, [1]], ["append", begun - 1, 2]]
        answer: list[Micro] = []
        for draw in draws[number].tolist():
            at = draw >> 1
            elements = held[at]
            if draw & 1:
                answer.append(["r", current[at], elements.copy()])
                continue
            if stale and abs(number - transactions // 2) < CHUNK and rng.random() < 0.01 and not answer:
                old.append((now, current[at], elements.copy()))
            elements.append(len(elements) + 1)
            answer.append(["append", current[at], len(elements)])
            if len(elements) == LONGEST_LIST:
                current[at], held[at] = begun, []
                begun += 1
        return answer

    return simulate(transactions, execute, stranger=transactions // 2 if stale else -1, seed=seed)


def one_component(rounds: int = 1000, chains: int = 30) -> Iterator[Event]:
    """Chains of appends from one first transaction to a last one, which read all of them and misses what the first one
    wrote: all are in one strong component, and the only cycles close by that one rw edge, after a thousand steps.

    One in fifteen has read another chain as well, so that there are 2,000 more rw edges, none of which closes a cycle.
    """
    rng = random.Random(1)
    keys = range(1, chains + 1)
    held: dict[int, list[int]] = {key: [1] for key in keys}
    number = 0

    def event(kind: Any, process: int, value: list[Micro]) -> Event:
        nonlocal number
        number += 1
        asked = [[f, key, None if f == "r" else element] for f, key, element in value]
        return Event(number - 1, number * MS, process, kind, "txn", value=asked if kind == "invoke" else value)

    def done(process: int, value: list[Micro]) -> Iterator[Event]:
        yield event("invoke", process, value)
        yield event("ok", process, value)

    yield from done(0, [["append", 0, 1], *(["append", key, 1] for key in keys)])
    for _ in range(rounds):
        for key in keys:
            value: list[Micro] = []
            if rng.random() < 1 / 15:
                other = rng.choice(keys)
                value.append(["r", other, list(held[other])])
            held[key].append(len(held[key]) + 1)
            yield from done(key, [*value, ["append", key, held[key][-1]]])
    yield from done(chains + 1, [["r", 0, None], *(["r", key, held[key]] for key in keys)])


def registers(transactions: int, seed: int = 1) -> Iterator[Event]:
    """Transactions on a thousand registers. Each reads a snapshot that is up to fifty commits old, but has all that its
    session has seen or written: causal, and not snapshot isolation.
    """
    draws = np.random.default_rng(seed).integers(0, REGISTERS * 2, (transactions, LENGTH), dtype=np.int32)
    ages = np.random.default_rng(seed + 1).integers(0, 50, transactions).tolist()
    written: list[list[int]] = [[] for _ in range(REGISTERS)]
    """The commits that wrote each key; the value is the number of the write, as many as there are."""
    commits = 0
    least = [0] * CLIENTS

    def execute(number: int, client: int, now: int) -> list[Micro]:
        nonlocal commits
        snapshot = least[client] = max(commits - ages[number], least[client])
        own: dict[int, int] = {}
        answer: list[Micro] = []
        for draw in draws[number].tolist():
            key = draw >> 1
            if draw & 1:
                value = own.get(key) or bisect_right(written[key], snapshot) or None
                answer.append(["r", key, value])
                continue
            written[key].append(commits + 1)
            own[key] = len(written[key])
            answer.append(["w", key, own[key]])
        if own:
            commits += 1
            least[client] = commits
        return answer

    return simulate(transactions, execute, seed=seed)


def gathered(events: Iterator[Event]) -> History:
    """A history of these, taken in a chunk at a time, so that their objects need not stay."""
    builder, chunk = HistoryBuilder(), []
    for event in events:
        chunk.append(event)
        if len(chunk) == CHUNK:
            builder.add(chunk)
            chunk = []
    builder.add(chunk)
    return builder.build()


@dataclass(frozen=True)
class Case:
    """A row: what is checked against which model, what must come out, and what it may take."""

    make: Callable[[], Iterator[Event]]
    workload: str
    model: str
    expected: str
    seconds: float
    gigabytes: float = 4.0


LISTS, STRICT = "list-append", "strict-serializable"
CASES: dict[str, Case] = {
    "1,000,000 transactions on lists, valid": Case(lambda: lists(1_000_000), LISTS, STRICT, "valid", 10),
    "1,000,000 transactions on lists, one stale read": Case(
        lambda: lists(1_000_000, stale=True), LISTS, STRICT, "G-single-item-realtime", 12
    ),
    "100,000 transactions on lists, valid": Case(lambda: lists(100_000), LISTS, STRICT, "valid", 1),
    "30,000 transactions in one component, one closing rw": Case(
        one_component, LISTS, "serializable", "G-single-item", 1
    ),
    "1,000,000 transactions on registers, causal, 20 sessions": Case(
        lambda: registers(1_000_000), "rw-register", "causal", "valid", 10
    ),
}


def measure(title: str) -> None:
    """In a fresh process: make a history, check it, and print seconds, memory and verdict."""
    from harness.checkers.transactions import Transactional
    from harness.verdict import Budget

    case = CASES[title]
    checker = Transactional(workload=case.workload, models=(case.model,))
    small = registers if case.workload == "rw-register" else lists
    checker.check(gathered(small(200)), Budget())
    began = time.perf_counter()
    gc.disable()
    history = gathered(case.make())
    gc.enable()
    made = time.perf_counter() - began
    held = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began, worked = time.perf_counter(), time.process_time()
    verdict = checker.check(history, Budget())
    said = {
        "seconds": time.perf_counter() - began,
        "processor": time.process_time() - worked,
        "mb": memory("VmHWM"),
        "history": held,
        "made": made,
        "verdict": verdict.validity,
        "types": verdict.evidence.get("anomaly_types", []),
        "cycle": [len(anomaly.operations) for anomaly in verdict.anomalies[:1]],
        "text": verdict.anomalies[0].text[:600] if verdict.anomalies else verdict.reason,
    }
    print(json.dumps(said))


def edn(events: Iterator[Event]) -> Iterator[str]:
    """The lines of a history as Jepsen writes it."""
    for event in events:
        parts = " ".join(f"[:{f} {key} {_edn(value)}]" for f, key, value in event.value)
        yield (
            f"{{:type :{event.type}, :f :txn, :value [{parts}], :process {event.process}, "
            f":time {event.time}, :index {event.index}}}\n"
        )


def _edn(value: Any) -> str:
    if isinstance(value, list):
        return f"[{' '.join(map(str, value))}]"
    return "nil" if value is None else str(value)


def command_seconds(path: Path, runs: int = 3) -> tuple[float, str]:
    """The median wall-clock time of ``splitbrain check``, start-up included, and the end of what it said."""
    splitbrain = str(Path(sys.executable).with_name("splitbrain"))
    times = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        command = [splitbrain, "check", str(path), "--model", STRICT]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        times.append(time.perf_counter() - began)
    said = (ran.stdout + ran.stderr).strip().splitlines()
    return statistics.median(times[1:]), f"exit {ran.returncode}: {said[0] if said else ''}"


def row(title: str) -> str:
    """One line of the table."""
    case = CASES[title]
    command = [sys.executable, "-m", "benchmarks.transactions", "measure", title]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{title}: {done.stderr.strip().splitlines()[-1]}"
    ran = json.loads(done.stdout)
    found = ran["verdict"] if ran["verdict"] != "invalid" else ", ".join(ran["types"])
    cycle = f", a cycle of {ran['cycle'][0]}" if ran["cycle"] else ""
    right = case.expected in (ran["verdict"], *ran["types"]) or (case.expected == "valid" == ran["verdict"])
    over = ran["seconds"] > case.seconds or ran["mb"] > 1024 * case.gigabytes
    limits = f"at most {case.seconds:g} s, {case.gigabytes:g} GB{': TOO MUCH' if over else ''}"
    wrong = "" if right else f"  WRONG, expected {case.expected}"
    figures = f"{ran['seconds']:.2f} s ({ran['processor']:.2f} s), {ran['mb']:,.0f} MB"
    return f"{title}: {figures}, {found}{cycle}  ({limits}; made in {ran['made']:.0f} s){wrong}"


def main(wanted: Sequence[str] = ()) -> None:
    """Run every row, or those whose title has one of these words in it."""
    for title in CASES:
        if not wanted or any(word in title for word in wanted):
            print(row(title), flush=True)
    last = "splitbrain check of 100,000 transactions in EDN, all included"
    if not wanted or any(word in last for word in wanted):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "history.edn"
            with path.open("w") as file:
                file.writelines(edn(lists(100_000)))
            seconds, said = command_seconds(path)
        over = ": TOO MUCH" if seconds > 8 else ""
        print(f"{last}: {seconds:.2f} s, {said}  (at most 8 s{over})", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2])
    else:
        main(sys.argv[1:])
