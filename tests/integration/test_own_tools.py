"""Nemeses of a person's own, with a tool of their own beside them, as ARCHITECTURE.md says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).parents[2]
TOOL = re.search(r"```python\n(\"\"\"Leave the servers.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.DOTALL)
NEMESIS = '''
"""Servers that may have next to no files and connections open."""


import descriptors
from harness.environments.base import run_tool
from harness.environments.tools import ask
from harness.nemesis import Layer, Nemesis, Proof

LIMITS = "cd /proc; for one in [0-9]*; do [ $one = 1 ] || grep -H 'open files' $one/limits; done 2>/dev/null"


class FewFiles(Nemesis):
    """Leave every server 20 descriptors."""


    name = "few-files"
    needs = frozenset()
    layer = Layer.RESOURCE

    def __init__(self, options):
        self._before = {}

    def decks(self, zones):
        return {}

    def plan(self, rng, zones, dealt):
        return {"node": rng.choice(list(zones))}

    async def inject(self, cluster, target, plan):
        node = cluster.node(plan["node"])
        before = await limits(node)
        found = await run_tool(node, ask(descriptors.leave, count=20))
        self._before[node.name] = max(found.values())
        return {"said": f"20 files: {node.name}", "node": node.name, "before": before}

    async def prove(self, cluster, target, done, seconds):
        during = await limits(cluster.node(done["node"]))
        holds = 20 in during and 20 not in done["before"]
        return Proof("the limits of all processes of the node", done["before"], during, holds)

    async def heal(self, cluster, target):
        for name, count in self._before.items():
            await run_tool(cluster.node(name), ask(descriptors.leave, count=count))
        left = {name: await limits(cluster.node(name)) for name in self._before}
        self._before.clear()
        return {"left": left}


async def limits(node):
    done = await node.exec(["sh", "-c", LIMITS])
    return [int(line.split()[-3]) for line in done.text.splitlines()]
'''


def run(splitbrain: Command, folder: Path, tool: str) -> subprocess.CompletedProcess[str]:
    (folder / "descriptors.py").write_text(tool)
    (folder / "few_files.py").write_text(NEMESIS)
    # One fault, which lasts longer than a proof of it may take.
    words = ["reference", "--on", "local", "--time", "10", "--interval", "5", "--seed", "1", "--format", "json"]
    return splitbrain("run", *words, "--nemesis", "./few_files.py:FewFiles", "--runs", "r")


def tool() -> str:
    assert TOOL is not None
    return TOOL.group(1)


@pytest.mark.needs("local")
def test_the_fault_of_a_tool_of_ones_own_is_proved_and_healed(splitbrain: Command, tmp_path: Path) -> None:
    done = run(splitbrain, tmp_path, tool())
    assert done.returncode == 0, done.stdout + done.stderr
    faults = json.loads(done.stdout)["verdict"]["evidence"]["faults"]["few-files"]
    assert faults["injected"] == faults["proved"] > 0
    (history,) = tmp_path.glob("r/*/history.jsonl")
    healed = [event["value"] for line in history.read_text().splitlines() for event in [json.loads(line)]
              if event["f"] in ("heal", "stop-few-files") and event["type"] != "invoke"]  # fmt: skip
    assert healed
    assert "20" not in re.findall(r"\d+", json.dumps(healed))


@pytest.mark.needs("local")
@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("import resource", "import resource, msgspec", "imports msgspec, which a node need not have"),
        ("VERBS = (leave,)", "VERBS = ()", "descriptors.leave cannot be asked for: it is not in VERBS of that module"),
        ("count: int", "number: int", "descriptors.leave cannot be asked for so: "),
        ("before = {}", "raise SystemExit('there is no such thing')", "descriptors failed on n"),
    ],
)
def test_a_tool_that_cannot_be_had_is_said_to_be_so(
    splitbrain: Command, tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert before in tool()
    done = run(splitbrain, tmp_path, tool().replace(before, after))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert said in json.dumps(json.loads(done.stdout)["verdict"])
