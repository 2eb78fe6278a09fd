"""The page over all runs: what it lists, and what it hands out to whom."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from msgspec.structs import replace

from harness.campaign import SeedResult
from harness.experiment import Experiment
from harness.fingerprint import fingerprint
from harness.hunting import Hunt
from harness.recording import Recorder
from harness.report.gallery import entries, trend
from harness.run_directory import RunDirectory
from harness.serving import application
from harness.verdict import Anomaly, Verdict

SECRET = "secret-of-the-test"


def a_run(runs: Path, target: str, verdict: Verdict, **fields: int) -> Path:
    experiment = Experiment(target, **fields)  # type: ignore[arg-type]
    directory = RunDirectory.create(runs, experiment)
    Recorder(directory.history).close()
    directory.write_verdict(verdict, experiment, 1.0)
    (directory.logs / "n1").mkdir(parents=True)
    (directory.logs / "n1" / "server.log").write_text("<script>alert(1)</script>")
    return directory.path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    served = {"operations": 10, "served": 9, "latency": {"p99": 5_000_000}}
    phases = dict.fromkeys(("total", "before", "during", "after"), served)
    rest: dict[str, Any] = {"functions": {}, "nodes": {}, "worst": {}, "faults_found": 0, "reasons": [], "clauses": []}
    wrong = Verdict("invalid", "<b>wrong</b>", [Anomaly("k", "t")], {"availability": {**phases, **rest}}, found=3)
    a_run(tmp_path / "runs", "redis", wrong, seed=5)
    a_run(tmp_path / "runs", "etcd", Verdict("valid"))
    hunt = tmp_path / "hunts" / "one"
    hunt.mkdir(parents=True)
    (hunt / "experiment.json").write_bytes(msgspec.json.encode(Experiment("reference")))
    results = [SeedResult(0, "valid"), SeedResult(1, "unknown"), SeedResult(1, "invalid")]
    (hunt / "results.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in results))
    return tmp_path


@pytest_asyncio.fixture
async def client(folder: Path) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    async with TestClient(TestServer(application(folder, SECRET))) as client:
        yield client


def test_runs_and_hunts_are_found_with_what_came_of_them(folder: Path) -> None:
    (folder / "runs" / "broken").mkdir()
    (folder / "runs" / "broken" / "experiment.json").write_text("{}")
    (folder / "linked").symlink_to(folder / "runs")
    found = {entry.experiment.target: entry for entry in entries(folder)}
    assert sorted(found) == ["etcd", "redis", "reference"]
    assert (found["redis"].anomalies, found["redis"].served, found["redis"].p99) == (3, "90.0 %", "5 ms")
    assert (found["reference"].hunt, found["reference"].validity) == (True, "invalid")
    assert found["reference"].reason == "1 of 2 seeds failed, 0 unknown"
    picture = trend([entry for entry in found.values() if not entry.hunt])
    assert picture is not None
    assert {value["verdict"] for value in picture.specification["data"]["values"]} == {"invalid", "valid"}


async def test_the_page_lists_them_and_can_be_filtered(client: TestClient) -> None:  # type: ignore[type-arg]
    text = await (await client.get(f"/{SECRET}/")).text()
    assert "3 of 3" in text
    assert "&lt;b&gt;wrong&lt;/b&gt;" in text
    assert "<b>wrong" not in text
    text = await (await client.get(f"/{SECRET}/?validity=invalid&target=redis")).text()
    assert "1 of 3" in text


async def test_only_who_knows_the_secret_sees_anything(client: TestClient) -> None:  # type: ignore[type-arg]
    text = await (await client.get(f"/{SECRET}/")).text()
    (address,) = re.findall(r'href="\.\.(/runs/[^"]*redis[^"]*)report.html"', text)
    assert (await client.get(f"{address}verdict.json")).status == 200
    other = address.replace("redis", "etcd")
    for path in (
        "/",
        "/runs/x",
        "/other/",
        f"/{SECRET[:-1]}/",
        f"{other}verdict.json",
        f"/runs/{address[7:]}verdict.json",
    ):
        assert (await client.get(path)).status == 404, path


def address(run: Path, folder: Path) -> str:
    where = str(run.relative_to(folder))
    return f"/runs/{hmac.new(SECRET.encode(), where.encode(), 'sha256').hexdigest()[:32]}/{where}/-"


async def test_only_what_runs_write_is_handed_out(client: TestClient, folder: Path) -> None:  # type: ignore[type-arg]
    (run,) = (folder / "runs").glob("redis*")
    place = address(run, folder)
    outside = folder / "outside.json"
    outside.write_text("private")
    (run / "secret.txt").write_text("private")
    (run / "junit.xml").unlink()
    (run / "junit.xml").symlink_to(outside)
    up = "%2e%2e/%2e%2e/outside.json"
    for path in ("secret.txt", "junit.xml", "../outside.json", up, "nodes/n1", "nodes/none.log"):
        assert (await client.get(f"{place}/{path}")).status == 404, path
    log = await client.get(f"{place}/nodes/n1/server.log")
    assert (log.status, log.content_type) == (200, "text/plain")
    assert log.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_report_that_is_not_there_is_made(client: TestClient, folder: Path) -> None:  # type: ignore[type-arg]
    (run,) = (folder / "runs").glob("redis*")
    assert not (run / "report.html").exists()
    answer = await client.get(f"{address(run, folder)}/report.html")
    assert (answer.status, answer.content_type) == (200, "text/html")
    assert "Content-Security-Policy" in await answer.text()
    assert "sandbox" in answer.headers["Content-Security-Policy"]


async def test_what_is_damaged_or_no_file_takes_nothing_down(client: TestClient, folder: Path) -> None:  # type: ignore[type-arg]
    (run,) = (folder / "runs").glob("redis*")
    deep, pipe, odd = folder / "deep", folder / "pipe", folder / os.fsdecode(b"\xff")
    for path in (deep, pipe, odd):
        path.mkdir()
        (path / "experiment.json").write_bytes((run / "experiment.json").read_bytes())
    (deep / "verdict.json").write_text('{"validity": "valid", "evidence": {"x": ' + "[" * 5000 + "]" * 5000 + "}}")
    os.mkfifo(pipe / "verdict.json")
    text = await (await client.get(f"/{SECRET}/")).text()
    assert "3 of 3" in text
    for path in (deep, pipe):
        assert (await client.get(f"{address(path, folder)}/report.html")).status == 404
    assert (await client.get(f"{address(run, folder)}/{'a' * 300}")).status == 404


async def test_two_runs_stand_side_by_side(client: TestClient, folder: Path) -> None:  # type: ignore[type-arg]
    left, right = (next((folder / "runs").glob(f"{name}*")).relative_to(folder) for name in ("redis", "etcd"))
    text = await (await client.get(f"/{SECRET}/compare?run={left}&run={right}")).text()
    assert '<tr class="differs"><th scope="row">seed</th><td>5</td><td>0</td></tr>' in text
    assert '<tr><th scope="row">nodes</th><td>3</td><td>3</td></tr>' in text
    assert (await client.get(f"/{SECRET}/compare?run={left}")).status == 400
    assert (await client.get(f"/{SECRET}/compare?run={left}&run=../x")).status == 404


def test_the_page_of_a_hunt_shows_every_seed_and_groups_failures(tmp_path: Path) -> None:
    made = tmp_path / "seed-1"
    made.mkdir()
    (made / "report.html").write_text("")
    stale = ("linearizable: stale read",)
    outcomes = [
        SeedResult(0, "valid"),
        SeedResult(1, "invalid", "<i>", stale, str(made)),
        SeedResult(2, "invalid", "<i>", stale, str(tmp_path / "seed-2")),
        SeedResult(3, "unknown", "never became ready"),
    ]
    (tmp_path / "hunt").mkdir()
    experiment = Experiment("reference", environment="simulation")
    kept = [msgspec.json.encode(replace(outcome, code=fingerprint(experiment))) for outcome in outcomes]
    (tmp_path / "hunt" / "results.jsonl").write_bytes(b"\n".join(kept))
    hunt = Hunt(experiment, 5, tmp_path / "hunt")
    assert hunt.write_report() == ""
    page = hunt.report.read_text()
    assert "4 of 5 seeds were run: 2 seeds of 4 failed, 1 unknown, 1 passed." in page
    assert '<span class="badge invalid">' in page
    assert page.count('href="../seed-1/report.html"') == 2
    assert 'href="../seed-2' not in page
    assert "<i>" not in page
    assert "2 of 4 seeds, first 1." in page


def test_a_hunt_that_was_stopped_before_anything_failed_is_no_pass(tmp_path: Path) -> None:
    hunt = Hunt(Experiment("reference", environment="simulation"), 5, tmp_path / "hunt")
    hunt.interrupted = True
    hunt.write_report()
    assert '<span class="badge unknown">' in hunt.report.read_text()
