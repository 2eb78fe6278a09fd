"""What a run in another process tells of itself, and what it is without a word."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

import harness
from harness import Experiment, SplitbrainError, UsageError, isolated

EXPERIMENT = Experiment("reference", environment="simulation", time=1.0, rate=100.0)
OUTCOME = '{"verdict": {"validity": "valid"}, "directory": "d", "unsaved": "%s"}'


def says(monkeypatch: pytest.MonkeyPatch, out: str, err: str, code: int) -> None:
    """Let the other process be one that prints this and ends with that."""
    program = f"import sys; print({out!r}); print({err!r}, file=sys.stderr); sys.exit({code})"
    monkeypatch.setattr(isolated, "COMMAND", (sys.executable, "-c", program))


@pytest.mark.parametrize("after", ["", "\n", "\ngoodbye", "\n\n{}\n[1, 2\n"])
def test_the_outcome_is_the_last_line_that_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: str) -> None:
    says(monkeypatch, "hello\n{}\n" + OUTCOME % "" + after, "", 0)
    assert isolated.run_apart(EXPERIMENT, tmp_path, lambda _: None).verdict.validity == "valid"


def test_what_was_not_saved_comes_along_and_is_no_pass_of_a_seed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    says(monkeypatch, OUTCOME % "the nodes stay", "", 4)
    told = isolated.run_apart(EXPERIMENT, tmp_path, lambda _: None)
    assert (told.verdict.validity, told.directory, told.unsaved) == ("valid", "d", "the nodes stay")
    verdict, directory = isolated.run_in_a_process(EXPERIMENT, tmp_path)
    assert (verdict.validity, verdict.reason, directory) == ("unknown", "the nodes stay", Path("d"))


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_a_process_without_an_outcome_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    says(monkeypatch, "hello", "first\nsplitbrain: No module named harness", code)
    with pytest.raises(UsageError if code == 2 else SplitbrainError, match=r"^No module named harness$"):
        isolated.run_apart(EXPERIMENT, tmp_path, lambda _: None)


def test_what_a_program_is_told_names_fields(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^`image` is for nodes in containers: use `environment=docker`"):
        isolated.run_apart(replace(EXPERIMENT, image="redis"), tmp_path, lambda _: None)


def test_the_other_process_has_the_package_that_the_caller_has(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    # Other processes may be writing what they compile, under names that are gone a moment later.
    compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(harness.__file__).parent, clone / "harness", ignore=compiled)
    program = f"import sys; sys.path.insert(0, {str(clone)!r}); from harness import isolated as i; print(i.COMMAND[-1])"
    begin = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    (clone / "msgspec.py").write_text("raise SystemError('somebody imports from beside the package')")
    (clone / "harness" / "cli" / "app.py").write_text("raise SystemExit('the clone')")
    done = subprocess.run([sys.executable, "-P", "-c", begin, "doctor"], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("splitbrain: SystemExit: the clone")
