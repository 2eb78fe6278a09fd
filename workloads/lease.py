"""Leases: they are granted for some seconds, renewed now and then, and everybody looks whether they are there.

Refutes: leases that are gone before their time although nobody revoked them, those that outlive it or their revocation,
and those that are there again although nobody granted them anew. While a server's clock was wrong (nemesis ``clock``)
nobody can tell how long a lease is: then the first two are unknown. Nor is there a limit after a fault or a change of
primary in a store that prolongs leases there, as etcd does.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.checkers.lease import Lease
from harness.checkers.split_brain import SplitBrain
from harness.generator import Generator, Stream
from harness.operation import Event, Operation
from harness.options import Number, Seconds
from harness.verdict import Checker
from harness.workload import Answers, Workload

_LOOKED_AT = 20
"""How many leases, the latest, are looked at and renewed."""


class LeaseWorkload(Workload):
    """Clients grant leases, each under a name of its own, and renew, revoke and look at the latest."""

    class Options(msgspec.Struct, frozen=True):
        """For how long leases are, how exactly they must end, and how often each function is invoked."""

        ttl: Annotated[float, Seconds(1, 3600), "for how long a lease is granted"] = 3.0
        slack: Annotated[float, Seconds(0.001, 3600, zero="none"), "how long a lease may be there beyond its time"] = (
            1.0
        )
        grant: Annotated[float, Number(0.001, 1000), "weight of grants"] = 0.3
        renew: Annotated[float, Number(0.001, 1000, zero="none"), "weight of renewals"] = 1.0
        revoke: Annotated[float, Number(0.001, 1000, zero="none"), "weight of revocations"] = 0.1
        look: Annotated[float, Number(0.001, 1000), "weight of looks"] = 4.0

    name: ClassVar[str] = "lease"
    functions: ClassVar[frozenset[str] | None] = frozenset({"grant", "renew", "revoke", "look"})
    answers: ClassVar[Answers] = {"look": (bool,), "renew": (bool, int, float), "grant": (int, float)}
    reads: ClassVar[frozenset[str]] = frozenset({"look"})

    def __init__(self, options: Options) -> None:
        self._options = options

    def generator(self, rng: random.Random) -> Generator:
        options = self._options
        weights = {"grant": options.grant, "renew": options.renew, "revoke": options.revoke, "look": options.look}
        functions, shares = list(weights), list(weights.values())
        granted: list[str] = []
        number = 0

        def draw() -> Operation:
            nonlocal number
            function = rng.choices(functions, shares)[0] if granted else "grant"
            if function == "grant":
                number += 1
                return Operation("grant", f"lease{number}", options.ttl)
            key = rng.choice(granted[-_LOOKED_AT:])
            return Operation(function, key, options.ttl if function == "renew" else None)

        def learn(event: Event) -> None:
            # Of one whose grant has an unknown outcome a store may have half, which is no lease yet.
            if event.f == "grant" and event.type == "ok":
                granted.append(event.key)

        return Stream(draw, learn)

    def final(self) -> Generator | None:
        return None

    def checkers(self) -> Mapping[str, Checker]:
        return {"split-brain": SplitBrain(), "lease": Lease(self._options.slack)}
