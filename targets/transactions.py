"""What a transaction's micro-operations come to, for stores whose clients compute it: from what its keys hold.

A register is a whole number; a list is a list of them, and is as good as empty before it was first appended to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.operation import Failed

Steps = Sequence[Sequence[Any]]
"""The micro-operations of a transaction: ``["r", key, None]``, ``["w", key, value]`` and ``["append", key, value]``."""


class Outcome(NamedTuple):
    """A transaction done in memory: its micro-operations with their answers, and what keys hold that it wrote."""

    answer: list[list[Any]]
    written: dict[Any, Any]


def only_reads(steps: Steps) -> bool:
    """Whether it changes nothing, so that it has done nothing where nobody got its answer."""
    return all(function == "r" for function, _, _ in steps)


def keys_needed(steps: Steps) -> list[Any]:
    """The keys whose former contents decide the answer or what is written, in the order in which they come up.

    A key that is written before it is read is none of them.
    """
    needed: dict[Any, None] = {}
    overwritten: set[Any] = set()
    for function, key, _ in steps:
        if function == "w":
            overwritten.add(key)
        elif key not in overwritten:
            needed[key] = None
    return list(needed)


def carry_out(steps: Steps, held: Mapping[Any, Any]) -> Outcome:
    """Do the micro-operations one after the other on what keys hold, of which those that hold nothing may be missing.

    Raises ``Failed`` for a micro-operation that there is not.
    """
    answer: list[list[Any]] = []
    written: dict[Any, Any] = {}
    for function, key, value in steps:
        now = written[key] if key in written else held.get(key)
        match function:
            case "r":
                answer.append(["r", key, now])
                continue
            case "w":
                written[key] = value
            case "append":
                written[key] = [*(now or ()), value]
            case _:
                raise Failed(f"a transaction has no micro-operation {function}")
        answer.append([function, key, value])
    return Outcome(answer, written)
