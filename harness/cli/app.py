"""All commands and their options."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

import harness
from harness.cli.wording import Commands
from harness.experiment import Experiment
from harness.options import Mebibytes, Number, Option, Seconds, options_of, read

app = typer.Typer(
    name="splitbrain",
    cls=Commands,
    help="Break a replicated store on purpose, and decide from the history whether it kept its promises.",
    epilog="Exit codes: 0 valid, 1 anomalies, 2 usage error, 3 unknown, 4 the harness or the environment failed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
images = typer.Typer(cls=Commands, help="The image that docker nodes run.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(images, name="images")


class Format(enum.StrEnum):
    """How to print."""

    text = "text"
    json = "json"


class Kind(enum.StrEnum):
    """What can be listed."""

    targets = "targets"
    workloads = "workloads"
    nemeses = "nemeses"
    checkers = "checkers"
    environments = "environments"
    models = "models"
    bugs = "bugs"


FormatOption = Annotated[Format, typer.Option("--format", help="Text for people, JSON for scripts.")]
# It works wherever it stands on the line, and is taken from there before any command sees it: see ``harness.cli``.
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"splitbrain {harness.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
    debug: DebugOption = False,
) -> None:
    """Options that stand before any command."""


def _quantity(flag: str, option: Option) -> Any:
    """An option whose value is a number, with or without a unit, and is held against its range."""

    def parse(given: Any) -> Any:
        return read(flag, option, given) if isinstance(given, str) else given

    metavar = "INTEGER" if option.kind is int else "NUMBER"
    return typer.Option(flag, help=f"{option.what} {option.allowed()}.", parser=parse, metavar=metavar)


def _of_experiment(name: str) -> Any:
    return _quantity(f"--{name}", options_of(Experiment)[name])


def _number(flag: str, kind: type, limit: Number, what: str) -> Any:
    return _quantity(flag, Option(flag.removeprefix("--"), kind, limit=limit, what=what))


TargetArgument = Annotated[str, typer.Argument(help="The store: a name of `list targets`, or FILE.py:Class.")]
TargetOption = Annotated[
    str, typer.Option("--target", help="The same, as an option: NAME or FILE.py:Class.", metavar="TARGET")
]
OnOption = Annotated[str, typer.Option("--on", help="Where: local, docker, ssh, simulation, or auto: docker or local.")]
ImageOption = Annotated[str | None, typer.Option(help="A vendor's image for the store's servers (docker).")]
NodesOption = Annotated[int, _of_experiment("nodes")]
WorkloadOption = Annotated[str, typer.Option(help="What clients do: see `list workloads`.")]
NemesisOption = Annotated[
    str, typer.Option(help="What goes wrong: names of `list nemeses` with commas, or chaos: all that are possible.")
]
TimeOption = Annotated[float, _of_experiment("time")]
RateOption = Annotated[float, _of_experiment("rate")]
ConcurrencyOption = Annotated[int, _of_experiment("concurrency")]
TimeoutOption = Annotated[float, _of_experiment("timeout")]
IntervalOption = Annotated[float, _of_experiment("interval")]
RecoveryOption = Annotated[float, _of_experiment("recovery")]
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
RunsOption = Annotated[Path, typer.Option(help="Where the run's directory is made.")]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Load the code that a run or a timetable of others names: FILE.py, merge=.")
]


@app.command()
def run(
    target: TargetArgument = "",
    target_option: TargetOption = "",
    on: OnOption = "auto",
    image: ImageOption = None,
    nodes: NodesOption = 3,
    workload: WorkloadOption = "register",
    nemesis: NemesisOption = "",
    time: TimeOption = 30.0,
    rate: RateOption = 200.0,
    concurrency: ConcurrencyOption = 10,
    timeout: TimeoutOption = 1.0,
    interval: IntervalOption = 5.0,
    recovery: RecoveryOption = 60.0,
    seed: Annotated[int, _of_experiment("seed")] = 0,
    overlap: OverlapOption = False,
    timetable: TimetableOption = None,
    zones: ZonesOption = "3",
    bug: BugOption = "",
    checker: CheckerOption = None,
    option: OptionOption = None,
    runs: RunsOption = Path("runs"),
    trust: TrustOption = False,
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Start a store, drive it, hurt it, and judge its history."""
    from harness.cli import run as command

    experiment = _experiment(
        target, target_option, on, image, nodes, workload, nemesis, time, rate, concurrency, timeout, interval,
        recovery, seed, overlap, timetable, zones, bug, checker, option, trust=trust,
    )  # fmt: skip
    raise typer.Exit(command.run(experiment, runs, as_json=output is Format.json))


