from __future__ import annotations

import random
from itertools import count

from harness import generator as g
from harness.generator import Context, Generator, Pending, Process, Step
from harness.operation import NEMESIS, Event, Operation

MS = 1_000_000


def drive(
    generator: Generator, *, processes: int = 2, latency: int = 10 * MS, outcome: str = "ok", most: int = 1000
) -> list[Step]:
    """Run a generator on virtual time, each operation taking ``latency`` ns; what was invoked, and when."""
    everyone: list[Process] = [*range(processes), NEMESIS]
    busy: dict[Process, tuple[int, Operation]] = {}
    now, steps = 0, list[Step]()
    while len(steps) < most:
        found = generator.next(Context(now, everyone, [p for p in everyone if p not in busy]))
        wake = [at for at, _ in busy.values()]
        if found is None:
            if not busy:
                break
        else:
            step, following = found
            if isinstance(step, Pending):
                generator = following
                wake += [step.until] if step.until is not None else []
            elif step.time <= now:
                generator = following
                steps.append(Step(now, step.process, step.operation))
                busy[step.process] = (now + latency, step.operation)
                generator = generator.update(Event(0, now, step.process, "invoke", step.operation.f))
                continue
            else:
                wake.append(step.time)
        now = min(wake)
        for process, (at, operation) in list(busy.items()):
            if at <= now:
                del busy[process]
                generator = generator.update(Event(0, now, process, outcome, operation.f))  # type: ignore[arg-type]
    return steps


def stream(f: str = "read") -> Generator:
    return g.Stream(lambda: Operation(f))


def numbers(f: str) -> Generator:
    numbering = count()
    return g.Stream(lambda: Operation(f, value=next(numbering)))


def names(steps: list[Step]) -> str:
    return "".join(step.operation.f for step in steps)


def test_limit_and_time_limit() -> None:
    assert len(drive(g.limit(5, stream()))) == 5
    steps = drive(g.on_clients(g.time_limit(0.1, stream())))
    assert len(steps) == 20
    assert max(step.time for step in steps) < 100 * MS


def test_stagger_spaces_operations_on_average() -> None:
    steps = drive(g.on_clients(g.limit(500, g.stagger(0.02, stream(), random.Random(1)))), processes=8)
    assert 0.018 < steps[-1].time / 1e9 / 500 < 0.022


def test_then_goes_on_at_once_and_phases_wait() -> None:
    a, b = g.limit(1, stream("a")), g.limit(1, stream("b"))
    assert [step.time for step in drive(g.on_clients(g.then(a, b)))] == [0, 0]
    assert [step.time for step in drive(g.on_clients(g.phases(a, b)))] == [0, 10 * MS]


def test_mix_uses_every_member_and_drops_an_exhausted_one() -> None:
    steps = drive(g.mix(random.Random(1), g.limit(5, stream("a")), g.limit(40, stream("b"))))
    assert names(steps).count("a") == 5
    assert names(steps).count("b") == 40
    assert "ab" in names(steps)
    assert "ba" in names(steps)


def test_flip_flop_alternates() -> None:
    assert names(drive(g.limit(6, g.flip_flop(stream("a"), stream("b"))))) == "ababab"
    assert names(drive(g.flip_flop(g.limit(2, stream("a")), stream("b")))) == "abab"


def test_each_process_gets_its_own_copy() -> None:
    steps = drive(g.on_clients(g.each_process(lambda: g.operations([Operation("a"), Operation("b")]))), processes=3)
    for process in range(3):
        assert names([step for step in steps if step.process == process]) == "ab"


def test_reserve_keeps_workers_apart() -> None:
    steps = drive(g.on_clients(g.time_limit(0.1, g.reserve(1, stream("a"), stream("b")))), processes=3)
    assert {step.process for step in steps if step.operation.f == "a"} == {0}
    assert {step.process for step in steps if step.operation.f == "b"} == {1, 2}


