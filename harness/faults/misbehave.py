"""Tell the file system under the store (``mount``) to misbehave, or to behave again."""

from __future__ import annotations

from typing import Any, Literal

from harness.faults import resident

RESIDENT = "storage"
Do = Literal["begin", "heal", "hold", "lose"]
Kind = Literal["readonly", "errors", "slow", "unreadable", "wrong"]


def begin(kind: Kind, share: float, file: str, seed: str, delay: float) -> None:
    """Let this be wrong from now on, and nothing else; see ``filesystem.Fault``."""
    _tell("begin", kind=kind, share=share, file=file, seed=seed, delay=delay)


def heal() -> None:
    """Let nothing be wrong from now on."""
    _tell("heal")


def hold(seconds: float) -> int:
    """Let no sync end until something of the store is not synced, at most so long; how many of its changes are not."""
    held: int = _tell("hold", seconds=seconds)
    return held


def lose(seed: str | None) -> int:
    """Lose what is not synced; with a seed a part of it survives. How many changes of the store were lost."""
    lost: int = _tell("lose", seed=seed)
    return lost


def _tell(do: Do, **given: object) -> Any:
    return resident.ask(RESIDENT, {"do": do, **given})


VERBS = (begin, heal, hold, lose)
