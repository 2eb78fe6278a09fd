"""``python -m harness.targets.reference.bugs`` prints the table of planted bugs, ``targets/reference/BUGS.md``."""

from __future__ import annotations

from harness.targets.reference.bugs import BUGS


def table() -> str:
    """All planted bugs in Markdown."""
    lines = [
        "# The planted bugs of the reference store",
        "",
        "Each command works in any folder, and finds its bug within as many seeds as it names; `splitbrain shrink`",
        "reduces what it found. Written by `make bench-bugs`, which hunts and shrinks them all and counts the seeds.",
        "",
        "| bug | of | what it breaks | refuted by | found within | by |",
        "|---|---|---|---|---|---|",
    ]
    for bug in BUGS.values():
        words = [bug.name, bug.replication, bug.breaks, bug.checker, f"{bug.seeds} seeds", f"`{bug.command}`"]
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
