"""Tell the file system under the store (``mount``) to misbehave, or to behave again."""

from __future__ import annotations

from typing import Literal

from harness.faults import resident

RESIDENT = "storage"
Kind = Literal["readonly", "errors", "slow", "unreadable", "wrong"]


def begin(kind: Kind, share: float, file: str, seed: str, delay: float) -> None:
    """Let this be wrong from now on, and nothing else; see ``filesystem.Fault``."""
    resident.ask(RESIDENT, {"do": "begin", "kind": kind, "share": share, "file": file, "seed": seed, "delay": delay})


def heal() -> None:
    """Let nothing be wrong from now on."""
    resident.ask(RESIDENT, {"do": "heal"})


def hold(seconds: float) -> int:
    """Let no sync end until something of the store is not synced, at most so long; how many of its changes are not."""
    held: int = resident.ask(RESIDENT, {"do": "hold", "seconds": seconds})
    return held


def lose(seed: str | None) -> int:
    """Lose what is not synced; with a seed a part of it survives. How many changes of the store were lost."""
    lost: int = resident.ask(RESIDENT, {"do": "lose", "seed": seed})
    return lost


VERBS = (begin, heal, hold, lose)
