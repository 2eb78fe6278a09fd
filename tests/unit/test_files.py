"""Files of a store are opened as what they are: no link on the way leads elsewhere, and nothing is waited for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.faults import disk, witness
from harness.faults.files import files, open_plain


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one file of its own, links to a file and a folder that are not, and a pipe."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_bytes(b"not the store's")
    store = tmp_path / "store"
    (store / "real").mkdir(parents=True)
    (store / "real" / "data").write_bytes(b"its own")
    (store / "file").symlink_to(tmp_path / "secret" / "key")
    (store / "folder").symlink_to(tmp_path / "secret")
    (store / "new").symlink_to(tmp_path / "secret" / "made")
    os.mkfifo(store / "pipe")
    return store


def test_a_plain_file_is_opened_made_and_added_to(store: Path) -> None:
    path = str(store / "real" / "more")
    for mode, data in (("wb", b"one"), ("ab", b" two")):
        with open_plain(path, mode) as file:
            file.write(data)
    with open_plain(path) as file:
        assert file.read() == b"one two"
    with open_plain(path, "r+b") as file:
        file.write(b"two")
    folder = os.open(store, os.O_RDONLY)
    with open_plain("real/more", folder=folder) as file:
        assert file.read() == b"two two"
    os.close(folder)


@pytest.mark.parametrize("mode", ["rb", "r+b", "wb", "ab"])
@pytest.mark.parametrize("name", ["file", "folder/key", "new", "pipe", "real", "real/../../secret/key"])
def test_what_leads_elsewhere_or_is_no_file_is_not_opened(store: Path, name: str, mode: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - which one is the kernel's affair
        open_plain(f"{store}/{name}", mode)
    assert (store.parent / "secret" / "key").read_bytes() == b"not the store's"
    assert not (store.parent / "secret" / "made").exists()


def test_only_its_own_files_are_a_stores_data(store: Path) -> None:
    assert list(files(str(store))) == [f"{store}/real/data"]
    assert disk.find(str(store), "", 0.5) == {"file": f"{store}/real/data", "at": 3}


@pytest.mark.parametrize(
    "name", [disk.FILLER, f"{witness.WITNESS}-new", f"{witness.WITNESS}-kept", ".splitbrain-copy-b"]
)
@pytest.mark.parametrize(
    "use",
    [
        lambda path: disk.keep(path, "b"),
        lambda path: witness.use(path, 1),
        witness.leave,
        witness.finish,
        witness.digest,
    ],
)
def test_no_name_of_ours_is_a_trap(store: Path, name: str, use: Callable[[str], object]) -> None:
    (store / name).symlink_to(store.parent / "secret" / "made")
    (store / f"{witness.WITNESS}-synced").symlink_to(store.parent / "secret" / "key")
    with contextlib.suppress(OSError):
        use(str(store))
    assert os.listdir(store.parent / "secret") == ["key"]
    assert (store.parent / "secret" / "key").read_bytes() == b"not the store's"


def test_what_was_kept_is_restored_and_links_are_not_followed(store: Path) -> None:
    disk.keep(str(store), "b")
    (store / "real" / "data").unlink()
    (store / "real").rmdir()
    (store / "real").symlink_to(store.parent / "secret")
    disk.restore(str(store), "b")
    assert (store / "real" / "data").read_bytes() == b"its own"
    assert os.listdir(store.parent / "secret") == ["key"]
