"""What has to be seen of a bad link, or of a cut, for it to count as proved."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.cluster import Cluster
from harness.dealing import Dealer
from harness.environments.simulation.environment import SimulatedNode, SimulationEnvironment
from harness.environments.tools import Request
from harness.errors import FaultError
from harness.faults import probe
from harness.nemeses.links import CLIENTS
from harness.nemeses.netem import Netem, links_of, placed
from harness.nemeses.partition import Partition, apart_from_each_other, cuts_only, links_cut, some_links
from harness.nemeses.quality import KINDS, STRENGTHS, draw
from harness.nemesis import Proof
from harness.targets.reference.target import Reference
from tests.loops import simulated_loop

NAMES = ["n1", "n2", "n3"]
ZONES = dict.fromkeys(NAMES, "a")


def proved(quality: Mapping[str, float], done: Mapping[str, float] | None = None, **how: Any) -> Proof:
    """The proof of one quality on simulated links, which in truth have another one if ``done`` says so."""

    async def main() -> Proof:
        made = SimulationEnvironment(seed=1)
        cluster = Cluster(made, await made.start(NAMES, Path("unused"), "test"), 0, ZONES)
        netem, target = Netem(Netem.Options()), Reference(Reference.Options())
        plan = {"aim": "n1", "order": NAMES, "direction": "out", "seed": "7", **how}
        asked = dict(quality)
        result = await netem.inject(cluster, target, {**plan, "quality": asked if done is None else dict(done)})
        return await netem.prove(cluster, target, {**result, "quality": asked}, 3.0)

    return simulated_loop().run_to_end(main())


@pytest.mark.parametrize("name", STRENGTHS)
def test_every_quality_that_is_dealt_is_proved(name: str) -> None:
    for strength in STRENGTHS[name]:
        for how in ({}, {"direction": "both"}, {"aim": "all"}, {"links": CLIENTS}):
            proof = proved({name: strength}, None, **how)
            assert proof.holds, (strength, how, proof)


@pytest.mark.parametrize(
    ("zones", "links"),
    [
        (["near", "far", "far"], [["n1", "n2"], ["n1", "n3"], ["n2", "n1"], ["n3", "n1"]]),
        # There is nothing beyond a zone that everything is in.
        (["a", "a", "a"], [[a, b] for a in NAMES for b in NAMES if a != b]),
    ],
)
def test_a_zone_is_far_from_the_others_and_its_nodes_are_near_each_other(
    zones: list[str], links: list[list[str]]
) -> None:
    async def main() -> Any:
        made = SimulationEnvironment(seed=1)
        cluster = Cluster(
            made, await made.start(NAMES, Path("unused"), "test"), 0, dict(zip(NAMES, zones, strict=True))
        )
        plan = {"aim": "zone", "order": ["n3", "n2", "n1"], "direction": "both", "seed": "7", "quality": {"delay": 0.1}}
        return await Netem(Netem.Options()).inject(cluster, Reference(Reference.Options()), plan)

    assert simulated_loop().run_to_end(main())["links"] == links


def test_mixes_are_proved() -> None:
    for seed in range(20):
        quality = draw(random.Random(seed), "mix")
        assert len(quality) > 1
        proof = proved(quality)
        assert proof.holds, (quality, proof)


@pytest.mark.parametrize("name", STRENGTHS)
def test_a_quality_that_is_not_there_is_not_proved(name: str) -> None:
    for strength in STRENGTHS[name]:
        assert not proved({name: strength}, done={}).holds
        # Far less than was asked for is not what was asked for; a line that lets more through neither.
        less = strength * 20 if name == "rate" else strength / 20
        assert not proved({name: strength}, done={name: less}).holds


@pytest.mark.parametrize(
    "nothing",
    [{}, {"delay": 0.0}, {"delay": -5.0}, {"loss": 0.0}, {"jitter": -1.0}, {"rate": 0.0}, {"duplicate": 0.0}],
)
def test_a_quality_that_asks_for_nothing_is_not_proved(nothing: dict[str, float]) -> None:
    assert not proved(nothing, done={}).holds


def test_more_than_everything_is_not_lost() -> None:
    assert not proved({"loss": 500.0}, done={}).holds
    assert not proved({"loss": 500.0}, done={"loss": 0.3}).holds


@pytest.mark.parametrize("quality", [{"loss": 1.0}, {"delay": 30.0}, {"jitter": 60.0}])
def test_links_over_which_nothing_comes_in_time_are_judged_by_that(quality: dict[str, float]) -> None:
    assert proved(quality).holds
    assert not proved(quality, done={}).holds


def proved_beside_a_cut(quality: Mapping[str, float], there: bool, cut: list[list[str]], flap: float) -> Proof:
    """The proof of a quality of what n1 sends, which is there or not, while another fault cuts some links."""

    async def main() -> Proof:
        made = SimulationEnvironment(seed=1)
        cluster = Cluster(made, await made.start(NAMES, Path("unused"), "test"), 0, ZONES)
        netem, partition = Netem(Netem.Options()), Partition(Partition.Options())
        target = Reference(Reference.Options())
        plan = {"aim": "n1", "order": NAMES, "direction": "out", "seed": "7"}
        done = await netem.inject(cluster, target, {**plan, "quality": quality if there else {}})
        links = {"kind": "links", "links": cut, "order": NAMES, "how": "drop", "flap": flap}
        await partition.inject(cluster, target, links)
        try:
            return await netem.prove(cluster, target, {**done, "quality": quality}, 3.0)
        finally:
            await partition.heal(cluster, target)
            assert cluster.cut_links == set()

    return simulated_loop().run_to_end(main())


@pytest.mark.parametrize(
    ("quality", "cut", "flap"),
    [
        ({"loss": 1.0}, [["n1", "n2"], ["n1", "n3"]], 0.0),
        ({"loss": 0.3}, [["n1", "n2"], ["n1", "n3"]], 0.05),
        ({"delay": 30.0}, [["n1", "n2"], ["n1", "n3"]], 0.0),
        ({"delay": 30.0}, [["n2", "n1"], ["n3", "n1"]], 0.0),
    ],
)
def test_what_a_cut_does_proves_no_bad_link(quality: dict[str, float], cut: list[list[str]], flap: float) -> None:
    with pytest.raises(FaultError, match="another fault cuts them"):
        proved_beside_a_cut(quality, False, cut, flap)
    assert not proved_beside_a_cut(quality, False, cut[:1], flap).holds
    # Other links show it.
    assert proved_beside_a_cut(quality, True, cut[:1], flap).holds


def test_a_link_that_another_fault_cut_beforehand_is_not_judged(tmp_path: Path) -> None:
    async def main() -> Proof:
        made = SimulationEnvironment(seed=1)
        cluster = Cluster(made, await made.start(NAMES, tmp_path, "test"), 0, ZONES)
        netem, partition = Netem(Netem.Options()), Partition(Partition.Options())
        target = Reference(Reference.Options())
        cut = {"kind": "one", "order": NAMES, "how": "drop", "flap": 0.05}
        await partition.inject(cluster, target, cut)
        plan = {"aim": "n1", "order": NAMES, "direction": "out", "seed": "7", "quality": {"loss": 0.3}}
        done = await netem.inject(cluster, target, plan)
        await partition.heal(cluster, target)
        return await netem.prove(cluster, target, done, 3.0)

    with pytest.raises(FaultError, match="another fault cuts them"):
        simulated_loop().run_to_end(main())


def test_every_quality_comes_before_any_comes_again() -> None:
    dealer = Dealer(Netem(Netem.Options()), ZONES, "1", telling_first=True)
    dealt = [dealer.deal()[0]["quality"] for _ in range(2 * len(KINDS))]
    for round_ in (dealt[: len(KINDS)], dealt[len(KINDS) :]):
        alone = [next(iter(quality)) for quality in round_ if len(quality) == 1]
        assert sorted(alone) == sorted(STRENGTHS)
        assert len(round_) == len(alone) + 1


def test_an_option_fixes_the_quality() -> None:
    options = msgspec.convert({"delay": 0.25, "bandwidth": 100.0}, Netem.Options)
    dealer = Dealer(Netem(options), ZONES, "1", telling_first=True)
    assert [dealer.deal()[0]["quality"] for _ in range(10)] == [{"delay": 0.25, "rate": 100_000.0}] * 10


def test_links_are_made_worse_where_packets_arrive_unless_the_kernel_does_it_where_they_leave() -> None:
    links = links_of(["n1"], NAMES, "out")
    assert links == {("n1", "n2"), ("n1", "n3")}
    assert placed(links, dict.fromkeys(NAMES, "nfqueue")) == {"n2": [("n1", "in")], "n3": [("n1", "in")]}
    assert placed(links, dict.fromkeys(NAMES, "netem")) == {"n1": [("n2", "out"), ("n3", "out")]}
    clients = links_of(["n1"], [CLIENTS], "both")
    for how in ("netem", "nfqueue"):
        assert placed(clients, dict.fromkeys(NAMES, how)) == {"n1": [(CLIENTS, "in"), (CLIENTS, "out")]}


AB, BA, BC = ("a", "b"), ("b", "a"), ("b", "c")


@pytest.mark.parametrize(
    ("before", "during", "bad", "holds"),
    [
        ({AB, BA, BC}, {BC}, set(), True),
        ({AB, BA, BC}, {AB, BC}, set(), False),  # one way is still open
        ({BC}, {BC}, set(), False),  # it was cut by something else
        ({AB, BA, BC}, set(), set(), False),  # more is cut than was meant
        ({AB, BA, BC}, set(), {BC}, True),  # but that may be another fault's doing
        (set(), set(), set(), False),
    ],
)
def test_a_cut_is_proved_by_what_no_longer_arrives(before: Any, during: Any, bad: Any, holds: bool) -> None:
    assert cuts_only({AB, BA}, before, during, bad) is holds


def test_the_heal_of_a_cut_is_measured(tmp_path: Path) -> None:
    async def main() -> None:
        made = SimulationEnvironment(seed=1)
        cluster = Cluster(made, await made.start(NAMES, tmp_path, "test"), 0, ZONES)
        partition, target = Partition(Partition.Options()), Reference(Reference.Options())
        plan = {"kind": "one", "order": NAMES, "how": "drop"}
        done = await partition.inject(cluster, target, plan)
        assert (await partition.prove(cluster, target, done, 3.0)).holds
        netem = Netem(Netem.Options())
        lossy = {"aim": "all", "order": NAMES, "quality": {"loss": 1.0}, "direction": "out", "seed": "7"}
        await netem.inject(cluster, target, lossy)
        began = made.clock()
        # Nothing arrives, but that is another fault's doing; and it takes no longer than a few seconds to say so.
        await partition.heal(cluster, target)
        assert made.clock() - began < 5e9
        await netem.heal(cluster, target)
        assert cluster.bad_links == set()

    simulated_loop().run_to_end(main())


@pytest.mark.parametrize("size", [1, 25])
def test_of_many_links_some_are_measured_and_of_those_that_are_cut_first(size: int) -> None:
    names = [f"n{number}" for number in range(50)]
    nodes: Any = [SimpleNamespace(name=name) for name in names]
    cuts = apart_from_each_other(names, names[:size], names[size:])
    environment: Any = None
    links = some_links(Cluster(environment, nodes, 0), cuts, random.Random(1))
    cut = links_cut(cuts).intersection(links)
    assert len({name for link in links for name in link}) < 20
    assert len(links) == len(set(links)) <= 200
    assert len(cut) >= 20
    assert len(set(links) - cut) >= 20


def test_of_few_links_all_are_measured() -> None:
    nodes: Any = [SimpleNamespace(name=name) for name in NAMES]
    environment: Any = None
    cluster = Cluster(environment, nodes, 0)
    between = {(a, b) for a in NAMES for b in NAMES if a != b}
    assert set(some_links(cluster, {"n1": {"n2": "both"}}, random.Random(1))) == between
    clients = {link for name in NAMES for link in ((name, CLIENTS), (CLIENTS, name))}
    assert set(some_links(cluster, {"n1": {CLIENTS: "both"}}, random.Random(1))) == between | clients


@pytest.mark.parametrize("kind", ["one", "halves", "clients"])
def test_a_cut_of_many_nodes_is_proved_and_healed_though_some_of_them_begin_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    at_once = SimulatedNode.own_tool

    async def own_tool(node: SimulatedNode, request: Request[Any]) -> Any:
        if request.tool is probe:  # one half this time, the other half the next
            session = request.given["asked"]["session"]
            await asyncio.sleep(0.4 * ((int(node.name[1:]) + int(session.split(".")[1])) % 2))
        return await at_once(node, request)

    monkeypatch.setattr(SimulatedNode, "own_tool", own_tool)

    async def main() -> None:
        names = [f"n{number}" for number in range(1, 61)]
        made = SimulationEnvironment(seed=1)
        cluster = Cluster(made, await made.start(names, tmp_path, "test"), 0, dict.fromkeys(names, "a"))
        partition, target = Partition(Partition.Options()), Reference(Reference.Options())
        plan = {"kind": kind, "order": names, "how": "drop", "senders": 20}
        done = await partition.inject(cluster, target, plan)
        proof = await partition.prove(cluster, target, done, 3.0)
        assert proof.holds, proof
        await partition.heal(cluster, target)

    simulated_loop().run_to_end(main())
