"""Getting to a machine over ssh: how its place is written, and a connection to whoever is known to be there."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import socket
from typing import Final, NamedTuple, Protocol

import paramiko

from harness.errors import MissingError, UsageError, option

PULSE_SECONDS: Final = 5.0
"""How often something goes over a connection, whatever else is going on."""
_CONNECT_SECONDS: Final = 15.0
_HOST: Final = re.compile(
    r"(?:(?P<user>[\w.-]+)@)?"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)

# What goes wrong is raised, and told in one sentence: paramiko would print it as well, with a traceback of its thread.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


class Place(NamedTuple):
    """Where a host is: ``USER@HOST:PORT``, of which only the host must be given; ``[ADDRESS]`` for one of IPv6."""

    user: str | None
    host: str
    port: int

    @staticmethod
    def parse(text: str, name: str) -> Place:
        """Read what an option has. Raises ``UsageError`` for what is no place."""
        user, at, bare = text.strip().rpartition("@")
        parts = _HOST.fullmatch(f"{user}{at}[{bare}]" if _is_six(bare) else text.strip())
        port = int(parts["port"] or 22) if parts else 0
        if parts is None or not 1 <= port <= 65535 or (parts["six"] and not _is_six(parts["six"])):
            raise UsageError(
                f"{option(name)} has {text!r}, which is no host: write USER@HOST:PORT, of which HOST must be there, as "
                "[ADDRESS] if it is one of IPv6, and PORT is at most 65535"
            )
        return Place(parts["user"], parts["six"] or parts["host"], port)

    def addresses(self) -> list[str]:
        """Its addresses, those of IPv4 first: faults and most stores know only these.

        Raises ``MissingError`` when there is none.
        """
        try:
            infos = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise MissingError(f"there is no host named {self.host}: {error.strerror}") from None
        infos.sort(key=lambda info: info[0] != socket.AF_INET)
        return list(dict.fromkeys(str(info[4][0]) for info in infos))


def _is_six(text: str) -> bool:
    """Whether it is an address of IPv6."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


class Access(Protocol):
    """How to get in: a file with a key, one with the keys of hosts, and a host on the way, each perhaps empty."""

    @property
    def key(self) -> str: ...

    @property
    def known_hosts(self) -> str: ...

    @property
    def jump(self) -> str: ...


def check_files(access: Access) -> None:
    """Raise ``UsageError`` where a file that was named cannot be read."""
    for name, file in (("key", access.key), ("known_hosts", access.known_hosts)):
        path = os.path.expanduser(file)
        if file and not os.access(path, os.R_OK):
            why = "it may not be read" if os.path.exists(path) else "there is no such file"
            raise UsageError(f"{option(name, file)}: {why}")


def connect(place: Place, access: Access, *, through: Place | None = None) -> list[paramiko.SSHClient]:
    """The connections that lead to a host whose key is known, the last one to itself. All must be kept.

    Raises ``MissingError`` or ``UsageError`` with what to do.
    """
    check_files(access)
    way: list[paramiko.SSHClient] = []
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    try:
        client.load_system_host_keys()
        if access.known_hosts:
            client.load_system_host_keys(os.path.expanduser(access.known_hosts))
        channel = None
        if through is not None:
            way = connect(through, access)
            bastion = way[-1].get_transport()
            assert bastion is not None
            channel = bastion.open_channel("direct-tcpip", (place.host, place.port), ("127.0.0.1", 0))
        key = os.path.expanduser(access.key) or None
        client.connect(
            place.host, place.port, place.user, key_filename=key, sock=channel, timeout=_CONNECT_SECONDS,
            banner_timeout=_CONNECT_SECONDS, auth_timeout=_CONNECT_SECONDS,
        )  # fmt: skip
        transport = client.get_transport()
        assert transport is not None
        transport.set_keepalive(int(PULSE_SECONDS))
        return [*way, client]
    except BaseException as error:
        for opened in (client, *reversed(way)):
            opened.close()
        if isinstance(error, (paramiko.SSHException, OSError, EOFError)):
            raise _told(error, place, access) from None
        raise


def _told(error: Exception, place: Place, access: Access) -> MissingError | UsageError:
    """What went wrong with a connection, and what to do about it."""
    if isinstance(error, paramiko.BadHostKeyException):
        return MissingError(f"the host key of {place.host} is not the one that is known: somebody else may answer")
    if isinstance(error, paramiko.PasswordRequiredException):
        return UsageError(
            f"{option('key', access.key)}: the key has a passphrase; give it to an agent (ssh-add) instead"
        )
    if isinstance(error, paramiko.AuthenticationException):
        return MissingError(
            f"{place.host} does not let {place.user or 'this user'} in: use an agent, or {option('key', 'FILE')}"
        )
    if "known_hosts" in str(error):
        return MissingError(
            f"the host key of {place.host} is not known: check it, and put it into known_hosts (ssh-keyscan), or "
            f"name another file with {option('known_hosts', 'FILE')}"
        )
    if isinstance(error, paramiko.SSHException):
        return MissingError(f"{place.host} cannot be used over ssh: {error}")
    return MissingError(f"{place.host}, port {place.port}, cannot be reached: {error}")
