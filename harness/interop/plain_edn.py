"""EDN of a map a line, as Jepsen writes histories, read faster: most lines become JSON by a few replacements.

A line is taken here only if it is made of keywords, whole numbers, simple strings, nil, true, false, vectors and maps;
all others are left to the reader of whole EDN, which also has the last word on what is wrong with a file.
"""

from __future__ import annotations

import re
from itertools import product
from typing import Any, Final

import msgspec

from harness.errors import HistoryError
from harness.interop import edn

_LINES: Final = 4096
"""So many lines are turned into JSON at a time."""
_SIMPLE: Final = re.compile(r'\{:(?:[^"\\#;\'()^@`~|<>=+{}\x00-\x1f]++|"[\w.-]*+"|[{}])*+(?<=\})\s*\Z', re.ASCII)
_ODD_KEYWORD: Final = re.compile(r"(?<![ \[{,]):|:(?![A-Za-z*!_?$%&][\w./*!?$%&-]*+[ \]},])", re.ASCII)
"""A colon that does not begin a keyword, or begins one that does not end as others do."""
_LONG_NUMBER: Final = re.compile(r"\d{18}")
_FIELDS: Final = ("index", "time", "process", "type", "f", "value", "key", "node", "error")
_WORDS: Final = ("invoke", "ok", "info", "fail", "txn", "append", "r", "w")
"""Names that stand in most lines: replacing a text is many times faster than replacing a pattern."""
_KEY: Final = re.compile(r"([{,]) ?:([\w./*!?$%&-]+) ", re.ASCII)
_KEYWORD: Final = re.compile(r":([A-Za-z*!_?$%&][\w./*!?$%&-]*)", re.ASCII)
_DOUBLED: Final = re.compile(r'"(index|time|process|type|f|value|key|node|error)":.*"\1":')


class Plain(dict[str, Any]):
    """A map of values that are as JSON has them already."""


def operations(text: str) -> list[tuple[Any, int]] | None:
    """Each operation and its line; None if the text is not one of a map a line, or is not EDN somewhere."""
    lines = text.split("\n")
    found: list[tuple[Any, int]] = []
    for first in range(0, len(lines), _LINES):
        block = lines[first : first + _LINES]
        simple = [at for at, line in enumerate(block) if _SIMPLE.match(line)]
        forms = dict(zip(simple, _as_json([block[at] for at in simple]), strict=True))
        for at, line in enumerate(block):
            if (quickly := forms.get(at)) is not None:
                found.append((quickly, first + at + 1))
            elif line.strip():
                form = _alone(line)
                if form is None:
                    return None
                found.append((form, first + at + 1))
    return found


def _as_json(lines: list[str]) -> list[Plain | None]:
    """The maps of lines that are simple; None for each that is not JSON after the replacements."""
    if (maps := _all_as_json(lines)) is not None:
        return [*maps]
    if len(lines) == 1:
        return [None]
    half = len(lines) // 2
    return [*_as_json(lines[:half]), *_as_json(lines[half:])]


def _all_as_json(lines: list[str]) -> list[Plain] | None:
    given = text = "\n".join(line.rstrip() for line in lines)
    if '":' in text or _LONG_NUMBER.search(text):
        return None
    for name in _FIELDS:
        text = text.replace(f"{{:{name} ", f'{{"{name}":').replace(f", :{name} ", f',"{name}":')
    for name in _WORDS:
        text = text.replace(f":{name} ", f'"{name}" ').replace(f":{name},", f'"{name}",')
    if text.count(":") != text.count('":'):
        if _ODD_KEYWORD.search(given):
            return None
        text = _KEYWORD.sub(r'"\1"', _KEY.sub(r'\1"\2":', text))
    for before, behind in product(" [:,", " ]},") if "nil" in text else ():
        for _ in range(2):  # of two with one space between them the second one is found at the second time
            text = text.replace(f"{before}nil{behind}", f"{before}null{behind}")
    if "nil" in text:
        return None  # as a part of something else
    text = text.replace(" ", ",")
    try:
        maps = msgspec.json.Decoder(dict[str, Any]).decode_lines(text)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if len(maps) != len(lines) or (text.count('":') != sum(map(len, maps)) and _DOUBLED.search(text)):
        return None
    return [Plain(fields) for fields in maps]


def _alone(line: str) -> Any:
    """The map on a line, read as whole EDN; None if it is none."""
    if not line.startswith("{"):
        return None
    try:
        forms = list(edn.read(line))
    except HistoryError:
        return None
    return forms[0].value if len(forms) == 1 and isinstance(forms[0].value, dict) else None
