"""What can go wrong, each with the exit code that the command line ends with."""

from __future__ import annotations

from typing import Any

_LONGEST = 400
"""Characters of a message that quotes what a person has not written."""


FIELDS = "SPLITBRAIN_FIELDS"
"""Set in the environment of a command that a program has started, whose words fields are."""


def field(name: str, value: Any = None) -> str:
    """A field of an experiment, or an argument of the session, as messages write it: ```time```, ```nodes=3```.

    Whoever has other words for it, as the command line has options, finds it there and puts its own in its place.
    """
    return f"`{name}`" if value is None else f"`{name}={value}`"


def option(name: str, value: Any = None) -> str:
    """The same of an option of a part: ```options.skew```."""
    return field(f"options.{name}", value)


class SplitbrainError(Exception):
    """An error whose message is one clear sentence for the person who asked for something.

    What it says of an experiment's fields is written by ``field``.
    """

    exit_code = 4


class UsageError(SplitbrainError):
    """The person asked for something that does not exist or makes no sense."""

    exit_code = 2


class HistoryError(UsageError):
    """A history cannot be read: which line, and what is wrong with it.

    The message may quote the history: it is cut where it gets long, and nothing in it can steer a terminal.
    """

    def __init__(self, message: str, *, line: int | None = None, path: str | None = None) -> None:
        message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
        if len(message) > _LONGEST:
            message = f"{message[:_LONGEST]}..."
        where = f"{path}, " if path else ""
        super().__init__(f"{where}line {line}: {message}" if line is not None else f"{where}{message}")
        self.message = message
        self.line = line


class MissingError(SplitbrainError):
    """Something that the run needs is not on this machine (a server, an engine, a tool)."""


class NodeError(SplitbrainError):
    """A command in a node, or a server on it, did not do what it was started for."""


class FaultError(SplitbrainError):
    """A fault was asked for and its effect could not be seen from inside the node."""


class StuckError(BaseException):
    """Code of others does not give way; the message says whose. No handler of ordinary errors is to swallow it."""

    exit_code = 4


class NothingToDo(Exception):  # noqa: N818 - not an error
    """A fault could not be injected or ended now, for an honest reason: whom it would hit is already down."""


def notes_of(error: BaseException) -> str:
    """What was added to an error on its way, to follow its message."""
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
