"""The command, where it is started as a module: ``python -P -m harness.cli``."""

from harness.cli import main

main()
