"""What clients do: one file each, a generator and the checkers that judge it."""
