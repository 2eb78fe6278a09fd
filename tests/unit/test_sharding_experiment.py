"""The experiment that compares placements: its figures against counting by hand, and what theory says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.experiments.sharding import (
    HOT,
    LESSONS,
    SIZES,
    SKEW,
    STEPS,
    Keys,
    Spread,
    Step,
    ids,
    move,
    owners,
    popularities,
    prefixed,
    spread,
    spreads,
)
from harness.experiments.sharding_report import sharding_sentence
from harness.targets.reference.placement import PLACEMENTS, owner

FEW = 60


@pytest.fixture(scope="module")
def rows() -> dict[str, Spread]:
    return {row.title: row for row in spreads(0, 2000)}


def differing(before: Sequence[int], after: Sequence[int]) -> int:
    return sum(was != now for was, now in zip(before, after, strict=True))


def even(held: Sequence[int], shards: Sequence[int]) -> bool:
    counts = [held.count(shard) for shard in shards]
    return max(counts) - min(counts) <= 1


@given(data=st.data(), step=st.sampled_from([*STEPS[:4], Step((2, 1), (3, 1)), Step((1, 2), (1,)), Step((1,), (1, 2))]))
@settings(max_examples=60, deadline=None)
def test_no_way_to_hand_out_keys_moves_fewer_than_the_least(data: st.DataObject, step: Step) -> None:
    count = data.draw(st.integers(1, 5))
    before, after = (
        data.draw(st.lists(st.sampled_from(shards), min_size=count, max_size=count))
        for shards in (step.before, step.after)
    )
    ways = list(product(step.after, repeat=count))
    found = move(np.array(before), np.array(after), step)
    assert (found.moved.part, found.moved.whole) == (differing(before, after), count)
    assert found.least.part == min(differing(before, way) for way in ways if Counter(way) == Counter(after))
    assert found.even.part == min(differing(before, way) for way in ways if even(way, step.after))
    assert found.least.part <= found.moved.part


@pytest.mark.parametrize("name", sorted(PLACEMENTS))
@pytest.mark.parametrize("kind", [ids(3, FEW), prefixed(3, FEW)], ids=lambda kind: kind.name)
def test_figures_are_those_of_going_through_the_keys_one_by_one(name: str, kind: Keys) -> None:
    popular = popularities(3, FEW)
    found = spread(name, PLACEMENTS[name], kind, popular)
    for step, measured in zip(STEPS, found.moves, strict=True):
        before, after = ([PLACEMENTS[name].shard(key, shards) for key in kind.keys] for shards in step)
        assert measured.moved.part == differing(before, after)
        assert (measured.before, measured.after) == step
    for size in SIZES:
        held = [PLACEMENTS[name].shard(key, range(1, size + 1)) for key in kind.keys]
        load = found.load(size)
        assert load.largest == max(Counter(held).values())
        assert load.balance == pytest.approx(load.largest / (FEW / size), abs=1e-6)
        skewed = [busiest(held, list(weights)) for weights in popular]
        assert load.skewed == pytest.approx(sum(skewed) / len(skewed), abs=1e-6)
        hot = [busiest(held, requests(members.tolist())) for members in kind.ranges]
        assert load.hot == pytest.approx(sum(hot) / len(hot), abs=1e-6)


def busiest(held: Sequence[int], weights: Sequence[float]) -> float:
    return max(sum(w for shard, w in zip(held, weights, strict=True) if shard == one) for one in set(held))


def requests(hot: Sequence[int]) -> list[float]:
    """The share of each key where these are hot: theirs, and of what is left what every key has."""
    return [(1 - HOT) / FEW + (HOT / len(hot) if key in hot else 0) for key in range(FEW)]


@pytest.mark.parametrize("name", sorted(PLACEMENTS))
def test_keys_are_held_by_whom_the_store_says(name: str) -> None:
    pieces = PLACEMENTS[name].pieces([1, 2, 3])
    points = [PLACEMENTS[name].point(key) for key in ids(0, FEW).keys]
    assert owners(pieces, points).tolist() == [owner(pieces, point) for point in points]


def test_keys_are_all_different_and_each_is_in_one_range() -> None:
    for kind in (ids(0, 500), prefixed(0, 500)):
        assert len(set(kind.keys)) == 500
        assert sorted(index for members in kind.ranges for index in members.tolist()) == list(range(500))
    for members in prefixed(0, 500).ranges:
        assert len({prefixed(0, 500).keys[index].rpartition("/")[0] for index in members}) == 1
    numbers = ids(0, 500)
    edges = [(numbers.keys[one[0]], numbers.keys[one[-1]]) for one in numbers.ranges]
    assert edges == sorted(edges)


def test_popularity_is_zipfs_in_any_order() -> None:
    first, second, *_ = popularities(0, 100)
    assert sorted(first) == sorted(second)
    assert first.tolist() != second.tolist()
    assert first.sum() == pytest.approx(1)
    top, next_one = sorted(first, reverse=True)[:2]
    assert top / next_one == pytest.approx(2**SKEW)


def test_a_seed_is_a_table() -> None:
    assert list(spreads(1, 200)) == list(spreads(1, 200)) != list(spreads(2, 200))


def test_every_row_has_a_lesson(rows: dict[str, Spread]) -> None:
    assert list(rows) == list(LESSONS)


@pytest.mark.parametrize("keys", ["ids", "prefixes"])
def test_rings_and_rendezvous_move_the_least_and_modulo_nearly_all(rows: dict[str, Spread], keys: str) -> None:
    for name in ("consistent-hash", "rendezvous"):
        assert all(move.moved == move.least for move in rows[f"{name}, {keys}"].moves)
    for step, found in zip(STEPS, rows[f"hash, {keys}"].moves, strict=True):
        # A key stays where its slot leaves the same remainder, which one of so many does.
        expected = 1 - 1 / max(len(step.before), len(step.after))
        assert found.moved.part / found.moved.whole == pytest.approx(expected, abs=0.06)
    assert sharding_sentence(list(rows.values())).startswith("consistent-hash and rendezvous moved only")


def test_parts_of_a_line_that_is_cut_anew_move_a_half(rows: dict[str, Spread]) -> None:
    for found in rows["hierarchical, ids"].moves[:2]:
        assert found.moved.part / found.moved.whole == pytest.approx(0.5, abs=0.05)


def test_what_is_hot_is_spread_by_hashes_and_is_one_shards_where_neighbours_stay_together(
    rows: dict[str, Spread],
) -> None:
    for title, row in rows.items():
        together = title in ("range, ids", "range, prefixes", "hierarchical, prefixes")
        assert (row.load(5).hot > 0.75) == together, title
        if not together:
            assert row.load(5).hot < 0.4


def test_ranges_that_were_cut_for_other_keys_hold_nothing(rows: dict[str, Spread]) -> None:
    assert rows["range, prefixes"].load(5).balance == 5  # both of its ranges are dealt to one shard
    assert rows["range, ids"].load(5).balance < 1.3
