"""Clients of NATS JetStream, and what is certain of a message whose acknowledgement did not come.

Registers are the latest message of a subject, as in JetStream's key-value store; lists are all messages of a subject,
or one that is replaced on condition that nobody else has replaced it; elements of sets are a subject each. Clients make
the stream where it is not there, as applications do: what it held is lost then.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from harness.errors import MissingError
from harness.operation import Declined, Failed, Indeterminate, Operation, Served

PORT: Final = 4222
STREAM: Final = "splitbrain"

Reads = Literal["leader", "direct"]
Appends = Literal["publish", "update"]
Removes = Literal["delete", "purge"]

_WRONG_LAST_SEQUENCE: Final = 10071
_NO_STREAM: Final = 10059
_NO_MESSAGE: Final = 10037
_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_TRIES: Final = 30
"""How often a list is replaced by a longer one while others are faster."""
_SHARE: Final = 0.8
"""The part of an operation's time-out after which it is given up, before somebody else cancels it."""
_CLOSE_SECONDS: Final = 0.5
_CONSUMER_NANOSECONDS: Final = 2_000_000_000
"""For how long a consumer stays that nobody asks any more."""


def missing() -> str | None:
    """Why NATS cannot be spoken to here; None if it can."""
    try:
        importlib.import_module("nats")
    except ImportError:
        return "it is spoken to through nats-py, which is not installed: pip install 'splitbrain[nats]'"
    return None


def driver() -> Any:
    """The package nats of nats-py. Raises ``MissingError`` where it is not installed."""
    if why := missing():
        raise MissingError(f"nats: {why}")
    return importlib.import_module("nats")


async def connect(address: str, user: str, password: str, seconds: float) -> Any:
    """A connection to the server at ``address``, which is not opened again by itself once it broke.

    Raises what ``lost`` names, and ``MissingError``.
    """

    async def ignored(_: Exception) -> None:
        """Whoever waits is told of it."""

    link = driver().NATS()
    try:
        async with asyncio.timeout(seconds):
            await link.connect(
                f"nats://{address}:{PORT}",
                user=user,
                password=password,
                allow_reconnect=False,
                connect_timeout=seconds,
                error_cb=ignored,
            )
    except BaseException:
        _abort(link)
        raise
    return link


async def disconnect(link: Any) -> None:
    """Close a connection, whatever state it is in."""
    try:
        with contextlib.suppress(*lost()):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await link.close()
    finally:
        _abort(link)


def _abort(link: Any) -> None:
    """End a connection at once: the driver waits until all is sent, which a server that stands still may never take."""
    if transport := link._transport:
        transport._io_writer.transport.abort()


def lost() -> tuple[type[BaseException], ...]:
    """What a connection raises that cannot be had, or used."""
    return (OSError, TimeoutError, driver().errors.Error)


