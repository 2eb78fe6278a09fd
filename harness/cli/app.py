"""All commands and their options."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

import harness
from harness.cli.experiment import (
    UNSAID,
    CheckerOption,
    ExperimentOptions,
    HuntOptions,
    TrustOption,
    listed,
    number,
    of_experiment,
    takes,
)
from harness.cli.wording import Commands
from harness.experiments.modes import MODES
from harness.options import Mebibytes, Number, Seconds
from harness.verdict import Budget

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
experiment = typer.Typer(
    cls=Commands, help="Ways of replicating and of sharding, compared.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(experiment, name="experiment")


class Format(enum.StrEnum):
    """How to print."""

    text = "text"
    json = "json"


class Form(enum.StrEnum):
    """What a report can be written as."""

    html = "html"
    svg = "svg"
    png = "png"


class Kind(enum.StrEnum):
    """What can be listed."""

    targets = "targets"
    workloads = "workloads"
    nemeses = "nemeses"
    checkers = "checkers"
    environments = "environments"
    models = "models"
    bugs = "bugs"
    findings = "findings"


FormatOption = Annotated[Format, typer.Option("--format", help="Text for people, JSON for scripts.")]
# It works wherever it stands on the line, and is taken from there before any command sees it: see ``harness.cli``.
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
RunsOption = Annotated[Path, typer.Option(help="Where the run's directory is made.")]


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


@app.command()
@takes(ExperimentOptions)
def run(
    asked: ExperimentOptions,
    seed: Annotated[int, of_experiment("seed")] = UNSAID.seed,
    runs: RunsOption = Path("runs"),
    judge_elsewhere: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Start a store, drive it, hurt it, and judge its history."""
    from harness.cli import run as command

    # A program that has checkers of its own, and runs this, says so.
    elsewhere = {name: why for name, _, why in (pair.partition("=") for pair in judge_elsewhere or [])}
    raise typer.Exit(command.run(asked.experiment(seed), runs, elsewhere, as_json=output is Format.json))


