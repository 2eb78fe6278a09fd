"""Which faults a run has: every nemesis and every shape of it has its turn before any has a second one."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from harness.dealing import LEAST_SECONDS, deal, no_time_for
from harness.nemeses.kill import Kill
from harness.nemeses.membership import Membership
from harness.nemeses.partition import KINDS, Partition
from harness.nemesis import Nemesis
from harness.plugins import load, names
from harness.timetable import Fault

ZONES = {"n1": "a", "n2": "b", "n3": "c", "n4": "a", "n5": "b"}
FAILOVER = 4.0


def made(*wanted: str) -> dict[str, Nemesis]:
    plugins = [load("nemeses", name) for name in wanted or names("nemeses")]
    return {plugin.name: plugin(plugin.Options()) for plugin in plugins}


def faults(
    nemeses: dict[str, Nemesis],
    seed: int,
    time: float,
    *,
    nodes: int = 5,
    interval: float = 5.0,
    overlapping: bool = False,
) -> tuple[Fault, ...]:
    zones = dict(list(ZONES.items())[:nodes])
    return deal(nemeses, zones, seed=seed, time=time, interval=interval, failover=FAILOVER, overlapping=overlapping)


@pytest.mark.parametrize("overlapping", [False, True])
def test_the_seed_alone_decides_the_faults_and_json_can_hold_them(overlapping: bool) -> None:
    first = faults(made(), 3, 300, overlapping=overlapping)
    assert first == faults(made(), 3, 300, overlapping=overlapping)
    assert first != faults(made(), 4, 300, overlapping=overlapping)
    json.dumps([fault.plan for fault in first])


@pytest.mark.parametrize("seed", range(20))
def test_whoever_was_asked_for_has_a_turn_in_the_time_that_there_is(seed: int) -> None:
    nemeses = made("partition", "kill", "pause")
    for overlapping in (False, True):
        dealt = faults(nemeses, seed, 25, nodes=3, overlapping=overlapping)
        assert no_time_for(nemeses, dealt, FAILOVER) == []
        assert all(0 <= fault.start < fault.stop <= 25 for fault in dealt)
        assert all(fault.stop - fault.start >= LEAST_SECONDS - 1e-5 for fault in dealt)


@pytest.mark.parametrize("seed", range(10))
def test_no_nemesis_and_no_shape_comes_again_before_all_others_have_come(seed: int) -> None:
    nemeses = made("partition", "kill", "disk")
    dealt = faults(nemeses, seed, 1000)
    for at in range(0, len(dealt) - 3, 3):
        assert {fault.name for fault in dealt[at : at + 3]} == set(nemeses)
    cuts = [fault.plan["kind"] for fault in dealt if fault.name == "partition"]
    deck = list(nemeses["partition"].decks(ZONES)["kind"])
    for at in range(0, len(cuts) - len(deck), len(deck)):
        assert sorted(cuts[at : at + len(deck)]) == sorted(deck)


@pytest.mark.parametrize("seed", range(10))
def test_the_primary_is_hit_first_and_for_longer_than_a_failover_takes(seed: int) -> None:
    for name, question in (("partition", "kind"), ("kill", "aim"), ("pause", "aim")):
        first = faults(made(name), seed, 30, nodes=3)[0]
        assert first.plan[question] == "primary"
        assert first.stop - first.start > FAILOVER
        dealt = faults(made(name), seed, 600, nodes=3)
        assert all(f.stop - f.start > FAILOVER for f in dealt if f.plan[question] == "primary")


def test_what_does_not_fit_is_told() -> None:
    nemeses = made("partition", "kill", "pause")
    told = no_time_for(nemeses, faults(nemeses, 1, 5, nodes=3), FAILOVER)
    assert len([one for one in told if one.startswith("a turn of ")]) == 1
    # Everybody has a turn, but for a failover there is no time.
    dealt = faults(nemeses, 1, 8, nodes=3)
    assert {fault.name for fault in dealt} == set(nemeses)
    hasty = [f"a failover while {name} hits the primary" for name in sorted(nemeses)]
    assert no_time_for(nemeses, dealt, FAILOVER) == hasty
    assert no_time_for(nemeses, faults(nemeses, 1, 0.5), FAILOVER) == [f"a turn of {name}" for name in nemeses]


def test_one_fault_at_a_time_ends_before_the_next_begins() -> None:
    assert all(one.stop < following.start for one, following in pairwise(faults(made(), 1, 500)))


def test_overlapping_faults_are_two_at_once_on_average_and_never_two_of_a_family() -> None:
    dealt = faults(made(), 1, 2000, interval=2.0, overlapping=True)
    assert all(one.start <= following.start for one, following in pairwise(dealt))
    for name in made():
        assert all(one.stop <= following.start for one, following in pairwise(f for f in dealt if f.name == name))
    assert 1 < sum(fault.stop - fault.start for fault in dealt) / 2000 < 4


def test_shapes_that_are_the_same_on_few_nodes_are_dealt_once() -> None:
    three = {"n1": "a", "n2": "b", "n3": "c"}
    cuts = made("partition")["partition"].decks
    assert list(cuts(three)["kind"]) == ["primary", "one", "bridge", "one-way", "links", "clients"]
    assert set(cuts(ZONES)["kind"]) == set(KINDS) - {"third", "zone", "majority"}
    assert list(cuts({"n1": "a", "n2": "b"})["kind"]) == ["primary", "one-way", "links", "clients"]
    assert "primary-minority" in cuts(ZONES)["kind"]
    aims = Kill(Kill.Options()).decks
    assert list(aims(three)["aim"]) == ["primary", "one", "replicas", "majority", "all"]
    assert list(aims({"n1": "a"})["aim"]) == ["primary"]
    zones_of_two = {"n1": "a", "n2": "a", "n3": "b", "n4": "b"}
    assert "zone" in aims(zones_of_two)["aim"]


def test_an_option_fixes_what_is_dealt() -> None:
    assert {f.plan["aim"] for f in faults({"kill": Kill(Kill.Options(kill="n2"))}, 1, 100)} == {"n2"}
    cut = Partition(Partition.Options(partition="ring"))
    assert {f.plan["kind"] for f in faults({"partition": cut}, 1, 100)} == {"ring"}
    leaving = Membership(Membership.Options(leaving=2))
    assert {f.plan["leaving"] for f in faults({"membership": leaving}, 1, 100)} == {2}


@pytest.mark.parametrize("interval", [0.1, 0.5, 1.0, 1.4])
@pytest.mark.parametrize("overlapping", [False, True])
def test_however_short_the_interval_the_primary_is_hit_and_faults_go_on_to_the_end(
    interval: float, overlapping: bool
) -> None:
    for seed in range(10):
        dealt = faults(made("kill", "pause"), seed, 60, nodes=3, interval=interval, overlapping=overlapping)
        assert any(fault.plan["aim"] == "primary" for fault in dealt)
        assert dealt[-1].stop > 60 - FAILOVER - 5
    primary: dict[str, Nemesis] = {"kill": Kill(Kill.Options(kill="primary"))}
    assert faults(primary, 1, 60, interval=interval, overlapping=overlapping)


def test_a_time_of_just_one_turn_and_less() -> None:
    one: dict[str, Nemesis] = {"kill": Kill(Kill.Options(kill="one"))}
    for time in (0.1, 1.0, 1.2, 1.5):
        assert len(faults(one, 1, time, interval=0.5)) <= 1
