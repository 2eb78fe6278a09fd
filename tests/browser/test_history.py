"""The history in the report: what a reader searches, filters, opens and downloads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from playwright.sync_api import Locator, Page, expect

from harness.experiment import Experiment
from harness.operation import Event, EventType, ServedBy
from harness.recording import Recorder, read_jsonl
from harness.report import write_report
from harness.report.history_table import HistoryTable
from harness.run_directory import RunDirectory
from harness.verdict import Anomaly, Verdict, Witness
from tests.browser.conftest import OpenReport

pytestmark = pytest.mark.needs("browser")

MS = 1_000_000
HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">\u202egnirts\n"
OPERATIONS = 300
PAGE = import_module("harness.report.page")
"""The module: there is a function of that name beside it."""


def events() -> Iterator[Event]:
    """Writes and reads of five keys, a fault, and whatever a value can be."""
    yield Event(0, 0, "monitor", "info", "leadership", value="primary")
    for number in range(OPERATIONS):
        at, process, node = number * 10 * MS, number % 4, f"n{number % 3 + 1}"
        f, key = ("read", "write")[number % 2], f"k{number % 5}"
        asked = number if f == "write" else None
        kind: EventType = "fail" if number % 50 == 1 else "info" if number % 50 == 2 else "ok"
        error = None if kind == "ok" else "the port is shut"
        answer = asked if f == "write" else number - 1 if kind == "ok" else None
        served = ServedBy("n1", 1 + number // 100) if kind == "ok" else None
        yield Event(0, at, process, "invoke", f, key, asked, node)
        yield Event(0, at + number * MS // 100, process, kind, f, key, answer, node, error, served)
    end = OPERATIONS * 10 * MS
    yield Event(0, end, "nemesis", "invoke", "start-partition", value={"said": "n1 | n2 n3"})
    yield Event(0, end + MS, "nemesis", "ok", "start-partition", value={"said": "n1 | n2 n3", "zoom": [1.0, 1e300]})
    values: list[Any] = [
        [1, 2],
        [None, 2],
        [1, None],
        [None, None],
        [],
        {},
        {"a": [1.5, True]},
        True,
        False,
        "",
        "text",
        2**53 + 1,
        -(2**61),
        [2**60, 5],
        [5, 2**60],
        -7,
        0,
        HOSTILE,
        "ж🙂",
        [["r", 1, None], ["append", 2, 3]],
    ]
    for place, value in enumerate(values):
        at = end + 10 * MS + place * MS
        yield Event(0, at, 2**40 + place, "invoke", "cas", HOSTILE, value, HOSTILE)
        if place % 2:
            yield Event(0, at + 1, 2**40 + place, "ok", "cas", HOSTILE, value, HOSTILE, None, ServedBy(HOSTILE))
        else:
            yield Event(0, at + 1, 2**40 + place, "fail", "cas", HOSTILE, None, HOSTILE, HOSTILE)
    yield Event(0, end + 100 * MS, 9, "invoke", "read", "never-answered", None, "n1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return reported(tmp_path_factory.mktemp("run"), Verdict("valid"))


def reported(path: Path, verdict: Verdict) -> RunDirectory:
    """A run of these events, with its report."""
    made = RunDirectory(path)
    recorder = Recorder(made.history)
    for event in events():
        recorder.record(event)
    recorder.close()
    experiment = Experiment("reference")
    made.write_experiment(experiment)
    write_report(made, experiment, verdict)
    assert not made.unsaved
    return made


@pytest.fixture
def page(run: RunDirectory, open_report: OpenReport) -> Page:
    return opened(open_report(run.report, hash="#history"))


def opened(page: Page) -> Page:
    expect(page.locator('[data-part="told"]')).to_have_text(f"{OPERATIONS + 21} of {OPERATIONS + 23} shown")
    return page


def cells(page: Page, column: str) -> list[str]:
    return page.locator(f'#history tbody td[data-column="{column}"]').all_text_contents()


def count(page: Page, number: int) -> None:
    expect(page.locator('[data-part="told"]')).to_have_text(f"{number} of {OPERATIONS + 23} shown")


def chosen_cell(page: Page) -> Locator:
    return page.locator('#history tr[aria-selected="true"] td[data-column="op"]')


def chosen(page: Page) -> str:
    return chosen_cell(page).inner_text()


def downloaded(page: Page, button: str) -> tuple[str, str]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).first.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_text(encoding="utf-8")


def test_only_rows_that_are_seen_are_in_the_page(page: Page) -> None:
    assert 5 < page.locator("#history tbody tr").count() < 40
    grid = page.get_by_role("grid", name="operations")
    expect(grid).to_have_attribute("aria-rowcount", str(OPERATIONS + 22))
    assert cells(page, "op")[:3] == ["1", "3", "5"]
    assert cells(page, "value")[1] == "1"
    assert cells(page, "answer")[:5] == ["-1", "", "", "", "3"]
    assert cells(page, "outcome")[:4] == ["ok", "fail", "info", "ok"]
    assert cells(page, "latency")[3] == "0.030"
    assert cells(page, "served")[3] == "n1 (term 1)"
    page.locator('[data-part="scroller"]').evaluate("(it) => { it.scrollTop = it.scrollHeight; }")
    expect(page.locator("#history tbody tr").last).to_contain_text("never-answered")


def test_filters_and_search(page: Page) -> None:
    form = page.locator("#history form")
    form.get_by_label("outcome").select_option("fail")
    count(page, 6 + 10)
    form.get_by_label("key").fill("k1")
    count(page, 6)
    form.get_by_label("process").fill("3")
    count(page, 3)
    page.get_by_role("button", name="clear").click()
    form.get_by_label("search").fill("PORT IS SHUT")
    count(page, 12)
    form.get_by_label("function").select_option("read")
    count(page, 6)
    page.get_by_role("button", name="clear").click()
    form.get_by_label("node").select_option("n2")
    count(page, 100)
    page.get_by_role("button", name="clear").click()
    form.get_by_label("events of").select_option("faults")
    count(page, 1)
    assert cells(page, "f") == ["start-partition"]
    form.get_by_label("events of").select_option("monitor")
    count(page, 1)
    page.get_by_role("button", name="clear").click()
    form.get_by_label("from").fill("1")
    form.get_by_label("to", exact=True).fill("1.0495")
    # The operation that had begun before, and had not ended.
    count(page, 5)


def test_the_window_that_the_pictures_show(page: Page) -> None:
    page.evaluate("report.show([...report.windows.keys()][0], { from: 1.0005, to: 1.0495 })")
    page.get_by_role("button", name="the window shown above").click()
    count(page, 5)
    assert page.locator("#history form").get_by_label("from").input_value() == "1.0005"


def test_the_keyboard(page: Page) -> None:
    grid = page.get_by_role("grid", name="operations")
    grid.focus()
    assert chosen(page) == "1"
    for key, now in (("ArrowDown", "3"), ("ArrowDown", "5"), ("ArrowUp", "3"), ("End", None), ("Home", "1")):
        page.keyboard.press(key)
        if now is not None:
            assert chosen(page) == now
        else:
            assert cells(page, "key")[-1] == "never-answered"
    rows = page.locator("#history tbody tr").count()
    page.keyboard.press("PageDown")
    assert chosen(page) == str(1 + 2 * rows)
    active = grid.get_attribute("aria-activedescendant")
    assert page.locator(f"[id='{active}']").get_attribute("aria-selected") == "true"
    page.keyboard.press("PageUp")
    assert chosen(page) == "1"


def test_an_operation_is_opened_by_its_address(run: RunDirectory, open_report: OpenReport) -> None:
    page = opened(open_report(run.report, hash="#op-401"))
    assert chosen(page) == "401"
    expect(page.locator('[data-part="operation"]')).to_contain_text("keyk0")
    expect(page.locator("#history tr[aria-selected='true']")).to_be_in_viewport()
    page.evaluate("location.hash = 'op-404'")  # its completion
    expect(chosen_cell(page)).to_have_text("403")
    page.locator("#history form").get_by_label("key").fill("k1")
    count(page, 60)
    page.evaluate("location.hash = 'op-501'")
    expect(chosen_cell(page)).to_have_text("501")
    page.evaluate("location.hash = 'op-0'")  # of the monitor, which is not shown unless somebody asks
    expect(chosen_cell(page)).to_have_text("0")
    page.evaluate("location.hash = 'op-99999'")
    expect(page.locator('[data-part="told"]')).to_have_text("there is no event 99999")


def test_what_is_downloaded_is_what_the_run_wrote(page: Page, run: RunDirectory, tmp_path: Path) -> None:
    name, text = downloaded(page, "download all")
    assert (name, text) == ("history.jsonl", run.history.read_text(encoding="utf-8"))
    page.locator("#history form").get_by_label("key").fill("k1")
    count(page, 60)
    name, text = downloaded(page, "download these")
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    history = read_jsonl(file)
    assert len(history) == 120
    assert set(history.keys) == {"k1"}
    assert text.splitlines() == [line for line in run.history.read_text().splitlines() if '"key":"k1"' in line]


@pytest.fixture(scope="module")
def run_of_an_anomaly(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The same run with an anomaly of two operations of it."""
    witnesses = [Witness(0, "read", "k0", None, at, at + MS, "ok", "n1", index) for at, index in ((0, 1), (MS, 6))]
    return reported(tmp_path_factory.mktemp("anomaly"), Verdict("invalid", "", [Anomaly("odd", "It is.", witnesses)]))