async def ask(link: Any, subject: str, body: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What a server answers to a question in JSON. Raises what ``lost`` names."""
    answer: dict[str, Any] = json.loads((await link.request(subject, json.dumps(body).encode(), timeout=seconds)).data)
    return answer


def configuration(replicas: int) -> dict[str, Any]:
    """The stream that holds everything."""
    return {
        "name": STREAM,
        "subjects": ["value.*", "list.*", "element.*.*", "number.*"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "allow_direct": True,
    }


async def make(link: Any, stream: Mapping[str, Any], seconds: float) -> str | None:
    """Make a stream unless there is one; why there is none, None if there is. Raises what ``lost`` names."""
    answer = await ask(link, f"$JS.API.STREAM.INFO.{STREAM}", {}, seconds)
    if answer.get("error", {}).get("err_code") == _NO_STREAM:
        answer = await ask(link, f"$JS.API.STREAM.CREATE.{STREAM}", stream, seconds)
    return _told(answer) if "error" in answer else None


class NatsClient:
    """Is connected to the server of its own node, which passes on what others lead."""

    def __init__(
        self,
        own: tuple[str, str],
        timeout: float,
        user: str,
        password: str,
        *,
        replicas: int,
        reads: Reads = "leader",
        appends: Appends = "publish",
        removes: Removes = "delete",
    ) -> None:
        """``own`` is its node's name and address."""
        self._name, self._address = own
        self._timeout = timeout * _SHARE
        self._user, self._password = user, password
        self._stream = configuration(replicas)
        self._reads = reads
        self._appends = appends
        self._removes = removes
        self._link: Any = None
        self._deadline = 0.0

    async def open(self) -> None:
        self._link = await connect(self._address, self._user, self._password, self._timeout)
        if why := await make(self._link, self._stream, self._timeout):
            await self.close()
            raise Failed(f"there is no stream: {why}")

    async def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await disconnect(link)

    async def invoke(self, operation: Operation) -> Any:
        self._deadline = asyncio.get_running_loop().time() + self._timeout
        if self._link is None or self._link.is_closed:
            try:
                await self.open()
            except lost() as error:
                await self.close()
                raise Failed(f"{self._name} cannot be reached, or its stream: {_words(error)}") from None
        return Served(await self._apply(operation), by=self._name)

    async def _apply(self, operation: Operation) -> Any:
        key, value = operation.key, operation.value
        match operation.f:
            case "read":
                text = await self._value(key)
                return None if text is None else int(text)
            case "write":
                await self._publish(f"value.{key}", str(value))
            case "cas":
                await self._compare_and_set(key, *value)
            case "read-list" if self._appends == "publish":
                return await self._messages(f"list.{key}")
            case "read-list":
                text = await self._value(key)
                return [] if text is None else json.loads(text)
            case "append" if self._appends == "publish":
                await self._publish(f"list.{key}", str(value))
            case "append":
                await self._append(key, value)
            case "add":
                await self._publish(f"element.{key}.{value}", "")
            case "remove":
                await self._remove(f"element.{key}.{value}")
            case "members" | "members-local":
                return await self._members(key)
            case "generate":
                return await self._publish(f"number.{key}", "")
            case _:
                raise Failed(f"NATS has no function {operation.f}")
        return value

    def _left(self) -> float:
        """The seconds that the operation has left."""
        return max(self._deadline - asyncio.get_running_loop().time(), 0.001)

    async def _publish(self, subject: str, text: str, expected: int | None = None) -> int:
        """Have a message acknowledged; its sequence number in the stream.

        ``expected`` is that of the subject's latest message, 0 for none. Raises ``Declined`` where it is another one
        for whoever answers first: all servers that believe to lead are sent the message.
        """
        headers = None if expected is None else {_EXPECTED: str(expected)}
        try:
            message = await self._link.request(subject, text.encode(), timeout=self._left(), headers=headers)
        except driver().errors.NoRespondersError:
            raise Failed("nobody leads the stream, as far as the server knows") from None
        answer = json.loads(message.data)
        if "error" not in answer:
            return int(answer["seq"])
        if answer["error"].get("err_code") == _WRONG_LAST_SEQUENCE:
            raise Declined(_told(answer))
        raise Indeterminate(_told(answer))

    async def _remove(self, subject: str) -> None:
        """Delete the message of a subject, or purge it. Raises ``Declined`` where the leader has no such message."""
        what, body = "PURGE", dict[str, Any](filter=subject)
        if self._removes == "delete":
            message = await self._look("STREAM.MSG.GET", {"last_by_subj": subject})
            if message is None:
                raise Declined("there is no such element")  # which one that was succeeded may say of a new one
            what, body = "MSG.DELETE", {"seq": message["message"]["seq"], "no_erase": True}
        try:
            answer = await ask(self._link, f"$JS.API.STREAM.{what}.{STREAM}", body, self._left())
        except driver().errors.NoRespondersError:
            raise Failed("nobody serves JetStream, as far as the server knows") from None
        if "error" in answer:
            raise Indeterminate(_told(answer))

    async def _look(self, what: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the stream's leader answers to a question that changes nothing; None where there is no such message.

        Raises ``Failed``.
        """
        try:
            answer = await ask(self._link, f"$JS.API.{what}.{STREAM}", body, self._left())
        except lost() as error:
            raise Failed(f"no answer: {_words(error)}") from None
        code = answer.get("error", {}).get("err_code")
        if code == _NO_MESSAGE:
            return None
        if "error" in answer:
            raise Failed(_told(answer))
        return answer

    async def _direct(self, key: Any) -> str | None:
        """What some replica has of a key; None for nothing. Raises ``Failed``."""
        try:
            asked = json.dumps({"last_by_subj": f"value.{key}"}).encode()
            message = await self._link.request(f"$JS.API.DIRECT.GET.{STREAM}", asked, timeout=self._left())
        except lost() as error:
            raise Failed(f"no answer: {_words(error)}") from None
        headers = {str(name): value for name, value in (message.headers or {}).items()}
        if headers.get("Status") == "404":
            return None
        if "Nats-Sequence" not in headers:
            raise Failed(f"no message, but {headers}")
        text: str = message.data.decode()
        return text

    async def _latest(self, key: Any) -> tuple[str | None, int]:
        """What the leader holds of a key, and the sequence number of that, 0 for nothing."""
        answer = await self._look("STREAM.MSG.GET", {"last_by_subj": f"value.{key}"})
        if answer is None:
            return None, 0
        text = base64.b64decode(answer["message"].get("data", "")).decode()
        return text, int(answer["message"]["seq"])

    async def _value(self, key: Any) -> str | None:
        if self._reads == "direct":
            return await self._direct(key)
        return (await self._latest(key))[0]

    async def _compare_and_set(self, key: Any, old: Any, new: Any) -> None:
        text, sequence = await self._latest(key)
        if text != str(old):
            raise Declined("the value was another one")
        try:
            await self._publish(f"value.{key}", str(new), sequence)
        except Declined as error:
            raise Indeterminate(f"refused, perhaps by a leader that was succeeded: {error}") from None

    async def _append(self, key: Any, element: Any) -> None:
        """Replace a list by a longer one, again and again while others are faster.

        A refusal says nothing for certain: a leader that was succeeded may refuse what its successor takes.
        """
        for turn in range(_TRIES):
            try:
                text, sequence = await self._latest(key)
                elements = [] if text is None else json.loads(text)
                if turn and element in elements:
                    return
                await self._publish(f"value.{key}", json.dumps([*elements, element]), sequence)
            except Declined:
                continue
            except Failed as error:
                if not turn:
                    raise
                raise Indeterminate(f"refused before, perhaps by a leader that was succeeded: {error}") from None
            return
        raise Indeterminate("others were always faster")

    async def _messages(self, subject: str) -> list[int]:
        """All messages of a subject, as many as the leader knows at first, by a consumer that lives for this read.

        The consumer reads what one of the replicas has. Raises ``Failed`` where one of them does not come.
        """
        many = (await self._subjects(subject)).get(subject, 0)
        if not many:
            return []
        try:
            inbox = await self._link.subscribe(self._link.new_inbox())
            try:
                consumer = await self._consumer(subject)
                asked = {"batch": many, "expires": int(self._left() * 1e9)}
                path = f"{STREAM}.{consumer}"
                await self._link.publish(f"$JS.API.CONSUMER.MSG.NEXT.{path}", json.dumps(asked).encode(), inbox.subject)
                read = [await inbox.next_msg(timeout=self._left()) for _ in range(many)]
                await self._link.publish(f"$JS.API.CONSUMER.DELETE.{path}")
            finally:
                await inbox.unsubscribe()
        except lost() as error:
            raise Failed(f"no answer: {_words(error)}") from None
        if not all(message.subject == subject for message in read):
            raise Failed("the consumer gave up before all messages had come")
        return [int(message.data) for message in read]

    async def _consumer(self, subject: str) -> str:
        """The name of a new consumer of all messages of a subject."""
        how: dict[str, Any] = {"deliver_policy": "all", "ack_policy": "none", "filter_subject": subject}
        how |= {"inactive_threshold": _CONSUMER_NANOSECONDS, "num_replicas": 1, "mem_storage": True}
        answer = await self._look("CONSUMER.CREATE", {"stream_name": STREAM, "config": how})
        if answer is None:
            raise Failed("no consumer was made")
        return str(answer["name"])

    async def _subjects(self, pattern: str) -> dict[str, int]:
        """Subjects of the stream, and how many messages of each the leader has."""
        answer = await self._look("STREAM.INFO", {"subjects_filter": pattern})
        subjects: dict[str, int] = ({} if answer is None else answer["state"].get("subjects")) or {}
        return subjects

    async def _members(self, key: Any) -> list[int]:
        """The elements of a set, as the leader knows their subjects.

        No server can be asked for what it holds itself: a message is read from whichever replica is there first.
        """
        subjects = await self._subjects(f"element.{key}.*")
        return sorted(_element(subject) for subject, times in subjects.items() for _ in range(times))


def _element(subject: str) -> int:
    return int(subject.rpartition(".")[2])


def _told(answer: Mapping[str, Any]) -> str:
    """The error in an answer, in its words."""
    return f"{answer['error'].get('description')} ({answer['error'].get('err_code')})"


def _words(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
