"""How many operations a second the harness drives and records: one real Redis, 20 clients, as fast as they can."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.history import OK
from harness.recording import read_jsonl

SECONDS = 10


def main() -> None:
    """Run it three times and print operations a second of each."""
    splitbrain = str(Path(sys.executable).with_name("splitbrain"))
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            command = [splitbrain, "run", "redis", "--on", "local", "--nodes", "1", "--rate", "0"]
            command += [
                "--concurrency",
                "20",
                "--time",
                str(SECONDS),
                "-o",
                "keys=100",
                "--format",
                "json",
                "--runs",
                folder,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            outcome = json.loads(done.stdout)
            operations = read_jsonl(Path(outcome["directory"]) / "history.jsonl").operations()
            ok = operations.type == OK
            driven = int((ok & (operations.ret <= SECONDS * 1_000_000_000)).sum())  # not the final reads
            print(f"{driven / SECONDS:,.0f} recorded operations a second ({driven:,} in {SECONDS} s): ", end="")
            print(outcome["verdict"]["validity"])


if __name__ == "__main__":
    main()
