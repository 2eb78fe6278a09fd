"""The mechanisms of faults.

Each module here is also a tool: one file that needs only Python's standard library, handed to the interpreter inside
a node with one JSON argument; it prints one JSON answer. Nothing else may be imported by them.
"""
