"""From operations as any tool wrote them, maps of fields, to a history.

The fields are ``process``, ``type``, ``f`` and ``value`` and, where they are known, ``key``, ``time``, ``index``,
``node`` and ``error``; everything else is passed over. The value of a completion stands for the operation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import numpy as np

from harness.columns import LARGEST, refuse_repeated
from harness.errors import HistoryError, field
from harness.history import TYPE_CODES, History, HistoryBuilder
from harness.interop import edn
from harness.interop.edn import DEEPEST, Tagged, Unreadable
from harness.interop.plain_edn import Plain
from harness.operation import MONITOR, NEMESIS, Event

_TUPLE: Final = "independent/tuple"
_POSITIONS: Final = ("process", "type", "f", "value")
_USUAL: Final = 6
"""How many fields an operation has that completes without an error."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def is_operation(form: Any) -> bool:
    """Whether a form is one operation: a map, or ``[process type f value]`` as Knossos' tests write it."""
    if isinstance(form, dict):
        return True
    return isinstance(form, list) and len(form) >= 3 and isinstance(form[1], str) and _name(form[1]) in TYPE_CODES


def untagged(form: Any) -> Any:
    """A form without the tags before it: a record is the map of its fields."""
    while isinstance(form, Tagged):
        form = form.form
    return form


def history(operations: Iterable[tuple[Any, int]], *, independent: bool) -> History:
    """The history of these operations, each with the line that it stands on. Raises ``HistoryError`` with a line."""
    reader = _Reader(independent=independent)
    for form, line in operations:
        try:
            reader.take(untagged(form), line)
        except HistoryError as error:
            raise HistoryError(error.message, line=line) from None
    return reader.history()


class _Reader:
    def __init__(self, *, independent: bool) -> None:
        self._independent = independent
        self._events: list[Event] = []
        self._lines: list[int] = []
        self._times: list[int | None] = []
        self._indices: list[int | None] = []
        self._asked: dict[int | str, Any] = {}
        self._keyed = independent
        """Whether operations have keys, which their completions may leave out."""

    def take(self, form: Any, line: int) -> None:
        """Read one operation."""
        if isinstance(form, Plain) and not self._keyed and (event := _plain_event(form)) is not None:
            self._times.append(form["time"])
            self._indices.append(form["index"])
            self._events.append(event)
            self._lines.append(line)
            return
        if not is_operation(form):
            raise HistoryError(f"an operation is a map, not {_shown(form)}")
        fields = _fields(form)
        self._times.append(_time(fields.get("time")))
        self._indices.append(_index(fields.get("index")))
        event = self._event(fields)
        if event.type == "invoke":
            self._asked[event.process] = event.key
            self._keyed |= event.key is not None
        elif event.key is None and event.process != NEMESIS:
            event.key = self._asked.get(event.process)  # a completion without a value still belongs to its key
        self._events.append(event)
        self._lines.append(line)

    def _event(self, fields: dict[Any, Any]) -> Event:
        process = _process(fields.get("process"))
        client = process not in (NEMESIS, MONITOR)
        kind = fields.get("type")
        if not isinstance(kind, str) or _name(kind) not in TYPE_CODES:
            raise HistoryError(f"an operation has the type {_shown(kind)}, not invoke, ok, fail or info")
        f = fields.get("f")
        if client and not (isinstance(f, str) and f):
            raise HistoryError(f"an operation has the function {_shown(f)}, not a name")
        matters = client and _name(kind) in ("invoke", "ok")
        key, value = fields.get("key"), fields.get("value")
        tagged = isinstance(value, Tagged) and value.tag.endswith(_TUPLE)
        if tagged or (self._independent and client):
            pair = untagged(value)
            if isinstance(pair, list) and len(pair) == 2:
                key, value = pair
            elif matters:
                raise HistoryError(f"with {field('independent', True)} a value is [key value], not {_shown(pair)}")
        node, error = fields.get("node"), plain(fields.get("error"), strict=False)
        return Event(
            index=0,
            time=0,
            process=process,
            type=_name(kind),  # type: ignore[arg-type]
            f=_name(f) if isinstance(f, str) else _shown(f),
            key=plain(key),
            value=value if isinstance(fields, Plain) else plain(value, strict=matters),
            node=plain(node) if isinstance(node, str) else None,
            error=error if error is None or isinstance(error, str) else edn.write(error),
        )

    def history(self) -> History:
        """All that was taken."""
        if not self._events:
            raise HistoryError("there is no operation in it", line=1)
        notes = self._number_named_processes()
        lines = np.array(self._lines, dtype=np.int64)
        # A field that holds -1 throughout is one that jepsen.history did not know.
        timed = None not in self._times and set(self._times) != {-1}
        for row, event in enumerate(self._events):
            time = self._times[row] if timed else row
            if time is None or time < 0:
                raise HistoryError(f"an operation has the time {time}, before the run began", line=self._lines[row])
            event.time = time
        indexed = None not in self._indices and set(self._indices) != {-1}
        index = np.array(self._indices, dtype=np.int64) if indexed else None
        if index is not None:
            refuse_repeated(index, lines)
        builder = HistoryBuilder()
        builder.add(self._events)
        built = builder.build(line=lines, index=index, restated=True)
        built.notes += notes
        return built

    def _number_named_processes(self) -> list[str]:
        """Clients that have names get numbers, as everything else here has: the first that are free."""
        clients = [e.process for e in self._events if e.process not in (NEMESIS, MONITOR)]
        names = dict.fromkeys(process for process in clients if isinstance(process, str))
        first = 1 + max((process for process in clients if isinstance(process, int)), default=-1)
        numbers: dict[int | str, int] = {name: number for number, name in enumerate(names, first)}
        for event in self._events:
            event.process = numbers.get(event.process, event.process)
        if not names:
            return []
        numbering = ", ".join(f"{name!r} is {number}" for name, number in list(numbers.items())[:10])
        return [f"processes with names are numbered: {numbering}{', ...' if len(names) > 10 else ''}"]


