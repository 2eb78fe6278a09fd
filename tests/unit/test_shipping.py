"""What a run ships to nodes: as files for where there are none, and as folders for where these are."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from harness.errors import MissingError
from harness.shipping import folders, packed
from harness.targets.reference.target import Reference

ROOT = Path(__file__).parents[2]


def test_what_the_reference_store_ships_runs_elsewhere_with_nothing_else(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(Reference.ships, "below/"))) as tar:
        entries = tar.getmembers()
        tar.extractall(tmp_path, filter="data")
    assert {(entry.uid, entry.gid, entry.mode) for entry in entries} == {(0, 0, 0o644)}
    sources = {f"harness/{path.relative_to(ROOT)}" for path in (ROOT / "targets/reference").rglob("*.py")}
    parents = {"harness/__init__.py", "harness/targets/__init__.py"}
    assert {entry.name.removeprefix("below/") for entry in entries} == {*sources, *parents}
    command = [sys.executable, "-S", "-m", "harness.targets.reference.server", "--help"]
    environment = {"PYTHONPATH": str(tmp_path / "below"), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "one node of the splitbrain reference store" in done.stdout


def test_a_module_is_shipped_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alone.py").write_text("ALONE = 1")
    (tmp_path / "other.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(packed(["alone"]))) as tar:
        assert tar.getnames() == ["alone.py"]
    assert folders(["alone", "harness.report", "harness.faults"]).split(":") == [str(tmp_path), str(ROOT)]


@pytest.mark.parametrize("package", ["nothing_like_this", "harness.nothing", "nothing.like.this"])
def test_what_is_not_there_is_missing(package: str) -> None:
    for use in (folders, packed):
        with pytest.raises(MissingError, match=f"there is no Python package {package} here"):
            use([package])
