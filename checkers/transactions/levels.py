"""Isolation levels and anomalies: which level forbids what, and what follows from what.

The levels are those of Berenson et al. ("A Critique of ANSI SQL Isolation Levels", 1995), Adya ("Weak Consistency: A
Generalized Theory and Optimistic Implementations for Distributed Transactions", 1999), Daudjee and Salem ("Lazy
Database Replication with Snapshot Isolation", 2006: the strong and strong session forms), Cerone, Bernardi and Gotsman
("A Framework for Transactional Consistency Models with Atomic Visibility", 2015), and the models of single objects
beside them, which no anomaly of transactions refutes by itself. Only what generates the lattice is written here; the
rest is its closure.

A garbage read, which finds what nobody wrote, is a read of a version that no committed transaction installed. It stands
with the aborted reads (G1a): Adya's read uncommitted says nothing about reads, and read committed is the weakest level
at which a read must find a committed version (as in Crooks et al., "Seeing is Believing", 2017, and in the read
consistency that AWDIT, 2025, asks of every level from read committed on).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Final, NamedTuple

from harness.errors import UsageError, field

_WEAKER: Final = {
    "strong-serializable": "serializable strong-session-serializable strong-snapshot-isolation session-serializable "
    "linearizable",
    "strong-session-serializable": "serializable strong-session-snapshot-isolation",
    "serializable": "repeatable-read snapshot-isolation update-serializable view-serializable",
    "strong-snapshot-isolation": "strong-session-snapshot-isolation strong-read-committed",
    "strong-session-snapshot-isolation": "snapshot-isolation strong-session-read-committed",
    "strong-read-committed": "strong-session-read-committed strong-read-uncommitted",
    "strong-session-read-committed": "read-committed strong-session-read-uncommitted",
    "strong-read-uncommitted": "strong-session-read-uncommitted",
    "strong-session-read-uncommitted": "read-uncommitted",
    "snapshot-isolation": "forward-consistent-view monotonic-snapshot-read parallel-snapshot-isolation prefix",
    "update-serializable": "forward-consistent-view",
    "forward-consistent-view": "consistent-view",
    "consistent-view": "cursor-stability monotonic-view",
    "repeatable-read": "cursor-stability monotonic-atomic-view",
    "parallel-snapshot-isolation": "causal-cerone update-atomic",
    "prefix": "causal-cerone",
    "causal-cerone": "read-atomic",
    "update-atomic": "read-atomic",
    "read-atomic": "monotonic-atomic-view",
    **dict.fromkeys(
        ("cursor-stability", "monotonic-view", "monotonic-snapshot-read", "monotonic-atomic-view"), "read-committed"
    ),
    "read-committed": "read-uncommitted",
    "read-uncommitted": "",
    # What is not about transactions, or tied to none of their anomalies.
    "view-serializable": "",
    "session-serializable": "1SR",
    "1SR": "",
    "linearizable": "sequential",
    "sequential": "causal",
    "causal": "PRAM writes-follow-reads",
    "PRAM": "monotonic-reads monotonic-writes read-your-writes",
    **dict.fromkeys(("monotonic-reads", "monotonic-writes", "read-your-writes", "writes-follow-reads"), ""),
}
"""The next weaker models of each."""

_FORBIDS: Final = {
    "read-uncommitted": "G0 duplicate-elements cyclic-versions",
    "read-committed": "G1",
    "cursor-stability": "G-cursor lost-update",
    "monotonic-view": "G-monotonic",
    "monotonic-snapshot-read": "G-MSR",
    "consistent-view": "G-single",
    "forward-consistent-view": "G-SIb",
    "update-serializable": "G-update",
    "repeatable-read": "G2-item lost-update",
    "read-atomic": "G1a future-read internal own-write-unseen fractured-read",
    "causal-cerone": "causality-violation",
    "update-atomic": "lost-update",
    "snapshot-isolation": "G-SI G-nonadjacent",
    "serializable": "G2 predicate-read-miss",
    **{
        f"strong{form}-{level}": f"{cycle}-{order}"
        for form, order in (("-session", "process"), ("", "realtime"))
        for level, cycle in (
            ("read-uncommitted", "G0"),
            ("read-committed", "G1c"),
            ("snapshot-isolation", f"G1-{order} fractured-read-process causality-violation-process G-nonadjacent"),
            ("serializable", f"G1-{order} G2"),
        )
    },
}
"""The anomalies that refute a model and need not refute a weaker one."""

_FOLLOWS: Final = {
    "G0": "G1c",
    "G1c": "G1",
    "G1a": "G1",
    "G1b": "G1",
    "G-single": "G-nonadjacent GSIb",
    "G-nonadjacent": "G2",
    "G-single-item": "G-single G-nonadjacent-item",
    "G-nonadjacent-item": "G-nonadjacent G2-item",
    "G2-item": "G2",
}
"""What else is there where an anomaly is; each has its forms with an order of time, for which the same holds."""

_FOLLOWS_ALONE: Final = {
    "lost-update": "write-skew G2-item",
    "write-skew": "G2",
    "dirty-update": "G1a",
    "incompatible-order": "G1a",
    "garbage-read": "G1a",
    "own-write-unseen": "",
    "future-read": "G1c",
    "fractured-read": "fractured-read-process",
    "fractured-read-process": "",
    "causality-violation": "causality-violation-process",
    "causality-violation-process": "",
    "GSIa": "GSI",
    "GSIb": "GSI",
}
"""The same of what is no cycle."""
ORDERS: Final = ("process", "realtime")
"""The orders of time, the first of which is part of the second."""
_TIMED: Final = ("G0", "G1", "G1c", *(name for name in _FOLLOWS if name.startswith("G-")), "G2-item", "G2")

_ADYA: Final = {
    "read-uncommitted": "PL-1",
    "read-committed": "PL-2",
    "cursor-stability": "PL-CS",
    "monotonic-view": "PL-2L",
    "monotonic-snapshot-read": "PL-MSR",
    "consistent-view": "PL-2+",
    "forward-consistent-view": "PL-FCV",
    "repeatable-read": "PL-2.99",
    "update-serializable": "PL-3U",
    "snapshot-isolation": "PL-SI",
    "serializable": "PL-3",
    "strong-serializable": "PL-SS",
    **{
        f"{form}-{level}": f"{form}-{name}"
        for form in ("strong-session", "strong")
        for level, name in (("read-uncommitted", "PL-1"), ("read-committed", "PL-2"))
    },
}
"""What Adya calls a model."""
_CYCLE_EXISTS: Final = {
    **{model: name for model, name in _ADYA.items() if name in ("PL-1", "PL-2", "PL-2.99", "PL-SI", "PL-3", "PL-SS")},
    **{model: model for model in ("prefix", "parallel-snapshot-isolation")},
    **{
        model: _ADYA.get(model, model)
        for model in _WEAKER
        if model.startswith("strong-") and model != "strong-serializable"
    },
}
"""By model, how the anomaly begins that says no more than that it is refuted: ``PL-3-cycle-exists``."""

_SQL: Final = {
    "postgres": {
        "read uncommitted": "read-committed",
        "read committed": "read-committed",
        "repeatable read": "snapshot-isolation",
        "serializable": "serializable",
    },
    "oracle": {"read committed": "read-committed", "serializable": "snapshot-isolation"},
    "sql": {
        "read uncommitted": "read-uncommitted",
        "read committed": "read-committed",
        "repeatable read": "repeatable-read",
        "serializable": "serializable",
    },
}
"""What databases, and the standard, mean by the words of SET TRANSACTION ISOLATION LEVEL."""

ALIASES: Final[Mapping[str, str]] = {
    "strict-serializable": "strong-serializable",
    "conflict-serializable": "serializable",
    "read-consistency": "read-committed",
    "prefix-consistency": "prefix",
    **{adya: model for model, adya in _ADYA.items()},
    **{f"{who}-{words.replace(' ', '-')}": model for who, of_it in _SQL.items() for words, model in of_it.items()},
}
"""Other names of models."""

CAUSAL: Final = "causal"
"""Transactional causal consistency: Cerone's, in sessions. The lattice has this name for that of single objects."""
CAUSAL_NAMES: Final = ("causal", "transactional-causal", "causal-consistency", "tcc")
_OF_CAUSAL: Final = ("G1c-process", "causality-violation-process", "fractured-read-process")

