"""Sessions with ZooKeeper's servers, by kazoo, whose threads' answers are awaited."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import threading
from typing import Any, Final

from harness.errors import MissingError

CLIENT_PORT: Final = 2181
USER: Final = "splitbrain"

SESSION_SECONDS: Final = 4.0
"""After how long without a word a session that holds no lock is over; it outlasts two operations at least."""
_QUICK_SECONDS: Final = 0.5
_SILENT: Final = logging.Logger("kazoo", level=logging.CRITICAL + 1)


def missing() -> str | None:
    """Why ZooKeeper cannot be spoken to here; None if it can."""
    try:
        importlib.import_module("kazoo.client")
    except ImportError:
        return "it is spoken to through kazoo, which is not installed: pip install 'splitbrain[zookeeper]'"
    return None


def driver() -> Any:
    """The package kazoo, with its client. Raises ``MissingError`` where it is not installed."""
    if why := missing():
        raise MissingError(f"zookeeper: {why}")
    return importlib.import_module("kazoo")


async def status(address: str, seconds: float = _QUICK_SECONDS) -> dict[str, str] | None:
    """What the server at an address says of itself; nothing in it while it serves nobody, None without an answer."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address, CLIENT_PORT)
            try:
                writer.write(b"srvr")
                text = (await reader.read()).decode(errors="replace")
            finally:
                writer.transport.abort()
    except OSError:
        return None
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    return fields if "Mode" in fields else {}


class Session:
    """A session with one server, which lasts as long as its connection and ends ``seconds`` after it at the latest.

    A lost connection is never replaced: whoever holds something by this session learns that it may have ended. kazoo
    has threads of its own; what they are told is awaited here.
    """

    def __init__(self, address: str, password: str, seconds: float = SESSION_SECONDS) -> None:
        package = driver()
        self._address, self.seconds = address, seconds
        self.kazoo: Any = package.client.KazooClient(
            hosts=f"{address}:{CLIENT_PORT}",
            timeout=seconds,
            auth_data=[("digest", f"{USER}:{password}")],
            default_acl=package.security.CREATOR_ALL_ACL,
            connection_retry={"max_tries": 1},  # with 0 it would connect again for ever, as another session perhaps
            logger=_SILENT,
        )

    async def open(self, patience: float) -> None:
        """Raises ``OSError`` where there is no session after ``patience`` seconds, or nobody can give one."""
        loop, connected = asyncio.get_running_loop(), asyncio.Event()
        until = loop.time() + patience
        if (said := await status(self._address, patience)) is None:
            raise ConnectionError("the server does not answer")
        if not said:
            raise ConnectionError("the server serves nobody")

        def listen(state: str) -> None:
            if state == "CONNECTED":
                loop.call_soon_threadsafe(connected.set)

        self.kazoo.add_listener(listen)
        try:
            self.kazoo.start_async()
            async with asyncio.timeout_at(until):
                await connected.wait()
        except BaseException:
            self.close()
            raise

    @property
    def lives(self) -> bool:
        """Whether it has its connection."""
        return bool(self.kazoo.connected)

    def close(self) -> None:
        """End the session, for which kazoo waits where the server is slow: in a thread that nobody waits for."""

        def end() -> None:
            with contextlib.suppress(Exception):
                self.kazoo.stop()
            with contextlib.suppress(Exception):
                self.kazoo.close()

        threading.Thread(target=end, name="zookeeper-close", daemon=True).start()


async def answer(asked: Any) -> Any:
    """Await what one of kazoo's asynchronous calls has returned."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle() -> None:
        if future.done():
            return  # whoever asked has given up
        if asked.exception is not None:
            future.set_exception(asked.exception)
        else:
            future.set_result(asked.value)

    def told(_: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is over
            loop.call_soon_threadsafe(settle)

    asked.rawlink(told)
    return await future
