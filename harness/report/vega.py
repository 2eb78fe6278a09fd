"""Vega, which draws the pictures: its script for pages, and pictures as files.

The script, and what draws without a browser, ship inside the package ``vl-convert-python``; nothing is fetched.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from harness.plain_files import write_whole
from harness.report.picture import Picture

_PAPER: Final = {"background": "white", "font": "sans-serif"}
_WIDTH: Final = 960
"""How wide a picture is that stands by itself."""


@functools.cache
def script() -> str:
    """Vega, Vega-Lite and vega-embed as one script, without anything that evaluates text.

    To bundle it takes a second, so that it is kept beside this module's byte code, and trusted as that is.
    """
    kept = Path(importlib.util.cache_from_source(__file__)).with_name(f"vega-{version('vl-convert-python')}.js")
    try:
        return kept.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        import vl_convert  # 80 MB, which nobody needs who has the script

        bundled: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # it has a default
    with contextlib.suppress(OSError):  # it is bundled again the next time
        kept.parent.mkdir(exist_ok=True)
        write_whole(kept, bundled.encode())
    return bundled


def as_svg(picture: Picture) -> str:
    """A picture with its title, as SVG."""
    import vl_convert

    drawn: str = vl_convert.vegalite_to_svg(_alone(picture))
    return drawn


def as_png(picture: Picture) -> bytes:
    """A picture with its title, as PNG, at twice its size."""
    import vl_convert

    drawn: bytes = vl_convert.vegalite_to_png(_alone(picture), scale=2)
    return drawn


def _alone(picture: Picture) -> dict[str, Any]:
    """A picture on paper of its own: as wide as it should be where no page says it."""
    given = picture.specification
    wide = {"width": _WIDTH} if given.get("width") == "container" else {}
    title = {"text": picture.title, "anchor": "start", "fontSize": 15}
    return {**given, **wide, "title": title, "config": {**given.get("config", {}), **_PAPER}}
