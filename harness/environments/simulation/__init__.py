"""Nodes in this process, on virtual time: a deterministic event loop, a simulated network, disks and processes."""
