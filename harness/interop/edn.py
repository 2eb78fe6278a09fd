"""Reading and writing EDN (extensible data notation), the part that histories are made of, with line numbers.

Tags are kept by name and never acted upon. The format: github.com/edn-format/edn.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, NamedTuple

from harness.columns import hashable
from harness.errors import HistoryError


class Keyword(str):
    """A keyword, without its colon."""

    __slots__ = ()


class Symbol(str):
    """A symbol other than nil, true and false."""

    __slots__ = ()


class Tagged(NamedTuple):
    """A form with a tag, or another mark that only Clojure acts upon, before it."""

    tag: str
    form: Any


class Unreadable(NamedTuple):
    """A literal that means nothing here: harmless, unless it stands where a value is needed."""

    text: str
    why: str = "is neither a number nor a name"

    def __str__(self) -> str:
        return f"{shortened(self.text)!r} {self.why}"


class Form(NamedTuple):
    """A top-level form, the line that it begins on, and those that its items begin on if it is a vector or a list."""

    value: Any
    line: int
    lines: list[int]


_TOKEN: Final = re.compile(
    r"""(?P<lead>[\s,]*)(?:
      (?P<comment>;[^\n]*|\#![^\n]*)
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<open>\#\{|[\[({])
    | (?P<close>[\])}])
    | (?P<discard>\#_|\#?\^)
    | (?P<pattern>\#"(?:[^"\\]|\\.)*")
    | (?P<object>\#<(?:[^<>\n]|<[^<>\n]*>)*>)
    | (?P<namespace>\#::?[^\s,;"\[\](){}\\\#]*)
    | (?P<special>\#\#[^\s,;"\[\](){}\\\#]+)
    | (?P<tag>\#(?:[^\W\d][^\s,;"\[\](){}\\\#]*|['=?]|(?=\())|[@'`~]+)
    | (?P<char>\\(?:[A-Za-z][A-Za-z0-9]*|.))
    | (?P<atom>[^\s,;"\[\](){}\\\#][^\s,;"\[\](){}]*)
    | (?P<end>\Z))""",
    re.VERBOSE | re.DOTALL,
)
_CLOSES: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_DECIMAL: Final = re.compile(r"[+-]?\d+(N|M|(?P<float>(\.\d*)?([eE][+-]?\d+)?M?))?\Z")
_OTHER_BASE: Final = re.compile(r"(?P<sign>[+-]?)(0[xX](?P<hex>[0-9A-Fa-f]+)|(?P<base>\d\d?)[rR](?P<digits>\w+))N?\Z")
_RATIO: Final = re.compile(r"[+-]?\d+/0*[1-9]\d*\Z")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "'": "'"}
_CHARACTERS: Final = {
    "newline": "\n", "space": " ", "tab": "\t", "return": "\r", "backspace": "\b", "formfeed": "\f",
}  # fmt: skip
_SPECIAL: Final = {"##NaN": math.nan, "##Inf": math.inf, "##-Inf": -math.inf}
DEEPEST: Final = 200
"""How deep forms may be nested: far more than any history needs, and less than what exhausts the stack."""
MOST_DIGITS: Final = 4000
"""How many digits a number may have: Python reads no longer ones."""


def read(text: str) -> Iterator[Form]:
    """The top-level forms of a text. Raises ``HistoryError`` with the line where the text stops being EDN."""
    reader = _Reader(text)
    while (token := reader.peek()) is not None:
        line = reader.line
        if token[0] == "discard":
            reader.next()
            reader.form(0)
            continue
        lines: list[int] = []
        value = reader.form(0, lines)
        if isinstance(value, Unreadable):
            raise HistoryError(str(value), line=line)
        yield Form(value, line, lines)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.line = 1
        self._token: tuple[str, str] | None = None

    def peek(self) -> tuple[str, str] | None:
        """The next token, its kind and its text; None at the end. ``line`` is then the line that it stands on."""
        while self._token is None:
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                rest = self._text[self._at :].lstrip(" \n\r\t,")
                self.line += self._text.count("\n", self._at, len(self._text) - len(rest))
                raise HistoryError(f"this is not EDN: {rest[:20]!r}", line=self.line)
            kind = match.lastgroup
            assert kind is not None
            if "\n" in (lead := match["lead"]):
                self.line += lead.count("\n")
            self._at = match.end()
            if kind == "end":
                return None
            if kind != "comment":
                self._token = (kind, match[kind])
        return self._token

    def next(self) -> tuple[str, str]:
        """Take the next token."""
        token = self._token or self.peek()
        if token is None:
            raise HistoryError("the file ends in the middle of a form", line=self.line)
        self._token = None
        if token[0] in ("string", "pattern"):
            self.line += token[1].count("\n")
        return token

    def form(self, depth: int, lines: list[int] | None = None) -> Any:
        """Read one form. The lines of its items are appended to ``lines``."""
        if depth > DEEPEST:
            raise HistoryError(f"forms are nested more than {DEEPEST} deep", line=self.line)
        self.peek()
        line = self.line
        kind, text = self.next()
        match kind:
            case "atom":
                return _atom(text)
            case "string":
                return _string(text)
            case "open":
                return self._collection(text, depth, line, lines)
            case "tag":
                return Tagged(text[1:], self.form(depth + 1, lines))
            case "namespace":
                return _in_namespace(text.strip("#:"), self.form(depth + 1))
            case "discard":
                self.form(depth + 1)
                return self.form(depth + 1, lines)
            case "char":
                return _character(text[1:])
            case "special":
                return _SPECIAL.get(text, Unreadable(text))
            case "pattern":
                return text[2:-1]
            case "object":
                return Unreadable(text)
        raise HistoryError(f"{text!r} closes nothing", line=line)

    def _collection(self, opened: str, depth: int, line: int, lines: list[int] | None) -> Any:
        closing = _CLOSES[opened]
        items: list[Any] = []
        while True:
            token = self.peek()
            if token is None:
                raise HistoryError(f"{opened!r} is never closed", line=line)
            if token[0] == "close":
                if token[1] != closing:
                    raise HistoryError(f"{opened!r} is closed by {token[1]!r}", line=self.line)
                self.next()
                break
            if token[0] == "discard":
                self.next()
                self.form(depth + 1)
                continue
            if lines is not None:
                lines.append(self.line)
            items.append(self.form(depth + 1))
        if opened == "#{":
            return frozenset(hashable(item) for item in items)
        if opened == "{":
            if len(items) % 2:
                raise HistoryError("a map has a key without a value", line=line)
            keys = [hashable(key) for key in items[::2]]
            if len({(type(key), key) for key in keys}) < len(keys):
                raise HistoryError("a map has the same key twice", line=line)
            return dict(zip(keys, items[1::2], strict=True))
        return items


def _in_namespace(namespace: str, form: Any) -> Any:
    """A map whose keywords belong to a namespace, unless they name their own; ``:_/x`` belongs to none."""
    if not isinstance(form, dict):
        return Tagged(namespace, form)

    def named(key: Any) -> Any:
        if not isinstance(key, Keyword):
            return key
        return Keyword(key.removeprefix("_/")) if "/" in key else Keyword(f"{namespace}/{key}")

    return {named(key): value for key, value in form.items()}


def _atom(text: str) -> Any:
    if text in ("nil", "true", "false"):
        return {"nil": None, "true": True, "false": False}[text]
    if text.startswith(":"):
        name = text.lstrip(":")
        return Keyword(name) if name else Unreadable(text)
    if text[0].isdigit() or (text[0] in "+-" and text[1:2].isdigit()):
        return _number(text)
    return Symbol(text)


def _number(text: str) -> Any:
    match = _DECIMAL.match(text)
    if match is not None and match["float"]:
        return float(text.rstrip("M"))
    if len(text) > MOST_DIGITS:
        return Unreadable(text, f"is longer than {MOST_DIGITS:,} digits")
    if match is not None:
        return int(text.rstrip("NM"))
    if _RATIO.match(text):
        ratio = Fraction(text)
        return ratio.numerator if ratio.denominator == 1 else str(ratio)
    if (other := _OTHER_BASE.match(text)) is not None:
        try:
            return int(other["sign"] + (other["hex"] or other["digits"]), 16 if other["hex"] else int(other["base"]))
        except ValueError:
            pass
    return Unreadable(text)


def _character(name: str) -> Any:
    if len(name) == 1:
        return name
    if re.fullmatch("u[0-9A-Fa-f]{4}", name):
        return _joined(chr(int(name[1:], 16)))
    return _CHARACTERS.get(name, Unreadable("\\" + name))


def _string(text: str) -> Any:
    """The text that a string means. One with an unknown escape is ``Unreadable``."""
    unknown: list[str] = []

    def unescape(match: re.Match[str]) -> str:
        code = match.group(1)
        if len(code) > 1:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            unknown.append(code)
        return _ESCAPES.get(code, "")

    if "\\" not in text:
        return text[1:-1]
    meant = re.sub(r"\\(u[0-9A-Fa-f]{4}|.)", unescape, text[1:-1], flags=re.DOTALL)
    if unknown:
        return Unreadable(text, f"has an unknown escape \\{unknown[0]}")
    return _joined(meant)


def _joined(text: str) -> str:
    """Text whose halves of surrogate pairs are one character again; half a pair alone is shown by its number."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "backslashreplace")


def shortened(text: str, most: int = 60) -> str:
    """The beginning of a text, for a message."""
    return text if len(text) <= most else text[: most - 3] + "..."


def write(value: Any) -> str:
    """A value as EDN on one line; text becomes a string unless it is a ``Keyword``."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Keyword):
        return f":{value}"
    if isinstance(value, str):
        return '"' + _UNSAFE.sub(_escape, value) + '"'
    if isinstance(value, Tagged):
        return f"#{value.tag} {write(value.form)}"
    if isinstance(value, Unreadable):
        return write(value.text)
    if isinstance(value, float) and not math.isfinite(value):
        return "##NaN" if math.isnan(value) else "##Inf" if value > 0 else "##-Inf"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{write(key)} {write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, frozenset | set):
        return "#{" + " ".join(sorted(write(item) for item in value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + " ".join(write(item) for item in value) + "]"
    return repr(value)


_UNSAFE: Final = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]')
_WRITTEN: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(match: re.Match[str]) -> str:
    """What a terminal would act upon, or no text may hold, by its number."""
    character = match.group()
    return _WRITTEN.get(character) or f"\\u{ord(character):04x}"
