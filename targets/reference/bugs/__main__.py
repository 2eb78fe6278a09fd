"""``python -m targets.reference.bugs`` prints the table of planted bugs, ``targets/reference/BUGS.md``."""

from __future__ import annotations

import shlex
from pathlib import Path

from targets.reference.bugs import BUGS

_ROOT = f"{Path(__file__).parents[3]}/"


def table() -> str:
    """All planted bugs in Markdown; files are named from the root of the project."""
    lines = [
        "# The planted bugs of the reference store",
        "",
        "Written by `python -m targets.reference.bugs > targets/reference/BUGS.md`.",
        "",
        "| bug | of | what it breaks | refuted by | found by `splitbrain hunt` with |",
        "|---|---|---|---|---|",
    ]
    for bug in BUGS.values():
        found_with = shlex.join(bug.arguments()).replace(_ROOT, "")
        words = f"{bug.name} | {bug.replication} | {bug.breaks} | {bug.checker} | `{found_with}`"
        lines.append(f"| {words} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
