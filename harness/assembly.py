"""From names to parts: loads the plug-ins that an experiment names, and refuses what does not go together."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from harness.environments.base import Environment
from harness.environments.programs import search_path
from harness.errors import MissingError, UsageError, field
from harness.experiment import Experiment
from harness.judging import load_checkers
from harness.nemesis import Nemesis
from harness.options import Part, Plugin, options_of
from harness.own import CHAOS, Own, class_of
from harness.plugins import distribute, has_ended, is_file, load, names
from harness.suitable import refuse_unsuitable, unsuitable
from harness.target import Target
from harness.timetable import refuse_misplanned
from harness.verdict import Checker
from harness.workload import Workload

P = TypeVar("P", bound=Part)

NOTHING: Final = Own()
"""Every part by its name."""
ALL: Final = "all"
"""What is named in place of a workload for all that the target supports."""


@dataclass
class Parts:
    """What a run is made of, each with its options. ``optional`` nemeses are left out where they cannot be had: chaos
    takes all that there are.
    """

    target: Target
    workload: Workload
    nemeses: dict[str, Nemesis]
    checkers: dict[str, Checker]
    """Those that were asked for beside the workload's."""
    optional: frozenset[str] = frozenset()
    place: msgspec.Struct | None = None
    """The options of the environment, if it has some."""

    def environment(self, experiment: Experiment) -> Environment:
        """The environment that the experiment names."""
        return load("environments", experiment.environment)(experiment.image, experiment.seed, self.place)

    def suit(self, experiment: Experiment, environment: Environment) -> None:
        """Leave out optional nemeses that are impossible here. Raises ``UsageError`` where parts do not go together."""
        for name in sorted(self.optional):
            if unsuitable(self.nemeses[name], experiment, environment, self.target):
                del self.nemeses[name]
        self.optional &= self.nemeses.keys()
        refuse_unsuitable(experiment, environment, self.target, self.workload, self.nemeses)


def assemble(experiment: Experiment, own: Own = NOTHING) -> Parts:
    """Load and configure the parts, some of them perhaps a program's ``own``.

    Raises ``UsageError`` for an unknown name, a wrong option, and an experiment of objects that are not here.
    """
    if experiment.unnamed and not own.objects:
        raise UsageError(f"this experiment cannot be run from its description: {'; '.join(experiment.unnamed)}")
    checkers = load_checkers(experiment.checkers, own)
    loaded = _loaded(experiment, own)
    _refuse_namesakes(loaded.nemeses)
    options = distribute(experiment.options, loaded.owners() | _place(experiment), experiment.node_names)
    target = _made(loaded.target, options[_owner("target", loaded.target)])
    workload = _made(loaded.workload, options[_owner("workload", loaded.workload)])
    nemeses = {name: _made(part, options[f"nemesis {name}"]) for name, part in loaded.nemeses.items()}
    owned: dict[str, Part] = {_owner("target", target): target, _owner("workload", workload): workload}
    owned |= {f"nemesis {name}": nemesis for name, nemesis in nemeses.items()}
    for owner, part in owned.items():
        if why := part.misfit(experiment.zone_of):
            raise UsageError(f"{why} ({owner})")
    by_own_name = {nemesis.name: nemesis for nemesis in nemeses.values()}
    asked, every = _nemeses(experiment, own)
    if experiment.timetable is not None:
        idle = [name for name in experiment.nemeses if name != CHAOS and name not in asked]
        if idle:
            raise UsageError(f"{field('nemeses')} names {', '.join(idle)}, but the timetable has no fault of that")
        refuse_misplanned(
            experiment.timetable,
            by_own_name,
            experiment.node_names,
            experiment.time,
            experiment.concurrency,
            workload.functions,
        )
    place = next((options[owner] for owner in _place(experiment)), None)
    return Parts(target, workload, by_own_name, checkers, frozenset(every) - frozenset(asked), place)


def _made(part: P | type[P], options: msgspec.Struct) -> P:
    """A class made with its options; what was made already has its own."""
    try:
        return part(options) if isinstance(part, type) else part
    except SystemExit as end:
        raise has_ended(end) from None


def narrowed(experiment: Experiment) -> Experiment:
    """An experiment with a timetable, without the nemeses that are not in it, and without what only they declare."""
    declared = _declared(experiment, NOTHING)
    options = {name: value for name, value in experiment.options.items() if name in declared}
    return replace(experiment, nemeses=tuple(_nemeses(experiment, NOTHING)[0]), options=options)


def _declared(experiment: Experiment, own: Own) -> set[str]:
    """The options that the parts of an experiment have."""
    owners = _loaded(experiment, own).owners() | _place(experiment)
    return {name for plugin in owners.values() for name in plugin.Options.__struct_fields__}


def each_workload(experiment: Experiment, own: Own = NOTHING) -> tuple[list[Experiment], list[str]]:
    """The experiment with every workload that its target supports, in turn, and with the options that are of that one.

    And what has to be left out, as the target is set up: a sentence each. Raises ``UsageError`` where there is none,
    and for an explicit timetable, whose operations are of one workload.
    """
    if experiment.timetable is not None and experiment.timetable.operations is not None:
        raise UsageError(f"the operations of a timetable are of one workload: {field('workload', ALL)} has several")
    target = own.load("targets", experiment.target)
    candidates = [replace(experiment, workload=name) for name in names("workloads") if name in target.workloads]
    if not candidates:
        raise UsageError(f"{field('workload', ALL)}: {target.name} supports no workload that is installed")
    declared = [_declared(candidate, own) for candidate in candidates]
    # What nobody has is refused for each of them.
    others = [set[str]().union(*declared) - options for options in declared]
    each = [
        replace(candidate, options={name: text for name, text in candidate.options.items() if name not in foreign})
        for candidate, foreign in zip(candidates, others, strict=True)
    ]
    try:
        made = assemble(each[0], own).target  # the options of the target are the same for all
    except UsageError:
        return each, []  # what is wrong is said when it is to be run
    unfit = {candidate.workload: why for candidate in each if (why := made.unfit_for(candidate.workload)) is not None}
    left_out = [f"left out: {target.name}: {why}" for why in unfit.values()]
    return [candidate for candidate in each if candidate.workload not in unfit], left_out


