"""Transactions on several keys in etcd, which has none that read first and then write: clients compute, etcd compares.

Each key holds JSON, a number or a list. A client reads, computes what to write, and asks etcd to write all of it in one
of its own transactions if nothing that was read has changed, by the revisions at which keys were last modified.

With ``revisions`` all keys are read in one call, at one revision, after which a transaction that only reads is done;
who writes is declined if somebody was faster. The others are what etcd's library for Go calls software transactional
memory, at three of the levels that it offers: keys are read one by one, and where somebody was faster all is done anew.
``stm`` is its default: the first read asks a quorum and sets the revision for the others, and the commit compares what
was read and what is written. ``stm-repeatable-reads`` asks one member for what it has, and compares what was read;
``stm-read-committed`` compares nothing, so that updates are lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

import aiohttp

from harness.operation import Declined, Failed, Indeterminate
from harness.targets.etcd_calls import Post, decode, encode
from harness.targets.transactions import Steps, carry_out, keys_needed, only_reads

How = Literal["revisions", "stm", "stm-repeatable-reads", "stm-read-committed"]

_TRIES: Final = 30
"""How often all is done anew while others are faster."""
_NO_ANSWER: Final = (Indeterminate, TimeoutError, aiohttp.ClientError)


class _Version(NamedTuple):
    """What a key holds, None if there is no such key; since which revision, 0 then; and at which one that was so."""

    value: Any
    modified: int
    at: int


class Transactions:
    """The transactions of one client. ``serializable``: a member answers reads from its own state."""

    def __init__(self, post: Post, how: How, *, serializable: bool) -> None:
        self._post, self._how, self._serializable = post, how, serializable

    async def run(self, steps: Steps) -> list[list[Any]]:
        """Do one transaction, and return it with its answers.

        Raises ``Declined`` where others were faster, ``Failed`` where no answer came before anything was to be
        written, and what ``post`` raises where none came afterwards.
        """
        try:
            return await (self._by_revisions(steps) if self._how == "revisions" else self._by_memory(steps))
        except _NO_ANSWER as error:
            if only_reads(steps):
                raise _unread(error) from None
            raise

    async def _by_revisions(self, steps: Steps) -> list[list[Any]]:
        held = await self._read(keys_needed(steps), serializable=self._serializable)
        outcome = carry_out(steps, {key: version.value for key, version in held.items()})
        if outcome.written and await self._commit(_unchanged(held), outcome.written) is not None:
            raise Declined("a key was changed since it was read")
        return outcome.answer

    async def _by_memory(self, steps: Steps) -> list[list[Any]]:
        snapshot = self._how == "stm"
        ahead: Mapping[Any, _Version] = {}
        for _ in range(_TRIES):
            held: dict[Any, _Version] = {}
            for key in keys_needed(steps):
                if key in ahead:
                    held[key] = ahead[key]
                elif held and snapshot:
                    at = min(version.at for version in held.values())
                    held |= await self._read([key], serializable=True, revision=at)
                else:
                    held |= await self._read([key], serializable=self._serializable or not snapshot)
            outcome = carry_out(steps, {key: version.value for key, version in held.items()})
            compare = [] if self._how == "stm-read-committed" else _unchanged(held)
            if snapshot and held:
                at = min(version.at for version in held.values())
                compare += [_compare(key, "LESS", at + 1) for key in outcome.written]
            if not compare and not outcome.written:
                return outcome.answer
            # What is read where the commit fails makes etcd ask a quorum, also where there is nothing to write.
            found = await self._commit(compare, outcome.written, held if snapshot else ())
            if found is None:
                return outcome.answer
            ahead = found
        raise Declined("others were always faster")

    async def _read(self, keys: Iterable[Any], *, serializable: bool, revision: int = 0) -> dict[Any, _Version]:
        """What keys hold at one revision, the latest if it is 0. Raises ``Failed`` without an answer."""
        keys = list(keys)
        if not keys:
            return {}
        try:
            answer = await self._post(
                "kv/txn", {"success": _ranges(keys, serializable=serializable, revision=revision)}
            )
        except _NO_ANSWER as error:
            raise _unread(error) from None
        return _versions(keys, answer)

    async def _commit(
        self, compare: list[dict[str, Any]], puts: Mapping[Any, Any], otherwise: Iterable[Any] = ()
    ) -> Mapping[Any, _Version] | None:
        """Write all of it if everything compares. If not, what the keys of ``otherwise`` hold now; else None."""
        keys = list(otherwise)
        success = [
            {"request_put": {"key": encode(key), "value": encode(json.dumps(held))}} for key, held in puts.items()
        ]
        body = {"compare": compare, "success": success, "failure": _ranges(keys)}
        answer = await self._post("kv/txn", body)
        return None if answer.get("succeeded") else _versions(keys, answer)


def _ranges(keys: Iterable[Any], *, serializable: bool = False, revision: int = 0) -> list[dict[str, Any]]:
    how = {"serializable": serializable, "revision": str(revision)}
    return [{"request_range": {"key": encode(key), **how}} for key in keys]


def _versions(keys: list[Any], answer: Mapping[str, Any]) -> dict[Any, _Version]:
    """What etcd answered to ``_ranges`` of these keys."""
    at = int(answer["header"]["revision"])
    versions = {}
    for key, part in zip(keys, answer.get("responses", ()), strict=True):
        pairs = part["response_range"].get("kvs", [])
        value, modified = (json.loads(decode(pairs[0]["value"])), int(pairs[0]["mod_revision"])) if pairs else (None, 0)
        versions[key] = _Version(value, modified, at)
    return versions


def _unchanged(held: Mapping[Any, _Version]) -> list[dict[str, Any]]:
    return [_compare(key, "EQUAL", version.modified) for key, version in held.items()]


def _compare(key: Any, result: str, revision: int) -> dict[str, Any]:
    """Compares the revision at which a key was last modified."""
    return {"key": encode(key), "target": "MOD", "result": result, "mod_revision": str(revision)}


def _unread(error: BaseException) -> Failed:
    return Failed(f"the keys could not be read: {str(error) or 'timed out'}")
