"""The catalogue of findings: what stores are known to do wrong, as data, and whether it comes out as known here.

A finding is a TOML file: the experiment, the anomalies that it is to show, and the control, the same experiment with
the setting that must pass. The files in ``findings/`` come along; a person's own is one more, and a regression test of
their store. They are read as data: code that one names is loaded only when the person says so (``harness.trust``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec.structs import replace

from harness.errors import MissingError, SplitbrainError, UsageError
from harness.experiment import Experiment
from harness.options import plain, unknown
from harness.words import printable

if TYPE_CHECKING:  # it brings NumPy along, which a list of findings can do without
    from harness.verdict import Verdict

Role = Literal["experiment", "control"]

WITHOUT: Final = "without"
"""In the table of a control, the options of the experiment that it does not have."""
_OF_RUNS: Final = ("image_digest", "unnamed")
"""Fields of an experiment that a run finds out."""
_FIELDS: Final = tuple(name for name in Experiment.__struct_fields__ if name not in _OF_RUNS)
_SUFFIX: Final = ".toml"

_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a finding was published."""

    title: _Word
    author: _Word
    year: Annotated[int, msgspec.Meta(ge=1970, le=2200)]
    address: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s<>]+$")]


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the experiment is to show: an anomaly of one of these kinds, of any where none is named, by a checker."""

    checker: _Word
    kinds: tuple[_Word, ...] = ()


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often it showed, of so many runs, and how many of as many controls passed."""

    of: Annotated[int, msgspec.Meta(ge=1)]
    seen: Annotated[int, msgspec.Meta(ge=0)]
    passed: Annotated[int, msgspec.Meta(ge=0)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finding as it is written."""

    store: _Word
    versions: Annotated[tuple[_Word, ...], msgspec.Meta(min_length=1)]
    sentence: _Word
    source: Source
    experiment: dict[str, Any]
    expect: Expected
    control: dict[str, Any]
    measured: Measured | None = None


@dataclass(frozen=True)
class Finding:
    """Something that a store of some versions is known to do, and how to see it."""

    name: str
    store: str
    versions: tuple[str, ...]
    """Those that it was seen with."""
    sentence: str
    source: Source
    experiment: Experiment
    expect: Expected
    control: Experiment
    """The same but for what must make it pass."""
    measured: Measured | None = None

    @property
    def difference(self) -> str:
        """What the control has otherwise, in words."""
        return difference(self.experiment, self.control)

    def of(self, role: Role) -> Experiment:
        """Its experiment, or its control."""
        return self.experiment if role == "experiment" else self.control

    def judge(self, role: Role, verdict: Verdict) -> tuple[bool | None, str]:
        """Whether an outcome is as known, and what it was; None where it cannot tell."""
        return self.shown_by(verdict) if role == "experiment" else _passed_by(verdict)

    def shown_by(self, verdict: Verdict) -> tuple[bool | None, str]:
        """Whether a verdict on the experiment has what is expected."""
        part = verdict.parts.get(self.expect.checker)
        if part is not None and part.validity == "invalid":
            # Of transactions all kinds are told, and only some of the anomalies.
            told = {one.kind for one in part.anomalies} | {*part.evidence.get("anomaly_types", ())}
            if seen := sorted(told & {*self.expect.kinds} if self.expect.kinds else told):
                return True, ", ".join(seen)
            if not self.expect.kinds:
                return True, f"{self.expect.checker}: {part.reason}"
            return False, f"something else: {_kinds(verdict)}"
        if part is None or "unknown" in (verdict.validity, part.validity):
            reason = part.reason if part is not None and part.validity == "unknown" else verdict.reason
            return None, f"unknown: {reason}"
        return False, "valid" if verdict.validity == "valid" else f"something else: {_kinds(verdict)}"


def _passed_by(verdict: Verdict) -> tuple[bool | None, str]:
    """Whether a verdict on a control is a pass: valid, and not unknown."""
    match verdict.validity:
        case "valid":
            return True, "valid"
        case "invalid":
            return False, f"invalid: {_kinds(verdict)}"
        case _:
            return None, f"unknown: {verdict.reason}"


def _kinds(verdict: Verdict) -> str:
    """What was found, and by which checkers."""
    by = {
        name: ", ".join(sorted({anomaly.kind for anomaly in part.anomalies}))
        for name, part in verdict.parts.items()
        if part.validity == "invalid"
    }
    return "; ".join(f"{kinds or 'an anomaly'} ({name})" for name, kinds in by.items())


def difference(experiment: Experiment, control: Experiment) -> str:
    """What the control has otherwise: ``isolation=serializable``, ``no nemeses``."""
    words = []
    for name in _FIELDS:
        before, now = getattr(experiment, name), getattr(control, name)
        if name == "options" or before == now:
            continue
        if name == "timetable":
            words.append("another timetable" if now is not None else "no timetable")
        elif isinstance(now, tuple):
            words.append(f"{name}={','.join(now)}" if now else f"no {name}")
        else:
            words.append(f"{name}={plain(now)}" if now is not None else f"no {name}")
    words += [f"{name}={text}" for name, text in control.options.items() if experiment.options.get(name) != text]
    if experiment.nemeses == control.nemeses:  # else an option that is left out may be of a nemesis that is
        words += [f"no {name}" for name in experiment.options if name not in control.options]
    return ", ".join(words)


def names() -> list[str]:
    """The findings that come along."""
    return sorted(item.name.removesuffix(_SUFFIX) for item in _folder().iterdir() if item.name.endswith(_SUFFIX))


def _folder() -> Any:
    return files("harness.findings")


def find(name: str) -> Finding:
    """The finding of this name, or that of a person's own ``FILE.toml``.

    Raises ``UsageError`` for what is not there, or is no finding.
    """
    if not name.endswith(_SUFFIX):
        if name not in (known := names()):
            raise UsageError(f"there is no finding named {name!r}: {unknown(name, known)}")
        return read_finding(name, f"the finding {name}", _folder().joinpath(f"{name}{_SUFFIX}").read_bytes())
    path = Path(name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the finding {path} cannot be read: {error.strerror}") from None
    return read_finding(path.name.removesuffix(_SUFFIX), str(path), data)


def read_finding(name: str, where: str, data: bytes) -> Finding:
    """A finding as it is written in a file, which messages call ``where``. Raises ``UsageError``."""
    try:
        written = msgspec.convert(tomllib.loads(data.decode()), _File)
    except UnicodeDecodeError:
        raise UsageError(f"{where} is not text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{where} is not a finding: it is nested too deeply") from None
    except msgspec.ValidationError as error:
        raise UsageError(f"{where} is not a finding: {_plainly(error)}") from None
    if written.measured is not None and max(written.measured.seen, written.measured.passed) > written.measured.of:
        raise UsageError(f"{where} is not a finding: its table measured counts more than there were")
    experiment = _experiment(f"{where}, experiment", written.experiment)
    control = _experiment(f"{where}, control", _varied(f"{where}, control", written.experiment, written.control))
    if experiment == control:
        raise UsageError(f"{where}: the control has to differ from the experiment, and does not")
    return Finding(
        name,
        written.store,
        written.versions,
        " ".join(written.sentence.split()),
        written.source,
        experiment,
        written.expect,
        control,
        written.measured,
    )


def _varied(where: str, experiment: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a control: its own beside those of the experiment, and so the options, one by one."""
    left_out = control.get(WITHOUT, [])
    before, own = experiment.get("options", {}), control.get("options", {})
    if not isinstance(own, dict):
        raise UsageError(f"{where}: options must be a table")
    if not isinstance(left_out, list) or not all(isinstance(name, str) and name in before for name in left_out):
        raise UsageError(f"{where}: {WITHOUT} must be a list of options that the experiment has")
    options = {**{name: value for name, value in before.items() if name not in left_out}, **own}
    fields = {name: value for name, value in control.items() if name != WITHOUT}
    return {**experiment, **fields, **({"options": options} if options or "options" in experiment else {})}


def _experiment(where: str, fields: Mapping[str, Any]) -> Experiment:
    """An experiment from the fields in a table. Raises ``UsageError``."""
    for name in fields:
        if name not in _FIELDS:
            raise UsageError(f"{where}: there is no field {name!r}: {unknown(name, _FIELDS)}")
    options = fields.get("options", {})
    if not isinstance(options, dict):
        raise UsageError(f"{where}: options must be a table")
    for name, value in options.items():
        if not isinstance(value, str | bool | int | float):
            raise UsageError(f"{where}: the option {name} must be a text, a number, true or false")
    try:
        texts = {name: plain(value) for name, value in options.items()}
        return msgspec.convert({**fields, "options": texts}, Experiment)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_plainly(error)}") from None
    except UsageError as error:
        # In here, fields are called what they are called there.
        raise UsageError(f"{where}: {str(error).replace('`', '')}") from None


