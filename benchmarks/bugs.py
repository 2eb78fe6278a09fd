"""Hunts every planted bug with the command that ``BUGS.md`` gives, and then shrinks what was found.

Prints a line for each: within how many seeds it is found, and what it takes to fail. ``--write`` puts the seeds into
``targets/reference/bugs/seeds.json`` and writes ``BUGS.md`` anew. Exits with 1 if a bug is not found by the checker
that it names, or does not shrink. Hunts that were interrupted go on where they stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from harness.targets.reference.bugs import BUGS, Bug
from harness.targets.reference.bugs.__main__ import table
from harness.targets.reference.bugs.bug import MOST_SEEDS, SEEDS_FILE

STEPS: Final = (2, 5, 10, 25, 50, 100, MOST_SEEDS)
"""A bug that is found within one of these numbers of seeds is said to be found within the next: another version of the
code may need a few more."""
SHRINK_SECONDS: Final = 120
FOLDER: Final = Path("hunts/bugs")


def splitbrain(*arguments: str) -> dict[str, Any]:
    """What a command says, as JSON. Raises ``RuntimeError`` where it finds no anomaly, or breaks."""
    command = [str(Path(sys.executable).with_name("splitbrain")), *arguments, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 3):
        raise RuntimeError(done.stderr.strip())
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def find(bug: Bug) -> tuple[int, str]:
    """Within how many seeds it is found, and the directory of the first run that did."""
    for step, seeds in enumerate(STEPS):
        folder = ["--directory", str(FOLDER / bug.name)]
        said = splitbrain("hunt", *bug.arguments(), "--seeds", str(seeds), "--executor", "processes:1", *folder)
        for outcome in said["outcomes"]:
            if any(kind.startswith(f"{bug.checker}: ") for kind in outcome.get("signatures", ())):
                return STEPS[min(step + 1, len(STEPS) - 1)], outcome["directory"]
    raise RuntimeError(f"not found within {MOST_SEEDS} seeds")


def shrink(directory: str) -> str:
    """What it takes to fail, in words."""
    said = splitbrain("shrink", directory, "--seconds", str(SHRINK_SECONDS), "--runs", str(FOLDER / "shrunk"))
    if said["verdict"]["validity"] != "invalid":
        raise RuntimeError("what it was shrunk to does not fail")
    timetable = json.loads((Path(said["directory"]) / "timetable.json").read_text())
    faults, *steps = (len(timetable.get(part, ())) for part in ("faults", "operations", "final"))
    return f"{faults} faults, {sum(steps)} operations"


def main() -> int:
    """Hunt and shrink all bugs, or those named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the numbers of seeds, and write BUGS.md")
    parser.add_argument("names", nargs="*", help="bugs; all, if none is named")
    given = parser.parse_args()
    seeds: dict[str, int] = {}

    def expose(name: str) -> bool:
        began = time.monotonic()
        try:
            seeds[name], directory = find(BUGS[name])
            hunted = time.monotonic() - began
            smallest = shrink(directory)
        except RuntimeError as error:
            print(f"{name:32} {error}", flush=True)
            return False
        shrunk = time.monotonic() - began - hunted
        outcome = f"found within {seeds[name]} seeds in {hunted:.0f} s, shrunk to {smallest} in {shrunk:.0f} s"
        print(f"{name:32} {outcome}", flush=True)
        return True

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        exposed = list(pool.map(expose, given.names or BUGS))
    if given.write:
        known = json.loads(SEEDS_FILE.read_text()) | seeds
        SEEDS_FILE.write_text(json.dumps({name: known[name] for name in BUGS if name in known}, indent=2) + "\n")
        again = [sys.executable, "-c", f"from {table.__module__} import table; print(table())"]
        text = subprocess.run(again, capture_output=True, text=True, check=True).stdout
        SEEDS_FILE.parents[1].joinpath("BUGS.md").write_text(text)
    return 0 if all(exposed) else 1


if __name__ == "__main__":
    sys.exit(main())
