"""What can go wrong in a run. ``nemeses/`` holds the bundled faults; copy one to begin."""

from __future__ import annotations

import enum
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster
from harness.options import Part
from harness.target import Target

Plan = dict[str, Any]
"""What a fault is to do, as JSON: drawn from the seed alone, so the same on every environment."""
Zones = Mapping[str, str]
"""The nodes of a run by name, in their order, each with its zone."""
Decks = Mapping[str, Mapping[str, float]]
"""By question (whom to aim at, what to do) the answers that there are, the most telling first, each with a weight:
how early in its round it comes. Answers that are the same on these nodes stand once."""
PRIMARY = "primary"
"""The answer of a deck that aims at the primary: such a fault lasts longer than a failover takes."""


LASTS = "lasts"
"""What a plan says beside what the nemesis has drawn: for how many seconds the fault is meant to last."""


class Layer(enum.IntEnum):
    """In which order faults are undone: first what the undoing of others depends on."""

    NETWORK = 0
    PAUSE = 1
    PROCESS = 2
    CLOCK = 3
    RESOURCE = 4
    MEMBERS = 5


EndsServers = Literal["never", "itself", "meanwhile", "ever"]


class Proof(msgspec.Struct, frozen=True):
    """What shows that a fault is there: measured by other means than those that made it, from the node's own view."""

    means: str
    """How it was measured, in a few words."""
    before: Any
    """What was measured before the fault, where there is something to compare with."""
    during: Any
    """What was measured while the fault was there."""
    holds: bool
    """Whether that is the fault that was asked for."""


class Nemesis(Part, Protocol):
    """One family of faults."""

    needs: ClassVar[frozenset[Capability]]
    """What the environment, or the target, must be capable of."""
    layer: ClassVar[Layer]
    ends_servers: ClassVar[EndsServers] = "ever"
    """What is its doing when a server on a node that it hit ends: ``never``, servers have to live through it;
    ``itself``, it ends them, but what they print is their own; ``meanwhile``, they may end, and complain, while it
    lasts; ``ever``, from then on, since it leaves something behind. Whatever else ends a server is a crash."""
    least: ClassVar[int] = 1
    """The number of nodes without which it can do nothing."""
    ships: ClassVar[Sequence[str]] = ()
    """The Python packages that it runs with ``node.exec``, by name: as those of a target, but sidecars have none."""
    Fields: ClassVar[type[msgspec.Struct] | None] = None
    """What its plans hold, with the limits of each as for options: a timetable's plans are held against it."""
    also_needs: frozenset[Capability] = frozenset()
    """What its options ask for beyond ``needs``."""

    @abstractmethod
    def decks(self, zones: Zones) -> Decks:
        """What is dealt on these nodes: one answer to each question goes into every plan."""
        ...

    @abstractmethod
    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        """One fault, from what was dealt. May not look at anything but the seed and the nodes."""
        ...

    @abstractmethod
    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        """Do it, and return what was done, as JSON: ``said`` describes it in a few words.

        Also measures beforehand what ``prove`` will compare with. Quick: what takes time is left to ``prove``. Raises
        ``FaultError`` if it could not be done, and ``NothingToDo`` where there is nobody to do it to.
        """
        ...

    @abstractmethod
    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        """Measure, within ``seconds``, whether what ``inject`` has ``done`` is there. Runs beside everything else.

        What it measures must come from elsewhere than from the tool that made the fault.
        """
        ...

    @abstractmethod
    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        """Undo everything of this family, and return what was seen. Safe to call when nothing is injected."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A nemesis that has to do something to the nodes before the store is started on them."""

    async def prepare(self, cluster: Cluster) -> None:
        """Called before the store is started."""
        ...


@runtime_checkable
class Observes(Protocol):
    """A nemesis that measures what it is about during the run."""

    async def observe(self, cluster: Cluster) -> Any:
        """What is recorded of it, every few seconds."""
        ...
