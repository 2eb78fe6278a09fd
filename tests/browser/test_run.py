"""The run in the report: its charts zoom together, the minimap moves them, and a point leads to its operation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Page, expect

from harness.checkers.availability import Availability
from harness.experiment import Experiment
from harness.operation import Event, EventType
from harness.recording import Recorder, read_jsonl
from harness.report import write_report
from harness.run_directory import RunDirectory
from harness.verdict import Budget, Verdict
from tests.browser.conftest import OpenReport

pytestmark = pytest.mark.needs("browser")

MS = 1_000_000
HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">"
OPERATIONS = 400
END = 9.977
"""When the last of them is over (s)."""


def events() -> Iterator[Event]:
    """Ten seconds: a partition in the middle, in which nodes change their roles and much fails."""
    for number in range(OPERATIONS):
        at = number * 25 * MS
        failed = 4000 * MS <= at < 6000 * MS and number % 2
        kind: EventType = "fail" if failed else "ok"
        yield Event(0, at, number % 3, "invoke", "write", HOSTILE, number, HOSTILE)
        yield Event(0, at + 2 * MS, number % 3, kind, "write", HOSTILE, number, HOSTILE, HOSTILE if failed else None)
        if at == 4000 * MS:
            what = {"said": HOSTILE}
            proof = {"means": HOSTILE, "before": {HOSTILE: 1}, "during": {HOSTILE: 0}, "holds": True}
            for after, step, value in ((3, "start", what), (4, "prove", proof)):
                yield Event(0, at + after * MS, "nemesis", "invoke", f"{step}-partition", value=value)
                yield Event(0, at + after * MS, "nemesis", "ok", f"{step}-partition", value=value)
        if at == 6000 * MS:
            yield Event(0, at + 3 * MS, "nemesis", "ok", "stop-partition")
        if number % 20 == 0:
            role = {"role": "primary" if number < 200 else "replica", "asked": at, "answered": at + MS}
            yield Event(0, at + 5 * MS, "monitor", "info", "role", value=role, node=HOSTILE)
            yield Event(0, at + 5 * MS, "monitor", "info", "clock", value={HOSTILE: number / 100})


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = RunDirectory.create(tmp_path_factory.mktemp("runs"), Experiment("reference"))
    recorder = Recorder(directory.history)
    for event in events():
        recorder.record(event)
    recorder.close()
    history = read_jsonl(directory.history)
    evidence = msgspec.to_builtins(Availability().check(history, Budget()).evidence)
    write_report(directory, Experiment("reference"), Verdict("valid", evidence=evidence), history)
    assert not directory.lost
    return directory.report


def shown(page: Page) -> list[float]:
    """The stretch of time of the window."""
    window: list[float] = page.evaluate("(({ from, to }) => [from, to])(report.windows.get('run'))")
    return [round(moment, 3) for moment in window]


def draw_all(page: Page) -> None:
    """As if somebody had scrolled past every chart."""
    page.evaluate("Promise.all([...document.querySelectorAll('#run figure.picture')].map(report.draw))")


def test_charts_of_the_run_zoom_together(report: Path, open_report: OpenReport) -> None:
    page = open_report(report, hash="#run")
    draw_all(page)
    page.evaluate("report.show('run', { from: 2, to: 4 })")
    names = ("lanes", "latency", "quantiles")
    for name in names:
        page.locator(f"#picture-{name}").scroll_into_view_if_needed()
        page.evaluate(
            """async (name) => {
              const view = report.drawn.get(document.getElementById(`picture-${name}`));
              while (view.scale('x').domain().join() !== '2,4') await new Promise(requestAnimationFrame);
            }""",
            name,
        )
    page.locator("#run .window button[data-do=whole]").click()
    assert shown(page) == [0, END]


def test_the_minimap_moves_the_window_by_keys_and_by_pointer(report: Path, open_report: OpenReport) -> None:
    page = open_report(report, hash="#run")
    brush = page.locator(".minimap .brush")
    brush.focus()
    page.keyboard.press("+")
    from_, to = shown(page)
    assert (from_, to) != (0, END)
    page.keyboard.press("ArrowRight")
    assert shown(page)[0] > from_
    expect(brush).to_have_attribute("aria-valuetext", re.compile(r"^\d\.\d\d s to \d\.\d\d s of 9\.98 s$"))
    page.keyboard.press("0")
    assert shown(page) == [0, END]
    box = page.locator(".minimap").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=3)
    page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=3)
    page.mouse.up()
    assert shown(page) == pytest.approx([END * 0.4, END * 0.6], abs=0.05)
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, middle, steps=3)
    page.mouse.up()
    assert shown(page) == pytest.approx([END * 0.6, END * 0.8], abs=0.05)
    drawn = brush.bounding_box()
    assert drawn is not None
    assert drawn["x"] == pytest.approx(box["x"] + box["width"] * 0.6, abs=6)


def a_point(page: Page) -> tuple[float, float]:
    """Where a point is on the screen."""
    draw_all(page)
    page.locator("#picture-latency canvas").scroll_into_view_if_needed()
    x, y = page.evaluate(
        """() => {
          const view = report.drawn.get(document.getElementById('picture-latency'));
          const [x, y] = view.origin();
          const box = document.querySelector('#picture-latency canvas').getBoundingClientRect();
          const { left, top } = view.padding();
          return [box.left + left + x + view.scale('x')(5), box.top + top + y + view.scale('y')(2)];
        }"""
    )
    return x, y


def test_a_click_on_a_point_goes_to_its_operation(report: Path, open_report: OpenReport) -> None:
    page = open_report(report, hash="#run")
    page.mouse.click(*a_point(page))
    expect(page).to_have_url(re.compile("#op-"))


def test_who_moves_a_picture_does_not_go_anywhere(report: Path, open_report: OpenReport) -> None:
    page = open_report(report, hash="#run")
    a_point(page)
    page.evaluate("report.show('run', { from: 2, to: 8 })")
    x, y = a_point(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y, steps=3)
    page.evaluate("report.show('run', {})")  # drawn again
    page.mouse.move(x - 61, y)  # with the point under the pointer
    page.mouse.up()
    assert shown(page) != [2, 8]
    assert page.evaluate("location.hash") == "#run"
    page.evaluate("report.show('run', {})")
    page.mouse.move(x - 60, y)
    page.mouse.down()
    page.mouse.move(x - 61, y)
    page.mouse.up()
    expect(page).to_have_url(re.compile("#op-"))


def test_a_chart_has_the_keys_of_the_minimap(report: Path, open_report: OpenReport) -> None:
    page = open_report(report, hash="#run")
    for place in (".minimap .brush", "#picture-latency .drawing"):
        page.locator(place).press("+")
        middle = shown(page)
        assert middle != [0, END]
        page.locator(place).press("ArrowRight")
        assert shown(page)[0] > middle[0]
        page.locator(place).press("0")
        assert shown(page) == [0, END]


@pytest.mark.parametrize("dark", [False, True])
def test_what_a_store_says_is_text_and_a_small_screen_is_wide_enough(
    report: Path, open_report: OpenReport, dark: bool
) -> None:
    page = open_report(report, width=360, dark=dark, hash="#run")
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.title() != "taken"
    assert page.locator("#run img").count() == 0
    run = page.locator("#run")
    expect(run.locator("table").first).to_contain_text(HOSTILE)
    expect(run).to_contain_text("Drawn: all 400 operations.")
    page.locator("#picture-lanes .drawing").hover()
    assert page.title() != "taken"