POPULAR: Final[Mapping[str, tuple[str, ...]]] = {
    "dirty-write": ("G0",),
    "dirty-read": ("G1a",),
    "aborted-read": ("G1a",),
    "intermediate-read": ("G1b",),
    "circular-information-flow": ("G1c",),
    "read-skew": ("G-single",),
    "long-fork": ("G-nonadjacent",),
    "write-skew": ("write-skew", "G2"),
    "stale-read": ("G-single-realtime",),
    "phantom": ("G2",),
}
"""What texts and most people call some anomalies, and what is then asked for: all that is called so."""

PARTLY: Final = frozenset(
    {
        "update-serializable",
        "forward-consistent-view",
        "monotonic-view",
        "monotonic-snapshot-read",
        "monotonic-atomic-view",
        "parallel-snapshot-isolation",
        "prefix",
        "update-atomic",
        "cursor-stability",
    }
)
"""The models of which only a part can be refuted: what the lattice ties to them, and not all that defines them."""

_ABOUT: Final = {
    "strong-serializable": "some order of all transactions explains all answers, and keeps to real time",
    "strong-session-serializable": "some order of all transactions explains all answers, and keeps to each process",
    "serializable": "some order of all transactions explains all answers: no cycle of any kind",
    "strong-snapshot-isolation": "snapshot isolation, and a snapshot has all that committed before it was taken",
    "strong-session-snapshot-isolation": "snapshot isolation, and a snapshot has what its process did before",
    "snapshot-isolation": "forbids lost updates, read skew and long forks; allows write skew",
    "strong-read-committed": "read committed, also where real time counts as a dependency",
    "strong-session-read-committed": "read committed, also where the order of a process counts as a dependency",
    "strong-read-uncommitted": "read uncommitted, also where real time counts as a dependency",
    "strong-session-read-uncommitted": "read uncommitted, also where the order of a process counts as a dependency",
    "update-serializable": "what writes is serializable with each reader, but readers may disagree (PL-3U)",
    "forward-consistent-view": "consistent view, and a little of what is newer may be seen (PL-FCV)",
    "consistent-view": "forbids read skew: no cycle with a single anti-dependency (G-single, PL-2+)",
    "repeatable-read": "Adya's PL-2.99, not PostgreSQL's: serializable but for predicates; forbids write skew of items",
    "parallel-snapshot-isolation": "forbids lost updates and read skew; allows long forks and write skew",
    "prefix": "forbids long forks and read skew; allows lost updates and write skew",
    "causal": "transactions see all that causes what they see, and what their process did before",
    "causal-cerone": "transactions see all that causes what they see (without the order of processes)",
    "update-atomic": "read atomic, and no lost updates",
    "read-atomic": "of another transaction all is seen or nothing: forbids fractured reads",
    "cursor-stability": "read committed, and no lost updates (PL-CS)",
    "monotonic-view": "what a transaction sees of others only grows (PL-2L)",
    "monotonic-snapshot-read": "each operation of a transaction reads a snapshot, none older than the last (PL-MSR)",
    "monotonic-atomic-view": "once something of another transaction was seen, all of it is",
    "read-committed": "forbids dirty reads: aborted, intermediate and circular ones (G1, PL-2)",
    "read-uncommitted": "forbids dirty writes alone: cycles of writes (G0, PL-1)",
}
"""What each model that can be checked is about, in a line."""

