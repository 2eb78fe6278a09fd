"""The command line: thin typer commands, each importing what it needs only when it runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the command ``splitbrain``: every error of the product is one sentence and an exit code."""
    from harness.errors import SplitbrainError

    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    from harness.cli.app import app

    try:
        app()
    except SplitbrainError as error:
        if debug:
            raise
        print(f"splitbrain: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(4)
    except Exception as error:
        if debug:
            raise
        print(f"splitbrain: {type(error).__name__}: {error} (a bug: --debug shows where)", file=sys.stderr)
        sys.exit(4)