def _plainly(error: msgspec.ValidationError) -> str:
    """What is wrong, and where, without the signs of paths in JSON."""
    what, _, place = str(error).partition(" - at ")
    place = place.strip("`").removeprefix("$").removeprefix(".")
    what = what.replace("`", "'")
    return f"{what[:1].lower()}{what[1:]}{f' (in {place})' if place else ''}"


@dataclass(frozen=True)
class Trial:
    """One run of a finding's experiment, or of its control."""

    role: Role
    seed: int
    as_known: bool | None
    """None where it was not conclusive."""
    what: str
    """What it was, in words."""
    validity: str
    directory: str = ""
    report: str = ""
    again: str = ""
    """The command that runs it again."""


@dataclass
class Reproduction:
    """What came of a finding here. It has come out as known if its experiment has, and its control too."""

    finding: Finding
    trials: list[Trial] = field(default_factory=list)

    def count(self, role: str, as_known: bool | None) -> int:
        """How many runs of the experiment, or of the control, were as known."""
        return sum(trial.role == role and trial.as_known is as_known for trial in self.trials)

    @property
    def experiment(self) -> bool | None:
        """Whether any of the runs has shown it; None where none has, and not all were conclusive."""
        if self.count("experiment", True):
            return True
        return None if self.count("experiment", None) else False

    @property
    def control(self) -> bool | None:
        """Whether all controls have passed; None where some were not conclusive, and none has failed."""
        if self.count("control", False):
            return False
        return None if self.count("control", None) else True

    @property
    def as_known(self) -> bool | None:
        """Whether both came out as known."""
        both = (self.experiment, self.control)
        return False if False in both else None if None in both else True

    @property
    def exit_code(self) -> int:
        """What the command line ends with: 0 as known, 1 otherwise, 3 not conclusive."""
        return {True: 0, False: 1, None: 3}[self.as_known]


