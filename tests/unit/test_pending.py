"""What a crash takes back, and what it may not: the model of a disk's cache, on real files without a mount."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.faults.pending import SECTOR, Pending


class Files:
    """A few files whose changes are remembered, as the file system does it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pending = Pending()
        self._inode = folder.stat().st_ino

    def open(self, name: str) -> int:
        return os.open(self.folder / name, os.O_RDWR)

    def create(self, name: str) -> int:
        path = self.folder / name
        with self.pending.changing():
            file = os.open(path, os.O_RDWR | os.O_CREAT)
            self.pending.step(frozenset({self._inode, os.fstat(file).st_ino}), path.unlink)
        return file

    def rename(self, old: str, new: str) -> None:
        source, target = self.folder / old, self.folder / new
        with self.pending.changing():
            self.pending.step(frozenset({self._inode, source.stat().st_ino}), lambda: target.rename(source))
            source.rename(target)

    def sync(self, file: int) -> None:
        self.pending.synced(os.fstat(file).st_ino)

    def sync_folder(self) -> None:
        self.pending.synced(self._inode)

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "old").write_bytes(b"o" * 100)
    return Files(tmp_path)


def test_what_a_file_was_is_back_after_a_crash_and_what_was_synced_stays(files: Files) -> None:
    file = files.open("old")
    files.pending.write(file, 90, b"n" * 20)
    files.pending.truncate(file, 50)
    files.pending.write(file, 0, b"m")
    assert files.pending.lose() == 3
    assert os.pread(file, 200, 0) == b"o" * 100
    files.pending.write(file, 0, b"n")
    files.sync(file)
    files.pending.allocate(file, 0, 4096)
    assert os.fstat(file).st_size == 4096
    assert files.pending.lose() == 1
    assert os.pread(file, 200, 0) == b"n" + b"o" * 99


def test_the_name_of_a_new_file_is_durable_with_its_first_sync_and_not_before(files: Files) -> None:
    one, _ = files.create("one"), files.create("two")
    files.sync(one)
    assert files.pending.lose() == 1
    assert files.names() == {"old", "one"}


@pytest.mark.parametrize(
    ("sync", "kept"),
    [
        (lambda files, file: None, "tmp"),
        (lambda files, file: files.sync_folder(), "new"),
        (lambda files, file: files.sync(file), "new"),
        (lambda files, file: files.sync(files.create("later")), "new"),
        (lambda files, file: files.pending.all_synced(), "new"),
        (lambda files, file: files.sync(files.open("old")), "tmp"),
    ],
)
def test_a_rename_needs_a_sync_after_it(files: Files, sync: Callable[[Files, int], None], kept: str) -> None:
    file = files.create("tmp")
    files.pending.write(file, 0, b"x")
    files.sync(file)
    files.rename("tmp", "new")
    sync(files, file)
    files.pending.lose()
    assert files.names() - {"old", "later"} == {kept}
    assert (files.folder / kept).read_bytes() == b"x"


def test_what_was_made_before_a_sync_of_everything_is_durable_and_what_follows_is_not(files: Files) -> None:
    file = files.create("new")
    files.pending.write(file, 0, b"x")
    files.pending.all_synced()
    files.pending.see_syncs()
    files.pending.write(file, 1, b"y")
    assert files.pending.count() == 1
    assert files.pending.lose() == 1
    assert os.pread(file, 10, 0) == b"x"


def test_a_part_of_what_was_not_synced_may_survive_but_never_all_and_only_whole_sectors(files: Files) -> None:
    outcomes = set()
    for seed in range(60):
        file = files.open("old")
        os.pwrite(file, bytes(2048), 0)
        for number in range(4):
            files.pending.write(file, 300 + 400 * number, bytes([number + 1]) * 400)
        assert 1 <= files.pending.lose(random.Random(seed)) <= 4
        found = os.pread(file, 4096, 0)
        runs = [found[300 + 400 * n : 700 + 400 * n].count(n + 1) for n in range(4)]
        for number, count in enumerate(runs):
            end = 300 + 400 * number + count
            assert count in (0, 400) or end % SECTOR == 0
        assert runs[3] < 400
        outcomes.add(tuple(runs))
        os.close(file)
    assert any(0 < count < 400 for runs in outcomes for count in runs)
    assert any(runs[0] == 0 < runs[1] for runs in outcomes)
    assert len(outcomes) > 10


def test_of_directories_the_first_changes_may_survive_and_never_a_later_one_without_them(files: Files) -> None:
    outcomes = set()
    for seed in range(20):
        for name in ("a", "b", "c"):
            os.close(files.create(name))
        files.pending.lose(random.Random(seed))
        outcomes.add(frozenset(files.names() - {"old"}))
        for name in files.names() - {"old"}:
            (files.folder / name).unlink()
    assert outcomes == {frozenset(), frozenset("a"), frozenset("ab")}
