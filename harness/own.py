"""Objects of a program as parts of a run: under which names another process, or the command line, can load them."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from pathlib import Path
from types import FrameType, ModuleType
from typing import Final, Literal, TypeAlias, TypeVar, cast, overload

import msgspec
from msgspec.structs import replace

from harness.errors import UsageError
from harness.errors import field as named
from harness.experiment import Experiment
from harness.nemesis import Nemesis
from harness.options import Plugin, options_of, plain, read
from harness.plugins import KINDS, hold_to_kind, load, names, registered
from harness.target import Target
from harness.verdict import Checker
from harness.workload import Workload

P = TypeVar("P", bound=Plugin)
T = TypeVar("T", bound="AnyPart")

AnyTarget: TypeAlias = Target | type[Target] | str
AnyWorkload: TypeAlias = Workload | type[Workload] | str
AnyNemesis: TypeAlias = Nemesis | type[Nemesis] | str
AnyChecker: TypeAlias = Checker | type[Checker] | str
"""A part of a run: an instance, a class, or a name as in an experiment."""
AnyPart: TypeAlias = Plugin | type[Plugin] | str

CHAOS: Final = "chaos"
"""Stands for every nemesis that there is and that the environment and the target can do, overlapping."""
_GUARD: Final = 'if __name__ == "__main__":'


@dataclass(frozen=True)
class Own:
    """The parts of a run that a program brings along, classes or instances, by kind and the experiment's name."""

    objects: Mapping[tuple[str, str], Plugin | type[Plugin]] = field(default_factory=dict)
    here_only: tuple[str, ...] = ()
    """Those that no other process can load, beside checkers, which none has to: why not."""
    judges: Mapping[str, str] = field(default_factory=dict)
    """The names of the checkers that no other process can load: why not."""
    options: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    """What those were made with that are instances and can be loaded."""

    @overload
    def load(self, kind: Literal["targets"], name: str) -> Target | type[Target]: ...
    @overload
    def load(self, kind: Literal["workloads"], name: str) -> Workload | type[Workload]: ...
    @overload
    def load(self, kind: Literal["nemeses"], name: str) -> Nemesis | type[Nemesis]: ...
    @overload
    def load(self, kind: Literal["checkers"], name: str) -> Checker | type[Checker]: ...
    @overload
    def load(self, kind: str, name: str) -> Plugin | type[Plugin]: ...
    def load(self, kind: str, name: str) -> Plugin | type[Plugin]:
        """The part of a name: one's own, or what ``harness.plugins.load`` finds. Raises ``UsageError``."""
        own = self.objects.get((kind, name))
        return load(kind, name) if own is None else own


def class_of(part: P | type[P]) -> type[P]:
    """The class of a part, which may be one itself."""
    return part if isinstance(part, type) else type(part)


def bring(
    experiment: Experiment,
    target: AnyTarget | None = None,
    workload: AnyWorkload | None = None,
    nemeses: AnyNemesis | Sequence[AnyNemesis] = (),
    checkers: AnyChecker | Sequence[AnyChecker] = (),
) -> tuple[Experiment, Own]:
    """The experiment with the names and the options of a program's own parts, and those parts: see ``adopt``."""
    experiment, own = adopt(experiment, target, workload, nemeses, checkers)
    asked = [*experiment.nemeses, *(names("nemeses") if CHAOS in experiment.nemeses else ())]
    parts = [("targets", experiment.target), ("workloads", experiment.workload)]
    parts += [("nemeses", name) for name in dict.fromkeys(asked) if name != CHAOS]
    given: dict[str, str] = {}
    clashes: list[str] = []
    for part, options in own.options.items():
        # The command line's options are for every part that has one of that name.
        others = [other for other in parts if other != part and options.keys() & _declared(own.load(*other))]
        if others:
            kind, name = others[0]
            clashes.append(f"{part[1]} has an option that the {KINDS[kind].title} {name} has as well")
        else:
            given |= options
    unnamed = (*(experiment.unnamed or ()), *clashes)
    experiment = replace(
        experiment,
        overlap=experiment.overlap or CHAOS in experiment.nemeses,
        options=experiment.options | given,
        unnamed=unnamed or msgspec.UNSET,
    )
    return experiment, replaced(own, here_only=(*own.here_only, *clashes))


def _declared(part: Plugin | type[Plugin]) -> frozenset[str]:
    """The names of a part's options."""
    return frozenset(options_of(part.Options))


def adopt(
    experiment: Experiment,
    target: AnyTarget | None = None,
    workload: AnyWorkload | None = None,
    nemeses: AnyNemesis | Sequence[AnyNemesis] = (),
    checkers: AnyChecker | Sequence[AnyChecker] = (),
) -> tuple[Experiment, Own]:
    """The experiment with the names of a program's own parts, and those parts; an instance keeps its options.

    A target and a workload take the place of the experiment's, nemeses and checkers stand beside its own. A string is
    a name, as in the experiment itself. Raises ``UsageError`` for an option that an instance has and the experiment
    gives as well.
    """
    refuse_while_loading()
    adoption = _Adoption(experiment)
    replaced = {
        kind: adoption.take(kind, part)
        for kind, part in (("targets", target), ("workloads", workload))
        if part is not None
    }
    more = [adoption.take("nemeses", part) for part in several(nemeses)]
    judges = [adoption.take("checkers", part) for part in several(checkers)]
    experiment = replace(
        experiment,
        target=replaced.get("targets", experiment.target),
        workload=replaced.get("workloads", experiment.workload),
        nemeses=tuple(dict.fromkeys((*experiment.nemeses, *more))),
        checkers=tuple(dict.fromkeys((*experiment.checkers, *judges))),
        unnamed=(tuple(adoption.unnamed) if adoption.objects else experiment.unnamed) or msgspec.UNSET,
    )
    return experiment, Own(adoption.objects, tuple(adoption.here_only), adoption.judges, adoption.options)


