"""The faults of a run: each is injected when its time has come, measured meanwhile, and healed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from harness.cluster import Cluster
from harness.dealing import LEAST_SECONDS
from harness.errors import FaultError, NothingToDo, SplitbrainError
from harness.nemesis import LASTS, Nemesis, Proof
from harness.operation import NEMESIS, Operation
from harness.periods import PROVE, START, fault_action
from harness.target import Target

_HEAL_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 0.5
"""How long to wait before a fault is tried again that had nobody to hit, or a proof that could not be had."""
PROOF_SECONDS: Final = 3.0
"""What a proof may take at most; less where the fault is shorter."""
_PROOFS: Final = 5
"""How often a proof is tried, at most: it must not become a burden of its own."""
_LEAST_PROOF_SECONDS: Final = (1.0, 2.0)
"""What a proof may take at least, of the shortest faults and of others: injecting its fault may have taken nearly all
of the fault's time.
"""


class _Proof(NamedTuple):
    """The proof of a fault: when it began, for how many seconds it is waited for at least, and itself."""

    began: int
    least: float
    task: asyncio.Task[None]


class Injection:
    """Does what the timetable asks of the nemeses. ``note`` records an event: process, type, function, value, error.

    ``recovery`` is the seconds that each heal may take; ``going`` says whether clients still operate.
    """

    def __init__(
        self,
        cluster: Cluster,
        target: Target,
        nemeses: Mapping[str, Nemesis],
        *,
        clock: Callable[[], int],
        note: Callable[..., None],
        recovery: float,
        going: Callable[[], bool],
    ) -> None:
        self._cluster = cluster
        self._target = target
        self._nemeses = nemeses
        self._clock = clock
        self._note = note
        self._recovery = recovery
        self._going = going
        self._turns = {name: asyncio.Lock() for name in nemeses}
        """One thing at a time is done about the faults of one nemesis."""
        self._proofs: dict[str, _Proof] = {}
        """By nemesis, that of its last fault."""

    async def do(self, operation: Operation) -> Any:
        """Start or stop a fault; what was done."""
        action, name = fault_action(operation.f)
        nemesis, plan = self._nemeses[name], operation.value
        async with self._turns[name]:
            if action == START:
                over = self._clock() + int(plan[LASTS] * 1e9)
                done = await self._inject(nemesis, plan, over - int(LEAST_SECONDS * 1e9))
                shortest, usual = _LEAST_PROOF_SECONDS
                least = min(max(shortest, plan[LASTS]), usual)
                task = asyncio.create_task(self._prove(name, done, over, least))
                self._proofs[name] = _Proof(self._clock(), least, task)
                return done
            await self._end_proof(name)
            return await nemesis.heal(self._cluster, self._target)

    async def _inject(self, nemesis: Nemesis, plan: Any, until: int) -> Any:
        """Inject a fault; again and again where there is nobody now whom it could hit, as other faults come and go."""
        while True:
            try:
                return await nemesis.inject(self._cluster, self._target, plan)
            except NothingToDo:
                if self._clock() + int(_AGAIN_SECONDS * 1e9) >= until or not self._going():
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _prove(self, name: str, done: Any, over: int, least: float) -> None:
        """Measure a fault that was injected, and record what was seen.

        A machine may be too busy to measure anything: that is tried again as long as the fault lasts, until ``over``.
        """
        why = ""
        try:
            for attempt in range(_PROOFS):
                left = (over - self._clock()) / 1e9
                if attempt and left < least:
                    break
                seconds = max(least, min(left, PROOF_SECONDS))
                proof, failure = await self._measure(self._nemeses[name], done, seconds)
                if _is_cancelled():  # which the measurement has taken for its own failure
                    raise asyncio.CancelledError
                if proof is not None:
                    unseen = None if proof.holds is True else f"not seen in {proof.means}"
                    self._note(NEMESIS, "fail" if unseen else "ok", PROVE + name, msgspec.to_builtins(proof), unseen)
                    return
                why = why or failure
                await asyncio.sleep(_AGAIN_SECONDS)
        except asyncio.CancelledError:
            why = why or "it was ended before anything could be measured"
            self._note(NEMESIS, "info", PROVE + name, None, why)
            raise
        self._note(NEMESIS, "info", PROVE + name, None, why)

    async def _measure(self, nemesis: Nemesis, done: Any, seconds: float) -> tuple[Proof | None, str]:
        """What a nemesis has measured of its fault; else why it could not."""
        try:
            async with asyncio.timeout(seconds):
                proof = await nemesis.prove(self._cluster, self._target, done, seconds)
                return proof, "it gave no proof"
        except TimeoutError:
            return None, f"nothing could be measured within {seconds:g} s"
        except Exception as error:
            return None, str(error) or type(error).__name__

    async def _end_proof(self, name: str) -> None:
        proof = self._proofs.pop(name, None)
        if proof is not None:
            left = proof.least - (self._clock() - proof.began) / 1e9
            if left > 0:
                await asyncio.wait([proof.task], timeout=left)
            proof.task.cancel()
            # One that does not want to end is left behind.
            await asyncio.wait([proof.task], timeout=proof.least)

    async def heal_all(self) -> tuple[dict[str, Any], dict[str, Exception]]:
        """Heal every fault: what was seen, and the errors of those that could not be healed."""
        over = self._clock() + self._recovery * 1e9
        healed, failed = await self._heal(self._nemeses)
        # What one fault left behind may have been in the way of another one's heal.
        again = list(failed)
        while again:
            more, still = await self._heal(again)
            healed |= more
            failed = {name: still.get(name, error) for name, error in failed.items() if name not in more}
            # A store that is just coming back may need a while until it can do its part.
            again = [name for name, error in still.items() if isinstance(error, NothingToDo) and self._clock() < over]
            if again:
                await asyncio.sleep(_HEAL_SECONDS)
        return healed, failed

    async def _heal(self, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, Exception]]:
        healed: dict[str, Any] = {}
        failed: dict[str, Exception] = {}
        for name in sorted(names, key=lambda name: (self._nemeses[name].layer, name)):
            try:
                # Also an injection that never ends keeps a run from ending only for so long.
                async with asyncio.timeout(self._recovery), self._turns[name]:
                    await self._end_proof(name)
                    healed[name] = await self._nemeses[name].heal(self._cluster, self._target)
            except (SplitbrainError, NothingToDo) as error:
                failed[name] = error
            except TimeoutError:
                failed[name] = FaultError(f"it was not done within {self._recovery:g} s")
            except Exception as error:  # of a nemesis' own making: the others are healed all the same
                failed[name] = FaultError(f"{type(error).__name__}: {error}")
        return healed, failed


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
