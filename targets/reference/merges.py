"""Functions of applications that merge conflicting values: each takes the values and returns one.

A merge must not care about the order or the repetition of its arguments, or nodes would never agree.
"""

from __future__ import annotations


def longest(values: list[str]) -> str:
    """The longest value; among equals the greatest."""
    return max(values, key=lambda value: (len(value), value))


def greatest(values: list[str]) -> str:
    """The greatest number; what is no number counts as the smallest."""
    return max(values, key=lambda value: (int(value) if value.lstrip("-").isdigit() else float("-inf"), value))


def union(values: list[str]) -> str:
    """Comma-separated items: all that are in any of the values."""
    return ",".join(sorted({item for value in values for item in value.split(",")}))
