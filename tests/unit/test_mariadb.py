"""What a client of MariaDB makes of what a server answers, what is written for a server, and who begins a cluster."""

from __future__ import annotations

import importlib
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.cluster import Cluster, Role
from harness.environments.base import Result
from harness.errors import MissingError, NodeError, UsageError
from harness.operation import Declined, Failed, Indeterminate, Operation, Served
from harness.targets import mariadb_client
from harness.targets.mariadb import PROVIDER, Mariadb
from harness.targets.mariadb_client import MariadbClient, driver
from harness.targets.mariadb_servers import COPY, SCRIPT
from tests.unit.test_targets import Blank

aiomysql: Any = driver()

WRITE = Operation("txn", None, [["r", 1, None], ["append", 1, 5]])
READ = Operation("txn", None, [["r", 1, None]])
MOVE = Operation("transfer", "bank", {"from": "a", "to": "b", "amount": 3})


class Server:
    """Answers statements as a link does; ``wrong`` is what it raises for one of them."""

    def __init__(self, at: str = "", wrong: BaseException | None = None, rows: Sequence[Sequence[Any]] = ()) -> None:
        self._at, self._wrong, self._rows = at, wrong, rows
        self.said: list[str] = []
        self.closed = False

    def _take(self, query: str) -> None:
        self.said.append(query.split()[0])
        if self._wrong is not None and query.startswith(self._at):
            raise self._wrong

    async def change(self, query: str, *args: Any) -> int:
        self._take(query)
        return 0

    async def fetch(self, query: str, *args: Any) -> Sequence[Sequence[Any]]:
        self._take(query)
        return self._rows

    def drop(self) -> None:
        self.closed = True


async def done(server: Server, operation: Operation, monkeypatch: pytest.MonkeyPatch) -> Any:
    async def connected(*_: Any) -> Server:
        return server

    monkeypatch.setattr(mariadb_client, "connect", connected)
    client = MariadbClient("n2", "10.0.0.2", 1.0, "secret")
    await client.open()
    return await client.invoke(operation)


