"""The report in a real browser."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.needs("local", "browser")
def test_the_report_shows_verdict_faults_and_anomaly_in_a_browser(splitbrain: Command, tmp_path: Path) -> None:
    done = splitbrain(
        "run", "reference", "--on", "local", "--time", "20", "--nemesis", "partition", "--interval", "2",
        "-o", "partition=primary", "-o", "replication=primary-backup", "-o", "acknowledge=async", "--runs", "r",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    (report,) = tmp_path.glob("r/*/report.html")
    page = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run", f"--user-data-dir={tmp_path}/profile",
         "--virtual-time-budget=2000", "--dump-dom", report.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    assert '<span class="invalid">invalid</span>' in page
    assert page.count('class="anomaly"') >= 1
    assert 'class="fault"' in page
    assert "partition (primary:" in page
    assert "http://" not in report.read_text().replace("http://www.w3.org", "")
    assert "https://" not in report.read_text()
