"""Unique identifiers against the definition."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from harness.checkers.unique_ids import UniqueIds
from harness.verdict import Budget
from tests.random_runs import CASES, done, run


def test_each_is_given_once() -> None:
    rng = random.Random("unique-ids")
    seen: Counter[bool] = Counter()
    for _ in range(CASES):
        odd = rng.random() < 0.3
        choices: list[Any] = list(range(rng.choice((10, 1000))))
        choices = [*choices, "a", "b", [1, 2], None, True, 1.5] if odd else choices

        def draw(rng: random.Random, process: int) -> tuple[str, Any] | None:
            return "generate", None

        def apply(f: str, argument: Any, now: int, process: int, choices: list[Any] = choices) -> Any:
            return rng.choice(choices)

        history = run(rng, draw, apply, steps=rng.randint(2, 60))
        given = Counter(repr(one.answer) for one in done(history, "generate") if one.type == "ok")
        expected = sum(times > 1 for times in given.values())
        verdict = UniqueIds().check(history, Budget())
        assert verdict.total == expected, list(history.events())
        assert verdict.validity == ("invalid" if expected else "valid")
        seen[expected > 0] += 1
    assert min(seen.values()) > CASES // 20
