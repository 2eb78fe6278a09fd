"""etcd: a Raft cluster of 3 or 5 members, spoken to through its JSON gateway.

Members and clients know one another by certificates that are drawn for each run, so that nobody else is let in.

``reads=linearizable`` (the default) asks the leader through a quorum; ``reads=serializable`` lets a member answer from
its own state, which may be stale, and which etcd does not call linearizable.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Literal

import aiohttp
import msgspec

from harness.cluster import Cluster, Role, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.errors import NodeError, NothingToDo, UsageError, option
from harness.faults import process
from harness.operation import Failed, Indeterminate, Operation, Served
from harness.options import Milliseconds
from harness.target import LOG_PATTERNS, ChangesMembers, Client, Leadership, Target
from harness.targets.certificates import Authority
from harness.targets.etcd_calls import Calls, decode, encode
from harness.targets.etcd_transactions import How, Transactions

CLIENT_PORT = 2379
PEER_PORT = 2380
KEYS = ".splitbrain-keys"
"""The folder in a node's directory that has the member's key. By its name it is no data, which faults might spoil."""
STRANGER = "with another authority"
"""The cluster that a server is of whose certificate is not of the run's authority."""

_INVALID, _EXHAUSTED = 3, 8
"""gRPC codes: an argument that etcd refuses before it proposes anything; and too much of something, which it may say
after it has applied a part (no space is left) as well as before (too many requests are waiting)."""
_CHANGE_SECONDS = {"remove": 2.5, "add": 7.0}
"""How long to try. etcd changes its members only once all have been connected for five seconds, which nodes that have
left can wait for."""
_PATIENT = aiohttp.ClientTimeout(total=1.5)
"""How long to wait for the answer to a change: without one, the members know sooner whether it was made."""
_QUICK = aiohttp.ClientTimeout(total=0.5)
_FIRST = encode("\0")
"""As key and end: all that there is."""
_OF_WATCHES = 0.6
"""The part of an operation's time-out for which a watch goes on."""


