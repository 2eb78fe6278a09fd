"""The split-brain picture in a browser: there without scrolling, zoomed, clicked, narrow, and inert."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from harness.operation import Event
from harness.report import write_report
from tests.browser.conftest import OpenReport
from tests.planted_split_brain import N1, fault, judged, operation, role, split_brain

pytestmark = pytest.mark.needs("browser")

PICTURE = "#picture-primaries"


def written(path: Path, events: Iterable[Event]) -> Path:
    story = judged(events, directory=path)
    write_report(story.directory, story.experiment, story.verdict, story.history)
    assert not story.directory.lost
    return story.directory.report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("planted"), split_brain())


def drawn(page: Page, picture: str = PICTURE) -> None:
    page.wait_for_selector(f"{picture} .drawing svg")


def test_verdict_and_picture_are_seen_without_scrolling(open_report: OpenReport, report: Path) -> None:
    page = open_report(report)
    drawn(page)
    box = page.locator(f"{PICTURE} .drawing").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 800
    assert (
        page.locator(f"{PICTURE} svg").get_by_text("two primaries for 3.0 s: 2 acknowledged writes lost").is_visible()
    )


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_drawn_on_a_narrow_screen(open_report: OpenReport, report: Path, dark: bool) -> None:
    page = open_report(report, width=360, dark=dark)
    drawn(page)
    page.locator("#picture-fork-1").scroll_into_view_if_needed()
    drawn(page, "#picture-fork-1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    texts = page.locator(f"{PICTURE} svg text").all_text_contents()
    assert {"n1", "n2", "n3", "two primaries for 3.0 s"} <= set(texts)
    assert "n1: 2 appends, all lost" in page.locator("#picture-fork-1 svg text").all_text_contents()


def test_it_is_zoomed_by_keys(open_report: OpenReport, report: Path) -> None:
    page = open_report(report)
    drawn(page)
    shown = page.locator("#primaries .window output")
    page.locator(f"{PICTURE} .drawing").focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.wait_for_function("document.querySelector('#primaries .window output').textContent.startsWith('3.')")
    page.keyboard.press("0")
    assert re.match(r"0\.0+ s to 10\.", shown.text_content() or "")


def test_a_lost_write_leads_to_its_operation(open_report: OpenReport, report: Path) -> None:
    page = open_report(report)
    drawn(page)
    page.locator(f"{PICTURE} .mark-symbol path[fill='#d43d51']").first.click()
    page.wait_for_function("location.hash.startsWith('#op-')")


def test_names_of_a_hostile_store_are_text(open_report: OpenReport, tmp_path: Path) -> None:
    evil = "<img src=x onerror=\"document.title='broken'\">'\"${1}"
    page = open_report(
        written(
            tmp_path,
            [
                *role(evil, "primary", 0, 5, 1),
                *role("n1", evil, 0, 5),
                *fault(evil, 1, 2, {"said": evil, "on": [evil]}),
                *operation(0, 1, evil, evil, by=N1, key=evil),
            ],
        )
    )
    drawn(page)
    assert not page.locator("main img").count()
    assert page.title() != "broken"
