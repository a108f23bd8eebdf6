"""A temporary folder that is full, or cannot be made, is named in one line."""

import errno
import tempfile

import pytest

from transforms.scratch import temporary_folder
from transforms.storage import NoRoom, StorageError


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        # As h5py and LanceDB word it.
        OSError("write failed: No space left on device (os error 28)"),
    ],
)
def test_a_full_folder_is_named(error, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said = f"cannot write to {tmp_path}: .*; make room there, or name"
    with pytest.raises(NoRoom, match=said), temporary_folder() as folder:  # noqa: PT012
        (folder / "half").write_bytes(b"half")
        raise error
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_as_they_are():
    with pytest.raises(FileNotFoundError), temporary_folder() as folder:
        (folder / "nothing").read_bytes()


def test_a_place_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StorageError, match=r"No such file.*name another place with TMPDIR"):
        temporary_folder().__enter__()