class Etcd(Target):
    """An etcd cluster with one member on each node."""

    class Options(msgspec.Struct, frozen=True):
        """Options of etcd; it holds the same limits."""

        reads: Annotated[Literal["linearizable", "serializable"], "through a quorum, or from one member"] = (
            "linearizable"
        )
        locks: Annotated[
            Literal["transaction", "api"], "locks are taken by a transaction, or by etcd's own lock API"
        ] = "transaction"
        txn: Annotated[How, "transactions by one read and one commit, or as etcd's library for Go has them"] = (
            "revisions"
        )
        heartbeat_ms: Annotated[int, Milliseconds(1, 10_000), "how often the leader is heard"] = 100
        election_ms: Annotated[int, Milliseconds(5, 50_000), "silence after which an election begins"] = 1000

    name: ClassVar[str] = "etcd"
    workloads: ClassVar[frozenset[str]] = frozenset(
        {
            *("register", "append", "set", "counter", "unique-ids", "bank", "lock", "lease", "watch"),
            *("list-append", "rw-register", "rmw", "long-fork", "write-skew"),
        }
    )
    leadership: Leadership = "forwarded"
    """Every member acknowledges what it has passed on to the leader."""
    prolongs_leases: ClassVar[bool] = True
    """A new leader gives every lease its whole time again, and a lease is revoked by a majority only."""
    programs: ClassVar[Mapping[str, str]] = {"etcd": "etcd-server"}
    log_patterns: ClassVar[Mapping[str, str]] = {
        **LOG_PATTERNS,
        "panic": LOG_PATTERNS["panic"] + r"|\d [CP] \| ",
    }
    ports: ClassVar[tuple[int, ...]] = (CLIENT_PORT, PEER_PORT)
    sizes: ClassVar[frozenset[int] | None] = frozenset({1, 3, 5, 7})
    claims: ClassVar[str] = (
        "linearizable, and transactions strict serializable, under every fault; with reads=serializable, reads may be "
        "stale; with txn=stm-repeatable-reads as well, and with txn=stm-read-committed updates may be lost"
    )

    def __init__(self, options: Options) -> None:
        if options.election_ms < 5 * options.heartbeat_ms:
            raise UsageError(
                f"{option('election_ms')} is {options.election_ms}, but etcd wants at least 5 times heartbeat_ms, "
                f"which is {options.heartbeat_ms}"
            )
        self._options = options
        # A follower waits for up to two election time-outs, and the first vote may be split.
        self.failover = 1.0 + 3 * options.election_ms / 1000
        self._token = secrets.token_hex(8)
        """What this cluster's identifier is made from, so that another one at the same addresses has another."""
        self._authority = Authority()
        self._identity = self._authority.client("client")
        self._known: set[Node] = set()
        """The nodes that have a certificate."""
        self._joined: dict[Node, str] = {}
        """For each node that left and joined again, the members that it was told of."""
        self._left: dict[Node, str] = {}
        """By node, which member it was when it was last removed."""

    @property
    def authority(self) -> Authority:
        """Issues the certificates of members, and of those whom they let in."""
        return self._authority

    @property
    def membership(self) -> ChangesMembers:
        return self

    async def start(self, cluster: Cluster, node: Node) -> None:
        keys = await self._keys(node)
        client, peer = _url(node.address), _peer(node)
        members = ",".join(f"{member.name}={_peer(member)}" for member in cluster.nodes)
        flags = {
            "name": node.name,
            "data-dir": f"{node.directory}/etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": self._joined.get(node, members),
            "initial-cluster-state": "existing" if node in self._joined else "new",
            "initial-cluster-token": self._token,
            "heartbeat-interval": str(self._options.heartbeat_ms),
            "election-timeout": str(self._options.election_ms),
        }
        for whom in ("", "peer-"):
            flags |= {f"{whom}client-cert-auth": "true", f"{whom}trusted-ca-file": f"{keys}/authority.pem"}
            flags |= {f"{whom}cert-file": f"{keys}/member.pem", f"{whom}key-file": f"{keys}/member.key"}
        await node.start("etcd", ["etcd", *(f"--{name}={value}" for name, value in flags.items())])

    async def _keys(self, node: Node) -> str:
        """The folder with the certificates that a node needs. They are written once: later its disk may be full."""
        folder = f"{node.directory}/{KEYS}"
        if node not in self._known:
            member = self._authority.issue(node.name, node.address)
            await node.write(f"{folder}/authority.pem", self._authority.certificate)
            await node.write(f"{folder}/member.pem", member.certificate)
            await node.write(f"{folder}/member.key", member.key)
            self._known.add(node)
        return folder

    def _session(self, patience: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        """Connections of a client that members let in."""
        return _connected(patience, self._identity)

    async def form(self, cluster: Cluster) -> None:
        """Nothing to do: the members were told of one another."""

    async def ready(self, cluster: Cluster) -> bool:
        async with self._session(_QUICK) as session:
            healthy = await asyncio.gather(*(self._healthy(session, node) for node in cluster.nodes))
        return all(healthy)

    async def _healthy(self, session: aiohttp.ClientSession, node: Node) -> bool:
        try:
            async with session.get(f"{_url(node.address)}/health") as response:
                return bool((await response.json(content_type=None)).get("health") == "true")
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        """The term is that of the last entry that the member has applied: one that leads already may tell an older."""
        async with self._session(_QUICK) as session:
            roles = await asyncio.gather(*(self._role(session, node) for node in cluster.nodes))
        return [role for role in roles if role is not None]

    async def _role(self, session: aiohttp.ClientSession, node: Node) -> Role | None:
        status = await self._status(session, node)
        try:
            leader, member = status.get("leader"), status["header"]["member_id"]
            return Role(
                node.name, "primary" if leader == member else "replica", int(status["raftTerm"]), _applied(status)
            )
        except (ValueError, KeyError):
            return None

    async def own_state(self, cluster: Cluster, node: Node) -> Mapping[str, str] | None:
        whole = {"key": _FIRST, "range_end": _FIRST, "serializable": True}
        async with (
            self._session(_PATIENT) as session,
            session.post(f"{_url(node.address)}/v3/kv/range", json=whole, raise_for_status=True) as response,
        ):
            pairs = (await response.json(content_type=None)).get("kvs", [])
        return {
            decode(pair["key"]): f"{decode(pair.get('value', ''))} (revision {pair['mod_revision']})" for pair in pairs
        }

    async def _status(self, session: aiohttp.ClientSession, node: Node) -> dict[str, Any]:
        """What a member says of itself, or a stranger shows by its certificate; nothing without an answer."""
        url = f"{_url(node.address)}/v3/maintenance/status"
        try:
            async with session.post(url, json={}) as response:
                status: dict[str, Any] = await response.json(content_type=None)
                return status
        except aiohttp.ClientConnectorCertificateError:
            return {"header": {"cluster_id": STRANGER}}
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return {}

    async def holder(self, node: Node, key: str) -> tuple[str, int] | None:
        """What a key holds, and the revision that wrote it, by a linearizable read; None without it, or an answer."""
        try:
            async with (
                self._session(_QUICK) as session,
                session.post(f"{_url(node.address)}/v3/kv/range", json={"key": encode(key)}) as response,
            ):
                for pair in (await response.json(content_type=None)).get("kvs", []):
                    return decode(pair["value"]), int(pair["mod_revision"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return None
        return None

    async def identities(self, cluster: Cluster) -> Mapping[str, str]:
        """The identifier of the cluster that each member belongs to, which is made from the token and the members."""
        async with self._session(_QUICK) as session:
            statuses = await asyncio.gather(*(self._status(session, node) for node in cluster.nodes))
        headers = ((node.name, status.get("header", {})) for node, status in zip(cluster.nodes, statuses, strict=True))
        return {name: str(header["cluster_id"]) for name, header in headers if "cluster_id" in header}

    async def leave(self, cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
        """Remove members, one after the other. etcd refuses where too few would be left; who is removed ends itself."""
        for name in names:
            member = await self._member(cluster, name)
            if member is not None:
                self._left[cluster.node(name)] = member["ID"]
                await self._change(cluster, name, "remove", ID=member["ID"])
        return await self.members(cluster)

    async def join(self, cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
        """Add nodes that left, with nothing on their disks, as new members."""
        for name in names:
            node = cluster.node(name)
            member = await self._member(cluster, name)
            if member is None:
                await self._change(cluster, name, "add", peerURLs=[_peer(node)])
                member = await self._member(cluster, name)
            if member is None:
                continue
            # It may have been added by an earlier try whose answer was lost: what it has is the former member's then.
            if node in self._left and self._left[node] != member["ID"]:
                await run_tool(node, ask(process.kill))
                await node.exec(["rm", "-rf", f"{node.directory}/etcd"])
                urls = {peer: _peer(cluster.node(peer)) for peer in await self.members(cluster)}
                self._joined[node] = ",".join(f"{peer}={url}" for peer, url in urls.items())
                del self._left[node]
            if name not in cluster.kept_down:
                await self.start(cluster, node)
        return await self.members(cluster)

    async def members(self, cluster: Cluster) -> Sequence[str]:
        """The nodes that are members, started or not, as one that leads or follows a leader knows them."""
        known = {url for member in await self._members(cluster) for url in member["peerURLs"]}
        return [node.name for node in cluster.nodes if _peer(node) in known]

    async def _member(self, cluster: Cluster, name: str) -> dict[str, Any] | None:
        """What the members know of a node; None if it is none of them."""
        peer = _peer(cluster.node(name))
        return next((member for member in await self._members(cluster) if peer in member["peerURLs"]), None)

    async def _members(self, cluster: Cluster) -> list[dict[str, Any]]:
        """The members as a node that leads or follows a leader knows them. Raises ``NothingToDo`` if none does."""
        for role in sorted(await self.roles(cluster), key=lambda role: role.role):
            answer = await self.call(cluster.node(role.node), "list", _QUICK)
            if answer is not None and answer.get("members"):
                members: list[dict[str, Any]] = answer["members"]
                return members
        raise NothingToDo("no member of etcd answers")

    async def call(self, node: Node, what: str, patience: aiohttp.ClientTimeout = _PATIENT, **body: Any) -> Any:
        """What a member answers to a question about the members; None without an answer."""
        url = f"{_url(node.address)}/v3/cluster/member/{what}"
        try:
            async with self._session(patience) as session, session.post(url, json=body) as response:
                return await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def _change(self, cluster: Cluster, name: str, what: str, **body: Any) -> None:
        """Ask the other nodes, those that lead first, until one has done it.

        Before anybody is asked again, the members are asked whether it is done: an answer may have been lost. Raises
        ``NothingToDo`` with what they say if it is not, for a while.
        """
        reason = "no member answers"

        async def done() -> bool:
            nonlocal reason
            with contextlib.suppress(NothingToDo):
                if (await self._member(cluster, name) is None) == (what == "remove"):
                    return True
            for role in sorted(await self.roles(cluster), key=lambda role: role.role):
                if role.node == name:
                    continue
                answer = await self.call(cluster.node(role.node), what, **body)
                if answer is None:
                    return False  # it may be done, or be about to
                if "members" in answer:
                    return True
                reason = str(answer.get("message", answer))
            return False

        try:
            await wait_until(done, seconds=_CHANGE_SECONDS[what], what="the change", every=0.3)
        except NodeError:
            raise NothingToDo(f"etcd did not {what} a member: {reason}") from None

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        options = self._options
        serializable = options.reads == "serializable"
        return EtcdClient(node, timeout, self._identity, options.txn, serializable=serializable, locks=options.locks)


class EtcdClient:
    """A few HTTP connections to one member: one for operations, others that keep locks alive meanwhile."""

    def __init__(
        self, node: Node, timeout: float, identity: ssl.SSLContext, txn: How, *, serializable: bool, locks: str
    ) -> None:
        self._node = node.name
        self._url = f"{_url(node.address)}/v3"
        self._term: int | None = None
        """That of the last entry which the member had applied at its last answer: not before that of the entry which an
        acknowledgement is of."""
        self._identity = identity
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None
        self._calls = Calls(self._post, self._follow, timeout * _OF_WATCHES, serializable=serializable, locks=locks)
        self._transactions = Transactions(self._post, txn, serializable=serializable)

    async def open(self) -> None:
        self._session = _connected(self._timeout, self._identity, most=4)

    async def invoke(self, operation: Operation) -> Any:
        self._term = None
        on_keys = operation.f == "txn"
        value = await (self._transactions.run(operation.value) if on_keys else self._calls.apply(operation))
        return Served(value, by=self._node, term=self._term)

    async def _post(self, method: str, body: dict[str, Any]) -> Any:
        assert self._session is not None
        try:
            async with self._session.post(f"{self._url}/{method}", json=body) as response:
                answer = await response.json(content_type=None)
        except aiohttp.ClientConnectorError as error:
            raise Failed(f"no connection: {error}") from None
        _refuse(response.status, answer)
        if not method.startswith("lease/"):  # with which locks are kept alive beside the operations
            term = answer.get("header", {}).get("raft_term")
            self._term = None if term is None else int(term)
        return answer

    async def _follow(self, method: str, body: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """Each answer of a method that answers again and again stands in a line of its own."""
        assert self._session is not None
        async with self._session.post(f"{self._url}/{method}", json=body) as response:
            if response.status != HTTPStatus.OK:
                _refuse(response.status, await response.json(content_type=None))
            rest = b""
            async for piece in response.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    async def close(self) -> None:
        self._calls.close()
        if self._session is not None:
            await self._session.close()
            self._session = None


def _refuse(status: int, answer: Any) -> None:
    """Raise ``Failed`` or ``Indeterminate`` for what is no answer to what was asked."""
    if status == HTTPStatus.OK:
        return
    message = str(answer.get("message") or answer.get("error") or f"HTTP {status}")
    code = answer.get("code")
    refused = code == _INVALID or (code == _EXHAUSTED and "too many requests" in message)
    raise Failed(message) if refused else Indeterminate(message)


def _applied(status: Mapping[str, Any]) -> int | None:
    """How many entries of the log a member has applied; None where it does not tell."""
    applied = status.get("raftAppliedIndex")
    return None if applied is None else int(applied)


def _peer(node: Node) -> str:
    """Where other members reach a node."""
    return f"https://{node.address}:{PEER_PORT}"


def _url(address: str) -> str:
    """Where clients reach a node."""
    return f"https://{address}:{CLIENT_PORT}"


def _connected(patience: aiohttp.ClientTimeout, identity: ssl.SSLContext, most: int = 1) -> aiohttp.ClientSession:
    """At most so many connections to each member that is asked."""
    return aiohttp.ClientSession(timeout=patience, connector=aiohttp.TCPConnector(limit_per_host=most, ssl=identity))
