"""Bugs of primary-backup replication."""

from __future__ import annotations

from collections.abc import Collection

from harness.targets.reference.bugs.bug import bug
from harness.targets.reference.journal import Journal
from harness.targets.reference.log import Log
from harness.targets.reference.peers import Message
from harness.targets.reference.primary_backup import PrimaryBackup
from harness.targets.reference.replica import Site

_REGISTERS = {"replication": "primary-backup", "checker": "linearizable", "workload": "register"}


@bug(**_REGISTERS, nemesis="partition,kill")
class FailoverToStaleBackup(PrimaryBackup):
    """Elects whoever stands first, also a backup that was cut off and lacks what was acknowledged meanwhile."""

    def _is_current(self, message: Message) -> bool:
        return True


@bug(**_REGISTERS, nemesis="partition", options={"partition": "primary"})
class NoFencing(PrimaryBackup):
    """A primary that was cut off goes on as primary, and backups take commands from it again, though they follow one
    of a newer term: they serve two at once.
    """

    def _is_deserted(self) -> bool:
        return False

    def _accepts_old_term(self, message: Message) -> bool:
        if message["kind"] != "append":
            return False
        self.log.vote(message["term"], message["sender"])
        return True


@bug(**_REGISTERS, nemesis="partition")
class FailoverWithoutMajority(PrimaryBackup):
    """A backup that hears nothing makes itself primary: after a cut there is one on each side."""

    @property
    def _needs_majority(self) -> bool:
        return False

    def is_majority(self, nodes: Collection[str]) -> bool:
        return True

    def _committable(self) -> int:
        return self.log.last


@bug(**_REGISTERS, nemesis="partition,kill", options={"witness": "n3"}, nodes=3)
class WitnessBecomesPrimary(PrimaryBackup):
    """The witness, which holds no data, stands for election like the others, and wins."""

    def _may_stand(self) -> bool:
        return True


@bug(**_REGISTERS, nemesis="kill", options={"kill": "all"})
class AcknowledgeOnReceipt(PrimaryBackup):
    """A backup says that it holds a command before it is safe on its disk."""

    def _open_log(self, site: Site) -> Log:
        return Log(Journal(site.host.open(f"{site.data}/log.a"), site.host.open(f"{site.data}/log.b"), sync=False))
