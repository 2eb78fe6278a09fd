"""How available the store was, in at most eight lines: for people, and as properties for JUnit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from harness.words import duration

PHASES: Final = ("before", "during", "after")
QUANTILES: Final = ("p50", "p90", "p99", "p99.9", "max")
_NEMESES: Final = 2
"""Of how many nemeses the returns are told, the longest ones."""
_REASONS: Final = 3
_SHORT: Final = 50


def availability_lines(evidence: dict[str, Any]) -> list[str]:
    """What the checker ``availability`` has measured; nothing where it has not."""
    measured = evidence.get("availability")
    if measured is None:
        return []
    phases = {f"{name} faults": measured[name] for name in PHASES if measured[name]["operations"]}
    if not measured["faults_found"]:
        phases = {"without faults": measured["total"]}
    width = max(map(len, phases))
    lines = [f"{'':<{width}}  {'served':>8}" + "".join(f"  {name:>8}" for name in QUANTILES)]
    for name, group in phases.items():
        latency = group["latency"] or {}
        times = "".join(f"  {duration(latency[q]) if q in latency else '-':>8}" for q in QUANTILES)
        lines.append(f"{name:<{width}}  {percent(group):>8}{times}")
    worst = sorted(measured["worst"].items(), key=lambda item: _length(item[1]), reverse=True)
    lines += [f"{name}: {_returns(*returns)}" for name, returns in worst[:_NEMESES]]
    reasons = Counter[str]()
    for group in measured["reasons"]:
        reasons[group["error"][:_SHORT]] += group["operations"]
    causes = [f"{number:,} {why}" for why, number in reasons.most_common(_REASONS)]
    if causes or measured["clauses"]:
        why = [f"not served: {'; '.join(causes)}"] if causes else []
        lines.append("; ".join([*why, *measured["clauses"]]))
    return lines


def availability_properties(evidence: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values for machines: shares from 0 to 1, times in seconds, ``never`` for what did not happen."""
    measured = evidence.get("availability")
    if measured is None:
        return
    groups = {name: measured[name] for name in ("total", *PHASES)}
    for kind in ("functions", "nodes"):
        groups |= {f"{kind}.{name}": figures for name, figures in measured[kind].items()}
    for name, figures in groups.items():
        if figures["operations"]:
            yield f"availability.{name}.served", f"{figures['served'] / figures['operations']:.6f}"
            for quantile, ns in (figures["latency"] or {}).items():
                yield f"availability.{name}.{quantile}", f"{ns / 1e9:.9f}"
    for name, (_, *returns) in measured["worst"].items():
        for moment, figures in zip(("fault", "heal"), returns, strict=True):
            times = ["first_served", *(["first_write"] if "first_write" in figures else [])]
            for what in [*times, *(["full_service"] if figures["known"] else [])]:
                ns = figures[what]
                yield f"availability.{name}.{what}_after_{moment}", "never" if ns is None else f"{ns / 1e9:.9f}"


def percent(group: dict[str, Any]) -> str:
    """Which share of some operations was served: cut off, not rounded, so that 100 % is all of them."""
    return f"{group['served'] * 1000 // group['operations'] / 10:.1f} %"


def _length(returns: Any) -> tuple[float, float]:
    """By what those are sorted that took long."""
    _, fault, heal = returns
    heals, faults = (_seconds(recovery) for recovery in (heal, fault))
    return heals, faults


def _seconds(recovery: dict[str, Any]) -> float:
    if not recovery["known"]:
        return -1.0
    return float("inf") if recovery["full_service"] is None else recovery["full_service"] / 1e9


def _returns(faults: int, fault: dict[str, Any], heal: dict[str, Any]) -> str:
    """What became of service in the faults of one nemesis."""
    first = "nothing was served since"
    if fault["first_served"] is not None:
        first = f"served again after {duration(fault['first_served'])}"
        write = fault.get("first_write", fault["first_served"])
        if write != fault["first_served"]:
            first += ", no write since" if write is None else f", writes after {duration(write)}"
    told = [first, *_full(fault, "while it lasted")]
    healed = _full(heal, "before the next fault, or the end")
    told += [f"after the heal {clause}" for clause in healed]
    return f"{', '.join(told)}{f' (the worst of {faults})' if faults > 1 else ''}"


def _full(recovery: dict[str, Any], until: str) -> list[str]:
    if not recovery["known"]:
        return []
    if recovery["full_service"] is None:
        return [f"no full service {until}"]
    return [
        f"full service after {duration(recovery['full_service'])}"
        if recovery["full_service"]
        else "full service all the time"
    ]
