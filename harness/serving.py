"""A page on loopback over all runs and hunts below a folder.

Other users of the machine can reach loopback as well: every address begins with a secret that is drawn anew each time.
Only what runs write is served, and nothing that a link leads to.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from harness.errors import SplitbrainError, UsageError
from harness.report import write_report_again
from harness.report.comparison import comparison
from harness.report.gallery import gallery

_FILES: Final = ("report.html", "experiment.json", "timetable.json", "history.jsonl", "verdict.json", "junit.xml")
_OF_REPORTS: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; form-action 'none'"
)
"""What a report may do that somebody else has made, and whose own policy nobody knows: reach nothing."""
_HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def application(folder: Path, secret: str) -> web.Application:
    """What serves the runs below a folder, under the path of a secret."""
    pages = _Pages(folder.resolve())
    served = web.Application()
    served.add_routes(
        [
            web.get(f"/{secret}/", pages.gallery),
            web.get(f"/{secret}/compare", pages.comparison),
            web.get(f"/{secret}/files/{{path:.+}}", pages.file),
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
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def gallery(self, request: web.Request) -> web.Response:
        return _page(await asyncio.to_thread(gallery, self._folder, dict(request.query)))

    async def comparison(self, request: web.Request) -> web.Response:
        runs = request.query.getall("run", [])
        if len(runs) != 2:
            raise web.HTTPBadRequest(text="tick two runs to compare them")
        for run in runs:
            self._inside(f"{run}/verdict.json")
        try:
            return _page(await asyncio.to_thread(comparison, self._folder, runs[0], runs[1]))
        except SplitbrainError as error:
            raise web.HTTPBadRequest(text=str(error)) from None

    async def file(self, request: web.Request) -> web.StreamResponse:
        asked = request.match_info["path"]
        if asked.endswith("/report.html"):
            await self._make(asked)
        path = self._inside(asked)
        if path.suffix == ".html":
            return web.FileResponse(path, headers={"Content-Security-Policy": _OF_REPORTS})
        # Whatever a store has written is text here, never a page.
        return web.FileResponse(path, headers={"Content-Type": "text/plain; charset=utf-8"})

    async def _make(self, asked: str) -> None:
        """A report that was not made yet, as those of most runs of a hunt."""
        run = Path(asked).parent
        if (self._folder / asked).exists() or not (self._folder / run / "verdict.json").exists():
            return
        path = self._inside(f"{run}/verdict.json").parent
        try:
            await asyncio.to_thread(write_report_again, path)
        except SplitbrainError as error:
            raise web.HTTPNotFound(text=str(error)) from None

    def _inside(self, asked: str) -> Path:
        """The file of a run that is meant. Raises ``HTTPNotFound`` for anything else."""
        path = self._folder / asked
        try:
            plain = path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            raise web.HTTPNotFound from None
        if plain != path or not plain.is_relative_to(self._folder) or not plain.is_file():
            raise web.HTTPNotFound
        of_node = plain.suffix == ".log" and "nodes" in plain.relative_to(self._folder).parts
        if plain.name not in _FILES and not of_node:
            raise web.HTTPNotFound
        return plain


def _page(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html", charset="utf-8")