def test_until_ok_repeats_until_one_succeeds() -> None:
    assert len(drive(g.until_ok(stream()), processes=1, outcome="ok")) <= 2
    assert len(drive(g.until_ok(g.limit(7, stream())), processes=1, outcome="fail")) == 7


def test_sleep_delays_what_follows() -> None:
    assert [s.time for s in drive(g.then(g.sleep(0.5), g.limit(1, stream())))] == [500 * MS]
    assert [s.time for s in drive(g.then(g.sleep(60.0), g.limit(1, stream())))] == [60_000 * MS]


def test_clients_and_nemesis_run_side_by_side() -> None:
    faults = g.on_nemesis(g.then(g.sleep(0.05), g.limit(1, stream("f"))))
    steps = drive(g.time_limit(0.1, g.any_of(g.on_clients(stream("c")), faults)))
    assert {step.process for step in steps if step.operation.f == "c"} == {0, 1}
    assert [(step.process, step.time) for step in steps if step.operation.f == "f"] == [(NEMESIS, 50 * MS)]


def test_synchronize_waits_for_everyone() -> None:
    first = g.limit(2, stream("a"))
    steps = drive(g.on_clients(g.then(first, g.synchronize(g.limit(1, stream("b"))))))
    assert [(s.operation.f, s.time) for s in steps] == [("a", 0), ("a", 0), ("b", 10 * MS)]


def test_operations_that_were_only_looked_at_are_not_lost() -> None:
    both = g.any_of(g.on_clients(numbers("c")), g.on_nemesis(numbers("n")))
    steps = drive(g.time_limit(0.2, both))
    for f in "cn":
        seen = [step.operation.value for step in steps if step.operation.f == f]
        assert seen == list(range(len(seen)))


def test_the_same_seed_gives_the_same_operations_whatever_the_latency() -> None:
    def make() -> Generator:
        rng = random.Random(7)
        draw = g.Stream(lambda: Operation("w", value=rng.random()))
        return g.on_clients(g.limit(50, g.stagger(0.005, draw, random.Random(8))))

    fast = [step.operation.value for step in drive(make(), latency=1 * MS)]
    slow = [step.operation.value for step in drive(make(), latency=90 * MS)]
    assert fast == slow


