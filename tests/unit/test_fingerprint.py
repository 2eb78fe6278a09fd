"""The fingerprint of code: what it depends on, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import fingerprint as module
from harness.experiment import Experiment
from harness.fingerprint import fingerprint
from harness.plugins import packages


def test_it_changes_with_the_source_of_whatever_plugs_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"harness", *(f"harness.{kind}" for kind in ("targets", "workloads", "nemeses", "checkers"))} <= set(
        packages()
    )
    (tmp_path / "my_plugins/inner").mkdir(parents=True)
    (tmp_path / "my_plugins/__init__.py").touch()
    (deep := tmp_path / "my_plugins/inner/store.py").write_text("LIMIT = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "packages", lambda: ["my_plugins"])
    before = fingerprint(Experiment("reference"))
    assert fingerprint(Experiment("reference", nodes=5)) == before
    deep.write_text("LIMIT = 2")
    assert fingerprint(Experiment("reference")) != before


@pytest.mark.parametrize(
    "experiment",
    [
        lambda here: Experiment(f"{here}/mine.py:Store"),
        lambda here: Experiment("reference", workload=f"{here}/mine.py:Load"),
        lambda here: Experiment("reference", nemeses=("kill", f"{here}/mine.py:Fault")),
        lambda here: Experiment("reference", checkers=(f"{here}/mine.py:Checker",)),
        lambda here: Experiment("reference", options={"merge": "mine_too:merge"}),
    ],
)
def test_it_changes_with_a_persons_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: Callable[[Path], Experiment]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("mine.py", "mine_too.py"):
        (tmp_path / name).write_text("A = 1")
    before = fingerprint(experiment(tmp_path))
    assert fingerprint(experiment(tmp_path)) == before
    assert before != fingerprint(Experiment("reference"))
    (tmp_path / "mine_too.py").write_text("A = 2")  # named, or beside what is
    assert fingerprint(experiment(tmp_path)) != before


def test_what_names_no_code_is_no_part_of_it() -> None:
    plain = fingerprint(Experiment("reference"))
    for value in ("root@db1:22", "db1:22", "a.b:c", ":", "n1:", "__main__:f", "nowhere.py:Class"):
        assert fingerprint(Experiment("reference", options={"hosts": value})) == plain
