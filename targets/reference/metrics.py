"""Each node's metrics: Prometheus' text format at ``/metrics``, over just enough HTTP for a scrape."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from harness.targets.reference.replica import Replica

METRICS_PORT: Final = 6402
_MEANINGS: Final[Mapping[str, str]] = {
    "term": "The term that the node is in.",
    "log_entries": "Entries in the log or records in the journal.",
    "log_last": "The number of the last log entry.",
    "committed": "The number of the last committed log entry.",
    "applied": "The number of the last log entry that the node has applied.",
    "lag": "Entries, keys or hints that the node or its slowest peer lacks.",
    "keys": "Keys that the node holds.",
    "conflicts": "Merges of two values of which neither knew of the other.",
    "hints": "Values held for other nodes.",
    "storage_bytes": "Bytes in the node's files.",
}
_ROLES: Final = ("primary", "backup", "candidate", "peer")


def text(status: Mapping[str, Any]) -> str:
    """A replica's status in Prometheus' text format."""
    lines = ["# HELP splitbrain_role 1 for the role that the node believes to have.", "# TYPE splitbrain_role gauge"]
    lines += [f'splitbrain_role{{role="{role}"}} {int(status["role"] == role)}' for role in _ROLES]
    for name, meaning in _MEANINGS.items():
        if name in status:
            lines += [f"# HELP splitbrain_{name} {meaning}", f"# TYPE splitbrain_{name} gauge"]
            lines.append(f"splitbrain_{name} {status[name]}")
    return "\n".join(lines) + "\n"


async def serve(address: str, replica: Replica) -> None:
    """Answer scrapes from now on."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            async with asyncio.timeout(10):
                request = (await reader.readline()).split()
                while (await reader.readline()).strip():
                    pass
            is_scrape = request[:2] == [b"GET", b"/metrics"]
            body = (text(replica.status()) if is_scrape else "only GET /metrics is here\n").encode()
            head = (
                f"HTTP/1.1 {'200 OK' if is_scrape else '404 Not Found'}\r\nContent-Type: text/plain; version=0.0.4\r\n"
            )
            writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    await asyncio.start_server(answer, address, METRICS_PORT)
