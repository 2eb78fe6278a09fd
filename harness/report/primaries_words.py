"""What there is to say of primaries: of those of a split brain, as its checker accounts for them, and of all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from harness.report.acknowledged import LOST, PLAIN, Account, Writes, left_out, lost_of
from harness.roles import Span
from harness.words import count, duration, named, printable

_TOLD: Final = 4
"""How many accounts, or primaries, are told in words."""
_FATE_WORDS: Final = {"unknown": "of unknown fate", "overwritten": "overwritten by its own"}


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
    lost = sum(map(lost_of, account["sides"]))
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


def words_of(
    evidence: Mapping[str, Any], accounts: Sequence[Account], leading: Sequence[Span], writes: Writes
) -> list[str]:
    """What is to be seen, a sentence each."""
    lines = []
    for account in accounts[:_TOLD]:
        lines.append(f"{when(account['start'], account['end'])}: {how_many(account)}.")
        lines += [f"{_side(side)}." for side in account["sides"]]
        # What is lost says more than in which order of terms it was acknowledged.
        lines += [printable(f"{fact}.") for fact in account["facts"][:1] if not lost_words(account)]
    if not accounts and leading:
        reigns = [f"{reign_of(span)} from {when(span.start, span.end)}" for span in leading[:_TOLD]]
        more = f", and {len(leading) - _TOLD} more" if len(leading) > _TOLD else ""
        lines.append(f"Primary: {', '.join(reigns)}{more}.")
    if leading:
        lines.append("Thick lines: primary; thin: not; dotted: no answer; below them the faults.")
    total = sum(writes.counts.values())
    if total:
        lines.append("Marks: acknowledged writes; click on one for its operation.")
    if len(writes.drawn) < total:
        lines.append(f"Drawn: {len(writes.drawn):,} of {total:,}{_lost_ones(writes)}.")
    return [*lines, *_left_out(evidence, accounts)]


def _lost_ones(writes: Writes) -> str:
    """How many of the lost writes are drawn, as a clause."""
    lost, drawn = writes.counts.get(LOST, 0), sum(write.fate == LOST for write in writes.drawn)
    if not lost:
        return ""
    if writes.at_least:
        return f", among them {drawn:,} of at least {lost:,} lost ones"
    return f", among them {'all' if drawn == lost else f'{drawn:,} of the'} {lost:,} lost ones"


def _left_out(evidence: Mapping[str, Any], accounts: Sequence[Account]) -> list[str]:
    """What the verdict does not list, so that the picture cannot have it."""
    lines = []
    writes = sum(account["writes_left_out"] for account in accounts)
    if writes:
        are, count_as = ("is", "it counts") if writes == 1 else ("are", "they count")
        more = count(writes, "more write")
        lines.append(f"{more} of these times {are} not in the verdict; where drawn {count_as} as {PLAIN}.")
    episodes, conflicts = left_out(evidence)
    for number, noun in ((episodes, "with several primaries"), (conflicts, "of conflicting terms")):
        if number:
            are = "is" if number == 1 else "are"
            more = count(number, "more time")
            lines.append(f"{more} {noun} {are} not in the verdict; where drawn their writes count as {PLAIN}.")
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
