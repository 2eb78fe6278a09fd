"""The session as programs use it: names and objects, with and without an event loop, and nobody's signals touched."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import harness
from harness import (
    Budget,
    Checker,
    Experiment,
    History,
    Outcome,
    SplitbrainError,
    UsageError,
    Verdict,
    check,
    hunt,
    replay,
    run,
    shrink,
)
from harness.cli.wording import as_options
from harness.environments.simulation import watchdog
from harness.hunting import Hunt
from harness.plugins import load_file
from harness.targets.reference.target import Reference
from harness.workloads.register import Register

Command = Callable[..., "subprocess.CompletedProcess[str]"]

SHORT = Experiment("reference", environment="simulation", time=1.0, rate=100.0)

STORE = """
from typing import Annotated

import msgspec

from harness.options import Number
from harness.targets.reference.target import Reference


class Mine(Reference):
    '''The reference store, and an option of its own.'''

    class Options(Reference.Options):
        weight: Annotated[int, Number(1, 9), "..."] = 1

    def __init__(self, options):
        super().__init__(Reference.Options(replication=options.replication))
        self.options = options


class Clashing(Mine):
    '''One with an option of a nemesis.'''

    class Options(Mine.Options):
        rate: float = 1.0


class Forgetful(Mine):
    '''Keeps no options.'''

    def __init__(self, options):
        super().__init__(options)
        del self.options
"""
PROGRAM = """
import sys

from my_store import Mine

from harness import Experiment, run

class Here(Mine):
    '''In the program itself.'''

def main():
    experiment = Experiment("x", environment="simulation", time=1.0, rate=100.0)
    for part in (Here, Mine(Mine.Options(replication="primary-backup", weight=3))):
        outcome = run(experiment, target=part)
        print(outcome.again)
        print(outcome.directory)

"""
GUARDED = PROGRAM + 'if __name__ == "__main__":\n    main()\n'


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "my_store.py"
    path.write_text(STORE)
    return path


def python(program: Path | str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(program)] if isinstance(program, Path) else [sys.executable, "-c", program]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def test_the_names_that_programs_and_plug_ins_are_written_with() -> None:
    assert harness.__all__ == [
        "Anomaly", "Budget", "Checker", "Client", "Declined", "Experiment", "Failed", "History", "Nemesis", "Operation",
        "Outcome", "SplitbrainError", "Target", "UsageError", "Verdict", "Workload", "check", "hunt", "replay", "run",
        "run_all", "shrink",
    ]  # fmt: skip
    for name in harness.__all__:
        assert inspect.getdoc(getattr(harness, name)), name
    assert set(harness.__all__) <= set(dir(harness))
    assert not hasattr(harness, "perform")
    assert Path(harness.__file__).with_name("py.typed").is_file()


@pytest.mark.parametrize("what", ["import harness", "import harness.cli.app", "from harness import Experiment"])
def test_nothing_is_imported_before_it_is_needed(tmp_path: Path, what: str) -> None:
    heavy = ("numpy", "numba", "harness.session", "multiprocessing")
    done = python(f"import sys; {what}; print([m for m in {heavy} if m in sys.modules])", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_lines_in_the_readme_do_what_they_say(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    *_suites, program = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "program.py").write_text(program)
    done = python(tmp_path / "program.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "invalid" in done.stdout


def test_a_run_gives_its_history_its_verdict_and_its_directory(tmp_path: Path) -> None:
    outcome = run(SHORT, runs=tmp_path)
    assert isinstance(outcome, Outcome)
    assert outcome.verdict.validity == "valid", outcome.verdict.reason
    assert len(outcome.history) > 100
    assert outcome.directory.parent == tmp_path
    assert {"experiment.json", "history.jsonl", "verdict.json", "junit.xml", "report.html"} <= {
        path.name for path in outcome.directory.iterdir()
    }
    assert str(outcome).startswith("valid\n")
    assert f"again:  {outcome.again}" in str(outcome)
    assert check(outcome.directory).validity == check(outcome.directory, "cas-register").validity == "valid"
    assert check(outcome.history, "cas-register", budget=Budget(9.0)).validity == "valid"
    unsaved = dataclasses.replace(outcome, unsaved="the nodes stay")
    assert unsaved.exit_code == 4
    assert str(unsaved) == f"{outcome}\n  not saved: the nodes stay"


def settings() -> list[Any]:
    """What a run must leave as it was."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return [
        *handlers,
        signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        signal.getitimer(signal.ITIMER_REAL),
        sys.argv[:],
    ]


