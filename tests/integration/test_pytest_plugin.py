"""The pytest plug-in, in test suites of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SIMULATED = "environment='simulation', nodes=5, time=5, rate=50"
PASSES = f"""
import pytest

@pytest.mark.splitbrain({SIMULATED})
def test_it_is_linearizable(splitbrain):
    outcome = splitbrain("reference")
    assert outcome.verdict.validity == "valid"
    assert len(outcome.history) > 250
"""
FAILS = """
import pytest

@pytest.mark.splitbrain(environment="simulation", nodes=5, time=20, rate=100, nemeses=("partition",), interval=2,
                        options={"replication": "primary-backup", "bug": "failover-without-majority"})
def test_it_is_linearizable(splitbrain):
    splitbrain("reference")
"""


def test_a_valid_run_passes_and_leaves_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PASSES)
    pytester.runpytest_subprocess("-v").assert_outcomes(passed=1)
    assert not (pytester.path / "runs").exists()


def test_what_passed_is_kept_if_wanted(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PASSES)
    pytester.runpytest_subprocess("--splitbrain-keep", "--splitbrain-runs", "kept").assert_outcomes(passed=1)
    assert [path.name for path in (pytester.path / "kept").glob("*/verdict.json")] == ["verdict.json"]


def test_a_failure_shows_the_anomaly_the_command_and_the_report(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FAILS)
    done = pytester.runpytest_subprocess("--splitbrain-seeds", "4", "-x", "--junit-xml", "junit.xml")
    done.assert_outcomes(failed=1, passed=done.parseoutcomes().get("passed", 0))
    done.stdout.fnmatch_lines(["invalid*", "*anomal*", "*again:*splitbrain run reference*", "*report: *report.html"])
    (kept,) = (pytester.path / "runs").iterdir()
    assert (kept / "report.html").is_file()
    assert str(kept) in done.stdout.str()
    assert f'value="{kept}"' in (pytester.path / "junit.xml").read_text()


def test_seeds_are_tests_of_their_own_which_can_be_spread_and_run_again(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FAILS)
    first = pytester.runpytest_subprocess("--splitbrain-seeds", "3", "-n", "2").parseoutcomes()
    assert first.get("passed", 0) + first["failed"] == 3
    again = pytester.runpytest_subprocess("--splitbrain-seeds", "3", "--lf").parseoutcomes()
    assert again["failed"] == first["failed"]
    assert "passed" not in again


def test_the_time_of_all_runs_can_be_given(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PASSES.replace("> 250", "< 250"))
    pytester.runpytest_subprocess("--splitbrain-time", "0.5").assert_outcomes(passed=1)


def test_an_unknown_verdict_is_no_pass(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PASSES.replace("time=5", "time=1, nemeses=('partition', 'kill', 'pause')"))
    done = pytester.runpytest_subprocess()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["unknown*was asked for and had no turn*"])


def test_the_call_s_workload_and_checkers_take_the_place_of_the_marker_s(pytester: pytest.Pytester) -> None:
    given = "workload=Register, checkers=Wrong)"
    pytester.makepyfile(
        PASSES.replace("import pytest\n", WORKLOAD)
        .replace(f"({SIMULATED})", f"({SIMULATED}, {given}")
        .replace('splitbrain("reference")', 'splitbrain("reference", workload="append", checkers="completeness")')
        + '    assert outcome.experiment.workload == "append"\n'
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


WORKLOAD = """
import pytest

from harness import Checker, Verdict
from harness.workloads.register import Register

class Wrong(Checker):
    def check(self, history, budget):
        return Verdict("invalid", "always")
"""


def test_a_worker_leaves_the_directory_that_another_may_need(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PASSES)
    pytester.runpytest_subprocess("-n", "1").assert_outcomes(passed=1)
    assert not list((pytester.path / "runs").iterdir())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("nods=3", "*the run cannot be made: an experiment has no field nods*"),
        ("nodes=-3", "*the run cannot be made: *nodes*"),
        ("nodes='three'", "*the run cannot be made: *nodes*"),
        ("nemeses=('kil',)", "*the run cannot be made: there is no nemesis named 'kil'*"),
        ("options={'no': '1'}", "*the run cannot be made: *option*'no'*"),
    ],
)
def test_a_wrong_marker_fails_in_a_sentence(pytester: pytest.Pytester, fields: str, said: str) -> None:
    pytester.makepyfile(PASSES.replace(SIMULATED, f"environment='simulation', {fields}"))
    done = pytester.runpytest_subprocess()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines([said])
    assert "Traceback" not in done.stdout.str()


STORE = """
from harness.targets.reference.target import Reference

class MyStore(Reference):
    name = "my-store"
"""
SURVIVES = """import pytest
from harness.timetable import Fault, Timetable
from my_store import MyStore

CUT = Fault("partition", start=5, stop=25, plan={"kind": "primary"})


@pytest.mark.splitbrain(nodes=3, time=40, timetable=Timetable(faults=(CUT,)))
def test_it_is_linearizable_without_its_primary(splitbrain):
    outcome = splitbrain(MyStore)
    assert outcome.verdict.evidence["faults"]["partition"]["proved"]
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PASSES.replace("(splitbrain)", "()").split("    outcome")[0] + "    pass", "*not the fixture*"),
        (PASSES.split("    outcome")[0] + "    pass", "*was never called*"),
        (PASSES.replace('"reference")', '"reference", seed=9)'), "*the call takes none*"),
        (PASSES.replace("time=5", "target='redis'"), "*takes no target*"),
        (PASSES.replace(f"({SIMULATED})", "(3)"), "*takes names with values*"),
    ],
)
def test_a_test_that_runs_nothing_or_something_else_is_no_pass(pytester: pytest.Pytester, text: str, said: str) -> None:
    pytester.makepyfile(text)
    done = pytester.runpytest_subprocess()
    assert done.parseoutcomes().keys() & {"failed", "errors", "error"}
    done.stdout.fnmatch_lines([said])


@pytest.mark.needs("local")
def test_a_store_of_the_suite_is_run_on_real_nodes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(my_store=STORE, test_my_store=SURVIVES)
    pytester.runpytest_subprocess("-n", "2", "--splitbrain-time", "12", timeout=300).assert_outcomes(passed=1)


def test_the_readme_shows_this_suite() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    assert SURVIVES.split("    outcome")[0] + "    splitbrain(MyStore)\n" in text
