"""Planted bugs: classics that replicated stores have really had, each to be turned on by name.

A bug is a class that overrides a method or two of a correct replica; its docstring says what it breaks. How it is
exposed stands in its decoration: the workload and the nemesis, and the checker that refutes it.
"""

from harness.targets.reference.bugs import elected, leaderless, raft, shards, transactions
from harness.targets.reference.bugs.bug import BUGS, Bug, plant

__all__ = ["BUGS", "Bug", "elected", "leaderless", "plant", "raft", "shards", "transactions"]
