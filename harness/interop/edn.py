"""Reading and writing EDN (extensible data notation), the part that histories are made of, with line numbers.

Tags are kept by name and never acted upon. The format: github.com/edn-format/edn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from harness.errors import HistoryError


class Keyword(str):
    """A keyword, without its colon."""

    __slots__ = ()


class Symbol(str):
    """A symbol other than nil, true and false."""

    __slots__ = ()


class Tagged(NamedTuple):
    """A form with a tag before it."""

    tag: str
    form: Any


class Form(NamedTuple):
    """A top-level form and the line that it begins on."""

    value: Any
    line: int


_TOKEN: Final = re.compile(
    r"""(?P<space>[\s,]+|;[^\n]*)
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<open>\#\{|[\[({])
    | (?P<close>[\])}])
    | (?P<discard>\#_)
    | (?P<tag>\#[A-Za-z][\w.\-/]*)
    | (?P<char>\\(?:newline|space|tab|return|u[0-9A-Fa-f]{4}|.))
    | (?P<atom>[^\s,;"\[\](){}\\\#][^\s,;"\[\](){}]*)""",
    re.VERBOSE | re.DOTALL,
)
_CLOSES: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_NUMBER: Final = re.compile(r"[+-]?\d+(N|M|(?P<float>(\.\d*)?([eE][+-]?\d+)?M?))?\Z")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}
_CHARACTERS: Final = {"newline": "\n", "space": " ", "tab": "\t", "return": "\r"}
_DEEPEST: Final = 200


def read(text: str) -> Iterator[Form]:
    """The top-level forms of a text. Raises ``HistoryError`` with the line where the text stops being EDN."""
    reader = _Reader(text)
    while (token := reader.peek()) is not None:
        line = reader.line
        if token[0] == "discard":
            reader.next()
            reader.form(0)
            continue
        yield Form(reader.form(0), line)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.line = 1
        self._token: tuple[str, str] | None = None

    def peek(self) -> tuple[str, str] | None:
        """The next token, its kind and its text; None at the end. ``line`` is then the line that it stands on."""
        while self._token is None and self._at < len(self._text):
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                raise HistoryError(f"this is not EDN: {self._text[self._at : self._at + 20]!r}", line=self.line)
            assert match.lastgroup is not None
            if match.lastgroup == "space":
                self._at = match.end()
                self.line += match.group().count("\n")
                continue
            self._token = (match.lastgroup, match.group())
        return self._token

    def next(self) -> tuple[str, str]:
        """Take the next token."""
        token = self.peek()
        if token is None:
            raise HistoryError("the file ends in the middle of a form", line=self.line)
        self._token = None
        self._at += len(token[1])
        self.line += token[1].count("\n")
        return token

    def form(self, depth: int) -> Any:
        """Read one form."""
        if depth > _DEEPEST:
            raise HistoryError(f"forms are nested more than {_DEEPEST} deep", line=self.line)
        line = self.line
        kind, text = self.next()
        if kind == "atom":
            return _atom(text, line)
        if kind == "string":
            return _string(text, line)
        if kind == "open":
            return self._collection(text, depth, line)
        if kind == "tag":
            return Tagged(text[1:], self.form(depth + 1))
        if kind == "discard":
            self.form(depth + 1)
            return self.form(depth)
        if kind == "char":
            name = text[1:]
            return chr(int(name[1:], 16)) if len(name) == 5 and name[0] == "u" else _CHARACTERS.get(name, name)
        raise HistoryError(f"{text!r} closes nothing", line=line)

    def _collection(self, opened: str, depth: int, line: int) -> Any:
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
            items.append(self.form(depth + 1))
        if opened == "{":
            if len(items) % 2:
                raise HistoryError("a map has a key without a value", line=line)
            return {_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}
        return items


def _key(key: Any) -> Any:
    return tuple(_key(item) for item in key) if isinstance(key, list) else str(key) if isinstance(key, dict) else key


def _atom(text: str, line: int) -> Any:
    if text in ("nil", "true", "false"):
        return {"nil": None, "true": True, "false": False}[text]
    if text.startswith(":") and len(text) > 1:
        return Keyword(text[1:])
    match = _NUMBER.match(text)
    if match is not None:
        return float(text.rstrip("M")) if match["float"] else int(text.rstrip("NM"))
    if text[0].isdigit() or text[0] == ":":
        raise HistoryError(f"{text!r} is neither a number nor a name", line=line)
    return Symbol(text)


def _string(text: str, line: int) -> str:
    def unescape(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] == "u":
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            raise HistoryError(f"a string has an unknown escape \\{code}", line=line)
        return _ESCAPES[code]

    return re.sub(r"\\(u[0-9A-Fa-f]{4}|.)", unescape, text[1:-1], flags=re.DOTALL)


def write(value: Any) -> str:
    """A value as EDN on one line; text becomes a string unless it is a ``Keyword``."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Keyword):
        return f":{value}"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        return '"' + escaped.replace("\t", "\\t") + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{write(key)} {write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + " ".join(write(item) for item in value) + "]"
    return repr(value)