def test_the_operations_of_an_anomaly(run_of_an_anomaly: RunDirectory, open_report: OpenReport) -> None:
    page = opened(open_report(run_of_an_anomaly.report, hash="#history"))
    anomaly = page.locator("#anomaly-1")
    name, text = downloaded(page, "download them")
    assert name == "anomaly-1.jsonl"
    lines = run_of_an_anomaly.history.read_text(encoding="utf-8").splitlines()
    assert text.splitlines() == [lines[row] for row in (1, 2, 5, 6)]
    anomaly.get_by_role("button", name="its operations in the history").click()
    count(page, 2)
    assert cells(page, "op") == ["1", "5"]
    expect(page.locator("#history")).to_be_in_viewport()
    page.get_by_role("button", name="all others").click()
    count(page, OPERATIONS + 21)


def test_the_operations_of_an_anomaly_in_a_browser_that_cannot_unpack_them(
    run_of_an_anomaly: RunDirectory, open_report: OpenReport
) -> None:
    page = open_report(run_of_an_anomaly.report)
    page.evaluate("delete globalThis.DecompressionStream")
    for button in ("download them", "its operations in the history"):
        page.locator("#anomaly-1").get_by_role("button", name=button).click()
        expect(page.locator("#anomaly-1")).to_contain_text("this browser cannot unpack the history")


