"""Transactions straight from the definitions: an oracle for small histories, and simulated databases of each level."""
