"""``make demo``: the bundled store keeps its promise with Raft, and breaks it with asynchronous replication."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

COMMON = ["run", "reference", "--on", "auto", "--nodes", "3", "--nemesis", "partition,kill", "--interval", "2"]
RUNS = (
    ("raft", "valid", ["--time", "20", "--seed", "1"]),
    (
        "primary-backup -o acknowledge=async",
        "invalid",
        ["--time", "15", "--seed", "1", "-o", "partition=primary", "-o", "kill=primary"],
    ),
)


def main() -> int:
    """Run both variants; 0 if each came out as it must."""
    splitbrain = str(Path(sys.executable).with_name("splitbrain"))
    wrong = []
    for replication, expected, arguments in RUNS:
        command = [splitbrain, *COMMON, "-o", *f"replication={replication}".split(), *arguments]
        print(f"\n=== the reference store, replication={replication} ===\n$ {' '.join(['splitbrain', *command[1:]])}")
        sys.stdout.flush()
        subprocess.run(command, check=False)
        newest = max(Path("runs").glob("reference-register-*"), key=lambda path: path.stat().st_mtime)
        verdict = json.loads((newest / "verdict.json").read_text()) if (newest / "verdict.json").exists() else {}
        if verdict.get("validity") != expected:
            wrong.append(f"replication={replication} came out {verdict.get('validity')}, not {expected}")
        print(f"open {newest.resolve() / 'report.html'}")
    for line in wrong:
        print(f"demo: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
