"""Whether a class is what its kind of plug-in must be: held against the kind's base when it is loaded."""

from __future__ import annotations

import difflib
import enum
import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from types import UnionType
from typing import Any, ClassVar, Final, Literal, Union, get_args, get_origin, get_type_hints

from harness.errors import UsageError
from harness.options import unknown
from harness.words import count

_CLOSE: Final = 0.8
"""How alike two names are of which one is taken for the other's misspelling."""
_INIT: Final = "__init__"


def hold(told: str, title: str, plugin: type, base: type, optional: Sequence[type] = ()) -> None:
    """Raise ``UsageError`` unless a class extends its base, lacks nothing, and has no member of the wrong kind.

    ``told`` names the class and its file, ``title`` its kind; ``optional`` are the protocols that some of it have.
    """
    if base not in plugin.__mro__:
        raise UsageError(f"{told} is no {title}: it does not extend {base.__module__}.{base.__qualname__}")
    bases, hints = _members(base.__mro__), get_type_hints(base)
    own = _members([one for one in plugin.__mro__ if one not in base.__mro__])
    required = [name for name in hints if name not in bases]
    required += [name for name, member in bases.items() if inspect.isfunction(member) and _is_abstract(member)]
    if lacking := [name for name in required if name not in own]:
        raise UsageError(f"{told} is no {title}: it has no {', '.join(lacking)}")
    known = {**bases, **{name: one for protocol in optional for name, one in _members(protocol.__mro__).items()}}
    for name, member in own.items():
        wrong = _wrong_value(member, hints[name]) if name in hints else _wrong_method(member, known.get(name))
        if wrong:
            raise UsageError(f"{told} is no {title}: its {name} {wrong}")
    unused = [name for name in {**hints, **known} if name not in own]
    for name in own.keys() - {*hints, *known}:
        if close := difflib.get_close_matches(name, unused, 1, _CLOSE):
            raise UsageError(f"{told} has {name}, which no {title} has: did you mean {close[0]}?")


def _members(classes: Sequence[type]) -> dict[str, object]:
    """What these classes, the first of which counts most, define for others to use; and how they are made."""
    return {
        name: member
        for owner in reversed(classes)
        if owner is not object and owner.__module__ != "typing"
        for name, member in vars(owner).items()
        if not name.startswith("_") or (name == _INIT and inspect.getmodule(member) is inspect.getmodule(owner))
    }


def _is_abstract(member: Callable[..., object]) -> bool:
    return bool(vars(member).get("__isabstractmethod__"))


def _function(member: object) -> object:
    return member.__func__ if isinstance(member, staticmethod | classmethod) else member


def _wrong_method(member: object, wanted: object) -> str | None:
    """What is wrong with a member where a method, or a property, is wanted; None if nothing is."""
    asked, given = _function(wanted), _function(member)
    if isinstance(asked, property):
        return "must be a property: @property stands before it" if inspect.isfunction(given) else None
    if not inspect.isfunction(asked):
        return None
    if not inspect.isfunction(given):
        return "is no method"
    if inspect.iscoroutinefunction(asked) != inspect.iscoroutinefunction(given):
        return "must be `async def`" if inspect.iscoroutinefunction(asked) else "must be `def`, and not `async def`"
    names = list(inspect.signature(asked).parameters)
    if isinstance(wanted, staticmethod) != isinstance(member, staticmethod):
        return None
    try:
        inspect.signature(given).bind(*names)
    except TypeError:
        return f"must take {count(len(names), 'argument')}: ({', '.join(names)})"
    return None


def _wrong_value(value: object, hint: Any) -> str | None:
    """What is wrong with a class's value, as its type on the base says it; None if nothing is."""
    kind = get_origin(hint) or hint
    if hint is Any or isinstance(value, property):  # of a property each object has its own
        return None
    if kind is ClassVar:
        return _wrong_value(value, *get_args(hint))
    if kind is Literal:
        allowed = get_args(hint)
        return None if value in allowed else f"is {value!r}, and can be {', '.join(map(repr, allowed))}"
    if kind in (Union, UnionType):
        wrong = [_wrong_value(value, one) for one in get_args(hint)]
        return None if None in wrong else wrong[0]
    if kind is type:
        (least,) = get_args(hint) or (object,)
        fits = isinstance(value, type) and (least is Any or issubclass(value, least))
        return None if fits else f"is no class that extends {least.__module__}.{least.__qualname__}"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        if value in list(kind):
            return None
        return f"is {value!r}, which is no {_name_of(kind)}: {unknown(str(value), [one.name.lower() for one in kind])}"
    wanted = Set if kind is frozenset else float | int if kind is float else kind
    if isinstance(wanted, type) and wanted.__dict__.get("_is_protocol"):
        return None  # which a type checker sees
    mistaken = (bool, kind is not bool), (str, kind is not str)
    if not isinstance(value, wanted) or any(isinstance(value, one) and wrong for one, wrong in mistaken):
        return f"is {value!r}, which is no {_name_of(kind)}"
    for part, of in _parts(value, get_args(hint)):
        if why := _wrong_value(part, of):
            return f"holds what it may not: one of it {why}"
    return None


def _parts(value: object, hints: Sequence[Any]) -> list[tuple[object, Any]]:
    """What a collection holds, each with its type."""
    if isinstance(value, Mapping):
        return [(part, of) for pair in value.items() for part, of in zip(pair, hints, strict=True)]
    if isinstance(value, Set | Sequence) and not isinstance(value, str):
        return [(part, hints[0]) for part in value]
    return []


def _name_of(kind: Any) -> str:
    return str(kind.__name__).lower()
