"""Operations from Jepsen's text logs, of all its versions, and from its history.txt.

An operation is a line that ends in process, type, function and value with tabs or spaces between; what stands before
(date, level, thread, ``jepsen.util -``) has changed with every version and is passed over, as lines of other kinds are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from harness.errors import HistoryError
from harness.interop import edn

_OPERATION: Final = re.compile(
    r"(?:^|\s)(?P<process>\d+|:[\w.\-]+)\s+:(?P<type>invoke|ok|fail|info)\s+(?P<f>:[^\s,]+|\"[^\"]*\"|nil)"
    r"(?:\s+(?P<value>.*))?$"
)
_LIKE_ONE: Final = re.compile(r"(?<!:type)\s:(invoke|ok|fail|info)\s+:\w")
_NO_TEXT: Final = re.compile("[\udc80-\udcff]")


def operations(text: str) -> Iterator[tuple[Any, int]]:
    """Each operation of a log and its line. Raises ``HistoryError`` with a line number.

    The text was decoded with ``surrogateescape``: bytes that are no text do no harm in other lines.
    """
    has_operations = False
    for number, line in enumerate(text.split("\n"), 1):
        match = _OPERATION.search(line.strip())
        if match is None:
            if _LIKE_ONE.search(line):
                raise HistoryError("this looks like an operation, but is not one", line=number)
            continue
        if _NO_TEXT.search(line):
            raise HistoryError("this is not text", line=number)
        has_operations = True
        process = match["process"]
        yield (
            {
                "process": int(process) if process.isdigit() and len(process) <= edn.MOST_DIGITS else process[:30],
                "type": match["type"],
                "f": match["f"].strip(':"'),
                "value": _value(match["value"] or "nil", match["type"], number),
            },
            number,
        )
    if not has_operations:
        raise HistoryError("this is no history: neither JSON, EDN nor a log with operations", line=1)


def _value(text: str, kind: str, line: int) -> Any:
    """The first form; what may follow it says why an operation failed."""
    try:
        return next((form.value for form in edn.read(text)), None)
    except HistoryError as error:
        if kind in ("invoke", "ok"):
            raise HistoryError(error.message, line=line) from None
        return text  # what an error says is no data
