"""Operations from JSON: an object a line, or an array of them. One may also be ``[process, type, f, value]``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from harness.doubled import DoubledError, as_map
from harness.errors import HistoryError
from harness.interop.edn import DEEPEST, MOST_DIGITS, Unreadable

_BETWEEN: Final = re.compile(r"[\s,]*")


class JsonText:
    """The operations of a text, one after the other. ``torn``: it ended in the middle of its last line."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line, self._counted = 1, 0
        self._decode = json.JSONDecoder(parse_int=_whole, object_pairs_hook=as_map).raw_decode
        self.torn = False

    def operations(self) -> Iterator[tuple[Any, int]]:
        """Each operation and its line. Raises ``HistoryError`` with the line where the text stops being JSON."""
        text, at = self._text, self._skip(0)
        while at < len(text):
            inner = self._skip(at + 1)
            if text[at] == "[" and text[inner : inner + 1] in ("{", "[", "]"):
                while text[inner : inner + 1] != "]":
                    value, end = self._value(inner)
                    yield value, self._line_of(inner)
                    inner = self._skip(end)
                at = self._skip(inner + 1)
                continue
            try:
                value, end = self._value(at)
            except DoubledError:
                raise
            except HistoryError:
                if at == 0 or "\n" in text[at:]:
                    raise
                self.torn = True
                return
            yield value, self._line_of(at)
            at = self._skip(end)

    def _skip(self, at: int) -> int:
        match = _BETWEEN.match(self._text, at)
        assert match is not None
        return match.end()

    def _line_of(self, at: int) -> int:
        self._line += self._text.count("\n", self._counted, at)
        self._counted = at
        return self._line

    def _value(self, at: int) -> tuple[Any, int]:
        try:
            return self._decode(self._text, at)
        except json.JSONDecodeError as error:
            reason = error.msg[:1].lower() + error.msg[1:]
            raise HistoryError(
                f"this is not JSON: {reason}", line=self._line_of(at) + self._text.count("\n", at, error.pos)
            ) from None
        except DoubledError as error:
            raise DoubledError(error.message, line=self._line_of(at)) from None
        except StopIteration:
            raise HistoryError("the file ends in the middle of an array", line=self._line_of(at)) from None
        except RecursionError:
            raise HistoryError(f"values are nested more than {DEEPEST} deep", line=self._line_of(at)) from None


def _whole(text: str) -> Any:
    return int(text) if len(text) <= MOST_DIGITS else Unreadable(text, f"is longer than {MOST_DIGITS:,} digits")