def refuse_while_loading() -> None:
    """Raise ``UsageError`` for a file that uses the session while it is loaded for the class in it: without an end."""
    for frame in _frames():
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__", "").startswith("splitbrain_plugin_"):
            raise UsageError(f"{frame.f_code.co_filename} starts runs while it is loaded: do it below `{_GUARD}`")


def several(parts: T | Sequence[T]) -> Sequence[T]:
    """What was given alone or in a list or tuple."""
    return parts if isinstance(parts, list | tuple) else (cast(T, parts),)


class _Adoption:
    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self.objects: dict[tuple[str, str], Plugin | type[Plugin]] = {}
        self.options: dict[tuple[str, str], Mapping[str, str]] = {}
        self.unnamed: list[str] = []
        self.here_only: list[str] = []
        self.judges: dict[str, str] = {}

    def take(self, kind: str, part: AnyPart) -> str:
        """The name of a part, which is a name itself, a class or an instance."""
        if isinstance(part, str):
            return part
        plugin = class_of(part)
        title = plugin.__qualname__.rpartition(".")[2]
        hold_to_kind(kind, title, plugin)
        options, unclear = ({}, "") if isinstance(part, type) else self._options(kind, part)
        name, why = name_of(kind, plugin)
        if why := why or unclear:
            reason = f"{title} (a {KINDS[kind].title}) is an object of this program, and {why}"
            self.unnamed.append(reason)
            name = title
            if kind == "checkers":
                self.judges[name] = reason
            else:
                self.here_only.append(reason)
        elif options:
            self.options[kind, name] = options
        if self.objects.setdefault((kind, name), part) is not part:
            raise UsageError(f"there are two {kind} that are called {name}: give one of the classes another name")
        return name

    def _options(self, kind: str, part: Plugin) -> tuple[Mapping[str, str], str]:
        """The options that an instance was made with, as text; or why it cannot be made of these again."""
        plugin = type(part)
        takes = len(inspect.signature(plugin).parameters)
        if kind == "checkers":
            return {}, "" if takes == 0 else "it is made with arguments"
        struct = plugin.Options
        fields = options_of(struct)
        if given := fields.keys() & self._experiment.options.keys():
            raise UsageError(
                f"{named('options')} has {min(given)}, but {plugin.__qualname__} is an instance that was made with its "
                "options: give the class, or leave that out"
            )
        if takes > 1:
            return {}, "it is made with more than its options"
        made_with = [value for value in vars(part).values() if type(value) is struct]
        if not made_with:
            return {}, "it does not keep the options that it was made with: give its class" if fields else ""
        texts = {}
        for name, option in fields.items():
            value = getattr(made_with[0], name)
            if value == option.default:
                continue
            texts[name] = plain(value)
            try:
                same = read(name, option, texts[name], self._experiment.node_names) == value
            except UsageError:
                same = False
            if not same:
                return {}, f"its option {name} cannot be written as text"
        return texts, ""


def name_of(kind: str, plugin: type) -> tuple[str, str]:
    """The name by which a class can be loaded anywhere; or why it has none."""
    if name := registered(kind, plugin):
        return name, ""
    module = sys.modules.get(plugin.__module__)
    file = Path(getattr(module, "__file__", None) or "")
    if module is None or file.suffix != ".py" or not file.is_file():
        return "", "it is in no file: define it in one, and name it FILE.py:Class"
    source = _Source(module, file)
    if getattr(module, plugin.__qualname__, None) is not plugin or not source.defines(plugin.__qualname__):
        return "", f"it is not at the top level of {file.name}: define it there"
    if getattr(module, "__package__", None):
        return "", (
            f"{file.name} is part of the package {module.__package__}: define it in a file of its own, or register it "
            f"as an entry point of splitbrain.{kind}"
        )
    if kind in ("nemeses", "checkers") and "," in str(file.resolve()):
        return "", f"the path of {file.name} has a comma, which stands between the names of {kind}: put it elsewhere"
    if source.starts_runs():
        return "", f"{file.name} starts runs whenever it is loaded: do it below `{_GUARD}`"
    return f"{file.resolve()}:{plugin.__qualname__}", ""


class _Source:
    """The source of a module, and what of it runs when it is loaded by another name than that of a program."""

    def __init__(self, module: ModuleType, file: Path) -> None:
        self._module = module
        statements = ast.parse(file.read_text()).body
        self._guarded = [
            statement
            for statement in statements
            if isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)
        ]
        self._always = [statement for statement in statements if statement not in self._guarded]

    def defines(self, name: str) -> bool:
        """Whether a class of this name is defined then."""
        nodes = (node for statement in self._always for node in ast.walk(statement))
        return any(isinstance(node, ast.ClassDef) and node.name == name for node in nodes)

    def starts_runs(self) -> bool:
        """Whether this call comes from a line that runs then."""
        blocks = [
            range(statement.lineno, (statement.end_lineno or statement.lineno) + 1) for statement in self._guarded
        ]
        return any(
            frame.f_code.co_name == "<module>"
            and frame.f_globals is vars(self._module)
            and not any(frame.f_lineno in block for block in blocks)
            for frame in _frames()
        )


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
