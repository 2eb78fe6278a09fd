"""``splitbrain doctor``: what this machine can do, and how to get what is missing."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Iterator
from functools import cache

import msgspec
from rich.console import Console

from harness.capability import OF_NODES, Capability
from harness.cli.wording import as_options
from harness.plugins import load, names
from harness.words import printable


class Finding(msgspec.Struct, frozen=True):
    """One line: what was looked at, whether it is there, and what it says or how to get it."""

    name: str
    there: bool
    said: str


def doctor(*, as_json: bool) -> int:
    """Print what was found; 0 if at least one environment can be used, else 4."""
    findings = list(_look())
    if as_json:
        print(json.dumps([msgspec.to_builtins(finding) for finding in findings]))
    else:
        console = Console(highlight=False)
        for finding in findings:
            console.print("yes" if finding.there else "no ", style="green" if finding.there else "red", end="")
            console.print(printable(f"  {finding.name}: {finding.said}"), markup=False, soft_wrap=True)
    usable = any(finding.there for finding in findings if finding.name.startswith("--on "))
    return 0 if usable else 4


@cache
def lacking(environment: str, capability: Capability) -> str | None:
    """Why an environment cannot do something here, in one clause; None if it can, as far as can be told."""
    plugin = load("environments", environment)
    why = plugin.missing(None) or plugin().lacks(capability)
    return None if why is None else as_options(why)


def _look() -> Iterator[Finding]:
    yield Finding("Python", sys.version_info >= (3, 11), f"{platform.python_version()} (3.11 or later is needed)")
    yield Finding("Linux", sys.platform == "linux", f"{platform.system()} {platform.release()} {platform.machine()}")
    for name in names("environments"):
        missing = load("environments", name).missing(None)
        yield Finding(f"--on {name}", missing is None, as_options(missing or "can be used"))
        for capability, what in OF_NODES.items():
            # What a host of --on ssh can do is found out when it is named.
            if missing is None and name != "ssh":
                why = lacking(name, capability)
                yield Finding(f"{capability} on {name}", why is None, why or what)
    for name in names("targets"):
        for program, package in load("targets", name).programs.items():
            path = shutil.which(program)
            yield Finding(f"{name} on local nodes", path is not None, path or f"apt-get install {package}")
    path = shutil.which("debootstrap")
    yield Finding("images build --bootstrap", path is not None, path or "apt-get install debootstrap")
