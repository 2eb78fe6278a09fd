"""From a history to partitions that can be checked apart, each with its operations as a model sees them."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple

from harness.checkers.linearizability.models import UNKNOWN, Call, Model, lacks, lacks_step
from harness.checkers.linearizability.search import Outcome, Timed, search
from harness.columns import hashable
from harness.errors import HistoryError
from harness.history import FAIL, INFO, OK, Operations
from harness.verdict import Budget


class Partition(NamedTuple):
    """The operations of one partition; their rows are those of the ``Operations`` that they came from."""

    key: Hashable
    operations: Sequence[Timed]


def partitions(model: Model, operations: Operations, rows: Iterable[int]) -> list[Partition]:
    """Group operations by the model's partition. Failed ones, and reads without an answer, are left out.

    Raises ``HistoryError`` with a line number for a function that the model does not know.
    """
    history = operations.history
    grouped: dict[Hashable, list[Timed]] = {}
    start, ret, outcome = operations.call.tolist(), operations.ret.tolist(), operations.type.tolist()
    for row in rows:
        name = operations.name(row)
        line = history.line_of(int(operations.invoked[row]))
        if model.functions and name not in model.functions:
            raise HistoryError(lacks(model, name), line=line)
        if outcome[row] == FAIL or (outcome[row] == INFO and name in model.reads):
            continue
        call = _call(model, operations, row, name, crashed=outcome[row] != OK)
        try:
            model.refuse(call)
            foreign = next((f for f in model.steps_of(call) if f not in model.steps), None)
            key = model.partition(call)
        except HistoryError as error:
            raise HistoryError(error.message, line=line) from None
        if foreign is not None:
            raise HistoryError(lacks_step(model, foreign), line=line)
        grouped.setdefault(key, []).append(Timed(call, start[row], ret[row], row))
    return [Partition(key, timed) for key, timed in grouped.items()]


def _call(model: Model, operations: Operations, row: int, name: str, *, crashed: bool) -> Call:
    argument = hashable(operations.argument(row))
    result = UNKNOWN if crashed else hashable(operations.result(row))
    if name in model.reads:
        argument = None
    elif not crashed and model.answers_in_result is not None and name not in model.answers_in_result:
        argument = hashable(operations.history.value[operations.told[row]])
        result = None  # the model does not look at it: without it, equal operations are of one kind
    return Call(name, hashable(operations.key_name(row)), argument, result)


class Checked(NamedTuple):
    """A partition and what the search found in it."""

    partition: Partition
    outcome: Outcome


def check_all(
    model: Model, parts: Sequence[Partition], budget: Budget, executor: Executor | None = None
) -> Iterator[Checked]:
    """Search every partition, the largest first, in parallel; in order of completion of that queue.

    Without an ``executor`` threads of this process are used: the compiled search does not hold the interpreter.
    """
    deadline = time.time() + budget.seconds
    queue = sorted(parts, key=lambda part: -len(part.operations))
    if executor is not None:
        yield from _through(executor, model, queue, budget, deadline)
    elif len(queue) == 1:
        yield Checked(queue[0], search(model, queue[0].operations, budget))
    else:
        workers = max(1, min(os.cpu_count() or 1, len(queue)))
        share = Budget(budget.seconds, budget.bytes // workers)
        with ThreadPoolExecutor(workers) as threads:
            yield from _through(threads, model, queue, share, deadline)


def _through(
    executor: Executor, model: Model, queue: Sequence[Partition], budget: Budget, deadline: float
) -> Iterator[Checked]:
    futures = [executor.submit(_search_until, model, part.operations, budget, deadline) for part in queue]
    for part, future in zip(queue, futures, strict=True):
        yield Checked(part, future.result())


def _search_until(model: Model, operations: Sequence[Timed], budget: Budget, deadline: float) -> Outcome:
    left = Budget(max(0.0, min(budget.seconds, deadline - time.time())), budget.bytes)
    return search(model, operations, left)
