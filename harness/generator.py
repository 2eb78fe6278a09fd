"""Generators decide what happens next: from the seed, the time and what has completed so far.

A generator is an immutable value. ``next(context)`` answers with a step and the generator that follows once the
step was taken, so a step that was only looked at can be dropped again; ``update`` tells it of an event. The shape
follows Jepsen's pure generators (Kingsbury, "jepsen.generator", 2020). No generator touches a clock: time is what
the context says, in nanoseconds since the run began.

Randomness comes from a ``random.Random`` that each leaf owns. What a leaf drew is kept until it is used, so the
sequence of draws depends on the seed alone, not on how often it was looked at.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import is_not
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from harness.operation import NEMESIS, Event, Operation

SECOND: Final = 1_000_000_000

Process = int | str


class Context(Struct, frozen=True):
    """What a generator may look at: the time, all processes and those of them that are free."""

    time: int
    processes: Sequence[Process]
    free: Sequence[Process]
    hungry: list[bool] = []
    """Not empty once a generator had something to do and no process to do it: ask again when one gets free."""

    def only(self, wanted: Callable[[Process], bool]) -> Context:
        """The same moment, seen by a generator that has only some of the processes."""
        processes = [p for p in self.processes if wanted(p)]
        return Context(self.time, processes, [p for p in self.free if wanted(p)], self.hungry)

    def starve(self) -> Pending:
        """There is something to do, and nobody free to do it."""
        self.hungry.append(True)
        return Pending()


class Step(Struct, frozen=True):
    """Process ``process`` is to invoke ``operation`` at ``time`` (ns), or as soon after it as it can."""

    time: int
    process: Process
    operation: Operation


class Pending(Struct, frozen=True):
    """Nothing to do now: ask again at ``until`` (ns), or after the next completion if that comes first."""

    until: int | None = None


class Generator(Protocol):
    """``next`` returns None when the generator is exhausted."""

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None: ...

    def update(self, event: Event) -> Generator: ...


W = TypeVar("W", bound="Wrapper")


class Wrapper(Protocol):
    """A generator around another one; most events change neither, and then both stay as they are."""

    @property
    def inner(self) -> Generator: ...


def _with_inner(wrapper: W, inner: Generator) -> W:
    return wrapper if inner is wrapper.inner else replace(wrapper, inner=inner)  # type: ignore[type-var]


class _Leaf(Struct, frozen=True):
    """A generator that completions do not change."""

    def update(self, event: Event) -> Any:
        return self


class Stream(_Leaf, frozen=True):
    """Operations from a function that draws one at a time, for ever or until it returns None."""

    draw: Callable[[], Operation | None]
    on_event: Callable[[Event], None] | None = None
    _drawn: list[Operation | None] = msgspec.field(default_factory=list)

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        if not context.free:
            return context.starve(), self
        if not self._drawn:
            self._drawn.append(self.draw())
        operation = self._drawn[0]
        if operation is None:
            return None
        return Step(context.time, context.free[0], operation), Stream(self.draw, self.on_event)

    def update(self, event: Event) -> Generator:
        if self.on_event is not None:
            self.on_event(event)
        return self


def repeat(operation: Operation) -> Generator:
    """The same operation again and again."""
    return Stream(lambda: operation)


class Sequential(_Leaf, frozen=True):
    """These operations, one after the other, each on whichever process is free."""

    operations: tuple[Operation, ...]

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        if not self.operations:
            return None
        if not context.free:
            return context.starve(), self
        return Step(context.time, context.free[0], self.operations[0]), Sequential(self.operations[1:])


def operations(items: Iterable[Operation]) -> Generator:
    """Exactly these operations, in order."""
    return Sequential(tuple(items))


class Sleep(_Leaf, frozen=True):
    """No operation for ``seconds``, counted from when it is first asked."""

    seconds: float
    until: int | None = None

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        until = context.time + int(self.seconds * SECOND) if self.until is None else self.until
        if context.time >= until:
            return None
        return Pending(until), Sleep(self.seconds, until)


def sleep(seconds: float) -> Generator:
    """Do nothing for this long."""
    return Sleep(seconds)


class AtTimes(_Leaf, frozen=True):
    """Operations with the times (seconds since the run began) before which they may not be invoked."""

    entries: Iterator[tuple[float, Operation]]
    _drawn: list[tuple[float, Operation] | None] = msgspec.field(default_factory=list)

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        if not self._drawn:
            self._drawn.append(next(self.entries, None))
        entry = self._drawn[0]
        if entry is None:
            return None
        if not context.free:
            return context.starve(), self
        when, operation = entry
        return Step(max(int(when * SECOND), context.time), context.free[0], operation), AtTimes(self.entries)


def at_times(entries: Iterable[tuple[float, Operation]]) -> Generator:
    """Each operation at its time, in seconds since the run began, or as soon afterwards as a process is free."""
    return AtTimes(iter(entries))


class Limit(Struct, frozen=True):
    """At most ``remaining`` operations of ``inner``."""

    remaining: int
    inner: Generator

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        if self.remaining <= 0 or (answer := self.inner.next(context)) is None:
            return None
        step, inner = answer
        return step, Limit(self.remaining - isinstance(step, Step), inner)

    def update(self, event: Event) -> Generator:
        return _with_inner(self, self.inner.update(event))


def limit(count: int, inner: Generator) -> Generator:
    """The first ``count`` operations of ``inner``."""
    return Limit(count, inner)


class TimeLimit(Struct, frozen=True):
    """``inner`` until ``seconds`` have gone by since it was first asked."""

    seconds: float
    inner: Generator
    until: int | None = None

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        until = context.time + int(self.seconds * SECOND) if self.until is None else self.until
        if context.time >= until or (answer := self.inner.next(context)) is None:
            return None
        step, inner = answer
        following = TimeLimit(self.seconds, inner, until)
        if isinstance(step, Step):
            return (step, following) if step.time < until else (Pending(until), replace(self, until=until))
        return Pending(until if step.until is None else min(until, step.until)), following

    def update(self, event: Event) -> Generator:
        return _with_inner(self, self.inner.update(event))


def time_limit(seconds: float, inner: Generator) -> Generator:
    """Stop ``inner`` after this long."""
    return TimeLimit(seconds, inner)


class Stagger(Struct, frozen=True):
    """Operations of ``inner`` at random intervals that are ``interval`` (ns) on average, the whole crowd together."""

    interval: float
    inner: Generator
    rng: random.Random
    previous: int | None = None
    _gap: list[int] = msgspec.field(default_factory=list)

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        if (answer := self.inner.next(context)) is None:
            return None
        step, inner = answer
        if isinstance(step, Pending):
            return step, replace(self, inner=inner)
        due = step.time
        if self.previous is not None:
            if not self._gap:
                self._gap.append(int(self.rng.uniform(0, 2 * self.interval)))
            # A crowd that fell behind catches up, but never by more than a second's worth.
            due = max(self.previous + self._gap[0], step.time - SECOND)
        at = Step(max(step.time, due), step.process, step.operation)
        return at, Stagger(self.interval, inner, self.rng, due)

    def update(self, event: Event) -> Generator:
        return _with_inner(self, self.inner.update(event))


def stagger(seconds: float, inner: Generator, rng: random.Random) -> Generator:
    """Space the operations of ``inner`` by ``seconds`` on average."""
    return Stagger(seconds * SECOND, inner, rng)


class Mix(Struct, frozen=True):
    """A random one of the generators for each operation; an exhausted one drops out."""

    members: tuple[Generator, ...]
    rng: random.Random
    _chosen: list[int] = msgspec.field(default_factory=list)

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        if not self.members:
            return None
        if not self._chosen:
            self._chosen.append(self.rng.randrange(len(self.members)))
        at = self._chosen[0]
        answer = self.members[at].next(context)
        if answer is None:
            return Mix(self.members[:at] + self.members[at + 1 :], self.rng).next(context)
        step, inner = answer
        members = (*self.members[:at], inner, *self.members[at + 1 :])
        return step, Mix(members, self.rng, self._chosen if isinstance(step, Pending) else [])

    def update(self, event: Event) -> Generator:
        return Mix(tuple(m.update(event) for m in self.members), self.rng, self._chosen)


def mix(rng: random.Random, *members: Generator) -> Generator:
    """Interleave the generators at random."""
    return Mix(members, rng)


def _soonest(
    asked: Iterable[tuple[Generator, Context]],
) -> tuple[Step | Pending, tuple[Generator, ...]] | None:
    """The soonest operation of several generators, each asked in its own context, and what follows them all."""
    best: tuple[int, Step, Generator] | None = None
    wake: int | None = None
    members: list[Generator] = []
    alive = False
    for at, (member, context) in enumerate(asked):
        members.append(member)
        if (answer := member.next(context)) is None:
            continue
        alive = True
        step, following = answer
        if isinstance(step, Pending):
            members[at] = following
            if step.until is not None:
                wake = step.until if wake is None else min(wake, step.until)
        elif best is None or step.time < best[1].time:
            best = (at, step, following)
    if not alive:
        return None
    if best is None or (wake is not None and wake < best[1].time):
        return Pending(wake), tuple(members)
    at, step, members[at] = best
    return step, tuple(members)


class AnyOf(Struct, frozen=True):
    """Whichever of the generators has the soonest operation."""

    members: tuple[Generator, ...]

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        answer = _soonest((member, context) for member in self.members)
        return None if answer is None else (answer[0], AnyOf(answer[1]))

    def update(self, event: Event) -> Generator:
        members = tuple(member.update(event) for member in self.members)
        return AnyOf(members) if any(map(is_not, members, self.members)) else self


def any_of(*members: Generator) -> Generator:
    """Run the generators side by side."""
    return AnyOf(members)


class Chain(Struct, frozen=True):
    """The first of the generators until it is exhausted, then the next one, and so on."""

    members: tuple[Generator, ...]

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        for at, member in enumerate(self.members):
            if (answer := member.next(context)) is not None:
                step, following = answer
                return step, Chain((following, *self.members[at + 1 :]))
        return None

    def update(self, event: Event) -> Generator:
        if not self.members:
            return self
        first = self.members[0].update(event)
        return self if first is self.members[0] else Chain((first, *self.members[1:]))


def then(*members: Generator) -> Generator:
    """One generator after another, without waiting for operations that are still open."""
    return Chain(members)


class Synchronize(Struct, frozen=True):
    """Wait until every process is free, then become ``inner``."""

    inner: Generator

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        if len(context.free) < len(context.processes):
            return context.starve(), self
        return self.inner.next(context)

    def update(self, event: Event) -> Generator:
        return _with_inner(self, self.inner.update(event))


def synchronize(inner: Generator) -> Generator:
    """``inner``, once no operation is open."""
    return Synchronize(inner)


def phases(*members: Generator) -> Generator:
    """One generator after another, each starting only when no operation of those before it is open."""
    result = synchronize(members[-1])
    for member in reversed(members[:-1]):
        result = synchronize(Chain((member, result)))
    return result


class EachProcess(Struct, frozen=True):
    """A generator of its own for every process; of several that have something to do the soonest goes first."""

    make: Callable[[], Generator]
    members: dict[Process, Generator] = {}
    """What was made is kept, also when what it had to do was only looked at."""

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        for process in context.processes:
            if process not in self.members:
                self.members[process] = self.make()
        free = set(context.free)
        answer = _soonest(
            (self.members[p], replace(context, processes=[p], free=[p] if p in free else [])) for p in context.processes
        )
        if answer is None:
            return None
        step, members = answer
        return step, EachProcess(self.make, self.members | dict(zip(context.processes, members, strict=True)))

    def update(self, event: Event) -> Generator:
        if event.process not in self.members:
            return self
        # Another one even if its member stays as it is: who comes in place of this process may have something to do.
        member = self.members[event.process].update(event)
        return EachProcess(self.make, self.members | {event.process: member})


def each_process(make: Callable[[], Generator]) -> Generator:
    """Give every process its own copy of a generator."""
    return EachProcess(make)


class Reserve(Struct, frozen=True):
    """The first ``count`` workers for ``first``, the others for ``rest``."""

    count: int
    first: Generator
    rest: Generator

    def _split(self, context: Context) -> tuple[Context, Context]:
        reserved = set(
            sorted(context.processes, key=lambda p: (_worker(p, len(context.processes)), str(p)))[: self.count]
        )
        return context.only(lambda p: p in reserved), context.only(lambda p: p not in reserved)

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        reserved, others = self._split(context)
        answer = _soonest([(self.first, reserved), (self.rest, others)])
        return None if answer is None else (answer[0], Reserve(self.count, *answer[1]))

    def update(self, event: Event) -> Generator:
        return replace(self, first=self.first.update(event), rest=self.rest.update(event))


def _worker(process: Process, workers: int) -> int:
    """The worker behind a process id: ids of retired processes go on in steps of the number of workers."""
    return process % workers if isinstance(process, int) and workers else -1


def reserve(count: int, first: Generator, rest: Generator) -> Generator:
    """Keep ``count`` workers for ``first``; all others do ``rest``."""
    return Reserve(count, first, rest)


class FlipFlop(Struct, frozen=True):
    """An operation of one, then an operation of the other, until one is exhausted."""

    now: Generator
    after: Generator

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        if (answer := self.now.next(context)) is None:
            return None
        step, inner = answer
        return step, FlipFlop(self.after, inner) if isinstance(step, Step) else FlipFlop(inner, self.after)

    def update(self, event: Event) -> Generator:
        return FlipFlop(self.now.update(event), self.after.update(event))


def flip_flop(first: Generator, second: Generator) -> Generator:
    """Alternate between two generators."""
    return FlipFlop(first, second)


class OnWorkers(Struct, frozen=True):
    """Each of ``members`` sees only its worker, one of ``workers`` logical threads, under any process id."""

    workers: int
    members: tuple[tuple[int, Generator], ...]

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        processes, free = self._by_worker(context.processes), self._by_worker(context.free)
        answer = _soonest(
            (member, replace(context, processes=processes.get(worker, []), free=free.get(worker, [])))
            for worker, member in self.members
        )
        return None if answer is None else (answer[0], self._with(answer[1]))

    def update(self, event: Event) -> Generator:
        members = [member.update(event) for _, member in self.members]
        changed = any(after is not before for after, (_, before) in zip(members, self.members, strict=True))
        return self._with(members) if changed else self

    def _by_worker(self, processes: Sequence[Process]) -> dict[int, list[Process]]:
        found: dict[int, list[Process]] = {}
        for process in processes:
            found.setdefault(_worker(process, self.workers), []).append(process)
        return found

    def _with(self, members: Sequence[Generator]) -> Generator:
        workers = (worker for worker, _ in self.members)
        return OnWorkers(self.workers, tuple(zip(workers, members, strict=True)))


def on_workers(workers: int, members: Mapping[int, Generator]) -> Generator:
    """Some workers, of so many, each do their own operations; of several that have any the soonest goes first."""
    return OnWorkers(workers, tuple(sorted(members.items(), key=lambda item: item[0])))


class UntilOk(Struct, frozen=True):
    """Operations of ``inner`` until one of them completes ``ok``."""

    inner: Generator
    mine: frozenset[Process] = frozenset()
    done: bool = False

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        if self.done or (answer := self.inner.next(context)) is None:
            return None
        step, inner = answer
        mine = self.mine | {step.process} if isinstance(step, Step) else self.mine
        return step, UntilOk(inner, mine)

    def update(self, event: Event) -> Generator:
        ours = event.process in self.mine and event.type != "invoke"
        mine = self.mine - {event.process} if ours else self.mine
        return UntilOk(self.inner.update(event), mine, self.done or (ours and event.type == "ok"))


def until_ok(inner: Generator) -> Generator:
    """Repeat until it works once."""
    return UntilOk(inner)


class On(Struct, frozen=True):
    """``inner``, which sees only the clients, or only the nemesis."""

    nemesis: bool
    inner: Generator

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        if self.nemesis:
            narrowed = Context(context.time, [NEMESIS], [NEMESIS] if NEMESIS in context.free else [], context.hungry)
        else:
            clients = [process for process in context.processes if process != NEMESIS]
            free = [process for process in context.free if process != NEMESIS]
            narrowed = Context(context.time, clients, free, context.hungry)
        answer = self.inner.next(narrowed)
        return None if answer is None else (answer[0], On(self.nemesis, answer[1]))

    def update(self, event: Event) -> Generator:
        if (event.process == NEMESIS) != self.nemesis:
            return self
        return _with_inner(self, self.inner.update(event))


def on_clients(inner: Generator) -> Generator:
    """Only clients do the operations of ``inner``."""
    return On(False, inner)


def on_nemesis(inner: Generator) -> Generator:
    """Only the nemesis does the operations of ``inner``."""
    return On(True, inner)
