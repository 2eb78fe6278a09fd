"""The models that come with the product, by name. ``model.py`` says what a model is, and how to write one."""

from __future__ import annotations

from typing import Final

from harness.checkers.linearizability.collection_models import Counter, FifoQueue, Set, Stack, UnorderedQueue
from harness.checkers.linearizability.lock_models import FencedLock, Mutex, ReentrantMutex, Semaphore
from harness.checkers.linearizability.model import UNKNOWN, Call, Model
from harness.checkers.linearizability.register_models import CasRegister, KeyValue, ListAppend, MultiRegister, Register

__all__ = ["MODELS", "UNKNOWN", "Call", "Model", "lacks", "lacks_step", "name_of"]

MODELS: Final[dict[str, type[Model]]] = {
    "register": Register,
    "cas-register": CasRegister,
    "multi-register": MultiRegister,
    "list-append": ListAppend,
    "kv": KeyValue,
    "counter": Counter,
    "set": Set,
    "fifo-queue": FifoQueue,
    "unordered-queue": UnorderedQueue,
    "stack": Stack,
    "mutex": Mutex,
    "reentrant-mutex": ReentrantMutex,
    "fenced-lock": FencedLock,
    "semaphore": Semaphore,
}


def name_of(model: Model) -> str:
    """The name of a model: the one that it is listed under, or that of its class."""
    return next((name for name, listed in MODELS.items() if listed is type(model)), type(model).__name__)


def lacks(model: Model, f: str) -> str:
    """That a model has no function ``f``, what it has, and which models have it."""
    having = [name for name, listed in MODELS.items() if f in listed.functions]
    return f"the model {name_of(model)} has no function {f!r}, only {', '.join(sorted(model.functions))}{_have(having)}"


def lacks_step(model: Model, f: str) -> str:
    """The same for a micro-operation of transactions."""
    having = [name for name, listed in MODELS.items() if f in listed.steps]
    return (
        f"the model {name_of(model)} has no micro-operation {f!r}, only {', '.join(sorted(model.steps))}{_have(having)}"
    )


def _have(names: list[str]) -> str:
    if not names:
        return "; no model has it"
    return f"; {', '.join(names)} {'has' if len(names) == 1 else 'have'} it"