MODELS: Final = frozenset(_WEAKER)
"""All models by the names that verdicts have."""


@cache
def weaker(model: str) -> frozenset[str]:
    """A model and all that it implies."""
    return frozenset({model}).union(*(weaker(one) for one in _WEAKER[model].split()))


def _generated() -> dict[str, frozenset[str]]:
    """What directly follows from each anomaly."""
    follows = {name: set(f"{_FOLLOWS.get(name, '')} {_FOLLOWS_ALONE.get(name, '')}".split()) for name in _TIMED}
    follows |= {name: set(what.split()) for name, what in _FOLLOWS_ALONE.items()}
    for name in ("G1a", "G1b"):
        follows[name] = set(_FOLLOWS[name].split())
    for name in _TIMED:
        follows[name].add(f"{name}-process")
        timed = [one for one in _FOLLOWS.get(name, "").split() if one in _TIMED]
        follows[f"{name}-process"] = {f"{name}-realtime", *(f"{one}-process" for one in timed)}
        follows[f"{name}-realtime"] = {f"{one}-realtime" for one in timed}
    for name in " ".join(_FORBIDS.values()).split():
        follows.setdefault(name, set())
    for name in _CYCLE_EXISTS.values():
        follows[f"{name}-cycle-exists"] = set()
    follows.setdefault("GSI", set())
    return {name: frozenset(what) for name, what in follows.items()}