@app.command()
@takes(HuntOptions)
def hunt(
    asked: HuntOptions,
    seeds: Annotated[int, number("--seeds", int, Number(1, 1_000_000), "How many seeds, from 0 on:")] = 100,
    stop: Annotated[bool, typer.Option("--stop", help="Stop at the first failure; else collect them all.")] = False,
    directory: Annotated[
        Path | None, typer.Option(help="Where results are kept; the same directory resumes a campaign.")
    ] = None,
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

    as_json = output is Format.json
    raise typer.Exit(command.hunt(asked.experiment(), seeds, directory, executor, stop=stop, as_json=as_json))


@app.command()
def shrink(
    run: Annotated[Path, typer.Argument(help="The directory of a simulated run that found an anomaly.")],
    seconds: Annotated[
        float,
        number("--seconds", float, Seconds(0.1, 7 * 86400), "Stop trying after this long, with the smallest so far:"),
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
def reproduce(
    finding: Annotated[str, typer.Argument(help="A name of `list findings`, or a FILE.toml of one's own.")],
    runs: Annotated[
        int, number("--runs", int, Number(1, 1000), "Under how many seeds the experiment and its control are run:")
    ] = 1,
    directory: Annotated[Path, typer.Option(help="Where the runs' directories are made.")] = Path("runs"),
    trust: TrustOption = False,
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Run a published finding's experiment and its control, and say whether both come out as known.

    Exit codes: 0 both as known (the anomaly in at least one run, and every control valid), 1 not, 3 not conclusive.
    """
    from harness.cli import reproduce as command

    raise typer.Exit(command.show(finding, runs, directory, trust=trust, as_json=output is Format.json))


@app.command()
def check(
    history: Annotated[Path, typer.Argument(help="A history, or a run's directory.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="What the store is to be: a name of `list models`, or FILE.py:Class; for transactions levels of "
            "isolation, with commas. Without it a run is judged as the run itself did, and any other history by "
            "--checker, as strict-serializable if it consists of transactions, or as cas-register.",
            show_default=False,
        ),
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(
            help="What transactions are about, where their history does not show it: list-append, rw-register, rmw, "
            "closed-predicate."
        ),
    ] = None,
    anomalies: Annotated[
        list[str] | None,
        typer.Option(
            help="Anomalies that transactions must not show, in place of a level: G0,G1c,lost-update,..., with commas."
        ),
    ] = None,
    versions: Annotated[
        list[str] | None,
        typer.Option(help="What else orders the versions of registers in transactions: wfr, process, realtime."),
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
        number("--seconds", float, Seconds(0.001, 7 * 86400), "Give up, with the verdict unknown, after this long:"),
    ] = Budget().seconds,
    memory: Annotated[
        int, number("--memory", int, Mebibytes(1, 2**20), "Give up when the search needs more than this:")
    ] = Budget().bytes >> 20,
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

    code = command.check(
        history,
        model,
        listed("--checker", checker),
        Budget(seconds, memory << 20),
        workload=workload,
        anomalies=listed("--anomalies", anomalies),
        versions=listed("--versions", versions),
        executor=executor,
        initial=initial,
        independent=independent,
        report=report,
        trust=trust,
        as_json=output is Format.json,
    )
    raise typer.Exit(code)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's directory.")],
    form: Annotated[
        Form, typer.Option("--format", help="The whole report as HTML, or one picture of it as SVG or PNG.")
    ] = Form.html,
    anomaly: Annotated[
        int | None,
        typer.Option(
            help="Which anomaly is drawn, as the report numbers them; without it who was primary when.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="The file to write; else one in the run's directory.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    debug: DebugOption = False,
) -> None:
    """Make a run's report again, or one picture of it, without judging the run again."""
    from harness.cli import report as command

    command.report(run, form.value, anomaly, to, show=show)


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="A run's directory.")],
    number: Annotated[
        int | None,
        typer.Argument(help="Which anomaly, as the report numbers them; without it the first.", show_default=False),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Tell one anomaly of a run in the terminal: its words, and its operations over time."""
    from harness.cli import report as command

    command.explain(run, number)


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(help="Where runs and hunts are, in folders of any names.")] = Path(),
    port: Annotated[int, number("--port", int, Number(0, 65535), "The port on 127.0.0.1; 0 is any that is free:")] = 0,
    browse: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    debug: DebugOption = False,
) -> None:
    """Show all runs and hunts below a folder on a page of this machine: filter, follow and compare them."""
    from harness.cli import serve as command

    command.serve(folder, port, browse=browse)


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
    """Show the targets, workloads, nemeses, checkers, environments, models, bugs or findings that there are."""
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


@experiment.command()
def cap(
    seed: Annotated[int, of_experiment("seed")] = UNSAID.seed,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only these modes, with commas or repeated: {', '.join(mode.name for mode in MODES)}.",
            show_default="all",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter cuts and fewer clients: a rough shape.")] = False,
    directory: Annotated[
        Path,
        typer.Option(
            help="Where report.html, table.csv and runs/MODE are made; those of an earlier experiment are replaced."
        ),
    ] = Path("runs/experiment-cap"),
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Take every mode of replication of the bundled store through the same cuts, and measure what it gives up for what.

    Simulated: the same seed gives the same table.
    """
    from harness.cli import tradeoffs as command

    as_json = output is Format.json
    raise typer.Exit(command.cap(directory, seed, listed("--only", only, doubles=False), quick=quick, as_json=as_json))


@experiment.command()
def quorum(
    seed: Annotated[int, of_experiment("seed")] = UNSAID.seed,
    sizes: Annotated[
        list[str] | None,
        typer.Option(help="The numbers of nodes, 2 to 7, with commas or repeated.", show_default="2,3,5"),
    ] = None,
    directory: Annotated[
        Path, typer.Option(help="Where report.html and table.csv are made; earlier ones are replaced.")
    ] = Path("runs/experiment-quorum"),
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Measure stale reads and latency for every N, R and W of quorums: where R + W > N begins to hold.

    Simulated: the same seed gives the same table.
    """
    from harness.cli import tradeoffs as command

    as_json = output is Format.json
    raise typer.Exit(command.quorum(directory, seed, listed("--sizes", sizes, doubles=False), as_json=as_json))


@experiment.command()
def sharding(
    seed: Annotated[int, of_experiment("seed")] = UNSAID.seed,
    directory: Annotated[
        Path, typer.Option(help="Where report.html and table.csv are made; earlier ones are replaced.")
    ] = Path("runs/experiment-sharding"),
    output: FormatOption = Format.text,
    debug: DebugOption = False,
) -> None:
    """Compare placements of keys: what moves as shards come and go, how even shards are, and how hot the busiest gets.

    Nothing is run: the same seed gives the same table, within seconds.
    """
    from harness.cli import tradeoffs as command

    raise typer.Exit(command.sharding(directory, seed, as_json=output is Format.json))


@images.command()
def build(
    bootstrap: Annotated[
        bool, typer.Option(help="Make the base image with debootstrap, where none can be pulled.")
    ] = False,
    targets: Annotated[
        str | None, typer.Option(help="Only the servers of these, with commas; else those of all `list targets`.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Build the node image: what fault tools need, and the servers of `list targets`."""
    from harness.cli import images as command

    command.build(targets, bootstrap=bootstrap)
