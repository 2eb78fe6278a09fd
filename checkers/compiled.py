"""Compiled kernels are kept on disk; where they are not there yet they are compiled in the background."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


def compile_in_background(module: str, kernels: Iterable[Path]) -> None:
    """Run a module that compiles these files, in a process of its own, unless that was done since they were written.

    To start it costs a second of a processor even where there is nothing to do.
    """
    if all(map(_is_compiled, kernels)):
        return
    subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _is_compiled(kernel: Path) -> bool:
    """Whether Numba has put an index of compiled functions beside a file, and later than that was written."""
    indices = (kernel.parent / "__pycache__").glob(f"{kernel.stem}.*.nbi")
    written = kernel.stat().st_mtime
    return any(index.stat().st_mtime >= written for index in indices)
