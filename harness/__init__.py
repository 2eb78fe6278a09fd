"""The engine of splitbrain: it knows no particular store, workload, fault or model."""

__version__ = "0.1.0"
