"""Orders of operations that get far: what each step led to, and where it went no further.

Made for the few operations that an anomaly rests on, with the model as it is, so that its states can be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from harness.checkers.linearizability.models import Model
from harness.checkers.linearizability.search import Timed
from harness.history import NEVER
from harness.verdict import Order, Step
from harness.words import show

_OPERATIONS: Final = 60
"""The most operations of which orders are tried."""
_ASKED: Final = 5_000
"""How often the model is asked, at most: then there may be orders that nobody has tried."""
_ORDERS: Final = 4
"""How many of the orders that get furthest are told."""
_TOLD: Final = 30
"""How many steps of one are: the last ones."""


class _Path(NamedTuple):
    """Operations in the order in which they took effect, each with the state that it led to."""

    done: frozenset[int]
    state: Any
    steps: tuple[tuple[int, Any], ...] = ()


def furthest_orders(model: Model, operations: Sequence[Timed], index: Callable[[int], int]) -> list[Order]:
    """Of the orders that are tried those that get furthest, where none explains everything.

    ``index`` numbers a row's operation. Not all orders are tried where the model would be asked too often. Empty where
    there are too many operations, or an order that is tried explains them.
    """
    if len(operations) > _OPERATIONS:
        return []
    given = sorted(operations, key=lambda op: (op.ret, op.start))
    completed = sum(op.ret != NEVER for op in given)
    ends: list[tuple[int, _Path]] = []
    try:
        for path in _ends(model, given):
            ends.append((sum(given[at].ret != NEVER for at in path.done), path))
    except Exception:  # a model of somebody's own may fail at what the search never asks it
        return []
    if any(placed == completed for placed, _ in ends):
        return []
    most = max((placed for placed, _ in ends), default=0)
    # Of those that end alike the shortest: what never completed need not have happened.
    best: dict[frozenset[int], _Path] = {}
    for path in sorted((path for placed, path in ends if placed == most), key=lambda path: len(path.steps)):
        best.setdefault(frozenset(at for at in path.done if given[at].ret != NEVER), path)
    return [_told(model, given, path, index) for path in list(best.values())[:_ORDERS]]


def _ends(model: Model, given: Sequence[Timed]) -> Iterator[_Path]:
    """Ways of placing operations one after the other, each as far as it goes, the natural one first.

    All of them, where the model need not be asked too often.
    """
    stack = [_Path(frozenset(), model.init())]
    known = {stack[0][:2]}
    asked = 0
    while stack and asked < _ASKED:
        path = stack.pop()
        further = []
        stuck = True
        for at in _next(given, path.done):
            asked += 1
            for state in model.step(path.state, given[at].call):
                stuck = stuck and given[at].ret == NEVER
                longer = _Path(path.done | {at}, state, (*path.steps, (at, state)))
                if longer[:2] not in known:
                    known.add(longer[:2])
                    further.append(longer)
        stack += reversed(further)
        if stuck:
            yield path


def _next(given: Sequence[Timed], done: frozenset[int]) -> list[int]:
    """The operations that can come next: none that is left was over before they began."""
    left = [at for at in range(len(given)) if at not in done]
    first = min((given[at].ret for at in left), default=NEVER)
    return [at for at in left if given[at].start <= first]


def _told(model: Model, given: Sequence[Timed], path: _Path, index: Callable[[int], int]) -> Order:
    def step(at: int, held: str = "") -> Step:
        return Step(index(given[at].row), model.describe(given[at].call), held)

    skipped = max(len(path.steps) - _TOLD, 0)
    began = path.steps[skipped - 1][1] if skipped else model.init()
    return Order(
        show(began),
        [step(at, show(state)) for at, state in path.steps[skipped:]],
        [step(at) for at in _next(given, path.done) if given[at].ret != NEVER],
        skipped,
    )