def _plain_event(form: Plain) -> Event | None:
    """The event of a map as nearly all are, of a client and without a key; None for any other, which has to be read."""
    process, kind, f = form.get("process"), form.get("type"), form.get("f")
    usual = type(process) is int and process >= 0 and type(f) is str and f and type(form.get("index")) is int
    if not usual or kind not in TYPE_CODES or type(form.get("time")) is not int or len(form) != _USUAL:
        return None
    if form["index"] < -1 or "value" not in form:
        return None
    return Event(index=0, time=0, process=process, type=kind, f=f, value=form["value"])  # type: ignore[arg-type]


def _fields(form: Any) -> dict[Any, Any]:
    """The fields of an operation by name; in a map of one namespace the names without it."""
    if isinstance(form, list):
        return dict(zip(_POSITIONS, form, strict=False))
    fields: dict[Any, Any] = form
    if "type" not in fields:
        fields = {(key.rpartition("/")[2] if isinstance(key, str) else key): value for key, value in fields.items()}
    return fields


def _name(text: str) -> str:
    return str(text).removeprefix(":")


def _whole(value: Any) -> Any:
    """A number that is whole as one, whatever it was written as."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _process(given: Any) -> int | str:
    given = _whole(untagged(given))
    if isinstance(given, str):
        name = _name(plain(given))
        if "nemesis" in name:
            return NEMESIS
        if name == MONITOR:
            return MONITOR
        if not re.fullmatch(r"-?\d+", name):
            if not name:
                raise HistoryError("an operation has a process without a name")
            return name
        given = int(name) if len(name) < 30 else Unreadable(name)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < LARGEST:
        raise HistoryError(f"an operation has the process {_shown(given)}, not a number from 0 on")
    return given


def _time(given: Any) -> int | None:
    """Nanoseconds; None where there are none: a date says nothing about a monotonic clock."""
    given = _whole(untagged(given))
    if given is None or isinstance(given, float):
        return None
    if isinstance(given, str):
        try:
            datetime.fromisoformat(given)
        except ValueError:
            pass
        else:
            return None
    if isinstance(given, bool) or not isinstance(given, int) or not -LARGEST < given < LARGEST:
        raise HistoryError(f"an operation has the time {_shown(given)}, not a number of nanoseconds")
    return given


def _index(given: Any) -> int | None:
    given = _whole(given)
    if isinstance(given, bool) or not isinstance(given, int):
        return None
    if not -1 <= given < LARGEST:
        raise HistoryError(f"an operation has the index {_shown(given)}, not a number from 0 on")
    return given


def _shown(form: Any) -> str:
    """A form in a message, however long or odd it is."""
    value = plain(form, strict=False)
    return edn.shortened(repr(value) if isinstance(value, str) else edn.write(value))


def plain(value: Any, depth: int = 0, *, strict: bool = True) -> Any:
    """A value as JSON has it, and sets: keywords and symbols as text, tags dropped.

    What is no value at all is text as well, unless the value is to be ``strict``: then it raises ``HistoryError``.
    """
    if depth > DEEPEST:
        raise HistoryError(f"values are nested more than {DEEPEST} deep")
    match value:
        case Tagged():
            return plain(value.form, depth + 1, strict=strict)
        case Unreadable():
            if strict:
                raise HistoryError(str(value))
            return value.text
        case str():
            text = str(value)
            return text if text.isascii() else _SURROGATE.sub(lambda half: f"\\u{ord(half.group()):04x}", text)
        case list():
            return [plain(item, depth + 1, strict=strict) for item in value]
        case tuple():
            return tuple(plain(item, depth + 1, strict=strict) for item in value)
        case frozenset():
            return frozenset(plain(item, depth + 1, strict=strict) for item in value)
        case dict():
            return {_field(key, depth): plain(item, depth + 1, strict=strict) for key, item in value.items()}
    return value


def _field(key: Any, depth: int) -> Any:
    """A key of a map as JSON has it: text or a number."""
    key = plain(key, depth + 1, strict=False)
    return key if isinstance(key, str | int | float) and not isinstance(key, bool) else edn.write(key)
