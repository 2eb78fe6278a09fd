from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from harness.assembly import assemble
from harness.cli.experiment import ExperimentOptions
from harness.errors import UsageError
from harness.executors import connect
from harness.experiment import Experiment
from harness.options import (
    Kilobytes,
    Mebibytes,
    Milliseconds,
    Nodes,
    Number,
    Plugin,
    Rate,
    Seconds,
    Share,
    Text,
    options_of,
    plain,
    read,
)
from harness.plugins import distribute, load, names, parse_options
from harness.suitable import refuse_unsuitable
from harness.targets.reference.bugs import BUGS

NODES = ["n1", "n2", "n3"]


class Some(msgspec.Struct):
    """Options of every kind."""

    time: Annotated[float, Seconds(0.001, 3600, zero="never"), "how long"] = 1.0
    patience: Annotated[int, Milliseconds(1, 10_000)] = 100
    part: Annotated[float | None, Share(0.01, 1)] = None
    size: Annotated[int, Mebibytes(1, 4096)] = 64
    line: Annotated[float, Kilobytes(1, 1_000_000)] = 100.0
    often: Annotated[float, Rate(0.001, 1000)] = 1.0
    count: Annotated[int, Number(1, 2**63 - 1)] = 1
    kind: Annotated[Literal["a", "b"], "which"] = "a"
    whom: Annotated[str, Nodes(("any", "one"))] = "any"
    word: Annotated[str, Text("a word", r"\w+")] = "x"
    really: bool = False
    free: float = 0.5
    listed: list[int] = []


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        *(("time", text, 0.1) for text in ("100ms", "0.1", "0.1s", "100000us", "100000 µs", "1e-1", ".1s")),
        *(("time", text, 120.0) for text in ("120", "2min", "120s")),
        ("time", "1h", 3600.0),
        ("time", "0", 0.0),
        ("patience", "2s", 2000),
        ("patience", "250", 250),
        *(("part", text, 0.1) for text in ("10%", "0.1", "10 %")),
        ("part", "7%", 0.07),
        *(("size", text, 64) for text in ("64", "64MiB", "0.0625GiB", "67108864B")),
        ("line", "1Mbit/s", 125.0),
        ("often", "30/min", 0.5),
        ("count", "9223372036854775807", 2**63 - 1),
        ("count", "1e6", 1_000_000),
        ("kind", "b", "b"),
        *(("whom", text, text) for text in ("any", "n1", "n3+n1")),
        *(("really", text, True) for text in ("yes", "on", "TRUE", "1")),
        *(("really", text, False) for text in ("no", "off", "False", "0")),
        ("free", "2.5", 2.5),
    ],
)
def test_values_are_read_with_units_and_a_bare_number_has_its_options_own(name: str, text: str, value: Any) -> None:
    found = read(name, options_of(Some)[name], text, NODES)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("time", text) for text in ("-1", "1e9", "nan", "inf", "-inf", "1e999", "10%", "5 parsecs", "", "1_0", "٣")),
        *(("time", text) for text in ("0.0001", "1ms2", "--1", "0x10", "1e99999", "1" * 100_000)),
        *(("part", text) for text in ("0", "101%", "1.01", "500", "-5%", "1s")),
        *(("size", text) for text in ("0.5MiB", "5GiB", "64.5", "1e400")),
        *(("count", text) for text in ("0", "1.5", "9223372036854775808", "1e30", "2s", "1" * 5000)),
        ("kind", "c"),
        ("kind", ""),
        *(("whom", text) for text in ("n9", "n1+n9", "n1+n1", "n1+", "+", "", "two", "n1 n2", "any+n1")),
        ("word", "two words"),
        ("word", "\x1b[31m"),
        *(("really", text) for text in ("maybe", "", "2")),
        *(("free", text) for text in ("nan", "inf", "x", "1s")),
        ("listed", "x"),
    ],
)
def test_what_an_option_cannot_be_is_refused_in_one_line_that_names_it(name: str, text: str) -> None:
    option = options_of(Some)[name]
    with pytest.raises(UsageError) as caught:
        read(f"-o {name}", option, text, NODES)
    said = str(caught.value)
    assert said.startswith(f"-o {name} is ")
    assert option.allowed() in said
    assert said.isprintable()
    assert len(said) < 300


def test_a_value_is_said_as_the_command_line_takes_it() -> None:
    for name, text in {"time": "0.0625", "count": "123456789012345678", "free": "1e-07"}.items():
        option = options_of(Some)[name]
        value = read(name, option, text)
        assert read(name, option, plain(value)) == value
    experiment = Experiment("reference", time=12.3456789, rate=1 / 3)
    words = experiment.command().split()
    assert float(words[words.index("--time") + 1]) == experiment.time
    assert float(words[words.index("--rate") + 1]) == experiment.rate


@pytest.mark.parametrize("kind", ["targets", "workloads", "nemeses", "environments"])
def test_every_option_of_every_plug_in_has_limits_and_says_what_it_is_for(kind: str) -> None:
    for name in names(kind):
        for option in options_of(load(kind, name).Options).values():
            assert option.limit or option.words or option.kind is bool, (name, option.name)
            assert option.what, (name, option.name)
            assert option.admits(option.default, NODES), (name, option.name)


