"""A whole run of the reference store whose fault tools may be made to do nothing, though they answer as usual.

``python -m tests.integration.no_ops ENVIRONMENT FOLDER NEMESES planted|as-it-is SECONDS`` prints, as JSON, what a run
came to.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from harness.checkers.evidence import Evidence
from harness.cluster import Cluster
from harness.environments import base
from harness.environments.simulation.environment import SimulatedNode
from harness.environments.tools import Request, ask
from harness.experiment import Experiment
from harness.faults import clock, process, squeeze
from harness.plugins import load
from harness.recording import read_jsonl
from harness.run_directory import RunDirectory
from harness.runner import Run
from harness.targets.reference.target import Reference
from harness.verdict import Budget
from harness.workloads.register import Register

CHANGES = (process.kill, process.terminate, process.pause, process.resume, clock.skew, squeeze.squeeze)
"""What is asked of tools that changes something, and is not for a heal."""
TURN = 7.0
"""Seconds in which a nemesis has one turn."""


def _idle(run: Any) -> Any:
    """A tool that changes nothing, and answers what it would if it had."""

    async def answer(node: Any, request: Request[Any], **named: Any) -> Any:
        if request.do not in CHANGES:
            return await run(node, request, **named)
        if request.tool is process:
            return await run(node, ask(process.look))
        return {"ahead": request.given["offset"], "processes": [1]} if request.tool is clock else {"servers": 1}

    return answer


async def _nobody_leaves(self: Reference, cluster: Cluster, names: Sequence[str]) -> list[str]:
    return [name for name in await self.members(cluster) if name not in names]


@contextlib.contextmanager
def planted() -> Iterator[None]:
    """While this lasts, no tool does anything to processes, clocks and control groups, and nobody leaves a cluster."""
    with (
        mock.patch.object(base, "run_inside", _idle(base.run_inside)),
        mock.patch.object(SimulatedNode, "own_tool", _idle(SimulatedNode.own_tool)),
        mock.patch.object(Reference, "leave", _nobody_leaves),
    ):
        yield


def run(where: str, folder: Path, names: Sequence[str], each: float = TURN) -> dict[str, Any]:
    """The verdict of the evidence, its reason, and how often each nemesis was injected and proved.

    There are ``each`` seconds for each nemesis.
    """
    experiment = Experiment(
        "reference", nemeses=tuple(names), environment=where, time=each * len(names), interval=3.0, rate=100, seed=1
    )
    directory = RunDirectory.create(folder, experiment)
    environment = load("environments", where)(None, 1)
    whole = Run(
        experiment,
        environment=environment,
        target=Reference(Reference.Options()),
        workload=Register(Register.Options()),
        nemeses={name: made(made.Options()) for name in names for made in [load("nemeses", name)]},
        directory=directory,
    )
    environment.run(whole.execute())
    verdict = Evidence().check(read_jsonl(directory.history), Budget())
    faults = {name: [one["injected"], one["proved"]] for name, one in verdict.evidence["faults"].items()}
    return {"validity": verdict.validity, "reason": verdict.reason, "faults": faults}


if __name__ == "__main__":
    where, folder, names, how, each = sys.argv[1:]
    with planted() if how == "planted" else contextlib.nullcontext():
        print(json.dumps(run(where, Path(folder), names.split(","), float(each))))
