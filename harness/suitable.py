"""Do the parts of an experiment go together? Asked before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.capability import OF_STORES, Capability
from harness.environments.base import Environment, Refuses
from harness.errors import UsageError, field
from harness.experiment import Experiment
from harness.nemesis import Nemesis
from harness.surviving import compiled
from harness.target import Target
from harness.words import count
from harness.workload import Workload


def refuse_unsuitable(
    experiment: Experiment,
    environment: Environment,
    target: Target,
    workload: Workload,
    nemeses: Mapping[str, Nemesis],
) -> None:
    """Raise ``UsageError`` when these parts do not go together, before anything is started."""
    if workload.name not in target.workloads:
        supported = ", ".join(sorted(target.workloads))
        raise UsageError(f"{target.name} does not support {field('workload', workload.name)}: it supports {supported}")
    if why := target.unfit_for(workload.name):
        raise UsageError(f"{target.name}: {why}")
    if target.sizes is not None and experiment.nodes not in target.sizes:
        wanted = ", ".join(map(str, sorted(target.sizes)))
        raise UsageError(f"{target.name} runs on {wanted} nodes, not on {experiment.nodes}")
    if experiment.nodes > environment.most:
        raise UsageError(
            f"{field('nodes')} is {experiment.nodes}, but it must be at most {environment.most} with "
            f"{field('environment', environment.name)}"
        )
    if isinstance(environment, Refuses) and (why := environment.refuses(experiment.nodes, target.programs)):
        raise UsageError(why)
    compiled(target)
    for nemesis in nemeses.values():
        if why := unsuitable(nemesis, experiment, environment, target):
            raise UsageError(why)


def _why_without(target: Target, lacking: Sequence[Capability]) -> str:
    """What a target would have to be given for what it lacks, as far as that is known."""
    if never := [need for need in lacking if target.never_has(need)]:
        return f"{target.name} has no {' and no '.join(never)} with any options"
    ways = [target.able_with[need] for need in lacking if need in target.able_with]
    return f"{target.name} is set up without{', and has it with ' if ways else ''}{' and '.join(ways)}"


def unsuitable(nemesis: Nemesis, experiment: Experiment, environment: Environment, target: Target) -> str | None:
    """Why a nemesis can do nothing in an experiment; None if it can."""
    named = field("nemeses", nemesis.name)
    needs = sorted(nemesis.needs | nemesis.also_needs)
    if lacking := [need for need in needs if target.lacks(need)]:
        return f"{named} needs a target with {', '.join(lacking)}; {_why_without(target, lacking)}"
    if experiment.nodes < nemesis.least:
        return f"{named} needs at least {count(nemesis.least, 'node')}, not {experiment.nodes}"
    for need in needs:
        if need not in OF_STORES and (why := environment.lacks(need)):
            return f"{named} cannot be had with {field('environment', environment.name)}: {why}"
    return None
