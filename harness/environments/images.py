"""Building the node image, and a base for it where none can be pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import docker.errors

from harness.environments.engine import IMAGE, connect
from harness.errors import MissingError, NodeError

BASE: Final = "splitbrain/base:latest"
_DOCKERFILE: Final = Path(__file__).with_name("Dockerfile")


def build(packages: Iterable[str], *, bootstrap: bool, say: Callable[[str], None]) -> str:
    """Build the node image and return its name; with ``bootstrap`` on a base made from this machine's own sources.

    ``packages`` are those of the servers, of which it gets what its Debian has.
    """
    client = connect()
    arguments = {"PACKAGES": " ".join(packages)}
    if bootstrap:
        _bootstrap(client, say)
        # By its id: a name might be looked up in a registry.
        arguments["BASE"] = client.images.get(BASE).id
    say(f"building {IMAGE}")
    try:
        with _DOCKERFILE.open("rb") as dockerfile:
            for chunk in client.api.build(
                fileobj=dockerfile,
                tag=IMAGE,
                buildargs=arguments,
                rm=True,
                decode=True,
            ):
                if text := str(chunk.get("stream", "")).strip():
                    say(text)
                if "error" in chunk:
                    raise NodeError(f"the node image could not be built: {chunk['error'].strip()}{_hint(bootstrap)}")
    except docker.errors.APIError as error:
        raise NodeError(f"the node image could not be built: {error.explanation or error}{_hint(bootstrap)}") from None
    return IMAGE


def _hint(bootstrap: bool) -> str:
    return "" if bootstrap else "; where the base image cannot be pulled, add --bootstrap"


def _bootstrap(client: Any, say: Callable[[str], None]) -> None:
    if os.geteuid() != 0:
        raise MissingError("a base image can only be made by root: run `splitbrain images build --bootstrap` as root")
    if shutil.which("debootstrap") is None:
        raise MissingError("debootstrap is not on this machine: apt-get install debootstrap")
    mirror, suite, components = _own_sources()
    say(f"making {BASE} with debootstrap from {mirror} ({suite})")
    with tempfile.TemporaryDirectory(prefix="splitbrain-base-") as folder:
        root = Path(folder) / "root"
        command = ["debootstrap", "--variant=minbase", f"--components={components}", suite, str(root), mirror]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last_lines = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise NodeError(f"debootstrap failed: {' '.join(last_lines)}")
        archive = Path(folder) / "base.tar"
        packages = "--exclude=./var/cache/apt/archives/*.deb"
        subprocess.run(["tar", "-C", str(root), packages, "-cf", str(archive), "."], check=True)
        name, _, tag = BASE.partition(":")
        client.api.import_image_from_file(str(archive), repository=name, tag=tag)


def _own_sources() -> tuple[str, str, str]:
    """The mirror, the suite and the components that this machine's own packages come from."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release.get("VERSION_CODENAME", "").strip('"')
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in listed.stdout.splitlines():
        mirror, _, name = line.partition(" ")
        if name == suite:
            return mirror, suite, "main,universe" if release.get("ID") == "ubuntu" else "main"
    raise MissingError(
        f"this machine's apt sources name no mirror of {suite or 'a Debian release'}: see apt-get update"
    )
