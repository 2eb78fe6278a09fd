"""Experiments that compare ways of replicating a store: the same faults and operations for each, measured alike."""
