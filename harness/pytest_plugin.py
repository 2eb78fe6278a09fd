"""The pytest plug-in: a store's own test suite says what it must survive, with a marker and a fixture.

::

    @pytest.mark.splitbrain(nodes=3, time=30, nemeses=("partition",), options={"partition": "primary"})
    def test_it_stays_linearizable_without_its_primary(splitbrain):
        splitbrain(MyStore)

The marker takes the fields of an ``Experiment``; the fixture's call takes them as well, and parts of one's own as
``harness.run`` does. A run that is not valid fails its test with the anomaly, the command that runs it again, and the
place of its report; an unknown one is no pass. With ``--splitbrain-seeds N`` each such test runs once for every seed.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Experiment, Outcome

_MARKER = (
    "splitbrain(**fields): what a run of the fixture `splitbrain` is like: the fields of an experiment, as nodes=3, "
    "time=20, nemeses=('partition',), environment='docker', options={'partition': 'primary'}"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of every test that asks for the fixture."""
    group = parser.getgroup("splitbrain", "runs of a replicated store, disturbed and judged")
    group.addoption(
        "--splitbrain-seeds",
        type=_seeds,
        default=None,
        metavar="N",
        help="run each of these tests with the seeds 0 to N - 1, a test each (default: the seed of its marker, or 0)",
    )
    group.addoption(
        "--splitbrain-time", type=float, default=None, metavar="SECONDS", help="how long operations go on in each run"
    )
    group.addoption(
        "--splitbrain-runs",
        default="runs",
        metavar="DIRECTORY",
        help="where run directories are made (default: runs, below the root of the tests)",
    )
    group.addoption(
        "--splitbrain-keep", action="store_true", help="keep the directories of valid runs as well as those of others"
    )


def _seeds(text: str) -> int:
    seeds = int(text)
    if seeds < 1:
        raise ValueError(text)
    return seeds


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each seed, so that they are spread, picked and run again like any others."""
    if "splitbrain" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("splitbrain_seeds")
        marked = _fields(metafunc.definition).get("seed", 0)
        seeds = [marked] if wanted is None else list(range(wanted))
        metafunc.parametrize("splitbrain", seeds, ids=[f"seed{seed}" for seed in seeds], indirect=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A marked test that cannot run anything is no pass."""
    markers = list(item.iter_markers("splitbrain"))
    if any(marker.args for marker in markers):
        pytest.fail("the marker splitbrain takes names with values, as nodes=3", pytrace=False)
    if markers and "splitbrain" not in getattr(item, "fixturenames", ()):
        pytest.fail("the test has the marker splitbrain, and not the fixture: nothing would be run", pytrace=False)
    if "target" in _fields(item):
        pytest.fail(
            "the marker splitbrain takes no target: give it to the fixture, as splitbrain(MyStore)", pytrace=False
        )


def _fields(item: pytest.Item) -> dict[str, Any]:
    """What the markers of a test say, the nearest one winning."""
    fields: dict[str, Any] = {}
    for marker in item.iter_markers("splitbrain"):
        fields = {**marker.kwargs, **fields}
    return fields


@pytest.fixture
def splitbrain(request: pytest.FixtureRequest) -> Iterator[Callable[..., Outcome]]:
    """Run an experiment, as ``harness.run`` does; fails the test unless the verdict is valid.

    Takes a target (a class, an instance or a name) and the fields that differ from those of the marker. The outcome of
    a valid run holds its verdict and its history.
    """
    config = request.config
    runs = config.rootpath / config.getoption("splitbrain_runs")

    started: list[str] = []

    def start(target: Any, *, workload: Any = None, checkers: Any = (), **fields: Any) -> Outcome:
        from harness import UsageError, run

        started.append(str(target))
        if "seed" in fields:
            pytest.fail("the seed is the marker's, or --splitbrain-seeds: the call takes none", pytrace=False)
        fields = {**_fields(request.node), **fields, "seed": request.param}
        if (seconds := config.getoption("splitbrain_time")) is not None:
            fields["time"] = seconds
        # What may be an object of the test's own is for ``run``, which takes names as well.
        marked, judges = fields.pop("workload", None), fields.pop("checkers", ())
        own = {"target": target, "nemeses": fields.pop("nemeses", ())}
        own |= {"workload": marked if workload is None else workload, "checkers": checkers or judges}
        outcome, wrong = None, ""
        try:
            outcome = run(_experiment(fields), runs=runs, **own)
        except UsageError as error:
            wrong = str(error)
        if outcome is None:
            pytest.fail(f"the run cannot be made: {wrong}", pytrace=False)
        request.node.user_properties.append(("splitbrain_directory", str(outcome.directory)))
        _judge(outcome)
        if not config.getoption("splitbrain_keep"):
            shutil.rmtree(outcome.directory, ignore_errors=True)
            if not hasattr(config, "workerinput"):  # another worker may be about to make a directory in there
                with contextlib.suppress(OSError):  # others are in there
                    runs.rmdir()
        return outcome

    yield start
    if not started:
        pytest.fail("the fixture splitbrain was never called: nothing was run", pytrace=False)


def _experiment(fields: dict[str, Any]) -> Experiment:
    from harness import Experiment, UsageError

    known = Experiment.__struct_fields__
    if unknown := [name for name in fields if name not in known]:
        raise UsageError(f"an experiment has no field {unknown[0]}: it has {', '.join(known)}")
    # The target's name is put in by ``run``.
    return Experiment(**{"target": "", **fields})


def _judge(outcome: Outcome) -> None:
    """Fail the test with everything that whoever reads it needs."""
    if outcome.exit_code:
        pytest.fail(f"{outcome}\n  kept:   {outcome.directory}", pytrace=False)
