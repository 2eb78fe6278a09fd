"""Dependencies point one way: who may import whom."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from harness.cli.wording import OPTIONS
from harness.environments.tools import imports_of
from harness.plugins import names

ROOT = Path(__file__).parents[2]
RECORDED = {
    "harness.columns",
    "harness.errors",
    "harness.operation",
    "harness.packed",
    "harness.history",
    "harness.periods",
    "harness.replication",
    "harness.roles",
    "harness.verdict",
    "harness.witness",
    "harness.words",
    "harness.writes",
}
"""The part of the engine that knows histories and verdicts only."""

RULES = {
    "checkers": {*RECORDED, "harness.checkers"},
    "workloads": {
        *RECORDED,
        "harness.options",
        "harness.generator",
        "harness.workload",
        "harness.checkers",
        "harness.workloads",
    },
    "nemeses": {
        *RECORDED,
        "harness.options",
        "harness.capability",
        "harness.nemesis",
        "harness.cluster",
        "harness.target",
        "harness.environments.base",
        "harness.environments.tools",
        "harness.faults",
        "harness.nemeses",
    },
    "targets": {
        "harness.capability",
        *RECORDED,
        "harness.options",
        "harness.cluster",
        "harness.target",
        "harness.environments.base",
        "harness.environments.tools",
        "harness.faults.process",
        "harness.targets",
    },
}
OURS = ("harness", *RULES)
"""The product's packages. Those of plug-ins can be imported by their own names from a clone, and must not be."""


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in OURS}


def allowed(name: str, rule: set[str]) -> bool:
    return any(name == one or name.startswith(one + ".") or one.startswith(name + ".") for one in rule)


@pytest.mark.parametrize("package", sorted(RULES))
def test_plugins_reach_only_what_they_may(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        wrong = {name for name in imports(path) if not allowed(name, RULES[package])}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_the_engine_reaches_plugins_only_through_entry_points() -> None:
    for path in (ROOT / "harness").rglob("*.py"):
        wrong = {name for name in imports(path) if name.removeprefix("harness.").split(".")[0] in RULES}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


INSIDE = ("harness.faults", "harness.targets.reference")
MORE = {"harness/faults/mount.py": {"mfusepy"}}
"""What a module that runs inside a node needs beside the standard library: it is run where that is installed."""


def test_the_engine_knows_of_no_command_line() -> None:
    for path in (ROOT / "harness").rglob("*.py"):
        names = imports(path) if "cli" not in path.parts else set()
        assert not {name for name in names if name.startswith("harness.cli")}, path


def test_the_report_and_the_console_do_not_know_each_other() -> None:
    for here, there in (("report", "console"), ("console", "report")):
        for path in (ROOT / "harness" / here).rglob("*.py"):
            assert not {name for name in imports(path) if name.startswith(f"harness.{there}")}, path


def test_anomalies_are_built_in_one_way() -> None:
    """So that each has its operations in order, and the faults meanwhile."""
    for path in [file for folder in ("checkers", "harness", "tests/own") for file in (ROOT / folder).rglob("*.py")]:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        made = any(isinstance(func, ast.Name) and func.id == "Anomaly" for func in calls)
        assert made == (path == ROOT / "checkers/witness.py"), path


def strings(path: Path) -> set[str]:
    """What a module says in its code: docstrings, and the like after names, are left out."""
    tree = ast.parse(path.read_text())
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in said]
    return {node.value for node in constants if isinstance(node.value, str)}


def test_the_engine_names_no_store() -> None:
    """A path is put together from words as well, so that each counts; and so does what is no module."""
    stores = re.compile(rf"\b(targets\.\w+|{'|'.join(names('targets'))})\b", re.IGNORECASE)
    for path in (ROOT / "harness").rglob("*"):
        if not path.is_file() or "__pycache__" in path.parts or path == ROOT / "harness/experiments/modes.py":
            continue  # the modes that are compared are those of the bundled store
        texts = strings(path) if path.suffix == ".py" else path.read_text().splitlines()
        wrong = {text for text in texts if stores.search(text)}
        assert not wrong, f"{path.relative_to(ROOT)} says {wrong}"


def test_the_engine_speaks_of_fields_and_not_of_options() -> None:
    """Only what prints a command has the command's options."""
    options = re.compile(rf"(^|[ (])({'|'.join(OPTIONS.values())})\b(?!-)")
    commands = {ROOT / "harness/experiment.py", ROOT / "targets/reference/bugs/bug.py"}
    for folder in ("harness", *RULES):
        for path in {*(ROOT / folder).rglob("*.py")} - commands:
            wrong = {text for text in strings(path) if options.search(text)} if "cli" not in path.parts else set()
            assert not wrong, f"{path.relative_to(ROOT)} says {wrong}"


def test_what_runs_inside_a_node_needs_only_the_standard_library() -> None:
    inside = [*(ROOT / "harness/faults").rglob("*.py")]
    inside += [p for p in (ROOT / "targets/reference").rglob("*.py") if p.name not in ("target.py", "client.py")]
    used = {}
    for path in inside:
        module = str(path.relative_to(ROOT))
        names = {name for name in imports_of(path.read_text()) if not name.startswith(INSIDE)}
        if foreign := {name.partition(".")[0] for name in names} - sys.stdlib_module_names:
            used[module] = foreign
    assert used == MORE
