"""The mechanisms of faults, which run inside a node.

A module here that has ``VERBS`` is a *tool*: it needs only Python's standard library, and can be asked for the
functions that are named there, whose arguments and answers JSON can hold. It fails with ``SystemExit`` and a sentence.
``run_tool`` in ``harness.environments.base`` hands its source to the interpreter inside a node; ``tools`` says what
each is for.
"""
