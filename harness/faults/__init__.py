"""The mechanisms of faults.

Each module here is also a tool: one file that needs only Python's standard library, whose ``main`` takes a request and
gives an answer that JSON can hold. ``run_tool`` in ``harness.environments.base`` hands its source to the interpreter
inside a node.
"""
