"""The wheel, in a virtual environment of its own, in the folder of a person whose packages have the same names."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("harness", "targets", "workloads", "nemeses", "checkers", "findings")
SIMULATED = ("run", "reference", "--on", "simulation", "--time", "3")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment with the wheel, and with nothing else of this product.

    All workers of a suite have the same one; whoever is there first makes it.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "wheel"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            make(folder)
            (folder / "made").touch()
    return folder / "venv/bin"


def make(folder: Path) -> None:
    """Make the wheel, and an environment with it in ``venv``."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PARTS:
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source), at=folder)
    (wheel,) = folder.glob("*.whl")
    shutil.rmtree(source)
    call(sys.executable, "-m", "venv", str(folder / "venv"), at=folder)
    programs = folder / "venv/bin"
    call(str(programs / "pip"), "install", "--quiet", "--no-index", "--no-deps", str(wheel), at=folder)
    # What it depends on is here already; the link that makes this clone importable is not followed from there.
    scheme = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """The folder of a person who has packages of these names."""
    for name in PARTS[1:]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"MINE = '{name}'\nprint('imported {name}')")
    return tmp_path


def call(*command: str, at: Path) -> str:
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "imported" not in done.stdout
    return done.stdout


def test_every_command_is_there(installed: Path, own_folder: Path) -> None:
    splitbrain = str(installed / "splitbrain")
    call(splitbrain, *SIMULATED, at=own_folder)
    (run,) = (own_folder / "runs").iterdir()
    assert (run / "report.html").is_file()
    for command in (["check", str(run)], ["convert", str(run), "history.edn"], ["replay", str(run)], ["doctor"]):
        call(splitbrain, *command, at=own_folder)
    for kind in ("targets", "workloads", "nemeses", "checkers", "environments", "models", "bugs", "findings"):
        assert call(splitbrain, "list", kind, at=own_folder)
    figure = "harness.targets.reference.bugs:figure-8.json"
    bug = ("--bug", "commit-by-counting", "--timetable", figure, "--nodes", "3", "-o", "replication=raft")
    call(splitbrain, "hunt", "reference", *bug, "--seeds", "1", at=own_folder)


def test_all_that_is_no_module_comes_along(installed: Path) -> None:
    (package,) = installed.parent.glob("lib/python*/site-packages/harness")
    for name in PARTS:
        for path in (ROOT / name).rglob("*"):
            if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
                within = path.relative_to(ROOT / "harness") if name == "harness" else path.relative_to(ROOT)
                assert (package / within).is_file(), path
    assert not [name for name in PARTS[1:] if (package.parent / name).exists()]


def test_a_program_has_its_own_packages_of_these_names_beside(installed: Path, own_folder: Path) -> None:
    (own_folder / "program.py").write_text(
        "from harness import Experiment, run\n"
        "from targets import MINE\n"
        "import workloads, nemeses, checkers\n"
        "outcome = run(Experiment('reference', environment='simulation', time=2.0))\n"
        "print(MINE, workloads.MINE, nemeses.MINE, checkers.MINE, outcome.verdict.validity)\n"
    )
    done = subprocess.run(
        [str(installed / "python"), "program.py"],
        cwd=own_folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "targets workloads nemeses checkers valid", done.stderr


@pytest.mark.needs("local")
def test_nodes_run_what_the_wheel_has(installed: Path, own_folder: Path) -> None:
    words = ["run", "reference", "--on", "local", "--time", "3"]
    assert call(str(installed / "splitbrain"), *words, at=own_folder).startswith("valid")
