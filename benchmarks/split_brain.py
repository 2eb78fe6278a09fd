"""Split brain of a real Redis, five times: what is called lost is on no server, as the servers themselves tell.

A line for each seed: the exit code, who was primary at once and when, how many appends are called lost, and how many of
these some server holds all the same. Exits with 1 where a seed finds no split brain, where the servers could not be
read in the end, or where one of them holds what is called lost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.checkers.lists import Lists
from harness.cluster import Cluster
from harness.environments.base import Node
from harness.recording import read_jsonl
from harness.targets.redis import PORT, Redis
from harness.targets.resp import connect

SEEDS: Final = range(1, 6)
WORDS: Final = "--on local --workload append --nemesis partition --time 40"
KEPT: Final = f"{__file__}:Kept"
"""The target, as the command line names it."""
FOLDER: Final = "SPLITBRAIN_KEPT"
"""The variable of the environment that says where it writes down what the servers hold."""
_PATIENCE: Final = 5.0
Append = tuple[str, int]
"""A list's key, and the element that was appended."""


class Kept(Redis):
    """Writes down every server's lists when the run has recovered and is over, as that server itself tells them."""

    async def own_state(self, cluster: Cluster, node: Node) -> Mapping[str, str] | None:
        link = await connect(node.address, PORT, _PATIENCE, self.password)
        try:
            keys = await link.execute_command("KEYS", "*", patience=_PATIENCE)
            lists = {key: await link.execute_command("LRANGE", key, 0, -1, patience=_PATIENCE) for key in keys}
        finally:
            await link.aclose()
        Path(os.environ[FOLDER], f"{node.name}.json").write_text(json.dumps(lists))
        return await super().own_state(cluster, node)


def held_by_servers(folder: Path) -> dict[str, set[Append]]:
    """By node, what its server holds, as ``Kept`` has written it down; nothing where the run has not recovered."""
    lists = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("n*.json"))}
    return {node: {(key, int(element)) for key in held for element in held[key]} for node, held in lists.items()}


def called_lost(run: Path, verdict: Mapping[str, Any]) -> set[Append]:
    """What a run's verdict calls lost: among the writes of its episodes, and among all appends."""
    operations = read_jsonl(run / "history.jsonl").operations()
    lists = Lists(operations)
    rows = lists.appends[lists.lost].tolist()
    assert len(rows) == verdict["evidence"]["appends_lost"]
    writes = (write for episode in verdict["evidence"]["episodes"] for write in episode["writes"])
    of_episodes = {(write["key"], write["value"]) for write in writes if write["fate"] == "lost"}
    return of_episodes | {(str(operations.key_name(row)), operations.argument(row)) for row in rows}


def try_seed(seed: int, folder: Path) -> bool:
    """Run a seed, and print what came of it; whether all is as it must be."""
    command = [str(Path(sys.executable).with_name("splitbrain")), "run", KEPT, *WORDS.split(), "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--format", "json", "--runs", str(folder / "runs")],
        capture_output=True, text=True, check=False, env={**os.environ, FOLDER: str(folder)},
    )  # fmt: skip
    if done.returncode not in (0, 1, 3):
        print(f"seed {seed}: exit code {done.returncode}: {done.stderr.strip()}", flush=True)
        return False
    outcome = json.loads(done.stdout)
    verdict = outcome["verdict"]
    split = [episode for episode in verdict["evidence"]["episodes"] if episode["facts"]]
    lost, held = called_lost(Path(outcome["directory"]), verdict), held_by_servers(folder)
    kept = lost & set[Append]().union(*held.values())
    told = [f"exit code {done.returncode}"]
    told += [f"{', '.join(one['nodes'])} from {one['start'] / 1e9:.2f} s to {one['end'] / 1e9:.2f} s" for one in split]
    told += [] if split else [f"no split brain ({verdict['validity']}: {verdict['reason']})"]
    told += [f"{len(lost):,} lost, of which {len(kept):,} are on a server"]
    told += [] if held else ["the servers were not read in the end"]
    print(f"seed {seed}: {'; '.join(told)}", flush=True)
    return bool(split and held) and not kept


def main() -> int:
    """Try all seeds, or those that are named on the command line; 1 if one of them is not as it must be."""
    right = []
    for seed in map(int, sys.argv[1:] or SEEDS):
        with tempfile.TemporaryDirectory(prefix="splitbrain-bench-") as folder:
            right.append(try_seed(seed, Path(folder)))
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
