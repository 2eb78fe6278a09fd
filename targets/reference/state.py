"""The replicated state: strings by key, changed by commands, the same on every node that ran the same commands."""

from __future__ import annotations


class State:
    """A map from key to value."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """The value of a key, None where there is none."""
        return self._values.get(key)

    def apply(self, command: list[str]) -> str | int | None:
        """Run one command and return its answer: ``SET k v``, ``CAS k old new``, ``DEL k``, or nothing at all."""
        if not command:
            return None
        name, key, *arguments = command
        if name == "SET":
            self._values[key] = arguments[0]
            return "OK"
        if name == "CAS":
            if self._values.get(key) != arguments[0]:
                return 0
            self._values[key] = arguments[1]
            return 1
        return int(self._values.pop(key, None) is not None)
