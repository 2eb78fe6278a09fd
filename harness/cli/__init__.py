"""The command line: thin typer commands, each importing what it needs only when it runs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from harness.cli.stopping import Ended, end_on_signals, hold_signals, ignore_signals

if sys.argv[0].rpartition("/")[2] == "splitbrain":
    # The command itself, and nobody who imports this: what comes from here on is told by ``main``.
    hold_signals()

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBUG = "--debug"
"""Shows the traceback of an error, wherever it stands on the line."""


def main() -> None:
    """Entry point of the command ``splitbrain``: whatever happens comes to a sentence and a code from 0 to 4."""
    try:
        try:
            hold_signals()
            _print_whatever_comes()  # a stream that a signal finds half changed can be written to no more
            end_on_signals()
            code = _command()
            if sys.stdout is not None:
                sys.stdout.flush()
        except BaseException as error:
            ignore_signals()
            code = _explain(error)
    except BaseException as error:  # a second signal, before the first one had been understood
        ignore_signals()
        code = _explain(error)
    ignore_signals()
    _drop_what_cannot_be_printed()
    sys.exit(code)


def _print_whatever_comes() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _command() -> int:
    """Run the command; its exit code."""
    from harness.cli.app import app
    from harness.environments.programs import search_path
    from harness.errors import SplitbrainError, UsageError

    os.environ["PATH"] = search_path()
    words = [word for word in sys.argv[1:] if word != DEBUG]
    if not all(_is_text(word) for word in words):
        raise UsageError("what is asked for on the command line is not text in UTF-8")
    try:
        app(args=words)
    except SystemExit as end:
        # Typer has exit codes of its own for these, and one of them means "anomalies" here.
        for cause in _causes(end):
            if isinstance(cause, KeyboardInterrupt | BrokenPipeError):
                raise cause from None
        if isinstance(end.code, str):
            raise SplitbrainError(end.code) from None
        if not any(type(cause).__module__.partition(".")[0] in ("click", "typer") for cause in _causes(end)):
            from harness.plugins import has_ended

            raise has_ended(end) from None
        return end.code or 0
    return 0


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _explain(error: BaseException) -> int:
    """Say what went wrong in one sentence; the exit code."""
    import contextlib
    import traceback

    from harness.errors import notes_of
    from harness.words import printable

    code, sentence = _sentence(error)
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            if DEBUG in sys.argv:
                traceback.print_exception(error)
            print(printable(f"splitbrain: {sentence}{notes_of(error)}"), file=sys.stderr, flush=True)
    return code


def _sentence(error: BaseException) -> tuple[int, str]:
    from harness.cli.wording import as_options
    from harness.errors import SplitbrainError, StuckError
    from harness.plugins import folders, users_frame

    if isinstance(error, SplitbrainError | StuckError):
        return error.exit_code, as_options(str(error))
    if isinstance(error, Ended):
        return 4, f"stopped by {error}, without a verdict"
    if isinstance(error, KeyboardInterrupt):
        return 4, str(error) or "stopped, without a verdict"
    if isinstance(error, BrokenPipeError):
        return 4, "nobody reads what is printed any more"
    description = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if (frame := users_frame(error)) is not None:
        return 4, f"{frame.filename}, line {frame.lineno}: {description}"
    if isinstance(error, MemoryError):
        return 4, "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return 4, f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return 4, f"{description} ({'' if folders else 'a bug: '}{DEBUG} shows where)"


def _drop_what_cannot_be_printed() -> None:
    """Python would try to print it again as it ends, say so in words of its own, and exit with 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