_DIRECT: Final = _generated()
ANOMALIES: Final = frozenset(_DIRECT)
"""All anomalies that there are names for."""


@cache
def implied(anomaly: str) -> frozenset[str]:
    """An anomaly and all that follow from it."""
    return frozenset({anomaly}).union(*(implied(one) for one in _DIRECT.get(anomaly, ())))


@cache
def forbidden(model: str) -> frozenset[str]:
    """The anomalies that a model, or one that it implies, is defined by the absence of."""
    return frozenset(
        name for one in weaker(model) for name in (*_FORBIDS.get(one, "").split(), cycle_exists(one)) if name
    )


def cycle_exists(model: str) -> str:
    """The anomaly that says only that a model is refuted; empty for a model that has none."""
    return f"{_CYCLE_EXISTS[model]}-cycle-exists" if model in _CYCLE_EXISTS else ""


def canonical(name: str) -> str | None:
    """The model of a name or an alias; None for what is none.

    ``strict-serializable`` and ``PL-SS`` are ``strong-serializable``, ``PL-3`` is ``serializable``, and
    ``postgres-repeatable-read`` is ``snapshot-isolation``.
    """
    if name in _WEAKER:
        return name
    low = name.lower().replace("_", "-").replace(" ", "-")
    for known in (*_WEAKER, *ALIASES):
        if known.lower() == low:
            return ALIASES.get(known, known)
    return None


def model_to_check(name: str) -> str | None:
    """The model that transactions can be held against by this name; None where there is none.

    Here ``causal`` is the causal consistency of transactions in sessions (``CAUSAL``), not that of single operations.
    """
    if name.lower() in CAUSAL_NAMES:
        return CAUSAL
    model = canonical(name)
    return model if model is not None and forbidden(model) else None


def names_to_check() -> list[str]:
    """The names of models that transactions can be held against, strongest first, each as people say it."""
    names = [spoken(model) for model in _WEAKER if forbidden(model)]
    names.insert(names.index("causal-cerone"), CAUSAL)
    return names


def about(name: str) -> str:
    """What a level of ``names_to_check`` is about, in a line."""
    model = model_to_check(name) or ""
    line = _ABOUT.get(model, "")
    partly = "; searched for in part" if model in PARTLY else ""
    return f"{line[:1].upper()}{line[1:]}{partly}." if line else "A level of isolation of transactions."


def anomaly_named(name: str) -> str:
    """An anomaly, or one of ``POPULAR``, as it is spelled here.

    Raises ``UsageError`` with what is close for what is none.
    """
    by_low = {known.lower(): known for known in (*ANOMALIES, *POPULAR)}
    low = name.lower().replace("_", "-").replace(" ", "-")
    if (known := by_low.get(low)) is not None:
        return known
    close = [by_low[one] for one in difflib.get_close_matches(low, sorted(by_low), 3, 0.6)]
    formal = [one for one in severity() if "exists" not in one and one not in POPULAR]
    there_is = ", ".join(close or [*sorted(POPULAR), *formal])
    raise UsageError(f"{field('anomalies')} has {name!r}, which is none: there is {there_is}")