def _nemeses(experiment: Experiment, own: Own) -> tuple[list[str], list[str]]:
    """The nemeses that are asked for, by the names to load them by, and those that are taken where they can be had."""
    asked = [name for name in experiment.nemeses if name != CHAOS]
    if experiment.timetable is not None:
        # A timetable knows a nemesis by its own name, and whoever has it in a file names the file as well.
        files = {own.load("nemeses", name).name: name for name in asked}
        return [files.get(name, name) for name in experiment.timetable.names], []
    return asked, names("nemeses") if CHAOS in experiment.nemeses else []


@dataclass(frozen=True)
class _Loaded:
    """The target, the workload and the nemeses of an experiment, each a class yet, or an object of a program."""

    target: Target | type[Target]
    workload: Workload | type[Workload]
    nemeses: Mapping[str, Nemesis | type[Nemesis]]
    """By the names to load them by."""

    def owners(self) -> dict[str, type[Plugin]]:
        """Whom options may belong to, by what they are."""
        return {
            _owner("target", self.target): class_of(self.target),
            _owner("workload", self.workload): class_of(self.workload),
            **{f"nemesis {name}": class_of(nemesis) for name, nemesis in self.nemeses.items()},
        }


def _loaded(experiment: Experiment, own: Own) -> _Loaded:
    """The parts, the nemeses being those that are asked for, or are taken where they can be had, each once."""
    asked, every = _nemeses(experiment, own)
    nemeses = {name: own.load("nemeses", name) for name in (*asked, *every)}
    return _Loaded(own.load("targets", experiment.target), own.load("workloads", experiment.workload), nemeses)


def _refuse_namesakes(nemeses: Mapping[str, Nemesis | type[Nemesis]]) -> None:
    """Raise ``UsageError`` for two nemeses of one name: neither history nor verdict could tell them apart."""
    known: dict[str, str] = {}
    for name, nemesis in nemeses.items():
        if (earlier := known.setdefault(nemesis.name, name)) != name:
            raise UsageError(
                f"{field('nemeses')} has two nemeses that are called {nemesis.name}, {earlier} and {name}: "
                "give one of the classes another `name`"
            )


def _owner(kind: str, plugin: Part | type[Part]) -> str:
    return f"{kind} {plugin.name}"


def _place(experiment: Experiment) -> dict[str, type[Environment]]:
    """The environment, if it has options."""
    if experiment.environment not in names("environments"):
        return {}
    plugin = load("environments", experiment.environment)
    return {f"environment {plugin.name}": plugin} if options_of(plugin.Options) else {}


def assemble_workload(experiment: Experiment, own: Own = NOTHING) -> Workload:
    """The workload alone, with its options, which is enough to judge a run. Raises ``UsageError``."""
    name = experiment.workload
    if experiment.unnamed and not (("workloads", name) in own.objects or name in names("workloads") or is_file(name)):
        raise UsageError(f"the run's workload, {name}, is an object of a program: only there the run can be judged")
    workload = own.load("workloads", name)
    if not isinstance(workload, type):
        return workload
    options = {name: text for name, text in experiment.options.items() if name in workload.Options.__struct_fields__}
    owner = _owner("workload", workload)
    return _made(workload, distribute(options, {owner: workload})[owner])


def choose_environment(name: str, image: str | None) -> tuple[str, str]:
    """Which environment to use, and why. Raises ``MissingError`` when it cannot be had here."""
    if image is not None and name not in ("auto", "docker"):
        raise UsageError(
            f"{field('image')} is for nodes in containers: use {field('environment', 'docker')}, not "
            f"{field('environment', name)}"
        )
    if name != "auto":
        why = load("environments", name).missing(image)
        if why is not None:
            raise MissingError(why)
        return name, "as asked for"
    if image is not None:
        return choose_environment("docker", image)[0], f"since {field('image')} was given"
    reasons = {}
    for candidate in ("docker", "local"):
        reasons[candidate] = load("environments", candidate).missing(image)
        if reasons[candidate] is None:
            why = "an engine answers and has the node image" if candidate == "docker" else reasons["docker"]
            return candidate, str(why)
    raise MissingError("; ".join(f"{candidate}: {reason}" for candidate, reason in reasons.items()))


def refuse_missing_programs(target: Target) -> None:
    """Raise ``MissingError`` for a server that local nodes would need and that is not on this machine."""
    for program, package in target.programs.items():
        if shutil.which(program, path=search_path()) is None:
            raise MissingError(f"{program} is not on this machine: apt-get install {package}")


def check_environment_name(name: str) -> None:
    """Raise ``UsageError`` for an environment that does not exist."""
    if name != "auto" and name not in names("environments"):
        raise UsageError(f"there is no environment named {name!r}: there are auto, {', '.join(names('environments'))}")