def test_the_caller_s_process_is_left_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, said = settings(), list[str]()
    filters = warnings.filters[:]
    run(SHORT, runs=tmp_path, say=said.append)
    hunt(SHORT, 2, directory=tmp_path / "hunt")
    assert settings() == before
    assert warnings.filters == filters
    assert capfd.readouterr() == ("", "")
    assert said[0] == "starting reference on 3 nodes"


def test_chaos_overlaps_as_it_does_on_the_command_line(tmp_path: Path) -> None:
    outcome = run(replace(SHORT, nemeses=("chaos",)), runs=tmp_path)
    assert outcome.experiment.overlap
    assert outcome.again.endswith(" --overlap")


async def test_a_run_under_a_running_event_loop_is_the_same(tmp_path: Path) -> None:
    asyncio.get_running_loop()
    here = run(SHORT, runs=tmp_path)
    there = await asyncio.to_thread(run, SHORT, runs=tmp_path)
    assert (here.directory / "history.jsonl").read_bytes() == (there.directory / "history.jsonl").read_bytes()


def test_runs_in_several_threads_are_those_that_each_would_be_alone(tmp_path: Path) -> None:
    filters = list(warnings.filters)
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda seed: run(replace(SHORT, seed=seed), runs=tmp_path), [1, 2, 1, 2, 1, 2]))
    first, second, *others = [(outcome.directory / "history.jsonl").read_bytes() for outcome in outcomes]
    assert first != second
    assert others == [first, second] * 2
    assert warnings.filters == filters