def _silent(*_: Any) -> None:
    """For a caller that wants to be told nothing."""


def reproduce(
    finding: Finding,
    runs: int = 1,
    directory: str | Path = "runs",
    *,
    trust: bool = False,
    begins: Callable[[Role, Experiment], None] = _silent,
    seen: Callable[[Trial], None] = _silent,
) -> Reproduction:
    """Run a finding's experiment and its control, under so many seeds in turn.

    ``begins`` is told what is about to be run, ``seen`` what came of it. A run that breaks is not conclusive. Raises
    ``SplitbrainError``: a ``UsageError`` for what cannot be run, before anything is started, and for a finding that
    names code without ``trust``; a ``MissingError`` where something is not on this machine.
    """
    from harness.trust import code_of, refuse_code

    code = [*code_of(finding.experiment), *code_of(finding.control)]
    refuse_code(finding.name, list(dict.fromkeys(code)), trust=trust)
    _refuse(finding)
    came = Reproduction(finding)
    for turn in range(runs):
        for role in ("experiment", "control"):
            experiment = finding.of(role)
            experiment = replace(experiment, seed=experiment.seed + turn)
            begins(role, experiment)
            came.trials.append(trial := _try(finding, role, experiment, Path(directory)))
            seen(trial)
    return came


def _refuse(finding: Finding) -> None:
    """Raise for what can be seen to be impossible."""
    from harness.judging import checkers_of
    from harness.session import Prepared

    for role in ("experiment", "control"):
        prepared = Prepared(finding.of(role))
        judges = checkers_of(prepared.experiment, prepared.parts.workload, asked=prepared.parts.checkers)
        if (checker := finding.expect.checker) not in judges:
            raise UsageError(
                f"{finding.name} expects an anomaly of the checker {checker!r}, which does not judge its {role}: "
                f"{unknown(checker, [*judges])}"
            )


def _try(finding: Finding, role: Role, experiment: Experiment, directory: Path) -> Trial:
    from harness import session
    from harness.run_directory import RunDirectory

    try:
        outcome = session.run(experiment, runs=directory)
    except (UsageError, MissingError):
        raise
    except SplitbrainError as error:
        return Trial(role, experiment.seed, None, f"it broke: {printable(str(error))}", "unknown")
    as_known, what = finding.judge(role, outcome.verdict)
    if outcome.unsaved and outcome.verdict.validity == "valid":
        as_known, what = None, f"unknown: {outcome.unsaved}"
    report = RunDirectory(outcome.directory).report
    return Trial(
        role,
        experiment.seed,
        as_known,
        printable(what),
        outcome.verdict.validity,
        str(outcome.directory),
        str(report) if report.is_file() else "",
        outcome.again,
    )
