"""How the product says things: numbers with their nouns, values, and text of other people's that is safe to print."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but for tab and line feed
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # what turns the direction of writing
    "\ud800-\udfff\ufffe\uffff]"  # no characters at all, neither in UTF-8 nor in XML
)
"""What may not be seen, or would steer what shows it."""
_MOST_SHOWN: Final = 400


def printable(text: str) -> str:
    r"""``text`` without what steers a terminal or is no character in XML: each is written as an escape, ``\x1b``."""
    return HIDDEN.sub(lambda match: match.group().encode("unicode_escape", "surrogatepass").decode(), text)


def shortened(text: str, most: int) -> str:
    """``text`` in at most so many characters: where it is longer, its beginning and an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def count(number: int, noun: str, many: str | None = None) -> str:
    """A number with its noun: "1 fault", "2,000 faults"; ``many`` where the plural is not made with an s."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def duration(ns: int) -> str:
    """A length of time in an incident: to a tenth of a second, or in milliseconds."""
    return f"{ns / 1e9:.1f} s" if ns >= 1e8 else f"{ns / 1e6:.3g} ms"


def show(value: Any) -> str:
    """A value as a person reads it. What a read finds where nothing was written is called nothing, everywhere."""
    if value is None:
        return "nothing"
    if isinstance(value, frozenset | set):
        return "{" + ", ".join(sorted(show(item) for item in value)) + "}"
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}... ({len(text):,} characters)"


def named(key: Any) -> str:
    """A key as a person reads it, without anything that a terminal would act upon."""
    return key if isinstance(key, str) and key.isprintable() else repr(key)


def all_of(texts: Sequence[str]) -> str:
    """Several things in a sentence: "n1", "n1 and n2", "n1, n2 and n3"."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def whereabouts(node: str | None, server: str | None, at: str = "at") -> str:
    """Whom a client asked, and who served it where that was another one: " at n3 (served by n1)"; empty if unknown."""
    if node is None:
        return f" by {named(server)}" if server is not None else ""
    served = f" (served by {named(server)})" if server not in (None, node) else ""
    return f" {at} {named(node)}{served}"


def key_named(key: Any) -> str:
    """A key beside other things: x, but "key 7" where it might be taken for a value."""
    return named(key) if isinstance(key, str) and not key.isdigit() else f"key {named(key)}"


_ASKS: Final = ("read", "get", "members", "dequeue", "pop", "peek")


def asks(function: str) -> bool:
    """Whether a function is called for its answer, so that no value means that it found nothing."""
    return function.startswith(_ASKS)


def operation(function: str, value: Any, *, answered: bool) -> str:
    """An operation in a few words: "read nothing", "write 5", "delete"; "read" alone where no answer came."""
    if value is None and not (answered and asks(function)):
        return named(function)
    return f"{named(function)} {show(value)}"