def prohibited(models: Iterable[str], anomalies: Iterable[str] = ()) -> frozenset[str]:
    """All anomalies that must not be found: those that imply what a model forbids, or one of ``anomalies``.

    Raises ``UsageError`` for a name that is no model or no anomaly.
    """
    basic = {one for name in map(anomaly_named, anomalies) for one in POPULAR.get(name, (name,))}
    for name in models:
        model = canonical(name)
        if model is None:
            raise UsageError(f"unknown consistency model {name!r}: there are {', '.join(names_to_check())}")
        basic |= forbidden(model)
    return frozenset(anomaly for anomaly in ANOMALIES if not implied(anomaly).isdisjoint(basic))


def prohibited_by(models: Iterable[str], anomalies: Iterable[str] = ()) -> frozenset[str]:
    """The same where models are those of ``model_to_check``, of which ``causal`` is that of transactions."""
    names = list(models)
    causal = _OF_CAUSAL if CAUSAL in names else ()
    return prohibited(["causal-cerone" if name == CAUSAL else name for name in names], (*anomalies, *causal))


@cache
def refuted_by(anomaly: str) -> frozenset[str]:
    """The models that an anomaly rules out; none for an anomaly of a name that is not known."""
    return frozenset(model for model in MODELS if not implied(anomaly).isdisjoint(forbidden(model)))


def refuted(anomalies: Iterable[str]) -> frozenset[str]:
    """The models that these rule out together."""
    return frozenset[str]().union(*map(refuted_by, anomalies))


def weakest(models: Collection[str]) -> list[str]:
    """Those of these models that imply no other of them, sorted."""
    return sorted(model for model in models if (weaker(model) - {model}).isdisjoint(models))


def strongest(models: Collection[str]) -> list[str]:
    """Those of these models that no other of them implies, sorted."""
    below = frozenset[str]().union(*(weaker(model) - {model} for model in models))
    return sorted(model for model in models if model not in below)


class Boundary(NamedTuple):
    """Where the anomalies that were found divide the models."""

    refuted: list[str]
    """The weakest models that are ruled out."""
    also: list[str]
    """All stronger ones, which are ruled out as well."""
    left: list[str]
    """The strongest models that are not."""


def boundary(anomalies: Iterable[str]) -> Boundary:
    """Which models these anomalies leave."""
    out = refuted(anomalies)
    least = weakest(out)
    return Boundary(least, sorted(out - set(least)), strongest(MODELS - out))


def spoken(model: str) -> str:
    """A model in a sentence: "strict serializability" is what most people call the strong one."""
    return "strict-serializable" if model == "strong-serializable" else model


def told(model: str) -> str:
    """A model in a sentence where its name may be taken for another one's."""
    return "repeatable-read (Adya's PL-2.99, not PostgreSQL's)" if model == "repeatable-read" else spoken(model)


@cache
def severity() -> tuple[str, ...]:
    """All anomalies, the worst first: none stands before one that it follows from.

    A cycle with no read that missed a write is worse than one with such reads, and one of data alone than any that
    takes an order of time.
    """
    before: dict[str, set[str]] = {name: set() for name in ANOMALIES}
    for name, follows in _DIRECT.items():
        for one in follows:
            before[one].add(name)
    for order in ("", "-process", "-realtime"):
        before[f"G-single{order}"].add(f"G1c{order}")
        before[f"G2-item{order}"].add(f"G1c{order}")
    before["G0-process"].add("G2")
    before["G0-realtime"].add("G2-process")

    @cache
    def depth(name: str) -> int:
        return max((depth(one) + 1 for one in before[name]), default=0)

    return tuple(sorted(ANOMALIES, key=lambda name: (depth(name), name)))
