"""A Docker engine: reaching it, the images that it has, and what runs leave with it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import docker
import docker.errors
import requests

import harness
from harness.errors import MissingError, NodeError, field

T = TypeVar("T")

IMAGE: Final = f"splitbrain/node:{harness.__version__}"
RUN_LABEL: Final = "splitbrain.run"
OWNER_LABEL: Final = "splitbrain.owner"
"""Says which process on which machine a container belongs to, so that leftovers can be told from runs that still go."""

PART_LABEL: Final = "splitbrain.part"
_BY_NETWORK: Final = ("tcp", "http", "https", "ssh")
_SOCKET: Final = "unix:///var/run/docker.sock"
_OWN_IMAGE: Final = re.compile(r"((index\.)?docker\.io/)?splitbrain/(node|base)([:@].*)?")


def connect() -> Any:
    """A client of this machine's Docker engine.

    Raises ``MissingError`` when none answers, when this user may not use it, and when it is on another machine.
    """
    named = os.environ.get("DOCKER_HOST", "")
    if _is_elsewhere(named):
        raise MissingError(
            f"DOCKER_HOST names an engine on another machine ({named}), whose containers cannot be reached from here: "
            f"unset it to use this machine's own, or use {field('environment', 'ssh')}"
        )
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except (docker.errors.DockerException, requests.RequestException):
        if closed := _closed_socket():
            raise MissingError(
                f"this user may not use the Docker engine at {closed}: ask an administrator to add you to its group "
                f"(usually docker), or set DOCKER_HOST to an engine of your own, or use {field('environment', 'local')}"
            ) from None
        raise MissingError(
            "no Docker engine answers: start one (apt-get install docker.io), or set DOCKER_HOST, or use "
            f"{field('environment', 'local')}"
        ) from None
    return client


def _is_elsewhere(named: str) -> bool:
    """Whether an engine that DOCKER_HOST names is on another machine; one whose name nobody knows does not answer."""
    scheme, apart, _ = named.partition("://")
    if (apart and scheme not in _BY_NETWORK) or not named or named.startswith(("/", "unix:")):
        return False
    try:
        place = urlsplit(named if apart else f"tcp://{named}")
        addresses = socket.getaddrinfo(place.hostname or "localhost", place.port or 1, type=socket.SOCK_DGRAM)
    except (OSError, ValueError):
        return False
    return not any(_is_own(family, address) for family, _, _, _, address in addresses)


def _is_own(family: int, address: tuple[Any, ...]) -> bool:
    """Whether it is this machine that has an address: it is then reached from the same one, or by loopback."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return bool(probe.getsockname()[0] == address[0] or ipaddress.ip_address(address[0]).is_loopback)
    return False


def _closed_socket() -> str | None:
    """The path of the engine's socket, if it is there and this user may not connect to it."""
    kind, _, path = (os.environ.get("DOCKER_HOST") or _SOCKET).partition("://")
    try:
        return path if kind == "unix" and os.stat(path) and not os.access(path, os.R_OK | os.W_OK) else None
    except PermissionError:
        return path
    except OSError:
        return None


async def call(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call the Docker SDK, which blocks, without stopping the clients."""
    try:
        return await asyncio.to_thread(function, *arguments, **named)
    except docker.errors.ImageNotFound as error:
        raise MissingError(f"the image is not there: {error.explanation}") from None
    except docker.errors.APIError as error:
        raise NodeError(f"the Docker engine refused: {error.explanation or error}") from None


# Images


def node_image(client: Any) -> Any:
    """The node image, which is never taken from anybody else. Raises ``MissingError`` when it has to be built."""
    image = _find(client, IMAGE)
    if image is None:
        raise MissingError(
            f"the engine has no node image {IMAGE}: `splitbrain images build` makes it (--bootstrap: offline)"
        )
    return image


def image_of(client: Any, name: str | None) -> Any:
    """The image of this name, or the node image; a vendor's that is not there is pulled. Raises ``MissingError``."""
    if name is None or name == IMAGE:
        return node_image(client)
    image = _find(client, name)
    if image is None and _OWN_IMAGE.fullmatch(name):
        raise MissingError(f"the engine has no image {name}, and nobody publishes it: see `splitbrain images build`")
    if image is None:
        print(f"splitbrain: pulling the image {name} from its registry", file=sys.stderr)
        try:
            image = client.images.pull(name)
        except docker.errors.APIError as error:
            raise MissingError(
                f"the image {name} is not there and cannot be pulled: {error.explanation or error}"
            ) from None
    return image


def digest_of(image: Any) -> str:
    """What an image can be told by: NAME@DIGEST in the registry that it is from, else the engine's own id of it."""
    return str(next(iter(image.attrs.get("RepoDigests") or []), image.id))


def _find(client: Any, name: str) -> Any:
    try:
        return client.images.get(name)
    except docker.errors.ImageNotFound:
        return None
    except docker.errors.APIError as error:
        raise MissingError(f"the engine cannot look for the image {name}: {error.explanation or error}") from None


# What runs leave


def owner() -> str:
    """This process, told apart from every other one that ever ran on this machine."""
    return f"{_here()}/{os.getpid()}/{_began('self')}"


def _here() -> str:
    """This machine since it was started, and the process numbers that are used here."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()}/{boot}/{os.stat('/proc/self/ns/pid').st_ino}"


def _began(process: str) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]


def alive(label: str) -> bool:
    """Whether the process that wrote an owner label still runs, as far as can be told from here.

    Those of other machines count as running, and so do those whose numbers are of another pid namespace, or unknown.
    """
    words, here = label.split("/"), _here().split("/")
    if len(words) != len(here) + 2:
        return True
    host, boot, _, process, began = words
    if words[: len(here)] == here:
        try:
            return _began(str(int(process))) == began
        except (OSError, ValueError):
            return False
    # Nobody's process outlives its machine.
    return host != here[0] or boot == here[1]


def remove(client: Any, matches: Callable[[Mapping[str, str]], bool]) -> dict[str, list[str]]:
    """Remove every container, network and volume of ours whose labels match; the names of what was removed.

    What cannot be removed keeps nothing else from being so. Raises ``docker.errors.APIError`` in the end.
    """
    query = {"label": RUN_LABEL}
    removed: dict[str, list[str]] = {"containers": [], "networks": [], "volumes": []}
    refusals: list[docker.errors.APIError] = []

    @contextlib.contextmanager
    def going_on() -> Iterator[None]:
        try:
            yield
        except docker.errors.NotFound:
            pass
        except docker.errors.APIError as error:
            if "already in progress" not in str(error.explanation):
                refusals.append(error)

    # Other runs end meanwhile: a container of theirs may be gone between the engine's list and the look at it.
    listed = client.containers.list(all=True, filters=query, ignore_removed=True)
    containers = [container for container in listed if matches(container.labels)]
    # A sidecar last: the servers' containers live in its namespaces.
    for container in sorted(containers, key=lambda c: c.labels.get(PART_LABEL) == "sidecar"):
        with going_on():
            container.remove(force=True, v=True)
            removed["containers"].append(container.name)
    for kind, collection in (("networks", client.networks), ("volumes", client.volumes)):
        for thing in collection.list(filters=query):
            labels = thing.attrs.get("Labels") or {}
            if matches(labels):
                with going_on():
                    thing.remove()
                    removed[kind].append(thing.name)
    if refusals:
        raise refusals[0]
    return removed
