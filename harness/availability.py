"""How available the store was, in at most eight lines: for people, and as properties for JUnit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from harness.words import duration

_PHASES: Final = ("before", "during", "after")
_QUANTILES: Final = ("p50", "p90", "p99", "p99.9", "max")
_NEMESES: Final = 2
"""Of how many nemeses the returns are told, the longest ones."""
_REASONS: Final = 3
_SHORT: Final = 50


def availability_lines(evidence: dict[str, Any]) -> list[str]:
    """What the checker ``availability`` has measured; nothing where it has not."""
    found = evidence.get("availability")
    if found is None:
        return []
    phases = {f"{name} faults": found[name] for name in _PHASES if found[name]["operations"]}
    if not found["faults_found"]:
        phases = {"without faults": found["total"]}
    width = max(map(len, phases))
    lines = [f"{'':<{width}}  {'served':>8}" + "".join(f"  {name:>8}" for name in _QUANTILES)]
    for name, one in phases.items():
        latency = one["latency"] or {}
        times = "".join(f"  {duration(latency[q]) if q in latency else '-':>8}" for q in _QUANTILES)
        lines.append(f"{name:<{width}}  {_percent(one):>8}{times}")
    worst = sorted(found["worst"].items(), key=lambda item: _length(item[1]), reverse=True)
    lines += [f"{name}: {_returns(*mine)}" for name, mine in worst[:_NEMESES]]
    reasons = Counter[str]()
    for one in found["reasons"]:
        reasons[one["error"][:_SHORT]] += one["operations"]
    said = [f"{number:,} {why}" for why, number in reasons.most_common(_REASONS)]
    if said or found["clauses"]:
        why = [f"not served: {'; '.join(said)}"] if said else []
        lines.append("; ".join([*why, *found["clauses"]]))
    return lines


def availability_properties(evidence: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values for machines: shares from 0 to 1, times in seconds, ``never`` for what did not happen."""
    found = evidence.get("availability")
    if found is None:
        return
    groups = {name: found[name] for name in ("total", *_PHASES)}
    for kind in ("functions", "nodes"):
        groups |= {f"{kind}.{name}": one for name, one in found[kind].items()}
    for name, one in groups.items():
        if one["operations"]:
            yield f"availability.{name}.served", f"{one['served'] / one['operations']:.6f}"
            for quantile, ns in (one["latency"] or {}).items():
                yield f"availability.{name}.{quantile}", f"{ns / 1e9:.9f}"
    for name, (_, *returns) in found["worst"].items():
        for moment, one in zip(("fault", "heal"), returns, strict=True):
            for what in ("first_served", "full_service") if one["known"] else ("first_served",):
                ns = one[what]
                yield f"availability.{name}.{what}_after_{moment}", "never" if ns is None else f"{ns / 1e9:.9f}"


def _percent(one: dict[str, Any]) -> str:
    """Cut off, not rounded: 100 % is all of them."""
    return f"{one['served'] * 1000 // one['operations'] / 10:.1f} %"


def _length(mine: Any) -> tuple[float, float]:
    """By what those are sorted that took long."""
    _, fault, heal = mine
    heals, faults = (_seconds(one) for one in (heal, fault))
    return heals, faults


def _seconds(one: dict[str, Any]) -> float:
    if not one["known"]:
        return -1.0
    return float("inf") if one["full_service"] is None else one["full_service"] / 1e9


def _returns(faults: int, fault: dict[str, Any], heal: dict[str, Any]) -> str:
    """What became of service in the faults of one nemesis."""
    first = "nothing was served since"
    if fault["first_served"] is not None:
        first = f"served again after {duration(fault['first_served'])}"
    told = [first, *_full(fault, "while it lasted")]
    healed = _full(heal, "before the next fault, or the end")
    told += [f"after the heal {one}" for one in healed]
    return f"{', '.join(told)}{f' (the worst of {faults})' if faults > 1 else ''}"


def _full(one: dict[str, Any], until: str) -> list[str]:
    if not one["known"]:
        return []
    if one["full_service"] is None:
        return [f"no full service {until}"]
    return [
        f"full service after {duration(one['full_service'])}" if one["full_service"] else "full service all the time"
    ]
