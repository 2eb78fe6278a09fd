"""The tools by which faults are made and measured, and what each is for.

A tool is a module here. What it can be asked is in its ``VERBS``: functions whose arguments and answers JSON can hold.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from harness.faults import (
    addresses,
    clock,
    dial,
    disk,
    guard,
    limits,
    listeners,
    misbehave,
    netem,
    network,
    probe,
    process,
    squeeze,
    witness,
)


class Tool(NamedTuple):
    """A module that is run inside the nodes, and what environments have to know of it."""

    module: ModuleType
    capabilities: tuple[str, ...] = ()
    """What it is needed for: an environment that cannot run it has none of these."""
    measures: tuple[Callable[..., object], ...] = ()
    """What of it only measures, and may run on the machine that drives the clients as well."""
    attempt: Callable[[], object] | None = None
    """Tries it on what nobody else uses, where it depends on the kernel. Raises ``SystemExit`` with why not."""
    undo: Callable[[], object] | None = None
    """How the leash undoes on a host whatever it has done, where the end of the run's servers and data does not."""


TOOLS = (
    Tool(process, ("kill", "pause"), undo=process.kill),
    Tool(clock, ("clock",), attempt=clock.attempt, undo=clock.let_go),
    Tool(network, ("partition",), undo=network.heal),
    Tool(netem, ("netem",), attempt=netem.mechanism, undo=netem.mend),
    Tool(squeeze, ("squeeze",), attempt=squeeze.controllers, undo=squeeze.heal),
    Tool(disk, ("disk",)),
    Tool(misbehave, ("storage",)),
    Tool(witness, ("disk", "storage")),
    Tool(probe, ("partition", "netem"), measures=(probe.watch,)),
    Tool(addresses, ("partition", "netem"), measures=(addresses.further,)),
    Tool(dial, ("clock",), measures=(dial.watch,)),
    Tool(limits, ("squeeze",), measures=(limits.look,)),
    Tool(listeners, measures=(listeners.watch,)),
    Tool(guard, measures=(guard.knock,), undo=guard.take_down),
)
"""In the order in which they are undone: first the servers, so that nothing else meets a change."""
TRIED = tuple(name for tool in TOOLS if tool.attempt is not None for name in tool.capabilities)
"""The capabilities that depend on the kernel."""
