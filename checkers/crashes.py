"""Crashes: servers that ended though nobody had ended them, and lines in their logs that no sound server prints.

Who lives, and what was printed, the monitor has recorded (``harness.surviving``); which faults may end a server, and
for how long, stands with what was planned (``Nemesis.ends_servers``). What a fault explains is evidence, no anomaly.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import Any, Final, NamedTuple

from harness.checkers.findings import Findings
from harness.history import MONITOR_PROCESS, NEMESIS_PROCESS, NEVER, History
from harness.operation import PRINTED, SERVER, Event
from harness.periods import HEAL, PLANNED, START, STOP, fault_action
from harness.verdict import Budget, Checker, Verdict

_ENDED: Final = "server ended by itself"
_EXCUSED: Final = 100
"""How many of those that a fault explains are in the evidence, besides those that it is made of."""

_SHORT: Final = 150


class Threat(NamedTuple):
    """A fault that may end servers: of which nemesis, how (see ``Nemesis.ends_servers``), when, and on which nodes."""

    name: str
    how: str
    start: int
    end: int
    nodes: frozenset[str]

    def explains(self, event: Event, since: int) -> bool:
        """Whether it may be the reason of what happened on a node between two moments."""
        if self.start > event.time or event.node not in self.nodes:
            return False
        if self.how == "itself" and event.f != SERVER:
            return False
        return self.how == "ever" or self.end >= since


class Crashes(Checker):
    """Valid where every server lived, and printed nothing alarming, but for what faults explain."""

    def check(self, history: History, budget: Budget) -> Verdict:
        seen = [event for event in history.special(MONITOR_PROCESS) if event.f in (SERVER, PRINTED)]
        events = [event for event in seen if isinstance(event.value, dict) and "server" in event.value]
        threatening, findings = threats(history), Findings(history.operations())
        excused, explained = [], 0
        for event in events:
            if event.f == SERVER and event.value.get("runs"):
                continue
            kind = _ENDED if event.f == SERVER else str(event.value.get("kind"))
            since = int(event.value.get("since", 0))
            reasons = [threat for threat in threatening if threat.explains(event, since)]
            by = min(reasons, key=lambda threat: threat.how != "itself", default=None)
            if by is not None:
                explained += 1
                if by.how != "itself":
                    excused.append(f"{_text(event, since)} ({by.name})")
                continue
            if not findings.enough(kind):
                findings.add(kind, _text(event, since), (), during=(since, event.time))
        watched = len({(event.node, event.value["server"]) for event in events})
        evidence = {"crashes": {"servers": watched, "explained": explained, "by_faults": excused[:_EXCUSED]}}
        return findings.verdict("crash", evidence, many="crashes")

    def blind(self, history: History) -> str:
        """A run always records what it has seen of its nodes; other tools' histories tell nothing of servers."""
        return (
            "" if len(history.special(MONITOR_PROCESS)) else "nothing in it tells of servers, or of what they printed"
        )


def _text(event: Event, since: int) -> str:
    """What was seen of a server, in a sentence."""
    value, at = event.value, f"{event.time / 1e9:.2f} s"
    who = f"{value['server']} on {event.node}"
    if event.f == PRINTED:
        return f"{who} printed until {at}: {value.get('line')}"
    last = f"; the last that it printed: {value['last'][:_SHORT]}" if value.get("last") else ""
    return f"{who} ended between {since / 1e9:.2f} s and {at}{last}"


def threats(history: History) -> list[Threat]:
    """The faults that may end servers, in the order of their starts.

    One that could not be injected counts while it was tried. Who was hit is told by the names of nodes in what was
    done; where there are none it may have been anybody.
    """
    how: dict[str, str] = {}
    for event in history.special(MONITOR_PROCESS):
        if event.f == PLANNED and isinstance(event.value, dict):
            how |= event.value.get("ends_servers", {})
    nodes = frozenset(name for name in history.nodes if name is not None)
    opened: dict[str, list[Threat]] = defaultdict(list)
    """By nemesis, in the order of their starts: one may begin while the one before it is still being ended."""
    ending: Counter[str] = Counter()
    closed: list[Threat] = []

    def close(name: str, end: int, left: int = 0) -> None:
        while len(opened[name]) > left:
            closed.append(opened[name].pop(0)._replace(end=end))

    for event in history.special(NEMESIS_PROCESS):
        action, name = fault_action(event.f)
        if how.get(name) == "never":
            continue
        if action == START:
            if event.type == "invoke":
                close(name, event.time, left=ending[name])
                opened[name].append(Threat(name, how.get(name, "ever"), event.time, NEVER, nodes))
            elif event.type == "fail" and opened[name]:
                closed.append(opened[name].pop()._replace(end=event.time))
            elif event.type == "ok" and opened[name]:
                opened[name][-1] = opened[name][-1]._replace(nodes=_hit(event.value, nodes))
        elif action == HEAL and event.type != "invoke":
            for fault in opened:
                close(fault, event.time)
        elif action == STOP:
            ending[name] = max(0, ending[name] + (1 if event.type == "invoke" else -1))
            if event.type == "ok" and opened[name]:
                close(name, event.time, left=len(opened[name]) - 1)
    return sorted([*closed, *(one for many in opened.values() for one in many)], key=lambda threat: threat.start)


def _hit(done: Any, nodes: frozenset[str]) -> frozenset[str]:
    """The nodes that what was done names, or all."""
    return nodes.intersection(re.findall(r"[\w.-]+", json.dumps(done, ensure_ascii=False, default=str))) or nodes
