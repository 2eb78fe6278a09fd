"""The licences of everything that an installation brings along, as LICENCES.md.

``python -m release.licences`` writes the file from what the installed packages declare of themselves.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
LICENCES: Final = ROOT / "LICENCES.md"
_CLASSIFIER: Final = "License :: OSI Approved :: "
_BEGINNING: Final = """\
# Licences

splitbrain is under the MIT licence (`LICENSE`). It uses these packages, which it does not contain; each is under its
own licence. `python -m release.licences` writes this file anew.

| package | version | licence |
|---|---|---|
"""
_END: Final = """
The node image (`splitbrain images build`) is made of Debian packages: Python, iproute2, iptables, procps, the servers
of the targets, and what these need. Their licences are in `/usr/share/doc/*/copyright` of the image.
"""


def pinned() -> dict[str, str]:
    """The packages of ``constraints.txt``, each with its version."""
    lines = (ROOT / "constraints.txt").read_text().split()
    return dict(line.split("==") for line in lines)


def licence(name: str) -> str:
    """What a package declares: its SPDX expression, else its classifiers, else a line of its own."""
    declared = metadata(name)
    classifiers = [text for text in declared.get_all("Classifier", []) if text.startswith(_CLASSIFIER)]
    (expression, *_), (line, *_) = (declared.get_all(name) or [""] for name in ("License-Expression", "License"))
    said = expression or "; ".join(text.removeprefix(_CLASSIFIER) for text in classifiers)
    return said or (line or "not declared").splitlines()[0]


def table() -> str:
    """The text of LICENCES.md: what the product depends on, and under which licence."""
    rows = []
    for name, version in sorted(pinned().items(), key=lambda pair: pair[0].lower()):
        try:
            rows.append(f"| {name} | {version} | {licence(name)} |\n")
        except PackageNotFoundError:  # of another version of Python
            continue
    return _BEGINNING + "".join(rows) + _END


if __name__ == "__main__":
    LICENCES.write_text(table())
