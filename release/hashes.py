"""What a release is installed from, each file by its hash, as release/requirements.txt.

``python -m release.hashes`` asks pip which files it would take for each version of Python and each kind of machine. A
file that is not one of them is refused by ``pip install --require-hashes -r release/requirements.txt``, after which
``pip install --no-deps`` installs the product itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
REQUIREMENTS: Final = ROOT / "release" / "requirements.txt"
_PYTHONS: Final = ("3.11", "3.12", "3.13")
_MACHINES: Final = ("x86_64", "aarch64")
_GLIBC: Final = ("2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17", "2014")


def _needed(python: str, machine: str) -> Iterator[Any]:
    """What pip would install there, as its report has it."""
    platforms = [
        word for libc in _GLIBC for word in ("--platform", f"manylinux{'' if libc == '2014' else '_'}{libc}_{machine}")
    ]
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-",
        "--target", "nowhere", "--only-binary", ":all:", "--python-version", python, *platforms,
        "-c", str(ROOT / "constraints.txt"), *_asked_for(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"pip found no way to install for Python {python} on {machine}: {done.stderr.strip()}")
    yield from json.loads(done.stdout)["install"]


def _asked_for() -> list[str]:
    """The product's own dependencies, with those of all that a user may add."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(one for name, of_it in extras.items() if name != "dev" for one in of_it)]


def requirements() -> str:
    """release/requirements.txt."""
    hashes: dict[str, set[str]] = defaultdict(set)
    for python in _PYTHONS:
        for machine in _MACHINES:
            for package in _needed(python, machine):
                about = package["metadata"]
                hashes[f"{about['name']}=={about['version']}"].add(package["download_info"]["archive_info"]["hash"])
    lines = []
    for pin in sorted(hashes, key=str.lower):
        said = (f"--hash={digest.replace('=', ':')}" for digest in sorted(hashes[pin]))
        lines.append(" \\\n    ".join([pin, *said]) + "\n")
    return "".join(lines)


if __name__ == "__main__":
    REQUIREMENTS.write_text(requirements())
