"""What can have become of an acknowledged write: the names of fates, and the fate of what has several parts."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FATES: Final = ("kept", "lost", "overwritten", "unknown")
KEPT, LOST, OVERWRITTEN, UNKNOWN = range(4)
"""Codes into ``FATES``."""
Fates = NDArray[np.int8]


def of_wholes(whole: NDArray[Any], fate: Fates, wholes: int) -> Fates:
    """The fate of each of some wholes, from those of their parts; ``whole`` is that of each part.

    One is lost where any part of it is. Else it is kept where some part is and all others are overwritten; it is
    overwritten where all parts are; and unknown where that of any part is, or where it has none.
    """
    has = np.zeros((wholes, len(FATES)), dtype=bool)
    has[whole, fate] = True
    first = (LOST, UNKNOWN, KEPT, OVERWRITTEN)
    return np.select([has[:, one] for one in first], first, UNKNOWN).astype(np.int8)
