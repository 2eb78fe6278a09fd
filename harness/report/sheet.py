"""An HTML page of ours: its template, style and scripts, and a policy that lets nothing else run or load."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from harness.report import vega
from harness.report.picture import embedded
from harness.words import count, printable

_TEMPLATES: Final = Path(__file__).parent / "template"


def sheet(template: str, *, styles: Sequence[str], scripts: Sequence[str] = (), **values: Any) -> str:
    """A page of a template with these styles and scripts of its folder; with any script, Vega comes first.

    Whatever stores have said in it is printable.
    """
    run = [_inline(vega.script()), *(_inline(_text(name)) for name in scripts)] if scripts else []
    look = [_text(name) for name in styles]
    page = (
        _environment()
        .get_template(template)
        .render(
            policy=_policy(run, look),
            scripts=[Markup(script) for script in run],  # noqa: S704
            styles=[Markup(style) for style in look],  # noqa: S704
            **values,
        )
    )
    return printable(page)


def _policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """A content security policy: these scripts and styles and no others, and nothing from anywhere.

    Vega places what it draws by style attributes, which is all that is allowed beside the styles.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_sources(scripts)}",
            f"style-src-elem {_sources(styles)}",
            "style-src-attr 'unsafe-inline'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'self'",
        )
    )


def _sources(texts: Sequence[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded"] = embedded
    environment.filters["counted"] = count
    # Names of files are bytes, which need not be text.
    environment.filters["urlencode"] = lambda name: quote(os.fsencode(name))
    return environment


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _inline(script: str) -> str:
    """A script that can stand in a page: nothing in it ends its element."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
