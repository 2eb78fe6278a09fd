"""What SECURITY.md says of a node of each environment, held against one that runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import run_tool
from harness.environments.tools import ask
from harness.faults.process import look
from harness.targets.reference.target import Reference
from tests.integration.inside import on

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
SECTIONS = {"local": "--on local", "docker": "--on docker", "ssh": "--on ssh"}
REAL = [
    pytest.param("local", marks=pytest.mark.needs("local")),
    pytest.param("docker", marks=pytest.mark.needs("docker")),
    pytest.param("ssh", marks=pytest.mark.needs("ssh")),
]
CAPABILITIES = [
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner"),
    *("sys_module", "sys_rawio", "sys_chroot", "sys_ptrace"),
]
"""The first ones, by number; no node has further ones alone."""
LOOK = r"""
import json, os, sys

def text(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""

processes = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    status = dict(line.split(":\t", 1) for line in text(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    if status:
        processes.append({
            "pid": int(pid), "parent": int(status["PPid"]), "command": text(f"/proc/{pid}/cmdline").split("\0"),
            "user": int(status["Uid"].split()[1]), "effective": int(status["CapEff"], 16),
            "bounding": int(status["CapBnd"], 16), "no_new": status["NoNewPrivs"].strip() == "1",
        })
listening = []
for name in ("tcp", "tcp6", "udp", "udp6"):
    for line in text(f"/proc/net/{name}").splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" or name.startswith("udp"):
            listening.append([name, words[1]])
files = []
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        seen = os.lstat(path)
        files.append([os.path.relpath(path, sys.argv[1]), oct(seen.st_mode & 0o7777)[2:], seen.st_uid])
data = os.lstat(sys.argv[1])
mounts = [line.split()[1:4] for line in text("/proc/self/mounts").splitlines()]
print(json.dumps({
    "me": os.getpid(), "processes": processes, "listening": listening, "files": files, "mounts": mounts,
    "data": [oct(data.st_mode & 0o7777)[2:], data.st_uid],
}))
"""


def tables(environment: str) -> dict[str, list[list[str]]]:
    """The tables of an environment's section, each by the first word of its head: its rows as cells."""
    text = SECURITY.read_text()
    (section,) = (part for part in text.split("\n## ")[1:] if f"`{SECTIONS[environment]}`" in part.splitlines()[0])
    found: dict[str, list[list[str]]] = {}
    for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
        found[head[0]] = rows
    return found


def named(mask: int) -> str:
    """A set of capabilities in words."""
    if mask >> len(CAPABILITIES):
        return "all"
    return ", ".join(sorted(name for number, name in enumerate(CAPABILITIES) if mask >> number & 1)) or "none"


def what(process: dict[str, Any], seen: dict[str, Any], servers: set[int]) -> str | None:
    """What SECURITY.md calls a process; None for one that is no part of the node."""
    command = process["command"]
    if process["pid"] == seen["me"]:
        return "tool, for a moment"
    if process["pid"] in servers:
        return "server"
    for word, name in (("hold", "leash"), ("follow", "reader of a server's output")):
        if word in command:
            return name
    if command[0].startswith("sshd"):
        return None  # the host's own
    return "first of the node"


async def a_node_is_as_the_tables_say(cluster: Cluster) -> None:
    environment, node = cluster.environment.name, cluster.nodes[0]
    store = Reference(Reference.Options())
    for other in cluster.nodes:
        await store.start(cluster, other)
    await wait_until(lambda: store.ready(cluster), seconds=120, what="the store's being ready")
    servers = {one["pid"] for one in await run_tool(node, ask(look))}
    done = await node.exec([node.python, "-c", LOOK, node.directory])
    assert done.code == 0, done.text
    seen = json.loads(done.out)
    said = tables(environment)

    processes = set()
    for process in seen["processes"]:
        # On ssh the first process is that of the machine, which is a node of the environment local here.
        if (name := what(process, seen, servers)) is None or (environment == "ssh" and name == "first of the node"):
            continue
        assert process["effective"] & ~process["bounding"] == 0
        more = "no" if process["no_new"] and process["bounding"] == process["effective"] else "yes"
        user = "root" if process["user"] == 0 else str(process["user"])
        processes.add((name, user, named(process["effective"]), more))
    assert processes == {tuple(row) for row in said["process"]}, (processes, seen["processes"])

    for place, type_, wanted in said["mount"]:
        path = node.directory if place.endswith("directory") else place
        mounted = [(kind, options.split(",")) for at, kind, options in seen["mounts"] if at == path]
        assert mounted, f"nothing is mounted at {path}"
        assert any(kind == type_ and set(wanted.split(", ")) <= set(given) for kind, given in mounted), (place, mounted)

    address = bytes(reversed([int(part) for part in node.address.split(".")])).hex().upper()
    listens = set()
    for protocol, where in seen["listening"]:
        host, port = where.split(":")
        if environment == "ssh" and int(port, 16) == 2222:
            continue  # sshd
        assert host == address or host.endswith("7F"), f"{protocol} {where} is open to others"
        if host == address:
            assert int(port, 16) in store.ports
            listens.add(("server", "its own address"))
        else:
            listens.add(("the engine's name server", "loopback"))
    assert listens == {tuple(row) for row in said["listens"]}

    modes = {row[0]: row[1:] for row in said["file"]}
    assert [seen["data"][0], "root" if seen["data"][1] == 0 else ""] == modes["data"]
    written = [one for one in seen["files"] if not one[0].startswith(".")]
    assert written
    assert {(mode, user) for _, mode, user in written} == {(modes["what servers write"][0], 0)}


@pytest.mark.parametrize("environment", REAL)
def test_security_md_is_true(environment: str) -> None:
    on(environment, a_node_is_as_the_tables_say)
