"""Each model by hand: what it allows and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from harness.checkers.linearizability.models import MODELS, UNKNOWN, Call

Step = tuple[str, Any, Any]


def runs(model: str, *steps: Step) -> bool:
    """Whether the steps (function, argument, result) can follow one another."""
    made = MODELS[model]()
    states = [made.init()]
    for f, argument, result in steps:
        states = [after for state in states for after in made.step(state, Call(f, None, argument, result))]
    return bool(states)


@pytest.mark.parametrize(
    ("model", "steps", "possible"),
    [
        ("register", [("read", None, None), ("write", 1, None), ("read", None, 1)], True),
        ("register", [("write", 1, None), ("read", None, 2)], False),
        ("register", [("write", 1, None), ("read", None, True)], False),
        ("cas-register", [("write", 1, None), ("cas", (1, 2), None), ("read", None, 2)], True),
        ("cas-register", [("write", 1, None), ("cas", (3, 2), None)], False),
        ("multi-register", [("txn", (("w", "x", 1), ("w", "y", 2)), (("w", "x", 1), ("w", "y", 2)))], True),
        (
            "multi-register",
            [("txn", (("w", "x", 1),), (("w", "x", 1),)), ("txn", (("r", "x", None),), (("r", "x", 1),))],
            True,
        ),
        (
            "multi-register",
            [("txn", (("w", "x", 1),), (("w", "x", 1),)), ("txn", (("r", "x", None),), (("r", "x", 2),))],
            False,
        ),
        ("kv", [("get", None, ""), ("append", "a", None), ("append", "b", None), ("get", None, "ab")], True),
        ("kv", [("put", "a", None), ("delete", None, None), ("get", None, "a")], False),
        ("counter", [("add", 2, None), ("dec", None, None), ("read", None, 1)], True),
        ("counter", [("inc", None, None), ("read", None, 2)], False),
        ("set", [("add", 1, None), ("add", 2, None), ("remove", 1, None), ("read", None, (2,))], True),
        ("set", [("add", 1, None), ("read", None, (1, 1))], False),
        ("fifo-queue", [("enqueue", 1, None), ("enqueue", 2, None), ("dequeue", None, 1)], True),
        ("fifo-queue", [("enqueue", 1, None), ("enqueue", 2, None), ("dequeue", None, 2)], False),
        ("fifo-queue", [("enqueue", 1, None), ("dequeue", None, None)], False),
        ("unordered-queue", [("enqueue", 1, None), ("enqueue", 2, None), ("dequeue", None, 2)], True),
        ("unordered-queue", [("enqueue", 1, None), ("dequeue", None, 1), ("dequeue", None, 1)], False),
        (
            "unordered-queue",
            [("enqueue", 1, None), ("enqueue", 2, None), ("dequeue", None, UNKNOWN), ("dequeue", None, 1)],
            True,
        ),
        (
            "stack",
            [("push", 1, None), ("push", 2, None), ("pop", None, 2), ("pop", None, 1), ("pop", None, None)],
            True,
        ),
        ("stack", [("push", 1, None), ("push", 2, None), ("pop", None, 1)], False),
        ("mutex", [("acquire", None, None), ("release", None, None), ("acquire", None, None)], True),
        ("mutex", [("acquire", None, None), ("acquire", None, None)], False),
        ("reentrant-mutex", [("acquire", "p", None), ("acquire", "p", None), ("release", "p", None)], True),
        ("reentrant-mutex", [("acquire", "p", None), ("acquire", "q", None)], False),
        ("reentrant-mutex", [("acquire", "p", None), ("release", "q", None)], False),
        ("fenced-lock", [("acquire", None, 1), ("release", None, None), ("acquire", None, 7)], True),
        ("fenced-lock", [("acquire", None, 7), ("release", None, None), ("acquire", None, 7)], False),
        ("fenced-lock", [("acquire", None, UNKNOWN), ("release", None, None), ("acquire", None, 1)], False),
        ("semaphore", [("acquire", 2, None), ("release", 1, None), ("acquire", None, None)], True),
        ("semaphore", [("acquire", 2, None), ("acquire", 1, None)], False),
    ],
)
def test_a_model_allows_what_it_should(model: str, steps: list[Step], possible: bool) -> None:
    assert runs(model, *steps) == possible


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_facts_that_make_the_search_fast_are_true(name: str) -> None:
    from tests.models import SHAPES

    model = MODELS[name]()
    states = {model.init()}
    calls = [Call(f, None, a, r) for f, arguments, results in SHAPES[name] for a in arguments for r in results]
    for _ in range(3):
        states |= {after for state in states for call in calls for after in model.step(state, call)}
    for call in calls:
        if model.observes(call):
            assert all(list(model.step(state, call)) in ([], [state]) for state in states)
        if model.overwrites(call):
            assert len({tuple(model.step(state, call)) for state in states}) == 1
            assert all(model.step(state, call) for state in states)
