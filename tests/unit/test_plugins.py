"""Plug-ins are what their kinds say: to a type checker, and when they are loaded; bundled ones and a person's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from harness.capability import ALWAYS, OF_NODES, OF_STORES, Capability
from harness.checkers.availability import Availability
from harness.checkers.bank import Bank
from harness.checkers.branches import Branches
from harness.checkers.causal_reverse import CausalReverse
from harness.checkers.completeness import Completeness
from harness.checkers.convergence import Convergence
from harness.checkers.crashes import Crashes
from harness.checkers.elements import Elements
from harness.checkers.evidence import Evidence
from harness.checkers.lease import Lease
from harness.checkers.linearizability import Linearizable
from harness.checkers.lock import Lock
from harness.checkers.lost_transactions import LostTransactions
from harness.checkers.overwritten import Overwritten
from harness.checkers.queue import Queue
from harness.checkers.replication import Replication
from harness.checkers.split_brain import SplitBrain
from harness.checkers.total import Total
from harness.checkers.transactions import Transactional
from harness.checkers.unique_ids import UniqueIds
from harness.checkers.watch import Watch
from harness.environments.base import Environment, Guards, HasImage, Refuses
from harness.environments.docker import DockerEnvironment
from harness.environments.local import LocalEnvironment
from harness.environments.simulation.environment import SimulationEnvironment
from harness.environments.ssh import SshEnvironment
from harness.errors import UsageError
from harness.experiment import Experiment
from harness.nemeses.clock import Clock
from harness.nemeses.disk import Disk
from harness.nemeses.kill import Kill
from harness.nemeses.membership import Membership
from harness.nemeses.netem import Netem
from harness.nemeses.partition import Partition
from harness.nemeses.pause import Pause
from harness.nemeses.reshard import Reshard
from harness.nemeses.restart import Restart
from harness.nemeses.squeeze import Squeeze
from harness.nemeses.storage import Storage
from harness.nemesis import Nemesis, Observes, Prepares
from harness.plugins import KINDS, load, names
from harness.suitable import refuse_unsuitable, unsuitable
from harness.target import KnowsItself, ReadsOwnState, Target
from harness.targets.etcd import Etcd
from harness.targets.mariadb import Mariadb
from harness.targets.nats import Nats
from harness.targets.patroni import Patroni
from harness.targets.postgres import Postgres
from harness.targets.rabbitmq import Rabbitmq
from harness.targets.redis import Redis
from harness.targets.redis_cluster import RedisCluster
from harness.targets.reference.target import Reference
from harness.targets.zookeeper import Zookeeper
from harness.verdict import Checker, HasLevels, HasModels
from harness.workload import Workload
from harness.workloads.append import Append
from harness.workloads.atm import AtmWorkload
from harness.workloads.bank import BankWorkload
from harness.workloads.converge import Converge
from harness.workloads.counter import CounterWorkload
from harness.workloads.lease import LeaseWorkload
from harness.workloads.list_append import ListAppend
from harness.workloads.lock import LockWorkload
from harness.workloads.long_fork import LongFork
from harness.workloads.queue import QueueWorkload
from harness.workloads.register import Register
from harness.workloads.rmw import ReadModifyWrite
from harness.workloads.rw_register import RwRegister
from harness.workloads.set import SetWorkload
from harness.workloads.unique_ids import UniqueIdsWorkload
from harness.workloads.watch import WatchWorkload
from harness.workloads.write_skew import WriteSkew

ROOT: Final = Path(__file__).parents[2]
OWN: Final = ROOT / "tests" / "own"

# That these stand here under these types is what mypy looks at, below.
TARGETS: Mapping[str, Target] = {
    "etcd": Etcd(Etcd.Options()),
    "redis": Redis(Redis.Options()),
    "reference": Reference(Reference.Options()),
    "postgres": Postgres(Postgres.Options()),
    "patroni": Patroni(Patroni.Options()),
    "mariadb": Mariadb(Mariadb.Options()),
    "zookeeper": Zookeeper(Zookeeper.Options()),
    "redis-cluster": RedisCluster(RedisCluster.Options()),
    "nats": Nats(Nats.Options()),
    "rabbitmq": Rabbitmq(Rabbitmq.Options()),
}
WORKLOADS: Mapping[str, Workload] = {
    "register": Register(Register.Options()),
    "append": Append(Append.Options()),
    "converge": Converge(Converge.Options()),
    "set": SetWorkload(SetWorkload.Options()),
    "counter": CounterWorkload(CounterWorkload.Options()),
    "queue": QueueWorkload(QueueWorkload.Options()),
    "unique-ids": UniqueIdsWorkload(UniqueIdsWorkload.Options()),
    "bank": BankWorkload(BankWorkload.Options()),
    "atm": AtmWorkload(AtmWorkload.Options()),
    "lock": LockWorkload(LockWorkload.Options()),
    "lease": LeaseWorkload(LeaseWorkload.Options()),
    "watch": WatchWorkload(WatchWorkload.Options()),
    "list-append": ListAppend(ListAppend.Options()),
    "rw-register": RwRegister(RwRegister.Options()),
    "rmw": ReadModifyWrite(ReadModifyWrite.Options()),
    "long-fork": LongFork(LongFork.Options()),
    "write-skew": WriteSkew(WriteSkew.Options()),
}
NEMESES: Mapping[str, Nemesis] = {
    "partition": Partition(Partition.Options()),
    "kill": Kill(Kill.Options()),
    "pause": Pause(Pause.Options()),
    "restart": Restart(Restart.Options()),
    "squeeze": Squeeze(Squeeze.Options()),
    "clock": Clock(Clock.Options()),
    "disk": Disk(Disk.Options()),
    "netem": Netem(Netem.Options()),
    "storage": Storage(Storage.Options()),
    "membership": Membership(Membership.Options()),
    "reshard": Reshard(Reshard.Options()),
}
CHECKERS: Mapping[str, Checker] = {
    "evidence": Evidence(),
    "completeness": Completeness(),
    "availability": Availability(),
    "replication": Replication(),
    "crashes": Crashes(),
    "linearizable": Linearizable(),
    "convergence": Convergence(),
    "overwritten": Overwritten(),
    "elements": Elements(),
    "total": Total(),
    "queue": Queue(),
    "unique-ids": UniqueIds(),
    "bank": Bank(),
    "lock": Lock(),
    "lease": Lease(),
    "watch": Watch(),
    "causal-reverse": CausalReverse(),
    "branches": Branches(),
    "split-brain": SplitBrain(),
    "transactions": Transactional(),
    "lost-transactions": LostTransactions(),
}
ENVIRONMENTS: Mapping[str, Environment] = {
    "local": LocalEnvironment(),
    "docker": DockerEnvironment(),
    "ssh": SshEnvironment(),
    "simulation": SimulationEnvironment(),
}
BUNDLED: Mapping[str, Mapping[str, object]] = {
    "targets": TARGETS,
    "workloads": WORKLOADS,
    "nemeses": NEMESES,
    "checkers": CHECKERS,
    "environments": ENVIRONMENTS,
}
OPTIONAL: tuple[KnowsItself, ReadsOwnState, Prepares, Observes, HasModels, HasLevels, HasImage, Guards, Refuses] = (
    Etcd(Etcd.Options()),
    Redis(Redis.Options()),
    Storage(Storage.Options()),
    Clock(Clock.Options()),
    Linearizable(),
    Transactional(),
    DockerEnvironment(),
    DockerEnvironment(),
    SshEnvironment(),
)


def test_every_bundled_plugin_is_named_above_and_can_be_loaded() -> None:
    for kind in KINDS:
        assert {name: type(one) for name, one in BUNDLED[kind].items()} == {n: load(kind, n) for n in names(kind)}


def test_a_type_checker_sees_that_all_are_what_their_kinds_say(tmp_path: Path) -> None:
    files = [__file__, *map(str, sorted(OWN.glob("*.py")))]
    command = [sys.executable, "-m", "mypy", "--explicit-package-bases", "--config-file", str(ROOT / "pyproject.toml")]
    # A copy, where there is one: it is a data base, and locked by who writes to it.
    if (known := ROOT / ".mypy_cache").is_dir():
        shutil.copytree(known, tmp_path / "cache", ignore_dangling_symlinks=True)
    command += ["--cache-dir", str(tmp_path / "cache")]
    paths = {"MYPYPATH": f"{ROOT}{os.pathsep}{OWN}"}
    done = subprocess.run(
        [*command, *files], cwd=ROOT, env=os.environ | paths, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


NEMESIS = """
from harness.capability import Capability
from harness.nemesis import Layer, Nemesis

