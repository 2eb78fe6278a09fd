"""A verdict in lines of text, the same in the terminal, the report and the JUnit file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.periods import turns_of
from harness.verdict import Verdict
from harness.words import count

_CRASHES: Final = 2
"""How many ends of servers are told that faults explain."""


def anomaly_count(verdict: Verdict) -> str:
    """How many anomalies there are, with the noun."""
    return count(verdict.total, "anomaly", "anomalies")


def unknown_lines(verdict: Verdict) -> list[str]:
    """Beside anomalies: what nobody knows, since a checker broke or the run was cut short."""
    if verdict.validity != "invalid":
        return []
    return [f"unknown: {name}: {p.reason}" for name, p in verdict.parts.items() if p.validity == "unknown"]


def evidence_lines(evidence: Mapping[str, Any]) -> list[str]:
    """What the verdict rests on, a sentence a line."""
    lines = []
    if "operations" in evidence:
        lines.append(
            f"{count(evidence['operations'], 'operation')}: {evidence['ok']:,} ok, {evidence['fail']:,} failed, "
            f"{evidence['info']:,} unknown; at most {evidence['most_concurrent_on_one_key']} at once on one key; "
            f"{count(evidence['role_changes'], 'change of primary', 'changes of primary')}"
        )
    lines += [f"{name}: {mine.in_words()}" for name, mine in turns_of(evidence).items()]
    if crashes := evidence.get("crashes", {}).get("by_faults"):
        more = f", and {len(crashes) - _CRASHES} more" if len(crashes) > _CRASHES else ""
        lines.append(f"by a fault's doing: {'; '.join(crashes[:_CRASHES])}{more}")
    if shortened := evidence.get("shortened_logs"):
        lines.append(f"of long logs the first and the last 8 MiB were kept: {', '.join(shortened)}")
    return lines
