"""The door: run, check, hunt, replay and shrink, for programs, for tests, for notebooks and for the command line.

Nothing in here prints, reads the command line, or touches signals.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from harness.assembly import (
    NOTHING,
    Parts,
    assemble,
    check_environment_name,
    choose_environment,
    each_workload,
    narrowed,
    refuse_missing_programs,
)
from harness.campaign import SeedResult, signatures
from harness.checking import judge_what_is_there
from harness.conduct import Attendant, Outcome, conduct, report, simulate, warm
from harness.environments import namespaces
from harness.environments.base import HasImage
from harness.errors import SplitbrainError, UsageError, field
from harness.executors import connect
from harness.experiment import Experiment
from harness.history import History
from harness.hunting import Hunt
from harness.isolated import run_apart
from harness.judging import judge_run
from harness.own import AnyChecker, AnyNemesis, AnyTarget, AnyWorkload, Own, bring, refuse_while_loading, several
from harness.recording import read_jsonl
from harness.run_directory import RunDirectory, find_history
from harness.shrinking import Shrinker, describe
from harness.threaded import Say, in_a_thread
from harness.trust import code_of, refuse_code
from harness.verdict import Budget, Verdict
from harness.words import count

_NOBODY: Final[Mapping[str, str]] = {}


def _silent(_: str) -> None:
    """For a caller that wants to be told nothing."""


class Prepared:
    """A run that can begin: its parts are loaded, go together, and its environment can be had; nothing was started.

    The checkers ``elsewhere`` judge afterwards in another process: they are written down, and why only that one has
    them. Raises ``UsageError`` and ``MissingError`` where that is not so.
    """

    def __init__(self, experiment: Experiment, own: Own = NOTHING, elsewhere: Mapping[str, str] = _NOBODY) -> None:
        self.parts: Parts = assemble(experiment, own)
        check_environment_name(experiment.environment)
        name, self.why = choose_environment(experiment.environment, experiment.image)
        self.experiment = replace(experiment, environment=name)
        self.environment = self.parts.environment(self.experiment)
        self.apart = name == "local" and not namespaces.inside()
        """Whether it needs a process in namespaces of its own."""
        if elsewhere:
            names = tuple(dict.fromkeys((*experiment.checkers, *elsewhere)))
            self.experiment = replace(self.experiment, checkers=names, unnamed=tuple(elsewhere.values()))
        if self.apart:
            self.parts.suit(self.experiment, self.environment)
            refuse_missing_programs(self.parts.target)
            if own.here_only:
                raise UsageError(
                    f"local nodes live in a process of their own, which has to load what it needs: "
                    f"{'; '.join(own.here_only)}"
                )
        elif isinstance(self.environment, HasImage):
            self.experiment = replace(self.experiment, image_digest=self.environment.pin_image())

    def conduct(self, runs: Path, attendant: Attendant | None = None) -> Outcome:
        """Run, judge and report, in this thread, which must not have an event loop."""
        return report(conduct(self.experiment, self.parts, self.environment, runs, attendant))


def run(
    experiment: Experiment,
    *,
    target: AnyTarget | None = None,
    workload: AnyWorkload | None = None,
    nemeses: AnyNemesis | Sequence[AnyNemesis] = (),
    checkers: AnyChecker | Sequence[AnyChecker] = (),
    runs: str | Path = "runs",
    say: Say = _silent,
) -> Outcome:
    """Run an experiment: start its store, drive it, hurt it, judge its history.

    The experiment names its parts; a class or an instance of one's own takes the place of its target or its workload,
    or stands beside its nemeses and checkers. On local nodes, all but the checkers are made anew in another process,
    from their class and their options: they must be where it finds them, at the top level of a file. ``say`` is told
    what is being done.

    It can be called wherever Python runs, under a running event loop too, and waits for the end. What interrupts it, as
    Ctrl-C does, ends the run at once, and is raised on when its nodes are gone; a second time it is raised on at once.
    Raises ``SplitbrainError``, also for code of others that ends the process or blocks a simulation for good, and a
    ``UsageError`` where what is asked for cannot be.
    """
    experiment, own = bring(experiment, target, workload, nemeses, checkers)
    prepared = Prepared(experiment, own)
    if experiment.environment == "auto":
        say(f"{field('environment', 'auto')} takes {prepared.experiment.environment}: {prepared.why}")
    if prepared.apart:
        return _apart(prepared, own, Path(runs), say)
    simulated = prepared.experiment.environment == "simulation"
    return in_a_thread(lambda caller: prepared.conduct(Path(runs), caller), say, simulated=simulated)


def run_all(
    experiment: Experiment,
    *,
    target: AnyTarget | None = None,
    nemeses: AnyNemesis | Sequence[AnyNemesis] = (),
    checkers: AnyChecker | Sequence[AnyChecker] = (),
    runs: str | Path = "runs",
    say: Say = _silent,
) -> dict[str, Outcome]:
    """Run an experiment with every workload that its target supports, one after the other, on clusters of their own.

    Each as ``run`` does, with those of the options that it has; the outcomes by workload. Raises ``SplitbrainError``
    as soon as one of them breaks.
    """
    named, own = bring(experiment, target, None, nemeses, checkers)
    outcomes = {}
    each_single, left_out = each_workload(named, own)
    for sentence in left_out:
        say(sentence)
    for each in each_single:
        single = replace(experiment, workload=each.workload, options=each.options)
        say(f"workload {single.workload}")
        outcomes[single.workload] = run(single, target=target, nemeses=nemeses, checkers=checkers, runs=runs, say=say)
    return outcomes


def _apart(prepared: Prepared, own: Own, runs: Path, say: Say) -> Outcome:
    """Run in another process, which loads all but the checkers that it cannot; these judge here."""
    experiment = prepared.experiment
    others = tuple(name for name in experiment.checkers if name not in own.judges)
    told = run_apart(replace(experiment, checkers=others, unnamed=msgspec.UNSET), runs, say, own.judges)
    directory = RunDirectory(path := Path(told.directory))
    history = read_jsonl(directory.history)
    experiment = directory.load_experiment()
    if not own.judges:
        return Outcome(experiment, told.verdict, history, path, told.unsaved)
    warm(prepared.parts.checkers)
    verdict = judge_run(directory, experiment, prepared.parts.workload, history=history, asked=prepared.parts.checkers)
    directory.write_verdict(verdict, experiment, history.seconds)
    unsaved = "; ".join(filter(None, (told.unsaved, directory.unsaved)))
    return report(Outcome(experiment, verdict, history, path, unsaved))


def check(
    history: str | Path | History,
    model: Any = None,
    *,
    checkers: AnyChecker | Sequence[AnyChecker] = (),
    workload: AnyWorkload | None = None,
    anomalies: str | Sequence[str] = (),
    versions: str | Sequence[str] = (),
    initial: Any = None,
    independent: bool = False,
    budget: Budget | None = None,
    executor: str | None = None,
    report: bool = False,
    trust: bool = False,
) -> Verdict:
    """Decide from a history alone: the directory of a run, the file of any tool, or a history in memory.

    Without a ``model`` a run is judged as the run itself did, by ``checkers`` beside, and anything else by ``checkers``
    alone, as strict serializable if it consists of transactions, or as a ``cas-register``. A model is a name,
    FILE.py:Class, or a class or an instance; ``initial`` is what it begins with. ``independent`` says that values are
    the tuples of jepsen.independent.

    For transactions a model is a level of isolation, or several with commas, and ``anomalies`` are what must not be
    found in place of it; ``workload`` is list-append, rw-register or rmw where the history does not show it, and
    ``versions`` what orders the versions of registers: wfr, process, realtime.

    ``report`` writes a run's verdict and report again, ``trust`` loads the code that it names, ``executor`` names who
    searches. Raises ``SplitbrainError``, a ``HistoryError`` for what is no history.
    """
    judged = judge_what_is_there(
        history if isinstance(history, History) else Path(history),
        model,
        several(checkers),
        budget or Budget(),
        workload=workload,
        anomalies=_words(anomalies),
        versions=_words(versions),
        initial=msgspec.UNSET if initial is None else initial,
        independent=independent,
        executor=executor,
        report=report,
        trust=trust,
    )
    if isinstance(judged, Outcome) and judged.unsaved:
        raise SplitbrainError(judged.unsaved)
    return judged.verdict


def _words(given: str | Sequence[str]) -> tuple[str, ...]:
    """Names with commas, or one by one."""
    return tuple(name.strip() for name in given.split(",") if name.strip()) if isinstance(given, str) else tuple(given)


def hunt(
    experiment: Experiment,
    seeds: int = 100,
    *,
    target: AnyTarget | None = None,
    workload: AnyWorkload | None = None,
    nemeses: AnyNemesis | Sequence[AnyNemesis] = (),
    checkers: AnyChecker | Sequence[AnyChecker] = (),
    directory: str | Path | None = None,
    executor: str | None = None,
    stop: bool = False,
    seen: Callable[[SeedResult], None] = lambda _: None,
) -> Hunt:
    """Run an experiment under seeds 0 to ``seeds`` - 1 that its directory does not know yet, on all cores if simulated.

    Ends early at the first failure if it is to ``stop`` there. ``seen`` is told each result. Parts of one's own are
    loaded in other processes: they must be at the top level of a file. Raises ``SplitbrainError``.
    """
    experiment, own = bring(experiment, target, workload, nemeses, checkers)
    if experiment.unnamed:
        raise UsageError(
            f"a hunt runs in other processes, which have to load what they need: {'; '.join(experiment.unnamed)}"
        )
    hunting = Hunt(experiment, seeds, None if directory is None else Path(directory), executor, own)
    if stop and hunting.validity == "invalid":
        return hunting
    with closing(hunting.go()) as results:
        for result in results:
            seen(result)
            if stop and result.validity == "invalid":
                break
    hunting.write_report()
    return hunting


class Replay(NamedTuple):
    """A simulated run that was run again."""

    outcome: Outcome
    events: int
    """How many its history has now."""
    differs_from_line: int | None
    """The first line of the history that is another one; None if all are the same, byte for byte."""


def replay(run: str | Path, *, runs: str | Path = "runs", trust: bool = False, say: Say = _silent) -> Replay:
    """Run a simulated run again, and compare the two histories.

    They differ where other code has run. Raises ``UsageError`` for a run that was not simulated, or that names code
    without ``trust``.
    """
    refuse_while_loading()
    before = RunDirectory(path := Path(run))
    experiment = before.load_experiment()
    if experiment.environment != "simulation":
        again = experiment.again(str(before.timetable))
        raise UsageError(f"only a simulated run can be replayed exactly; run it again with: {again}")
    refuse_code(str(path), code_of(experiment), trust=trust)
    find_history(path)  # the folder of a hunt has an experiment too; its runs are in seed-N
    outcome = in_a_thread(lambda caller: report(simulate(experiment, Path(runs), caller)), say, simulated=True)
    old, new = (
        history.read_bytes().splitlines() for history in (before.history, RunDirectory(outcome.directory).history)
    )
    lines = enumerate(zip_longest(old, new), 1)
    return Replay(outcome, len(new), next((number for number, (was, now) in lines if was != now), None))


def shrink(
    run: str | Path,
    seconds: float = 300.0,
    *,
    runs: str | Path = "runs",
    trust: bool = False,
    say: Say = _silent,
    on_found: Callable[[], None] = lambda: None,
) -> Outcome:
    """Reduce a simulated run that failed to the few faults and operations that it takes, and run these once more.

    The outcome is the run's own where nothing smaller was found. Ctrl-C and the end of its ``seconds`` end the search,
    with the smallest so far; ``on_found`` is called before that one is run once more. Raises ``UsageError`` for a run
    that was not simulated or did not fail, or that names code without ``trust``, and ``SplitbrainError`` where it
    fails in no other order of events than its own.
    """
    refuse_while_loading()
    path = Path(run)
    before = RunDirectory(path)
    experiment = before.load_experiment()
    if experiment.environment != "simulation":
        raise UsageError(f"only a simulated run can be shrunk, and {path} was run on {experiment.environment}")
    refuse_code(str(path), code_of(experiment), trust=trust)
    history = read_jsonl(before.history)
    verdict = judge_run(before, experiment, assemble(experiment).workload, history=history)
    if verdict.validity != "invalid":
        raise UsageError(f"{path} found no anomaly: there is nothing to shrink")
    checkers = frozenset(signature.partition(":")[0] for signature in signatures(verdict))
    shrinker = Shrinker(checkers, seconds, say)
    stopped = False
    try:
        # Candidates run in a process of their own, which can be ended at any moment, whatever it is doing.
        with connect("processes:1") as worker:
            shrinker.shrink(lambda candidate: worker.submit(_attempt, candidate).result(), experiment, history, verdict)
    except (KeyboardInterrupt, BrokenExecutor) as why:
        stopped = True
        say("stopped" if isinstance(why, KeyboardInterrupt) else "stopped: the process of a candidate has died")
    if shrinker.best is None:
        if not (stopped or shrinker.is_over()):
            raise SplitbrainError(f"{path} does not fail any more when its faults and operations are given explicitly")
        say(f"nothing smaller was found in {count(shrinker.tried, 'run')}")
        return Outcome(experiment, verdict, history, path)
    smallest = narrowed(shrinker.best)
    say(f"{describe(smallest)}, after {count(shrinker.tried, 'run')}")
    on_found()
    return in_a_thread(lambda caller: report(simulate(smallest, Path(runs), caller)), _silent, simulated=True)


def _attempt(candidate: Experiment) -> Verdict:
    """The verdict of one candidate; one that breaks, since its store never became ready, say, is ``unknown``."""
    with tempfile.TemporaryDirectory(prefix="splitbrain-shrink-") as folder:
        try:
            return simulate(narrowed(candidate), Path(folder)).verdict
        except UsageError:
            raise
        except (Exception, SystemExit) as error:
            return Verdict("unknown", f"{type(error).__name__}: {error}")
