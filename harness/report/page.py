"""The report of a run: its sections, in order."""

from __future__ import annotations

from typing import Final

from harness.report.anomalies import anomaly_section
from harness.report.headline import headline
from harness.report.history_table import history_table
from harness.report.messages import messages
from harness.report.primaries import primaries
from harness.report.run import run
from harness.report.sheet import sheet
from harness.report.story import Story
from harness.report.tested import tested

_SCRIPTS: Final = ("pictures.js", "anomalies.js", "minimap.js", "history_data.js", "history.js")
_STYLES: Final = ("page.css", "anomalies.css", "primaries.css", "run.css", "history.css", "logs.css")


def page(story: Story) -> str:
    """The report of a run, as HTML."""
    return sheet(
        "page.html.j2",
        scripts=_SCRIPTS,
        styles=_STYLES,
        story=story,
        headline=headline(story),
        primaries=primaries(story),
        tested=tested(story),
        anomalies=anomaly_section(story),
        run=run(story),
        messages=messages(story),
        history_table=history_table(story),
        node_logs=story.logs,
        logs=[str(path.relative_to(story.directory.path)) for path in sorted(story.directory.logs.rglob("*.log"))],
    )
