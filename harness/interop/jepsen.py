"""Histories of Jepsen and Knossos (EDN, text logs) and of Porcupine's tests (EDN), and writing the former.

An EDN history is a vector or a list of operations, or one operation a line: maps with ``:process``, ``:type``, ``:f``,
``:value`` and, where they are known, ``:key``, ``:time`` and ``:index``; keys may be keywords or strings. A text log
has lines like ``INFO  jepsen.util - 3 :invoke :cas [1 2]``. Where not every operation has a time, the order counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np

from harness.errors import HistoryError
from harness.history import TYPE_CODES, History, HistoryBuilder
from harness.interop import edn
from harness.operation import NEMESIS, Event

_LOG_LINE: Final = re.compile(
    r"(?:.*?\s-\s+)?(?P<process>\d+|:nemesis)\s+:(?P<type>\w+)\s+(?P<f>:\S+)(?:\s+(?P<value>.*))?\Z"
)
_TUPLE_TAG: Final = "jepsen.independent/tuple"


def from_edn(text: str, *, independent: bool) -> History:
    """The history in an EDN text. Raises ``HistoryError`` with a line number."""
    return _build(_operations(edn.read(text)), independent=independent)


def _operations(forms: Iterable[edn.Form]) -> Iterator[tuple[dict[Any, Any], int]]:
    for form in forms:
        value = form.value.form if isinstance(form.value, edn.Tagged) else form.value
        inner = value if isinstance(value, list) else [value]
        for item in inner:
            operation = item.form if isinstance(item, edn.Tagged) else item
            if not isinstance(operation, dict):
                raise HistoryError(f"an operation is a map, not {edn.write(_plain(operation))[:60]}", line=form.line)
            yield operation, form.line


def from_log(text: str, *, independent: bool) -> History:
    """The history in a text log; lines of other kinds are passed over. Raises ``HistoryError`` with a line number."""
    return _build(_log_operations(text), independent=independent)


def _log_operations(text: str) -> Iterator[tuple[dict[Any, Any], int]]:
    for number, line in enumerate(text.splitlines(), 1):
        match = _LOG_LINE.match(line.strip())
        if match is None:
            if line.strip() and re.search(r"\s:(invoke|ok|fail|info)\b", line):
                raise HistoryError("this looks like an operation, but is not one", line=number)
            continue
        process = match["process"]
        given = match["value"] or "nil"
        try:
            forms = [form.value for form in edn.read(given)]
        except HistoryError as error:
            if match["type"] in ("invoke", "ok"):
                raise HistoryError(error.message, line=number) from None
            forms = [given]  # what an error says is no data
        yield (
            {
                "process": int(process) if process.isdigit() else NEMESIS,
                "type": match["type"],
                "f": edn.Keyword(match["f"][1:]),
                "value": forms[0] if forms else None,
            },
            number,
        )


def _build(operations: Iterable[tuple[dict[Any, Any], int]], *, independent: bool) -> History:
    read = list(operations)
    if not read:
        raise HistoryError("there is no operation in it", line=1)
    timed = all(isinstance(_get(operation, "time"), int) for operation, _ in read)
    events, lines, asked = [], [], {}
    for index, (operation, line) in enumerate(read):
        event = _event(operation, index, line, timed=timed, independent=independent)
        if event.type == "invoke":
            asked[event.process] = event.key
        elif event.key is None and event.process != NEMESIS:
            event.key = asked.get(event.process)  # a completion without a value still belongs to its key
        events.append(event)
        lines.append(line)
    builder = HistoryBuilder()
    builder.add(events)
    return builder.build(line=np.array(lines, dtype=np.int64))


def _event(operation: dict[Any, Any], index: int, line: int, *, timed: bool, independent: bool) -> Event:
    kind = _get(operation, "type")
    if kind not in TYPE_CODES:
        raise HistoryError(f"an operation has the type {kind!r}, not invoke, ok, fail or info", line=line)
    process = _get(operation, "process")
    if isinstance(process, bool) or not (isinstance(process, int) and process >= 0):
        if process is None or isinstance(process, int):
            raise HistoryError(f"an operation has the process {process!r}, not a number from 0 on", line=line)
        process = NEMESIS
    f = _get(operation, "f")
    if not isinstance(f, str):
        raise HistoryError(f"an operation has the function {f!r}, not a name", line=line)
    key, value = _get(operation, "key"), _get(operation, "value")
    tagged = isinstance(value, edn.Tagged) and value.tag == _TUPLE_TAG
    if tagged or (independent and process != NEMESIS):
        pair = value.form if isinstance(value, edn.Tagged) else value
        if isinstance(pair, list) and len(pair) == 2:
            key, value = pair
        elif kind in ("invoke", "ok"):
            raise HistoryError(f"with --independent a value is [key value], not {edn.write(_plain(pair))}", line=line)
    error = _get(operation, "error")
    return Event(
        index=index,
        time=_get(operation, "time") if timed else index,
        process=process,
        type=str(kind),  # type: ignore[arg-type]
        f=str(f),
        key=_plain(key),
        value=_plain(value),
        error=None if error is None else edn.write(_plain(error)),
    )


def _get(operation: dict[Any, Any], name: str) -> Any:
    """A field by keyword or by string: a ``Keyword`` is a string, so both are the same key."""
    return operation.get(name)


def _plain(value: Any) -> Any:
    """A value as JSON has it: keywords and symbols as text, tags dropped."""
    if isinstance(value, edn.Tagged):
        return _plain(value.form)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value


def to_edn(history: History, write: Callable[[str], object]) -> None:
    """Write a history as Jepsen's own tools read it: a map a line; a keyed operation's value is ``[key value]``."""
    for event in history.events():
        process: Any = event.process if isinstance(event.process, int) else edn.Keyword(event.process)
        value = event.value if event.key is None else [event.key, event.value]
        operation = {
            edn.Keyword("index"): event.index,
            edn.Keyword("time"): event.time,
            edn.Keyword("process"): process,
            edn.Keyword("type"): edn.Keyword(event.type),
            edn.Keyword("f"): edn.Keyword(event.f),
            edn.Keyword("value"): value,
        }
        if event.error is not None:
            operation[edn.Keyword("error")] = event.error
        write(edn.write(operation) + "\n")
