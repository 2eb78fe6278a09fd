"""What a key holds in the modes without a primary: values that can be merged, in any order and any number of times.

Merging is a join: commutative, associative, idempotent, and it never goes back. So nodes that have received the same
writes hold the same, however often and in whatever order they received them.
Shapiro, Preguiça, Baquero & Zawirski, "A Comprehensive Study of Convergent and Commutative Replicated Data Types"
(2011).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, TypeVar

from harness.targets.reference.clocks import Stamp

Dot = tuple[str, int]
"""One change: the node that made it, and its number among that node's changes of the key."""
Version = dict[str, int]
"""A version vector: how many of each node's changes are known."""


class Cell(Protocol):
    """The value of a key and what is needed to merge it."""

    kind: ClassVar[str]

    def merge(self: C, other: C) -> C: ...

    def dump(self) -> Any: ...

    @classmethod
    def load(cls, dump: Any) -> Self: ...


C = TypeVar("C", bound=Cell)


@dataclass(frozen=True)
class Last:
    """The last write wins. ``value`` None is a tombstone: a delete is a write too."""

    kind: ClassVar[str] = "last"
    value: str | None
    stamp: Stamp

    def merge(self, other: Last) -> Last:
        return max(self, other, key=lambda last: last.stamp)

    def dump(self) -> Any:
        return [self.value, *self.stamp]

    @classmethod
    def load(cls, dump: Any) -> Last:
        return cls(dump[0], (dump[1], dump[2], dump[3]))


@dataclass(frozen=True)
class Siblings:
    """All values that no write has replaced knowingly; ``seen`` is everything that the cell has known.

    Preguiça, Baquero, Almeida, Fonte & Gonçalves, "Dotted Version Vectors" (2010).
    """

    kind: ClassVar[str] = "siblings"
    values: dict[Dot, str] = field(default_factory=dict)
    seen: Version = field(default_factory=dict)

    def write(self, node: str, value: str | None) -> Siblings:
        """Replace what is known here; None deletes it."""
        dot = (node, self.seen.get(node, 0) + 1)
        return Siblings({} if value is None else {dot: value}, {**self.seen, node: dot[1]})

    def merge(self, other: Siblings) -> Siblings:
        return Siblings(_survivors(self.values, self.seen, other.values, other.seen), _join(self.seen, other.seen))

    def read(self) -> list[str]:
        """The siblings, in the same order on every node."""
        return [value for _, value in sorted(self.values.items())]

    def dump(self) -> Any:
        return [[[*dot, value] for dot, value in sorted(self.values.items())], self.seen]

    @classmethod
    def load(cls, dump: Any) -> Siblings:
        return cls({(node, number): value for node, number, value in dump[0]}, dump[1])


@dataclass(frozen=True)
class Counter:
    """A PN-counter: what each node has added and subtracted."""

    kind: ClassVar[str] = "counter"
    added: Version = field(default_factory=dict)
    subtracted: Version = field(default_factory=dict)

    def change(self, node: str, by: int) -> Counter:
        """Add a number, which may be negative."""
        added, subtracted = dict(self.added), dict(self.subtracted)
        side = added if by >= 0 else subtracted
        side[node] = side.get(node, 0) + abs(by)
        return Counter(added, subtracted)

    def read(self) -> int:
        """What was added, less what was subtracted."""
        return sum(self.added.values()) - sum(self.subtracted.values())

    def merge(self, other: Counter) -> Counter:
        return Counter(_join(self.added, other.added), _join(self.subtracted, other.subtracted))

    def dump(self) -> Any:
        return [self.added, self.subtracted]

    @classmethod
    def load(cls, dump: Any) -> Counter:
        return cls(*dump)


@dataclass(frozen=True)
class Elements:
    """An OR-set: an add wins against a remove that did not know of it.

    Bieniusa, Zawirski, Preguiça, Shapiro, Baquero, Balegas & Duarte, "An Optimized Conflict-free Replicated Set"
    (2012).
    """

    kind: ClassVar[str] = "elements"
    dots: dict[Dot, str] = field(default_factory=dict)
    seen: Version = field(default_factory=dict)

    def add(self, node: str, element: str) -> Elements:
        """The set with one element more, by a dot of this node's own."""
        dot = (node, self.seen.get(node, 0) + 1)
        return Elements({**self.remove(element).dots, dot: element}, {**self.seen, node: dot[1]})

    def remove(self, element: str) -> Elements:
        """Without the element, as far as it is known here."""
        return Elements({dot: value for dot, value in self.dots.items() if value != element}, self.seen)

    def read(self) -> list[str]:
        """The elements in order."""
        return sorted(set(self.dots.values()))

    def merge(self, other: Elements) -> Elements:
        return Elements(_survivors(self.dots, self.seen, other.dots, other.seen), _join(self.seen, other.seen))

    def dump(self) -> Any:
        return [[[*dot, element] for dot, element in sorted(self.dots.items())], self.seen]

    @classmethod
    def load(cls, dump: Any) -> Elements:
        return cls({(node, number): element for node, number, element in dump[0]}, dump[1])


@dataclass(frozen=True)
class Fields:
    """An LWW-map: each field is a register of its own."""

    kind: ClassVar[str] = "fields"
    fields: dict[str, Last] = field(default_factory=dict)

    def write(self, name: str, value: str | None, stamp: Stamp) -> Fields:
        """Write a field; None deletes it."""
        return self.merge(Fields({name: Last(value, stamp)}))

    def read(self) -> list[str]:
        """Names and values in turn, in the order of the names."""
        held = sorted((name, last.value) for name, last in self.fields.items() if last.value is not None)
        return [word for pair in held for word in pair]

    def merge(self, other: Fields) -> Fields:
        both = dict(self.fields)
        for name, last in other.fields.items():
            both[name] = last.merge(both[name]) if name in both else last
        return Fields(both)

    def dump(self) -> Any:
        return {name: last.dump() for name, last in sorted(self.fields.items())}

    @classmethod
    def load(cls, dump: Any) -> Fields:
        return cls({name: Last.load(dumped) for name, dumped in dump.items()})


KINDS: Mapping[str, type[Cell]] = {cell.kind: cell for cell in (Last, Siblings, Counter, Elements, Fields)}


def dump(cell: Cell) -> Any:
    """A cell as JSON can hold it."""
    return [cell.kind, cell.dump()]


def load(dumped: Any) -> Cell:
    """The cell that was dumped."""
    return KINDS[dumped[0]].load(dumped[1])


def stamps(cell: Cell | None) -> Iterable[Stamp]:
    """The time stamps in a cell."""
    if isinstance(cell, Last):
        return [cell.stamp]
    return [last.stamp for last in cell.fields.values()] if isinstance(cell, Fields) else []


def _join(ours: Version, theirs: Version) -> Version:
    return {node: max(ours.get(node, 0), theirs.get(node, 0)) for node in sorted({*ours, *theirs})}


def _survivors(
    ours: dict[Dot, str], ours_seen: Version, theirs: dict[Dot, str], theirs_seen: Version
) -> dict[Dot, str]:
    """What both hold, and what one holds of which the other does not know that it was ever there."""
    kept = {dot: value for dot, value in ours.items() if dot in theirs or dot[1] > theirs_seen.get(dot[0], 0)}
    return kept | {dot: value for dot, value in theirs.items() if dot in ours or dot[1] > ours_seen.get(dot[0], 0)}
