"""What there is to say of primaries: of those of a split brain, as its checker accounts for them, and of all others.

An account is an episode or a conflict of terms, as ``evidence`` of a verdict has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from harness.report.fated import LOST, Writes
from harness.report.spans import Span
from harness.words import count, duration, named, printable

Account = Mapping[str, Any]

_TOLD: Final = 4
"""How many accounts, or primaries, are told in words."""
_FATE_WORDS: Final = {"unknown": "of unknown fate", "overwritten": "overwritten by its own"}


def accounts_of(evidence: Mapping[str, Any]) -> list[Account]:
    """Those that are in the evidence of a verdict."""
    return [*evidence.get("episodes", ()), *evidence.get("term_conflicts", ())]


def several(account: Account) -> str:
    """What there was: "two primaries", or how terms contradict one another."""
    if "spells" in account:
        return str(account["kind"])
    return "two primaries" if len(account["nodes"]) == 2 else "two or more primaries"


def how_many(account: Account) -> str:
    """The same with its time: "two primaries for 2.8 s"."""
    if "spells" in account:
        return several(account)
    in_all = "" if account["shared"] == account["end"] - account["start"] else " in all"
    return f"{several(account)} for {duration(account['shared'])}{in_all}"


def lost_words(account: Account) -> str:
    """How many of its writes are lost, as a clause."""
    lost = sum(side["fates"].get(LOST, 0) + side["lost_before"] + side["lost_after"] for side in account["sides"])
    return f": {count(lost, 'acknowledged write')} lost" if lost else ""


def title_of(evidence: Mapping[str, Any], accounts: Sequence[Account], leading: Sequence[Span]) -> str:
    """The title of the picture."""
    episodes = [account for account in accounts if "spells" not in account]
    guilty = [episode for episode in episodes if episode["facts"]]
    if guilty:
        two = all(len(episode["nodes"]) == 2 for episode in guilty)
        times = f", {len(guilty):,} times" if len(guilty) > 1 else ""
        return f"Two{'' if two else ' or more'} primaries at once{times}"
    if len(accounts) > len(episodes):
        return "Primaries whose terms conflict"
    if episodes:
        return f"{how_many(episodes[0]).capitalize()}; no harm was found"
    if not leading:
        return "Nodes, faults and writes"
    return "One primary at a time" if evidence.get("leadership", "none") != "none" else "Who was primary"


def words_of(accounts: Sequence[Account], leading: Sequence[Span], writes: Writes) -> list[str]:
    """What is to be seen, a sentence each."""
    lines = []
    for account in accounts[:_TOLD]:
        lines.append(f"{when(account['start'], account['end'])}: {how_many(account)}.")
        lines += [f"{_side(side)}." for side in account["sides"]]
        # What is lost says more than in which order of terms it was acknowledged.
        lines += [printable(f"{fact}.") for fact in account["facts"][:1] if not lost_words(account)]
    if not accounts and leading:
        told = [f"{reign_of(span)} from {when(span.start, span.end)}" for span in leading[:_TOLD]]
        more = f", and {len(leading) - _TOLD} more" if len(leading) > _TOLD else ""
        lines.append(f"Primary: {', '.join(told)}{more}.")
    if leading:
        lines.append("Thick lines: primary; thin: not; dotted: no answer; below them the faults.")
    total = sum(writes.counts.values())
    if total:
        lines.append("Marks: acknowledged writes; click on one for its operation.")
    if len(writes.drawn) < total:
        lost = writes.counts.get(LOST, 0)
        shown = sum(write.fate == LOST for write in writes.drawn)
        all_lost = f", among them {'all' if shown == lost else f'{shown:,} of the'} {lost:,} lost ones" if lost else ""
        lines.append(f"Drawn: {len(writes.drawn):,} of {total:,}{all_lost}.")
    return lines


def _side(side: Account) -> str:
    """One primary of an episode: "n1 in term 0 acknowledged 404 writes, all lost (and 205 before, lost as well)"."""
    terms = f" in term {' and '.join(map(str, side['terms']))}" if side["terms"] else ""
    fates = {fate: number for fate, number in side["fates"].items() if number}
    became = "".join(f", all {_FATE_WORDS.get(fate, fate)}" for fate in fates) if len(fates) == 1 else ""
    if len(fates) > 1:
        became = ": " + ", ".join(f"{number:,} {_FATE_WORDS.get(fate, fate)}" for fate, number in fates.items())
    outside = [(side["lost_before"], "before"), (side["lost_after"], "afterwards")]
    more = " and ".join(f"{number:,} {when}" for number, when in outside if number)
    acknowledged = count(side["acknowledged"], "write") if side["acknowledged"] else "no write"
    lost_too = f" (and {more}, lost as well)" if more else ""
    return printable(f"{named(side['node'])}{terms} acknowledged {acknowledged}{became}{lost_too}")


def when(start: int, end: int) -> str:
    """A stretch of time (ns) as a phrase."""
    return f"{start / 1e9:.1f} s to {end / 1e9:.1f} s"


def reign_of(span: Span) -> str:
    """A primary with its term: "n1 in term 0"."""
    return printable(f"{named(span.node)} primary" if span.term is None else f"{named(span.node)} in term {span.term}")