@pytest.mark.parametrize("kind", ["targets", "workloads", "nemeses"])
def test_the_ends_of_a_range_are_allowed(kind: str) -> None:
    for name in names(kind):
        for option in options_of(load(kind, name).Options).values():
            if isinstance(option.limit, Number):
                for end in (option.limit.least, option.limit.most, *((0,) if option.limit.zero else ())):
                    assert read(option.name, option, plain(end)) == end


def test_numbers_of_an_experiment_are_held_against_their_limits() -> None:
    for wrong in ({"time": float("nan")}, {"time": float("inf")}, {"nodes": 0}, {"rate": -1.0}, {"seed": 2**63}):
        (name,) = wrong
        with pytest.raises(UsageError, match=f"`{name}` is "):
            Experiment("reference", **wrong)


@pytest.mark.parametrize("zones", ["", "0", "-1", "4", "²", "a,b", "a,,b", "a,b,c,d", "a,b,\x1b", "99999999999"])
def test_zones_fit_the_nodes(zones: str) -> None:
    with pytest.raises(UsageError, match="`zones`"):
        Experiment("reference", zones=zones)


def test_the_default_zones_fit_any_number_of_nodes() -> None:
    assert Experiment("reference", nodes=1).zone_of == {"n1": "a"}
    assert Experiment("reference", nodes=4).zone_of == {"n1": "a", "n2": "b", "n3": "c", "n4": "a"}


@pytest.mark.parametrize("given", [["kill"], ["=n1"], ["kill=n1", "kill=n2"], ["down-after-ms=1", "down_after_ms=2"]])
def test_an_option_is_one_name_and_one_value(given: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_options(given)


IMPOSSIBLE = [
    ("netem", {"delay": "0"}, "spoils no link"),
    ("netem", {"loss": "0", "jitter": "0"}, "spoils no link"),
    ("clock", {"skew": "0"}, "nobody would notice"),
    ("clock", {"skew": "0", "rate": "1"}, "nobody would notice"),
    ("clock", {"skew": "1us"}, "nobody would notice"),
    ("storage", {"storage": "lost", "slowness": "1"}, "slowness"),
    ("membership", {"leaving": "3"}, "at most 2 can leave"),
    ("partition", {"partition": "ring"}, "too few nodes"),
]


@pytest.mark.parametrize(("nemesis", "options", "said"), IMPOSSIBLE)
def test_a_fault_that_could_do_nothing_is_refused(nemesis: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        assemble(Experiment("reference", nemeses=(nemesis,), options=options))


def test_a_zone_cannot_be_cut_off_where_there_is_only_one() -> None:
    with pytest.raises(UsageError, match=r"`options.partition` is zone"):
        assemble(Experiment("reference", nemeses=("partition",), zones="1", options={"partition": "zone"}))


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("reference", {"replication": "quorum", "n": "9"}, "`options.n` is 9"),
        ("reference", {"replication": "quorum", "n": "2", "r": "3"}, "`options.r` is 3"),
        ("reference", {"replication": "quorum", "w": "-1"}, "`options.w` of target reference is -1"),
        ("reference", {"bug": "small-quorums", "replication": "raft"}, "not raft"),
        ("reference", {"bug": ","}, "`options.bug`"),
        ("reference", {"witness": "n4"}, "`options.witness`"),
        ("reference", {"replication": "gossip", "conflict": "merge", "merge": "os:nothing"}, "no such function"),
        ("reference", {"replication": "gossip", "conflict": "merge", "merge": "no.such:thing"}, "no such function"),
        ("redis", {"wait": "3"}, "2 replicas"),
        ("etcd", {"heartbeat_ms": "500"}, "5 times"),
    ],
)
def test_options_of_a_store_fit_one_another_and_the_nodes(target: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        assemble(Experiment(target, options=options))


def test_a_quorum_needs_as_many_nodes_as_it_asks() -> None:
    with pytest.raises(UsageError, match="takes 2 nodes, but there are 1"):
        assemble(Experiment("reference", nodes=1, options={"replication": "quorum"}))


@pytest.mark.parametrize("environment", ["local", "docker", "simulation"])
def test_every_environment_says_how_many_nodes_it_can_have(environment: str) -> None:
    experiment = Experiment("reference", environment=environment, nodes=1000)
    parts = assemble(experiment)
    with pytest.raises(UsageError, match=f"`nodes` is 1000, but it must be at most .* `environment={environment}`"):
        refuse_unsuitable(experiment, parts.environment(experiment), parts.target, parts.workload, parts.nemeses)


@pytest.mark.parametrize(
    "options",
    [
        *({"hosts": hosts} for hosts in ("a@,b,c", "a:0,b,c", "a:99999,b,c", "-oX=y,b,c", "a,,b", ",", "a b,c,d")),
        *({"hosts": hosts} for hosts in ("u@a:²,b,c", "a:,b,c", "@,b,c", "a/b,c,d")),
        {"jump": "@"},
        {"key": "/no/such/file"},
        {"known_hosts": "/no/such/file"},
        {"directory": "relative"},
        {"directory": "/with space"},
        {"python": "python3 -c"},
    ],
)
def test_what_ssh_is_told_is_read_before_anything_connects(options: dict[str, str]) -> None:
    experiment = Experiment("redis", environment="ssh", options={"hosts": "a,b,c"} | options)
    (name,) = options
    with pytest.raises(UsageError, match=rf"`options.{name}[`=]"):
        assemble(experiment).environment(experiment)


def test_values_of_zero_are_honoured_or_refused_but_never_replaced() -> None:
    for nemesis, options in {
        "squeeze": ("cpu", "memory"),
        "storage": ("slowness",),
        "membership": ("leaving",),
    }.items():
        for name in options:
            with pytest.raises(UsageError, match=f"`options.{name}` of nemesis {nemesis} is 0"):
                distribute({name: "0"}, {f"nemesis {nemesis}": load("nemeses", nemesis)}, NODES)


def test_a_store_of_ones_own_without_limits_takes_finite_numbers(tmp_path: Path) -> None:
    class Mine(Plugin):
        class Options(msgspec.Struct):
            size: int = 1
            part: float = 0.5
            names: list[str] = []

    made = distribute({"size": "7"}, {"target mine": Mine})["target mine"]
    assert isinstance(made, Mine.Options)
    assert made.size == 7
    with pytest.raises(UsageError, match=r"`options.part` of target mine is nan, but it must be a number"):
        distribute({"part": "nan"}, {"target mine": Mine})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"r": "1"}, "`options.r` is for replication=quorum, and does nothing with raft"),
        ({"replication": "quorum", "reads": "local"}, "`options.reads` is for replication=raft"),
        ({"replication": "gossip", "witness": "n1"}, "`options.witness` is for replication=primary-backup"),
        (
            {"replication": "gossip", "merge": "harness.targets.reference.merges:union"},
            "`options.merge` is for conflict=merge",
        ),
    ],
)
def test_an_option_that_another_replication_has_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        assemble(Experiment("reference", options=options))