def test_a_program_s_own_objects_run_again_as_it_is_said(store: Path, tmp_path: Path, splitbrain: Command) -> None:
    (tmp_path / "program.py").write_text(GUARDED)
    done = python(tmp_path / "program.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "--option weight=3" in lines[2]
    assert f"{tmp_path}/program.py:Here " in lines[0]
    for again, directory in zip(lines[::2], lines[1::2], strict=True):
        program, *words = shlex.split(again)
        assert program == "splitbrain"
        printed = splitbrain(*words, "--format", "json")
        assert printed.returncode == 0, printed.stderr
        (other,) = set(tmp_path.glob("runs/*")) - {tmp_path / line for line in lines[1::2]}
        assert (other / "history.jsonl").read_bytes() == (tmp_path / directory / "history.jsonl").read_bytes()
        other.rename(tmp_path / other.name)


def test_a_program_that_starts_runs_whenever_it_is_loaded_is_not_loaded_again(
    store: Path, tmp_path: Path, splitbrain: Command
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM + "main()")
    done = python(tmp_path / "program.py", cwd=tmp_path)
    why = 'program.py starts runs whenever it is loaded: do it below `if __name__ == "__main__":`'
    assert done.stdout.startswith(f"no command can: Here (a target) is an object of this program, and {why}\n")
    done = splitbrain("run", "./program.py:Here", "--on", "simulation")
    assert done.returncode == 2
    assert "starts runs while it is loaded: do it below" in done.stderr


def test_an_instance_that_cannot_be_made_again_says_so(store: Path, tmp_path: Path) -> None:
    class Local(Reference):
        pass

    load_file(f"{store}:Mine")
    mine, clashing, forgetful = attrgetter("Mine", "Clashing", "Forgetful")(sys.modules["splitbrain_plugin_my_store"])
    chaos = replace(SHORT, nemeses=("clock",))
    for experiment, part, why in (
        (SHORT, Local, "it is not at the top level of test_session.py"),
        (SHORT, Local(Local.Options()), "it is not at the top level of test_session.py"),
        (SHORT, forgetful(forgetful.Options(weight=2)), "it does not keep the options that it was made with"),
        (chaos, clashing(clashing.Options(rate=2.0)), "has an option that the nemesis clock has as well"),
    ):
        outcome = run(experiment, target=part, runs=tmp_path)
        assert outcome.again.startswith("no command can: ")
        assert why in outcome.again
        assert outcome.again in str(outcome)
        assert why in (outcome.directory / "junit.xml").read_text()
        with pytest.raises(UsageError, match="cannot be run from its description"):
            run(outcome.experiment)
        # Its workload is nobody's own, and is enough to judge it.
        assert check(outcome.directory).validity == outcome.verdict.validity
    with pytest.raises(UsageError, match="`options` has weight, but Mine is an instance"):
        run(replace(SHORT, options={"weight": "2"}), target=mine(mine.Options()), runs=tmp_path)
    with pytest.raises(UsageError, match="Budget is no target: it does not extend"):
        run(SHORT, target=Budget(), runs=tmp_path)  # type: ignore[arg-type]


def test_a_class_is_named_without_loading_what_it_is_not(tmp_path: Path) -> None:
    program = """
import sys

from harness.own import name_of
from harness.targets.reference.target import Reference

others = ("harness.targets.etcd", "harness.targets.redis")
print(name_of("targets", Reference)[0], [module for module in others if module in sys.modules])
"""
    done = python(program, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("reference []\n", "")


def test_a_checker_whose_path_has_a_comma_has_no_name(tmp_path: Path) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    (folder / "judge.py").write_text(JUDGE)
    (folder / "program.py").write_text("from judge import *\nprint(name_of('checkers', Judge))\n")
    done = python(folder / "program.py", cwd=tmp_path)
    assert "the path of judge.py has a comma" in done.stdout, done.stderr


JUDGE = """
from harness import Checker, Verdict
from harness.own import name_of

class Judge(Checker):
    def check(self, history, budget):
        return Verdict("valid")
"""


class Strict(Checker):
    """A checker that finds whatever it is told to."""

    def __init__(self, kind: str = "") -> None:
        self.kind = kind

    def check(self, history: History, budget: Budget) -> Verdict:
        return Verdict("invalid", self.kind or "by default")


class ExitsWhenMade(Reference):
    """A store whose code ends the process."""

    def __init__(self, options: Any) -> None:
        sys.exit(0)


class ExitsAtTheStart(Reference):
    """The same, later."""

    async def start(self, cluster: Any, node: Any) -> None:
        sys.exit(0)


class ExitsWhileItGenerates(Register):
    """A workload that does it."""

    def generator(self, rng: Any) -> Any:
        sys.exit(0)


@pytest.mark.parametrize(
    "parts", [{"target": ExitsWhenMade}, {"target": ExitsAtTheStart}, {"workload": ExitsWhileItGenerates}]
)
def test_code_that_ends_the_process_is_an_error_of_the_run(tmp_path: Path, parts: dict[str, Any]) -> None:
    with pytest.raises(SplitbrainError, match=r"has ended the command \(0\).*: nothing was judged"):
        run(SHORT, runs=tmp_path, **parts)


def test_a_checker_of_ones_own_judges_runs_and_judges_them_again(tmp_path: Path) -> None:
    outcome = run(SHORT, checkers=Strict("told"), runs=tmp_path)
    assert outcome.verdict.parts["Strict"].reason == "told"
    assert outcome.again.startswith("no command can: Strict (a checker) is an object of this program")
    outcome = run(SHORT, runs=tmp_path)
    assert check(outcome.directory, checkers=[Strict]).parts["Strict"].reason == "by default"
    with pytest.raises(UsageError, match="are of linearizability: leave them out with `checkers`"):
        check(outcome.directory, "register", checkers=[Strict])


async def test_a_hunt_finds_what_shrink_makes_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"bug": "no-fsync", "kill": "all"}
    experiment = replace(SHORT, nodes=5, nemeses=("kill",), overlap=True, interval=1.0, time=5.0, options=options)
    seen: list[int] = []
    # One seed after the other: what is shrunk is the same one every time.
    found = hunt(
        experiment, 9, directory=tmp_path / "h", executor="processes:1", stop=True,
        seen=lambda one: seen.append(one.seed),
    )  # fmt: skip
    assert (found.validity, found.exit_code) == ("invalid", 1)
    assert sorted(seen) == [one.seed for one in found.outcomes]
    failed = next(one for one in found.outcomes if one.validity == "invalid")
    loop, before = asyncio.get_running_loop(), settings()
    me, handle = os.getpid(), signal.signal

    def only_elsewhere(number: int, handler: Any) -> Any:
        assert os.getpid() != me, number
        return handle(number, handler)

    monkeypatch.setattr(signal, "signal", only_elsewhere)
    small = shrink(failed.directory, 120.0, runs=tmp_path / "runs")
    monkeypatch.undo()
    assert (asyncio.get_running_loop(), settings()) == (loop, before)
    assert small.verdict.validity == "invalid"
    assert len(small.history) < len((Path(failed.directory) / "history.jsonl").read_bytes().splitlines())
    # What is known already is not run once more.
    assert hunt(experiment, 9, directory=tmp_path / "h", stop=True, seen=lambda one: seen.append(one.seed)).outcomes
    assert len(seen) == len(found.outcomes)


def test_a_hunt_without_a_seed_is_refused_and_one_without_an_outcome_is_no_pass(tmp_path: Path) -> None:
    for seeds in (0, -1):
        with pytest.raises(UsageError, match=f"^`seeds={seeds}`: a hunt has one seed or more"):
            hunt(SHORT, seeds, directory=tmp_path / "h")
    assert not list(tmp_path.iterdir())
    assert Hunt(SHORT, 1, tmp_path / "h").validity == "unknown"


def test_what_a_hunt_cannot_load_is_refused(tmp_path: Path) -> None:
    class Local(Reference):
        pass

    with pytest.raises(UsageError, match=r"a hunt runs in other processes.* not at the top level"):
        hunt(SHORT, 2, target=Local, directory=tmp_path)


@pytest.mark.parametrize(
    ("given", "said", "worded"),
    [
        ({"time": 0.0}, "`time` is 0, ", "--time is 0, "),
        ({"nodes": 0}, "`nodes` is 0, ", "--nodes is 0, "),
        ({"zones": "a"}, "`zones` names the zones of 1 nodes", "--zones names the zones of 1 nodes"),
        ({"nemeses": ("",)}, "`nemeses` has an empty name", "--nemesis has an empty name"),
        ({"nemeses": ("storage",)}, "`nemeses=storage` cannot be had with `environment=simulation`: ",
         "--nemesis storage cannot be had with --on simulation: "),
        ({"image": "redis"}, "`image` is for nodes in containers: use `environment=docker`",
         "--image is for nodes in containers: use --on docker"),
        ({"options": {"bug": "vote-twice,dropped-hint"}}, "`bug=vote-twice,dropped-hint` is of replication=quorum ",
         "--bug vote-twice,dropped-hint is of replication=quorum "),
    ],
)  # fmt: skip
def test_an_error_speaks_of_fields_and_on_the_command_line_of_options(
    tmp_path: Path, splitbrain: Command, given: dict[str, Any], said: str, worded: str
) -> None:
    with pytest.raises(UsageError) as caught:
        run(replace(SHORT, **given), runs=tmp_path)
    assert str(caught.value).startswith(said)
    assert as_options(str(caught.value)).startswith(worded)
    assert "--" not in str(caught.value).partition(":")[0]


@pytest.mark.parametrize("text", ["`splitbrain list targets`", "`time", "`timed`", "a `b=c`"])
def test_other_words_stay_as_they_are(text: str) -> None:
    assert as_options(text) == text


class Spins(Reference):
    """A store that never gives way."""

    async def ready(self, cluster: Any) -> bool:
        while True:
            pass


class Blocks(Reference):
    """A store that waits where nothing can interrupt it."""

    let_go = threading.Event()

    async def ready(self, cluster: Any) -> bool:
        return self.let_go.wait()


def test_a_store_that_blocks_ends_its_run_and_not_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    with monkeypatch.context() as impatient:
        impatient.setattr(watchdog, "TICK_SECONDS", 0.05)
        outcome = run(SHORT, target=Spins, runs=tmp_path)
        assert outcome.verdict.validity == "unknown"
        assert "has blocked everything" in outcome.verdict.reason
        with pytest.raises(SplitbrainError, match=r"must await, not block; .* left behind; .*`splitbrain check .*`"):
            run(SHORT, target=Blocks, runs=tmp_path)
    assert run(SHORT, runs=tmp_path).verdict.validity == "valid"  # while that one is still blocked
    Blocks.let_go.set()
    # Nor does it go on behind the back of other tests.
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


INTERRUPTED = """
import signal, time

from harness import Checker, Experiment, run
from harness.targets.reference.target import Reference

class Spins(Reference):
    async def form(self, cluster):
        print("running for ever", flush=True)
        while True:
            pass

class Sleeps(Reference):
    async def form(self, cluster):
        print("running for ever", flush=True)
        time.sleep(10_000)

class Judges(Checker):
    def check(self, history, budget):
        print("running for ever", flush=True)
        time.sleep(10_000)

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    run(Experiment("reference", environment="simulation", time=%s), **%s, say=lambda what: print(what, flush=True))
except KeyboardInterrupt as stopped:
    print(*stopped.__notes__)
"""


@pytest.mark.parametrize(
    ("seconds", "parts", "said"),
    [
        (600_000.0, "{}", "running for 600000 s"),
        (1.0, "{'target': Spins}", "running for ever"),
        (1.0, "{'target': Sleeps}", "running for ever"),
        (1.0, "{'checkers': Judges()}", "running for ever"),
    ],
)
def test_ctrl_c_ends_a_run_in_a_program_and_keeps_its_history(
    tmp_path: Path, seconds: float, parts: str, said: str
) -> None:
    command = [sys.executable, "-c", INTERRUPTED % (seconds, parts)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        while not program.stdout.readline().startswith(said):
            assert program.poll() is None
        program.send_signal(signal.SIGINT)
        last = program.stdout.read().splitlines()[-1]
    assert program.returncode == 0
    assert last.startswith("aborted; what was recorded is in runs/")
    (history,) = tmp_path.glob("runs/*/history.jsonl")
    assert history.stat().st_size > 0 or "target" in parts


def test_a_simulated_run_is_replayed_and_compared(tmp_path: Path) -> None:
    experiment = Experiment("reference", environment="simulation", time=2.0, rate=100.0, interval=1.0)
    outcome = run(experiment, runs=tmp_path / "runs")
    again = replay(outcome.directory, runs=tmp_path / "again")
    assert (again.differs_from_line, again.events) == (None, len(outcome.history))
    history = Path(outcome.directory) / "history.jsonl"
    lines = history.read_bytes().splitlines(keepends=True)
    history.write_bytes(b"".join([*lines[:4], lines[4].replace(b'"time":', b'"time":1'), *lines[5:]]))
    assert replay(outcome.directory, runs=tmp_path / "other").differs_from_line == 5


def test_what_was_not_simulated_cannot_be_replayed(tmp_path: Path) -> None:
    experiment = Experiment("reference", environment="simulation", time=1.0, rate=100.0)
    directory = Path(run(experiment, runs=tmp_path).directory)
    file = directory / "experiment.json"
    file.write_text(file.read_text().replace('"simulation"', '"local"'))
    with pytest.raises(UsageError, match="only a simulated run can be replayed exactly; run it again with: splitbrain"):
        replay(directory, runs=tmp_path)
