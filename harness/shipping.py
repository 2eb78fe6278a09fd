"""What nodes are given to run: Python packages of this machine, as files for where there is none of them."""

from __future__ import annotations

import importlib.util
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import MissingError


def folders(packages: Sequence[str]) -> str:
    """Where these packages are on this machine, as ``PYTHONPATH`` has it. Raises ``MissingError``."""
    return os.pathsep.join(dict.fromkeys(str(_located(package)[0]) for package in packages))


def packed(packages: Sequence[str], prefix: str = "") -> bytes:
    """A tar archive of these packages' sources, below ``prefix``; what they are part of is empty beside them.

    The files are root's where they are unpacked, whoever's they are here. Raises ``MissingError``.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in sorted(dict(_files(packages)).items()):
            entry = tarfile.TarInfo(f"{prefix}{name}")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def _files(packages: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for package in packages:
        for parent in Path(*package.split(".")).parents[:-1]:
            yield f"{parent}/__init__.py", b""
    for package in packages:
        root, path = _located(package)
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            yield str(file.relative_to(root)), file.read_bytes()


def _located(package: str) -> tuple[Path, Path]:
    """The folder that a package or module can be imported from, and where it is there itself."""
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise MissingError(f"there is no Python package {package} here, which a node is to be given")
    path = Path(spec.origin)
    depth = package.count(".")
    return (path.parents[depth + 1], path.parent) if spec.submodule_search_locations else (path.parents[depth], path)
