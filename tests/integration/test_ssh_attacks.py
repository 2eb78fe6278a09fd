"""What other users of a host try, what lies in the way there, and connections that break: each does no harm."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.cluster import Cluster, wait_until
from harness.environments import ssh
from harness.environments.base import Node, run_tool
from harness.environments.ssh import SshEnvironment
from harness.environments.tools import ask
from harness.errors import MissingError, NodeError, UsageError
from harness.faults import network, process
from harness.faults.network import Peer
from tests.conftest import SPLITBRAIN
from tests.integration import hosts
from tests.integration.inside import on
from tests.integration.test_ssh import arguments, traces

ROOT = Path(__file__).parents[2]

NOBODY = 65534


async def shell(node: Node, script: str, *words: str) -> str:
    """What a script prints on a machine, where it must not fail."""
    done = await node.exec(["sh", "-ec", script, "sh", *words])
    assert done.code == 0, done.text
    return done.text


async def as_nobody(node: Node, script: str, *words: str) -> int:
    """How a script of an ordinary user's ends on a machine."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return (await node.exec([*user, "sh", "-c", script, "sh", *words])).code


def peer(cluster: Cluster) -> Peer:
    """The second node, as one that the first is cut from."""
    return {"addresses": [cluster.nodes[1].address], "direction": "in"}


async def refused(options: SshEnvironment.Options, **changed: Any) -> str:
    """Why a machine cannot be used in this way."""
    with pytest.raises((MissingError, NodeError, UsageError)) as error:
        await asyncio.to_thread(_start_and_stop, msgspec.structs.replace(options, **changed))
    return str(error.value)


def _start_and_stop(options: SshEnvironment.Options) -> None:
    async def start_and_stop() -> None:
        environment = SshEnvironment(options=options)
        try:
            await environment.start(["n1"], Path(tempfile.gettempdir()), "refused")
        finally:
            await environment.stop()

    asyncio.run(start_and_stop())


@contextlib.contextmanager
def sources_of_a_developer(folder: Path) -> Iterator[str]:
    """A package as it lies in the folder of an ordinary user."""
    mine = folder / "mine"
    shutil.copytree(ROOT / "targets" / "reference", mine / "developers")
    for path in mine.rglob("*"):
        os.chown(path, 4242, 4242)
        path.chmod(0o777)
    sys.path.append(str(mine))
    try:
        yield "developers"
    finally:
        sys.path.remove(str(mine))


