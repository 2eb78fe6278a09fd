"""``splitbrain shrink``: the few faults and operations that it takes, and the one command that shows it."""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import BrokenExecutor
from pathlib import Path

from harness.campaign import signatures
from harness.cli.assemble import assemble, narrowed
from harness.cli.run import simulate
from harness.cli.stopping import undisturbed
from harness.console.verdict import print_run
from harness.errors import SplitbrainError, UsageError
from harness.executors import connect
from harness.experiment import Experiment
from harness.judging import judge_run
from harness.recording import read_jsonl
from harness.report import write_report
from harness.shrink import Shrinker, describe
from harness.store import RunDirectory
from harness.trust import code_of, refuse_code
from harness.verdict import Verdict
from harness.words import count, printable


def shrink(path: Path, runs: Path, seconds: float, *, trust: bool, as_json: bool) -> int:
    """Shrink a run, run the smallest experiment once more for its report, and return the exit code of its verdict.

    Ctrl-C and the end of its time end the search, with the smallest so far. Raises ``UsageError`` for a run that was
    not simulated or did not fail, or that names code without ``trust``, and ``SplitbrainError`` where it fails in no
    other order of events than its own.
    """
    before = RunDirectory(path)
    experiment = before.load_experiment()
    if experiment.environment != "simulation":
        raise UsageError(f"only a simulated run can be shrunk, and {path} was run on {experiment.environment}")
    refuse_code(str(path), code_of(experiment), trust=trust)
    verdict = judge_run(before, experiment, assemble(experiment).workload)
    if verdict.validity != "invalid":
        raise UsageError(f"{path} found no anomaly: there is nothing to shrink")

    def say(text: str) -> None:
        if not as_json:
            print(printable(f"splitbrain: {text}"), file=sys.stderr)

    checkers = frozenset(signature.partition(":")[0] for signature in signatures(verdict))
    shrinker = Shrinker(checkers, seconds, say)
    stopped = False
    try:
        # Candidates run in a process of their own, which can be ended at any moment, whatever it is doing.
        with connect("processes:1") as worker:
            shrinker.shrink(
                lambda one: worker.submit(attempt, one).result(), experiment, read_jsonl(before.history), verdict
            )
    except (KeyboardInterrupt, BrokenExecutor) as why:
        stopped = True
        say("stopped" if isinstance(why, KeyboardInterrupt) else "stopped: the process of a candidate has died")
    if shrinker.best is None:
        if not (stopped or shrinker.is_over()):
            raise SplitbrainError(f"{path} does not fail any more when its faults and operations are given explicitly")
        say(f"nothing smaller was found in {count(shrinker.tried, 'run')}")
        print_run(before, experiment, verdict, as_json=as_json)
        return verdict.exit_code
    found = narrowed(shrinker.best)
    say(f"{describe(found)}, after {count(shrinker.tried, 'run')}")
    with undisturbed():
        directory, verdict = simulate(found, runs)
        write_report(directory, found, verdict)
        print_run(directory, found, verdict, as_json=as_json)
    return verdict.exit_code


def attempt(candidate: Experiment) -> Verdict:
    """The verdict of one candidate; one that breaks, since its store never became ready, say, is ``unknown``."""
    with tempfile.TemporaryDirectory(prefix="splitbrain-shrink-") as folder:
        try:
            return simulate(narrowed(candidate), Path(folder))[1]
        except UsageError:
            raise
        except Exception as error:
            return Verdict("unknown", f"{type(error).__name__}: {error}")
