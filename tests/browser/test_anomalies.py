"""The anomalies in the report: the index, pictures that zoom by themselves, and orders that are stepped through."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from playwright.sync_api import Page, expect

from harness.experiment import Experiment
from harness.recording import Recorder
from harness.report import write_report
from harness.run_directory import RunDirectory
from harness.verdict import Anomaly, Edge, Order, Step, Verdict, Witness
from tests.browser.conftest import OpenReport
from tests.unit.test_scene import MS, stale

pytestmark = pytest.mark.needs("browser")

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">'+alert(1)+'"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of eight anomalies: stale reads of which orders were tried, a cycle, and one of hostile words."""
    history, anomaly = stale()
    at = [op.index or 0 for op in anomaly.operations]
    steps = [Step(at[0], "write(1)", "1"), Step(at[1], "write(2)", "2")]
    orders = [Order("nothing", steps, [Step(at[2], "read() → 1")])]
    operations = [Witness(n, "txn", None, [["w", n, n]], n * MS, (n + 5) * MS, "ok", "n1", n) for n in range(3)]
    ring = [Edge("rw", n, (n + 1) % 3, f"T{n} came first", n) for n in range(3)]
    hostile = [Witness(0, HOSTILE, HOSTILE, HOSTILE, 0, None, "info", HOSTILE, 0)]
    anomalies = [
        replace(anomaly, orders=orders),
        Anomaly("G2", "a ring", operations, None, [], ring),
        Anomaly(HOSTILE, HOSTILE, hostile, HOSTILE, [HOSTILE], [Edge(HOSTILE, 0, 0, HOSTILE, HOSTILE)]),
        *(replace(anomaly, key=f"k{number}") for number in range(5)),
    ]
    directory = RunDirectory.create(tmp_path_factory.mktemp("runs"), Experiment("reference"))
    recorder = Recorder(directory.history)
    for event in history.events():
        recorder.record(event)
    recorder.close()
    write_report(directory, Experiment("reference"), Verdict("invalid", "wrong", anomalies, found=200), history)
    assert not directory.unsaved
    return directory.report


def current(page: Page, number: int) -> object:
    """The operation that is framed in a picture."""
    return page.evaluate(
        "n => report.drawn.get(document.getElementById(`picture-anomaly-${n}`)).signal('current')", number
    )


def shown(page: Page, number: int) -> tuple[float, float]:
    """The part of the axis that a picture shows."""
    start, end = page.evaluate("n => { const w = report.windows.get(`anomaly-${n}`); return [w.from, w.to]; }", number)
    return start, end


def test_the_index_leads_to_each_anomaly_and_only_what_is_open_is_drawn(open_report: OpenReport, report: Path) -> None:
    page = open_report(report)
    index = page.locator("#anomalies table.index")
    expect(index.locator("tbody tr")).to_have_count(8)
    expect(page.locator("#anomalies")).to_contain_text("200 found, the first 8 are explained")
    expect(page.locator("#picture-anomaly-5 svg")).to_have_count(0)
    index.get_by_role("link", name="5", exact=True).click()
    expect(page.locator("#anomaly-5")).to_have_attribute("open", "")
    expect(page.locator("#picture-anomaly-5 svg")).to_be_visible()
    expect(page.locator("#picture-anomaly-5 svg")).to_contain_text("C: read 1 at n1, not 2")
    expect(page.locator("#picture-anomaly-6 svg")).to_have_count(0)


def test_a_picture_zooms_by_itself_and_says_real_times(open_report: OpenReport, report: Path) -> None:
    page = open_report(report, hash="#anomaly-1")
    expect(page.locator("#picture-anomaly-1 svg")).to_be_visible()
    buttons = page.locator('[data-of="anomaly-1"]')
    buttons.get_by_role("button", name="zoom in").click()
    start, end = shown(page, 1)
    assert 0 < start < end < 1
    assert shown(page, 4) == (0, 1)
    buttons.get_by_role("button", name="whole").click()
    assert shown(page, 1) == (0, 1)
    expect(buttons.locator("output")).to_have_text("0.10 s to 3.00 s")
    page.locator("#picture-anomaly-1 .drawing").press("+")
    assert shown(page, 1) != (0, 1)


def test_orders_are_stepped_through_by_buttons_and_keys(open_report: OpenReport, report: Path) -> None:
    page = open_report(report, hash="#anomaly-1")
    page.locator("#picture-anomaly-1").scroll_into_view_if_needed()
    expect(page.locator("#picture-anomaly-1 svg")).to_be_visible()
    order = page.locator("#anomaly-1 .order")
    following, previous = (order.get_by_role("button", name=name) for name in ("next step", "previous step"))
    following.click()
    expect(order.locator("li.now")).to_contain_text("in the beginning it holds nothing")
    following.click()
    expect(order.locator("li.now")).to_contain_text("write(1), then it holds 1")
    row = page.locator("#anomaly-1 tr.now")
    expect(row).to_contain_text("write 1")
    assert current(page, 1) == int(row.get_attribute("data-op") or -1)
    order.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(order.locator("li.now")).to_contain_text("cannot come next: it holds 2")
    page.keyboard.press("ArrowRight")
    expect(order.locator("output")).to_contain_text("step 3 of 3")
    previous.click()
    expect(order.locator("li.now")).to_contain_text("write(2), then it holds 2")


def test_a_cycle_is_a_graph_with_its_edges_in_words(open_report: OpenReport, report: Path) -> None:
    page = open_report(report, hash="#anomaly-2", dark=True)
    cycle = page.locator("#anomaly-2 .cycle")
    for name in ("T0", "T1", "T2", "rw key 0"):
        expect(cycle.locator("svg")).to_contain_text(name)
    expect(cycle.locator("ol > li")).to_have_count(3)
    ink = cycle.locator("svg .name").first.evaluate("node => getComputedStyle(node).fill")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ink != paper


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_scrolls_sideways_on_a_telephone(open_report: OpenReport, report: Path, dark: bool) -> None:
    page = open_report(report, width=360, dark=dark)
    for number in (1, 2, 3):
        page.evaluate("n => { location.hash = `anomaly-${n}`; }", number)
        page.locator(f"#picture-anomaly-{number}").scroll_into_view_if_needed()
        expect(page.locator(f"#picture-anomaly-{number} svg")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        box = page.locator(f"#picture-anomaly-{number} svg").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 360


def test_hostile_words_are_words(open_report: OpenReport, report: Path) -> None:
    page = open_report(report, hash="#anomaly-3")
    expect(page.locator("#picture-anomaly-3 svg")).to_be_visible()
    expect(page.locator("#anomaly-3 summary")).to_contain_text(HOSTILE)
    assert page.title() != "taken"
    assert page.locator("img").count() == 0


def test_a_witness_leads_to_its_operation(open_report: OpenReport, report: Path) -> None:
    page = open_report(report, hash="#anomaly-1")
    link = page.locator("#anomaly-1 th a").first
    target = link.get_attribute("href")
    link.click()
    assert page.evaluate("location.hash") == target
    page.go_back()
    bar = page.locator("#picture-anomaly-1 svg .mark-rect path[fill='#d43d51']").first
    bar.click()
    assert page.evaluate("location.hash") == target
