"""Finding targets, workloads, nemeses, checkers and environments: by entry point, or as ``FILE.py:Class``."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import UsageError

KINDS = {
    "targets": "target",
    "workloads": "workload",
    "nemeses": "nemesis",
    "checkers": "checker",
    "environments": "environment",
}


@cache
def _installed(kind: str) -> EntryPoints:
    """The entry points of a kind: to look for them means to read the metadata of everything that is installed."""
    return entry_points(group=f"splitbrain.{kind}")


def names(kind: str) -> list[str]:
    """The names registered under the entry point group ``splitbrain.<kind>``."""
    return sorted(_installed(kind).names)


def load(kind: str, name: str) -> Any:
    """The class registered as ``name``, or the one that ``FILE.py:Class`` names.

    Raises ``UsageError`` for an unknown name, a missing file or class, and a file that does not run.
    """
    if ".py:" in name:
        return load_file(name)
    found: list[EntryPoint] = list(_installed(kind).select(name=name))
    if not found:
        close = difflib.get_close_matches(name, names(kind), n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names(kind))}"
        raise UsageError(f"there is no {KINDS[kind]} named {name!r}: {hint}")
    return found[0].load()


def load_file(name: str) -> Any:
    """The class that ``FILE.py:Class`` names. Raises ``UsageError`` when it cannot be had."""
    path_text, _, attribute = name.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise UsageError(f"there is no file {path_text} to take {attribute} from")
    module_name = f"splitbrain_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path_text} does not run: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise UsageError(f"{path_text} defines no {attribute}")
    return getattr(module, attribute)


_WORDS = {"yes": True, "on": True, "no": False, "off": False}


def parse_options(given: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` pairs as a dict."""
    options: dict[str, str] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise UsageError(f"an option is written NAME=VALUE, not {item!r}")
        options[name.strip().replace("-", "_")] = value.strip()
    return options


def distribute(options: dict[str, str], owners: dict[str, type]) -> dict[str, Any]:
    """Give each option to the plug-in that declares it, checked and converted to its type.

    ``owners`` maps a description ("target redis") to a plug-in's class. Raises ``UsageError`` for an option that
    nobody declares and for a value that does not fit.
    """
    declared = {owner: set(plugin.Options.__struct_fields__) for owner, plugin in owners.items()}  # type: ignore[attr-defined]
    for name in options:
        if not any(name in fields for fields in declared.values()):
            known = sorted({field for fields in declared.values() for field in fields})
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
            raise UsageError(f"neither {' nor '.join(owners)} has an option {name!r}: {hint}")
    result = {}
    for owner, plugin in owners.items():
        fields = {field.name: field.type for field in msgspec.structs.fields(plugin.Options)}  # type: ignore[attr-defined]
        mine: dict[str, Any] = {name: value for name, value in options.items() if name in fields}
        mine |= {n: _WORDS.get(v.lower(), v) for n, v in mine.items() if fields[n] is bool}
        try:
            result[owner] = msgspec.convert(mine, plugin.Options, strict=False)  # type: ignore[attr-defined]
        except msgspec.ValidationError as error:
            said = str(error).replace("`$.", "`")
            raise UsageError(f"an option of {owner} has a wrong value: {said}") from None
    return result
