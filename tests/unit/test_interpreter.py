"""The interpreter on virtual time, with a client in memory: what becomes of each way an operation can end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from harness.environments.simulation.loop import SimulatedLoop
from harness.errors import FaultError, NothingToDo, SplitbrainError
from harness.generator import (
    Generator,
    Stagger,
    Stream,
    any_of,
    at_times,
    each_process,
    limit,
    on_clients,
    on_nemesis,
    operations,
    repeat,
    sleep,
    synchronize,
    then,
    until_ok,
)
from harness.interpreter import Interpreter, Worker
from harness.operation import NEMESIS, Event, Failed, Indeterminate, Operation, Served, ServedBy
from harness.recording import Recorder
from tests.loops import simulated_loop

READ, WRITE = Operation("read", "k"), Operation("write", "k", 1)


class Memory:
    """A client whose operations end as it is told, after ``seconds``."""

    def __init__(self, outcome: Any = "answer", *, seconds: float = 0.0, refuses: int = 0) -> None:
        self.outcome = outcome
        self.seconds = seconds
        self.refuses = refuses
        self.opened = 0
        self.closed = 0

    async def open(self) -> None:
        self.opened += 1
        if self.opened <= self.refuses:
            raise ConnectionRefusedError("nobody listens")

    async def invoke(self, operation: Operation) -> Any:
        await asyncio.sleep(self.seconds)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    async def close(self) -> None:
        self.closed += 1


async def _nothing(operation: Operation) -> None:
    """A nemesis that is never asked."""


Fault = Callable[[Operation], Coroutine[Any, Any, Any]]


def _interpreter(
    loop: SimulatedLoop,
    folder: Path,
    *clients: Memory,
    nemesis: Fault = _nothing,
    timeout: float = 1.0,
    **more: Any,
) -> tuple[Interpreter, list[Event]]:
    """One for these clients, and the events that it records."""
    recorder = Recorder(folder / "history.jsonl")
    workers = [Worker(number, f"n{number + 1}", client) for number, client in enumerate(clients)]
    reads = frozenset({"read"})
    made = Interpreter(recorder, loop.nanoseconds, workers, reads=reads, timeout=timeout, nemesis=nemesis, **more)
    return made, recorder.events


Drive = Callable[..., list[Event]]


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    """Run a generator, on clients where there is no nemesis, and give the events that were recorded."""

    def run(
        generator: Generator,
        *clients: Memory,
        nemesis: Fault = _nothing,
        stop_at: float | None = None,
    ) -> list[Event]:
        loop = simulated_loop()
        interpreter, events = _interpreter(loop, tmp_path, *clients, nemesis=nemesis)

        async def main() -> None:
            if stop_at is not None:
                loop.call_later(stop_at, interpreter.stop)
            await interpreter.run(generator if nemesis is not _nothing else on_clients(generator))
            await interpreter.close()

        loop.run_to_end(main())
        return events

    return run


def completion(events: list[Event]) -> tuple[str, str | None]:
    """How the only operation ended."""
    invoked, completed = events
    assert (invoked.type, invoked.process) == ("invoke", completed.process)
    return completed.type, completed.error


@pytest.mark.parametrize(
    ("operation", "client", "expected"),
    [
        (READ, Memory("v"), ("ok", None)),
        (WRITE, Memory(Failed("no primary")), ("fail", "no primary")),
        (WRITE, Memory(Indeterminate("the node is gone")), ("info", "the node is gone")),
        (WRITE, Memory(seconds=9), ("info", "timed out")),
        (WRITE, Memory(OSError("reset")), ("info", "OSError: reset")),
        (READ, Memory(Indeterminate("the node is gone")), ("fail", "the node is gone")),
        (READ, Memory(seconds=9), ("fail", "timed out")),
        (READ, Memory(OSError("reset")), ("fail", "OSError: reset")),
        (WRITE, Memory(asyncio.CancelledError()), ("info", "CancelledError")),
        (WRITE, Memory(refuses=1), ("fail", "ConnectionRefusedError: nobody listens")),
        (READ, Memory(refuses=1), ("fail", "ConnectionRefusedError: nobody listens")),
    ],
)
def test_how_an_operation_can_end(
    drive: Drive, operation: Operation, client: Memory, expected: tuple[str, str | None]
) -> None:
    assert completion(drive(operations([operation]), client)) == expected


def test_what_a_client_answers_is_the_completions_value(drive: Drive) -> None:
    invoked, completed = drive(operations([READ]), Memory(7))
    assert (invoked.value, completed.value, completed.node) == (None, 7, "n1")


def test_a_process_whose_operation_has_no_known_outcome_is_never_heard_of_again(drive: Drive) -> None:
    events = drive(operations([WRITE] * 3), Memory(Indeterminate("lost")), Memory(Indeterminate("lost")))
    assert [event.process for event in events if event.type == "invoke"] == [0, 1, 2]
    by_worker = {event.process: event.node for event in events}
    assert by_worker == {0: "n1", 1: "n2", 2: "n1"}


def test_a_process_goes_on_after_a_failure(drive: Drive) -> None:
    assert {event.process for event in drive(operations([WRITE] * 3), Memory(Failed("no")))} == {0}


def test_after_an_error_and_only_then_a_client_is_opened_again(drive: Drive) -> None:
    for outcome, opened in ((Failed("no"), 1), ("v", 1), (Indeterminate("lost"), 3), (OSError(), 3)):
        client = Memory(outcome)
        drive(operations([WRITE] * 3), client)
        assert (client.opened, client.closed >= 1) == (opened, True), outcome


def test_a_dead_node_is_not_hammered(drive: Drive) -> None:
    client = Memory(refuses=10**6)
    drive(repeat(WRITE), client, stop_at=2.05)
    assert client.opened == 21  # ten times a second


def test_an_operation_that_waits_for_a_process_starts_when_one_gets_free_not_later(drive: Drive) -> None:
    """What nobody had to wait for before changes nothing in that."""
    spaced = at_times([(1.0, WRITE), (1.2, WRITE)])
    begun = [event.time / 1e9 for event in drive(spaced, Memory(seconds=0.5)) if event.type == "invoke"]
    assert begun == pytest.approx([1.0, 1.5], abs=1e-6)


def test_completions_before_what_is_due_later_disturb_nobody(drive: Drive) -> None:
    asked: list[float] = []

    class Watched:
        def __init__(self, inner: Generator) -> None:
            self.inner = inner

        def next(self, context: Any) -> Any:
            asked.append(context.time / 1e9)
            found = self.inner.next(context)
            return found and (found[0], Watched(found[1]))

        def update(self, event: Event) -> Generator:
            return self

    events = drive(Watched(at_times([(0.0, WRITE), (0.0, WRITE), (1.0, WRITE)])), *[Memory(seconds=0.25)] * 3)
    assert len(events) == 6
    assert not [moment for moment in asked if 0.1 < moment < 0.9], "a completion had it asked in between"


def test_a_crowd_that_fell_behind_catches_up_by_no_more_than_a_second(drive: Drive) -> None:
    class Stalls(Memory):
        async def invoke(self, operation: Operation) -> Any:
            await asyncio.sleep(0.99 if asyncio.get_running_loop().time() < 10 else 0.0)

    class Even:
        def uniform(self, least: float, most: float) -> float:
            return (least + most) / 2

    spaced = Stagger(1e8, limit(200, repeat(WRITE)), Even())  # type: ignore[arg-type]
    begun = [event.time / 1e9 for event in drive(spaced, Stalls()) if event.type == "invoke"]
    at_once = max(sum(moment <= other < moment + 0.05 for other in begun) for moment in begun)
    # A hundred were due in ten seconds and ten were done: of the others the last second's are made up for.
    assert 10 <= at_once <= 12


def test_the_run_ends_when_it_is_stopped_and_open_operations_complete(drive: Drive) -> None:
    events = drive(repeat(WRITE), Memory(seconds=0.4), stop_at=1.0)
    assert [event.type for event in events] == ["invoke", "ok"] * 3
    assert events[-1].time / 1e9 == pytest.approx(1.2, abs=1e-3)


def _fault(f: str) -> Operation:
    return Operation(f, None, {})


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ({"said": "cut"}, ("ok", None)),
        (NothingToDo("nobody is primary"), ("fail", "nobody is primary")),
        (FaultError("the tool broke"), ("info", "FaultError: the tool broke")),
        (ValueError("odd"), ("info", "ValueError: odd")),
        (asyncio.CancelledError(), ("info", "CancelledError")),
    ],
)
def test_how_a_fault_can_end(drive: Drive, outcome: Any, expected: tuple[str, str | None]) -> None:
    async def nemesis(operation: Operation) -> Any:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    both = any_of(on_nemesis(operations([_fault("start-partition")])), on_clients(operations([WRITE])))
    events = [one for one in drive(both, Memory(seconds=0.5), nemesis=nemesis) if one.process == NEMESIS]
    assert [event.type for event in events] == ["invoke", expected[0]]
    assert events[1].error == expected[1]


def test_faults_wait_for_nobody_and_nobody_for_them(drive: Drive) -> None:
    async def nemesis(operation: Operation) -> Any:
        await asyncio.sleep({"start-slow": 5.0}.get(operation.f, 0.1))

    faults = on_nemesis(at_times([(0.0, _fault("start-slow")), (0.5, _fault("start-quick"))]))
    clients = on_clients(at_times([(1.0, WRITE)]))
    events = drive(any_of(faults, clients), Memory(), nemesis=nemesis)
    ended = {event.f: event.time / 1e9 for event in events if event.type != "invoke"}
    assert ended["start-quick"] == pytest.approx(0.6, abs=1e-6)
    assert ended["write"] == pytest.approx(1.0, abs=1e-6)
    (slow,) = (event for event in events if event.f == "start-slow" and event.type != "invoke")
    assert (slow.type, slow.error) == ("info", "the run was ended")


class Deaf(Memory):
    """A client that does not let itself be cancelled."""

    async def invoke(self, operation: Operation) -> Any:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue


def test_who_was_stopped_goes_on_with_the_next_generator_and_stops_at_once(tmp_path: Path) -> None:
    loop = simulated_loop()
    interpreter, events = _interpreter(loop, tmp_path, Memory("v"))

    async def main() -> None:
        loop.call_later(1.0, interpreter.stop)
        await interpreter.run(on_clients(at_times([(600.0, READ)])))
        assert loop.time() < 1.1
        await interpreter.run(on_clients(operations([READ])))

    loop.run_to_end(main())
    assert [event.type for event in events] == ["invoke", "ok"]


def test_a_client_that_does_not_come_back_is_given_up_and_named(tmp_path: Path) -> None:
    loop, stuck = simulated_loop(), list[str]()
    interpreter, events = _interpreter(loop, tmp_path, Deaf(), Memory("v"), stuck=stuck.append)

    async def main() -> None:
        await interpreter.run(on_clients(operations([WRITE, WRITE])))
        await interpreter.run(on_clients(operations([READ] * 4)))

    loop.run_to_end(main())
    ends = {(event.process, event.type, event.error) for event in events if event.type != "invoke"}
    assert any((process, kind) == (0, "info") and "did not come back" in str(why) for process, kind, why in ends)
    assert [event.process for event in events if event.f == "read"] == [1] * 8
    assert len(stuck) == 1
    assert stuck[0].startswith("Deaf.invoke")
    assert "does not let itself be cancelled" in stuck[0]


@pytest.mark.parametrize(("deaf", "outcome"), [(2, "late"), (2, OSError("late")), (1, "never")])
def test_who_was_given_up_is_heard_no_more_and_waited_for_no_more(tmp_path: Path, deaf: int, outcome: Any) -> None:
    """It is given up when its operation and its disconnection have had their time, and is cancelled once more."""

    class Slow(Memory):
        async def invoke(self, operation: Operation) -> Any:
            for _ in range(deaf):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)
            return await super().invoke(operation)

    loop, stuck, slow = simulated_loop(), list[str](), Slow(outcome, seconds=3600.0 if outcome == "never" else 1.0)
    interpreter, events = _interpreter(loop, tmp_path, slow, Memory("v"), stuck=stuck.append, timeout=2.0)

    async def main() -> None:
        await interpreter.run(on_clients(operations([WRITE])))
        loop.call_later(60.0, interpreter.stop)
        await interpreter.run(synchronize(on_clients(at_times([(20.0, READ)]))))
        assert loop.time() < 30

    loop.run_to_end(main())
    (lost,) = (event for event in events if event.process == 0 and event.type != "invoke")
    assert (lost.type, round(lost.time / 1e9, 3)) == ("info", 2 * 2.0 + 5.0)
    assert [event.f for event in events if event.process == 1] == ["read", "read"]
    assert len(stuck) == 1
    assert slow.closed == 1
    assert not [task for task in asyncio.all_tasks(loop) if not task.done()]


@pytest.mark.parametrize(("deaf", "seconds", "refuses"), [(2, 1.0, 0), (2, 1.0, 1), (1, 3600.0, 0)])
def test_who_was_given_up_before_it_was_open_is_asked_for_nothing_and_closed(
    tmp_path: Path, deaf: int, seconds: float, refuses: int
) -> None:
    class Slow(Memory):
        invoked = False

        async def open(self) -> None:
            for _ in range(deaf):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)
            await asyncio.sleep(seconds)
            await super().open()

        async def invoke(self, operation: Operation) -> Any:
            self.invoked = True

    loop, stuck, slow = simulated_loop(), list[str](), Slow(refuses=refuses)
    interpreter, events = _interpreter(loop, tmp_path, slow, Memory("v"), stuck=stuck.append)

    async def main() -> None:
        await interpreter.run(on_clients(operations([WRITE])))
        await interpreter.run(synchronize(on_clients(at_times([(20.0, READ)]))))

    loop.run_to_end(main())
    assert [event.type for event in events if event.process == 0] == ["invoke", "info"]
    assert (slow.invoked, slow.closed, len(stuck)) == (False, 1, 1)


def test_a_connection_may_be_closed_by_what_looks_like_a_cancellation(drive: Drive) -> None:
    class Odd(Memory):
        async def close(self) -> None:
            raise asyncio.CancelledError

    events = drive(operations([READ, READ]), Odd(OSError("reset")), stop_at=5.0)
    assert [event.type for event in events] == ["invoke", "fail"] * 2


def test_a_connection_that_does_not_let_itself_be_closed_is_left_behind_and_named(tmp_path: Path) -> None:
    class Open(Memory):
        async def close(self) -> None:
            await Deaf().invoke(WRITE)

    loop, stuck, other = simulated_loop(), list[str](), Memory()
    interpreter, _ = _interpreter(loop, tmp_path, Open(), other, stuck=stuck.append)
    loop.run_to_end(interpreter.close())
    (said,) = stuck
    assert "Open.close" in said
    assert "does not come back" in said
    assert (other.closed, round(loop.time(), 3)) == (1, 2 * 1.0 + 5.0)


def test_also_a_run_that_is_stopped_gives_up_who_does_not_come_back(tmp_path: Path) -> None:
    loop, stuck = simulated_loop(), list[str]()
    interpreter, events = _interpreter(loop, tmp_path, Deaf(), stuck=stuck.append)

    async def main() -> None:
        loop.call_later(0.5, interpreter.stop)
        await interpreter.run(on_clients(operations([WRITE])))

    loop.run_to_end(main())
    kind, why = completion(events)
    assert kind == "info"
    assert "did not come back" in str(why)
    assert len(stuck) == 1


def test_a_client_that_does_not_open_is_named_by_that(tmp_path: Path) -> None:
    class Closed(Memory):
        async def open(self) -> None:
            await Deaf().invoke(WRITE)

    loop, stuck = simulated_loop(), list[str]()
    interpreter, _ = _interpreter(loop, tmp_path, Closed(), stuck=stuck.append)
    loop.run_to_end(interpreter.run(on_clients(operations([WRITE]))))
    (said,) = stuck
    assert "Closed.open" in said


def test_a_run_that_is_cancelled_ends_when_its_clients_have_ended(tmp_path: Path) -> None:
    class Slow(Memory):
        async def invoke(self, operation: Operation) -> Any:
            try:
                await asyncio.sleep(0.5)
            except asyncio.CancelledError:
                await asyncio.sleep(0.2)
                raise

    loop = simulated_loop()
    interpreter, events = _interpreter(loop, tmp_path, Slow())

    async def main() -> None:
        running = asyncio.ensure_future(interpreter.run(on_clients(operations([WRITE]))))
        loop.call_later(0.1, running.cancel)
        await asyncio.gather(running, return_exceptions=True)
        assert completion(events) == ("info", "the run was ended")

    loop.run_to_end(main())


def test_closing_waits_a_moment_for_faults_that_are_ended(tmp_path: Path) -> None:
    async def nemesis(operation: Operation) -> None:
        try:
            await asyncio.sleep(5.0)
        finally:
            await asyncio.sleep(0.05)

    loop = simulated_loop()
    interpreter, events = _interpreter(loop, tmp_path, nemesis=nemesis)

    async def main() -> None:
        await interpreter.run(on_nemesis(operations([_fault("start-kill")])))
        await asyncio.sleep(1.0)
        await interpreter.close()
        assert completion(events) == ("info", "the run was ended")

    loop.run_to_end(main())


def test_what_completes_is_told_to_the_generator_which_may_end_by_it_or_go_on_at_once(drive: Drive) -> None:
    assert len(drive(until_ok(repeat(WRITE)), Memory(seconds=0.1), stop_at=2.0)) == 2
    waiting = then(until_ok(at_times([(0.0, WRITE), (10.0, WRITE)])), operations([READ]))
    begun = drive(waiting, Memory(seconds=0.25), Memory(), stop_at=20.0)
    assert [
        (event.f, round(event.time / 1e9, 3)) for event in begun if event.type == "invoke" and event.f == "read"
    ] == [("read", 0.25)]


def test_a_generator_that_waits_goes_on_when_it_has_waited(drive: Drive) -> None:
    events = drive(then(sleep(1.0), operations([WRITE])), Memory(), stop_at=5.0)
    assert [event.time / 1e9 for event in events if event.type == "invoke"] == pytest.approx([1.0], abs=1e-6)


def test_what_is_exhausted_is_asked_again_once_what_is_open_has_completed(drive: Drive) -> None:
    """A process that comes in place of one whose outcome is unknown may have something to do."""
    each = limit(3, each_process(lambda: operations([WRITE])))
    events = drive(each, Memory(Indeterminate("lost"), seconds=0.1))
    assert [event.process for event in events if event.type == "invoke"] == [0, 1, 2]


def test_who_comes_in_place_of_a_process_waits_for_no_other(drive: Drive) -> None:
    due = iter([0.0, 9.0, 1.0, 99.0])
    each = limit(3, each_process(lambda: at_times([(next(due), WRITE)])))
    events = drive(each, Memory(Indeterminate("lost"), seconds=0.1), Memory())
    begun = [(event.process, round(event.time / 1e9, 3)) for event in events if event.type == "invoke"]
    assert begun == [(0, 0.0), (2, 1.0), (1, 9.0)]


def test_what_breaks_a_run_breaks_it_at_once(tmp_path: Path) -> None:
    loop = simulated_loop()
    interpreter, _ = _interpreter(loop, tmp_path, Memory("text"), Memory(), answers={"read": (int,)})
    with pytest.raises(SplitbrainError, match="it takes another type"):
        loop.run_to_end(interpreter.run(on_clients(at_times([(0.0, READ), (50.0, READ)]))))
    assert loop.time() < 1


def test_an_answer_that_its_workload_chokes_on_names_the_client(tmp_path: Path) -> None:
    def choke(event: Event) -> None:
        if event.type == "ok":
            raise ValueError("no number")

    loop = simulated_loop()
    interpreter, _ = _interpreter(loop, tmp_path, Memory("text"))
    with pytest.raises(SplitbrainError, match=r"Memory\.invoke.*'text'.*ValueError: no number"):
        loop.run_to_end(interpreter.run(on_clients(limit(1, Stream(lambda: READ, choke)))))


def test_a_term_may_be_nought(drive: Drive) -> None:
    _, completed = drive(operations([READ]), Memory(Served(5, by="n1", term=0)))
    assert (completed.value, completed.served_by) == (5, ServedBy("n1", 0))


def test_what_is_open_when_a_run_is_cancelled_has_an_unknown_outcome(tmp_path: Path) -> None:
    loop = simulated_loop()
    interpreter, events = _interpreter(loop, tmp_path, Memory(seconds=0.5))

    async def main() -> None:
        running = asyncio.ensure_future(interpreter.run(on_clients(operations([WRITE]))))
        loop.call_later(0.1, running.cancel)
        await asyncio.gather(running, return_exceptions=True)

    loop.run_to_end(main())
    assert completion(events) == ("info", "the run was ended")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("text", "it takes another type"),
        (Served(5, by="n1", term=-1), "`term` a number or None"),
        (Served(5, by="n1", term=True), "`term` a number or None"),
        (Served(5, by="n1", term=1 << 62), "`term` a number or None"),
        (Served(5, by=None), "`by` is the name of a node"),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_nobody_can_use_names_its_client(tmp_path: Path, answer: Any, said: str) -> None:
    loop = simulated_loop()
    interpreter, _ = _interpreter(loop, tmp_path, Memory(answer), answers={"read": (int,)})
    with pytest.raises(SplitbrainError, match=r"Memory\.invoke") as raised:
        loop.run_to_end(interpreter.run(on_clients(operations([READ]))))
    assert said in str(raised.value)
