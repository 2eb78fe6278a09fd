"""Anomalies in the report: pictures, cycles, the index; and the same in the terminal."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from harness.cli import report as command
from harness.console.anomaly import anomaly_lines, print_anomaly
from harness.errors import UsageError
from harness.experiment import Experiment
from harness.history import History, from_events
from harness.recording import Recorder
from harness.report import vega
from harness.report.anomalies import Anomalies, anomaly_section
from harness.report.anomaly_picture import anomaly_picture
from harness.report.cycle import cycle
from harness.report.page import page
from harness.report.picture import Picture
from harness.report.story import Story
from harness.run_directory import RunDirectory
from harness.verdict import Anomaly, Edge, Order, Step, Verdict, Witness
from tests.unit.test_scene import MS, of_transaction, scene_of, stale, transactions

HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m'\"]+alert(1)"
ORDER = Order("nothing", [Step(0, "write(1)", "1"), Step(2, "write(2)", "2")], [Step(4, "read() → 1")])


def drawn(history: History, anomaly: Anomaly) -> Picture:
    return anomaly_picture(scene_of(history, anomaly), 1)


def data(picture: Picture, *fields: str) -> list[dict[str, Any]]:
    """All data of layers that have these fields."""
    layers = picture.specification["layer"]
    return [datum for layer in layers for datum in layer["data"]["values"] if all(field in datum for field in fields)]


def told(tmp_path: Path, anomalies: list[Anomaly], history: History) -> Anomalies:
    directory = RunDirectory.create(tmp_path, Experiment("reference"))
    section = anomaly_section(
        Story(directory, Experiment("reference"), Verdict("invalid", "wrong", anomalies), history)
    )
    assert section is not None
    return section


def test_witnesses_stand_out_and_lead_to_the_history() -> None:
    history, anomaly = stale()
    picture = drawn(history, anomaly)
    bars = [bar for bar in data(picture, "what") if "number" in bar]
    assert [bar["op"] for bar in bars] == [op.index for op in anomaly.operations]
    assert {bar["colour"] for bar in bars} == {"#d43d51"}
    assert {label["text"] for label in data(picture, "text", "mark")} == {
        "A: write 1 at n1",
        "B: write 2 at n2",
        "C: read 1 at n1, not 2",
    }
    assert any(bar["open"] for bar in data(picture, "what"))
    assert "red" in picture.words
    assert "fades" in picture.words
    assert picture.window == picture.name == "anomaly-1"


def test_a_sample_is_said_to_be_one() -> None:
    history, anomaly = stale(500)
    assert "Of the others 300 of 501 are drawn." in drawn(history, anomaly).words


def test_what_is_beside_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.scene._LOOKED_AT", 10)
    history = transactions(30)
    about = drawn(history, of_transaction(4, 1)).words
    assert "others on the same keys are faint" in about
    assert "Looked for among the first 10 of 30 operations of that time." in about
    assert "others on the same keys, looked for among the first 10 of 30" in " ".join(
        line for line, _ in anomaly_lines(of_transaction(4, 1), scene_of(history, of_transaction(4, 1)), 1)
    ).replace("\n", " ")
    about = drawn(history, of_transaction(4, None)).words
    assert "others at the same time are faint" in about
    assert "Looked for" not in about


def test_labels_do_not_lie_on_each_other() -> None:
    events = [Witness(0, "write", "x", number, number * MS, number * MS + 1000, "ok", "n1") for number in range(8)]
    picture = drawn(stale()[0], Anomaly("many", "", events, "x"))
    labels = data(picture, "text", "mark")
    assert len({label["y"] for label in labels}) > 1
    for label in labels:
        for other in labels:
            if label is not other and label["y"] == other["y"] and label["align"] == other["align"]:
                assert abs(label["x"] - other["x"]) * 860 > 6 * len(label["text"]) * 0.9


def test_a_picture_can_be_a_file() -> None:
    history, anomaly = stale()
    svg = vega.as_svg(drawn(history, anomaly))
    assert "C: read 1 at n1, not 2" in svg
    assert "partition (n1 | n2)" in svg


def test_what_a_store_says_is_data_alone() -> None:
    events = [Witness(0, HOSTILE, HOSTILE, HOSTILE, 0, 5, "ok", HOSTILE, 0)]
    picture = drawn(
        stale()[0], Anomaly(HOSTILE, HOSTILE, events, HOSTILE, [HOSTILE], [Edge(HOSTILE, 0, 0, HOSTILE, HOSTILE)])
    )
    for layer in picture.specification["layer"]:
        assert "alert" not in json.dumps({**layer, "data": None})
    assert "</script" not in str(picture.data)
    assert "\x1b" not in picture.words
    vega.as_svg(picture)


def ring(length: int) -> Anomaly:
    edges = [Edge("ww", n, (n + 1) % length, f"T{n} came first", f"k{n}") for n in range(length)]
    operations = [Witness(n, "txn", None, [["w", f"k{n}", n]], n, n + 100, "ok", "n1", n) for n in range(length)]
    return Anomaly("G0", "a ring", operations, None, [], edges)


@pytest.mark.parametrize("length", [2, 3, 5, 12, 40])
def test_every_cycle_fits_on_a_telephone_and_tells_all_edges(length: int) -> None:
    drawing = cycle(ring(length))
    assert drawing is not None
    assert drawing.width <= 340
    assert len(drawing.edges) == length
    assert len(drawing.nodes) == len(drawing.arrows) == min(length, 13)
    assert all(0 <= node.y <= drawing.height for node in drawing.nodes)
    assert [label for _, label in drawing.edges][:2] == ["ww k0", "ww k1"]


def test_no_cycle_is_drawn_without_edges() -> None:
    assert cycle(Anomaly("kind", "text")) is None


def test_many_anomalies_have_an_index_and_are_closed(tmp_path: Path) -> None:
    history, anomaly = stale()
    many = [msgspec.structs.replace(anomaly, kind=f"kind {n % 2}", key=f"k{n % 3}") for n in range(200)]
    section = told(tmp_path, many, history)
    assert [group.kind for group in section.groups] == ["kind 0"] * 3 + ["kind 1"] * 3
    assert sorted(number for group in section.groups for number in group.numbers) == list(range(1, 201))
    assert [entry.open for entry in section.told[:3]] == [True, False, False]
    few = told(tmp_path, many[:5], history)
    assert few.groups == []
    assert all(entry.open for entry in few.told)


def test_the_pictures_of_many_anomalies_stay_small(tmp_path: Path) -> None:
    history, anomaly = stale(500)
    section = told(tmp_path, [anomaly] * 200, history)
    assert sum(len(entry.picture.data) for entry in section.told if entry.picture) < 8_000_000


def test_the_page_steps_through_orders_and_links_operations(tmp_path: Path) -> None:
    history, anomaly = stale()
    anomaly.orders = [ORDER]
    directory = RunDirectory.create(tmp_path, Experiment("reference"))
    html = page(Story(directory, Experiment("reference"), Verdict("invalid", "wrong", [anomaly]), history))
    assert 'href="#op-0"' in html
    assert 'data-op="4" class="stuck"' in html
    assert "Of the orders that were tried these get furthest" in html
    assert "none can go on" not in html
    assert "In a correct store C could only have found 2." in html


def lines_of(anomaly: Anomaly, history: History | None = None, width: int = 80) -> list[str]:
    scene = None if history is None else scene_of(history, anomaly)
    return [line for line, _ in anomaly_lines(anomaly, scene, 7, width)]


def test_the_terminal_draws_the_operations_over_time() -> None:
    history, anomaly = stale()
    anomaly.orders = [ORDER]
    lines = lines_of(anomaly, history)
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "7. stale read on x"
    rows = {line[:15].strip(): line[15:] for line in lines if line[:15].strip().startswith("process")}
    assert list(rows) == ["process 0", "process 1", "process 4"]
    assert [next(iter(re.findall("[ABC]", row))) for row in rows.values()] == ["A", "B", "C"]
    assert rows["process 0"].index("A") < rows["process 1"].index("B") < rows["process 4"].index("C")
    assert "C  process 4 at n1: read 1, 3.0000 s to 3.0010 s" in lines
    assert "  read() → 1  cannot come next: it holds 2" in lines
    assert any(line.startswith("partition") and "▒" in line for line in lines)


def test_the_terminal_shows_a_cycle_with_its_arrows() -> None:
    lines = lines_of(ring(2))
    assert "T0 ──ww k0──▶ T1" in lines
    assert "T1 → T0 (ww): T1 came first" in lines


def test_nothing_steers_the_terminal() -> None:
    console = Console(file=io.StringIO(), width=80, highlight=False, color_system=None)
    witness = Witness(0, HOSTILE, HOSTILE, HOSTILE, 0, None, "info", HOSTILE, 0)
    anomaly = Anomaly(
        HOSTILE,
        HOSTILE,
        [witness],
        HOSTILE,
        [HOSTILE],
        [],
        [Order(HOSTILE, [Step(0, HOSTILE, HOSTILE)], [Step(0, HOSTILE)])],
    )
    print_anomaly(console, anomaly, scene_of(stale()[0], anomaly), 1)
    assert "\x1b" not in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """The directory of a run with two anomalies, one of which rests on no operations."""
    history, anomaly = stale()
    directory = RunDirectory.create(tmp_path, Experiment("reference"))
    with_recorder(directory, history)
    directory.write_verdict(
        Verdict("invalid", "wrong", [anomaly, Anomaly("bare", "nothing")]), Experiment("reference"), 1
    )
    return directory


def with_recorder(directory: RunDirectory, history: History) -> None:
    recorder = Recorder(directory.history)
    for event in history.events():
        recorder.record(event)
    recorder.close()


def test_a_report_is_made_again_of_the_verdict(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    before = run.verdict.read_bytes()
    command.report(run.path, "html", None, None, show=False)
    assert capsys.readouterr().out == f"{run.report}\n"
    assert "stale read" in run.report.read_text()
    assert run.verdict.read_bytes() == before


@pytest.mark.parametrize(("form", "begins"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_one_picture_is_written_as_a_file(run: RunDirectory, tmp_path: Path, form: str, begins: bytes) -> None:
    command.report(run.path, form, 1, tmp_path / "mine", show=False)
    assert (tmp_path / "mine").read_bytes().startswith(begins)
    command.report(run.path, form, 1, None, show=False)
    assert (run.path / f"anomaly-1.{form}").exists()


def test_a_report_is_opened_at_its_anomaly(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def opens(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", opens)
    command.report(run.path, "html", 1, None, show=True)
    assert opened == [f"{run.report.resolve().as_uri()}#anomaly-1"]


def test_an_anomaly_is_explained(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    command.explain(run.path, None)
    text = capsys.readouterr().out
    assert text.startswith("1. stale read on x\n")
    assert text.endswith("2 anomalies are explained: add the number of one\n")
    command.explain(run.path, 2)
    assert capsys.readouterr().out == "2. bare\nnothing\n"
    with pytest.raises(UsageError, match="there is no anomaly 0"):
        command.explain(run.path, 0)


@pytest.mark.parametrize(
    ("form", "number", "reason"),
    [
        ("svg", 2, "anomaly 2 rests on no operations that could be drawn"),
        ("svg", 3, "there is no anomaly 3: 1 to 2 are explained"),
        ("html", 0, "there is no anomaly 0: 1 to 2 are explained"),
    ],
)
def test_what_cannot_be_drawn_is_refused(run: RunDirectory, form: str, number: int, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        command.report(run.path, form, number, None, show=False)


def test_a_run_without_a_verdict_or_anomalies_is_refused(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        command.report(run.path, "html", None, tmp_path / "no" / "such", show=False)
    run.write_verdict(Verdict("valid"), Experiment("reference"), 1)
    with pytest.raises(UsageError, match="the run has no anomalies"):
        command.explain(run.path, None)
    run.verdict.write_text("{}")
    with pytest.raises(UsageError, match="is not a verdict"):
        command.explain(run.path, None)
    run.verdict.unlink()
    with pytest.raises(UsageError, match="has no verdict"):
        command.explain(run.path, None)
    with pytest.raises(UsageError, match="is no run's directory"):
        command.explain(tmp_path, None)


def test_an_empty_history_has_a_section_all_the_same(tmp_path: Path) -> None:
    section = told(
        tmp_path, [Anomaly("seen", "some", [Witness(1, "read", "k", None, 0, 10, "ok", "n1")])], from_events([])
    )
    assert section.told[0].picture is not None
