"""Merging cells is commutative, associative and idempotent, and keeps what only one side knows."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.targets.reference.cells import Counter, Elements, Fields, Last, Siblings, dump, load
from tests.random_runs import cases

NODES = ("n1", "n2", "n3")
VALUES = ("a", "b", "c")

changes = st.tuples(
    st.sampled_from(("change", "merge")), st.sampled_from(NODES), st.sampled_from(NODES), st.integers(0, 5)
)


def histories(kind: type[Any], steps: list[tuple[str, str, str, int]]) -> list[Any]:
    """Cells of three nodes that changed their own and heard of one another's now and then."""
    cells: dict[str, Any] = {node: kind() if kind is not Last else Last(None, (0.0, 0, "")) for node in NODES}
    for number, (what, node, other, value) in enumerate(steps, 1):
        cell = cells[node]
        if what == "merge":
            cells[node] = cell.merge(cells[other])
        elif kind is Counter:
            cells[node] = cell.change(node, value - 2)
        elif kind is Elements:
            element = VALUES[value % 3]
            cells[node] = cell.add(node, element) if value % 2 else cell.remove(element)
        elif kind is Siblings:
            cells[node] = cell.write(node, None if value == 5 else f"{number}")
        elif kind is Fields:
            cells[node] = cell.write(VALUES[value % 3], f"{number}", (float(value), number, node))
        else:
            cells[node] = cell.merge(Last(f"{number}", (float(value), number, node)))
    return list(cells.values())


@settings(max_examples=cases(100), deadline=None)
@given(st.sampled_from((Last, Siblings, Counter, Elements, Fields)), st.lists(changes, max_size=25))
def test_merging_is_a_join(kind: type[Any], steps: list[tuple[str, str, str, int]]) -> None:
    a, b, c = histories(kind, steps)
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(a) == a
    assert a.merge(b).merge(b) == a.merge(b)
    assert load(dump(a)) == a


@settings(max_examples=cases(100), deadline=None)
@given(st.lists(changes, max_size=25))
def test_a_counter_counts_every_change_once(steps: list[tuple[str, str, str, int]]) -> None:
    a, b, c = histories(Counter, steps)
    assert a.merge(b).merge(c).read() == sum(value - 2 for what, _, _, value in steps if what == "change")


def test_an_add_wins_against_a_remove_that_did_not_know_it() -> None:
    one = Elements().add("n1", "x")
    other = one.remove("x")
    again = one.add("n2", "x")
    assert other.merge(one).read() == []
    assert other.merge(again).read() == ["x"]


def test_siblings_are_those_that_no_write_has_replaced_knowingly() -> None:
    first = Siblings().write("n1", "a")
    left, right = first.write("n1", "b"), first.write("n2", "c")
    assert left.merge(right).read() == ["b", "c"]
    assert left.merge(right).write("n3", "d").merge(left).read() == ["d"]
