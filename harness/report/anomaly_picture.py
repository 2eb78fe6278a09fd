"""An anomaly as a picture: its operations as bars over time, on the faults and primaries of the moment."""

from __future__ import annotations

from harness.report.anomaly_arrows import arrow_layers
from harness.report.anomaly_layers import (
    bar_labels,
    cut_strips,
    fault_bands,
    over_places,
    primary_lines,
    rectangles,
    time_axis,
)
from harness.report.anomaly_rows import Layout, fault_lanes, other_bars, primary_rows, witness_bars
from harness.report.picture import Picture, Specification, from_top, row_names, specification
from harness.scene import Scene
from harness.words import named, printable


def anomaly_picture(scene: Scene, number: int) -> Picture:
    """The picture of an anomaly by its number; its x is a place on the scene's axis, which may be broken."""
    layout = Layout()
    faults = fault_lanes(scene, layout)
    primaries = primary_rows(scene, layout)
    layout.row(6)
    bars, labels, places = witness_bars(scene, layout)
    others = other_bars(scene, layout, places)
    height = layout.height + 4
    layers = [
        *cut_strips(scene.axis, height),
        *fault_bands(faults, height),
        *primary_lines(primaries),
        *rectangles([bar for bar in others if not bar["open"]], 0.33),
        *rectangles([bar for bar in others if bar["open"]], 0.33, fading=True),
        *rectangles([bar for bar in bars if not bar["open"]], 1),
        *rectangles([bar for bar in bars if bar["open"]], 1, fading=True),
        *arrow_layers(scene, bars),
        *bar_labels(labels),
        *time_axis(scene.axis, height),
    ]
    layers = [_placed(layer, layout, height) for layer in layers]
    drawn = specification(layers, 0, 1, height=int(height))
    drawn["params"] = [*drawn["params"], {"name": "current", "value": -1}, {"name": "rows", "value": _rows(layout)}]
    drawn["usermeta"] = {"points": scene.axis.points}
    title = f"{scene.anomaly.kind}" + (f" of {named(scene.anomaly.key)}" if scene.anomaly.key is not None else "")
    return Picture(f"anomaly-{number}", "", printable(_words(scene, title)), drawn, f"anomaly-{number}")


def _words(scene: Scene, title: str) -> str:
    """What is to be seen."""
    told = [f"{title[:1].upper()}{title[1:]}: operations as bars, a row for each process."]
    told.append(f"Those that show it are red and named, {scene.others_are} are faint.")
    if len(scene.others) < scene.beside:
        told.append(f"Of the others {len(scene.others):,} of {scene.beside:,} are drawn.")
    if scene.looked_at < scene.meanwhile:
        told.append(f"Looked for among the first {scene.looked_at:,} of {scene.meanwhile:,} operations of that time.")
    if scene.seen and scene.anomaly.edges:
        told.append("Red arrows are the steps of the cycle.")
    elif scene.seen:
        told.append("A red arrow leads from a write to what read it.")
    if scene.orders:
        told.append("Grey arrows: certainly before.")
    if any(act.op.ret is None for act in (*scene.acts, *scene.others)):
        told.append("A bar that fades has no known end.")
    if scene.faults:
        told.append("Behind: the faults of that time.")
    if scene.axis.broken:
        told.append("Time is cut short where nothing of it happened; each stretch has a scale of its own.")
    return " ".join(told)


def _placed(layer: Specification, layout: Layout, height: float) -> Specification:
    """A layer with its y: pixels from the top, with the names of the rows at the axis."""
    names = "containerSize()[0] < 600 ? rows.short : rows.label"
    axis = {**row_names([place for place, _, _ in layout.labels], names), "labelLimit": 150, "labelPadding": 6}
    encoding = {"x": over_places("x"), "y": from_top(height, axis), **layer.get("encoding", {})}
    return {**layer, "encoding": encoding}


def _rows(layout: Layout) -> dict[str, list[str]]:
    return {"label": [label for _, label, _ in layout.labels], "short": [short for _, _, short in layout.labels]}