def test_what_exposes_a_planted_bug_goes_together() -> None:
    for bug in BUGS.values():
        options = {"bug": bug.name, "replication": bug.replication, **bug.options}
        names = tuple(bug.nemesis.split(",")) if bug.nemesis else ()
        assemble(Experiment("reference", bug.workload, names, nodes=bug.nodes, options=options))


@pytest.mark.parametrize("where", ["threads:0", "processes:-1", "threads:99999999", "threads:²", "threads:nan", "moon"])
def test_an_executor_has_a_sensible_size(where: str) -> None:
    with pytest.raises(UsageError, match="an executor is"), connect(where):
        pass


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"nodes": "3"}, "`nodes` is '3', but it must be a whole number from 1 to 1000"),
        ({"nodes": True}, "`nodes` is True, but it must be a whole number from 1 to 1000"),
        ({"seed": 1.5}, "`seed` is 1.5, but it must be a whole number from 0 to 9223372036854775807"),
        ({"time": "30"}, "`time` is '30', but it must be a number, from 0.01 to 604800 s"),
        ({"target": None}, "`target` is None, but it must be a name"),
        ({"zones": 3}, "`zones` is 3, but it must be text"),
        ({"image": 3}, "`image` is 3, but it must be the name of an image"),
        ({"overlap": "no"}, "`overlap` is 'no', but it must be True or False"),
        ({"timetable": "t.json"}, "`timetable` is 't.json', but it must be a Timetable"),
        ({"options": None}, "`options` is None, but it must be a dict of text by name, as {'replication': 'quorum'}"),
        ({"options": {"n": 3}}, "`options` is {'n': 3}, but it must be a dict of text by name, as {'replication'"),
        ({"nemeses": "kill"}, "`nemeses` is 'kill', but it must be a tuple of names: write ('kill',)"),
        ({"checkers": "queue"}, "`checkers` is 'queue', but it must be a tuple of names: write ('queue',)"),
        ({"nemeses": [3]}, "`nemeses` is [3], but it must be a tuple of names"),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        Experiment(**{"target": "reference", **given})
    assert str(refused.value).startswith(said)


def test_an_experiment_is_what_is_read_of_it_again() -> None:
    names: Any = ["kill", "pause"]
    experiment = Experiment("reference", nemeses=names, checkers=names, time=30)
    assert (experiment.nemeses, experiment.checkers) == (("kill", "pause"), ("kill", "pause"))
    encoded = msgspec.json.encode(experiment)
    again = msgspec.json.decode(encoded, type=Experiment)
    assert again == experiment
    assert msgspec.json.encode(again) == encoded


def test_a_command_that_says_nothing_more_has_what_an_experiment_is_by_itself() -> None:
    assert ExperimentOptions(target="reference").experiment() == Experiment("reference", environment="auto")
