"""How long the report of a large run takes, how large it is, and whether a browser can use it: ``make bench-report``.

The runs are made here, from a seed: registers under kills, with errors, roles and ten anomalies. Each report is made in
a fresh process; its seconds are processor time, start-up and reading the history included. With Chromium, what a pan of
the run's charts takes is the median of ten, wherever it takes longest; how long the history takes to be opened, and to
be searched through, stands beside it. Ends with 1 where a goal is missed.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.checkers import NODES, faults, merged, observed
from benchmarks.linearizability import MS, write
from checkers.findings import Findings
from harness.experiment import Experiment
from harness.operation import ROLE
from harness.recording import read_jsonl
from harness.report import write_report
from harness.roles import PRIMARY, Answer
from harness.run_directory import RunDirectory
from harness.verdict import Verdict


@dataclass(frozen=True)
class Goal:
    """The most that a report may take: seconds to make it, megabytes, milliseconds of a pan."""

    seconds: float
    megabytes: float
    pan: float = 100.0


GOALS: Final = {100_000: Goal(5, 5), 1_000_000: Goal(40, 20)}

_PAN: Final = """async (id) => {
  const figure = document.getElementById(id);
  figure.scrollIntoView({ block: "center" });
  report.draw(figure);
  while (!report.drawn.get(figure)) await new Promise(requestAnimationFrame);
  await new Promise((done) => setTimeout(done, 1000)); // until whatever is in sight is drawn
  const { end } = report.windows.get("run");
  const times = [];
  for (let turn = 0; turn < 10; turn++) {
    const began = performance.now();
    await report.show("run", { from: (end * turn) / 40, to: (end * turn) / 40 + end / 4 });
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[5];
}"""
_PICTURES: Final = ("picture-primaries", "picture-lanes", "picture-latency", "picture-throughput")
"""Those that show the whole run, of which some are in sight at once."""
_OPEN: Final = """async () => {
  const began = performance.now();
  await report.history();
  return performance.now() - began;
}"""
_SEARCH: Final = """async () => {
  const form = document.querySelector("#history form");
  const told = document.querySelector('#history [data-part="told"]');
  document.getElementById("history").scrollIntoView();
  while (!/ of /.test(told.textContent)) await new Promise(requestAnimationFrame);
  const began = performance.now(), before = told.textContent;
  form.elements.search.value = "is shut";
  form.dispatchEvent(new Event("input"));
  while (told.textContent === before || !/ of /.test(told.textContent)) await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""


def make_run(path: Path, operations: int) -> RunDirectory:
    """A run of so many operations."""
    run = RunDirectory(path)
    path.mkdir()
    events = faults(operations)
    roles = []
    for now in range(0, events[-1].time, 500 * MS):
        for number, node in enumerate(NODES):
            role = PRIMARY if (now // (10_000 * MS)) % len(NODES) == number else "replica"
            roles.append(observed(now + MS, ROLE, Answer(role, now, now + MS, now // (10_000 * MS) + 1), node))
    write(run.history, merged(events, roles))
    held = read_jsonl(run.history).operations()
    findings = Findings(held)
    for number in range(10):
        row = len(held) * (number + 1) // 12
        findings.add("stale read", f"a planted anomaly, number {number + 1}", [row, row + 3])
    run.write_experiment(Experiment("reference", nemeses=("kill",), time=events[-1].time / 1e9))
    verdict = findings.verdict("anomaly", {}, many="anomalies")
    run.save(run.verdict, msgspec.json.encode(verdict))
    return run


def report(path: Path) -> None:
    """What the process that is measured does."""
    run = RunDirectory(path)
    write_report(run, run.load_experiment(), msgspec.json.decode(run.verdict.read_bytes(), type=Verdict))
    if run.unsaved:
        raise SystemExit(run.unsaved)


def seconds_of(path: Path) -> tuple[float, float]:
    """Processor time and wall-clock time of making the report of a run."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before, began = used(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "benchmarks.report", str(path)], check=True)
    return used() - before, time.perf_counter() - began


def in_browser(page: Path) -> dict[str, Any]:
    """Milliseconds of a pan, of opening the history and of searching it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        tab.set_default_timeout(300_000)
        tab.goto(page.resolve().as_uri())
        figures = {"open": tab.evaluate(_OPEN)}
        figures["pan"] = max(tab.evaluate(_PAN, picture) for picture in _PICTURES)
        figures["search"] = tab.evaluate(_SEARCH)
        browser.close()
    return figures


def main() -> int:
    """Run both cases."""
    missed = 0
    for operations, goal in GOALS.items():
        with tempfile.TemporaryDirectory() as folder:
            run = make_run(Path(folder) / "run", operations)
            processor, wall = seconds_of(run.path)
            megabytes = run.report.stat().st_size / 1e6
            figures = in_browser(run.report) if shutil.which("chromium") else {}
        said = [f"{processor:.1f} s ({wall:.1f} s on the wall)", f"{megabytes:.1f} MB"]
        said += [f"{name} {ms:.0f} ms" for name, ms in figures.items()]
        over = processor > goal.seconds or megabytes > goal.megabytes or figures.get("pan", 0) > goal.pan
        missed += over
        wanted = f"at most {goal.seconds:g} s, {goal.megabytes:g} MB, {goal.pan:g} ms a pan"
        print(f"{operations:,} operations: {', '.join(said)}  ({wanted}{': TOO MUCH' if over else ''})", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        report(Path(sys.argv[1]))
    else:
        sys.exit(main())
