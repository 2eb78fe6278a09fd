"""Random histories for every model, and the oracle that the search is held against."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

from harness.checkers.linearizability.models import MODELS, UNKNOWN, Call, Model
from harness.checkers.linearizability.search import Timed
from harness.history import NEVER

Shape = tuple[str, Sequence[Any], Sequence[Any]]
"""A function, arguments to choose from, results to choose from."""

NOTHING = [None]
SUBSETS = [tuple(c) for size in range(4) for c in itertools.combinations("abc", size)]
TRANSACTIONS: list[tuple[object, Sequence[object]]] = [
    ((("w", "x", 1), ("w", "y", 1)), [None]),
    ((("w", "x", 2),), [None]),
    ((("w", "y", 2), ("w", "x", 3)), [None]),
    (
        (("r", "x", None), ("r", "y", None)),
        [(("r", "x", a), ("r", "y", b)) for a in (None, 1, 2, 3) for b in (None, 1, 2)],
    ),
    ((("r", "y", None), ("w", "x", 1)), [(("r", "y", a), ("w", "x", 1)) for a in (None, 1, 2)]),
]

LISTS: list[tuple[object, Sequence[object]]] = [
    ((("append", "x", 1),), [None]),
    ((("append", "x", 2), ("append", "y", 1)), [None]),
    (
        (("r", "x", None),),
        [(("r", "x", seen),) for seen in (None, (), (1,), (2,), (1, 2), (2, 1), (1, 1), (1, 2, 1))],
    ),
    (
        (("append", "y", 3), ("r", "y", None)),
        [(("append", "y", 3), ("r", "y", seen)) for seen in ((3,), (1, 3), (3, 1))],
    ),
]

SHAPES: dict[str, list[Shape]] = {
    "register": [("read", NOTHING, [None, 0, 1, 2]), ("write", [0, 1, 2], NOTHING)],
    "cas-register": [
        ("read", NOTHING, [None, 0, 1, 2]),
        ("write", [0, 1, 2], NOTHING),
        ("cas", [(a, b) for a in (None, 0, 1, 2) for b in range(3)], NOTHING),
    ],
    "multi-register": [("txn", [argument], results) for argument, results in TRANSACTIONS],
    "list-append": [("txn", [argument], results) for argument, results in LISTS],
    "kv": [
        ("get", NOTHING, ["", "a", "b", "ab", "ba", "aa", "abb"]),
        ("put", ["a", "b"], NOTHING),
        ("append", ["a", "b"], NOTHING),
        ("delete", NOTHING, NOTHING),
    ],
    "counter": [("add", [1, 2], NOTHING), ("read", NOTHING, [0, 1, 2, 3, 4]), ("dec", [1], [None, 1, 2])],
    "set": [("add", ["a", "b", "c"], NOTHING), ("remove", ["a", "b"], NOTHING), ("read", NOTHING, SUBSETS)],
    "fifo-queue": [("enqueue", [1, 2, 3], NOTHING), ("dequeue", NOTHING, [None, 1, 2, 3])],
    "unordered-queue": [("enqueue", [1, 2, 3], NOTHING), ("dequeue", NOTHING, [None, 1, 2, 3])],
    "stack": [("push", [1, 2, 3], NOTHING), ("pop", NOTHING, [None, 1, 2, 3])],
    "mutex": [("acquire", NOTHING, NOTHING), ("release", NOTHING, NOTHING)],
    "reentrant-mutex": [("acquire", ["p", "q"], NOTHING), ("release", ["p", "q"], NOTHING)],
    "fenced-lock": [("acquire", NOTHING, [1, 2, 3, 4]), ("release", NOTHING, NOTHING)],
    "semaphore": [("acquire", [1, 2], NOTHING), ("release", [1, 2], NOTHING)],
}
assert set(SHAPES) == set(MODELS)


def random_history(
    rng: random.Random, name: str, count: int, *, crash: float = 0.15, wrong: float = 0.08
) -> list[Timed]:
    """Operations that take effect at random moments of their intervals, some with a result that is just made up."""
    model = MODELS[name]()
    span = rng.choice([count, 2 * count, 5 * count])
    times = []
    for _ in range(count):
        start = rng.randint(0, span)
        end = start + rng.randint(0, max(1, span // 2))
        times.append((rng.randint(start, end), start, end))
    state = model.init()
    operations = []
    for row, (_, start, end) in enumerate(sorted(times)):
        f, arguments, results = rng.choice(SHAPES[name])
        argument = rng.choice(arguments)
        crashed = rng.random() < crash
        calls = [Call(f, None, argument, result) for result in rng.sample(list(results), len(results))]
        possible = [call for call in calls if model.step(state, call)]
        call = rng.choice(calls) if not possible or rng.random() < wrong else possible[0]
        after = list(model.step(state, call))
        happened = not crashed or rng.random() < 0.5
        if after and happened:
            state = rng.choice(after)
        if crashed:
            if f not in model.reads:
                operations.append(Timed(call._replace(result=UNKNOWN), start, NEVER, row))
        else:
            operations.append(Timed(call, start, end, row))
    return operations


def brute_force(model: Model, operations: Sequence[Timed]) -> bool:
    """Linearizability by trying every order: all completed operations, and any crashed ones."""
    done = tuple(op for op in operations if op.ret != NEVER)
    crashed = tuple(op for op in operations if op.ret == NEVER)
    return _orders(model.step, done, crashed, model.init())


def _orders(step: Callable[[Any, Call], Any], done: tuple[Timed, ...], crashed: tuple[Timed, ...], state: Any) -> bool:
    if not done:
        return True
    earliest = min(op.ret for op in done)
    for at, op in enumerate(done):
        if op.start <= earliest:
            rest = done[:at] + done[at + 1 :]
            if any(_orders(step, rest, crashed, after) for after in step(state, op.call)):
                return True
    for at, op in enumerate(crashed):
        if op.start <= earliest:
            rest = crashed[:at] + crashed[at + 1 :]
            if any(_orders(step, done, rest, after) for after in step(state, op.call)):
                return True
    return False
