"""Models: what a correct, undistributed object does with each operation. Plain Python, made to be copied.

A model says three things, as in Porcupine (Athalye, "Porcupine: A fast linearizability checker in Go", 2017):

``init()``              the state before any operation; any hashable value
``step(state, call)``   the states that the object may be in after ``call`` completed as it did in ``state``;
                        empty if it cannot have completed like that. Most models return no or one state.
``partition(call)``     operations of different partitions do not affect each other and are checked apart

and may say more: ``describe`` an operation in words; and three things that make the search faster without changing its
answer: whether an operation ``observes`` (leaves every state as it is), whether it ``overwrites`` (is always possible
and leads to the same state from everywhere), and a model ``prepared`` for the operations of one partition.

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

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from harness.errors import HistoryError


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

    answers_in_result: ClassVar[frozenset[str]] = frozenset()
    """Functions whose completed value is an answer; any other's completed value repeats its argument."""

    def init(self) -> State:
        """The state before any operation."""
        raise NotImplementedError

    def step(self, state: State, call: Call) -> Iterable[State]:
        """The states after ``call``; none if it cannot have completed like that."""
        raise NotImplementedError

    def partition(self, call: Call) -> Hashable:
        """Which part of the object ``call`` is about."""
        key: Hashable = call.key
        return key

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
        argument = "" if call.argument is None else repr(call.argument)
        return f"{call.f}({argument})" + ("" if call.result in (None, UNKNOWN) else f" → {call.result!r}")


class Register(Model):
    """A register with read and write."""

    functions = frozenset({"read", "write"})
    reads = frozenset({"read"})
    answers_in_result = frozenset({"read"})

    def __init__(self, initial: Any = None) -> None:
        self._initial = initial

    def init(self) -> State:
        return self._initial

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "read":
            return [state] if same(state, call.result) else []
        return [call.argument]

    def overwrites(self, call: Call) -> bool:
        return call.f == "write"


class CasRegister(Register):
    """A register with read, write and cas ``[expected, new]``; a failed cas is no operation."""

    functions = frozenset({"read", "write", "cas"})

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f != "cas":
            return super().step(state, call)
        expected, new = pair(call)
        return [new] if same(state, expected) else []


class MultiRegister(Model):
    """Several registers changed together: ``txn`` takes ``[["r", k, null], ["w", k, v], ...]``, answers with reads."""

    functions = frozenset({"txn", "read", "write"})
    reads = frozenset({"read"})
    answers_in_result = frozenset({"read", "txn"})

    def __init__(self, initial: Any = None) -> None:
        self._initial = frozenset(dict(initial or {}).items())

    def init(self) -> State:
        return self._initial

    def partition(self, call: Call) -> Hashable:
        return None

    def step(self, state: State, call: Call) -> Iterable[State]:
        values = dict(state)
        for f, key, value in self._steps(call):
            if f == "w":
                values[key] = value
            elif value is not UNKNOWN and not same(values.get(key), value):
                return []
        return [frozenset(values.items())]

    def _steps(self, call: Call) -> list[tuple[str, Any, Any]]:
        given = call.argument if call.crashed or call.f == "write" else call.result
        if call.f in ("read", "write") and not isinstance(given, tuple):
            return [(call.f[0], call.key, given)]
        steps = []
        for step in given or ():
            if not isinstance(step, tuple) or len(step) not in (2, 3):
                raise HistoryError(f"a step of a txn is [f, key, value], not {step!r}")
            if len(step) == 2:
                steps.append((call.f[0], step[0], step[1]))
            else:
                f = str(step[0])[:1]
                steps.append((f, step[1], UNKNOWN if call.crashed and f == "r" else step[2]))
        return steps


class KeyValue(Model):
    """Strings by key: get, put, append and delete. A key that was never written holds the empty string, or nothing."""

    functions = frozenset({"get", "put", "append", "delete", "read", "write"})
    reads = frozenset({"get", "read"})
    answers_in_result = frozenset({"get", "read"})

    def init(self) -> State:
        return ""

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f in self.reads:
            return [state] if same(state, "" if call.result is None else call.result) else []
        if call.f in ("put", "write"):
            return ["" if call.argument is None else call.argument]
        if call.f == "delete":
            return [""]
        return [str(state) + str(call.argument)]

    def overwrites(self, call: Call) -> bool:
        return call.f in ("put", "write", "delete")

    def prepared(self, calls: Sequence[tuple[Call, float, float]]) -> Model:
        return _SeenKeyValue({call.result for call, _, _ in calls if call.f in self.reads})


