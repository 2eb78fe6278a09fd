"""The orders that get furthest, where none explains everything."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkers.linearizability import Linearizable
from harness.checkers.linearizability.model import Model
from harness.checkers.linearizability.orders import furthest_orders
from harness.checkers.linearizability.partitions import partitions
from harness.checkers.linearizability.register_models import CasRegister
from harness.history import from_events
from harness.operation import Event
from harness.verdict import Anomaly, Budget, Order
from tests.histories import Op, brute_force, history


def orders(operations: Sequence[Op], model: Model | None = None) -> list[Order]:
    given = history(operations).operations()
    (part,) = partitions(model or CasRegister(), given, range(len(given)))
    return furthest_orders(model or CasRegister(), part.operations, lambda row: row)


def anomaly_of(operations: Sequence[Op], model: str = "cas-register") -> Anomaly:
    anomaly, *_ = Linearizable(model).check(history(operations), Budget()).anomalies
    return anomaly


STALE = [Op("write", 1, 0, 1), Op("write", 2, 2, 3), Op("read", 2, 4, 5), Op("read", 1, 6, 7)]


def test_each_step_says_what_the_register_holds_and_where_it_ends() -> None:
    (order,) = orders(STALE)
    assert (order.began, order.held) == ("nothing", "2")
    assert [(step.did, step.held) for step in order.steps] == [
        ("write(1)", "1"),
        ("write(2)", "2"),
        ("read() → 2", "2"),
    ]
    assert [step.did for step in order.stuck] == ["read() → 1"]


def test_what_overlaps_leads_to_several_orders() -> None:
    furthest = orders([Op("write", 1, 0, 10), Op("write", 2, 0, 10), Op("read", 1, 11, 12), Op("read", 2, 13, 14)])
    assert [[step.did for step in order.steps] for order in furthest] == [["write(2)", "write(1)", "read() → 1"]]
    furthest = orders([Op("write", 1, 0, 10), Op("write", 2, 0, 10), Op("read", 3, 11, 12)])
    assert {order.held for order in furthest} <= {"1", "2"}
    assert all([step.did for step in order.stuck] == ["read() → 3"] for order in furthest)


def test_what_never_completed_need_not_have_happened() -> None:
    (order,) = orders([Op("write", 1, 0, 1), Op("write", 5, 2, None), Op("read", 7, 4, 5)])
    assert [step.did for step in order.steps] == ["write(1)"]


def test_there_is_none_where_everything_is_explained_or_there_is_too_much() -> None:
    assert orders(STALE[:3]) == []
    assert (
        orders([Op("write", number, 2 * number, 2 * number + 1) for number in range(100)] + [Op("read", -1, 900, 901)])
        == []
    )


def test_a_model_that_fails_has_no_orders() -> None:
    class Fails(CasRegister):
        def step(self, state: object, call: object) -> list[object]:
            raise ValueError

    assert orders(STALE, Fails()) == []


def test_long_orders_are_told_by_their_ends() -> None:
    long = [Op("write", number, 2 * number, 2 * number + 1) for number in range(40)]
    (order,) = orders([*long, Op("read", 3, 100, 101)])
    assert (order.skipped, len(order.steps), order.began) == (10, 30, "9")


OPS = st.lists(
    st.builds(
        lambda f, value, call, length: Op(f, [value, value + 1] if f == "cas" else value, call, call + length),
        st.sampled_from(["read", "write", "cas"]),
        st.integers(1, 3),
        st.integers(0, 20),
        st.integers(1, 8),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150)
@given(OPS)
def test_orders_are_found_just_where_none_explains_everything(operations: list[Op]) -> None:
    """And each is a legal one: every step leads to what is said to be held, and respects what was over before."""
    furthest = orders(operations)
    possible = brute_force([op._replace(value=list(op.value) if op.f == "cas" else op.value) for op in operations])
    assert bool(furthest) is not possible
    for order in furthest:
        rows = [step.index for step in order.steps]
        assert len(set(rows)) == len(rows)
        assert order.stuck
    assert len(furthest) <= 4


def test_the_checker_tells_them_of_registers_with_what_they_build_on() -> None:
    anomaly = anomaly_of(STALE)
    (order,) = anomaly.orders
    assert [step.held for step in order.steps] == ["1", "2", "2"]
    indices = {op.index for op in anomaly.operations}
    assert {step.index for step in [*order.steps, *order.stuck]} >= indices
    assert anomaly.possible == [2]
    # The writer of what is read first is no witness, and the order needs it all the same.
    hidden = [Op("write", 1, 0, 1), Op("read", 1, 2, 3), Op("cas", [1, 2], 4, 5), Op("cas", [1, 3], 6, 7)]
    assert anomaly_of(hidden).orders[0].steps[0].did == "write(1)"


def test_the_checker_tells_them_of_what_was_searched_for() -> None:
    events = []
    for process, (f, value, answer) in enumerate([("enqueue", 1, None), ("enqueue", 2, None), ("dequeue", None, 2)]):
        events.append(Event(0, 10 * process, process, "invoke", f, "q", value))
        events.append(Event(0, 10 * process + 5, process, "ok", f, "q", value if answer is None else answer))
    (anomaly,) = Linearizable("fifo-queue").check(from_events(events), Budget()).anomalies
    (order,) = anomaly.orders
    assert len(order.steps) == 2
    assert "2" in order.stuck[0].did


def test_what_a_read_can_have_found() -> None:
    assert anomaly_of([*STALE[:3], Op("write", 3, 5, 20), Op("read", 1, 6, 7)]).possible == [2, 3]
    assert anomaly_of([*STALE[:2], Op("write", 4, 2, 3), Op("read", 2, 4, 5), Op("read", 1, 6, 7)]).possible == [2, 4]
