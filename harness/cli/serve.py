"""``splitbrain serve``: a page on loopback over all runs and hunts."""

from __future__ import annotations

import contextlib
import webbrowser
from pathlib import Path

from harness.serving import serve as serving


def serve(folder: Path, port: int, *, browse: bool) -> None:
    """Serve the runs below a folder until the person interrupts it."""

    def ready(address: str) -> None:
        print(f"{address}\n(Ctrl-C ends it)", flush=True)
        if browse:
            webbrowser.open(address)

    with contextlib.suppress(KeyboardInterrupt):
        serving(folder, port, ready)
