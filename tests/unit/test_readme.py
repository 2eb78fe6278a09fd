"""The README's tables say what there is."""

from __future__ import annotations

import re
from pathlib import Path

from harness.plugins import load, names
from harness.targets.reference.bugs import BUGS

README = (Path(__file__).parents[2] / "README.md").read_text()


def table(head: str) -> list[list[str]]:
    """The cells of the table that begins with this head, without it."""
    lines = README[README.index(f"| {head} |") :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def named(cell: str) -> list[str]:
    return re.findall(r"`([\w-]+)`", cell)


def test_all_targets_are_there() -> None:
    assert sorted(name for row in table("target") for name in named(row[0])) == sorted(names("targets"))


def test_options_that_are_named_are_theirs() -> None:
    for row in table("target"):
        for name in named(row[0]):
            options = load("targets", name).Options.__struct_fields__
            assert {word.split("=")[0] for word in re.findall(r"`([a-z_]+)(?:=[^`]*)?`", row[3])} <= {
                *options, "postgres",
            }  # fmt: skip


def test_all_nemeses_are_there() -> None:
    listed = {name for row in table("`--nemesis`") for name in named(row[0])}
    assert listed == {*names("nemeses"), "chaos"}


def test_each_workload_is_there_and_which_targets_have_it() -> None:
    judged = [name for row in table("`--workload` | what is judged") for name in named(row[0])]
    assert sorted(judged) == sorted(names("workloads"))
    head, _, *_ = README[README.index("| `--workload` | reference |") :].splitlines()
    columns = [[name.strip() for name in cell.split(",")] for cell in head.strip("| ").split(" | ")[1:]]
    found: dict[str, set[str]] = {target: set() for column in columns for target in column}
    for row in table("`--workload` | reference"):
        for column, cell in zip(columns, row[1:], strict=True):
            for target in column if cell == "x" else ():
                found[target] |= set(named(row[0]))
    assert found == {name: set(load("targets", name).workloads) for name in names("targets")}


def test_the_bugs_are_counted() -> None:
    assert f"plants one of {len(BUGS)} classic bugs" in README
