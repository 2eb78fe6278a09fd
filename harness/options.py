"""What an option may be: its unit, its range or its words, declared where the option is and read in one way.

An option is a field of a ``msgspec.Struct``: ``slowness: Annotated[float, Seconds(0.001, 60), "what for"] = 0.2``.
The limit and the words beside the type are what lists, ``--help`` and error messages show, and what every value is held
against before anything starts.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar, Union, get_args, get_origin, runtime_checkable

import msgspec

from harness.errors import UsageError

T = TypeVar("T")

_TIME = {"ns": "1e-9", "us": "1e-6", "ms": "1e-3", "s": "1", "min": "60", "h": "3600", "d": "86400"}
_SIZE = {"B": "1", "kB": "1e3", "MB": "1e6", "GB": "1e9", "KiB": "1024", "MiB": "1048576", "GiB": "1073741824"}
_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?) ?([A-Za-zµ%/]*)")
_SHOWN = 40
_LISTED = 12
"""The most words that an option may have to be listed where one is wrong."""
_WORDS = {"yes": True, "on": True, "true": True, "1": True, "no": False, "off": False, "false": False, "0": False}


@runtime_checkable
class Limit(Protocol):
    """What a value is held against."""

    def allowed(self) -> str:
        """What is allowed, to follow "it must be"."""
        ...

    def admits(self, value: Any, nodes: Sequence[str]) -> bool:
        """Whether a value of the right type is allowed in a cluster of these nodes."""
        ...


class NoOptions(msgspec.Struct, frozen=True):
    """The options of a plug-in that declares none."""


class Plugin(Protocol):
    """What all plug-ins have: options, whose fields, types and defaults are those on the command line."""

    Options: ClassVar[type[msgspec.Struct]] = NoOptions


class Part(Plugin, Protocol):
    """A plug-in that an experiment names, made with its options: a target, a workload, a nemesis."""

    name: ClassVar[str]

    def __init__(self, options: msgspec.Struct) -> None:
        """``options`` is one of its ``Options``; raises ``UsageError`` for those that do not fit one another."""
        return

    def misfit(self, zones: Mapping[str, str]) -> str | None:
        """Why its options cannot be, or would do nothing, on these nodes, each with its zone; None if all is well."""
        return None


@dataclass(frozen=True)
class Number:
    """A number from ``least`` to ``most``, such as a count, a weight or a factor; ``zero`` says what 0 stands for,
    where that is allowed besides.
    """

    least: float
    most: float
    zero: str = ""

    unit: ClassVar[str] = ""
    """That of a number which is given without one."""
    units: ClassVar[Mapping[str, str]] = {}
    """What each unit is in the one that counts as 1."""

    def allowed(self) -> str:
        range_ = f"{plain(self.least)} to {plain(self.most)}{f' {self.unit}' if self.unit else ''}"
        if "%" in self.units:
            range_ += f" ({100 * self.least:g}% to {100 * self.most:g}%)"
        return f"0 ({self.zero}) or {range_}" if self.zero else f"from {range_}"

    def admits(self, value: Any, nodes: Sequence[str]) -> bool:
        return self.least <= value <= self.most or (bool(self.zero) and value == 0)

    def read(self, text: str) -> float:
        """A number with or without a unit, in this one's own. Raises ``ValueError``."""
        match = _NUMBER.fullmatch(text)
        if match is None:
            raise ValueError
        value, unit = Decimal(match[1]), match[2].replace("µ", "u")
        if unit and unit != self.unit:
            if unit not in self.units:
                raise ValueError
            value *= Decimal(self.units[unit]) / Decimal(self.units[self.unit])
        return float(value)


class Seconds(Number):
    """A time; 2 is 2 s."""

    unit = "s"
    units = _TIME


class Milliseconds(Number):
    """A time; 2 is 2 ms."""

    unit = "ms"
    units = _TIME


class Share(Number):
    """A part of the whole; 0.3 is 30%."""

    units: ClassVar[Mapping[str, str]] = {"": "1", "%": "0.01"}


class Mebibytes(Number):
    """A size; 2 is 2 MiB."""

    unit = "MiB"
    units = _SIZE


