"""RabbitMQ: a cluster of brokers, and durable queues, each a Raft group (``quorum``) or mirrored on all (``classic``).

Brokers know one another by their addresses and by a cookie that is drawn for each run. What they do when they cannot
reach one another is ``cluster_partition_handling``; quorum queues go by their own majority.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from harness.cluster import Cluster, Role, wait_until
from harness.environments.base import Node
from harness.errors import NodeError, UsageError, field
from harness.options import Number
from harness.target import LOG_PATTERNS, Client, Target
from harness.targets.rabbitmq_client import (
    PORT,
    USER,
    QueueType,
    RabbitmqClient,
    arguments,
    connect,
    disconnect,
    missing,
)

DISTRIBUTION_PORT: Final = 25672
NAMES_PORT: Final = 4369
BIN: Final = "/usr/lib/rabbitmq/bin"
"""Where Debian has the programs of a server; those in the path become another user."""
KEYS: Final = ".splitbrain-keys"
"""The folder in a node's directory that has the cookie and the configuration, with a password. By its name it is no
data, which faults might spoil."""
CANARY: Final = "splitbrain-ready"
"""What the queues are called with which brokers are asked whether they serve, and whether they are one cluster."""

_FORM_SECONDS: Final = 90.0
_QUICK_SECONDS: Final = 0.5
_CANARY_SECONDS: Final = 1.5

_SCRIPT: Final = f"""
set -eu
umask 077
chmod 600 "$HOME/.erlang.cookie" "$HOME/rabbitmq.conf"
exec {BIN}/rabbitmq-server
"""
_MIRROR: Final = """
ok = rpc:call(list_to_atom(os:getenv("RABBITMQ_NODENAME")), rabbit_policy, set, [<<"/">>, <<"mirrored">>, <<".*">>,
  [{<<"ha-mode">>, <<"all">>}, {<<"ha-sync-mode">>, <<"automatic">>}], 0, <<"queues">>, <<"splitbrain">>]), halt(0).
