"""Code that data names. Somebody else's run or timetable makes nothing be imported unless the person says so.

What is typed on the command line is trusted: who types it means it. What was read from a file is not; plug-ins that are
installed are what they were before, whoever names them.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import UsageError, field
from harness.experiment import Experiment
from harness.options import Code, Plugin, options_of
from harness.plugins import is_file, load, names
from harness.timetable import Timetable


def refuse_code(source: str, code: Sequence[str], *, trust: bool) -> None:
    """Raise ``UsageError`` where ``source`` names code, unless that is trusted."""
    if code and not trust:
        raise UsageError(
            f"{source} names code to be loaded, {', '.join(code)}: if you trust it, {field('trust', True)} loads it"
        )


def code_of_judges(experiment: Experiment) -> list[str]:
    """The code that would be loaded to judge a run: of its workload and its checkers."""
    return _code({"workloads": [experiment.workload], "checkers": experiment.checkers}, experiment)


def code_of(experiment: Experiment) -> list[str]:
    """The code that would be loaded to run an experiment, as it stands there."""
    nemeses = [*experiment.nemeses, *code_of_timetable(experiment.timetable)]
    return _code(
        {
            "targets": [experiment.target],
            "workloads": [experiment.workload],
            "nemeses": nemeses,
            "checkers": experiment.checkers,
            "environments": [experiment.environment],
        },
        experiment,
    )


def code_of_timetable(timetable: Timetable | None) -> list[str]:
    """The nemeses in files that a timetable names."""
    return [] if timetable is None else [name for name in timetable.names if is_file(name)]


def _code(plugins: dict[str, Sequence[str]], experiment: Experiment) -> list[str]:
    named = [(kind, name) for kind, all_of_it in plugins.items() for name in all_of_it]
    code = [name for _, name in named if is_file(name)]
    for kind, name in named:
        if name in names(kind):
            code += _imported(load(kind, name), experiment)
    return list(dict.fromkeys(code))


def _imported(plugin: type[Plugin], experiment: Experiment) -> list[str]:
    """What the values of a plug-in's options import, as it is written on the command line."""
    declared = options_of(plugin.Options)
    return [
        f"{name}={value}"
        for name, value in experiment.options.items()
        if name in declared and isinstance(limit := declared[name].limit, Code) and not limit.is_own(value)
    ]
