"""Bugs of primary-backup replication."""

from __future__ import annotations

from collections.abc import Collection

from targets.reference.bugs.bug import bug
from targets.reference.journal import Journal
from targets.reference.log import Log
from targets.reference.peers import Message
from targets.reference.primary_backup import PrimaryBackup
from targets.reference.replica import Site

_REGISTERS = {"replication": "primary-backup", "checker": "linearizable", "workload": "register"}


@bug(**_REGISTERS, nemesis="partition,kill")
class FailoverToStaleBackup(PrimaryBackup):
    """Elects whoever stands first, also a backup that was cut off and lacks what was acknowledged meanwhile."""

    def _is_current(self, message: Message) -> bool:
        return True


@bug(**_REGISTERS, nemesis="partition,pause", overlap=True)
class NoFencing(PrimaryBackup):
    """Goes on taking commands from a primary of an older term, and so follows two at once."""

    def _accepts_old_term(self, message: Message) -> bool:
        return message["kind"] in ("append", "held")

    def _on_append(self, sender: str, message: Message) -> None:
        super()._on_append(sender, message)
        self.log.term = max(self.log.term, message["term"])


@bug(**_REGISTERS, nemesis="partition")
class FailoverWithoutMajority(PrimaryBackup):
    """A backup that hears nothing makes itself primary: after a cut there is one on each side."""

    def _are_enough(self, nodes: Collection[str]) -> bool:
        return True

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
