"""How much the store did: what came of operations each second, and which share of them was served."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.report.charts import OUTCOME_COLOURS, OUTCOMES, Measured, chart, colours, upwards, when
from harness.report.picture import COLOURS, WINDOW, Picture, Specification
from harness.report.story import Story
from harness.words import count


def throughput(story: Story, measured: Measured) -> Picture:
    """Completions a second, by outcome."""
    per_second = completions(measured)
    values = []
    below = np.zeros(len(measured.edges) - 1)
    for code, rate in enumerate(per_second):
        for step in np.flatnonzero(rate).tolist():
            values.append(
                {
                    "at": round(float(measured.edges[step]), 6),
                    "until": round(float(measured.edges[step + 1]), 6),
                    "low": round(float(below[step]), 3),
                    "high": round(float(below[step] + rate[step]), 3),
                    "outcome": OUTCOMES[code],
                    "a second": round(float(rate[step]), 3),
                }
            )
        below = below + rate
    present = [code for code, rate in enumerate(per_second) if rate.any()]
    bars = {
        "data": {"values": values},
        "mark": {"type": "rect", "clip": True, "tooltip": {"content": "data"}},
        "encoding": {
            "x": when("at"),
            "x2": {"field": "until"},
            "y": upwards("low", scale={"domainMax": max(float(below.max()), 1e-9), "domainMin": 0}),
            "y2": {"field": "high"},
            "color": colours("outcome", {OUTCOMES[code]: OUTCOME_COLOURS[code] for code in present}),
        },
    }
    words = (
        f"Operations that ended each second, {measured.steps}: ok; declined (the store "
        "answered, and its answer was no); fail, which did nothing; info, of which nobody knows whether it was done."
    )
    if unanswered := int((~measured.answered).sum()):
        words += f" {count(unanswered, 'operation')} without an answer count at the end of the run."
    return Picture("throughput", "Throughput", words, chart([bars], story, height=150), WINDOW)


def availability(story: Story, measured: Measured) -> Picture:
    """The share of operations that were served, by when they were called."""
    values = shares(measured)
    area: Specification = {
        "data": {"values": values},
        "mark": {"type": "rect", "clip": True, "color": COLOURS["ok"], "opacity": 0.55, "tooltip": {"content": "data"}},
        "encoding": {
            "x": when("at"),
            "x2": {"field": "until"},
            "y": upwards(
                "share", scale={"domain": [0, 1]}, axis={"format": "%", "values": [0, 0.25, 0.5, 0.75, 1], "grid": True}
            ),
            "y2": {"datum": 0},
        },
    }
    missing = [step for step in values if step["share"] < 1]
    lost = {
        "data": {"values": missing},
        "mark": {
            "type": "rect",
            "clip": True,
            "color": COLOURS["lost"],
            "opacity": 0.75,
            "tooltip": {"content": "data"},
        },
        "encoding": {**area["encoding"], "y2": {"datum": 1}},
    }
    words = (
        f"Of the operations that were called in each {measured.length:.2g} s, the share that the store served: green. "
        "What is red was not served; nothing was asked where there is neither."
    )
    layers = [area, lost] if missing else [area]
    return Picture("availability", "Availability", words, chart(layers, story, height=110), WINDOW)


def completions(measured: Measured) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Of each outcome, how many operations ended each second, step by step.

    Those without an answer end when the run does.
    """
    step = measured.step_of(measured.done)
    steps = len(measured.edges) - 1
    counts = np.bincount(measured.outcome * np.int64(steps) + step, minlength=steps * len(OUTCOMES))
    return list(counts.reshape(len(OUTCOMES), steps) / measured.length)


def shares(measured: Measured) -> list[dict[str, Any]]:
    """The share that was served in each step in which anything was asked."""
    step = measured.step_of(measured.call)
    steps = len(measured.edges) - 1
    asked = np.bincount(step, minlength=steps)
    served = np.bincount(step[measured.served], minlength=steps)
    return [
        {
            "at": round(float(measured.edges[at]), 6),
            "until": round(float(measured.edges[at + 1]), 6),
            # Cut off, not rounded: 100 % is all of them.
            "share": int(served[at]) * 10000 // int(asked[at]) / 10000,
            "served": int(served[at]),
            "of": int(asked[at]),
        }
        for at in np.flatnonzero(asked).tolist()
    ]
