"""What nodes certainly were, as far as their answers tell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.roles import LARGEST_GAP, Sighting, Span, sightings, spans
from tests.planted_split_brain import in_order, role, seconds

Told = tuple[str | None, int | None, float, float]
"""A role and a term, and from when to when (s) somebody waited for the answer."""


def of_answers(*told: Told, node: str = "n1") -> list[Span]:
    """The spans of single answers."""
    return spans([Sighting(node, kind, term, seconds(a), seconds(b), lasting=False) for kind, term, a, b in told])


def times(told: Sequence[Span]) -> list[tuple[str | None, int | None, float, float]]:
    return [(span.role, span.term, span.start / 1e9, span.end / 1e9) for span in told]


def test_answers_of_a_node_that_are_the_same_are_one_span() -> None:
    seen = sightings(
        in_order([*role("n1", "primary", 0, 2), *role("n1", "primary", 2.2, 4, 7), *role("n1", None, 5, 6)])
    )
    assert times(spans(seen)) == [("primary", 7, 0, 4), (None, None, 5, 6)]
    assert [span.leads for span in spans(seen)] == [True, False]


def test_a_new_term_is_another_span() -> None:
    seen = sightings(in_order([*role("n1", "primary", 0, 2, 1), *role("n1", "primary", 2.2, 4, 2)]))
    assert times(spans(seen)) == [("primary", 1, 0, 2), ("primary", 2, 2.2, 4)]


def test_who_tells_a_term_late_had_it_before() -> None:
    told = of_answers(("primary", None, 1, 1.1), ("primary", 3, 1.5, 1.6), ("primary", None, 2, 2.1))
    assert times(told) == [("primary", 3, 1.1, 2)]


def test_certain_is_only_what_is_between_the_first_answer_and_the_last_question() -> None:
    """An answer is true at some moment: n1 may have ceased before n2 began, however late n1's last answer came."""
    first = of_answers(("primary", 1, 0, 0.1), ("primary", 1, 1, 5))
    second = of_answers(("primary", 2, 1, 4), ("primary", 2, 4.5, 5), node="n2")
    assert (times(first), times(second)) == ([("primary", 1, 0.1, 1)], [("primary", 2, 4, 4.5)])
    assert of_answers(("primary", 1, 0, 5)) == []


def test_after_a_gap_nobody_knows() -> None:
    gap = LARGEST_GAP / 1e9
    near = of_answers(("replica", 1, 0, 1), ("replica", 1, 1 + gap, 2 + gap))
    assert times(near) == [("replica", 1, 1, 1 + gap)]
    assert of_answers(("replica", 1, 0, 1), ("replica", 1, 1.001 + gap, 2 + gap)) == []
    lasting = sightings(in_order([*role("n1", "primary", 0, 2, 1), *role("n1", "primary", 60, 61, 1)]))
    assert times(spans(lasting)) == [("primary", 1, 0, 2), ("primary", 1, 60, 61)]


def test_who_does_not_answer_for_a_moment_goes_on() -> None:
    seen = sightings(
        in_order([*role("n1", "primary", 0, 2), *role("n1", None, 2.2, 2.6), *role("n1", "primary", 2.8, 4)])
    )
    assert times(spans(seen)) == [("primary", None, 0, 4)]
    longer = sightings(
        in_order([*role("n1", "primary", 0, 2), *role("n1", None, 2.2, 4), *role("n1", "primary", 5, 6)])
    )
    assert times(spans(longer)) == [("primary", None, 0, 2), (None, None, 2.2, 4), ("primary", None, 5, 6)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["primary", "replica", None]),
            st.sampled_from([None, 1, 2]),
            st.integers(0, 9),
            st.integers(0, 9),
        ),
        max_size=8,
    )
)
def test_a_node_is_one_thing_at_a_time(told: list[tuple[str | None, int | None, int, int]]) -> None:
    """However long answers take, and in whatever order they come."""
    step = LARGEST_GAP // 2
    in_turn = spans([Sighting("n1", a, b, at * step, (at + length) * step, lasting=False) for a, b, at, length in told])
    assert all(span.start <= span.end for span in in_turn)
    assert all(before.end <= after.start for before, after in pairwise(in_turn))
