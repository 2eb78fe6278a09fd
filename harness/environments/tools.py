"""How a fault tool gets into a node, what it is asked there, and what it answers.

A tool is a module that needs only Python's standard library and modules of ``harness.faults``: one of these, or a file
of a person's own. It travels as source, with all that it is made of, and is asked for one of the functions that are
named in its ``VERBS``, whose arguments and answers JSON can hold.
"""

from __future__ import annotations

import ast
import base64
import inspect
import json
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Generic, ParamSpec, TypeVar

from harness.errors import FaultError

P = ParamSpec("P")
A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)

_FAULTS: Final = "harness.faults"
_BOOT: Final = """
import base64, json, sys, types, zlib
sources, do, request, call = sys.argv[1:]
for name in ("harness", "harness.faults"):
    sys.modules[name] = types.ModuleType(name)
for name, text in json.loads(zlib.decompress(base64.b64decode(sources))):
    tool = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name + ".py", "exec"), tool.__dict__)
verbs = {verb.__name__: verb for verb in tool.VERBS}
if do not in verbs:
    raise SystemExit(f"{tool.__name__} cannot {do}, only {', '.join(verbs)}")
print(json.dumps([call, verbs[do](**json.loads(request))]))
"""
"""What runs in a node: it makes modules of the sources that come along, has the last one do what is asked, and prints
the answer."""


@dataclass(frozen=True)
class Request(Generic[A_co]):
    """What is asked of a tool: one of its functions, and what that is given. It is answered as the function says."""

    do: Callable[..., A_co]
    given: Mapping[str, Any]

    @property
    def tool(self) -> ModuleType:
        """The tool that is asked."""
        return sys.modules[self.do.__module__]

    @property
    def name(self) -> str:
        """The name of the tool, in a message."""
        return self.do.__module__.rpartition(".")[2]


def ask(do: Callable[P, A], *args: P.args, **given: P.kwargs) -> Request[A]:
    """Ask a tool to ``do`` something: ``ask(network.cut, peers=peers, how="drop")``.

    Raises ``FaultError`` for a function that is in no tool's ``VERBS``, and for what it does not take.
    """
    if do not in getattr(sys.modules[do.__module__], "VERBS", ()):
        raise FaultError(f"{do.__module__}.{do.__qualname__} cannot be asked for: it is not in VERBS of that module")
    try:
        return Request(do, inspect.signature(do).bind(*args, **given).arguments)
    except TypeError as error:
        raise FaultError(f"{do.__module__}.{do.__qualname__} cannot be asked for so: {error}") from None


def command(python: str, request: Request[Any], call: str = "") -> list[str]:
    """The command that runs a tool. It prints ``[call, answer]`` as JSON.

    Raises ``FaultError`` where it cannot be run inside a node, or cannot be given what it is to be given.
    """
    try:
        given = json.dumps(dict(request.given))
    except TypeError as error:
        raise FaultError(f"{request.name} cannot be given that: {error}") from None
    return [python, "-I", "-S", "-c", _BOOT, sources_of(request.do.__module__), request.do.__name__, given, call]


_PARSING = threading.Lock()
"""CPython's parser counts how deep it is for all threads together, and fails where two parse at once."""


@cache
def sources_of(tool: str) -> str:
    """A tool and the modules that it is made of: pairs of name and text, what is needed first coming first.

    They are packed, since the kernel takes no argument of more than 128 KiB. Raises ``FaultError`` for a tool that
    imports what a node need not have.
    """
    sources: dict[str, str] = {}

    def add(module: str) -> None:
        text = _path_of(module).read_text()
        for name in imports_of(text):
            if name.startswith(f"{_FAULTS}."):
                if name not in sources:
                    add(name)
            elif name.partition(".")[0] not in sys.stdlib_module_names:
                raise FaultError(
                    f"the tool {_path_of(tool)} imports {name}, which a node need not have: a tool is made of the "
                    f"standard library and of modules of {_FAULTS}"
                )
        sources[module] = text

    add(tool)
    return base64.b64encode(zlib.compress(json.dumps(list(sources.items())).encode())).decode()


def imports_of(text: str) -> Iterator[str]:
    """The modules that a source imports, wherever it does."""
    with _PARSING:
        tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == _FAULTS:
            yield from (f"{_FAULTS}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def _path_of(module: str) -> Path:
    if module.startswith(f"{_FAULTS}."):
        return Path(__file__).parents[1] / "faults" / f"{module.removeprefix(f'{_FAULTS}.')}.py"
    return Path(str(sys.modules[module].__file__))
