"""A file system that can be told to misbehave, mounted over a node's data: what LazyFS is for a disk's cache, and more.

It passes everything on to the directory beneath, and remembers how to undo each change until that is synced. Told to
``lose``, it takes back whatever was not: so a crash costs what it costs on a machine that loses power. It can also
refuse changes (a disk that fails, or was mounted read-only after an error), sync slowly, and read badly.

Runs inside a node, as ``python -m harness.storage DIRECTORY``, through FUSE. See Ramos et al., "LazyFS", Rebello et
al., "Can Applications Recover from fsync Failures?", 2020, and Pillai et al., "All File Systems Are Not Created Equal",
2014, for what stores get wrong here.
"""
