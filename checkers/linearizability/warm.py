"""Compile the search's kernels and keep them on disk: ``python -m harness.checkers.linearizability.warm``."""

from __future__ import annotations


def warm() -> None:
    """Run each kernel once on next to nothing; what is compiled already is only loaded."""
    from harness.checkers.linearizability.model import Call
    from harness.checkers.linearizability.register_models import Register
    from harness.checkers.linearizability.search import Timed, search
    from harness.verdict import Budget

    write, read = Call("write", None, 1, None), Call("read", None, None, 1)
    for depth_first in (True, False):
        search(Register(), [Timed(write, 0, 2, 0), Timed(read, 1, 3, 1)], Budget(), depth_first=depth_first)


if __name__ == "__main__":
    import os

    os.nice(19)
    warm()
