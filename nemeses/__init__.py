"""What goes wrong: one file for each family of faults."""