@app.command()
def hunt(
    target: TargetArgument = "",
    target_option: TargetOption = "",
    seeds: Annotated[int, _number("--seeds", int, Number(1, 1_000_000), "How many seeds, from 0 on:")] = 100,
    on: OnOption = "simulation",
    image: ImageOption = None,
    nodes: NodesOption = 5,
    workload: WorkloadOption = "register",
    nemesis: NemesisOption = "chaos",
    time: TimeOption = 20.0,
    rate: RateOption = 100.0,
    concurrency: ConcurrencyOption = 10,
    timeout: TimeoutOption = 1.0,
    interval: IntervalOption = 5.0,
    recovery: RecoveryOption = 60.0,
    overlap: OverlapOption = False,
    timetable: TimetableOption = None,
    zones: ZonesOption = "3",
    bug: BugOption = "",
    checker: CheckerOption = None,
    option: OptionOption = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop at the first failure; else collect them all.")] = False,
    directory: Annotated[
        Path | None, typer.Option(help="Where results are kept; the same directory resumes a campaign.")
    ] = None,
    trust: TrustOption = False,
    executor: Annotated[
        str | None, typer.Option(help="Who runs the seeds: processes:N (all cores), or dask://HOST:PORT.")
    ] = None,
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Run an experiment under many seeds, and tell its failures apart by their anomalies.

    Its defaults are not those of `run`, but --on simulation, --nodes 5, --nemesis chaos, --time 20 and --rate 100.
    """
    from harness.cli import hunt as command

    experiment = _experiment(
        target, target_option, on, image, nodes, workload, nemesis, time, rate, concurrency, timeout, interval,
        recovery, 0, overlap, timetable, zones, bug, checker, option, trust=trust,
    )  # fmt: skip
    as_json = output is Format.json
    raise typer.Exit(command.hunt(experiment, seeds, directory, executor, stop=stop, as_json=as_json))


def _experiment(
    target: str,
    target_option: str,
    on: str,
    image: str | None,
    nodes: int,
    workload: str,
    nemesis: str,
    time: float,
    rate: float,
    concurrency: int,
    timeout: float,
    interval: float,
    recovery: float,
    seed: int,
    overlap: bool,
    timetable: Path | None,
    zones: str,
    bug: str,
    checker: list[str] | None,
    option: list[str] | None,
    *,
    trust: bool,
) -> Experiment:
    from harness.errors import UsageError
    from harness.plugins import parse_options
    from harness.timetable import read_timetable
    from harness.trust import code_of_timetable, refuse_code

    if bool(target) == bool(target_option):
        raise UsageError("name one target: `splitbrain run TARGET`; `splitbrain list targets` shows what there is")
    nemeses = _names("--nemesis", [nemesis]) if nemesis else ()
    options = parse_options(option or [])
    explicit = None if timetable is None else read_timetable(timetable)
    code = tuple(name for name in code_of_timetable(explicit) if name not in nemeses)
    refuse_code(f"the timetable {timetable}", code, trust=trust)
    if bug and "bug" in options:
        raise UsageError("--bug and -o bug are the same: give one of them")
    return Experiment(
        target=target or target_option,
        workload=workload,
        nemeses=(*nemeses, *code),
        environment=on,
        image=image,
        nodes=nodes,
        time=time,
        rate=rate,
        concurrency=concurrency,
        timeout=timeout,
        interval=interval,
        recovery=recovery,
        seed=seed,
        overlap=overlap or "chaos" in nemeses,
        timetable=explicit,
        zones=zones,
        checkers=_names("--checker", checker),
        options=options | ({"bug": bug} if bug else {}),
    )


def _names(flag: str, given: list[str] | None) -> tuple[str, ...]:
    """The names of an option that may be repeated, and may have several with commas, each once."""
    from harness.errors import UsageError

    names = [name.strip() for one in given or [] for name in one.split(",")]
    if not all(names):
        raise UsageError(f"{flag} has an empty name: write names with single commas between them, as a,b")
    return tuple(dict.fromkeys(names))


@app.command()
def shrink(
    run: Annotated[Path, typer.Argument(help="The directory of a simulated run that found an anomaly.")],
    seconds: Annotated[
        float,
        _number("--seconds", float, Seconds(0.1, 7 * 86400), "Stop trying after this long, with the smallest so far:"),
    ] = 300.0,
    runs: RunsOption = Path("runs"),
    trust: TrustOption = False,
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Reduce a failing simulated run to the few faults and operations that it takes, and print the one command."""
    from harness.cli import shrink as command

    raise typer.Exit(command.shrink(run, runs, seconds, trust=trust, as_json=output is Format.json))


@app.command()
def replay(
    run: Annotated[Path, typer.Argument(help="The directory of a run that was made with --on simulation.")],
    runs: Annotated[Path, typer.Option(help="Where the new run's directory is made.")] = Path("runs"),
    trust: TrustOption = False,
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Run a simulated run again: the same history, byte for byte."""
    from harness.cli import replay as command

    raise typer.Exit(command.replay(run, runs, trust=trust, as_json=output is Format.json))


@app.command()
def check(
    history: Annotated[Path, typer.Argument(help="A history, or a run's directory.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="What the store is to be: a name of `list models`, or FILE.py:Class. Without it a run is judged as "
            "the run itself did, and any other history as cas-register.",
            show_default=False,
        ),
    ] = None,
    checker: CheckerOption = None,
    report: Annotated[
        bool, typer.Option("--report", help="Write a run's verdict.json, junit.xml and report.html again.")
    ] = False,
    trust: TrustOption = False,
    independent: Annotated[bool, typer.Option(help="Values are [key value] tuples of jepsen.independent.")] = False,
    initial: Annotated[
        str | None,
        typer.Option(help='What it begins with, as JSON: 0, {"x": 0} for several registers, [1, 2] for a queue.'),
    ] = None,
    seconds: Annotated[
        float,
        _number("--seconds", float, Seconds(0.001, 7 * 86400), "Give up, with the verdict unknown, after this long:"),
    ] = 120.0,
    memory: Annotated[
        int, _number("--memory", int, Mebibytes(1, 2**20), "Give up when the search needs more than this:")
    ] = 4096,
    executor: Annotated[
        str | None, typer.Option(help="Who searches: threads:N, processes:N, or dask://HOST:PORT.")
    ] = None,
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Decide from a recorded history alone, without any store.

    Reads splitbrain's JSON lines, EDN and text logs of Jepsen and Knossos, and EDN of Porcupine's tests.
    """
    from harness.cli import check as command
    from harness.errors import UsageError
    from harness.verdict import Budget

    budget = Budget(seconds, memory << 20)
    as_json = output is Format.json
    if command.is_run(history) and model is None:
        if executor or initial or independent:
            raise UsageError(
                "a run is judged as the run itself did; --executor, --initial, --independent: with --model"
            )
        code = command.check_run(
            history, budget, _names("--checker", checker), report=report, trust=trust, as_json=as_json
        )
        raise typer.Exit(code)
    if checker or report or trust:
        raise UsageError("--checker, --report and --trust are for the directory of a run, without --model")
    raise typer.Exit(
        command.check(
            history, model or "cas-register", budget, executor, initial, independent=independent, as_json=as_json
        )
    )


@app.command()
def convert(
    history: Annotated[Path, typer.Argument(help="A history of any tool, or a run's directory.")],
    to: Annotated[Path, typer.Argument(help="The EDN file to write; - for standard output.")] = Path("-"),
    independent: Annotated[bool, typer.Option(help="Values are [key value] tuples of jepsen.independent.")] = False,
    debug: DebugOption = False,
) -> None:
    """Write a history as EDN that Jepsen's own tools read; keyed values become [key value] tuples."""
    from harness.cli import check as command

    command.convert(history, to, independent=independent)


@app.command("list")
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Show the targets, workloads, nemeses, checkers or environments that there are."""
    from harness.cli import listing as command

    command.show(kind.value, as_json=output is Format.json)


@app.command()
def doctor(output: FormatOption = Format.text, debug: DebugOption = False) -> None:
    """Say what this machine can do, line by line, and how to get what is missing."""
    from harness.cli import doctor as command

    raise typer.Exit(command.doctor(as_json=output is Format.json))


@app.command()
def clean(
    everything: Annotated[bool, typer.Option("--all", help="Also what belongs to runs that still go.")] = False,
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Remove what killed runs left: control groups, and containers, networks and volumes of the Docker engine."""
    from harness.cli import images as command

    command.clean(everything, as_json=output is Format.json)


@images.command()
def build(
    bootstrap: Annotated[
        bool, typer.Option(help="Make the base image with debootstrap, where none can be pulled.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Build the node image: what fault tools need, and the servers of the bundled targets."""
    from harness.cli import images as command

    command.build(bootstrap)
