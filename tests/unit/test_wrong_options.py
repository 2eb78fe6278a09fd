"""Wrong values of every option that there is: each is one sentence and exit code 2, and nothing starts."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from harness.cli import main
from harness.cli.app import app
from harness.environments import namespaces
from harness.options import Nodes, Number, Option, options_of
from harness.plugins import load, names
from harness.run_directory import RunDirectory

COUNT = 240
HANGS_AFTER_SECONDS = 20
NUMBERLESS = ("nan", "NaN", "inf", "-inf", "", "many", "1e999", "5 parsecs", "1,5", "0x1F", "1_0", "--1", "1%%", "²")
NOWHERE = ("n0", "n4", "n99", "n1+n4", "n1+n1", "n1+", "+n1", "+", "n1 n2", "N1", "any+n1", "127.0.0.1")
PLACES = {
    "nemeses": "run reference --on simulation --nemesis {}",
    "workloads": "run reference --on simulation --workload {}",
    "targets": "run {} --on local",
    "environments": "run reference --on {}",
}
POSITIONAL = {
    "run": ["reference"],
    "hunt": ["reference"],
    "check": ["history.jsonl"],
    "shrink": ["runs/one"],
    "reproduce": ["postgres-write-skew"],
    "serve": ["."],
}


def wrong(option: Option, rng: random.Random) -> str:
    """A value that the option cannot have."""
    if isinstance(option.limit, Number):
        least, most = option.limit.least, option.limit.most
        span = most - least + 1
        beyond = (most + span * (1e-6 + rng.random()), -abs(least) - span * (1e-6 + rng.random()), most * 1e6 + 1)
        fraction = [str(rng.randint(1, 9) + 0.5)] if option.kind is int else []
        return rng.choice([*(f"{value:.17g}" for value in beyond), *NUMBERLESS, *fraction])
    if isinstance(option.limit, Nodes):
        return rng.choice(NOWHERE)
    noise = "".join(chr(rng.choice((7, 27, 127))) + rng.choice("ab0 ") for _ in range(rng.randint(1, 9)))
    return rng.choice((f"x{noise}x", f"{noise}x", "x" * 10_000 + "\x1b[31mx"))


def plugged() -> Iterator[tuple[list[str], str, Option]]:
    """Every option of every plug-in: a command that has it, and how it is written there."""
    for kind, command in PLACES.items():
        for name in names(kind):
            for option in options_of(load(kind, name).Options).values():
                yield command.format(name).split(), f"-o {option.name}", option


def own() -> Iterator[tuple[list[str], str, Option]]:
    """Every number that the command line itself has."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        for parameter in command.params:
            if parameter.metavar in ("NUMBER", "INTEGER"):
                option = Option(parameter.name, float, limit=Number(0, 2**63))
                yield [name, *POSITIONAL[name]], f"--{parameter.name}", option


def cases() -> list[tuple[list[str], str]]:
    """Commands, each with one wrong value and the name of the option that has it."""
    rng = random.Random(1)
    every = [*plugged(), *own()]
    found = []
    for number in range(COUNT):
        command, written, option = every[number] if number < len(every) else rng.choice(every)
        value = wrong(option, rng)
        if written.startswith("--"):
            found.append(([*command, f"{written}={value}"], written))
        else:
            found.append(([*command, "-o", f"{option.name}={value}"], written))
    return found


def test_every_option_has_its_turn() -> None:
    assert len([*plugged()]) >= 60
    assert {written for _, written, _ in own()} >= {"--time", "--nodes", "--seed", "--seeds", "--memory", "--seconds"}
    assert len([*plugged(), *own()]) <= COUNT


@pytest.mark.parametrize(("command", "written"), cases())
def test_a_wrong_value_starts_nothing(
    command: list[str],
    written: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a run was started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RunDirectory, "create", started)
    monkeypatch.setattr(namespaces, "reexecute", started)
    monkeypatch.setattr(sys, "argv", ["splitbrain", *command])
    signal.alarm(HANGS_AFTER_SECONDS)  # ends the command, with another code
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capfd.readouterr()
    assert caught.value.code == 2, printed.err
    (line,) = printed.err.splitlines()
    assert line.startswith("splitbrain: ")
    assert f"{written} " in line
    assert line.isprintable()
    assert len(line) < 500
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []
