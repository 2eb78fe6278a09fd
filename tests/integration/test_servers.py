"""What a server is given where it shares a machine with others, and what becomes of what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.local import LocalNode
from harness.environments.tools import ask, command
from harness.faults import clock, disk, output, process
from harness.faults.output import HEAD, LEFT_OUT, LOST, TAIL, is_shortened, join, keep, last
from tests.integration.inside import on

REAL = [
    pytest.param("local", marks=pytest.mark.needs("local")),
    pytest.param("ssh", marks=pytest.mark.needs("ssh")),
]
SAY = """
import json, os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
names = ("Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
print(json.dumps({"env": dict(os.environ), **{name: status[name].split() for name in names}}), flush=True)
import time; time.sleep(1000)
"""
READ_OTHERS = 1 << 2
"""CAP_DAC_READ_SEARCH."""
ENDLESS = """
import os, sys
os.write(1, b"first\\n")
line = b"x" * 4095 + b"\\n"
for number in range(40_000):
    os.write(1, line)
os.write(1, b"last\\n")
open(sys.argv[1], "w").close()
import time; time.sleep(1000)
"""
MIB = 1 << 20


async def said(node: Node, name: str, word: str) -> str:
    async def there() -> bool:
        return word in await node.log(name)

    await wait_until(there, seconds=60, what=f"{name} saying {word!r}")
    return await node.log(name)


async def a_server_has_no_privilege_and_nothing_of_the_harness(cluster: Cluster) -> None:
    (node,) = cluster.nodes
    os.environ["DEPLOY_TOKEN"] = "secret"
    await node.start("says", [node.python, "-c", SAY], {"GIVEN": "by the target"})
    seen = json.loads(await said(node, "says", "}"))
    assert seen["env"].pop("PATH").split(":")
    assert seen["env"].pop("HOME") == node.directory
    assert seen["env"].pop("GIVEN") == "by the target"
    assert set(seen["env"]) <= {"LANG", "LC_ALL", "LC_CTYPE", "TZ"}
    assert seen["Uid"] == ["0"] * 4
    assert seen["NoNewPrivs"] == ["1"]
    kept = READ_OTHERS if cluster.environment.name == "local" else 0
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(seen[name][0], 16) == kept, name
    assert int(seen["CapInh"][0], 16) == int(seen["CapAmb"][0], 16) == 0
    # It can be hurt all the same.
    await run_tool(node, ask(process.pause))
    (server,) = await run_tool(node, ask(process.look))
    assert server["threads"] == "T"
    await run_tool(node, ask(process.resume))

    async def sleeps_again() -> bool:
        (server,) = await run_tool(node, ask(process.look))
        return server["threads"] == "S"

    await wait_until(sleeps_again, seconds=60, what="the server sleeping again, after it has run for a moment")
    await run_tool(node, ask(clock.skew, offset=3600.0))
    assert (await run_tool(node, ask(clock.read)))["ahead"] == pytest.approx(3600, abs=1)
    await run_tool(node, ask(clock.heal))
    await run_tool(node, ask(process.kill))
    assert await run_tool(node, ask(process.look)) == []


async def a_long_log_keeps_its_ends(cluster: Cluster) -> None:
    (node,) = cluster.nodes
    done = f"{node.directory}/done"
    await node.start("endless", [node.python, "-c", ENDLESS, done])
    await said(node, "endless", "last\n")
    assert (await node.exec(["ls", done])).code == 0
    logs = node._logs if isinstance(node, LocalNode) else node.directory
    held = await node.exec(["sh", "-c", f"cat {logs}/endless.log* | wc -c"])
    assert int(held.text) <= HEAD + 2 * TAIL + MIB
    # One that is started again goes on with the same log.
    await run_tool(node, ask(process.kill))
    await node.start("endless", [node.python, "-c", "print('again', flush=True); import time; time.sleep(1000)"])
    assert "last\nagain\n" in await said(node, "endless", "again")


async def a_full_disk_keeps_nobody_from_printing(cluster: Cluster) -> None:
    (node,) = cluster.nodes
    await run_tool(node, ask(disk.fill, node.directory))
    await node.start("endless", [node.python, "-c", ENDLESS, "/run/done"])

    async def over() -> bool:
        return (await node.exec(["ls", "/run/done"])).code == 0

    await wait_until(over, seconds=60, what="the server having printed all that it has to say")
    await node.exec(["rm", "/run/done"])


@pytest.mark.parametrize("environment", REAL)
def test_a_server_has_no_privilege_and_nothing_of_the_harness(environment: str) -> None:
    on(environment, a_server_has_no_privilege_and_nothing_of_the_harness, nodes=1)


@pytest.mark.parametrize("environment", REAL)
def test_a_long_log_keeps_its_ends(environment: str) -> None:
    on(environment, a_long_log_keeps_its_ends, nodes=1)


@pytest.mark.needs("ssh")
def test_a_full_disk_keeps_nobody_from_printing() -> None:
    on("ssh", a_full_disk_keeps_nobody_from_printing, nodes=1)


def test_one_file_is_made_of_a_long_log_and_says_what_is_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    keep(path, b"first\n")
    join(path)
    assert Path(path).read_bytes() == b"first\n"
    assert not is_shortened(path)
    line = b"x" * 65535 + b"\n"
    for _ in range((HEAD + TAIL) // len(line) - 1):
        keep(path, line)
    whole = b"first\n" + line * ((HEAD + TAIL) // len(line) - 1)
    assert last(path, HEAD + TAIL) == whole
    join(path)
    assert Path(path).read_bytes() == whole
    assert not is_shortened(path)

    other = str(tmp_path / "other")
    for _ in range(5 * HEAD // len(line)):
        keep(other, line)
        assert sum(file.stat().st_size for file in tmp_path.glob("other*")) <= HEAD + 2 * TAIL + len(line)
    keep(other, b"last\n")
    assert last(other, 10) == b"xxxx\nlast\n"
    join(other)
    assert is_shortened(other)
    text = Path(other).read_bytes()
    assert text == (line * (HEAD // len(line)) + line)[:HEAD] + LEFT_OUT + text[-TAIL:]
    assert text.endswith(b"x\nlast\n")
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["log", "other"]


def test_what_prints_never_waits_for_a_disk_that_hangs(tmp_path: Path) -> None:
    """The log is a pipe that nobody reads: what cannot be written is left out, and said to be when it can again."""
    slow = tmp_path / "slow"
    os.mkfifo(slow)
    with open(os.open(slow, os.O_RDWR), "rb", buffering=0) as written:
        argv = command(sys.executable, ask(output.follow, path=str(slow)))
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
            assert reader.stdin is not None
            for _ in range(400):
                reader.stdin.write(b"x" * 65536)  # would hang for ever
            reader.stdin.close()
            seen = b""
            while LOST not in seen:
                seen = seen[-len(LOST) :] + written.read(65536)
            reader.kill()
