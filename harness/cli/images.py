"""``splitbrain images build`` and ``splitbrain clean``: what splitbrain leaves with a Docker engine."""

from __future__ import annotations

import json
import sys

from harness.environments import docker as environment


def build(bootstrap: bool) -> None:
    """Build the node image, showing what goes on."""
    from harness.environments.images import build as build_image

    name = build_image(bootstrap=bootstrap, say=lambda text: print(text, file=sys.stderr))
    print(name)


def clean(everything: bool, *, as_json: bool) -> None:
    """Remove what runs left with the engine whose harness is gone; with ``everything`` also that of running ones."""
    client = environment.connect()
    removed = environment.remove(
        client, lambda labels: everything or not environment.alive(labels.get(environment.OWNER_LABEL, ""))
    )
    if as_json:
        print(json.dumps(removed))
        return
    for kind, names in removed.items():
        for name in names:
            print(f"removed {kind.removesuffix('s')} {name}")
    if not any(removed.values()):
        print("nothing of splitbrain's was left")
