"""The command line's own words: its options for the fields that messages name, a sentence for an essay of click's."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace
from typer.core import TyperGroup

from harness.errors import FIELDS, UsageError

if TYPE_CHECKING:  # it brings NumPy along, which the command line can do without until it runs something
    from harness.verdict import Verdict

_OTHERWISE: Final = {"nemeses": "nemesis", "environment": "on", "checkers": "checker"}
"""What options are called that have another name than the field."""
_FIELDS: Final = (
    *("nodes", "time", "rate", "concurrency", "timeout", "interval", "recovery", "seed", "zones", "image", "target"),
    *("workload", "timetable", "directory", "model", "initial", "executor", "report", "independent", "trust", "bug"),
    *("anomalies", "versions"),
    *_OTHERWISE,
)
OPTIONS: Final = {name: f"--{_OTHERWISE.get(name, name)}" for name in _FIELDS}
"""By field, what the command line calls it."""
_NAMED: Final = re.compile(rf"`({'|'.join(_FIELDS)}|options\.\w+)(?:=([^`]*))?`")


def as_options(message: str) -> str:
    """A message with the command's options where it names fields (see ``harness.errors.field``).

    It stays as it is where a program will read it (see ``harness.errors.FIELDS``).
    """
    if os.environ.get(FIELDS):
        return message

    def option(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if name not in OPTIONS:  # of a part
            return f"-o {name.partition('.')[2]}" + ("" if value is None else f"={value}")
        return OPTIONS[name] if value in (None, "True") else f"{OPTIONS[name]} {value}"

    return _NAMED.sub(option, message)


def worded(verdict: Verdict) -> Verdict:
    """A verdict whose reasons name the command's options, for the terminal; files, and programs, have it as it was."""
    parts = {name: worded(part) for name, part in verdict.parts.items()}
    return replace(verdict, reason=as_options(verdict.reason), parts=parts)


class Commands(TyperGroup):
    """The commands; what click refuses is raised as ``UsageError``."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        with _in_one_sentence():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _in_one_sentence():
            return super().invoke(ctx)


@contextlib.contextmanager
def _in_one_sentence() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Known by what it can do: click's exceptions are at another place in each version of typer.
        format_message = getattr(error, "format_message", None)
        context = getattr(error, "ctx", None)
        if format_message is None or type(error).__name__ == "NoArgsIsHelpError":
            raise
        what = " ".join(format_message().replace("Value error, ", "").split()).rstrip(".")
        where = "splitbrain" if context is None else context.command_path
        raise UsageError(f"{what}; `{where} --help` shows what there is") from None
