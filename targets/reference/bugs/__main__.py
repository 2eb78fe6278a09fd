"""``python -m targets.reference.bugs`` prints the table of planted bugs, ``targets/reference/BUGS.md``."""

from __future__ import annotations

import shlex

from targets.reference.bugs import BUGS


def table() -> str:
    """All planted bugs in Markdown."""
    lines = [
        "# The planted bugs of the reference store",
        "",
        "Written by `python -m targets.reference.bugs > targets/reference/BUGS.md`.",
        "",
        "| bug | of | what it breaks | refuted by | found by `splitbrain hunt` with |",
        "|---|---|---|---|---|",
    ]
    for bug in BUGS.values():
        words = f"{bug.name} | {bug.replication} | {bug.breaks} | {bug.checker} | `{shlex.join(bug.arguments())}`"
        lines.append(f"| {words} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