def test_the_window_of_an_anomaly_is_no_time(run_of_an_anomaly: RunDirectory, open_report: OpenReport) -> None:
    page = opened(open_report(run_of_an_anomaly.report, hash="#history"))
    page.evaluate("report.show('run', { from: 1.0005, to: 1.0495 })")
    page.evaluate("report.show('anomaly-1', { from: 0.25, to: 0.5 })")
    page.get_by_role("button", name="the window shown above").click()
    count(page, 5)
    assert page.locator("#history form").get_by_label("from").input_value() == "1.0005"


def test_without_a_window_of_the_run_none_can_be_taken_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, open_report: OpenReport
) -> None:
    monkeypatch.setattr(PAGE, "primaries", lambda story: None)
    monkeypatch.setattr(PAGE, "run", lambda story: None)
    witness = Witness(0, "read", "k0", None, 0, MS, "ok", "n1", 1)
    anomalies = [Anomaly("odd", "It is.", [witness])]
    page = opened(open_report(reported(tmp_path, Verdict("invalid", "", anomalies)).report, hash="#history"))
    assert page.evaluate("[...report.windows.keys()]") == ["anomaly-1"]
    expect(page.locator('[data-part="window"]')).to_be_hidden()


def test_a_history_that_is_too_large_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, open_report: OpenReport
) -> None:
    table = HistoryTable(2, 1, Markup(""), "It is too large for this page.")
    monkeypatch.setattr(PAGE, "history_table", lambda story: table)
    page = open_report(reported(tmp_path, Verdict("valid")).report, hash="#op-5")
    expect(page.locator("#history")).to_contain_text("It is too large for this page.")


def test_hostile_values_are_text(page: Page) -> None:
    page.locator("#history form").get_by_label("function").select_option("cas")
    count(page, 20)
    page.locator("#history form").get_by_label("search").fill("gnirts")
    count(page, 20)
    title = page.title()
    assert "taken" not in title
    assert page.locator("#history img").count() == 0
    page.get_by_role("grid").focus()
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    assert page.locator("#history img").count() == 0
    text = page.locator("#history").inner_text()
    assert "\u202e" not in text
    assert "\\u202e" in text
    assert "<img src=x" in text
    assert page.title() == title


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_page_does_not_scroll_sideways(run: RunDirectory, open_report: OpenReport, dark: bool) -> None:
    page = opened(open_report(run.report, width=360, dark=dark, hash="#history"))
    page.locator("#history form").get_by_label("function").select_option("cas")
    count(page, 20)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_browser_that_cannot_unpack_it_says_so(run: RunDirectory, open_report: OpenReport) -> None:
    page = open_report(run.report)
    page.evaluate("delete globalThis.DecompressionStream")
    page.evaluate("location.hash = 'op-5'")
    expect(page.locator('[data-part="told"]')).to_contain_text("this browser cannot unpack the history")


def test_values_that_are_cut_are_not_downloaded(tmp_path: Path, open_report: OpenReport) -> None:
    run = RunDirectory(tmp_path)
    recorder = Recorder(run.history)
    for number in range(300):
        value = os.urandom(40_000).hex()
        recorder.record(Event(0, number * 2, 0, "invoke", "write", "x", value))
        recorder.record(Event(0, number * 2 + 1, 0, "ok", "write", "x", number))
    recorder.close()
    write_report(run, Experiment("reference"), Verdict("valid"))
    assert run.report.stat().st_size < 20_000_000
    page = open_report(run.report, hash="#history")
    told = page.locator('[data-part="told"]')
    expect(told).to_have_text("300 of 300 shown")
    assert "(80,002 characters)" in page.locator('[data-part="operation"]').inner_text()
    page.get_by_role("button", name="download all").click()
    expect(told).to_contain_text("is cut in this page: see history.jsonl")
