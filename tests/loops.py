"""The event loop on virtual time, for tests that need nothing else of the simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from harness.environments.simulation.loop import SimulatedLoop

simulated_loop = cast("Callable[[], SimulatedLoop]", SimulatedLoop)
"""Makes one. A type checker takes the class for abstract: it has no more methods of a loop than anybody calls."""