class _Unseen:
    """A value that no get ever answered with, however it goes on."""


class _SeenKeyValue(KeyValue):
    """The same, but values that are not the beginning of any answer are all one: nobody will ever tell them apart."""

    def __init__(self, answers: set[Any]) -> None:
        texts = [answer for answer in answers if isinstance(answer, str)]
        self._beginnings = {text[:end] for text in texts for end in range(len(text) + 1)} | answers | {""}

    def step(self, state: State, call: Call) -> Iterable[State]:
        if state is _Unseen and call.f in self.reads:
            return []
        if state is _Unseen and call.f == "append":
            return [state]
        return [after if after in self._beginnings else _Unseen for after in super().step(state, call)]


class Counter(Model):
    """A number: add or inc/dec by the argument (or 1), and read. ``add`` may answer with the number after it."""

    functions = frozenset({"add", "inc", "dec", "read"})
    reads = frozenset({"read"})
    answers_in_result = frozenset({"read"})

    def init(self) -> State:
        return 0

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "read":
            return [state] if same(state, 0 if call.result is None else call.result) else []
        amount = 1 if call.argument is None else number(call)
        return [state - amount if call.f == "dec" else state + amount]


class Set(Model):
    """A set: add and remove an element, read all of them."""

    functions = frozenset({"add", "remove", "read"})
    reads = frozenset({"read"})
    answers_in_result = frozenset({"read"})

    def init(self) -> State:
        return frozenset()

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "read":
            elements = frozenset(call.result or ())
            return [state] if elements == state and len(elements) == len(call.result or ()) else []
        return [state | {call.argument} if call.f == "add" else state - {call.argument}]


class FifoQueue(Model):
    """A queue: dequeue answers with the oldest element; with nothing (null) if it is empty."""

    functions = frozenset({"enqueue", "dequeue"})
    answers_in_result = frozenset({"dequeue"})

    def init(self) -> State:
        return ()

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "enqueue":
            return [(*state, call.argument)]
        return self._take(state, call, 0)

    @staticmethod
    def _take(state: State, call: Call, end: int) -> Iterable[State]:
        if not state:
            return [state] if call.crashed or call.result is None else []
        taken, left = state[end], state[1:] if end == 0 else state[:-1]
        return [left] if call.crashed or same(taken, call.result) else []

    def prepared(self, calls: Sequence[tuple[Call, float, float]]) -> Model:
        elements = [call.argument for call, _, _ in calls if call.f == "enqueue"]
        crashed = any(call.crashed for call, _, _ in calls if call.f == "dequeue")
        if type(self) is not FifoQueue or None in elements or len(set(elements)) < len(elements):
            return self
        taken = {call.result: (start, ret) for call, start, ret in calls if call.f == "dequeue" and not call.crashed}
        return _OrderedQueue(taken, crashed)


class _OrderedQueue(FifoQueue):
    """The same for unique elements: refuses an order in which they cannot be taken as they were.

    ``taken`` is when each element was; any other one stays, unless a dequeue ``crashed`` that may have taken it.
    """

    def __init__(self, taken: dict[Any, tuple[float, float]], crashed: bool) -> None:
        self._taken = taken
        self._crashed = crashed

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "enqueue" and state:
            new = self._taken.get(call.argument)
            if new is not None and not all(self._may_precede(element, new) for element in state):
                return []
        return super().step(state, call)

    def _may_precede(self, element: Any, new: tuple[float, float]) -> bool:
        """Whether an element that is in the queue can be taken before one that is taken in the interval ``new``."""
        mine = self._taken.get(element)
        return self._crashed if mine is None else mine[0] <= new[1]


class Stack(FifoQueue):
    """A stack: pop answers with the newest element; with nothing (null) if it is empty."""

    functions = frozenset({"push", "pop"})
    answers_in_result = frozenset({"pop"})

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "push":
            return [(*state, call.argument)]
        return self._take(state, call, -1)


