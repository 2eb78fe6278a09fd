"""Writes ``docs/findings.md`` from the catalogue; with ``--write`` it reproduces the findings first.

Each is run three times, experiment and control, with the command that a person would type; how often it was seen is
put into its file. Prints a line for each. Exits with 1 if one was never seen, or a control did not pass.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from harness.catalogue import Finding, find, names

ROOT: Final = Path(__file__).parents[1]
FILES: Final = ROOT / "findings"
PAGE: Final = ROOT / "docs/findings.md"
RUNS: Final = 3
FOLDER: Final = Path("runs/findings")

_HEAD: Final = """\
# Findings that one command shows

Published findings about stores. `splitbrain reproduce NAME` runs the experiment, and then the control, the same
experiment with what must make it pass, and says whether both came out as known. Written by `make bench-findings`, which
runs each of them three times, under seeds that follow one another; "shown" and "control passed" are what it counted
last, by the version that is named last; where another number stands that was counted by hand. A finding of one's own is
one more TOML file, as those in `findings/`: `splitbrain reproduce FILE.toml`.

| finding | store | what it does | published | expected | control | shown | control passed |
|---|---|---|---|---|---|---|---|"""

_COMMANDS: Final = "What `timetable.json` stands for is in the finding's own file."


def page() -> str:
    """The catalogue in Markdown."""
    findings = [find(name) for name in names()]
    commands = [f"- `{finding.name}`: `{finding.experiment.command()}`" for finding in findings]
    return "\n".join([_HEAD, *map(_row, findings), "", "## The experiments", "", _COMMANDS, "", *commands, ""])


def _row(finding: Finding) -> str:
    source, measured = finding.source, finding.measured
    counts = ["not measured"] * 2
    if measured is not None:
        counts = [f"{measured.seen} of {measured.of}", f"{measured.passed} of {measured.of}"]
    kinds = " or ".join(finding.expect.kinds) or "any anomaly"
    published = f"{source.author}, [{source.title}]({source.address}), {source.year}"
    expected = f"{kinds} (`{finding.expect.checker}`)"
    store = f"{finding.store} {', '.join(finding.versions)}"
    cells = [f"`{finding.name}`", store, finding.sentence, published, expected, finding.difference, *counts]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def measure(name: str) -> tuple[int, int]:
    """How often it was seen, and how many controls have passed. Raises ``RuntimeError`` where the command breaks."""
    splitbrain = str(Path(sys.executable).with_name("splitbrain"))
    command = [splitbrain, "reproduce", name, "--runs", str(RUNS), "--directory", str(FOLDER / name)]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 3):
        raise RuntimeError(done.stderr.strip())
    said: dict[str, Any] = json.loads(done.stdout)
    for role in ("experiment", "control"):
        for run in said[role]["runs"]:
            print(f"  {name} {role} seed {run['seed']}: {run['what']} ({run['directory']})", flush=True)
    return said["experiment"]["count"], said["control"]["count"]


def keep(path: Path, seen: int, passed: int) -> None:
    """Put the counts into a finding's file, whose last table they are."""
    text = re.sub(r"\n*\[measured\]\n[^\[]*\Z", "\n", path.read_text()).rstrip("\n")
    path.write_text(f"{text}\n\n[measured]\nof = {RUNS}\nseen = {seen}\npassed = {passed}\n")


def main() -> int:
    """Write the page; with ``--write`` measure all findings before, or those named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="reproduce the findings, and keep how often each shows")
    parser.add_argument("names", nargs="*", help="findings; all, if none is named")
    given = parser.parse_args()
    good = True
    for name in (given.names or names()) if given.write else ():
        began = time.monotonic()
        try:
            seen, passed = measure(name)
        except RuntimeError as error:
            print(f"{name:32} {error}", flush=True)
            good = False
            continue
        keep(FILES / f"{name}.toml", seen, passed)
        took = f"{time.monotonic() - began:.0f} s"
        print(f"{name:32} shown by {seen} of {RUNS}, passed by {passed} of {RUNS} controls, in {took}", flush=True)
        good = good and seen > 0 and passed == RUNS
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
