"""The server of the lamp, of the standard library alone: it runs inside a node, real or simulated."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence


async def run(arguments: Sequence[str], host: object = None) -> None:
    """Serve until killed; the simulation calls this, with the ``host`` that it makes."""
    address, port, delay, late = arguments
    lit = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lit
        word = json.loads(await reader.readline())
        await asyncio.sleep(float(delay))
        if word == "toggle":
            lit = not lit
        writer.write(json.dumps(lit).encode() + b"\n")
        writer.close()

    await asyncio.sleep(float(late))
    await asyncio.start_server(serve, address, int(port))
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1:]))
