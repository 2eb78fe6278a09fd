"""The catalogue of findings: reading them, what is wrong with one, and whether an outcome is as known."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from benchmarks.findings import PAGE, keep, page
from harness import catalogue
from harness.assembly import assemble
from harness.catalogue import Reproduction, Trial, difference, find, names, read_finding
from harness.checkers.witness import anomaly
from harness.errors import SplitbrainError, UsageError
from harness.experiment import Experiment
from harness.history import from_events
from harness.judging import checkers_of
from harness.run_directory import RunDirectory
from harness.trust import code_of
from harness.verdict import Validity, Verdict, combine

Command = Callable[..., "subprocess.CompletedProcess[str]"]

OWN = """\
store = "a lamp"
versions = ["1.0"]
sentence = '''It goes
out.'''

[source]
title = "On lamps"
author = "Somebody"
year = 2026
address = "https://example.org/lamps"

[experiment]
target = "reference"
environment = "simulation"
time = 3
nemeses = ["partition"]
options = { replication = "primary-backup", acknowledge = "async", partition = "primary", keys = 2 }

[expect]
checker = "linearizable"
kinds = ["lost write", "stale read"]

[control]
seed = 7
without = ["partition"]
options = { acknowledge = "sync" }
"""


def own(*changes: tuple[str, str], name: str = "own.toml") -> catalogue.Finding:
    text = OWN
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return read_finding("own", name, text.encode())


def test_a_control_is_the_experiment_with_what_it_says_itself() -> None:
    finding = own()
    assert finding.sentence == "It goes out."
    options = {"replication": "primary-backup", "acknowledge": "async", "partition": "primary", "keys": "2"}
    assert finding.experiment == Experiment(
        "reference", environment="simulation", time=3.0, nemeses=("partition",), options=options
    )
    changed = {"replication": "primary-backup", "acknowledge": "sync", "keys": "2"}
    assert finding.control == Experiment(
        "reference", environment="simulation", time=3.0, nemeses=("partition",), options=changed, seed=7
    )
    assert finding.difference == "seed=7, acknowledge=sync, no partition"
    assert finding.measured is None


def test_what_a_control_has_otherwise_is_told() -> None:
    one = Experiment("lamp", nemeses=("kill",), options={"kill": "all"})
    assert difference(one, Experiment("lamp")) == "no nemeses"
    assert difference(one, Experiment("lamp", nemeses=("kill", "pause"), options={"kill": "all"})) == (
        "nemeses=kill,pause"
    )
    assert difference(one, Experiment("lamp", nemeses=("kill",), time=3.0)) == "time=3, no kill"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("store =", "stores =", "own.toml is not a finding: object contains unknown field 'stores'"),
        ('store = "a lamp"\n', "", "own.toml is not a finding: object missing required field 'store'"),
        ("year = 2026", 'year = "2026"', "own.toml is not a finding: expected `int`, got `str` (in source.year)"),
        ("https://", "javascript:", "own.toml is not a finding: expected `str` matching regex"),
        ("[source]", "[source", "own.toml is not TOML: "),
        ("time = 3", "tiem = 3", "own.toml, experiment: there is no field 'tiem': did you mean time?"),
        ("time = 3", "time = -3", "own.toml, experiment: time is -3"),
        ("time = 3", 'time = "3"', "own.toml, experiment: expected `float`, got `str` (in time)"),
        ("time = 3", 'unnamed = ["x"]', "own.toml, experiment: there is no field 'unnamed'"),
        ("keys = 2", "keys = [2]", "own.toml, experiment: the option keys must be a text, a number, true or false"),
        ("seed = 7", "sead = 7", "own.toml, control: there is no field 'sead': did you mean seed?"),
        ('["partition"]\noptions = { acknowledge', '["partitions"]\noptions = { acknowledge', "must be a list of"),
        ('seed = 7\nwithout = ["partition"]\noptions = { acknowledge = "sync" }\n', "", "does not"),
        ("kinds =", "kind =", "own.toml is not a finding: object contains unknown field 'kind' (in expect)"),
        ("[control]", "[measured]\nof = 1\nseen = 2\npassed = 0\n[control]", "counts more than there were"),
    ],
)
def test_a_file_that_is_no_finding_is_refused_in_a_sentence(before: str, after: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        own((before, after))
    assert said.replace("`", "'") in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_finding_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finding named 'etcd-stale-reed': did you mean etcd-stale-read"):
        find("etcd-stale-reed")
    with pytest.raises(UsageError, match=r"nowhere\.toml cannot be read: No such file"):
        find(str(tmp_path / "nowhere.toml"))
    (tmp_path / "odd.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"odd\.toml is not text in UTF-8"):
        find(str(tmp_path / "odd.toml"))


@pytest.mark.parametrize("name", names())
def test_every_finding_that_comes_along_can_be_run(name: str) -> None:
    finding = find(name)
    assert finding.difference
    assert finding.expect.kinds
    # Its parts and their options, and who judges; whether this machine has the store is another question.
    for experiment in (finding.experiment, finding.control):
        assert not code_of(experiment)
        assert experiment.time <= 60
        assert finding.expect.checker in checkers_of(experiment, assemble(experiment).workload)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python -m benchmarks.findings"


def test_counts_are_put_at_the_end_of_a_file_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    for seen in (1, 3):
        keep(path, seen, 2)
        finding = find(str(path))
        assert finding.name == "own"
        assert finding.measured == catalogue.Measured(of=3, seen=seen, passed=2)
    assert path.read_text().startswith(OWN)
    assert path.read_text().count("[measured]") == 1


def part(validity: Validity, *kinds: str, reason: str = "", **evidence: Any) -> Verdict:
    nothing = from_events([]).operations()
    anomalies = [anomaly(nothing, [], kind, "It went out.", []) for kind in kinds]
    return Verdict(validity, reason, anomalies, evidence)


@pytest.mark.parametrize(
    ("parts", "as_known", "what"),
    [
        ({"linearizable": part("invalid", "stale read", "odd")}, True, "stale read"),
        ({"linearizable": part("invalid", "odd", anomaly_types=["lost write"])}, True, "lost write"),
        # Found is found, whatever else is not known.
        ({"linearizable": part("invalid", "stale read"), "evidence": part("unknown")}, True, "stale read"),
        ({"linearizable": part("invalid", "odd")}, False, "something else: odd (linearizable)"),
        (
            {"linearizable": part("valid"), "crashes": part("invalid", "panic")},
            False,
            "something else: panic (crashes)",
        ),
        ({"linearizable": part("valid")}, False, "valid"),
        ({"linearizable": part("valid"), "evidence": part("unknown", reason="vacuous")}, None, "evidence: vacuous"),
        (
            {"linearizable": part("unknown", reason="no time"), "crashes": part("invalid", "panic")},
            None,
            "unknown: no time",
        ),
        ({"lock": part("valid")}, None, "unknown"),
    ],
)
def test_an_experiment_shows_what_is_expected_or_not(
    parts: dict[str, Verdict], as_known: bool | None, what: str
) -> None:
    came, told = own().judge("experiment", combine(parts))
    assert came is as_known
    assert what in told


def test_without_kinds_any_anomaly_of_the_checker_is_meant() -> None:
    finding = own(('kinds = ["lost write", "stale read"]\n', ""))
    assert finding.judge("experiment", combine({"linearizable": part("invalid", "odd")})) == (True, "odd")
    none = combine({"linearizable": part("invalid", reason="it is odd")})
    assert finding.judge("experiment", none) == (True, "linearizable: it is odd")


@pytest.mark.parametrize(
    ("verdict", "as_known", "what"),
    [
        (combine({"linearizable": part("valid")}), True, "valid"),
        (combine({"crashes": part("invalid", "panic")}), False, "invalid: panic (crashes)"),
        (combine({"evidence": part("unknown", reason="vacuous")}), None, "unknown: evidence: vacuous"),
    ],
)
def test_a_control_passes_only_where_it_is_valid(verdict: Verdict, as_known: bool | None, what: str) -> None:
    assert own().judge("control", verdict) == (as_known, what)


def trial(role: Literal["experiment", "control"], as_known: bool | None) -> Trial:
    return Trial(role, 0, as_known, "", "unknown")


@pytest.mark.parametrize(
    ("experiments", "controls", "code"),
    [
        ([True], [True], 0),
        ([False, True], [True, True], 0),  # it shows in some runs
        ([None, True], [True, True], 0),
        ([False, False], [True, True], 1),
        ([False, None], [True, True], 3),
        ([True], [False], 1),
        ([True, True], [True, None], 3),
        ([None], [False], 1),
        ([None], [None], 3),
        ([False], [None], 1),
    ],
)
def test_both_have_to_come_out_as_known(experiments: list[bool | None], controls: list[bool | None], code: int) -> None:
    trials = [trial("experiment", one) for one in experiments] + [trial("control", one) for one in controls]
    came = Reproduction(own(), trials)
    assert came.exit_code == code
    assert came.as_known is {0: True, 1: False, 3: None}[code]


def test_a_checker_that_does_not_judge_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    finding = own(('checker = "linearizable"', 'checker = "linearisable"'))
    with pytest.raises(UsageError, match="'linearisable', which does not judge its experiment: did you mean linear"):
        catalogue.reproduce(finding, directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_code_that_a_file_names_is_not_loaded_unless_it_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'loaded')!r}, 'w')")
    finding = own(('"reference"', f'"{tmp_path / "mine.py"}:Store"'))
    with pytest.raises(UsageError, match="names code to be loaded"):
        catalogue.reproduce(finding, directory=tmp_path)
    assert not (tmp_path / "loaded").exists()


def test_a_run_that_breaks_is_not_conclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import session

    def breaks(*_: Any, **__: Any) -> None:
        raise SplitbrainError("the lamp is broken")

    monkeypatch.setattr(session, "run", breaks)
    came = catalogue.reproduce(own(), directory=tmp_path)
    assert [(one.as_known, one.what) for one in came.trials] == [(None, "it broke: the lamp is broken")] * 2
    assert came.exit_code == 3


def test_the_seeds_follow_one_another(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    finding = own(("seed = 7\n", "time = 2\n"))
    came = catalogue.reproduce(
        finding, 2, tmp_path, begins=lambda role, experiment: told.append((role, experiment.seed))
    )
    assert told == [("experiment", 0), ("control", 0), ("experiment", 1), ("control", 1)]
    for one in came.trials:
        assert RunDirectory(Path(one.directory)).load_experiment().seed == one.seed
        assert Path(one.report).is_file()
        assert f"--seed {one.seed}" in one.again


@pytest.mark.parametrize("name", ["reference-async-failover", "reference-stale-read"])
def test_a_finding_is_reproduced_by_one_command(splitbrain: Command, tmp_path: Path, name: str) -> None:
    done = splitbrain("reproduce", name, "--directory", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{name}: {find(name).sentence}"
    assert lines[2].startswith("experiment, seed 0: as known: ")
    assert lines[4].startswith(f"control ({find(name).difference}), seed 0: as known: valid")
    assert lines[-1] == "reproduced: shown by 1 of 1 run, passed by 1 of 1 control"
    assert Path(lines[3].strip()).is_file()


def test_a_file_of_ones_own_is_run_as_well_and_told_to_scripts(splitbrain: Command, tmp_path: Path) -> None:
    # A store that is right does not show what is expected of a wrong one.
    right = OWN.replace('"async"', '"semi-sync"').replace('nemeses = ["partition"]', "nodes = 3")
    right = right.replace('partition = "primary", ', "").replace('without = ["partition"]\n', "")
    (tmp_path / "own.toml").write_text(right)
    done = splitbrain("reproduce", str(tmp_path / "own.toml"), "--format", "json", "--directory", str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["finding"], said["reproduced"]) == ("own", False)
    assert (said["experiment"]["as_known"], said["experiment"]["count"]) == (False, 0)
    assert (said["control"]["as_known"], said["control"]["count"]) == (True, 1)
    (run,) = said["experiment"]["runs"]
    assert (run["seed"], run["validity"], run["what"]) == (0, "valid", "valid")
    assert (Path(run["directory"]) / "verdict.json").is_file()


def test_what_cannot_be_reproduced_is_said_in_a_sentence(splitbrain: Command, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN.replace("keys = 2", "kyes = 2"))
    for asked, said in (
        ("reference-asink-failover", "did you mean reference-async-failover?"),
        (str(tmp_path / "own.toml"), "kyes"),
        (str(tmp_path / "none.toml"), "cannot be read"),
    ):
        done = splitbrain("reproduce", asked)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert splitbrain("reproduce", "reference-stale-read", "--runs", "0").returncode == 2


def test_findings_are_listed(splitbrain: Command) -> None:
    done = splitbrain("list", "findings")
    assert done.returncode == 0, done.stderr
    rows = json.loads(splitbrain("list", "findings", "--format", "json").stdout)
    assert [row["name"] for row in rows] == names()
    for row in rows:
        assert row["name"] in done.stdout
        assert row["reproduced by"] in done.stdout
