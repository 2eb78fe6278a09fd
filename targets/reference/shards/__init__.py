"""State that is split as well as copied: each shard is a Raft group over all nodes, and a map says what each owns."""
