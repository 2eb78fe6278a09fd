"""Puts every mode of the reference store to the test: 200 seeds of chaos each, on the simulation.

Prints a line for each mode with the seeds that failed, and exits with 1 if any did. A campaign that was interrupted
goes on where it stopped; another commit begins with an empty ``hunts`` folder.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

SEEDS: Final = 200
CHAOS: Final = "--on simulation --nemesis chaos --nodes 5 --time 20 --rate 100 --interval 3"
_SYNC: Final = "-o replication=primary-backup"
_MULTI: Final = "-o replication=multi-primary"
_QUORUM: Final = "-o replication=quorum"

_OBJECTS: Final = ("append", "set", "counter", "queue", "unique-ids", "bank", "atm", "watch")
_ISOLATIONS: Final = {
    "serializable": "strict-serializable",
    "snapshot": "strong-snapshot-isolation",
    "read-committed": "read-committed",
}
"""What each isolation of transactions is held against: one order, by one primary, makes them strong."""
_TRANSACTIONS: Final = {
    f"list-append, {isolation}": f"--workload list-append -o isolation={isolation} -o model={model}"
    for isolation, model in _ISOLATIONS.items()
}
_TIMED: Final = {
    "lock": "--workload lock --nemesis partition,kill,pause",
    "lock, fencing": "--workload lock -o fencing=true",
    "lease": "--workload lease --nemesis partition,kill,pause",
}
"""What is held for a time is held by the primary's clock: where chaos may turn that, tokens alone are promised."""

_SHARDED: Final = {
    "register, hash": "-o shards=3",
    "register, range": "-o shards=3 -o placement=range -o snapshot=50",
    "register, consistent hash": "-o shards=4 -o placement=consistent-hash",
    "append, rendezvous": "--workload append -o shards=3 -o placement=rendezvous",
    "set, hierarchical": "--workload set -o shards=3 -o placement=hierarchical",
    "bank": "--workload bank -o shards=3",
    "atm": "--workload atm -o shards=3",
    "list-append": "--workload list-append -o shards=3",
    "write-skew": "--workload write-skew -o shards=3 -o placement=range",
}
"""Keys are split over Raft groups, and ranges move between them: chaos has the nemesis ``reshard`` there."""

MODES: Final = {
    "raft": "",
    "raft, lease reads, snapshots": "-o reads=lease -o snapshot=50",
    **{f"raft, {workload}": f"--workload {workload}" for workload in _OBJECTS},
    **{f"raft, {name}": words for name, words in _TIMED.items()},
    **{f"raft, {name}": words for name, words in _TRANSACTIONS.items()},
    **{f"raft, shards, {name}": words for name, words in _SHARDED.items()},
    "primary-backup, sync": _SYNC,
    **{f"primary-backup, sync, {workload}": f"{_SYNC} --workload {workload}" for workload in _OBJECTS},
    **{f"primary-backup, sync, {name}": f"{_SYNC} {words}" for name, words in _TIMED.items()},
    **{f"primary-backup, sync, {name}": f"{_SYNC} {words}" for name, words in _TRANSACTIONS.items()},
    "primary-backup, sync, witness": f"{_SYNC} -o witness=n3 --nodes 3",
    "primary-backup, semi-sync": f"{_SYNC} -o acknowledge=semi-sync --workload converge -o causal=false",
    "primary-backup, async": f"{_SYNC} -o acknowledge=async --workload converge -o causal=false",
    "quorum, write-back": f"{_QUORUM} -o cas=0",
    "quorum, sloppy": f"{_QUORUM} -o sloppy=true --workload converge",
    "quorum, set": f"{_QUORUM} --workload set",
    "quorum, counter": f"{_QUORUM} --workload counter",
    "multi-primary, hybrid clock": f"{_MULTI} --workload converge",
    "multi-primary, wall clock": f"{_MULTI} -o conflict=lww-wall --workload converge -o causal=false",
    "multi-primary, siblings": f"{_MULTI} -o conflict=siblings --workload converge",
    "multi-primary, merge function": f"{_MULTI} -o conflict=merge --workload converge",
    "multi-primary, set": f"{_MULTI} --workload set",
    "multi-primary, counter": f"{_MULTI} --workload counter",
    "gossip": "-o replication=gossip --workload converge",
    "gossip, set": "-o replication=gossip --workload set",
    "gossip, counter": "-o replication=gossip --workload counter",
}


def main() -> int:
    """Hunt through every mode, or those named on the command line; 1 if a seed failed."""
    splitbrain = str(Path(sys.executable).with_name("splitbrain"))
    failed = False
    for name in sys.argv[1:] or MODES:
        # What a mode says comes last, and so takes the place of what all have in common.
        words = [*shlex.split(CHAOS), *shlex.split(MODES[name]), "--seeds", str(SEEDS)]
        command = [splitbrain, "hunt", "reference", *words, "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1, 3):
            print(f"{name}: {done.stderr.strip()}", file=sys.stderr)
            return done.returncode
        outcomes = json.loads(done.stdout)["outcomes"]
        count = {kind: sum(one["validity"] == kind for one in outcomes) for kind in ("valid", "unknown", "invalid")}
        said = ", ".join(f"{number} {kind}" for kind, number in count.items())
        print(f"{name:32} {said:40} {shlex.join(['splitbrain', *command[1:-2]])}", flush=True)
        failed |= count["invalid"] > 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
