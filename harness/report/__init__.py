"""The HTML report: one self-contained file for whoever must understand what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from harness.availability import availability_lines
from harness.drawing import as_svg
from harness.experiment import Experiment
from harness.history import FAIL, INFO, OK, History
from harness.periods import Period, describe, fault_periods, turns_of
from harness.recording import read_jsonl
from harness.replication import replication_lines
from harness.run_directory import RunDirectory
from harness.summary import anomaly_count, evidence_lines, unknown_lines
from harness.verdict import Anomaly, Verdict, Witness
from harness.words import named, operation, printable, show

_WIDTH = 1000
_BUCKETS = 100
_CHART, _LANE, _MOST_LANES, _CHARACTER = 140, 14, 8, 7.5
_LEFT, _RIGHT, _ROW = 150, 980, 30
_STEPS = 16
"""The most micro-operations of a transaction that are written out."""
_ELEMENTS = 12
"""The most elements of a list that are."""


def write_report(
    directory: RunDirectory, experiment: Experiment, verdict: Verdict, history: History | None = None
) -> None:
    """Write ``report.html`` into the run's directory, of the history in it or the one that is given."""
    try:
        page = _page(directory, experiment, verdict, read_jsonl(directory.history) if history is None else history)
    except Exception as error:
        # The verdict does not depend on its picture.
        directory.lost.append(f"{directory.report} could not be made: {type(error).__name__}: {error}")
    else:
        directory.save(directory.report, printable(page).encode())


def _page(directory: RunDirectory, experiment: Experiment, verdict: Verdict, history: History) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(
        experiment=experiment,
        verdict=verdict,
        anomaly_count=anomaly_count(verdict),
        unknown=unknown_lines(verdict),
        evidence=evidence_lines({**verdict.evidence, "faults": {}}),
        availability=[*availability_lines(verdict.evidence), *replication_lines(verdict.evidence)],
        turns=turns_of(verdict.evidence),
        periods=[(period, describe(period)) for period in fault_periods(history)],
        overview=_overview(history),
        anomalies=[
            (anomaly, _timeline(anomaly) if anomaly.operations else None, as_svg(anomaly.edges))
            for anomaly in verdict.anomalies
        ],
        words=_words,
        name=_name,
        logs=[str(p.relative_to(directory.path)) for p in sorted(directory.logs.rglob("*.log"))],
    )


def _overview(history: History) -> dict[str, Any]:
    """Operations over time by outcome, and the periods of faults, in the coordinates of the picture."""
    end = max(int(history.time[-1]) if len(history) else 0, 1)
    operations = history.operations()
    edges = np.linspace(0, end, _BUCKETS + 1)
    last = np.where(operations.completed >= 0, operations.completed, operations.invoked)
    done = history.time[last]
    counts = {
        name: np.histogram(done[operations.type == code], edges)[0]
        for name, code in (("ok", OK), ("fail", FAIL), ("info", INFO))
    }
    highest = max(int(np.sum(list(counts.values()), axis=0).max()), 1)
    bands = [_band(period, end) for period in fault_periods(history)]
    lanes = _label(bands)
    bars = []
    for bucket in range(_BUCKETS):
        bottom = 0.0
        for name, column in counts.items():
            height = 120 * int(column[bucket]) / highest
            if height:
                x = bucket * _WIDTH / _BUCKETS
                bars.append({"x": x, "y": 120 - bottom - height, "height": height, "type": name})
            bottom += height
    return {
        "width": _WIDTH,
        "bar": _WIDTH / _BUCKETS - 1,
        "seconds": end / 1e9,
        "bars": bars,
        "highest": round(highest / (end / 1e9 / _BUCKETS)),
        "faults": bands,
        "height": _CHART + _LANE * len(lanes) + 26,
    }


def _label(bands: list[dict[str, Any]]) -> list[float]:
    """Place the names of faults below the chart, in lanes so that none lies over another; return where each lane ends.

    A fault for which no lane is free has no label: its band still tells all when it is pointed at.
    """
    ends: list[float] = []
    for band in bands:
        width = _CHARACTER * len(band["name"]) + _CHARACTER
        x = max(min(band["x"], _WIDTH - width), 0)
        lane = next((number for number, end in enumerate(ends) if end <= x), len(ends))
        if lane == _MOST_LANES:
            continue
        ends[lane : lane + 1] = [x + width]
        band["label"] = {"x": x, "y": _CHART + _LANE * (lane + 1), "width": width}
    return ends


def _band(period: Period, end: int) -> dict[str, Any]:
    return {
        "x": period.start * _WIDTH / end,
        "width": max((period.end - period.start) * _WIDTH / end, 1),
        "text": f"{describe(period)}, {period.start / 1e9:.2f} s to {period.end / 1e9:.2f} s",
        "name": period.name,
        "label": None,
        "proved": period.proved,
    }


def _words(op: Witness) -> str:
    """An operation in a few words; a transaction by what it did to each key: ``r 16 nil; append 4 7``."""
    if op.f == "txn" and isinstance(op.value, list | tuple) and op.value:
        told = "; ".join(map(_step, op.value[:_STEPS]))
        more = len(op.value) - _STEPS
        return f"{told}; {more} more" if more > 0 else told
    return operation(op.f, op.value, answered=op.type == "ok")


def _step(step: Any) -> str:
    """One micro-operation of a transaction, as the field writes it."""
    if not isinstance(step, list | tuple):
        return show(step)
    return " ".join(named(part) if number == 0 else _plain(part) for number, part in enumerate(step))


def _plain(value: Any) -> str:
    """A value in a micro-operation; of a long list the end."""
    if value is None:
        return "nil"
    if isinstance(value, list | tuple):
        left_out = "... " if len(value) > _ELEMENTS else ""
        return f"[{left_out}{' '.join(map(_plain, value[-_ELEMENTS:]))}]"
    return named(value) if isinstance(value, str) else show(value)


def _name(anomaly: Anomaly, op: Witness) -> str:
    """What texts and the drawing of a cycle call an operation."""
    return f"T{op.index}: " if op.index is not None and (anomaly.edges or op.f == "txn") else ""


def _timeline(anomaly: Anomaly) -> dict[str, Any]:
    """The operations of an anomaly as bars, one row each, in the order of their invocations."""
    start = min(op.call for op in anomaly.operations)
    last = max(op.call if op.ret is None else op.ret for op in anomaly.operations)
    scale = (_RIGHT - _LEFT) / max(last - start, 1)
    bars = []
    for row, op in enumerate(anomaly.operations):
        x = _LEFT + (op.call - start) * scale
        right = _WIDTH if op.ret is None else _LEFT + (op.ret - start) * scale
        bars.append(
            {
                "x": x,
                "width": max(right - x, 3),
                "y": 4 + _ROW * row,
                "who": f"{_name(anomaly, op)}process {op.process}" + (f" on {op.node}" if op.node else ""),
                "label": _words(op),
                "operation": op,
                "open": op.ret is None,
                "end": x > _WIDTH * 0.7,
            }
        )
    height = _ROW * len(bars) + 24
    return {"bars": bars, "left": _LEFT, "right": _RIGHT, "height": height, "start": start / 1e9, "end": last / 1e9}
