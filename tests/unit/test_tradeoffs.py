"""The experiments that compare modes of replication: their plan, and how each figure is counted."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.errors import UsageError
from harness.experiments import cap, table
from harness.experiments.beside import BESIDE
from harness.experiments.measure import Done, Share, Window, converged_after, losses, operations, quantile, staleness
from harness.experiments.models import strongest
from harness.experiments.modes import MODES
from harness.experiments.plan import EVERY, FULL, REDUCED, REGULAR, TIMEOUT, Place, Scale, plan
from harness.experiments.quorum import settings
from harness.history import from_events
from harness.operation import Event
from harness.run_directory import RunDirectory

THREE = Place(["n1", "n2", "n3"], ["n3"], ["n1", "n2", "n3"])


def nodes_of(worker: int, place: Place) -> str:
    return place.nodes[worker % len(place.nodes)]


@pytest.mark.parametrize("scale", [FULL, REDUCED, REGULAR])
def test_a_seed_is_a_plan(scale: Scale) -> None:
    assert plan(1, THREE, scale) == plan(1, THREE, scale)
    assert plan(1, THREE, scale) != plan(2, THREE, scale)


def test_each_of_a_pair_is_written_once_by_each_of_its_nodes_and_by_nobody_else() -> None:
    planned = plan(0, THREE, FULL)
    written = defaultdict(list)
    for step in planned.timetable.operations or ():
        if step.f == "write":
            written[step.key].append(nodes_of(step.worker, THREE))
    assert len(planned.pairs) > 40
    for key, couple in planned.pairs.items():
        assert sorted(written[key]) == sorted(couple)
        assert couple[0] != couple[1]


@pytest.mark.parametrize("scale", [FULL, REDUCED, REGULAR])
def test_nobody_writes_once_all_is_healed_and_no_client_of_registers_is_late(scale: Scale) -> None:
    steps = plan(3, THREE, scale).timetable.operations or ()
    assert all(step.at + TIMEOUT <= scale.healed + 1e-6 for step in steps if step.f == "write")
    regular = [s for s in steps if s.f in ("read", "write") and s.worker // 3 < scale.clients]
    by_worker = defaultdict(list)
    for step in regular:
        by_worker[step.worker].append(step.at)
    assert len(by_worker) == 3 * scale.clients
    for moments in by_worker.values():
        assert all(b - a > TIMEOUT for a, b in zip(sorted(moments), sorted(moments)[1:], strict=False))
    assert EVERY > TIMEOUT


def test_values_are_unique_and_every_holder_is_asked_for_every_pair_in_the_end() -> None:
    place = Place(["n1", "n2", "n3"], ["n3"], ["n1", "n2"])
    planned = plan(0, place, FULL)
    values = [step.value for step in planned.timetable.operations or () if step.f == "write"]
    assert len(values) == len(set(values))
    asked = {(step.key, nodes_of(step.worker, place)) for step in planned.timetable.final}
    assert {(key, node) for key in planned.pairs for node in ("n1", "n2")} <= asked
    assert "n3" not in {node for _, node in asked}


def test_modes_have_names_of_their_own_and_a_witness_holds_nothing() -> None:
    assert len({mode.name for mode in MODES}) == len({mode.title for mode in MODES}) == len(MODES)
    places = {mode.name: mode.place for mode in MODES}
    assert places["sync-witness"].holders == ["n1", "n2"]
    assert places["r2w2-sloppy"].far == ["n4", "n5"]
    assert places["sync-two-nodes"].zones == "near,far"


def test_every_r_and_w_of_a_size() -> None:
    assert len(settings([2, 3])) == 4 + 9
    assert (3, 2, 2) in settings([3])


# Counting


def write(value: int, call: int, ret: int | None, kind: str = "ok", key: str = "k", node: str = "n1") -> Done:
    return Done("write", key, node, call, ret, kind, value)


def read(value: int | None, call: int, ret: int, key: str = "k", node: str = "n1") -> Done:
    return Done("read", key, node, call, ret, "ok", value)


def test_a_read_is_stale_if_what_it_tells_had_been_overwritten_before_it_began() -> None:
    done = [write(1, 0, 10), write(2, 20, 30), read(1, 40, 50), read(2, 60, 70)]
    assert staleness(done) == (Share(1, 2), 10 / 1e6)


def test_nothing_is_stale_where_a_write_has_been_written() -> None:
    assert staleness([write(1, 0, 10), read(None, 11, 12)])[0] == Share(1, 1)
    assert staleness([write(1, 0, 10), read(None, 9, 12)])[0] == Share(0, 1)


@pytest.mark.parametrize(
    "done",
    [
        [write(1, 0, 25), write(2, 20, 30), read(1, 40, 50)],  # the writes overlap
        [write(1, 0, 10), write(2, 20, 45), read(1, 40, 50)],  # it was not acknowledged when the read began
        [write(1, 0, None, "info"), write(2, 20, 30), read(1, 40, 50)],  # it may have been applied late
        [write(1, 0, 10), write(2, 20, 30, "fail"), read(1, 40, 50)],
        [write(1, 0, 10), write(2, 20, 30, key="other"), read(1, 40, 50)],
    ],
)
def test_what_may_be_right_is_not_stale(done: list[Done]) -> None:
    assert staleness(done) == (Share(0, 1), 0.0)


CUT = Window(frozenset({"n3"}), 0, 100)


def pair(mine: str, other: str, where: tuple[str, str], held: Any) -> tuple[Share, int]:
    first, second = where
    done = [
        write(1, 10, None if mine == "info" else 20, mine, "pair", first),
        write(2, 10, None if other == "info" else 20, other, "pair", second),
        *(Done("read-local", "pair", node, 200, 210, "ok", held) for node in ("n1", "n2", "n3")),
    ]
    return losses(done, {"pair": where}, [CUT])


def test_of_two_writes_on_two_sides_the_one_that_is_gone_is_lost() -> None:
    assert pair("ok", "ok", ("n1", "n3"), 2) == (Share(1, 2), 0)
    assert pair("ok", "ok", ("n1", "n3"), [1, 2]) == (Share(0, 2), 0)
    assert pair("ok", "fail", ("n1", "n3"), 1) == (Share(0, 1), 0)
    assert pair("ok", "fail", ("n1", "n3"), None) == (Share(1, 1), 0)


def test_what_was_overwritten_on_its_own_side_is_not_lost() -> None:
    assert pair("ok", "ok", ("n1", "n2"), 2) == (Share(0, 2), 0)
    assert pair("ok", "fail", ("n1", "n2"), None) == (Share(1, 1), 0)


def test_what_a_write_of_unknown_outcome_may_have_overwritten_is_unclear() -> None:
    assert pair("ok", "info", ("n1", "n3"), 2) == (Share(0, 1), 1)


def test_what_was_not_written_within_a_cut_does_not_count() -> None:
    done = [write(1, 10, 20, key="pair"), write(2, 150, 160, key="pair", node="n3")]
    done += [Done("read-local", "pair", node, 200, 210, "ok", 2) for node in ("n1", "n3")]
    assert losses(done, {"pair": ("n1", "n3")}, [CUT]) == (Share(0, 0), 0)


def poll(node: str, call: int, value: int | None, kind: str = "ok", key: str = "k") -> Done:
    return Done("read-local", key, node, call, call + 1, kind, value)


def test_nodes_have_converged_from_the_first_round_on_from_which_they_agree() -> None:
    done = [
        *(poll("n1", 10, 1), poll("n2", 10, 1)),
        *(poll("n1", 20, 1), poll("n2", 20, 2)),
        *(poll("n1", 30, 2), poll("n2", 31, 2)),
        *(poll("n1", 40, 2), poll("n2", 40, 2)),
    ]
    assert converged_after(done, 5) == (32 - 5) / 1e9
    assert converged_after(done[:2], 5) == 0.0
    assert converged_after(done[:4], 5) is None


def test_the_last_key_to_agree_counts_and_who_never_answers_holds_nothing() -> None:
    done = [poll("n1", 10, 1), poll("n2", 10, None, "fail")]
    assert converged_after(done, 5) == 0.0
    other = [poll("n1", 10, 1, key="o"), poll("n2", 10, 2, key="o")]
    other += [poll("n1", 20, 1, key="o"), poll("n2", 22, 1, key="o")]
    assert converged_after([*done, *other], 5) == (23 - 5) / 1e9


def test_operations_are_paired_and_know_their_client() -> None:
    events = [
        Event(0, 1, 4, "invoke", "write", "k", 7, "n2"),
        Event(1, 2, 0, "invoke", "read", "k", None, "n1"),
        Event(2, 3, 4, "info", "write", "k", 7, "n2", "timed out"),
        Event(3, 4, 0, "ok", "read", "k", 7, "n1"),
        Event(4, 5, 10, "invoke", "read", "k", None, "n2"),
    ]
    done = operations(from_events(events), workers=2, nodes=3)
    assert [(one.f, one.type, one.ret, one.value, one.client) for one in done] == [
        ("write", "info", None, 7, 1),
        ("read", "ok", 4, 7, 0),
        ("read", "info", None, None, 1),
    ]


def test_a_quantile_is_a_value_that_was_seen() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3.0], 0.99) == 3.0
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert quantile([float(n) for n in range(1, 101)], 0.99) == 99.0


def test_0_and_100_percent_are_none_and_all() -> None:
    assert [table.percent(Share(*s)) for s in ((0, 0), (0, 9), (1, 1000), (999, 1000), (9, 9))] == [
        "-",
        "0",
        "1",
        "99",
        "100",
    ]
    assert (table.seconds(None), table.seconds(0.0), table.seconds(1.26)) == ("never", "at once", "1.3 s")


# The ladder


def history(*steps: tuple[int, str, str, int | None]) -> list[Event]:
    """Operations of processes, one after the other in real time."""
    events = []
    for at, (process, f, key, value) in enumerate(steps):
        asked = value if f == "write" else None
        events.append(Event(2 * at, 20 * at, process, "invoke", f, key, asked, "n1"))
        events.append(Event(2 * at + 1, 20 * at + 10, process, "ok", f, key, value, "n1"))
    return events


CLIENTS = 2


def given_up(events: list[Event], at: int) -> list[Event]:
    """The same where nobody answered the step ``at``, so that its client went on under another number."""
    process = int(events[2 * at].process)
    lost = msgspec.structs.replace(events[2 * at + 1], type="info", error="timed out")
    after = [
        msgspec.structs.replace(event, process=process + CLIENTS) if event.process == process else event
        for event in events[2 * at + 2 :]
    ]
    return [*events[: 2 * at + 1], lost, *after]


LADDER = {
    "linearizable": history((0, "write", "x", 1), (1, "read", "x", 1)),
    "sequential": history((0, "write", "x", 1), (1, "read", "x", None)),
    # Store buffering: each has written, and misses what the other has written.
    "causal": history((0, "write", "x", 1), (1, "write", "y", 2), (0, "read", "y", None), (1, "read", "x", None)),
    # Message passing: who has seen the second write of a process misses the first.
    "read your writes": history(
        (0, "write", "x", 1), (0, "write", "y", 2), (1, "read", "y", 2), (1, "read", "x", None)
    ),
    "eventual": history((0, "write", "x", 1), (0, "read", "x", None)),
}  # fmt: skip


@pytest.mark.parametrize("model", LADDER)
def test_each_rung_is_refuted_by_its_litmus_test_and_the_next_is_not(model: str) -> None:
    found = strongest(LADDER[model], CLIENTS, convergent=True)
    assert (found.model, found.unknown) == (model, "")
    assert found.why_not_stronger.startswith("not ") == (model != "linearizable")


def test_nodes_that_never_agree_keep_nothing() -> None:
    assert strongest(LADDER["eventual"], CLIENTS, convergent=False).model == "none"


@pytest.mark.parametrize(("read_itself", "model"), [(True, "causal"), (False, "linearizable")])
def test_a_write_without_an_answer_is_before_what_its_client_does_once_it_was_read(
    read_itself: bool, model: str
) -> None:
    own = [(0, "read", "x", 1), (1, "read", "y", 2)] if read_itself else []
    steps = [(0, "write", "x", 1), (1, "write", "y", 2), *own, (0, "read", "y", None), (1, "read", "x", None)]
    # Somebody has seen both writes in the end.
    steps += [(0, "read", "x", 1), (0, "read", "y", 2)]
    events = given_up(given_up(history(*steps), 0), 1)
    assert strongest(events, CLIENTS, convergent=True).model == model


# Whose the runs are


def test_nothing_but_an_earlier_run_of_a_mode_is_replaced(tmp_path: Path) -> None:
    raft, gossip = (next(mode for mode in MODES if mode.name == name) for name in ("raft", "gossip"))
    earlier = RunDirectory(tmp_path / cap.RUNS / "raft")
    kept = cap.experiment_of(raft, plan(0, THREE, FULL), 0, FULL)
    earlier.write_experiment(msgspec.structs.replace(kept, target=BESIDE))
    cap.refuse_what_is_not_ours(tmp_path)
    diary = tmp_path / cap.RUNS / "gossip/diary.txt"
    diary.parent.mkdir()
    diary.write_text("mine")
    for _ in range(2):
        with pytest.raises(UsageError, match="gossip is no run of this experiment"):
            next(cap.rows(0, tmp_path, [raft, gossip], REDUCED))
        # Nor is the run of another mode, or what a link leads to.
        RunDirectory(diary.parent).write_experiment(earlier.load_experiment())
    assert diary.read_text() == "mine"
    assert sorted(path.name for path in earlier.path.iterdir()) == ["experiment.json", "timetable.json"]
    linked = tmp_path / "linked" / cap.RUNS
    linked.mkdir(parents=True)
    (linked / "raft").symlink_to(earlier.path)
    with pytest.raises(UsageError, match="raft is no run"):
        cap.refuse_what_is_not_ours(tmp_path / "linked", [raft])
