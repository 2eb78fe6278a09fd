"""Models: what a correct, undistributed object does with each operation. Plain Python, made to be copied.

A model says three things, as in Porcupine (Athalye, "Porcupine: A fast linearizability checker in Go", 2017):

``init()``              the state before any operation; any hashable value
``step(state, call)``   the states that the object may be in after ``call`` completed as it did in ``state``;
                        empty if it cannot have completed like that. Most models return no or one state.
``partition(call)``     operations of different partitions do not affect each other and are checked apart

and may say more: ``refuse`` an operation that makes no sense to it, ``describe`` one in words, name the ``parts`` that
it touches (for shorter explanations); and three things that make the search faster without changing its answer: whether
an operation ``observes`` (leaves every state as it is), whether it ``overwrites`` (is always possible and leads to the
same state from everywhere), and a model ``prepared`` for the operations of one partition.

A crashed operation has the result ``UNKNOWN``: ``step`` must allow every result that it could have had. It need not
allow that nothing happened; the search considers that anyway. Reads without an answer are never asked about.

    class Toggle(Model):
        '''A light switch: toggle answers whether the light is on afterwards.'''

        def init(self):
            return False

        def step(self, state, call):
            return [not state] if call.result in (UNKNOWN, not state) else []

``splitbrain check history.jsonl --model my_model.py:Toggle`` uses it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from harness.errors import HistoryError
from harness.words import named, show


class _Unknown:
    """The result of an operation that never completed."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __reduce__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()

State = Any
"""Any hashable value."""


class Call(NamedTuple):
    """One operation as a model sees it: hashable; lists of the history are tuples here."""

    f: str
    key: Any
    argument: Any
    result: Any

    @property
    def crashed(self) -> bool:
        """Whether nobody knows how, or if, it completed."""
        return self.result is UNKNOWN


class Model:
    """The base of all models: one partition a key, no shortcuts."""

    functions: ClassVar[frozenset[str]] = frozenset()
    """The functions that the model knows; empty: whatever ``step`` understands."""

    reads: ClassVar[frozenset[str]] = frozenset()
    """Functions that change nothing, whatever they answer: one without an answer is left out."""

    steps: ClassVar[frozenset[str]] = frozenset()
    """The micro-operations of its transactions, where it has any."""

    answers_in_result: ClassVar[frozenset[str] | None] = None
    """Functions whose completed value is an answer that the model looks at. Any other's says nothing or, in histories
    of other tools, stands for the argument, as in Knossos: the completion knows best what was done. None: the model
    looks at both itself."""

    begins: ClassVar[str | None] = None
    """What the constructor's only argument is, for a model that can begin in another state: "a number, such as 5".

    The constructor raises ``ValueError`` if it is something else.
    """

    foresees: ClassVar[bool] = False
    """A ``prepared`` model that refuses an operation for the sake of later ones: the search gets stuck early."""

    def init(self) -> State:
        """The state before any operation."""
        raise NotImplementedError

    def step(self, state: State, call: Call) -> Iterable[State]:
        """The states after ``call``; none if it cannot have completed like that."""
        raise NotImplementedError

    def refuse(self, call: Call) -> None:
        """Raise ``HistoryError`` if ``call`` is nothing that this object can be asked. Each is shown once."""

    def steps_of(self, call: Call) -> Iterable[str]:
        """The names of the micro-operations that ``call`` consists of."""
        return ()

    def partition(self, call: Call) -> Hashable:
        """Which part of the object ``call`` is about."""
        key: Hashable = call.key
        return key

    def parts(self, call: Call) -> Iterable[Hashable]:
        """What ``call`` touches, in an object that consists of parts, such as the elements of a queue.

        If all that touch one part are left out of a possible order, what is left must be possible too.
        """
        return ()

    def observes(self, call: Call) -> bool:
        """Whether ``call`` leaves every state as it is."""
        return call.f in self.reads

    def overwrites(self, call: Call) -> bool:
        """Whether ``call`` is possible in every state and leads to the same state from all of them."""
        return False

    def prepared(self, calls: Sequence[tuple[Call, float, float]]) -> Model:
        """A model that gives the same verdict on these operations (call, start, return) of one partition, but faster.

        Knowing all answers, it may treat states alike that none of them can tell apart, or refuse states from which the
        answers that are still to come cannot be given.
        """
        return self

    def describe(self, call: Call) -> str:
        """``call`` in words."""
        given = call.argument if isinstance(call.argument, tuple) else () if call.argument is None else (call.argument,)
        argument = ", ".join(map(show, given))
        answered = call.result is not None or call.f in (self.answers_in_result or ())
        return f"{named(call.f)}({argument})" + (f" → {show(call.result)}" if answered and not call.crashed else "")


def same(a: Any, b: Any) -> bool:
    """Equality as a store means it: 1, 1.0 and true are three values, and NaN is one."""
    if type(a) is not type(b):
        return False
    return bool(a == b) or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def pair(call: Call) -> tuple[Any, Any]:
    """The two values of a compare-and-set. Raises ``HistoryError`` if it has not two."""
    if not isinstance(call.argument, tuple) or len(call.argument) != 2:
        raise HistoryError(f"a cas takes [expected, new], not {show(call.argument)}")
    return call.argument


def number(call: Call) -> int:
    """The argument as a whole number. Raises ``HistoryError`` if it is none."""
    if type(call.argument) is not int:
        raise HistoryError(f"{call.f} takes a whole number, not {show(call.argument)}")
    return call.argument


def whole(initial: Any, default: int) -> int:
    """A number that a model begins with. Raises ``ValueError`` if it is no whole number from 0 on."""
    if initial is None:
        return default
    if type(initial) is not int or initial < 0:
        raise ValueError(initial)
    return initial
