"""Locks: nobody holds one while somebody else does, and nobody's older token counts after a newer one.

A lock is held, in the eyes of its holder, from the answer to ``acquire`` until it invokes ``release``. One that was
given for some seconds is due to its holder alone for as long, and until the last of its writes that are accepted is
invoked. Fencing tokens are those of Kleppmann ("How to do distributed locking", 2016): whoever accepts writes of
holders refuses an older one.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from harness.checkers.findings import Findings
from harness.checkers.timeline import Timeline, begins, ends, select
from harness.columns import Ints
from harness.history import FAIL, INFO, NEVER, OK, History, Operations
from harness.verdict import Budget, Checker, Verdict
from harness.words import named, show

_AGES: Final = 1e9
"""Seconds that no history lasts."""
_WRITES: Final = ("write", "write-held", "write-fenced")


class Lock(Checker):
    """Judges locks: ``acquire``, answered with a token, or false if somebody else holds it, ``release`` and ``write``.

    ``acquire`` of a number asks for the lock for as many seconds, of anything else for good.
    A write (``write``, ``write-held`` or ``write-fenced``) that carries a token is ``[token, what]``. A holder that
    lost contact, of which an operation has an unknown outcome, is not known to hold anything from then on, nor is one
    that was told by a failure that it does not.
    ``exclusive`` asks that no two hold a lock at one moment; without it only what is written counts.
    """

    def __init__(self, *, exclusive: bool = True) -> None:
        self._exclusive = exclusive

    def blind(self, history: History) -> str:
        """Why nothing could have been wrong; empty where something could."""
        operations: Operations = history.operations()
        got = _acquired(operations)
        return "" if len(got) > 1 else "no lock was acquired twice"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations: Operations = history.operations()
        findings = Findings(operations)
        got = _acquired(operations)
        until = _held_until(operations, got)
        if self._exclusive:
            until = np.minimum(until, _due_until(operations, got, until))
        both = self._together(operations, got, until, findings)
        self._tokens(operations, got, findings)
        writes = self._stale_writes(operations, findings)
        evidence = {"locks_acquired": len(got), "held_together": both, "fenced_writes": writes}
        return findings.verdict("violation", evidence)

    def _together(self, operations: Operations, got: Ints, until: Ints, findings: Findings) -> int:
        """How often a lock was acquired while another holder believed to hold it."""
        key, start = operations.key[got], operations.completed[got]
        before = Timeline(key, start, len(operations.history)).greatest(until, key, start)
        wrong = np.flatnonzero((before >= 0) & (until[before] > start)) if len(got) else got
        for at in wrong.tolist() if self._exclusive else ():
            if findings.enough("held together"):
                continue
            holder, other = int(got[before[at]]), int(got[at])
            ended = int(until[before[at]])
            rows, then = [holder, other], "and did not release it"
            shown = np.flatnonzero((operations.invoked == ended) | (operations.completed == ended))
            if len(shown) and operations.process[shown[0]] == operations.process[holder]:
                last = int(shown[0])
                then = f"and held it until then: {findings.did(last)}"
                rows.append(last)
            name = named(operations.key_name(other))
            text = (
                f"Lock {name}: {findings.did(holder)}, got it{_token(operations, holder)}, {then}. "
                f"Meanwhile {findings.did(other)}, and got it{_token(operations, other)}: two held it at one moment."
            )
            findings.add("held together", text, rows)
        return len(wrong)

    def _tokens(self, operations: Operations, got: Ints, findings: Findings) -> None:
        """Each token is greater than all that were given before."""
        tokens = [operations.history.value[event] for event in operations.completed[got].tolist()]
        given = np.array([type(one) is int for one in tokens], dtype=bool)
        got, token = got[given], _in_order([one for one in tokens if type(one) is int])
        key = operations.key[got]
        line = Timeline(key, ends(operations, got), len(operations.history))
        before = line.greatest(token, key, begins(operations, got))
        same = np.lexsort((token, key))
        twice = same[1:][(np.diff(token[same]) == 0) & (np.diff(key[same]) == 0)]
        first = same[:-1][(np.diff(token[same]) == 0) & (np.diff(key[same]) == 0)]
        for earlier, later in zip(got[first].tolist(), got[twice].tolist(), strict=True):
            if findings.enough("token given twice"):
                continue
            text = f"{findings.did(earlier)}, and {findings.did(later)}: both were given the same token."
            self._add(findings, operations, "token given twice", text, [earlier, later])
        older = np.flatnonzero((before >= 0) & (token < token[before])) if len(got) else got
        for at in older.tolist():
            if findings.enough("token went back"):
                continue
            earlier, later = int(got[before[at]]), int(got[at])
            text = f"{findings.did(earlier)}. Later {findings.did(later)}, which is an older token."
            self._add(findings, operations, "token went back", text, [earlier, later])

    def _stale_writes(self, operations: Operations, findings: Findings) -> int:
        """No write with an older token is accepted after one with a newer token was; how many writes carry one."""
        rows = select(operations, *_WRITES)
        rows = rows[operations.type[rows] == OK]
        values = [operations.history.value[event] for event in operations.told[rows].tolist()]
        fenced = [isinstance(v, list | tuple) and len(v) == 2 and type(v[0]) is int for v in values]
        rows = rows[np.array(fenced, dtype=bool)]
        tokens = [v[0] for v, has in zip(values, fenced, strict=True) if has]
        token = _in_order(tokens)
        key = operations.key[rows]
        line = Timeline(key, ends(operations, rows), len(operations.history))
        newest = line.greatest(token, key, begins(operations, rows))
        stale = np.flatnonzero((newest >= 0) & (token < token[newest])) if len(rows) else rows
        for at in stale.tolist():
            if findings.enough("stale write"):
                continue
            earlier, later = int(rows[newest[at]]), int(rows[at])
            text = (
                f"{findings.did(earlier)}, with token {show(tokens[newest[at]])}. Later {findings.did(later)}, with "
                f"token {show(tokens[at])}, which is older, and it was accepted: a holder of before wrote over its "
                "successor."
            )
            self._add(findings, operations, "stale write", text, [earlier, later])
        return len(rows)

    def _add(self, findings: Findings, operations: Operations, kind: str, text: str, rows: list[int]) -> None:
        key = operations.key_name(rows[0])
        findings.add(kind, f"Lock {named(key)}: {text}", rows)


def _in_order(tokens: list[int]) -> Ints:
    """Numbers that are in the order of some tokens: the tokens themselves, or their ranks where some are too large."""
    try:
        return np.array(tokens, dtype=np.int64)
    except OverflowError:
        rank = {token: at for at, token in enumerate(sorted(set(tokens)))}
        return np.array([rank[token] for token in tokens], dtype=np.int64)


def _token(operations: Operations, row: int) -> str:
    """What came with a lock that was acquired."""
    token = operations.result(row)
    return "" if token is None or token is True else f" with token {show(token)}"


def _acquired(operations: Operations) -> Ints:
    """The acquisitions that were answered with the lock."""
    rows = select(operations, "acquire")
    rows = rows[operations.type[rows] == OK]
    given = [operations.history.value[event] is not False for event in operations.completed[rows].tolist()]
    held: Ints = rows[np.array(given, dtype=bool)]
    return held


def _held_until(operations: Operations, got: Ints) -> Ints:
    """The place in the history up to which each holder certainly believed to hold the lock; the end if it always did.

    That is its next ``acquire`` or ``release`` of this lock, a write that was refused, or the invocation of an
    operation whose outcome it never learned, whatever that was about.
    """
    forever = len(operations.history)
    change, refused = select(operations, "acquire", "release"), select(operations, *_WRITES)
    refused = refused[operations.type[refused] == FAIL]
    rows = np.concatenate([change, refused])
    moments = np.concatenate([operations.invoked[change], operations.completed[refused]])
    lost = operations.type == INFO
    gone = dict(zip(operations.process[lost].tolist(), operations.invoked[lost].tolist(), strict=True))
    # The next of these events of the same process and lock: all sorted, each holder finds its own right behind it.
    order = np.lexsort((moments, operations.key[rows], operations.process[rows]))
    rows, moments = rows[order], moments[order]
    own = np.flatnonzero(np.isin(rows, got) & (moments == operations.invoked[rows]))
    follows = np.minimum(own + 1, len(rows) - 1)
    same = (own + 1 < len(rows)) & (operations.process[rows[follows]] == operations.process[rows[own]])
    same &= operations.key[rows[follows]] == operations.key[rows[own]]
    ended = np.where(same, moments[follows], forever)
    until = np.empty(len(got), dtype=np.int64)
    until[np.searchsorted(got, rows[own])] = ended
    crashed = np.array([gone.get(process, forever) for process in operations.process[got].tolist()], dtype=np.int64)
    return np.minimum(until, crashed)


def _due_until(operations: Operations, got: Ints, until: Ints) -> Ints:
    """The place up to which a lock that was given for a time must be its holder's alone; the end if it is for good.

    That is where the time is over that it was asked for, or where its holder has invoked the last write that was
    accepted: what renews a lock is not in the history, but who may write holds it.
    """
    history = operations.history
    asked = [history.value[event] for event in operations.invoked[got].tolist()]
    limited = np.array([isinstance(ttl, int | float) and not isinstance(ttl, bool) for ttl in asked], dtype=bool)
    over = np.full(len(got), len(history), dtype=np.int64)
    if not limited.any():
        return over
    # Longer than any history is for good.
    times = [min(max(ttl, 0), _AGES) for ttl, is_time in zip(asked, limited.tolist(), strict=True) if is_time]
    ended = operations.call[got[limited]] + (np.array(times, dtype=float) * 1e9).astype(np.int64)
    certain = np.flatnonzero(operations.ret != NEVER)
    places = np.concatenate([operations.invoked, operations.completed[certain]])
    moments = np.concatenate([operations.call, operations.ret[certain]])
    order = np.argsort(places)
    after = np.searchsorted(moments[order], ended)
    over[limited] = np.concatenate([places[order], [len(history)]])[after]
    rows = select(operations, *_WRITES)
    rows = rows[operations.type[rows] == OK]
    pairs = operations.process * len(history.keys) + operations.key
    _, holder = np.unique(pairs, return_inverse=True)
    invoked = begins(operations, rows)
    last = Timeline(holder[rows], invoked, len(history)).greatest(invoked, holder[got], until)
    wrote = np.where(last >= 0, invoked[last], -1) if len(rows) else -1
    return np.maximum(over, wrote)
