"""Which code a result is of: a digest of the product's source, of installed plug-ins', and of a person's own files."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.experiment import Experiment
from harness.plugins import packages


def fingerprint(experiment: Experiment) -> str:
    """The same for the same code, wherever it is installed; 12 hexadecimal digits.

    Covers the packages of all plug-ins that are installed, this product's among them, and every file of a person's own
    that the experiment names, with the files beside it and what it has imported from below its folder: call it when
    the plug-ins are loaded.
    """
    files = {name: path for package in packages() for name, path in _sources(package)}
    plugins = (experiment.target, experiment.workload, *experiment.nemeses, *experiment.checkers)
    named = [*plugins, *experiment.options.values()]
    files |= {str(path): path for path in _named(named)}
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        content = path.read_bytes()
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _sources(package: str) -> Iterator[tuple[str, Path]]:
    """The source files of an installed package, or of a module that is a package's worth by itself."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module that is not of any file, as __main__
        spec = None
    if spec is None:
        return
    for folder in map(Path, spec.submodule_search_locations or ()):
        for path in folder.rglob("*.py"):
            yield f"{package.replace('.', '/')}/{path.relative_to(folder)}", path
    if not spec.submodule_search_locations and spec.has_location and spec.origin is not None:
        yield package, Path(spec.origin)


def _named(names: Iterable[str]) -> Iterator[Path]:
    """The files behind ``FILE.py:Class`` and ``MODULE:FUNCTION``; what names no code has none."""
    for name in names:
        before, colon, _ = name.rpartition(":")
        if before.endswith(".py") and Path(before).is_file():
            path = Path(before).resolve()
            yield from path.parent.glob("*.py")
            yield from _imported_below(path.parent)
        elif colon and (package := before.partition(".")[0]).isidentifier():
            yield from (path for _, path in _sources(package))


def _imported_below(folder: Path) -> Iterator[Path]:
    """The modules of a folder that have been imported, but for what was installed into it."""
    for module in list(sys.modules.values()):
        path = Path(getattr(module, "__file__", None) or "/")
        if path.suffix == ".py" and folder in path.parents and "site-packages" not in path.parts:
            yield path
