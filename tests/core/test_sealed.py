"""A directory that was sealed is whole, or the file that is not is named."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait.errors import IntegrityError, StorageError
from plait.sealed import publish, seal, storage, verify, write_text


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "assets").mkdir(parents=True)
    (directory / "weights.safetensors").write_bytes(bytes(range(256)) * 3)
    (directory / "assets" / "labels.json").write_text('["a", "b"]')
    seal(directory)
    return directory


def test_an_untouched_directory_verifies(sealed: Path) -> None:
    verify(sealed)


def test_every_flipped_byte_is_found_and_its_file_named(sealed: Path) -> None:
    """All bytes of the small files, one in eight of the weights; in the manifest and COMPLETE too."""
    for path in [each for each in sealed.rglob("*") if each.is_file()]:
        whole = path.read_bytes()
        for position in range(0, len(whole), 8 if path.suffix == ".safetensors" else 1):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            with pytest.raises(IntegrityError, match=path.name):
                verify(sealed)
        path.write_bytes(whole)
    verify(sealed)


@given(cut=st.integers(0, 700))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_a_truncated_file_is_found(sealed: Path, cut: int) -> None:
    path = sealed / "weights.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with pytest.raises(IntegrityError, match=r"weights\.safetensors: "):
        verify(sealed)
    path.write_bytes(whole)


@pytest.mark.parametrize("name", ["weights.safetensors", "assets/labels.json", "manifest.json", "COMPLETE"])
def test_a_missing_file_is_named(sealed: Path, name: str) -> None:
    (sealed / name).unlink()
    with pytest.raises(IntegrityError, match=Path(name).name):
        verify(sealed)


def test_a_pickle_that_was_put_there_is_refused(sealed: Path) -> None:
    (sealed / "weights.pkl").write_bytes(b"cos\nsystem\n")
    with pytest.raises(IntegrityError, match=r"weights\.pkl: not part of what was saved, and Plait reads no pickles"):
        verify(sealed)


def test_publishing_replaces_a_directory_as_a_whole(sealed: Path, tmp_path: Path) -> None:
    final = tmp_path / "final"
    final.mkdir()
    (final / "old").touch()
    publish(sealed, final)
    verify(final)
    assert not (final / "old").exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["final"]


def test_a_rename_that_fails_leaves_what_stood_there(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "final"
    (final / "old").mkdir(parents=True)
    original = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self == sealed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(PermissionError):
        publish(sealed, final)
    assert (final / "old").is_dir()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_text(path, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="no space is left"), storage("run.json"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]


def test_only_storage_errors_are_explained() -> None:
    with pytest.raises(ZeroDivisionError), storage("x"):
        raise ZeroDivisionError
