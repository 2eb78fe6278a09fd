"""Histories of Jepsen and Knossos, and of Porcupine's tests, as EDN: in and out.

An EDN history is a vector or a list of operations, or one operation a line: maps or records with ``:process``,
``:type``, ``:f``, ``:value``, or vectors of these four; the names may be keywords or strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from harness.history import History
from harness.interop import edn, plain_edn
from harness.interop.fields import is_operation, untagged

_NAME: Final = re.compile(r"[A-Za-z*!_?$%&=<>+-][\w*!?$%&=<>+.'#-]*(/[\w*!?$%&=<>+.'#-]+)?\Z", re.ASCII)


def operations(text: str) -> Iterator[tuple[Any, int]]:
    """Each operation of an EDN text and its line. Raises ``HistoryError`` with a line number."""
    if (quickly := plain_edn.operations(text)) is not None:
        yield from quickly
        return
    for form in edn.read(text):
        value = untagged(form.value)
        if isinstance(value, list) and not is_operation(value):
            yield from zip(value, form.lines, strict=True)
        else:
            yield value, form.line


def to_edn(history: History, write: Callable[[str], object]) -> None:
    """Write a history as Jepsen's own tools read it: a map a line; where there are keys, a value is ``[key value]``."""
    keyed = any(key is not None for key in history.keys)
    for event in history.events():
        client = isinstance(event.process, int)
        operation = {
            edn.Keyword("index"): event.index,
            edn.Keyword("time"): event.time,
            edn.Keyword("process"): event.process if client else edn.Keyword(event.process),
            edn.Keyword("type"): edn.Keyword(event.type),
            edn.Keyword("f"): edn.Keyword(event.f) if _NAME.match(event.f) else event.f,
            edn.Keyword("value"): [event.key, event.value] if keyed and client else event.value,
        }
        if event.error is not None:
            operation[edn.Keyword("error")] = event.error
        write(edn.write(operation) + "\n")
