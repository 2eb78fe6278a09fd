"""How hosts are written on the command line."""

from __future__ import annotations

import pytest

from harness.environments.connections import Place
from harness.errors import UsageError


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("db1", Place(None, "db1", 22)),
        ("root@db1:2222", Place("root", "db1", 2222)),
        (" root@10.0.0.1 ", Place("root", "10.0.0.1", 22)),
        ("db1:65535", Place(None, "db1", 65535)),
        ("[::1]:2222", Place(None, "::1", 2222)),
        ("root@[fd00::1]", Place("root", "fd00::1", 22)),
        ("root@fd00::1", Place("root", "fd00::1", 22)),
        ("fe80::1%eth0", Place(None, "fe80::1%eth0", 22)),
    ],
)
def test_a_host_is_read(text: str, place: Place) -> None:
    assert Place.parse(text, "hosts") == place


@pytest.mark.parametrize("text", ["db1:99999", "db1:0", "[::1]:65536"])
def test_a_port_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="PORT is at most 65535"):
        Place.parse(text, "hosts")


@pytest.mark.parametrize(
    "text",
    ["", "@db1", "db1:", "db1:ssh", "db1:22:22", "two words", "[::1", "::1]:22", "a@b@c", "-o x@::1", "[db1]:22"],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"`options.hosts` has .*, which is no host"):
        Place.parse(text, "hosts")
