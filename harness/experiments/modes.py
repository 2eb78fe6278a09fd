"""The modes of replication that are compared, and what each is to teach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.experiments.plan import Place

STORE: Final = "reference"
"""The target whose modes they are."""


@dataclass(frozen=True)
class Mode:
    """One way of replicating: a short name, a title, the options of the store, and its lesson in a sentence."""

    name: str
    title: str
    options: Mapping[str, str]
    lesson: str
    nodes: int = 3
    far: int = 1
    """How many of the nodes, the last ones, are in the far region."""
    registers: bool = field(default=True)
    """Whether a read finds one value: a model of registers cannot be asked of a store that keeps several."""

    @property
    def place(self) -> Place:
        """Its nodes."""
        nodes = [f"n{number}" for number in range(1, self.nodes + 1)]
        return Place(nodes, nodes[-self.far :], [node for node in nodes if node != self.options.get("witness")])


def _quorum(r: int, w: int, lesson: str, title: str = "", nodes: int = 3, far: int = 1, **more: str) -> Mode:
    options = {"replication": "quorum", "n": "3", "r": str(r), "w": str(w), "write_back": "false", **more}
    name = "-".join((f"r{r}w{w}", *(option for option, value in more.items() if value == "true")))
    return Mode(name, f"quorum R={r} W={w} of 3{title}", options, lesson, nodes, far)


def _primary_backup(name: str, title: str, lesson: str, nodes: int = 3, **more: str) -> Mode:
    return Mode(name, f"primary-backup, {title}", {"replication": "primary-backup", **more}, lesson, nodes)


MODES: Final = (
    Mode(
        "raft",
        "Raft",
        {"replication": "raft"},
        "Consensus: linearizable, and whoever is cut off from the majority is refused, be it the primary. A read costs "
        "a round to a majority.",
    ),
    Mode(
        "raft-lease",
        "Raft, lease reads",
        {"replication": "raft", "reads": "lease"},
        "A lease answers reads without a round: as fast as the primary is near, and still linearizable as long as "
        "clocks run about equally fast.",
    ),
    Mode(
        "raft-local",
        "Raft, unconfirmed reads",
        {"replication": "raft", "reads": "local"},
        "A primary that answers reads without asking anybody is as fast as with a lease, until it has been succeeded "
        "and does not know: then it answers what is overwritten elsewhere.",
    ),
    _primary_backup(
        "sync",
        "sync",
        "Acknowledged once a majority has it, and reads are confirmed: the same trade as consensus.",
        acknowledge="sync",
    ),
    _primary_backup(
        "semi-sync",
        "semi-sync",
        "One backup has every acknowledged write: of three nodes any two then have one that holds it, and a failover "
        "loses none; of more they need not. But reads are not confirmed, and a primary that has been succeeded "
        "answers old values.",
        acknowledge="semi-sync",
    ),
    _primary_backup(
        "async",
        "async",
        "Writes cost nothing but the way to the primary, and those that no backup had received when the primary was "
        "cut off are lost, although they were acknowledged.",
        acknowledge="async",
    ),
    _primary_backup(
        "async-no-majority",
        "async, no majority",
        "Available on both sides, since a primary needs no majority: two primaries, of whose writes one side's are "
        "thrown away when they meet again.",
        acknowledge="async",
        majority="false",
    ),
    _primary_backup(
        "sync-witness",
        "sync, 2 nodes and a witness",
        "A third vote without data: two copies are enough to go on through any one cut. While one of them is cut off, "
        "what is acknowledged is on the other one alone.",
        acknowledge="sync",
        witness="n3",
    ),
    _primary_backup(
        "sync-two-nodes",
        "sync, 2 nodes",
        "Two nodes without a witness have no majority once they are cut apart: nobody is served on either side.",
        nodes=2,
        acknowledge="sync",
    ),
    _quorum(
        1, 1, "R + W <= N: every node answers alone, on each side of a cut, and reads what it happens to have."
    ),
    _quorum(
        1, 3, "Reads are local and writes need everybody: no write is acknowledged while anything is cut."
    ),
    _quorum(
        2, 2, "R + W > N with majorities: what was acknowledged is read, and the side with two nodes goes on. A write "
        "that was interrupted may be read and then not be read again, since reads do not write back.",
    ),
    _quorum(
        3, 1, "Reads need everybody. So do writes in this store, whose coordinator reads first in order to write "
        "something later than all that there is: nothing is served while anything is cut.",
    ),
    _quorum(
        2, 2, "Reads write back what they found before they answer: registers become linearizable, for the price of a "
        "second round where nodes differ.", ", write-back", write_back="true",
    ),
    _quorum(
        2, 2, "Anybody may stand in for a node that does not answer, so that both sides go on; their quorums do not "
        "meet, and R + W > N promises nothing any more.", ", sloppy (5 nodes)", 5, 2, sloppy="true",
    ),
    Mode(
        "multi-primary",
        "multi-primary, last write wins",
        {"replication": "multi-primary"},
        "Every node acknowledges by itself: always available and as fast as a node, and of two writes that do not know "
        "of each other one is thrown away.",
    ),
    Mode(
        "multi-primary-siblings",
        "multi-primary, siblings",
        {"replication": "multi-primary", "conflict": "siblings"},
        "The same, but both of two such writes are kept, and a read finds both: nothing is lost, and the application "
        "has to merge.",
        registers=False,
    ),
    Mode(
        "gossip",
        "gossip, last write wins",
        {"replication": "gossip"},
        "As multi-primary, but nobody remembers who lacks what: nodes agree once they have compared themselves with "
        "one another.",
    ),
)  # fmt: skip
"""In the order of the table."""
