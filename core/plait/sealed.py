"""How does a directory prove that it is whole and unchanged?

A sealed directory holds `manifest.json` (size and SHA-256 of each file) and `COMPLETE` (SHA-256 of the manifest).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plait.errors import IntegrityError, StorageError

MANIFEST = "manifest.json"
COMPLETE = "COMPLETE"
_ASIDE = ".old"
EXECUTABLE_FORMATS = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz", ".py", ".pyc"}
_STORAGE = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "access is denied",
    errno.EPERM: "the operation is not permitted",
    errno.EFBIG: "the file would be larger than the limit allows",
    errno.EIO: "the device reports an input/output error",
}


def seal(directory: Path) -> None:
    """Write the manifest and COMPLETE, and force everything to disk."""
    entries = {}
    for path in _files(directory):
        _sync(path)
        entries[path.relative_to(directory).as_posix()] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    manifest = directory / MANIFEST
    manifest.write_text(json.dumps({"files": entries}, indent=1), encoding="utf-8")
    _sync(manifest)
    complete = directory / COMPLETE
    complete.write_text(_sha256(manifest) + "\n", encoding="utf-8")
    _sync(complete)
    sync_directory(directory)


def verify(directory: Path) -> None:
    """Check every file of a sealed directory.

    Raises:
        IntegrityError: names the file that is missing, changed, or not in the manifest.
    """
    if not directory.is_dir():
        raise IntegrityError(f"{directory}: no such directory")
    complete, manifest = directory / COMPLETE, directory / MANIFEST
    for path in (complete, manifest):
        if not path.is_file():
            raise IntegrityError(f"{path}: missing; the directory was not written to its end")
    if complete.read_bytes() != f"{_sha256(manifest)}\n".encode():
        raise IntegrityError(f"{manifest} and {complete} disagree: one of them was changed after it was written")
    entries: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    for path in _files(directory):
        name = path.relative_to(directory).as_posix()
        if name not in entries and path not in (complete, manifest):
            why = ", and Plait reads no pickles or code" if path.suffix in EXECUTABLE_FORMATS else ""
            raise IntegrityError(f"{path}: not part of what was saved{why}", hint="remove the file")
    for name, entry in entries.items():
        path = directory / name
        if not path.is_file():
            raise IntegrityError(f"{path}: missing")
        if path.stat().st_size != entry["bytes"]:
            raise IntegrityError(f"{path}: {path.stat().st_size} bytes, expected {entry['bytes']}")
        if _sha256(path) != entry["sha256"]:
            raise IntegrityError(f"{path}: changed since it was written (SHA-256 differs)")


def publish(finished: Path, final: Path) -> None:
    """Rename a sealed directory into place; what stood there before is gone only after the new one is complete.

    A process that dies between the two renames leaves the earlier directory aside, and `recover` puts it back.
    """
    aside = final.with_name(f".{final.name}{_ASIDE}")
    if final.exists():
        shutil.rmtree(aside, ignore_errors=True)
        final.rename(aside)
    try:
        finished.rename(final)
    except OSError:
        recover(final)
        raise
    sync_directory(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def recover(final: Path) -> None:
    """Put back what `publish` had moved aside when it was cut off, and remove what it had not got round to removing."""
    aside = final.with_name(f".{final.name}{_ASIDE}")
    if aside.is_dir() and not final.exists():
        aside.rename(final)
    shutil.rmtree(aside, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file's content at once: a reader sees the old text or the new one, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


@contextmanager
def storage(what: str) -> Iterator[None]:
    """Inside, a full or read-only disk raises StorageError, which says what could not be written."""
    try:
        yield
    except Exception as error:
        number = _errno(error)
        if number not in _STORAGE:
            raise
        raise StorageError(
            f"{what}: {_STORAGE[number]}",
            hint="checkpoints that were complete stay whole; make room or access, then go on with --resume",
        ) from error


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors reports the system's number as text
    return int(found[1]) if found else None


def sync_directory(directory: Path) -> None:
    """Force a directory's entries to disk, where the system can."""
    if os.name == "nt":
        return  # Windows has no handle for that
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if not path.is_dir())


def _sync(path: Path) -> None:
    with path.open("r+b" if os.name == "nt" else "rb") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