async def test_a_committed_transaction_is_answered_with_what_it_read(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(rows=[("3 4", None)])
    answer = await done(server, WRITE, monkeypatch)
    assert answer == Served([["r", 1, [3, 4]], ["append", 1, 5]], by="n2")
    assert server.said == ["BEGIN", "SELECT", "INSERT", "COMMIT"]


def error(code: int, kind: str = "OperationalError") -> BaseException:
    raised: BaseException = getattr(aiomysql, kind)(code, "what the server says")
    return raised


@pytest.mark.parametrize(
    ("at", "wrong", "operation", "raised", "dropped"),
    [
        ("BEGIN", error(1047), WRITE, Failed, False),
        ("BEGIN", ConnectionResetError("reset"), WRITE, Failed, False),
        ("SELECT", error(1020), WRITE, Declined, False),
        ("INSERT", error(1213), WRITE, Declined, False),
        ("INSERT", error(1205), WRITE, Declined, False),
        ("INSERT", error(2013), WRITE, Failed, False),
        ("INSERT", error(1062, "IntegrityError"), WRITE, Failed, False),
        ("COMMIT", error(1213), WRITE, Declined, False),
        ("COMMIT", error(1020), WRITE, Declined, False),
        ("COMMIT", error(1205), WRITE, Indeterminate, True),
        ("COMMIT", error(1047), WRITE, Indeterminate, True),
        ("COMMIT", error(1180), WRITE, Indeterminate, True),
        ("COMMIT", error(1317), WRITE, Indeterminate, True),
        ("COMMIT", error(2013), WRITE, Indeterminate, True),
        ("COMMIT", aiomysql.InterfaceError("(0, 'Not connected')"), WRITE, Indeterminate, True),
        ("COMMIT", ConnectionResetError(1213, "no error of the server"), WRITE, Indeterminate, True),
        ("COMMIT", TimeoutError(), WRITE, Indeterminate, True),
        ("COMMIT", error(2013), READ, Failed, True),
        ("COMMIT", ZeroDivisionError(), WRITE, ZeroDivisionError, True),
        ("INSERT", ZeroDivisionError(), WRITE, ZeroDivisionError, True),
    ],
)
async def test_only_what_is_certain_is_a_failure(
    at: str,
    wrong: BaseException,
    operation: Operation,
    raised: type[BaseException],
    dropped: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(at, wrong)
    with pytest.raises(raised) as caught:
        await done(server, operation, monkeypatch)
    assert type(caught.value) is raised
    assert server.closed == dropped
    assert ("ROLLBACK" in server.said) == (at != "COMMIT" and raised is not ZeroDivisionError)


@pytest.mark.parametrize("operation", [Operation("cas", "k", [1, 2]), MOVE, Operation("lock", "k", 1)])
async def test_what_is_not_allowed_is_rolled_back(operation: Operation, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(rows=[(2,)])
    with pytest.raises(Failed) as caught:
        await done(server, operation, monkeypatch)
    assert isinstance(caught.value, Declined) == (operation.f != "lock")
    assert server.said[-1] == "ROLLBACK"
    assert "COMMIT" not in server.said


async def test_a_server_that_cannot_be_reached_has_done_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: Any) -> None:
        raise error(2003)

    monkeypatch.setattr(mariadb_client, "connect", refused)
    with pytest.raises(Failed, match=r"n2 cannot be reached: what the server says \(2003\)"):
        await MariadbClient("n2", "10.0.0.2", 1.0, "secret").invoke(WRITE)


async def test_a_missing_driver_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    why = "it is spoken to through aiomysql, which is not installed: pip install 'splitbrain[mariadb]'"
    assert Mariadb(Mariadb.Options()).unfit_for("list-append") == why
    with pytest.raises(MissingError, match="pip install"):
        mariadb_client.driver()


class Told(Blank):
    """A node that runs what it was told to, and has data as described: UUID:NUMBER, and whether it knows the others.

    ``position`` is what was said of it, with the code 1 where that is an error. A server ``lives`` unless it ends at
    once.
    """

    def __init__(self, number: int, position: str, *, knows: bool) -> None:
        super().__init__()
        self.name, self.address = f"n{number}", f"10.0.0.{number}"
        self._position, self._knows = position, knows
        self.parts: list[str] = []
        self.runs = False
        self.lives = True
        self.galera = True
        self.files: dict[str, str] = {}
        self.argv: list[str] = []

    async def write(self, path: str, data: bytes) -> None:
        self.files[path.rpartition("/")[2]] = data.decode()

    async def start(self, name: str, argv: Any, env: Any = None) -> None:
        self.argv = [*argv, *(env or ())]
        self.parts.append(argv[-1])
        self.runs = self.lives

    async def running(self) -> Mapping[str, bool]:
        return {"mariadb": self.runs}

    async def exec(self, argv: Sequence[str], *, timeout: float = 30.0) -> Result:
        if argv[0] == "test":
            return Result(0 if (self.galera if argv[-1] == PROVIDER else self._knows) else 1, b"")
        assert argv[-1] == "position"
        if self._position == "late":
            raise TimeoutError
        if self._position.startswith("InnoDB"):
            return Result(1, b"", self._position.encode())
        return Result(0, self._position.encode(), b"what else is said is no number: 99")


@pytest.fixture(autouse=True)
def _first_node_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is to join a cluster waits for that; those that follow wait for who begins it."""

    async def status(self: Mariadb, node: Any) -> Mapping[str, str] | None:
        return {"wsrep_ready": "OFF" if node.parts[-1] == "follow" else "ON"} if node.runs else None

    monkeypatch.setattr(Mariadb, "_status", status)


def told(*nodes: Told, where: str = "local") -> Cluster:
    environment = SimpleNamespace(name=where, real_time=True, driver={"address": "10.0.0.254"})
    return Cluster(cast(Any, environment), [cast(Any, node) for node in nodes], 0)


NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("positions", "knows", "begins"),
    [
        (["u:7", "u:12", "u:9"], [True, False, True], "n2"),
        (["", "u:-1", "u:9"], [False, False, False], "n3"),
        (["", "u:-1", ""], [False, False, False], "n2"),
        ([f"{NOBODY}:12", "", "u:1"], [False, False, False], "n3"),
        (["", "", ""], [False, False, False], "n1"),
        (["u:7", "u:7", "u:7"], [False, True, True], "n1"),
        (["u:7", "u:12", "u:9"], [True, True, True], None),  # they find one another
    ],
)
async def test_who_has_most_begins_the_cluster_anew_once_all_have_been_down(
    positions: list[str], knows: list[bool], begins: str | None
) -> None:
    nodes = [Told(at + 1, positions[at], knows=knows[at]) for at in range(3)]
    cluster, store = told(*nodes), Mariadb(Mariadb.Options())
    for node in cluster.nodes:
        await store.start(cluster, node)
    assert [node.parts for node in nodes] == [["first"], ["join"], ["join"]]

    nodes[0].runs = False  # others go on: there is a cluster, which is to be joined
    await store.start(cluster, cluster.nodes[0])
    assert nodes[0].parts == ["first", "join"]

    for down in nodes:
        down.runs = False
        down.parts.clear()
    for node in reversed(cluster.nodes):
        await store.start(cluster, node)
    assert {each.name: each.parts for each in nodes} == {
        each.name: ["join" if begins is None else "first" if each.name == begins else "follow"] for each in nodes
    }

    for node in cluster.nodes:  # once more, while there is a cluster
        await store.start(cluster, node)
    assert [each.parts[1:] for each in nodes] == [["join"]] * 3


@pytest.mark.parametrize(
    ("position", "why"),
    [
        ("InnoDB: no page 3\nInnoDB: cannot", "the data of mariadb on n2 hold could not be read: InnoDB: cannot"),
        ("late", "the data of mariadb on n2 hold could not be read within 30 s"),
        ("7", "the data of mariadb on n2 hold could not be read"),
        ("v:3", "the data of mariadb are of several clusters: u on n1, v on n2, u on n3"),
    ],
)
async def test_nobody_begins_a_cluster_anew_unless_it_is_certain_who_has_most(position: str, why: str) -> None:
    nodes = [Told(1, "u:7", knows=False), Told(2, position, knows=False), Told(3, "u:9", knows=False)]
    cluster, store = told(*nodes), Mariadb(Mariadb.Options())
    for node in cluster.nodes:
        await store.start(cluster, node)
    for down in nodes:
        down.runs = False
        down.parts.clear()
    with pytest.raises(NodeError, match=why):
        await store.start(cluster, cluster.nodes[0])
    assert [each.parts for each in nodes] == [[], [], []]


async def test_who_ends_before_the_cluster_has_begun_is_to_begin_it_still() -> None:
    nodes = [Told(1, "u:7", knows=False), Told(2, "u:12", knows=False), Told(3, "u:9", knows=False)]
    cluster, store = told(*nodes), Mariadb(Mariadb.Options())
    for node in cluster.nodes:
        await store.start(cluster, node)
    for down in nodes:
        down.runs = False
        down.parts.clear()
    nodes[1].lives = False
    for node in cluster.nodes:
        await store.start(cluster, node)
    nodes[1].lives = True
    await store.start(cluster, cluster.nodes[1])
    assert [each.parts for each in nodes] == [["follow"], ["first", "first"], ["follow"]]
    nodes[1].runs = False  # there is a cluster now
    await store.start(cluster, cluster.nodes[1])
    assert nodes[1].parts == ["first", "first", "join"]


async def test_who_was_to_begin_a_cluster_joins_where_there_is_one() -> None:
    nodes = [Told(1, "u:7", knows=False), Told(2, "u:12", knows=False)]
    cluster, store = told(*nodes), Mariadb(Mariadb.Options())
    for node in cluster.nodes:
        await store.start(cluster, node)
    for down in nodes:
        down.runs = False
    nodes[1].lives = False
    for node in cluster.nodes:
        await store.start(cluster, node)
    nodes[0].parts.append("join")  # it serves: the other one has begun a cluster, and only then ended
    await store.start(cluster, cluster.nodes[1])
    assert nodes[1].parts[-2:] == ["first", "join"]


async def test_several_nodes_are_refused_where_galera_would_be_open_to_others() -> None:
    nodes = [Told(1, "", knows=False), Told(2, "", knows=False)]
    cluster = told(*nodes, where="ssh")
    with pytest.raises(UsageError, match="cannot have mariadb on several nodes: Galera lets in"):
        await Mariadb(Mariadb.Options()).start(cluster, cluster.nodes[0])
    assert [(each.parts, each.files) for each in nodes] == [([], {})] * 2
    alone = told(nodes[0], where="ssh")
    await Mariadb(Mariadb.Options()).start(alone, alone.nodes[0])
    assert nodes[0].parts == ["alone"]


async def test_a_missing_galera_is_told_before_any_of_several_nodes_is_started() -> None:
    nodes = [Told(1, "", knows=False), Told(2, "", knows=False)]
    nodes[1].galera = nodes[0].galera = False
    cluster = told(*nodes)
    with pytest.raises(MissingError, match=r"libgalera_smm\.so is not on n1: apt-get install galera-4"):
        await Mariadb(Mariadb.Options()).start(cluster, cluster.nodes[0])
    assert [each.parts for each in nodes] == [[], []]
    alone = told(nodes[0])
    await Mariadb(Mariadb.Options()).start(alone, alone.nodes[0])
    assert nodes[0].parts == ["alone"]


STUB = """#!/bin/sh
case $* in *--wsrep-recover*)
  echo "WSREP: Recovered position: u:7" >&2
  exit "$(cat recovers)" ;;
esac
echo "$@" >>started
ls "$HOLDS" >>started
cat says
exit "$(sed -n "$(grep -c -- --defaults started)p" ends)"
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., tuple[int, list[str], str]]:
    """Runs the script of a node that has data, with a server that says and does what it is told to.

    Answers the code that the script ended with, what each server was started with or found, and what was printed.
    """
    (tmp_path / "keys").mkdir()
    data = tmp_path / "mariadb" / "data"
    data.mkdir(parents=True)
    for name in ("ibdata1", "gvwstate.dat"):
        (data / name).write_text("something")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {"mariadbd": STUB, "id": "#!/bin/sh\necho 1000\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    def run(*, says: str = "", ends: Sequence[int] = (0,), recovers: int = 0) -> tuple[int, list[str], str]:
        for name, text in {"says": says, "ends": "\n".join(map(str, ends)) + "\n", "recovers": str(recovers)}.items():
            (tmp_path / name).write_text(text)
        done = subprocess.run(
            ["sh", "-c", SCRIPT, "sh", str(tmp_path / "mariadb"), str(tmp_path / "keys"), "first"],
            cwd=tmp_path,
            env={"PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin", "HOLDS": str(data)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        started = (tmp_path / "started").read_text().splitlines()
        return done.returncode, [line.removeprefix(f"--defaults-file={tmp_path}/keys/my.cnf ") for line in started], (
            done.stdout + done.stderr
        )  # fmt: skip

    return run


KEPT = ["gvwstate.dat", "ibdata1"]
NOT_SENT = "0 [ERROR] WSREP: ./gcs/src/gcs_group.cpp:1225: Will never receive state. Need to abort.\n"
POSITION = "--wsrep-start-position=u:7"


def test_a_server_that_is_not_sent_its_state_joins_again(script: Callable[..., tuple[int, list[str], str]]) -> None:
    code, started, printed = script(says=NOT_SENT, ends=[134, 0])
    assert (code, started) == (0, [f"{POSITION} --wsrep-new-cluster", *KEPT, POSITION, *KEPT])
    assert printed == NOT_SENT * 2


@pytest.mark.parametrize(
    ("says", "code"), [("[ERROR] mariadbd got signal 6 ;\n", 134), (NOT_SENT, 139), (NOT_SENT, 1), ("", 134)]
)
def test_any_other_end_of_a_server_is_its_end(
    says: str, code: int, script: Callable[..., tuple[int, list[str], str]]
) -> None:
    assert script(says=says, ends=[code, 0]) == (code, [f"{POSITION} --wsrep-new-cluster", *KEPT], says)


def test_a_server_whose_position_cannot_be_read_is_started_all_the_same(
    script: Callable[..., tuple[int, list[str], str]],
) -> None:
    code, started, printed = script(recovers=1)
    assert (code, started) == (0, ["--wsrep-new-cluster", *KEPT])
    assert "Recovered position" in printed


def test_a_copy_that_has_not_come_to_its_end_is_no_data(
    script: Callable[..., tuple[int, list[str], str]], tmp_path: Path
) -> None:
    partial = tmp_path / "mariadb" / "partial"
    partial.touch()
    assert script() == (0, ["--wsrep-new-cluster", "gvwstate.dat"], "")
    assert not partial.exists()


@pytest.mark.parametrize(
    ("role", "code", "partial"), [("joiner", 0, False), ("joiner", 32, True), ("donor", 32, False)]
)
def test_only_a_copy_that_has_come_to_its_end_is_data(role: str, code: int, partial: bool, tmp_path: Path) -> None:
    rsync, mark = tmp_path / "wsrep_sst_rsync", tmp_path / "partial"
    rsync.write_text(f'#!/bin/sh\n[ ! -e "$PARTIAL" ] || echo partial\necho "$@"\nexit {code}\n')
    rsync.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", COPY, "sh", "--role", role, "--address", "a b"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PARTIAL": str(mark)},
        capture_output=True,
        text=True,
        check=False,
    )
    words = ["partial"] if role == "joiner" else []
    assert (done.returncode, done.stdout.splitlines()) == (code, [*words, f"--role {role} --address a b"])
    assert mark.exists() == partial


async def test_passwords_are_in_no_argument_and_in_one_file() -> None:
    node, other = Told(1, "", knows=False), Told(2, "", knows=False)
    store = Mariadb(Mariadb.Options(innodb_snapshot_isolation="off", wsrep_sync_wait=1))
    cluster = told(node, other)
    await store.start(cluster, cluster.nodes[0])
    assert store.password not in " ".join(node.argv)
    assert {name for name, text in node.files.items() if store.password in text} == {"users.sql"}
    assert f"'splitbrain'@'10.0.0.254' IDENTIFIED BY '{store.password}'" in node.files["users.sql"]
    lines = node.files["my.cnf"].splitlines()
    for line in (
        "bind-address = 10.0.0.1",
        "transaction-isolation = SERIALIZABLE",
        "innodb-snapshot-isolation = OFF",
        "wsrep-sync-wait = 1",
        "wsrep-cluster-address = gcomm://10.0.0.1,10.0.0.2",
        "wsrep-sst-receive-address = 10.0.0.1:4444",
    ):
        assert line in lines
    assert any("gmcast.listen_addr=tcp://10.0.0.1:4567;ist.recv_addr=10.0.0.1:4568" in line for line in lines)


async def test_one_server_knows_nothing_of_galera() -> None:
    node = Told(1, "", knows=False)
    cluster, store = told(node), Mariadb(Mariadb.Options())
    await store.start(cluster, cluster.nodes[0])
    node.runs = False
    await store.start(cluster, cluster.nodes[0])
    assert node.parts == ["alone", "alone"]
    assert "wsrep" not in node.files["my.cnf"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("261128 10:15:00 [ERROR] mariadbd got signal 6 ;", {"panic"}),
        ("261128 10:15:00 [ERROR] /usr/sbin/mariadbd got signal 11 ;", {"panic"}),
        ("2026-11-28  9:58:47 0 [Note] WSREP: mariadbd: Terminated.", set()),
        (
            "2026-11-28 10:15:00 0x7f InnoDB: Assertion failure in file ./storage/log0log.cc line 3",
            {"failed assertion"},
        ),
        (
            "2026-11-28 10:15:00 2 [ERROR] WSREP: Inconsistency detected: Inconsistent by consensus on a:7",
            {"inconsistent node"},
        ),
        ("2026-11-28 10:15:00 0 [ERROR] [FATAL] InnoDB: Data file is too short", {"panic"}),
        ("2026-11-28 10:15:00 0 [ERROR] InnoDB: Database page corruption on disk", {"corrupt file"}),
        ("2026-11-28 10:15:00 118 [ERROR] Got error 123 when reading table './splitbrain/held'", set()),
        ("2026-11-28 10:15:00 0 [ERROR] WSREP: gcs connect failed: Numerical result out of range", set()),
    ],
)
def test_which_lines_of_its_log_are_anomalies(line: str, found: set[str]) -> None:
    assert {kind for kind, pattern in Mariadb.log_patterns.items() if re.search(pattern, line)} == found


@pytest.mark.parametrize(
    ("status", "role", "position"),
    [
        ({"wsrep_provider_name": "", "wsrep_cluster_status": "Disconnected", "wsrep_ready": "OFF"}, "primary", None),
        ({"wsrep_provider_name": "Galera", "wsrep_cluster_status": "Disconnected"}, "candidate", None),
        ({"wsrep_provider_name": "Galera", "wsrep_cluster_status": "non-Primary"}, "candidate", None),
        (
            {"wsrep_provider_name": "Galera", "wsrep_cluster_status": "Primary", "wsrep_last_committed": "7"},
            "peer",
            7,
        ),
    ],
)
async def test_what_a_node_is(
    status: Mapping[str, str], role: str, position: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def said(self: Mariadb, node: Any) -> Mapping[str, str]:
        return status

    monkeypatch.setattr(Mariadb, "_status", said)
    cluster = told(Told(1, "", knows=False))
    assert await Mariadb(Mariadb.Options()).roles(cluster) == [Role("n1", role, None, position)]
