"""The options of an experiment, declared once: ``run`` and ``hunt`` take them from here."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer

from harness.experiment import Experiment
from harness.options import Number, Option, options_of, read


def _quantity(flag: str, option: Option) -> Any:
    """An option whose value is a number, with or without a unit, and is held against its range."""

    def parse(given: Any) -> Any:
        return read(flag, option, given) if isinstance(given, str) else given

    metavar = "INTEGER" if option.kind is int else "NUMBER"
    return typer.Option(flag, help=f"{option.what} {option.allowed()}.", parser=parse, metavar=metavar)


def of_experiment(name: str) -> Any:
    """The option of a field of the experiment."""
    return _quantity(f"--{name}", options_of(Experiment)[name])


def number(flag: str, kind: type, limit: Number, what: str) -> Any:
    """An option of a command's own whose value is a number within a limit."""
    return _quantity(flag, Option(flag.removeprefix("--"), kind, limit=limit, what=what))


TargetArgument = Annotated[str, typer.Argument(help="The store: a name of `list targets`, or FILE.py:Class.")]
TargetOption = Annotated[
    str, typer.Option("--target", help="The same, as an option: NAME or FILE.py:Class.", metavar="TARGET")
]
OnOption = Annotated[str, typer.Option("--on", help="Where: local, docker, ssh, simulation, or auto: docker or local.")]
ImageOption = Annotated[str | None, typer.Option(help="A vendor's image for the store's servers (docker).")]
NodesOption = Annotated[int, of_experiment("nodes")]
WorkloadOption = Annotated[
    str, typer.Option(help="What clients do: see `list workloads`; `run` also takes all: one after the other.")
]
NemesisOption = Annotated[
    str, typer.Option(help="What goes wrong: names of `list nemeses` with commas, or chaos: all that are possible.")
]
TimeOption = Annotated[float, of_experiment("time")]
RateOption = Annotated[float, of_experiment("rate")]
ConcurrencyOption = Annotated[int, of_experiment("concurrency")]
TimeoutOption = Annotated[float, of_experiment("timeout")]
IntervalOption = Annotated[float, of_experiment("interval")]
RecoveryOption = Annotated[float, of_experiment("recovery")]
OverlapOption = Annotated[
    bool, typer.Option("--overlap", help="Several faults at once, as chaos does; else one after the other.")
]
TimetableOption = Annotated[
    Path | None,
    typer.Option(
        help="A JSON file of faults, and operations, with their times, as `shrink` writes it; or PACKAGE:FILE, "
        "one that an installed package brings along."
    ),
]
ZonesOption = Annotated[
    str, typer.Option(help="The zone of each node, with commas (a,a,b); or how many zones the nodes are spread over.")
]
BugOption = Annotated[str, typer.Option(help="Planted bugs, names of `list bugs`; short for -o bug=.")]
OptionOption = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--option",
        help="NAME=VALUE of the target, workload or a nemesis, which `list` shows, with units as in 100ms, 10%, 64MiB; "
        "repeatable.",
    ),
]
CheckerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--checker",
        help="Who judges beside the workload's checkers: names of `list checkers`, or FILE.py:Class; "
        "with commas, or repeated.",
    ),
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Load the code that a run or a timetable of others names: FILE.py, merge=.")
]

UNSAID: Final = Experiment("")
"""What an experiment is where nothing is said of it."""


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions:
    """What a command line says of an experiment: a field for each argument and option."""

    target: TargetArgument = ""
    target_option: TargetOption = ""
    on: OnOption = "auto"  # here a person reads what that came to; a program has `local`
    image: ImageOption = UNSAID.image
    nodes: NodesOption = UNSAID.nodes
    workload: WorkloadOption = UNSAID.workload
    nemesis: NemesisOption = ""
    time: TimeOption = UNSAID.time
    rate: RateOption = UNSAID.rate
    concurrency: ConcurrencyOption = UNSAID.concurrency
    timeout: TimeoutOption = UNSAID.timeout
    interval: IntervalOption = UNSAID.interval
    recovery: RecoveryOption = UNSAID.recovery
    overlap: OverlapOption = UNSAID.overlap
    timetable: TimetableOption = None
    zones: ZonesOption = UNSAID.zones
    bug: BugOption = ""
    checker: CheckerOption = None
    option: OptionOption = None
    trust: TrustOption = False

    def experiment(self, seed: int = UNSAID.seed) -> Experiment:
        """The experiment that is meant. Raises ``UsageError``."""
        from harness.errors import UsageError
        from harness.plugins import parse_options
        from harness.timetable import read_timetable
        from harness.trust import code_of_timetable, refuse_code

        if bool(self.target) == bool(self.target_option):
            raise UsageError("name one target: `splitbrain run TARGET`; `splitbrain list targets` shows what there is")
        nemeses = listed("--nemesis", [self.nemesis]) if self.nemesis else ()
        options = parse_options(self.option or [])
        explicit = None if self.timetable is None else read_timetable(self.timetable)
        code = tuple(name for name in code_of_timetable(explicit) if name not in nemeses)
        refuse_code(f"the timetable {self.timetable}", code, trust=self.trust)
        if self.bug and "bug" in options:
            raise UsageError("--bug and -o bug are the same: give one of them")
        return Experiment(
            target=self.target or self.target_option,
            workload=self.workload,
            nemeses=(*nemeses, *code),
            environment=self.on,
            image=self.image,
            nodes=self.nodes,
            time=self.time,
            rate=self.rate,
            concurrency=self.concurrency,
            timeout=self.timeout,
            interval=self.interval,
            recovery=self.recovery,
            seed=seed,
            overlap=self.overlap or "chaos" in nemeses,
            timetable=explicit,
            zones=self.zones,
            checkers=listed("--checker", self.checker),
            options=options | ({"bug": self.bug} if self.bug else {}),
        )


@dataclass(frozen=True, kw_only=True)
class HuntOptions(ExperimentOptions):
    """The same for a hunt, which has other defaults."""

    on: OnOption = "simulation"
    nodes: NodesOption = 5
    nemesis: NemesisOption = "chaos"
    time: TimeOption = 20.0
    rate: RateOption = 100.0


def takes(options: type[ExperimentOptions]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose first parameter is a struct of options, as one whose parameters are the struct's fields."""
    declared = get_type_hints(options, include_extras=True)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = get_type_hints(command, include_extras=True)
        _, *rest = inspect.signature(command).parameters.values()
        fields = [(field.name, declared[field.name], field.default) for field in dataclasses.fields(options)]
        fields += [(parameter.name, own[parameter.name], parameter.default) for parameter in rest]

        def taking(**given: Any) -> None:
            values = {field.name: given.pop(field.name) for field in dataclasses.fields(options)}
            command(options(**values), **given)

        taking.__doc__ = command.__doc__
        taking.__name__ = command.__name__
        taking.__annotations__ = {name: kind for name, kind, _ in fields}
        taking.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=d, annotation=k) for name, k, d in fields]
        )
        return taking

    return decorate


def listed(flag: str, given: list[str] | None, *, doubles: bool = True) -> tuple[str, ...]:
    """The names of an option that may be repeated, and may have several with commas, each once.

    Without ``doubles`` one that is given twice is refused.
    """
    from harness.errors import UsageError

    names = [name.strip() for text in given or [] for name in text.split(",")]
    if not all(names):
        raise UsageError(f"{flag} has an empty name: write names with single commas between them, as a,b")
    if not doubles and (again := next((name for name in names if names.count(name) > 1), None)):
        raise UsageError(f"{flag} has {again!r} twice: give each once")
    return tuple(dict.fromkeys(names))
