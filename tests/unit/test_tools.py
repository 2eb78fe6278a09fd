"""How fault tools are asked, what travels with them, and what the table of all tools says."""

from __future__ import annotations

import importlib
import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from harness.capability import ALWAYS, OF_STORES
from harness.environments.local import LocalEnvironment
from harness.environments.tools import ask, command, imports_of, sources_of
from harness.errors import FaultError
from harness.faults import deliver, misbehave, network, output, process
from harness.faults.tools import TOOLS, TRIED
from harness.plugins import load, names

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "harness/faults").glob("*.py") if "\nVERBS = " in path.read_text())
MOST_OF_ONE_ARGUMENT = 128 << 10
"""What the kernel takes (MAX_ARG_STRLEN)."""


def ended(argv: list[str]) -> tuple[int, str, str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_tool_answers_what_it_is_asked(tmp_path: Path) -> None:
    argv = command(sys.executable, ask(output.follow, path=str(tmp_path / "log")), "7")
    done = subprocess.run(argv, input="said\n", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["7", None]
    assert (tmp_path / "log").read_text() == "said\n"


def test_a_tool_refuses_what_it_does_not_know() -> None:
    argv = command(sys.executable, ask(network.heal))
    assert argv[6] == "heal"
    code, out, said = ended([*argv[:6], "heel", *argv[7:]])
    assert (code, out) == (1, "")
    assert said == "harness.faults.network cannot heel, only cut, heal\n"


def test_what_is_asked_wrongly_is_not_asked_at_all() -> None:
    wrong = cast("Any", ask)
    with pytest.raises(FaultError, match=r"network\.iptables cannot be asked for: it is not in VERBS of that module"):
        wrong(network.iptables)
    with pytest.raises(FaultError, match=r"network\.cut cannot be asked for so: missing a required argument: 'peers'"):
        wrong(network.cut, how="drop")
    with pytest.raises(FaultError, match=r"network\.cut cannot be asked for so: got an unexpected .* 'hwo'"):
        wrong(network.cut, peers=[], hwo="drop")
    assert ask(network.cut, [], flap=0.5).given == {"peers": [], "flap": 0.5}


WRONG = """
from harness.environments.tools import ask
from harness.environments.base import Node, run_tool
from harness.faults import network, process

async def right(node: Node) -> list[process.Seen]:
    await run_tool(node, ask(network.cut, peers=[{"addresses": ["10.0.0.1"], "direction": "in"}], how="drop"))
    return await run_tool(node, ask(process.look), timeout=3.0)

async def wrong(node: Node) -> None:
    await run_tool(node, ask(network.heel))
    await run_tool(node, ask(netwrok.heal))
    await run_tool(node, ask(network.cut, how="drop"))
    await run_tool(node, ask(network.cut, peers=[], hwo="drop"))
    await run_tool(node, ask(network.cut, peers=[], how="dorp"))
    await run_tool(node, ask(network.cut, peers=[{"adresses": [], "direction": "in"}]))
    (await run_tool(node, ask(process.look)))[0]["pdi"]
"""


def test_mypy_refuses_a_wrong_tool_function_argument_and_answer(tmp_path: Path) -> None:
    (tmp_path / "asks.py").write_text(WRONG)
    argv = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    # A copy, where there is one: it is a data base, and locked by who writes to it.
    if (known := ROOT / ".mypy_cache").is_dir():
        shutil.copytree(known, tmp_path / "cache", ignore_dangling_symlinks=True)
    argv += ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run([*argv, str(tmp_path / "asks.py")], cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    refused = {int(line.split(":")[1]) for line in errors}
    first = WRONG[: WRONG.index("async def wrong")].count("\n") + 2
    assert refused == set(range(first, WRONG.count("\n") + 1)), done.stdout + done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_all_that_a_tool_is_made_of_travels_and_runs(name: str) -> None:
    module = importlib.import_module(f"harness.faults.{name}")
    assert len(sources_of(module.__name__)) < MOST_OF_ONE_ARGUMENT
    for verb in module.VERBS:
        assert verb.__module__ == module.__name__
        assert inspect.signature(verb).return_annotation is not inspect.Signature.empty
    argv = command(sys.executable, ask(process.look))
    code, _, said = ended([*argv[:5], sources_of(module.__name__), "nothing", *argv[7:]])
    assert (code, said.startswith(f"harness.faults.{name} cannot nothing, only ")) == (1, True), said


def test_imports_are_found_however_they_are_written() -> None:
    text = """
import os, harness.faults.clock
from harness.faults import (
    disk,
    process as servers,
)
if True:
    from harness.faults.squeeze import (ROOT)
"""
    assert set(imports_of(text)) == {"os", *(f"harness.faults.{n}" for n in ("clock", "disk", "process", "squeeze"))}


def test_every_tool_of_a_fault_stands_in_the_table_and_serves_what_nemeses_need() -> None:
    served = {name for tool in TOOLS for name in tool.capabilities}
    needed = {str(need) for name in names("nemeses") for need in load("nemeses", name).needs - OF_STORES}
    assert served == needed
    listed = {tool.module.__name__.rpartition(".")[2] for tool in TOOLS}
    assert set(MODULES) - listed == {"abilities", "deliver", "fence", "leash", "output"}
    assert listed <= set(MODULES)
    # Those that depend on the kernel are tried, but for the file system, which has needs of its own.
    assert served - set(TRIED) - {"storage"} == {str(name) for name in ALWAYS}


async def test_nothing_but_a_measurement_runs_on_the_machine_of_the_clients() -> None:
    for request in (ask(misbehave.heal), ask(deliver.deliver, path="/nowhere")):
        with pytest.raises(FaultError, match="does more than measure"):
            await LocalEnvironment().measure(request)


def test_the_leash_undoes_all_that_lasts_beyond_the_servers() -> None:
    lasting = {tool.module.__name__ for tool in TOOLS if "harness.faults.resident" in imports_of(source(tool.module))}
    undone = {tool.module.__name__ for tool in TOOLS if tool.undo is not None}
    # No file system is mounted on ssh hosts.
    assert lasting - {misbehave.__name__} <= undone
    assert TOOLS[0].undo is process.kill


def source(module: Any) -> str:
    return Path(module.__file__).read_text()
