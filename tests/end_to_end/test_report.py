"""The report of a run on real nodes: what it tells beside the pictures, and what is made of it afterwards."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.needs("local")
def test_the_report_of_a_real_run(splitbrain: Command, tmp_path: Path) -> None:
    before = time.time_ns()
    done = splitbrain(
        "run", "reference", "--on", "local", "--time", "20", "--nemesis", "partition", "--interval", "2",
        "-o", "partition=primary", "-o", "replication=primary-backup", "-o", "acknowledge=async", "--runs", "r",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    (run,) = tmp_path.glob("r/*")
    first = json.loads((run / "history.jsonl").read_text().partition("\n")[0])
    events = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    (began,) = [event["value"] for event in events if event["f"] == "began"]
    assert first["index"] == 0
    assert before < began["wall"] < time.time_ns()
    assert set(began["versions"]) == {"python", "splitbrain"}
    page = (run / "report.html").read_text()
    assert '<span class="badge invalid">invalid</span>' in page
    assert "partition (primary:" in page
    for section in ("primaries", "tested", "anomalies", "run", "history", "logs", "files"):
        assert f'<section id="{section}"' in page, section
    assert 'id="log-n1"' in page
    assert f"<dt>host</dt><dd>{began['host']}, " in page

    (run / "report.html").unlink()
    assert splitbrain("report", str(run)).stdout == f"{run}/report.html\n"
    assert (run / "report.html").exists()
    for form, begins in (("svg", b"<svg"), ("png", b"\x89PNG")):
        picture = splitbrain("report", str(run), "--format", form, "--anomaly", "1")
        assert picture.returncode == 0, picture.stderr
        assert Path(picture.stdout.strip()).read_bytes().startswith(begins)
    told = splitbrain("explain", str(run)).stdout
    assert told.startswith("1. ")
    assert max(map(len, told.splitlines())) <= 80
