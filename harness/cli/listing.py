"""``splitbrain list``: what there is to choose from, and the options of each."""

from __future__ import annotations

import inspect
import json
import textwrap
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.cli.doctor import lacking
from harness.options import options_of, plain
from harness.plugins import load, names


def show(kind: str, *, as_json: bool) -> None:
    """Print the plug-ins of one kind."""
    special = {"models": _models, "bugs": _bugs}
    rows = special[kind]() if kind in special else [_row(kind, name) for name in names(kind)]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(box=None, pad_edge=False)
    columns = [
        column
        for column in ("name", "what", "workloads", "needs", "here", "found by", "refuted by")
        if any(column in r for r in rows)
    ]
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        shown = {**row, "here": [name for name, why in row.get("here", {}).items() if why == "yes"]}
        table.add_row(*(_words(shown.get(column)) for column in columns))
    Console(highlight=False).print(table)
    _show_options(rows, unset="drawn" if kind == "nemeses" else "")
    for row in rows:
        for environment, why in row.get("here", {}).items():
            if why != "yes":
                print(f"{row['name']} not on {environment}: {why}")
    if kind == "nemeses":
        print("What the hosts of ssh can do is tried at the beginning of a run.")


def _show_options(rows: list[dict[str, Any]], unset: str) -> None:
    """What each plug-in of the rows can be told with ``-o NAME=VALUE``."""
    for row in rows:
        if not row.get("options"):
            continue
        print(f"\noptions of {row['name']}, as -o NAME=VALUE")
        for name, option in row["options"].items():
            told = f"{name}={unset if option['default'] is None else plain(option['default'])}"
            about = f"{option['what']}: {option['allowed']}" if option["what"] else option["allowed"]
            lines = textwrap.wrap(about, max(40, Console().width - 31))
            print(f"  {told:<28} {lines[0]}", *(f"{'':<31}{line}" for line in lines[1:]), sep="\n")


def _models() -> list[dict[str, Any]]:
    models: dict[str, Any] = load("checkers", "linearizable").models()
    return [{"name": name, "what": (inspect.getdoc(model) or "").partition("\n")[0]} for name, model in models.items()]


def _bugs() -> list[dict[str, Any]]:
    """The planted bugs of all targets that have some."""
    bugs = [bug for name in names("targets") for bug in getattr(load("targets", name), "bugs", {}).values()]
    return [
        {
            "name": bug.name,
            "what": f"{bug.replication}: {bug.breaks}",
            "found by": bug.command,
            "refuted by": bug.checker,
        }
        for bug in bugs
    ]


def _row(kind: str, name: str) -> dict[str, Any]:
    plugin = load(kind, name)
    row: dict[str, Any] = {"name": name, "what": (inspect.getdoc(plugin) or "").partition("\n")[0]}
    if hasattr(plugin, "Options") and (options := options_of(plugin.Options)):
        row["options"] = {
            name: {"default": option.default, "allowed": option.allowed(), "what": option.what}
            for name, option in options.items()
        }
    for attribute in ("workloads", "needs"):
        if (value := getattr(plugin, attribute, None)) is not None:
            row[attribute] = sorted(value)
    if claims := getattr(plugin, "claims", None):
        row["claims"] = claims
    if kind == "nemeses":
        row["needs"] += [f"a target with {need}" for need in sorted(getattr(plugin, "needs_of_target", ()))]
        row["here"] = _where(plugin.needs)
    if kind == "environments":
        row["missing"] = plugin.missing(None)
        row["what"] += " Available here." if row["missing"] is None else f" Missing: {row['missing']}."
    return row


def _where(needs: frozenset[str]) -> dict[str, str]:
    """For each environment whether a nemesis with these needs can be had there: yes, or why not."""
    lacks = {e: [why for need in sorted(needs) if (why := lacking(e, need))] for e in names("environments")}
    return {environment: reasons[0] if reasons else "yes" for environment, reasons in lacks.items()}


def _words(value: Any) -> str:
    return "\n".join(value) if isinstance(value, list) else str(value or "")