class UnorderedQueue(Model):
    """A bag: dequeue answers with any element that is in it; with nothing (null) if it is empty."""

    functions = frozenset({"enqueue", "dequeue"})
    answers_in_result = frozenset({"dequeue"})

    def init(self) -> State:
        return frozenset()

    def step(self, state: State, call: Call) -> Iterable[State]:
        counts = dict(state)
        if call.f == "enqueue":
            counts[call.argument] = counts.get(call.argument, 0) + 1
            return [frozenset(counts.items())]
        if not counts:
            return [state] if call.crashed or call.result is None else []
        return [self._without(counts, e) for e in counts if call.crashed or same(e, call.result)]

    @staticmethod
    def _without(counts: dict[Any, int], element: Any) -> State:
        left = {**counts, element: counts[element] - 1}
        return frozenset(item for item in left.items() if item[1])


class Mutex(Model):
    """A lock: acquire succeeds only while nobody holds it, release only while somebody does."""

    functions = frozenset({"acquire", "release"})

    def init(self) -> State:
        return False

    def step(self, state: State, call: Call) -> Iterable[State]:
        wanted = call.f == "acquire"
        return [wanted] if state != wanted else []


class ReentrantMutex(Model):
    """A lock that its owner, named by the argument, may acquire again, and must release as often."""

    functions = frozenset({"acquire", "release"})

    def init(self) -> State:
        return (None, 0)

    def step(self, state: State, call: Call) -> Iterable[State]:
        owner, depth = state
        if call.f == "acquire":
            return [(call.argument, depth + 1)] if depth == 0 or same(owner, call.argument) else []
        if depth == 0 or not same(owner, call.argument):
            return []
        return [(owner, depth - 1) if depth > 1 else (None, 0)]


class FencedLock(Model):
    """A lock whose acquire answers with a fencing token, higher than every one before it."""

    functions = frozenset({"acquire", "release"})
    answers_in_result = frozenset({"acquire"})

    def init(self) -> State:
        return (False, 0)

    def step(self, state: State, call: Call) -> Iterable[State]:
        held, token = state
        if call.f == "release":
            return [(False, token)] if held else []
        if held:
            return []
        if call.crashed:
            # Nobody saw the token, but it was a higher whole number.
            return [(True, token + 1)]
        return [(True, call.result)] if number(call, call.result) > token else []


class Semaphore(Model):
    """``permits`` units: acquire and release take the argument's number of them, or one."""

    functions = frozenset({"acquire", "release"})

    def __init__(self, permits: int = 2) -> None:
        self._permits = permits

    def init(self) -> State:
        return 0

    def step(self, state: State, call: Call) -> Iterable[State]:
        amount = 1 if call.argument is None else number(call)
        after = state + amount if call.f == "acquire" else state - amount
        return [after] if 0 <= after <= self._permits else []


MODELS: Final[dict[str, type[Model]]] = {
    "register": Register,
    "cas-register": CasRegister,
    "multi-register": MultiRegister,
    "kv": KeyValue,
    "counter": Counter,
    "set": Set,
    "fifo-queue": FifoQueue,
    "unordered-queue": UnorderedQueue,
    "stack": Stack,
    "mutex": Mutex,
    "reentrant-mutex": ReentrantMutex,
    "fenced-lock": FencedLock,
    "semaphore": Semaphore,
}


def same(a: Any, b: Any) -> bool:
    """Equality as a store means it: 1, 1.0 and true are three values."""
    return bool(a == b) and type(a) is type(b)


def pair(call: Call) -> tuple[Any, Any]:
    """The two values of a compare-and-set. Raises ``HistoryError`` if it has not two."""
    if not isinstance(call.argument, tuple) or len(call.argument) != 2:
        raise HistoryError(f"a cas takes [expected, new], not {call.argument!r}")
    return call.argument


def number(call: Call, value: Any = None) -> int:
    """The argument (or ``value``) as a whole number. Raises ``HistoryError`` if it is none."""
    given = call.argument if value is None else value
    if not isinstance(given, int) or isinstance(given, bool):
        raise HistoryError(f"{call.f} takes a whole number, not {given!r}")
    return given