"""
"""The policy by which a queue has a mirror on every broker."""


class Rabbitmq(Target):
    """A broker on every node, and queues on all of them."""

    class Options(msgspec.Struct, frozen=True):
        """See RabbitMQ's documentation for each."""

        queue_type: Annotated[QueueType, "queues are Raft groups, or are mirrored on all brokers"] = "quorum"
        cluster_partition_handling: Annotated[
            Literal["ignore", "autoheal", "pause_minority"], "what brokers do that cannot reach others"
        ] = "pause_minority"
        net_ticktime: Annotated[int, Number(1, 300), "seconds of silence after which a broker is taken for down"] = 5

    name: ClassVar[str] = "rabbitmq"
    workloads: ClassVar[frozenset[str]] = frozenset({"queue"})
    programs: ClassVar[Mapping[str, str]] = {f"{BIN}/rabbitmq-env": "rabbitmq-server"}
    """Not the server itself, nor what administers it: asked for a version, both start a node of Erlang."""
    log_patterns: ClassVar[Mapping[str, str]] = LOG_PATTERNS
    ports: ClassVar[tuple[int, ...]] = (PORT, DISTRIBUTION_PORT, NAMES_PORT)
    claims: ClassVar[str] = (
        "quorum queues keep what was confirmed while a majority of brokers lives; mirrored queues do with "
        "cluster_partition_handling=pause_minority while one mirror that has all lives, and with ignore or autoheal "
        "only while brokers reach one another; messages are taken at most once"
    )

    def __init__(self, options: Options) -> None:
        self._options = options
        # A broker that is silent is taken for down after up to a quarter more than that.
        self.failover = 5.0 + 1.25 * options.net_ticktime
        self.password = secrets.token_hex(32)
        """Of clients. It stands in nodes' files only."""
        self.cookie = secrets.token_hex(32)
        """By which brokers let one another in. It stands in nodes' files only."""
        self._configured: set[Node] = set()
        self._idle: dict[Node, Any] = {}
        """A connection to each node, for those who ask it what it is."""

    def unfit_for(self, workload: str) -> str | None:
        return missing()

    async def start(self, cluster: Cluster, node: Node) -> None:
        if cluster.environment.name == "ssh":
            raise UsageError(
                f"{field('environment', 'ssh')} cannot have rabbitmq: there, faults find servers by their session, and "
                "the name server that Erlang starts begins one of its own"
            )
        keys = f"{node.directory}/{KEYS}"
        if node not in self._configured:
            await node.write(f"{keys}/.erlang.cookie", self.cookie.encode())
            await node.write(f"{keys}/rabbitmq.conf", self._configuration(cluster, node).encode())
            await node.write(f"{keys}/enabled_plugins", b"[].\n")
            await node.write(f"{keys}/start.sh", _SCRIPT.encode())
            self._configured.add(node)
        await node.start("rabbitmq", ["sh", f"{keys}/start.sh"], _variables(node))

    def _configuration(self, cluster: Cluster, node: Node) -> str:
        settings: dict[str, object] = {
            "listeners.tcp.1": f"{node.address}:{PORT}",
            "default_user": USER,
            "default_pass": self.password,
            "loopback_users": "none",
            "cluster_partition_handling": self._options.cluster_partition_handling,
            "net_ticktime": self._options.net_ticktime,
            "cluster_formation.peer_discovery_backend": "classic_config",
            "log.console": "true",
            "log.console.level": "info",
            "log.file": "false",
            # What it keeps fits into a node's disk beside all else.
            "disk_free_limit.absolute": "20MB",
            "raft.wal_max_size_bytes": 32 << 20,
        }
        for number, peer in enumerate(cluster.nodes, 1):
            settings[f"cluster_formation.classic_config.nodes.{number}"] = _called(peer)
        return "".join(f"{name} = {value}\n" for name, value in settings.items())

    async def form(self, cluster: Cluster) -> None:
        """Once every broker serves, in one cluster, have queues mirrored if they are to be. Raises ``NodeError``."""

        async def all_serve() -> bool:
            for node in cluster.nodes:
                if not (await node.running()).get("rabbitmq", True):
                    raise NodeError(f"rabbitmq on {node.name} has ended by itself")
            return len(await self.roles(cluster)) == len(cluster.nodes) and await self._is_one(cluster.nodes)

        await wait_until(all_serve, seconds=_FORM_SECONDS, what="all brokers serving in one cluster", every=0.3)
        if self._options.queue_type == "classic" and len(cluster.nodes) > 1:
            first = cluster.nodes[0]
            variables = [f"{name}={value}" for name, value in _variables(first).items()]
            itself = ["-name", f"administrator@{first.address}", "-dist_listen", "false"]
            done = await first.exec(["env", *variables, "erl", "-noinput", *itself, "-eval", _MIRROR])
            if done.code != 0:
                raise NodeError(f"the policy could not be set: {done.text[:200]}")

    async def ready(self, cluster: Cluster) -> bool:
        """Whether every broker makes and empties a queue, and all are one cluster. No message is sent."""
        serve = await asyncio.gather(*(self._serves(node) for node in cluster.nodes))
        return all(serve) and await self._is_one(cluster.nodes)

    async def _serves(self, node: Node) -> bool:
        async def empty(channel: Any) -> None:
            await (await self._declare(channel, f"{CANARY}-{node.name}")).purge()

        return await self._does(node, empty)

    async def _is_one(self, nodes: Sequence[Node]) -> bool:
        """Whether all know of a new queue of the first: a broker that finds no other in time begins a cluster alone."""
        canary = f"{CANARY}-{secrets.token_hex(8)}"

        async def make(channel: Any) -> None:
            await self._declare(channel, canary)

        async def see(channel: Any) -> None:
            await channel.declare_queue(canary, passive=True)

        async def delete(channel: Any) -> None:
            await channel.queue_delete(canary)

        first, *others = nodes
        try:
            return await self._does(first, make) and all(
                await asyncio.gather(*(self._does(node, see) for node in others))
            )
        finally:
            await self._does(first, delete)

    async def _declare(self, channel: Any, name: str) -> Any:
        return await channel.declare_queue(name, durable=True, arguments=arguments(self._options.queue_type))

    async def _does(self, node: Node, do: Callable[[Any], Awaitable[None]]) -> bool:
        """Whether a broker does something in time that is asked of a channel."""
        link = None
        try:
            async with asyncio.timeout(_CANARY_SECONDS):
                link = await connect(node.address, self.password, _QUICK_SECONDS)
                await do(await link.channel())
        except Exception:  # the driver's own, too: whoever does not answer does not serve
            return False
        finally:
            if link is not None:
                await disconnect(link)
        return True

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        """All that answer are replicas: no broker leads the others, and who leads a queue its clients are not told."""
        seen = await asyncio.gather(*(self._answers(node) for node in cluster.nodes))
        return [Role(node.name, "replica") for node, answers in zip(cluster.nodes, seen, strict=True) if answers]

    async def _answers(self, node: Node) -> bool:
        """Whether a broker opens a channel. A connection is kept for the next time."""
        link = self._idle.pop(node, None)
        try:
            async with asyncio.timeout(_QUICK_SECONDS):
                if link is None or link.is_closed:
                    link = await connect(node.address, self.password, _QUICK_SECONDS)
                await (await link.channel()).close()
        except Exception:  # the driver's own, too: whoever does not answer says nothing
            if link is not None:
                await disconnect(link)
            return False
        except BaseException:
            if link is not None:
                await disconnect(link)
            raise
        if node in self._idle:  # somebody else has asked meanwhile
            await disconnect(link)
        else:
            self._idle[node] = link
        return True

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        return RabbitmqClient((node.name, node.address), timeout, self.password, self._options.queue_type)


def _called(node: Node) -> str:
    """The name of a broker."""
    return f"rabbit@{node.address}"


def _variables(node: Node) -> dict[str, str]:
    """The variables of a broker, and of whoever asks it something in Erlang."""
    keys, home = f"{node.directory}/{KEYS}", f"{node.directory}/rabbitmq"
    interface = node.address.replace(".", ",")
    return {
        "HOME": keys,
        "RABBITMQ_NODENAME": _called(node),
        "RABBITMQ_USE_LONGNAME": "true",
        "RABBITMQ_DIST_PORT": str(DISTRIBUTION_PORT),
        "RABBITMQ_MNESIA_BASE": home,
        "RABBITMQ_LOG_BASE": home,
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_CONFIG_FILE": f"{keys}/rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{keys}/enabled_plugins",
        "RABBITMQ_PID_FILE": f"{home}/rabbitmq.pid",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        # It does not wait for work by being busy, and nobody reaches it but by its own address.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none "
        f"-kernel inet_dist_use_interface {{{interface}}}",
        "ERL_EPMD_ADDRESS": node.address,
        "ERL_EPMD_PORT": str(NAMES_PORT),
    }