class Mine(Nemesis):
    name = "mine"
    needs = {Capability.KILL}
    layer = Layer.PROCESS
    least = 2
    def decks(self, zones): return {"whom": {"n1": 1.0}}
    def plan(self, rng, zones, dealt): return dict(dealt)
    async def inject(self, cluster, target, plan): return plan
    async def prove(self, cluster, target, done, seconds): raise NotImplementedError
    async def heal(self, cluster, target): return {}
"""
WRONG = {
    "(Nemesis)": ("", "is no nemesis: it does not extend harness.nemesis.Nemesis"),
    "    layer = Layer.PROCESS\n": ("", "is no nemesis: it has no layer"),
    "async def heal": ("async def healed", "is no nemesis: it has no heal"),
    "{Capability.KILL}": (
        '{"partitions"}',
        "its needs holds what it may not: one of it is 'partitions', which is no capability: did you mean partition?",
    ),
    "Layer.PROCESS": ("7", "its layer is 7, which is no layer: there are: clock, members"),
    '"mine"': ("None", "its name is None, which is no str"),
    "least = 2": ("leest = 9", "has leest, which no nemesis has: did you mean least?"),
    "    least = 2": ("    Options = dict", "its Options is no class that extends msgspec.Struct"),
    "least = ": ("least = 'a' * ", "its least is 'aa', which is no int"),
    "async def prove": ("def prove", "its prove must be `async def`"),
    "def decks(self, zones)": ("async def decks(self, zones)", "its decks must be `def`, and not `async def`"),
    "least = 2\n": ("def __init__(self): pass\n", "its __init__ must take 2 arguments: (self, options)"),
    "rng, zones, dealt": ("rng, zones", "its plan must take 4 arguments: (self, rng, zones, dealt)"),
    "    least": ("    observed = least", "has observed, which no nemesis has: did you mean observe?"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_class_that_is_not_what_its_kind_must_be_is_refused_by_name(tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(NEMESIS)
    assert load("nemeses", f"{file}:Mine").__name__ == "Mine"
    assert wrong in NEMESIS
    instead, said = WRONG[wrong]
    file.write_text(NEMESIS.replace(wrong, instead, 1))
    with pytest.raises(UsageError) as refused:
        load("nemeses", f"{file}:Mine")
    assert str(refused.value).startswith(f"{file}:Mine ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_property_may_stand_for_a_value_and_no_method_for_a_property(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    store = "from harness.targets.reference.target import Reference\nclass Mine(Reference):\n    "
    file.write_text(store + "failover = property(lambda self: 1.0)")
    assert load("targets", f"{file}:Mine")
    file.write_text(store + "def membership(self): return self")
    with pytest.raises(UsageError, match="its membership must be a property"):
        load("targets", f"{file}:Mine")
    file.write_text(store + "ports = [1, '2']")
    with pytest.raises(UsageError, match="its ports holds what it may not: one of it is '2', which is no int"):
        load("targets", f"{file}:Mine")
    file.write_text(store + "leadership = 'forwarded'")
    assert load("targets", f"{file}:Mine")
    file.write_text(store + "leadership = 'both'")
    with pytest.raises(UsageError, match="its leadership is 'both', and can be 'primary', 'forwarded', 'none'"):
        load("targets", f"{file}:Mine")
    file.write_text(store + "client = None")
    with pytest.raises(UsageError, match="its client is no method"):
        load("targets", f"{file}:Mine")


def test_every_capability_is_of_nodes_or_of_stores_and_every_need_is_one() -> None:
    assert {*OF_NODES, *OF_STORES} == set(Capability)
    assert OF_NODES.keys() >= ALWAYS
    assert {need for nemesis in NEMESES.values() for need in nemesis.needs} == set(Capability) - {Capability.MONOTONIC}
    assert Clock(Clock.Options(monotonic=True)).also_needs == {Capability.MONOTONIC}


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_what_an_environment_never_can_is_refused_with_its_reason(name: str) -> None:
    environment = ENVIRONMENTS[name]
    assert all(environment.lacks(capability) == why for capability, why in environment.never.items())
    assert not any(map(environment.lacks, ALWAYS))


@pytest.mark.parametrize(("replication", "can"), [("raft", True), ("gossip", False)])
def test_whether_members_can_change_follows_from_what_the_target_has(replication: str, can: bool) -> None:
    target, nemesis = Reference(Reference.Options(replication=replication)), Membership(Membership.Options())
    assert (target.membership is not None) is can
    experiment = Experiment("reference", nemeses=("membership",))

    def refuse() -> None:
        parts = ENVIRONMENTS["simulation"], target, WORKLOADS["register"], {"membership": nemesis}
        refuse_unsuitable(experiment, *parts)

    if can:
        refuse()
        return
    with pytest.raises(UsageError, match="needs a target with membership; reference is set up without"):
        refuse()


def test_who_lacks_something_of_stores_says_what_it_takes_or_that_nothing_does() -> None:
    reshard = Reshard(Reshard.Options())
    experiment = Experiment("reference", nemeses=("reshard",))
    said = unsuitable(reshard, experiment, ENVIRONMENTS["simulation"], Reference(Reference.Options()))
    assert said == (
        "`nemeses=reshard` needs a target with reshard; reference is set up without, and has it with "
        "`options.shards=2` or more"
    )
    assert not unsuitable(reshard, experiment, ENVIRONMENTS["simulation"], Reference(Reference.Options(shards=2)))
    said = unsuitable(reshard, experiment, ENVIRONMENTS["simulation"], Etcd(Etcd.Options()))
    assert said == "`nemeses=reshard` needs a target with reshard; etcd has no reshard with any options"
