"""``splitbrain list``: what there is to choose from, and the options of each."""

from __future__ import annotations

import inspect
import json
import shutil
import textwrap
from typing import Any

from harness import catalogue
from harness.capability import OF_STORES, Capability
from harness.cli.doctor import lacking
from harness.options import options_of, plain
from harness.plugins import load, names
from harness.verdict import HasLevels, HasModels
from harness.words import printable

_OF_FINDINGS = ("store", "source", "expected", "control", "seen", "reproduced by")
_ABOUT = 30
"""The column in which it is said what an option is about."""


def show(kind: str, *, as_json: bool) -> None:
    """Print the plug-ins of one kind."""
    special = {"models": _models, "bugs": _bugs, "findings": _findings}
    rows = special[kind]() if kind in special else [_row(kind, name) for name in names(kind)]
    if as_json:
        print(json.dumps(rows))
        return
    width = shutil.get_terminal_size().columns
    for row in rows:
        unset = "drawn" if kind == "nemeses" else ""
        print("\n".join(printable(line).replace("``", "") for line in _block(row, width, unset)))
    for row in rows:
        for environment, why in row.get("here", {}).items():
            if why != "yes":
                print(f"{row['name']} not on {environment}: {why}")
    if kind == "nemeses":
        print("chaos stands for all of them that are possible, overlapping.")
        print("What the hosts of ssh can do is tried at the beginning of a run.")


def _models() -> list[dict[str, Any]]:
    checker = load("checkers", "linearizable")
    models = checker.models() if issubclass(checker, HasModels) else {}
    rows = [{"name": name, "what": (inspect.getdoc(model) or "").partition("\n")[0]} for name, model in models.items()]
    transactions = load("checkers", "transactions")
    if issubclass(transactions, HasLevels):
        rows += [{"name": level, "what": transactions.about(level)} for level in transactions.levels()]
    return rows


def _bugs() -> list[dict[str, Any]]:
    """The planted bugs of all targets that have some."""
    bugs = [bug for name in names("targets") for bug in load("targets", name).bugs.values()]
    return [{"name": bug.name, "what": bug.what, "found by": bug.command, "refuted by": bug.checker} for bug in bugs]


def _findings() -> list[dict[str, Any]]:
    """The findings that come along, and how often each was seen."""
    rows = []
    for finding in map(catalogue.find, catalogue.names()):
        source, measured = finding.source, finding.measured
        row = {
            "name": finding.name,
            "what": finding.sentence,
            "store": f"{finding.store} {', '.join(finding.versions)}",
            "source": f"{source.author}, {source.title} ({source.year}), {source.address}",
            "expected": ", ".join((finding.expect.checker, *finding.expect.kinds)),
            "control": finding.difference,
            "reproduced by": f"splitbrain reproduce {finding.name}",
        }
        if measured is not None:
            row["seen"] = f"{measured.seen} of {measured.of} runs; {measured.passed} of {measured.of} controls passed"
        rows.append(row)
    return rows


def _row(kind: str, name: str) -> dict[str, Any]:
    plugin = load(kind, name)
    row: dict[str, Any] = {"name": name, "what": (inspect.getdoc(plugin) or "").partition("\n")[0]}
    if options := options_of(plugin.Options):
        row["options"] = {
            name: {"default": option.default, "allowed": option.allowed(), "what": option.what}
            for name, option in options.items()
        }
    if kind == "targets":
        target = load("targets", name)
        row |= {"workloads": sorted(target.workloads), **({"claims": target.claims} if target.claims else {})}
    if kind == "nemeses":
        needs = load("nemeses", name).needs
        row["needs"] = [*sorted(needs - OF_STORES), *(f"a target with {need}" for need in sorted(needs & OF_STORES))]
        row["here"] = _where(needs - OF_STORES)
    if kind == "environments":
        row["missing"] = load("environments", name).missing(None)
        row["what"] += " Available here." if row["missing"] is None else f" Missing: {row['missing']}."
    return row


def _where(needs: frozenset[Capability]) -> dict[str, str]:
    """For each environment whether a nemesis with these needs can be had there: yes, or why not."""
    lacks = {e: [why for need in sorted(needs) if (why := lacking(e, need))] for e in names("environments")}
    return {environment: reasons[0] if reasons else "yes" for environment, reasons in lacks.items()}


def _block(row: dict[str, Any], width: int, unset: str) -> list[str]:
    """One entry: its name, what it is, and a line for each thing about it; commands are not broken, to be copied.

    ``unset`` is what an option is called that has no default.
    """
    lines = [row["name"], *textwrap.wrap(row["what"], width - 2, initial_indent="  ", subsequent_indent="  ")]
    here = [name for name, why in row.get("here", {}).items() if why == "yes"]
    for field in ("workloads", "needs", "here", "found by", "refuted by", *_OF_FINDINGS):
        value = here if field == "here" else row.get(field)
        if isinstance(value, list):
            listed = f"  {field}: {', '.join(value)}"
            lines += textwrap.wrap(listed, width, subsequent_indent="    ", break_on_hyphens=False) if value else []
        elif value:
            lines.append(f"  {field}: {value}")
    for name, option in row.get("options", {}).items():
        told = f"  -o {name}={unset if option['default'] is None else plain(option['default'])}"
        about = f"{option['what']}: {option['allowed']}" if option["what"] else option["allowed"]
        wrapped = textwrap.wrap(about, max(width - _ABOUT, 30), break_on_hyphens=False)
        # What does not fit into its column has a line of its own.
        lines += [told] if len(told) >= _ABOUT else []
        first = f"{'' if len(told) >= _ABOUT else told:<{_ABOUT}}{wrapped[0]}"
        lines += [first, *(f"{'':<{_ABOUT}}{line}" for line in wrapped[1:])]
    return lines
