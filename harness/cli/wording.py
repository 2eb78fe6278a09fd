"""What a person typed wrongly on the command line, in one sentence, where click has an essay of several lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup

from harness.errors import UsageError


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
        said = getattr(error, "format_message", None)
        context = getattr(error, "ctx", None)
        if said is None or type(error).__name__ == "NoArgsIsHelpError":
            raise
        what = " ".join(said().replace("Value error, ", "").split()).rstrip(".")
        where = "splitbrain" if context is None else context.command_path
        raise UsageError(f"{what}; `{where} --help` shows what there is") from None
