"""The report as a whole: for a stranger, by keyboard, on paper, for a screen reader, and with a hostile store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page

from harness.conduct import report as report_on
from harness.conduct import simulate
from harness.experiment import Experiment
from harness.operation import Event, ServedBy
from harness.report import write_report
from tests.browser.conftest import OpenReport
from tests.planted_split_brain import judged, role, seconds

pytestmark = pytest.mark.needs("browser")

HOSTILE = "</script><script>globalThis.owned = 1</script><img src=x onerror='globalThis.owned = 1'>\u202e"
SECTIONS = ["primaries", "tested", "anomalies", "run", "messages", "history", "files"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a simulated run with a split brain."""
    experiment = Experiment(
        "reference", workload="append", nemeses=("partition",), environment="simulation", time=20.0, seed=0,
        options={"replication": "primary-backup", "acknowledge": "async", "partition": "primary"},
    )  # fmt: skip
    with ThreadPoolExecutor(1) as elsewhere:  # the browser has an event loop in this thread
        outcome = elsewhere.submit(simulate, experiment, tmp_path_factory.mktemp("runs")).result()
    report_on(outcome)
    assert outcome.verdict.validity == "invalid"
    return outcome.directory / "report.html"


def hostile() -> Iterator[Event]:
    """A store that answers with what would run in a page, if that were not careful."""
    node = "n1"
    yield from role(node, "primary", 0, 4, term=1)
    for number in range(4):
        at = seconds(number + 0.5)
        value = HOSTILE + str(number)
        yield Event(0, at, number, "invoke", "write", HOSTILE, value, node)
        yield Event(0, at + 1000, number, "ok", "write", HOSTILE, value, node, served_by=ServedBy(node, 1))
        yield Event(0, at + 2000, number, "invoke", "read", HOSTILE, None, node)
        yield Event(0, at + 3000, number, "fail", "read", HOSTILE, None, node, HOSTILE)


def scroll_through(page: Page) -> None:
    """Have every picture drawn."""
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_selector("figure.picture .drawing > *")
    for figure in page.locator("figure.picture").all():
        if figure.is_visible():
            figure.scroll_into_view_if_needed()
            figure.locator(".drawing > *").first.wait_for()


def test_the_verdict_and_the_first_picture_are_there_without_scrolling(open_report: OpenReport, report: Path) -> None:
    page = open_report(report)
    head = page.locator("h1").bounding_box()
    page.wait_for_selector("#picture-primaries .drawing > *")
    picture = page.locator("#picture-primaries .drawing").bounding_box()
    assert head is not None
    assert picture is not None
    assert head["y"] < picture["y"] < picture["y"] + picture["height"] <= 800
    assert page.locator("h1").inner_text().startswith("INVALID Split brain: for ")


def test_every_section_is_there_and_can_be_reached(open_report: OpenReport, report: Path) -> None:
    page = open_report(report)
    linked = [str(link.get_attribute("href")).removeprefix("#") for link in page.locator("nav a").all()]
    assert linked[: len(SECTIONS) - 1] == SECTIONS[:-1]
    for name in linked:
        assert page.locator(f"section#{name}").count() == 1


@pytest.mark.parametrize("dark", [False, True])
def test_nobody_is_kept_out_of_it(open_report: OpenReport, report: Path, dark: bool) -> None:
    page = open_report(report, dark=dark)
    scroll_through(page)
    # What a page may run is in its policy, which does not hold for a debugger.
    page.evaluate((files("axe_core_python") / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    assert not serious, [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in serious]


@pytest.mark.parametrize("width", [360, 768, 1920])
def test_it_fits_on_every_screen(open_report: OpenReport, report: Path, width: int) -> None:
    page = open_report(report, width=width)
    scroll_through(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_is_worked_with_the_keyboard_alone(open_report: OpenReport, report: Path) -> None:
    page = open_report(report)
    page.wait_for_selector("#picture-primaries .drawing > *")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#picture-primaries') !== null"):
            break
    before = page.locator(".window[data-of=run] output").first.inner_text()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    after = page.locator(".window[data-of=run] output").first
    page.wait_for_function("([output, before]) => output.textContent !== before", arg=[after.element_handle(), before])
    page.keyboard.press("0")
    page.wait_for_function("() => report.windows.get('run').from === report.windows.get('run').start")


def test_the_command_that_runs_it_again_can_be_copied(open_report: OpenReport, report: Path) -> None:
    page = open_report(report)
    button = page.locator("button[data-copy=again]")
    button.click()
    page.wait_for_function("button => button.textContent === 'copied'", arg=button.element_handle())
    assert page.locator("#again").inner_text().startswith("splitbrain run reference --on simulation")


def test_everything_is_drawn_before_it_is_printed(open_report: OpenReport, report: Path) -> None:
    page = open_report(report)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(
        "() => [...document.querySelectorAll('figure.picture')].every(f => f.querySelector('.drawing > *'))"
    )
    assert not page.locator("nav").is_visible()


def test_nothing_that_a_store_says_runs_or_loads_anything(open_report: OpenReport, tmp_path: Path) -> None:
    story = judged(hostile(), directory=tmp_path / HOSTILE.replace("/", "_"))
    write_report(story.directory, story.experiment, story.verdict, story.history)
    assert not story.directory.lost
    asked: list[str] = []
    page = open_report(story.directory.report)
    page.on("request", lambda request: asked.append(request.url))
    scroll_through(page)
    page.wait_for_selector("#history table, #history [role=grid]")
    assert page.evaluate("globalThis.owned") is None
    assert page.locator("img").count() == 0
    assert not [url for url in asked if not url.startswith(("blob:", "data:"))]
    assert "\u202e" not in page.content()


def test_its_policy_lets_no_other_script_run(browser: Browser, report: Path) -> None:
    page = browser.new_page()
    page.goto(report.resolve().as_uri())
    with pytest.raises(Error, match="Content Security Policy"):
        page.add_script_tag(content="globalThis.owned = 1")
    assert page.evaluate("globalThis.owned") is None
    page.close()
