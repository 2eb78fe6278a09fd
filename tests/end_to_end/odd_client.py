"""The source of a client of one's own that does something odd in the middle of a run: tests write it to a file."""

from __future__ import annotations

from typing import Final

ODD_CLIENT: Final = """
class Client:
    ODD = 5
    def __init__(self, inner): self.inner, self.count = inner, 0
    async def open(self): await self.inner.open()
    async def close(self): await self.inner.close()
    async def invoke(self, operation):
        self.count += 1
        return await (self.odd(operation) if self.count == self.ODD else self.inner.invoke(operation))
"""
"""``odd(operation)`` takes the place of the operation whose number is ``ODD``."""
