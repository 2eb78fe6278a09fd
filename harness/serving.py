"""A page on loopback over all runs and hunts below a folder.

Other users of the machine can reach loopback as well: every address begins with a secret that is drawn anew each time.
Only what runs write is served, and nothing that a link leads to.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

from aiohttp import web

from harness.errors import SplitbrainError, UsageError
from harness.report import write_report_again
from harness.report.comparison import comparison
from harness.report.gallery import gallery
from harness.report.story import DAMAGED

_FILES: Final = ("report.html", "experiment.json", "timetable.json", "history.jsonl", "verdict.json", "junit.xml")
_OF_REPORTS: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "sandbox allow-scripts allow-downloads"
)
"""What a report may do that somebody else has made, and whose own policy nobody knows: it sees no other page."""
_HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def application(folder: Path, secret: str) -> web.Application:
    """What serves the runs below a folder: the pages over all under a secret, each run's files under one of its own.

    A page of a run can send its own address somewhere; it opens nothing else.
    """
    pages = _Pages(folder.resolve(), secret)
    served = web.Application()
    served.add_routes(
        [
            web.get(f"/{secret}/", pages.gallery),
            web.get(f"/{secret}/compare", pages.comparison),
            web.get("/runs/{key}/{where:.+}/-/{file:.+}", pages.file),
        ]
    )
    served.on_response_prepare.append(_protect)
    return served


def serve(folder: Path, port: int, ready: Callable[[str], None]) -> None:
    """Serve until the person interrupts it; ``ready`` is told the address. Raises ``UsageError``."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder")
    secret = secrets.token_urlsafe(16)

    async def until_interrupted() -> None:
        runner = web.AppRunner(application(folder, secret), access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port)
            try:
                await site.start()
            except OSError as error:
                raise UsageError(f"port {port} of 127.0.0.1 cannot be had: {error.strerror}") from None
            ready(f"http://127.0.0.1:{runner.addresses[0][1]}/{secret}/")
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    asyncio.run(until_interrupted())


async def _protect(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


class _Pages:
    def __init__(self, folder: Path, secret: str) -> None:
        self._folder = folder
        self._secret = secret

    async def gallery(self, request: web.Request) -> web.Response:
        return _page(await asyncio.to_thread(gallery, self._folder, dict(request.query), self._address))

    async def comparison(self, request: web.Request) -> web.Response:
        runs = request.query.getall("run", [])
        if len(runs) != 2:
            raise web.HTTPBadRequest(text="tick two runs to compare them")
        for run in runs:
            self._inside(run, "verdict.json")
        try:
            return _page(await asyncio.to_thread(comparison, self._folder, runs[0], runs[1], self._address))
        except (SplitbrainError, *DAMAGED) as error:
            raise web.HTTPBadRequest(text=f"they cannot be compared: {error}") from None

    async def file(self, request: web.Request) -> web.StreamResponse:
        where, name = request.match_info["where"], request.match_info["file"]
        if not hmac.compare_digest(request.match_info["key"].encode(), self._key(where).encode()):
            raise web.HTTPNotFound
        if name == "report.html":
            await self._make(where)
            return web.FileResponse(self._inside(where, name), headers={"Content-Security-Policy": _OF_REPORTS})
        # Whatever a store has written is text here, never a page.
        return web.FileResponse(self._inside(where, name), headers={"Content-Type": "text/plain; charset=utf-8"})

    def _address(self, where: str) -> str:
        """Where the files of a run are, seen from the pages over all."""
        return f"../runs/{self._key(where)}/{quote(where)}/-/"

    def _key(self, where: str) -> str:
        told = where.encode(errors="surrogateescape")
        return hmac.new(self._secret.encode(), told, "sha256").hexdigest()[:32]

    async def _make(self, where: str) -> None:
        """A report that was not made yet, as those of most runs of a hunt."""
        if os.path.lexists(self._folder / where / "report.html"):
            return
        run = self._inside(where, "verdict.json").parent
        try:
            await asyncio.to_thread(write_report_again, run)
        except (SplitbrainError, *DAMAGED) as error:
            raise web.HTTPNotFound(text=str(error)) from None

    def _inside(self, where: str, name: str) -> Path:
        """The file of a run that is meant. Raises ``HTTPNotFound`` for anything else."""
        path = self._folder / where / name
        try:
            plain = path.resolve(strict=True)
            of_run = (self._folder / where / "experiment.json").is_file()
        except (OSError, RuntimeError, ValueError):
            raise web.HTTPNotFound from None
        of_node = re.fullmatch(r"nodes/[^/]+/[^/]+\.log", name)
        if plain != path or not plain.is_relative_to(self._folder) or not plain.is_file() or not of_run:
            raise web.HTTPNotFound
        if name not in _FILES and not of_node:
            raise web.HTTPNotFound
        return plain


def _page(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html", charset="utf-8")
