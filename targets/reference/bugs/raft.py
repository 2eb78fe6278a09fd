"""Bugs of Raft."""

from __future__ import annotations

from collections.abc import Sequence

from harness.targets.reference.bugs.bug import bug
from harness.targets.reference.journal import Journal
from harness.targets.reference.log import Log
from harness.targets.reference.peers import Message
from harness.targets.reference.raft import Raft
from harness.targets.reference.replica import READS, NotPrimary, Site
from harness.targets.reference.state import Answer

_REGISTERS = {"replication": "raft", "checker": "linearizable", "workload": "register"}


@bug(**_REGISTERS, nemesis="partition,kill", options={"kill": "primary"}, overlap=True)
class VoteWithoutCheckingTheLog(Raft):
    """Votes for any candidate, also for one whose log is behind: a new primary may lack what was acknowledged."""

    def _is_current(self, message: Message) -> bool:
        return True


@bug(
    replication="raft",
    checker="split-brain",
    workload="register",
    nemesis="kill,netem",
    options={"kill": "primary", "netem": "all"},
    overlap=True,
)
class VoteTwice(Raft):
    """Does not write down whom it voted for, and votes again in the same term: two primaries share a term, and each
    takes the other's entries for its own.
    """

    def _may_vote(self, candidate: str, message: Message) -> bool:
        return self._is_current(message)

    def _is_loyal(self) -> bool:
        return False


@bug(**_REGISTERS, nemesis="partition", options={"partition": "primary"}, clients=40)
class StaleReads(Raft):
    """Answers reads without asking whether it is still primary: one that was cut off serves what others replaced."""

    async def _before_read(self) -> None:
        return


@bug(**_REGISTERS, nemesis="partition", options={"partition": "primary", "reads": "lease"}, clients=40)
class LongLease(Raft):
    """Trusts its lease for longer than the others wait before they elect another primary."""

    def _lease(self) -> float:
        return 10.0


@bug(**_REGISTERS, nemesis="partition,kill")
class ReadFromAnyNode(Raft):
    """Every node answers reads from what it has applied, however long ago it last heard from a primary."""

    async def execute(self, command: list[str]) -> Answer:
        return self.peek(command) if command[0] in READS else await super().execute(command)


@bug(**_REGISTERS, nemesis="kill", options={"kill": "all"})
class NoFsync(Raft):
    """Acknowledges before the log is safe on disk: what was not yet written is lost when the nodes crash."""

    def _open_log(self, site: Site) -> Log:
        return Log(Journal(site.host.open(f"{site.data}/log.a"), site.host.open(f"{site.data}/log.b"), sync=False))


@bug(**_REGISTERS, nemesis="partition", options={"partition": "primary"})
class AcknowledgeBeforeReplicating(Raft):
    """Commits what only the primary itself holds: it is lost with the primary."""

    def _committable(self) -> int:
        return self.log.last


@bug(**_REGISTERS, nemesis="partition,kill", options={"snapshot": "15"})
class LostSnapshotTail(Raft):
    """A snapshot replaces the whole log, also the entries that were not applied yet and so are not in it."""

    def _take_snapshot(self) -> None:
        last, term = self.log.last, self.log.term_of(self.log.last)
        self.log.compact(last, term, {**self.state.dump(), "members": list(self.members)})
        self.applied = self.committed = last


@bug(**_REGISTERS, nemesis="partition,membership", options={"partition": "halves", "leaving": "2"}, overlap=True)
class MembersTwoAtOnce(Raft):
    """Takes out two members in one step, and without a majority's word that it is still primary: the old and the new
    members have majorities without a node in common.
    """

    async def _before_member_change(self) -> None:
        return

    def _may_change_members(self, after: Sequence[str]) -> bool:
        return len(after) > 0


@bug(**_REGISTERS, nemesis="netem", options={"netem": "all", "cas": "4"})
class RetryAppliedTwice(Raft):
    """Does not remember which commands it has answered: one that a client repeats is executed twice."""

    def _run(self, command: list[str]) -> Answer:
        return super()._run(command[3:] if command[:1] == ["ONCE"] else command)


@bug(**_REGISTERS, nemesis="partition,kill", options={"cas": "4", "keys": "1"})
class CasCheckedEarly(Raft):
    """Compares before the command has its place in the order, with whatever the node that takes it has applied, and
    then orders a plain write: of two that compare with the same value both succeed.
    """

    async def execute(self, command: list[str]) -> Answer:
        self._require_primary()
        if "CAS" not in command:
            return await super().execute(command)
        at = command.index("CAS")
        _, key, old, new = command[at:]
        if self.state.read(["GET", key]) != old:
            return 0
        await super().execute([*command[:at], "SET", key, new])
        return 1


@bug(**_REGISTERS, nemesis="partition", options={"partition": "primary", "keys": "200"})
class AppendWithoutMatching(Raft):
    """Appends entries wherever they are to go, without looking whether what stands before them is the same."""

    def _fits(self, previous: int, term: int) -> bool:
        return previous <= self.log.last


@bug(**_REGISTERS, nemesis="partition,kill", timetable="figure-8.json", nodes=3)
class CommitByCounting(Raft):
    """Commits an entry of an earlier term as soon as a majority holds it, with none of its own term behind it: a node
    whose last entry is of a later term can still be elected, and puts its own in that place: figure 8 of Ongaro &
    Ousterhout (2014). The timetable isolates n1 while it leads, and kills it; then n2, which leads meanwhile, is
    isolated; n1 comes back and leads again until it is killed once more, and then n2 does.
    """

    def _open_term(self) -> None:
        self._own_term_from = self.log.last

    def _may_commit(self, index: int) -> bool:
        return True


@bug(**_REGISTERS, nemesis="partition", options={"partition": "one-way"})
class FailureThatHappened(Raft):
    """Tells waiting clients, as it steps down, that their commands failed; they stand in the log and are committed."""

    def _step_down(self) -> None:
        waiting, self._waiting = self._waiting, {}
        super()._step_down()
        for future in waiting.values():
            if not future.done():
                future.set_exception(NotPrimary(None))


@bug(**_REGISTERS, nemesis="partition", options={"partition": "primary"})
class ReadBeforeCommit(Raft):
    """The primary shows commands to readers as soon as it has them: they see what may never have happened."""

    async def execute(self, command: list[str]) -> Answer:
        if command[0] not in READS:
            return await super().execute(command)
        self._require_primary()
        ahead = self._open_state(self.state.dump())
        for at in range(self.applied + 1, self.log.last + 1):
            ahead.apply(self.log[at].command)
        return ahead.read(command)
