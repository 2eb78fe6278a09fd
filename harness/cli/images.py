"""``splitbrain images build`` and ``splitbrain clean``: what splitbrain leaves with a Docker engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from harness.environments import engine, namespaces
from harness.errors import SplitbrainError


def build(targets: str | None, *, bootstrap: bool) -> None:
    """Build the node image with the servers of these targets, or of all that are listed, showing what goes on."""
    from harness.environments.images import build as build_image
    from harness.plugins import load, names

    which = names("targets") if targets is None else [name.strip() for name in targets.split(",")]
    packages = {package for name in which for package in load("targets", name).programs.values()}
    name = build_image(sorted(packages), bootstrap=bootstrap, say=lambda text: print(text, file=sys.stderr))
    print(name)


def clean(everything: bool, *, as_json: bool) -> None:
    """Remove what runs left whose harness is gone; with ``everything`` also what running ones have with the engine."""
    groups = {"control_groups": namespaces.remove_leftovers()}
    try:
        client = engine.connect()
        removed = engine.remove(
            client, lambda labels: everything or not engine.alive(labels.get(engine.OWNER_LABEL, ""))
        )
    except SplitbrainError:
        _print(groups, as_json=as_json)
        raise
    _print(groups | removed, as_json=as_json)
    if not as_json and not any((groups | removed).values()):
        print("nothing of splitbrain's was left")


def _print(removed: Mapping[str, list[str]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(removed))
        return
    for kind, names in removed.items():
        for name in names:
            print(f"removed {kind.removesuffix('s').replace('_', ' ')} {name}")
