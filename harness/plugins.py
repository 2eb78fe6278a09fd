"""Finding targets, workloads, nemeses, checkers and environments: by entry point, or as ``FILE.py:Class``."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, overload

import msgspec

from harness.contract import hold
from harness.environments.base import Environment, Guards, HasImage, Refuses
from harness.errors import SplitbrainError, UsageError, option
from harness.nemesis import Nemesis, Observes, Prepares
from harness.options import Plugin, options_of, read, unknown
from harness.target import KnowsItself, ReadsOwnState, Target
from harness.verdict import Checker, HasLevels, HasModels
from harness.workload import Workload


class Kind(NamedTuple):
    """A kind of plug-in: what one is called, what its class extends, and the protocols that some of them have."""

    title: str
    base: type
    optional: tuple[type, ...] = ()


KINDS: Final[Mapping[str, Kind]] = {
    "targets": Kind("target", Target, (KnowsItself, ReadsOwnState)),
    "workloads": Kind("workload", Workload),
    "nemeses": Kind("nemesis", Nemesis, (Prepares, Observes)),
    "checkers": Kind("checker", Checker, (HasModels, HasLevels)),
    "environments": Kind("environment", Environment, (Refuses, HasImage, Guards)),
}

folders: Final[set[Path]] = set()
"""Where the files are that were loaded as ``FILE.py:Class``."""


@cache
def _installed(kind: str) -> EntryPoints:
    """The entry points of a kind: to look for them means to read the metadata of everything that is installed."""
    return entry_points(group=f"splitbrain.{kind}")


def names(kind: str) -> list[str]:
    """The names registered under the entry point group ``splitbrain.<kind>``."""
    return sorted(_installed(kind).names)


def registered(kind: str, plugin: type) -> str | None:
    """The name that a class is registered under. Nothing is imported: it can only come from what is."""
    for entry in sorted(_installed(kind), key=lambda entry: entry.name):
        module = sys.modules.get(entry.module)
        if module is not None and vars(module).get(entry.attr) is plugin:
            return entry.name
    return None


def packages() -> list[str]:
    """The packages that plug-ins are installed in, and the engine's own.

    Of a package within a package both are named: where this product is run from a clone, the folders of its plug-ins
    are linked into the engine's, and whoever walks through that does not come to them.
    """
    modules = [entry.module.split(".") for kind in KINDS for entry in _installed(kind)]
    parents = {".".join(names[:depth]) for names in modules for depth in (1, 2) if depth < len(names)}
    return sorted(parents | {names[0] for names in modules} | {__name__.partition(".")[0]})


@overload
def load(kind: Literal["targets"], name: str) -> type[Target]: ...
@overload
def load(kind: Literal["workloads"], name: str) -> type[Workload]: ...
@overload
def load(kind: Literal["nemeses"], name: str) -> type[Nemesis]: ...
@overload
def load(kind: Literal["checkers"], name: str) -> type[Checker]: ...
@overload
def load(kind: Literal["environments"], name: str) -> type[Environment]: ...
@overload
def load(kind: str, name: str) -> type[Plugin]: ...
def load(kind: str, name: str) -> type[Plugin]:
    """The class registered as ``name``, or the one that ``FILE.py:Class`` names.

    Raises ``UsageError`` for an unknown name, a missing file or class, a file that does not run, and a class that is
    not what its kind must be.
    """
    title = KINDS[kind].title
    if is_file(name):
        plugin, told = load_file(name), name
    else:
        entries: list[EntryPoint] = list(_installed(kind).select(name=name))
        if not entries:
            raise UsageError(f"there is no {title} named {name!r}: {unknown(name, names(kind))}")
        plugin, told = entries[0].load(), f"{name} ({entries[0].value})"
    hold_to_kind(kind, told, plugin)
    return plugin


def hold_to_kind(kind: str, told: str, plugin: type) -> None:
    """Raise ``UsageError`` for a class that is not what its kind must be; ``told`` names it and its file."""
    title, base, optional = KINDS[kind]
    hold(told, title, plugin, base, optional)


def is_file(name: str) -> bool:
    """Whether a name is that of a file, perhaps with a class in it, and none that was registered."""
    return ".py:" in name or name.endswith(".py") or "/" in name


def load_file(name: str) -> type[Any]:
    """The class that ``FILE.py:Class`` names; the file may import those beside it.

    Raises ``UsageError`` when it cannot be had.
    """
    path_text, colon, attribute = name.rpartition(":")
    if not colon or not attribute.isidentifier():
        raise UsageError(f"{name} names a file and no class in it: write {name.rstrip(':')}:Class")
    path = Path(path_text)
    if not path.is_file():
        raise UsageError(f"there is no file {path_text} to take {attribute} from")
    folder = path.parent.resolve()
    folders.add(folder)
    if str(folder) not in sys.path:
        # The last of all: a file beside it must not take the place of a module that is installed.
        sys.path.append(str(folder))
    module_name = f"splitbrain_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path_text} does not run: {type(error).__name__}: {error}") from error
    plugin = vars(module).get(attribute)
    if not isinstance(plugin, type):
        raise UsageError(f"{path_text} defines no class {attribute}")
    return plugin


def users_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line of a file loaded as ``FILE.py:Class`` that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame for frame in reversed(frames) if Path(frame.filename).parent.resolve() in folders), None)


def has_ended(end: SystemExit) -> SplitbrainError:
    """What it is to whoever started a run when code of others calls ``sys.exit``, with whatever code, 0 included."""
    frame = users_frame(end)
    where = f" ({frame.filename}, line {frame.lineno})" if frame else ""
    reason = f"code of a store, a workload, a nemesis or a checker has ended the command ({end.code}){where}"
    return SplitbrainError(f"{reason}: nothing was judged")


def whose(thing: object, part: str) -> str:
    """Whose code something is, for a message: a part of a plug-in's class, and the file that this is in."""
    kind = type(thing)
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None) or kind.__module__  # what is typed in is in none
    return f"{kind.__qualname__}.{part} ({file})"


def parse_options(given: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` pairs as a dict. Raises ``UsageError`` for what is none, and for a name given twice."""
    options: dict[str, str] = {}
    for item in given:
        name, equals, value = item.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise UsageError(f"an option is written NAME=VALUE, not {item!r}")
        if name in options:
            raise UsageError(f"{option(name)} is given twice: an option has one value")
        options[name] = value.strip()
    return options


def distribute(
    options: Mapping[str, str], owners: Mapping[str, type[Plugin]], nodes: Sequence[str] = ()
) -> dict[str, msgspec.Struct]:
    """Give each option to the plug-in that declares it, read and held against what its field allows.

    ``owners`` maps a description ("target redis") to a plug-in's class, ``nodes`` are the names that an option may
    aim at. Raises ``UsageError`` for an option that nobody declares and for a value that does not fit.
    """
    declared = {owner: options_of(plugin.Options) for owner, plugin in owners.items()}
    known = [name for fields in declared.values() for name in fields]
    for name in options:
        if name not in known:
            raise UsageError(f"neither {' nor '.join(owners)} has an option {name!r}: {unknown(name, known)}")
    result: dict[str, msgspec.Struct] = {}
    for owner, plugin in owners.items():
        fields = declared[owner]
        values = {
            name: read(f"{option(name)} of {owner}", fields[name], text, nodes)
            for name, text in options.items()
            if name in fields
        }
        try:
            result[owner] = msgspec.convert(values, plugin.Options)
        except msgspec.ValidationError as error:
            reason = str(error).replace("`$.", "`")
            raise UsageError(f"an option of {owner} has a wrong value: {reason}") from None
    return result
