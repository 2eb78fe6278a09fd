"""Tell the file system under the store (``mount``) to misbehave, or to behave again."""

from __future__ import annotations

from typing import Literal, TypedDict

from harness.faults import resident

RESIDENT = "storage"
Kind = Literal["readonly", "errors", "slow", "unreadable", "wrong"]


class Held(TypedDict):
    """How many changes of the store were not synced."""

    pending: int


class Lost(TypedDict):
    """How many changes of the store were lost."""

    lost: int


def begin(kind: Kind, share: float, file: str, seed: str, delay: float) -> None:
    """Let this be wrong from now on, and nothing else; see ``filesystem.Fault``."""
    resident.ask(RESIDENT, {"do": "begin", "kind": kind, "share": share, "file": file, "seed": seed, "delay": delay})


def heal() -> None:
    """Let nothing be wrong from now on."""
    resident.ask(RESIDENT, {"do": "heal"})


def hold(seconds: float) -> Held:
    """Let no sync end until something of the store is not synced, at most so long."""
    held: Held = resident.ask(RESIDENT, {"do": "hold", "seconds": seconds})
    return held


def lose(seed: str | None) -> Lost:
    """Lose what is not synced; with a seed a part of it survives."""
    lost: Lost = resident.ask(RESIDENT, {"do": "lose", "seed": seed})
    return lost


VERBS = (begin, heal, hold, lose)
