"""What a release is made of: every dependency pinned, hashed, and with its licence."""

from __future__ import annotations

import re

from release.hashes import REQUIREMENTS
from release.licences import LICENCES, pinned, table


def test_licences_are_those_that_the_packages_declare() -> None:
    assert LICENCES.read_text() == table(), "write it anew with: python -m release.licences"
    assert "not declared" not in table()


def test_every_file_of_a_release_is_known_by_its_hash_and_has_the_version_that_is_tested() -> None:
    text = REQUIREMENTS.read_text()
    found = dict(re.findall(r"^(\S+?)==(\S+) \\$", text, re.MULTILINE))
    by_name = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned().items()}
    assert len(found) > 30
    for name, version in found.items():
        assert by_name[re.sub(r"[-_.]+", "-", name).lower()] == version, name
    assert len(re.findall(r"^\S", text, re.MULTILINE)) == len(found)
    assert all(
        re.search(rf"^{re.escape(name)}==\S+ \\\n    --hash=sha256:[0-9a-f]{{64}}", text, re.M) for name in found
    )
