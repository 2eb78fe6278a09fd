"""A real browser for the pages that the product writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

OpenReport = Callable[..., Page]


# For a module each: while one is open, nothing else in this process can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, headless."""
    with sync_playwright() as playwright:
        # All that the tests open they have made themselves, and as root there is no sandbox.
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_report(browser: Browser) -> Iterator[OpenReport]:
    """Opens a page from a file; the test fails where the page has had an error."""
    pages: list[Page] = []
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    def open_one(path: Path, width: int = 1280, dark: bool = False, hash: str = "") -> Page:
        page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        pages.append(page)
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.resolve().as_uri() + hash)
        return page

    yield open_one
    for page in pages:
        page.close()
    assert not errors
