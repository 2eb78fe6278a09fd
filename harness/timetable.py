"""An explicit timetable: which fault when, and if wanted which operation when, in place of what the seed would draw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import msgspec

from harness.errors import UsageError, field
from harness.generator import Generator, at_times, on_workers
from harness.nemesis import LASTS, Nemesis
from harness.operation import Operation
from harness.options import Number, Seconds, check, plain

Moment = Annotated[float, Seconds(0, 7 * 86400)]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault of the nemesis ``name`` from ``start`` to ``stop``, in seconds since the run began."""

    name: str
    start: Moment
    stop: Moment
    plan: dict[str, Any] = {}


class Planned(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An operation of a worker, not before ``at`` seconds since the run began."""

    at: Moment
    worker: Annotated[int, Number(0, 999)]
    f: str
    key: Any = None
    value: Any = None


class Timetable(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Faults, and operations where these are not the workload's; ``final`` ones follow once all faults are healed."""

    faults: tuple[Fault, ...] = ()
    operations: tuple[Planned, ...] | None = None
    final: tuple[Planned, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The nemeses that it needs."""
        return tuple(sorted({fault.name for fault in self.faults}))

    def fault_operations(self) -> Iterator[tuple[float, Operation]]:
        """The starts and stops in order; a start says for how long it is meant."""
        # Not at the top: it brings NumPy along, which the command line can do without until it runs something.
        from harness.periods import START, STOP

        steps: list[tuple[float, Operation]] = []
        for fault in self.faults:
            plan = {**fault.plan, LASTS: round(fault.stop - fault.start, 6)}
            steps += [
                (fault.start, Operation(START + fault.name, value=plan)),
                (fault.stop, Operation(STOP + fault.name)),
            ]
        return iter(sorted(steps, key=lambda step: step[0]))


def by_worker(planned: Sequence[Planned], workers: int) -> Generator:
    """Every worker does its own operations in order."""
    each: dict[int, list[tuple[float, Operation]]] = defaultdict(list)
    for step in sorted(planned, key=lambda step: step.at):
        each[step.worker].append((step.at, Operation(step.f, step.key, step.value)))
    return on_workers(workers, {worker: at_times(steps) for worker, steps in each.items()})


def read_timetable(path: Path) -> Timetable:
    """A timetable from a JSON file, or from ``PACKAGE:FILE``, one that an installed package brings along.

    Raises ``UsageError``.
    """
    try:
        data = path.read_bytes() if path.exists() else _brought_along(str(path))
        return msgspec.json.decode(data, type=Timetable)
    except OSError as error:
        raise UsageError(f"the timetable {path} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} is not a timetable: {error}") from None
    except RecursionError:
        raise UsageError(f"{path} is not a timetable: it is nested too deeply") from None


def _brought_along(name: str) -> bytes:
    package, colon, file = name.partition(":")
    if not colon or not all(word.isidentifier() for word in package.split(".")):
        raise UsageError(f"there is no timetable {name}")
    try:
        return files(package).joinpath(file).read_bytes()
    except ImportError:
        raise UsageError(f"there is no package {package} to take the timetable {file} from") from None


def refuse_misplanned(
    timetable: Timetable,
    nemeses: Mapping[str, Nemesis],
    nodes: Sequence[str],
    seconds: float,
    workers: int,
    functions: Collection[str] | None = None,
) -> None:
    """Raise ``UsageError`` for what a run of so many seconds and workers on these nodes could not do as it is said.

    ``functions`` are those that clients have, if that is known.
    """
    ends: dict[str, float] = {}
    after, concurrency = field("time", plain(seconds)), field("concurrency")
    for fault in sorted(timetable.faults, key=lambda fault: fault.start):
        label = f"the timetable's fault {fault.name} at {plain(fault.start)} s:"
        check(_after(label), fault)
        if fault.stop < fault.start:
            raise UsageError(f"{label} it stops before it starts, at {plain(fault.stop)} s")
        if fault.start < ends.get(fault.name, 0.0):
            raise UsageError(f"{label} one of the same nemesis lasts until {plain(ends[fault.name])} s")
        ends[fault.name] = fault.stop
        if fault.start >= seconds:
            raise UsageError(f"{label} by then the run is over, after {after}")
        _refuse_plan(label, fault.plan, nemeses[fault.name].Fields, nodes)
    for step in (*(timetable.operations or ()), *timetable.final):
        label = f"the timetable's operation {step.f} at {plain(step.at)} s:"
        check(_after(label), step)
        if functions is not None and step.f not in functions:
            raise UsageError(f"{label} the workload has no such function, only {', '.join(sorted(functions))}")
        if step.worker >= workers:
            raise UsageError(f"{label} there is no worker {step.worker}, they are 0 to {workers - 1} ({concurrency})")
    for step in timetable.operations or ():
        if step.at >= seconds:
            raise UsageError(
                f"the timetable's operation {step.f} at {plain(step.at)} s: by then the run is over, after {after}"
            )


def _after(label: str) -> Callable[[str], str]:
    """How a message calls a field of what ``label`` is about."""
    return lambda name: f"{label} {name}"


def _refuse_plan(
    label: str, plan: Mapping[str, Any], fields: type[msgspec.Struct] | None, nodes: Sequence[str]
) -> None:
    """Raise ``UsageError`` for a plan that is not made of these fields, or holds what they do not admit."""
    if fields is None:
        return
    try:
        made = msgspec.convert({name: value for name, value in plan.items() if name != LASTS}, fields)
    except msgspec.ValidationError as error:
        raise UsageError(f"{label} its plan is wrong: {str(error).replace('`$.', '`')}") from None
    check(_after(label), made, nodes)