async def what_a_run_writes_is_roots_alone(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        host = cluster.nodes[0]
        assert await as_nobody(host, "cd /var/tmp && mkdir -p splitbrain/run && ln -s /etc/planted splitbrain/x") == 0
        environment = SshEnvironment(options=options)
        try:
            with sources_of_a_developer(Path(folder)) as package:
                [node] = await environment.start(["n1"], Path(folder), "run", [package])
            assert (await node.exec(["test", "-s", f"{node.directory}/{node.shipped}/{package}/raft.py"])).code == 0
            await node.start("sleeper", ["sleep", "1000"])
            await node.write(f"{node.directory}/etc/some.conf", b"text")
            assert node.directory.startswith("/var/tmp/splitbrain-run-")
            assert (await node.exec(["stat", "-c", "%a %u", node.directory])).text == "700 0"
            mounted = (await node.exec(["findmnt", "-no", "OPTIONS", node.directory])).text.split(",")
            assert {"nosuid", "nodev"} <= set(mounted)
            writable = ["find", node.directory, "!", "-type", "l", "(", "!", "-uid", "0", "-o", "-perm", "/022", ")"]
            assert (await node.exec(writable)).text == ""
            assert await as_nobody(host, 'ls "$1"', node.directory) != 0
            assert (await node.exec(["stat", "-c", "%U", "/var/tmp/splitbrain"])).text == "nobody"
        finally:
            await environment.stop()
        assert await shell(host, "ls /var/tmp") == "splitbrain"


async def a_folder_that_others_can_change_is_refused(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        host = cluster.nodes[0]
        assert await as_nobody(host, "mkdir /var/tmp/theirs && ln -s /var/tmp/theirs /var/tmp/link") == 0
        await shell(host, "mkdir -m 777 /var/tmp/open && mkdir -m 755 /var/tmp/open/below")
        assert f"belongs to user {NOBODY}" in await refused(options, directory="/var/tmp/theirs")
        assert f"belongs to user {NOBODY}" in await refused(options, directory="/var/tmp/link")
        assert "/var/tmp/open" in await refused(options, directory="/var/tmp/open")
        assert "/var/tmp/open" in await refused(options, directory="/var/tmp/open/below")
        assert "/var/tmp/missing: No such file" in await refused(options, directory="/var/tmp/missing")
        assert (await shell(host, "ls /var/tmp")).split() == ["link", "open", "theirs"]
        assert await shell(host, "ls /var/tmp/theirs") == ""
        left = await shell(host, "ls /run")
        assert "splitbrain" not in left, left


async def no_link_is_followed(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        environment = SshEnvironment(options=options)
        try:
            [node] = await environment.start(["n1"], Path(folder), "links")
            await shell(node, "mkdir /var/tmp/other && echo mine >/var/tmp/other/file")
            await shell(
                node, 'cd "$1" && ln -s /var/tmp/other folder && ln -s /var/tmp/other/file file', node.directory
            )
            for path in ("folder/file", "folder/new", "../../var/tmp/other/file", "/var/tmp/other/file", ".", ""):
                with pytest.raises(NodeError, match="could not be written"):
                    await node.write(os.path.join(node.directory, path), b"theirs")
            await node.write(f"{node.directory}/file", b"ours")
            assert await shell(node, "cat /var/tmp/other/*") == "mine"
            assert await shell(node, 'cat "$1/file"', node.directory) == "ours"
        finally:
            await environment.stop()


async def a_step_that_fails_is_undone(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        host = cluster.nodes[0]
        await shell(host, "mount --bind /bin/false /usr/bin/mount")
        assert "mount -t tmpfs" in await refused(options)
        assert await traces(host) == ""


async def an_ordinary_user_is_refused_and_leaves_nothing(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = cluster.nodes[0]
        await hosts.with_user(host, "tester")
        options = await hosts.prepare(Path(folder), cluster.nodes)
        Path(folder).chmod(0o755)
        said = await refused(options, hosts=options.hosts.replace("root@", "tester@"))
        assert "is not root" in said
        assert "Traceback" not in said
        assert await traces(host) == ""


async def a_link_to_the_folder_is_no_hiding_place(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        host = cluster.nodes[0]
        await shell(host, "mkdir /var/tmp/real && ln -s real /var/tmp/link")
        environment = SshEnvironment(options=msgspec.structs.replace(options, directory="/var/tmp/link"))
        try:
            [node] = await environment.start(["n1"], Path(folder), "link")
            await node.start("sleeper", ["sleep", "1001"])
            assert [one["command"] for one in await run_tool(node, ask(process.kill))] == ["sleep"]
            assert await node.running() == {"sleeper": False}
        finally:
            await environment.stop()
        assert await shell(host, "ls /var/tmp/real; ps -eo args | grep '[s]leep 1001' || true") == ""


async def what_still_lives_in_the_end_is_said(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        environment = SshEnvironment(options=options)
        [node] = await environment.start(["n1"], Path(folder), "lives")
        await node.start("wanderer", ["sh", "-c", "cd / && exec sleep 1002"])

        async def has_left() -> bool:
            return await shell(cluster.nodes[0], "ps -eo args | grep '^sleep 1002' || true") != ""

        await wait_until(has_left, seconds=90, what="the server leaving the run's directory")
        with pytest.raises(NodeError, match=r"sleep \(process \d+\) had to be ended: it had left the run's directory"):
            await environment.stop()
        assert await traces(cluster.nodes[0]) == ""
        assert await shell(cluster.nodes[0], "ps -eo args | grep '[s]leep 1002' || true") == ""


async def nobody_else_can_hold_a_name(cluster: Cluster) -> None:
    hold = """
    import socket, time
    held = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    for one, name in zip(held, ("leash", "clock", "flapping", "netem", "squeeze")):
        one.bind("\\0splitbrain-" + name)
        one.listen()
    time.sleep(1000)
    """
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        host = cluster.nodes[0]
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        argv = [*user, "python3", "-c", "\n".join(line[4:] for line in hold.splitlines())]
        await host.exec(["sh", "-c", 'setsid "$@" >/dev/null 2>&1 </dev/null &', "sh", *argv])

        async def held() -> bool:
            return "@splitbrain-leash" in await shell(host, "cat /proc/net/unix")

        await wait_until(held, seconds=90, what="somebody holding the names")
        environment = SshEnvironment(options=options)
        try:
            [node] = await environment.start(["n1"], Path(folder), "names")
            await run_tool(node, ask(network.cut, peers=[peer(cluster)], flap=0.5))
            assert "SPLITBRAIN" in await traces(host)
            await run_tool(node, ask(network.heal))
        finally:
            await environment.stop()
        assert await traces(host) == ""
        assert await held()


async def a_broken_link_heals_at_both_ends(cluster: Cluster) -> None:
    pytest.MonkeyPatch().setattr(ssh, "SILENCE_SECONDS", 3.0)
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        environment = SshEnvironment(options=options)
        host = cluster.nodes[0]
        [node] = await environment.start(["n1"], Path(folder), "link")
        await node.start("sleeper", ["sleep", "1003"])
        await run_tool(node, ask(network.cut, peers=[peer(cluster)]))
        assert "SPLITBRAIN" in await traces(host)
        await asyncio.sleep(2 * ssh.SILENCE_SECONDS)
        assert "SPLITBRAIN" in await traces(host), "a link over which nothing else goes is not a broken one"
        driver = cluster.environment.driver["address"]
        await shell(host, 'iptables -I INPUT -s "$1" -j DROP && iptables -I OUTPUT -d "$1" -j DROP', driver)

        async def clean() -> bool:
            left = await shell(host, "ps -eo args | grep '[s]leep 1003' || true")
            return not left and not await traces(host)

        await wait_until(clean, seconds=90, what="the host being clean")

        async def noticed() -> bool:
            try:
                await node.exec(["true"], timeout=1)
            except NodeError as error:
                return "broke" in str(error)
            except TimeoutError:
                return False
            return False

        await wait_until(noticed, seconds=90, what="the harness noticing")
        with pytest.raises(NodeError, match=r"the connection to .* broke"):
            await environment.stop()


async def a_leash_that_is_ended_undoes_everything(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        environment = SshEnvironment(options=options)
        host = cluster.nodes[0]
        [node] = await environment.start(["n1"], Path(folder), "ended")
        await node.start("sleeper", ["sleep", "1004"])
        await shell(host, "kill $(pgrep -f [s]plitbrain-ended | head -n 1)")
        with pytest.raises(NodeError):
            await environment.stop()
        assert await traces(host) == ""
        assert await shell(host, "ps -eo args | grep '[s]leep 1004' || true") == ""


async def what_is_wrong_with_the_way_in_is_named(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        locked = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", f"{folder}/locked"]
        await asyncio.to_thread(subprocess.run, locked, check=True)
        assert f"`options.key={folder}/none`: there is no such file" in await refused(options, key=f"{folder}/none")
        assert "`options.known_hosts=/none`: there is no such file" in await refused(options, known_hosts="/none")
        assert "passphrase" in await refused(options, key=f"{folder}/locked")
        host = cluster.nodes[0]
        await host.start("talker", ["python3", "-c", _TALKER])
        hosts_of_run = f"root@{host.address}:{_TALKER_PORT}"
        command = [SPLITBRAIN, "run", "reference", "--on", "ssh", "--nodes", "1", "--time", "1"]
        given = msgspec.structs.replace(options, hosts=hosts_of_run)
        done = await asyncio.to_thread(
            subprocess.run, [*command, *arguments(given)], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 4, done.stderr
        assert "cannot be used over ssh" in done.stderr
        assert "Traceback" not in done.stderr
        assert "paramiko" not in done.stderr


_TALKER_PORT = 2345
_TALKER = f"""
import socket
with socket.create_server(("", {_TALKER_PORT})) as server:
    while True:
        with server.accept()[0] as connection:
            connection.sendall(b"220 this is not ssh\\r\\n" * 200)
"""


async def a_host_is_reached_by_its_other_address(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = cluster.nodes[0]
        await shell(host, "ip -6 address add fd00:66::1/64 dev eth0 nodad")
        add = ["ip", "-6", "address", "add", "fd00:66::254/64", "dev", "splitbrain0", "nodad"]
        await asyncio.to_thread(subprocess.run, add, check=True)
        options = await hosts.prepare(Path(folder), cluster.nodes)
        known = Path(folder) / "known"
        known.write_text(f"[fd00:66::1]:{hosts.PORT} {(Path(folder) / 'host.pub').read_text()}")
        six = msgspec.structs.replace(options, hosts=f"root@[fd00:66::1]:{hosts.PORT}")
        environment = SshEnvironment(options=six)
        try:
            [node] = await environment.start(["n1"], Path(folder), "six")
            assert node.address == host.address
            assert (await node.exec(["hostname"])).text == "n1"
        finally:
            await environment.stop()


@pytest.mark.needs("ssh")
@pytest.mark.parametrize(
    "scenario",
    [
        what_a_run_writes_is_roots_alone,
        a_folder_that_others_can_change_is_refused,
        no_link_is_followed,
        a_step_that_fails_is_undone,
        an_ordinary_user_is_refused_and_leaves_nothing,
        a_link_to_the_folder_is_no_hiding_place,
        what_still_lives_in_the_end_is_said,
        nobody_else_can_hold_a_name,
        a_broken_link_heals_at_both_ends,
        a_leash_that_is_ended_undoes_everything,
        what_is_wrong_with_the_way_in_is_named,
        a_host_is_reached_by_its_other_address,
    ],
)
def test_over_ssh(scenario: Any) -> None:
    on("local", scenario)
