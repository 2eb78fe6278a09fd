"""Which shard holds a key, and how many keys move when there is one shard more or fewer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.targets.reference.placement import END, PLACEMENTS, Piece, joined, moved, owner

KEYS = [f"key{number}" for number in range(2000)]
NAMES = sorted(PLACEMENTS)


def held(name: str, shards: list[int]) -> list[int]:
    """The shard of each key."""
    pieces, point = PLACEMENTS[name].pieces(shards), PLACEMENTS[name].point
    return [owner(pieces, point(key)) for key in KEYS]


def differing(before: list[int], after: list[int]) -> float:
    """The share of keys that another number of shards moves."""
    return sum(was != now for was, now in zip(before, after, strict=True)) / len(KEYS)


@pytest.mark.parametrize("name", NAMES)
@given(key=st.text(max_size=20), count=st.integers(1, 20))
def test_every_key_has_one_shard_of_those_that_there_are(name: str, key: str, count: int) -> None:
    shards = list(range(1, count + 1))
    pieces = PLACEMENTS[name].pieces(shards)
    assert pieces[0].start == ""
    assert [piece.start for piece in pieces] == sorted({piece.start for piece in pieces})
    assert PLACEMENTS[name].shard(key, shards) in shards


@pytest.mark.parametrize("name", sorted({*NAMES} - {"range"}))
@pytest.mark.parametrize("count", [2, 3, 8])
def test_hashes_spread_keys_over_all_shards(name: str, count: int) -> None:
    shards = list(range(1, count + 1))
    of_keys = held(name, shards)
    for shard in shards:
        assert 0.3 / count < of_keys.count(shard) / len(KEYS) < 2.0 / count


@pytest.mark.parametrize("name", ["consistent-hash", "rendezvous"])
@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_one_shard_more_or_fewer_moves_only_its_own_share(name: str, count: int) -> None:
    fewer, more = held(name, list(range(1, count + 1))), held(name, list(range(1, count + 2)))
    assert 0.3 / (count + 1) < differing(fewer, more) < 2.0 / (count + 1)
    # Only to the new one, and when it leaves, only from it: nothing moves between the others.
    assert all(now in (before, count + 1) for before, now in zip(fewer, more, strict=True))


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_modulo_moves_nearly_everything(count: int) -> None:
    share = differing(held("hash", list(range(1, count + 1))), held("hash", list(range(1, count + 2))))
    assert share > 0.9 * count / (count + 1)


def test_neighbours_stay_together_in_ranges() -> None:
    placement = PLACEMENTS["range"]
    assert {placement.shard(f"k3{letter}", [1, 2, 3]) for letter in "abcxyz"} == {placement.shard("k3", [1, 2, 3])}
    assert placement.shard("k3", [1, 2, 3]) != placement.shard("k4", [1, 2, 3])


@given(first=st.text("abc", min_size=1), others=st.lists(st.text("abc/"), min_size=1), count=st.integers(1, 9))
def test_what_shares_its_first_level_shares_a_shard_and_a_range(first: str, others: list[str], count: int) -> None:
    placement, shards = PLACEMENTS["hierarchical"], list(range(1, count + 1))
    assert len({placement.shard(f"{first}/{other}", shards) for other in others}) == 1
    prefix = placement.point(first)
    assert all(prefix <= placement.point(f"{first}/{other}") < prefix + "0" for other in others)


POINTS = st.text("0123", max_size=3)


@given(
    starts=st.lists(st.tuples(POINTS, st.integers(1, 4)), unique_by=lambda pair: pair[0]),
    low=POINTS, high=POINTS | st.just(END), to=st.integers(1, 4), point=POINTS,
)  # fmt: skip
def test_a_move_changes_the_owner_of_its_range_and_of_nothing_else(
    starts: list[tuple[str, int]], low: str, high: str, to: int, point: str
) -> None:
    before = joined(sorted([Piece("", 1), *(Piece(*pair) for pair in starts if pair[0])]))
    if low >= high:
        return
    after = moved(before, low, high, to)
    assert owner(after, point) == (to if low <= point < high else owner(before, point))
    assert after == joined(after)
    assert after[0].start == ""
