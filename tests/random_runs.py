"""Random histories of an object: correct ones, and ones in which something goes wrong now and then.

``SPLITBRAIN_CASES`` says how many of them every oracle of a checker looks at. All of them, for a hundred thousand each:

    SPLITBRAIN_CASES=100000 .venv/bin/pytest -n 4 tests/property tests/unit/test_branches.py \\
        tests/unit/test_split_brain.py tests/unit/test_fates.py

Without it each takes as many as it can in a few seconds.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.history import INFO, OK, TYPES, History, from_events
from harness.operation import Event

FOREVER = 1 << 60


def cases(default: int) -> int:
    """How many random histories a test looks at: as many as were asked for, or else its own number."""
    return int(os.environ.get("SPLITBRAIN_CASES", default))


CASES = cases(1500)
_CLIENTS = 3

Draw = Callable[[random.Random, int], tuple[str, Any] | None]
"""What a process does next: a function and its argument."""
Apply = Callable[[str, Any, int, int], Any]
"""Takes effect: function, argument, moment and process; returns the answer. Raises ``RefusedError``."""


class RefusedError(Exception):
    """The operation certainly did nothing."""


@dataclass
class _Open:
    process: int
    f: str
    argument: Any
    applied: bool = False
    answer: Any = None
    refused: bool = False


def run(
    rng: random.Random,
    draw: Draw,
    apply: Apply,
    *,
    steps: int,
    crash: float = 0.08,
    fail: float = 0.05,
    tick: Callable[[], int] = lambda: 1,
) -> History:
    """A run of concurrent clients. Each operation takes effect at one moment of its interval, a crashed one at any
    later moment or never, a failed one never. Clients are on nodes n1, n2, ... in turn.
    """
    events: list[Event] = []
    now = 0
    open_: dict[int, _Open | None] = dict.fromkeys(range(_CLIENTS))
    late: list[_Open] = []

    def record(one: _Open, kind: str, value: Any) -> None:
        events.append(Event(0, now, one.process, kind, one.f, "k", value, f"n{one.process % _CLIENTS + 1}"))  # type: ignore[arg-type]

    def effect(one: _Open) -> None:
        one.applied = True
        try:
            one.answer = apply(one.f, one.argument, now, one.process)
        except RefusedError:
            one.refused = True

    for _ in range(steps):
        now += tick()
        if late and rng.random() < 0.15:
            effect(late.pop(rng.randrange(len(late))))
            continue
        process = rng.choice(list(open_))
        one = open_[process]
        if one is None:
            drawn = draw(rng, process)
            if drawn is not None:
                one = open_[process] = _Open(process, *drawn)
                record(one, "invoke", one.argument)
        elif not one.applied and rng.random() < crash:
            record(one, "info", one.argument)
            del open_[process]
            open_[process + _CLIENTS] = None
            late.append(one)
        elif not one.applied and rng.random() < fail:
            record(one, "fail", one.argument)
            open_[process] = None
        elif not one.applied:
            effect(one)
        elif rng.random() < crash / 2:
            record(one, "info", one.argument)
            del open_[process]
            open_[process + _CLIENTS] = None
        else:
            record(one, "fail" if one.refused else "ok", one.argument if one.refused else one.answer)
            open_[process] = None
    return from_events(events)


@dataclass(frozen=True)
class Done:
    """One operation as an oracle sees it; ``ret`` is ``FOREVER`` for one of unknown outcome."""

    process: int
    f: str
    argument: Any
    type: str
    answer: Any
    call: int
    ret: int
    node: str | None


def done(history: History, *functions: str) -> list[Done]:
    """The operations of some functions; times are places in the history."""
    operations, found = history.operations(), []
    for row in range(len(operations)):
        if operations.name(row) in functions:
            kind = int(operations.type[row])
            one = Done(
                int(operations.process[row]),
                operations.name(row),
                operations.argument(row),
                TYPES[kind],
                operations.result(row) if kind == OK else None,
                int(operations.invoked[row]),
                FOREVER if kind == INFO else int(operations.completed[row]),
                operations.node_name(row),
            )
            found.append(one)
    return found


def adds_up(total: int, amounts: list[int]) -> bool:
    """Whether some of these amounts, or none, add up to a total."""
    choices = itertools.chain.from_iterable(itertools.combinations(amounts, n) for n in range(len(amounts) + 1))
    return any(sum(chosen) == total for chosen in choices)