class Kilobytes(Number):
    """What goes through in a time; 2 is 2 kB/s, of 1000 bytes."""

    unit = "kB/s"
    units: ClassVar[Mapping[str, str]] = {f"{name}/s": size for name, size in _SIZE.items()} | {"Mbit/s": "125e3"}


class Rate(Number):
    """How often something happens; 2 is twice a second."""

    unit = "/s"
    units: ClassVar[Mapping[str, str]] = {"/s": "60", "/min": "1"}


@dataclass(frozen=True)
class Nodes:
    """Some nodes: one of ``words``, which say which, or their names joined by ``+``; at most ``most`` of these.

    ``needs`` are words that mean nothing in a cluster of fewer nodes than stand beside them.
    """

    words: tuple[str, ...] = ()
    most: int | None = None
    needs: tuple[tuple[str, int], ...] = ()

    def allowed(self) -> str:
        names = "the name of a node" if self.most == 1 else "names of nodes, as n1+n3"
        return ", ".join([*(word or "nothing" for word in self.words), f"or {names}"])

    def least(self, word: str) -> int:
        """How many nodes it takes for a word to mean some of them."""
        return dict(self.needs).get(word, 0)

    def admits(self, value: Any, nodes: Sequence[str]) -> bool:
        if value in self.words:
            return len(nodes) >= self.least(value)
        named = str(value).split("+")
        return set(named) <= set(nodes) and len(set(named)) == len(named) <= (self.most or len(nodes))


@dataclass(frozen=True)
class Order:
    """A list of names of nodes, each of them once; or of pairs of different ones."""

    pairs: bool = False

    def allowed(self) -> str:
        return f"a list of {'pairs of nodes' if self.pairs else 'nodes'}, each of them once"

    def admits(self, value: Any, nodes: Sequence[str]) -> bool:
        listed = [tuple(one) for one in value] if self.pairs else list(value)
        if not 0 < len(listed) == len(set(listed)):
            return False
        if self.pairs:
            return all(len(set(pair)) == 2 and set(pair) <= set(nodes) for pair in listed)
        return set(listed) <= set(nodes)


@dataclass(frozen=True)
class Text:
    """Text that a regular expression matches as a whole; ``what`` it is, in words."""

    what: str
    pattern: str = r"[^\x00-\x1f\x7f]+"

    def allowed(self) -> str:
        return self.what

    def admits(self, value: Any, nodes: Sequence[str]) -> bool:
        return re.fullmatch(self.pattern, str(value)) is not None


@dataclass(frozen=True)
class Code(Text):
    """A function to import, ``MODULE:FUNCTION``; those of the module ``own`` come with the plug-in."""

    what: str = "MODULE:FUNCTION"
    pattern: str = r"[\w.]+:\w+"
    own: str = ""

    def is_own(self, value: str) -> bool:
        """Whether nothing is imported but what the plug-in brings along."""
        return value.partition(":")[0] == self.own


_ANY = Number(-math.inf, math.inf)


@dataclass(frozen=True)
class Option:
    """An option as its field declares it. ``kind`` is its type, or None for one that only msgspec can read."""

    name: str
    kind: type | None
    words: tuple[str, ...] = ()
    """The values that there are, where these are few words."""
    limit: Limit | None = None
    what: str = ""
    default: Any = None
    type: Any = None

    def allowed(self) -> str:
        """The values that there are, to follow "it must be"."""
        if self.words:
            return ", ".join(self.words[:-1]) + f" or {self.words[-1]}" if len(self.words) > 1 else self.words[0]
        if self.kind is bool:
            return "yes or no"
        kind = "a whole number" if self.kind is int else "a number" if self.kind is float else "text"
        if self.limit is None:
            return kind
        allowed = self.limit.allowed()
        return f"{kind}{' ' if allowed.startswith('from') else ': '}{allowed}" if self.kind is int else allowed

    def read(self, text: str) -> Any:
        """A value from the command line, of the right type. Raises ``ValueError`` for what is none."""
        if self.words:
            return text
        if self.kind is bool:
            if text.lower() not in _WORDS:
                raise ValueError
            return _WORDS[text.lower()]
        if self.kind in (int, float):
            value = (self.limit if isinstance(self.limit, Number) else _ANY).read(text)
            if not math.isfinite(value):
                raise ValueError
            if self.kind is float:
                return value
            # A whole number may have more digits than a float holds.
            whole = int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else round(value)
            if not math.isclose(whole, value, rel_tol=1e-9):
                raise ValueError
            return whole
        if self.kind is str:
            return text
        return msgspec.convert(text, self.type, strict=False)

    def admits(self, value: Any, nodes: Sequence[str]) -> bool:
        """Whether a value that is typed already is allowed."""
        if value is None or isinstance(value, msgspec.UnsetType):
            return value is self.default
        if self.words:
            return value in self.words
        if self.kind in (int, float) and not math.isfinite(value):
            return False
        # A default is right whatever the cluster: it says that nothing was asked for.
        return self.limit is None or value == self.default or self.limit.admits(value, nodes)


