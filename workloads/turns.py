"""Operations that depend on who invokes them: what a process holds decides what it does next."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct

from harness.generator import Context, Generator, Pending, Process, Step
from harness.operation import Event, Operation


class Turns(Struct, frozen=True):
    """The process that has been free for longest does what ``draw`` says of it, for ever; ``learn`` hears of events."""

    draw: Callable[[Process], Operation]
    learn: Callable[[Event], None]
    _drawn: dict[Process, Operation] = msgspec.field(default_factory=dict)

    def next(self, context: Context) -> tuple[Step | Pending, Generator] | None:
        if not context.free:
            return context.starve(), self
        process = context.free[0]
        if process not in self._drawn:
            self._drawn[process] = self.draw(process)
        left = {other: operation for other, operation in self._drawn.items() if other != process}
        return Step(context.time, process, self._drawn[process]), Turns(self.draw, self.learn, left)

    def update(self, event: Event) -> Generator:
        self.learn(event)
        return self
