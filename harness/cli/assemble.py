"""From names to parts: loads the plug-ins that an experiment names, and refuses what does not go together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from harness.errors import MissingError, UsageError
from harness.experiment import Experiment
from harness.judging import load_checkers
from harness.options import Fits
from harness.plugins import distribute, load, names
from harness.suitable import refuse_unsuitable, unsuitable
from harness.timetable import refuse_misplanned

CHAOS = "chaos"
"""Stands for every nemesis that there is and that the environment and the target can do, overlapping."""


@dataclass
class Parts:
    """What a run is made of, each with its options. ``optional`` nemeses are left out where they cannot be had: chaos
    takes all that there are.
    """

    target: Any
    workload: Any
    nemeses: dict[str, Any]
    optional: frozenset[str] = frozenset()
    place: Any = None
    """The options of the environment, if it has some."""

    def environment(self, experiment: Experiment) -> Any:
        """The environment that the experiment names."""
        plugin = load("environments", experiment.environment)
        if self.place is None:
            return plugin(experiment.image, experiment.seed)
        return plugin(experiment.image, experiment.seed, self.place)

    def suit(self, experiment: Experiment, environment: Any) -> None:
        """Leave out optional nemeses that are impossible here. Raises ``UsageError`` where parts do not go together."""
        for name in sorted(self.optional):
            if unsuitable(self.nemeses[name], experiment, environment, self.target):
                del self.nemeses[name]
        self.optional &= self.nemeses.keys()
        refuse_unsuitable(experiment, environment, self.target, self.workload, self.nemeses)


def assemble(experiment: Experiment) -> Parts:
    """Load and configure the parts. Raises ``UsageError`` for an unknown name or a wrong option."""
    load_checkers(experiment.checkers)
    _refuse_namesakes(experiment)
    owners, places = _owners(experiment), _places(experiment)
    options = distribute(experiment.options, owners | places, experiment.node_names)
    made = {owner: plugin(options[owner]) for owner, plugin in owners.items()}
    for owner, plugin in made.items():
        if isinstance(plugin, Fits) and (why := plugin.misfit(experiment.zone_of)):
            raise UsageError(f"{why} ({owner})")
    first, second, *rest = made.values()
    found = {nemesis.name: nemesis for nemesis in rest}
    if experiment.timetable is not None:
        idle = [name for name in experiment.nemeses if name != CHAOS and name not in _nemeses(experiment)[0]]
        if idle:
            raise UsageError(f"--nemesis names {', '.join(idle)}, but the timetable has no fault of that")
        refuse_misplanned(
            experiment.timetable,
            found,
            experiment.node_names,
            experiment.time,
            experiment.concurrency,
            getattr(second, "functions", None),
        )
    place = next((options[owner] for owner in places), None)
    asked, every = _nemeses(experiment)
    return Parts(first, second, found, frozenset(every) - frozenset(asked), place)


def narrowed(experiment: Experiment) -> Experiment:
    """An experiment with a timetable, without the nemeses that are not in it, and without what only they declare."""
    declared = {
        field
        for plugin in (*_owners(experiment).values(), *_places(experiment).values())
        for field in plugin.Options.__struct_fields__
    }
    options = {name: value for name, value in experiment.options.items() if name in declared}
    return replace(experiment, nemeses=tuple(_nemeses(experiment)[0]), options=options)


def _nemeses(experiment: Experiment) -> tuple[list[str], list[str]]:
    """The nemeses that are asked for, by the names to load them by, and those that are taken where they can be had."""
    asked = [name for name in experiment.nemeses if name != CHAOS]
    if experiment.timetable is not None:
        # A timetable knows a nemesis by its own name, and whoever has it in a file names the file as well.
        files = {load("nemeses", name).name: name for name in asked}
        return [files.get(name, name) for name in experiment.timetable.names], []
    return asked, names("nemeses") if CHAOS in experiment.nemeses else []


def _refuse_namesakes(experiment: Experiment) -> None:
    """Raise ``UsageError`` for two nemeses of one name: neither history nor verdict could tell them apart."""
    asked, every = _nemeses(experiment)
    named: dict[str, str] = {}
    for name in dict.fromkeys([*asked, *every]):
        called = load("nemeses", name).name
        if called in named:
            raise UsageError(
                f"--nemesis has two nemeses that are called {called}, {named[called]} and {name}: "
                "give one of the classes another `name`"
            )
        named[called] = name


def _owners(experiment: Experiment) -> dict[str, Any]:
    """The plug-ins that options may belong to, by what they are: the target, the workload, the nemeses."""
    target, workload = load("targets", experiment.target), load("workloads", experiment.workload)
    asked, every = _nemeses(experiment)
    nemeses = {f"nemesis {name}": load("nemeses", name) for name in dict.fromkeys([*asked, *every])}
    return {f"target {target.name}": target, f"workload {workload.name}": workload, **nemeses}


def _places(experiment: Experiment) -> dict[str, Any]:
    """The environment, if it has options."""
    if experiment.environment not in names("environments"):
        return {}
    plugin = load("environments", experiment.environment)
    return {f"environment {plugin.name}": plugin} if hasattr(plugin, "Options") else {}


def assemble_workload(experiment: Experiment) -> Any:
    """The workload alone, with its options, which is enough to judge a run. Raises ``UsageError``."""
    workload = load("workloads", experiment.workload)
    mine = {name: text for name, text in experiment.options.items() if name in workload.Options.__struct_fields__}
    owner = f"workload {workload.name}"
    return workload(distribute(mine, {owner: workload})[owner])


def choose_environment(name: str, image: str | None) -> tuple[str, str]:
    """Which environment to use, and why. Raises ``MissingError`` when it cannot be had here."""
    if image is not None and name not in ("auto", "docker"):
        raise UsageError(f"--image is for nodes in containers: use --on docker, not --on {name}")
    if name != "auto":
        why = load("environments", name).missing(image)
        if why is not None:
            raise MissingError(why)
        return name, "as asked for"
    if image is not None:
        return choose_environment("docker", image)[0], "since --image was given"
    reasons = {}
    for candidate in ("docker", "local"):
        reasons[candidate] = load("environments", candidate).missing(image)
        if reasons[candidate] is None:
            why = "an engine answers and has the node image" if candidate == "docker" else reasons["docker"]
            return candidate, str(why)
    raise MissingError("; ".join(f"{candidate}: {reason}" for candidate, reason in reasons.items()))


def check_environment_name(name: str) -> None:
    """Raise ``UsageError`` for an environment that does not exist."""
    if name != "auto" and name not in names("environments"):
        raise UsageError(f"there is no environment named {name!r}: there are auto, {', '.join(names('environments'))}")