def options_of(struct: Any) -> dict[str, Option]:
    """The options that a struct declares, by name."""
    return {
        field.name: _option(field.name, field.type, None if field.default is msgspec.NODEFAULT else field.default)
        for field in msgspec.structs.fields(struct)
    }


def _option(name: str, declared: Any, default: Any) -> Option:
    notes: tuple[Any, ...] = ()
    bare = declared
    if get_origin(bare) is Annotated:
        bare, *metadata = get_args(bare)
        notes = tuple(metadata)
    if get_origin(bare) in (Union, types.UnionType):
        bare, *others = [member for member in get_args(bare) if member is not type(None)]
        bare = None if others else bare
    words = tuple(map(str, get_args(bare))) if get_origin(bare) is Literal else ()
    kind = str if words else bare if bare in (bool, int, float, str) else None
    limit = next((note for note in notes if isinstance(note, Limit)), None)
    what = next((note for note in notes if isinstance(note, str)), "")
    return Option(name, kind, words, limit, what, default, declared)


def refusal(label: str, option: Option, value: Any, nodes: Sequence[str] = ()) -> UsageError:
    """What to say of a value that an option cannot have: ``label`` is what the person wrote it after."""
    if isinstance(option.limit, Nodes) and option.limit.least(value) > len(nodes):
        least = f"that needs at least {option.limit.least(value)} nodes"
        return UsageError(
            f"{label} is {value}, but {least}, and there {'is' if len(nodes) == 1 else 'are'} {len(nodes)}"
        )
    there = f"; the nodes are {', '.join(nodes)}" if isinstance(option.limit, Nodes) and nodes else ""
    shown = value if isinstance(value, str) else plain(value)
    shown = shown if shown.isprintable() and shown == shown.strip() and shown else repr(shown)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    allowed = option.allowed()
    if len(option.words) > _LISTED:
        close = difflib.get_close_matches(str(value), option.words, n=3) or option.words[:_LISTED]
        allowed = f"one of {len(option.words)} words, such as {', '.join(close)}"
    return UsageError(f"{label} is {shown}, but it must be {allowed}{there}")


def read(label: str, option: Option, text: str, nodes: Sequence[str] = ()) -> Any:
    """The value of an option that was given as text. Raises ``UsageError``."""
    try:
        value = option.read(text)
    except (ValueError, msgspec.ValidationError):
        raise refusal(label, option, text, nodes) from None
    if not option.admits(value, nodes):
        raise refusal(label, option, text, nodes)
    return value


def check(label: Callable[[str], str], struct: Any, nodes: Sequence[str] = ()) -> None:
    """Hold the fields of a struct against their limits. ``label`` is how messages call each. Raises ``UsageError``."""
    for name, option in options_of(type(struct)).items():
        value = getattr(struct, name)
        if isinstance(value, msgspec.Struct):
            check(label, value, nodes)
        if not option.admits(value, nodes):
            raise refusal(label(name), option, value, nodes)


def unknown(name: str, known: Sequence[str]) -> str:
    """What to do about a name that is not one of those known."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(known)) or 'none'}"


def plain(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)