def test_operations_have_their_times_or_wait_for_a_process() -> None:
    entries = [(0.05, Operation("a")), (0.051, Operation("b")), (0.2, Operation("c"))]
    steps = drive(g.on_clients(g.at_times(entries)), processes=1)
    assert [(step.operation.f, step.time // MS) for step in steps] == [("a", 50), ("b", 60), ("c", 200)]


def test_one_worker_alone_does_what_is_its_own() -> None:
    steps = drive(g.on_clients(g.on_workers(3, {1: g.limit(5, stream())})), processes=6)
    assert [step.process for step in steps] == [1, 4, 1, 4, 1]


def test_clients_and_the_nemesis_hear_of_their_own_operations_only() -> None:
    heard: dict[str, set[Process]] = {"clients": set(), "nemesis": set()}

    def listens(who: str) -> Generator:
        return g.limit(4, g.Stream(lambda: Operation(who), lambda event: heard[who].add(event.process)))

    drive(g.any_of(g.on_clients(listens("clients")), g.on_nemesis(listens("nemesis"))))
    assert heard == {"clients": {0, 1}, "nemesis": {NEMESIS}}


def test_of_two_at_the_same_time_the_first_goes_first_and_of_none_there_is_none() -> None:
    both = [g.at_times([(0.01, Operation(f))]) for f in "ab"]
    assert names(drive(g.any_of(*both), processes=1)) == "ab"
    assert g.any_of(g.limit(0, stream()), g.limit(0, stream())).next(Context(0, [0], [0])) is None


def test_who_has_something_to_do_and_no_process_for_it_waits_and_says_so() -> None:
    for waits in (
        stream(),
        g.operations([Operation("a")]),
        g.at_times([(0.0, Operation("a"))]),
        g.each_process(lambda: g.limit(2, stream())),
        g.any_of(stream(), stream()),
        g.synchronize(stream()),
    ):
        hungry: list[bool] = []
        found = waits.next(Context(0, [0], [], hungry))
        assert found is not None
        assert isinstance(found[0], Pending)
        assert hungry


OK_EVENT = Event(0, 0, 0, "ok", "a")


def wrappers(inner: Generator) -> dict[str, Generator]:
    """Everything that stands around another generator and changes only with it."""
    return {
        "limit": g.limit(9, inner),
        "time_limit": g.time_limit(9, inner),
        "stagger": g.stagger(0.0, inner, random.Random(1)),
        "synchronize": g.synchronize(inner),
        "on_workers": g.on_workers(1, {0: inner}),
        "on_clients": g.on_clients(inner),
        "any_of": g.any_of(inner),
        "then": g.then(inner),
    }


def test_an_event_that_changes_nothing_leaves_the_same_generator() -> None:
    """By that the interpreter knows that it need not ask again."""
    for name, whole in wrappers(stream()).items():
        assert whole.update(OK_EVENT) is whole, name
    assert g.then().update(OK_EVENT) == g.then()


def test_what_an_event_changes_is_passed_on_by_everything_around_it() -> None:
    for name, whole in wrappers(g.until_ok(stream())).items():
        steps = drive(g.on_clients(g.limit(20, whole)), processes=1)
        assert len(steps) == 1, name


def test_what_follows_is_still_there_after_an_event() -> None:
    a, b = (g.limit(2, stream(f)) for f in "ab")
    assert names(drive(g.on_clients(g.then(g.until_ok(a), b)), processes=1)) == "abb"


def test_until_ok_hears_only_of_operations_of_its_own() -> None:
    answer = g.until_ok(stream()).next(Context(0, [0, 1], [0]))
    assert answer is not None
    _, waiting = answer
    context = Context(0, [0, 1], [1])
    assert waiting.update(Event(0, 0, 1, "ok", "a")).next(context) is not None
    assert waiting.update(Event(0, 0, 0, "invoke", "a")).next(context) is not None
    assert waiting.update(Event(0, 0, 0, "ok", "a")).next(context) is None


def test_a_stream_ends_with_what_is_drawn_from_and_repeat_never() -> None:
    drawn = iter([Operation("a"), Operation("b")])
    assert names(drive(g.Stream(lambda: next(drawn, None)))) == "ab"
    assert names(drive(g.limit(3, g.repeat(Operation("a"))))) == "aaa"


def test_phases_come_one_after_the_other() -> None:
    steps = drive(g.on_clients(g.phases(*(g.limit(2, stream(f)) for f in "abc"))))
    assert [(step.operation.f, step.time // MS) for step in steps] == [
        ("a", 0), ("a", 0), ("b", 10), ("b", 10), ("c", 20), ("c", 20),
    ]  # fmt: skip


def test_a_time_limit_waits_with_what_is_inside_and_no_longer_than_it_lasts() -> None:
    late = g.then(g.sleep(0.05), g.limit(1, stream()))
    assert [step.time // MS for step in drive(g.on_clients(g.time_limit(0.1, late)))] == [50]
    context = Context(0, [0], [0])
    for inner in (g.sleep(9.0), g.at_times([(0.1, Operation("a"))]), g.at_times([(9.0, Operation("a"))])):
        answer = g.time_limit(0.1, inner).next(context)
        assert answer is not None
        assert answer[0] == Pending(100 * MS)
        assert answer[1].next(Context(100 * MS, [0], [0])) is None


def test_stagger_waits_with_what_is_inside() -> None:
    late = g.then(g.sleep(0.05), g.limit(1, stream()))
    assert [step.time // MS for step in drive(g.on_clients(g.stagger(0.0, late, random.Random(1))))] == [50]


def test_one_of_several_that_run_side_by_side_may_change_alone() -> None:
    answer = g.any_of(g.until_ok(stream("a")), g.at_times([(9.0, Operation("b"))])).next(Context(0, [0], [0]))
    assert answer is not None
    step, both = answer
    assert isinstance(step, Step)
    assert step.operation.f == "a"
    answer = both.update(OK_EVENT).next(Context(0, [0], [0]))
    assert answer is not None
    step, _ = answer
    assert isinstance(step, Step)
    assert (step.operation.f, step.time) == ("b", 9 * g.SECOND)


def test_the_copy_of_each_process_hears_of_its_own_operations() -> None:
    steps = drive(g.on_clients(g.each_process(lambda: g.until_ok(stream()))), most=50)
    assert [step.process for step in steps] == [0, 1]


def test_of_several_that_wait_the_soonest_counts() -> None:
    def soon(f: str, seconds: float) -> Generator:
        return g.then(g.sleep(seconds), g.limit(1, stream(f)))

    for order in ("ab", "ba"):
        both = [soon(f, {"a": 0.02, "b": 0.05}[f]) for f in order]
        assert [(s.operation.f, s.time // MS) for s in drive(g.any_of(*both))] == [("a", 20), ("b", 50)]
    planned = g.at_times([(0.05, Operation("b"))])
    assert [(s.operation.f, s.time // MS) for s in drive(g.any_of(planned, soon("a", 0.02)))] == [("a", 20), ("b", 50)]
    starved = Context(0, [0], [])
    answer = g.any_of(stream(), g.sleep(0.02)).next(starved)
    assert answer is not None
    assert answer[0] == Pending(20 * MS)


def test_a_process_keeps_its_copy_while_it_waits() -> None:
    made: list[int] = []

    def make() -> Generator:
        made.append(len(made))
        return g.limit(2, stream())

    waiting = g.each_process(make)
    for _ in range(3):
        answer = waiting.next(Context(0, [0, 1], []))
        assert answer is not None
        waiting = answer[1]
    assert made == [0, 1]
    assert len(drive(g.on_clients(waiting))) == 4
    assert made == [0, 1]


def test_what_the_copy_of_a_process_waits_for_is_waited_for() -> None:
    once = g.limit(1, stream())
    for waits in (
        lambda: g.then(g.sleep(0.5), once),
        lambda: g.then(g.time_limit(0.5, g.sleep(9.0)), once),
        lambda: g.time_limit(0.6, g.then(g.sleep(0.5), once, g.sleep(9.0))),
    ):
        steps = drive(g.on_clients(g.each_process(waits)))
        assert [(step.process, step.time // MS) for step in steps] == [(0, 500), (1, 500)]


def test_of_the_copies_of_processes_the_soonest_goes_first() -> None:
    due = iter([9.0, 1.0, 5.0])
    steps = drive(g.on_clients(g.each_process(lambda: g.at_times([(next(due), Operation("a"))]))), processes=3)
    assert [(step.process, step.time // g.SECOND) for step in steps] == [(1, 1), (2, 5), (0, 9)]


def test_a_process_keeps_its_copy_when_what_it_would_do_is_not_done_yet() -> None:
    rng = random.Random(5)
    each = g.each_process(lambda: g.at_times([(rng.uniform(1.0, 9.0), Operation("a"))]))
    answers = [each.next(Context(at * MS, [0, 1], [0, 1])) for at in range(3)]
    steps = [answer[0] for answer in answers if answer is not None]
    assert len(steps) == 3
    assert steps == steps[:1] * 3


def test_one_worker_is_all_that_its_generator_sees_and_the_nemesis_is_no_worker() -> None:
    once = g.on_workers(3, {1: g.each_process(lambda: g.limit(1, stream()))})
    assert [step.process for step in drive(once, processes=3)] == [1]
    pair = g.reserve(
        1, g.each_process(lambda: g.limit(1, stream("a"))), g.each_process(lambda: g.limit(1, stream("b")))
    )
    assert {(s.process, s.operation.f) for s in drive(g.on_clients(pair), processes=3)} == {
        (0, "a"),
        (1, "b"),
        (2, "b"),
    }
