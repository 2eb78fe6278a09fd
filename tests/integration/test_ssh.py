"""Runs on existing machines: how to get in, what is left alone, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.ssh import SshEnvironment
from harness.environments.tools import ask
from harness.errors import MissingError, NodeError, UsageError
from harness.faults import process
from tests.conftest import SPLITBRAIN
from tests.integration import hosts
from tests.integration.inside import on

RUN = ["run", "reference", "--on", "ssh", "--time", "12", "--interval", "2", "--format", "json", "--runs", "r"]


def arguments(options: SshEnvironment.Options) -> list[str]:
    given = msgspec.to_builtins(options)
    return [word for name, value in given.items() if value for word in ("-o", f"{name}={value}")]


async def traces(node: Node) -> str:
    """What a run has left on a machine: processes, rules, directories."""
    found = await node.exec(
        ["sh", "-c", "ps -eo args | grep '[t]argets.reference'; ls -d /var/tmp/splitbrain* /run/splitbrain*"]
    )
    rules = await node.exec(["sh", "-c", "iptables -S; iptables -t mangle -S"])
    return found.out.decode() + "\n".join(line for line in rules.text.splitlines() if "SPLITBRAIN" in line)


async def a_run_touches_only_what_is_its_own_and_leaves_nothing(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        for node in cluster.nodes:
            await node.start("bystander", ["sleep", "1000"])
        nemeses = ["--nemesis", "partition,kill,pause,clock,netem,disk,restart,squeeze", "--overlap", "--seed", "2"]
        command = [SPLITBRAIN, *RUN, *nemeses, *arguments(options)]
        run = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = await run.communicate()
        assert run.returncode in (0, 3), err.decode()
        verdict = json.loads(out)["verdict"]
        assert verdict["validity"] != "invalid"
        assert any(fault["proved"] for fault in verdict["parts"]["evidence"]["evidence"]["faults"].values()), verdict
        for node in cluster.nodes:
            assert await traces(node) == ""
            assert (await node.running())["bystander"]
            assert (await node.exec(["pgrep", "-x", "sshd"])).code == 0
        assert len(list(Path(folder).glob("r/*/nodes/n*/reference.log"))) == 3


async def a_killed_harness_leaves_nothing_on_the_machines(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        command = [SPLITBRAIN, *RUN, "--nemesis", "partition", "-o", "partition=clients", *arguments(options)]
        run = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=subprocess.PIPE)

        async def cut() -> bool:
            return any(["SPLITBRAIN-IN" in await traces(node) for node in cluster.nodes])

        await wait_until(cut, seconds=60, what="a cut from the clients")
        assert all(["SPLITBRAIN-GUARD" in await traces(node) for node in cluster.nodes])
        run.kill()
        await run.wait()

        async def clean() -> bool:
            return all([not await traces(node) for node in cluster.nodes])

        await wait_until(clean, seconds=60, what="the machines being clean")


async def who_is_not_known_or_not_let_in_is_named(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        (Path(folder) / "other").write_text("")

        async def refused(**changed: Any) -> str:
            environment = SshEnvironment(options=msgspec.structs.replace(options, **changed))
            with pytest.raises((MissingError, UsageError)) as error:
                await environment.start(["n1"], Path(folder), "refused")
            await environment.stop()
            return str(error.value)

        assert "host key of 10.66.0.1 is not known" in await refused(known_hosts=str(Path(folder) / "other"))
        stranger = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/stranger"]
        await asyncio.to_thread(subprocess.run, stranger, check=True)
        assert "does not let" in await refused(key=f"{folder}/stranger")
        assert "cannot be reached" in await refused(hosts="root@10.66.0.1:4")
        assert "no host named" in await refused(hosts="root@nowhere.invalid")
        assert "as many hosts" in await refused(hosts="")
        assert "twice" in await refused(hosts="root@10.66.0.1:2222,root@10.66.0.1:2222")
        wrong = "[10.66.0.1]:2222 " + (Path(folder) / "stranger.pub").read_text()
        (Path(folder) / "other").write_text(wrong)
        assert "not the one that is known" in await refused(known_hosts=str(Path(folder) / "other"))


async def a_jump_host_leads_to_those_behind_it(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        for node in cluster.nodes[1:]:
            hidden = ["-s", cluster.environment.driver["address"], "-p", "tcp", "--dport", str(hosts.PORT)]
            done = await node.exec(["iptables", "-A", "INPUT", *hidden, "-j", "REJECT"])
            assert done.code == 0, done.text
        first, *behind = options.hosts.split(",")
        directly = SshEnvironment(options=msgspec.structs.replace(options, hosts=",".join(behind)))
        with pytest.raises(MissingError):
            await directly.start(["n2", "n3"], Path(folder), "directly")
        through = SshEnvironment(options=msgspec.structs.replace(options, hosts=",".join(behind), jump=first))
        try:
            nodes = await through.start(["n2", "n3"], Path(folder), "through")
            assert [(await node.exec(["hostname"])).text for node in nodes] == ["n2", "n3"]
        finally:
            await through.stop()


async def a_host_that_another_run_has_is_refused(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        one, other = SshEnvironment(options=options), SshEnvironment(options=options)
        try:
            nodes = await one.start(["n1", "n2"], Path(folder), "one")
            await nodes[1].start("sleeper", ["sleep", "1000"])
            with pytest.raises(NodeError, match="another run, or another node of this one, uses this host"):
                await other.start(["n1", "n2", "n3"], Path(folder), "other")
            await other.stop()
            assert (await nodes[1].running())["sleeper"]
        finally:
            await one.stop()
        try:
            await other.start(["n1", "n2", "n3"], Path(folder), "again")
        finally:
            await other.stop()


async def sudo_makes_root_of_a_user(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for node in cluster.nodes:
            await hosts.with_user(node, "tester", sudo=True)
        options = await hosts.prepare(Path(folder), cluster.nodes)
        Path(folder).chmod(0o755)
        hosts_of_tester = options.hosts.replace("root@", "tester@")
        environment = SshEnvironment(options=msgspec.structs.replace(options, hosts=hosts_of_tester, sudo=True))
        try:
            nodes = await environment.start(["n1"], Path(folder), "sudo")
            assert (await nodes[0].exec(["id", "-u"])).out == b"0\n"
            await nodes[0].start("sleeper", ["sleep", "1000"])
            assert [one["command"] for one in await run_tool(nodes[0], ask(process.look))] == ["sleep"]
        finally:
            await environment.stop()


@pytest.mark.needs("ssh")
@pytest.mark.parametrize(
    "scenario",
    [
        a_run_touches_only_what_is_its_own_and_leaves_nothing,
        a_killed_harness_leaves_nothing_on_the_machines,
        who_is_not_known_or_not_let_in_is_named,
        a_jump_host_leads_to_those_behind_it,
        a_host_that_another_run_has_is_refused,
        pytest.param(sudo_makes_root_of_a_user, marks=pytest.mark.needs("sudo")),
    ],
)
def test_over_ssh(scenario: Any) -> None:
    on("local", scenario)
