"""Machines with an ssh server, for tests: nodes in namespaces with a real sshd in each."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.cluster import wait_until
from harness.environments.base import Node
from harness.environments.ssh import SshEnvironment

PORT = 2222


async def prepare(folder: Path, nodes: Sequence[Node]) -> SshEnvironment.Options:
    """Start sshd on each machine, and say how to get in: by a key file, and host keys that are known."""
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        await asyncio.to_thread(subprocess.run, key, check=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    host_key = (folder / "host.pub").read_text()
    known = "".join(f"[{node.address}]:{PORT} {host_key}" for node in nodes)
    (folder / "known").write_text(known)
    for node in nodes:
        await serve(node, folder)
    hosts = ",".join(f"root@{node.address}:{PORT}" for node in nodes)
    return SshEnvironment.Options(hosts=hosts, key=str(folder / "user"), known_hosts=str(folder / "known"))


async def with_user(node: Node, name: str, *, sudo: bool = False) -> None:
    """Give a machine a user, who may become root if ``sudo``: its /etc is a copy of its own."""
    script = """
    set -e
    mkdir -p "$1" && cp -a /etc/. "$1"
    echo "$2:x:4242:4242::/tmp:/bin/sh" >> "$1/passwd"; echo "$2:x:4242:" >> "$1/group"
    echo "$2:*:19000:0:99999:7:::" >> "$1/shadow"
    if [ -n "$3" ]; then echo "$2 ALL=(ALL) NOPASSWD: ALL" > "$1/sudoers.d/$2"; chmod 440 "$1/sudoers.d/$2"; fi
    mount --bind "$1" /etc
    """
    done = await node.exec(["sh", "-c", script, "sh", f"{node.directory}/etc", name, "yes" if sudo else ""])
    assert done.code == 0, done.text


async def serve(node: Node, folder: Path) -> None:
    """Start sshd on a machine, which has a home directory and other directories of its own.

    A shell that sshd starts reads what this machine's user has in .bashrc, and may change files there.
    """
    own = [["mount", "-t", "tmpfs", "own", path] for path in ("/run", "/var/tmp", str(Path.home()))]
    for command in (*own, ["mkdir", "/run/sshd"]):
        done = await node.exec(command)
        assert done.code == 0, done.text
    options = {
        "Port": PORT,
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized",
        "StrictModes": "no",
        "UsePAM": "no",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "PidFile": "none",
        "MaxStartups": "100",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    # Not as a server of the node: those have none of the privileges that sshd needs.
    script = 'log=$1; shift; setsid /usr/sbin/sshd "$@" >"$log" 2>&1 </dev/null &'
    log = f"{node.directory}/sshd.log"
    await node.exec(["sh", "-c", script, "sh", log, "-D", "-e", "-f", "/dev/null", *words])

    async def up() -> bool:
        return b"listening" in (await node.exec(["cat", log])).out

    await wait_until(up, seconds=90, what="sshd")
