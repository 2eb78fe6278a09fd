"""Clients of RabbitMQ, and what is certain of a message whose confirmation did not come.

Messages are persistent and published with confirmations. They are taken with automatic acknowledgement, which removes
one as it is sent: nothing is delivered twice, and where no delivery arrived it is not known whether there was one.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from typing import Any, Final, Literal

from harness.errors import MissingError
from harness.operation import Failed, Indeterminate, Operation, Served

PORT: Final = 5672
USER: Final = "splitbrain"

QueueType = Literal["quorum", "classic"]

_SHARE: Final = 0.8
"""The part of an operation's time-out after which it is given up, before somebody else cancels it."""
_CLOSE_SECONDS: Final = 0.5
_HEARTBEAT_SECONDS: Final = 10

# Both tell of every connection that breaks, with tracebacks: whoever waits for an answer is told as well.
for _name in ("aiormq", "aio_pika"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


def missing() -> str | None:
    """Why RabbitMQ cannot be spoken to here; None if it can."""
    try:
        importlib.import_module("aio_pika")
    except ImportError:
        return "it is spoken to through aio-pika, which is not installed: pip install 'splitbrain[rabbitmq]'"
    return None


def driver() -> Any:
    """The module aio_pika. Raises ``MissingError`` where it is not installed."""
    if why := missing():
        raise MissingError(f"rabbitmq: {why}")
    return importlib.import_module("aio_pika")


def lost() -> tuple[type[BaseException], ...]:
    """What a connection raises that cannot be had, or used."""
    return (*driver().exceptions.CONNECTION_EXCEPTIONS, TimeoutError)


async def connect(address: str, password: str, seconds: float) -> Any:
    """A connection to the server at ``address``. Raises what ``lost`` names, and ``MissingError``."""
    whom = {"host": address, "port": PORT, "login": USER, "password": password}
    async with asyncio.timeout(seconds):
        return await driver().connect(**whom, timeout=seconds, heartbeat=_HEARTBEAT_SECONDS)


async def disconnect(link: Any) -> None:
    """Close a connection, whatever state it is in."""
    with contextlib.suppress(*lost()):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await link.close()


def arguments(queue_type: QueueType) -> dict[str, str]:
    """What a queue of this type is declared with."""
    return {"x-queue-type": queue_type}


class RabbitmqClient:
    """Is connected to the server of its own node, which passes on what others lead."""

    def __init__(self, own: tuple[str, str], timeout: float, password: str, queue_type: QueueType) -> None:
        """``own`` is its node's name and address."""
        self._name, self._address = own
        self._timeout = timeout * _SHARE
        self._password = password
        self._arguments = arguments(queue_type)
        self._link: Any = None
        self._channel: Any = None
        self._queues: dict[str, Any] = {}
        """Those that were declared, by name."""

    async def open(self) -> None:
        self._link = await connect(self._address, self._password, self._timeout)
        self._channel = await self._link.channel(publisher_confirms=True, on_return_raises=True)

    async def close(self) -> None:
        link, self._link, self._channel = self._link, None, None
        self._queues.clear()
        if link is not None:
            await disconnect(link)

    async def invoke(self, operation: Operation) -> Any:
        deadline = asyncio.get_running_loop().time() + self._timeout
        async with asyncio.timeout_at(deadline):
            queue = await self._declared(str(operation.key))
            match operation.f:
                case "enqueue":
                    await self._publish(queue.name, str(operation.value))
                    answer = operation.value
                case "dequeue":
                    message = await queue.get(no_ack=True, fail=False, timeout=self._timeout)
                    answer = None if message is None else int(message.body)
                case _:
                    raise Failed(f"RabbitMQ has no function {operation.f}")
        return Served(answer, by=self._name)

    async def _declared(self, name: str) -> Any:
        """The queue of this name, which is made if it is not there. Raises ``Failed``."""
        try:
            if self._link is None or self._link.is_closed or self._channel.is_closed:
                await self.close()
                await self.open()
            if name not in self._queues:
                self._queues[name] = await self._channel.declare_queue(
                    name, durable=True, arguments=self._arguments, timeout=self._timeout
                )
        except lost() as error:
            await self.close()
            raise Failed(f"{self._name} cannot be reached, or has no such queue: {_words(error)}") from None
        return self._queues[name]

    async def _publish(self, queue: str, text: str) -> None:
        aio_pika = driver()
        message = aio_pika.Message(text.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        try:
            await self._channel.default_exchange.publish(
                message, routing_key=queue, mandatory=True, timeout=self._timeout
            )
        except aio_pika.exceptions.PublishError as error:
            raise Failed(f"there is no such queue: {_words(error)}") from None  # the message came back
        except aio_pika.exceptions.DeliveryError as error:
            raise Indeterminate(f"not confirmed: {_words(error)}") from None


def _words(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
