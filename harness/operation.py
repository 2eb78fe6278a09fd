"""Operations: what a process invokes, how it completes, and the events that a history is made of."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

EventType = Literal["invoke", "ok", "fail", "info"]

NEMESIS: Final = "nemesis"
"""The process that faults are recorded under."""
MONITOR: Final = "monitor"
"""The process that observations (who believes to be primary) are recorded under."""
BEGAN: Final = "began"
"""What the monitor records at first of a run in real time: when and where that was (see ``harness.beginning``)."""
LEADERSHIP: Final = "leadership"
"""What the monitor records at first: whether the store claims to have one primary (see ``harness.target``)."""
PROLONGS_LEASES: Final = "prolongs-leases"
"""What the monitor records at first of a store whose leases may outlive their time (see ``harness.target``)."""
ROLE: Final = "role"
"""What the monitor records of one node: what it said that it is (see ``harness.roles``)."""
PROGRESS: Final = "progress"
"""What the monitor records of one node: how far it was with the store's changes (see ``harness.replication``)."""
OWN_STATES: Final = "own-states"
"""What the monitor records in the end: whether the nodes hold the same (see ``harness.replication``)."""
SERVER: Final = "server"
"""What the monitor records of one server of a node: that it runs, or has ended (see ``harness.surviving``)."""
PRINTED: Final = "printed"
"""What the monitor records of a line that a server has printed and should not have (see ``harness.surviving``)."""
STOPPED: Final = "stopped"
"""What the monitor records when a run is cut short: ``{"seconds": how long the operations went on}``, and why."""
FINISHED: Final = "finished"
"""What the monitor records last of all, when the final reads are over: the seal (see ``harness.seal``)."""


class Operation(msgspec.Struct, frozen=True, gc=False):
    """What a process is to do: a function of the workload, a key of the store, an argument."""

    f: str
    key: Any = None
    value: Any = None


class ServedBy(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The node that executed an operation, and its term or epoch where the store tells."""

    node: str
    term: int | None = None


class Event(msgspec.Struct, omit_defaults=True, gc=False):
    """One line of a history.

    ``time`` is in nanoseconds since the run began, on the monotonic clock of the machine that drives the
    clients. ``process`` is a number for a client, or ``"nemesis"`` or ``"monitor"``. ``node`` is whom a client is bound
    to; ``served_by``, of a completion, who has executed the operation, which need not be the same.
    """

    index: int
    time: int
    process: int | str
    type: EventType
    f: str
    key: Any = None
    value: Any = None
    node: str | None = None
    error: str | None = None
    served_by: ServedBy | None = None


class Served(msgspec.Struct, frozen=True):
    """What a client's ``invoke`` may return in place of a value alone: the value, and who executed the operation.

    ``term`` is that node's own, at a moment between the invocation and the completion; a term that somebody else tells
    is none.
    """

    value: Any
    by: str
    term: int | None = None


class Failed(Exception):  # noqa: N818 - the field's word for this completion
    """The store certainly has not applied the operation and never will: it completes as ``fail``."""


DECLINED: Final = "declined: "
"""What the error of a completion begins with that was declined."""


class Declined(Failed):
    """The store has answered, and the answer is no: what it holds does not allow the operation.

    As a compare-and-set that meets another value. It completes as ``fail``, and the store was available.
    """

    def __str__(self) -> str:
        return DECLINED + super().__str__()


class Indeterminate(Exception):  # noqa: N818 - the field's word for this completion
    """The store may have applied the operation or may still do so: it completes as ``info``."""
