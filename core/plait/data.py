"""Where do data come from, how are they split, and how does a run know them again?"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plait.errors import DataError, UnknownNameError, near
from plait.tables import TABLE_SUFFIXES, Table, read_table
from plait_registry.specs import DatasetSpec

if TYPE_CHECKING:
    from plait_registry.registry import Registry
    from plait_registry.specs import TaskSpec

logger = logging.getLogger("plait")

SPLITS = ("train", "valid", "test")
_ALIASES = {"val": "valid", "validation": "valid", "dev": "valid"}


# Sources


def resolve_source(source: Any, *, task: TaskSpec, registry: Registry) -> tuple[Any, str]:
    """What a task reads for a `data=` argument, and how a run's record names it.

    A registered data set's name wins over an entry of the working directory that is called the same; `./name` means
    the entry. Sequences, mappings, paths and None pass through.

    Returns:
        The source, and its description: "digits", "shapes (synthetic)", "photos/cats", "in memory".

    Raises:
        DataError: neither a file nor a data set has this name, or the data set is not for this task.
    """
    if isinstance(source, Path):
        return source, str(source)
    if source is None or not isinstance(source, str):
        return source, "none" if source is None else "in memory"
    if not source.strip():
        raise DataError("data.source is empty", hint=_served(task, registry))
    path = Path(source).expanduser()
    if source.startswith((".", "~")) or path.is_absolute():
        return path, source
    try:
        entry = registry.dataset(source)
    except UnknownNameError as unknown:
        if path.exists() or "/" in source or os.sep in source:
            return path, source
        raise _no_such_source(source, task, registry, unknown) from None
    spec = entry.spec
    assert isinstance(spec, DatasetSpec)
    if task.name not in {name.rpartition(":")[2] for name in spec.tasks}:  # "plait-vision:vision/..." names it, too
        raise DataError(
            f"data set {source!r} ({entry.owner}) is for {', '.join(spec.tasks)}, not for {task.name}",
            hint=f"for a folder of that name write ./{source}" if path.exists() else _served(task, registry),
        )
    if path.exists():
        logger.warning(
            "data %r is the registered data set; for the entry of the working directory write ./%s", source, source
        )
    return entry.resolve()(), f"{source} (synthetic)" if spec.synthetic else source


def _no_such_source(source: str, task: TaskSpec, registry: Registry, unknown: UnknownNameError) -> DataError:
    folder = Path()
    close = [f"./{name}" for name in near(source, (entry.name for entry in folder.iterdir()))]
    names = [entry.name for entry in registry.entries("dataset")]
    close += near(source, names)
    guess = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return DataError(
        f"data {source!r}: no such file or directory in {folder.resolve()}, and no data set of that name",
        hint=guess + _served(task, registry),
        details={"source": source, "near": close, "registry": unknown.message},
    )


def _served(task: TaskSpec, registry: Registry) -> str:
    specs = [entry.spec for entry in registry.entries("dataset")]
    names = [
        spec.name
        for spec in specs
        if isinstance(spec, DatasetSpec) and task.name in {name.rpartition(":")[2] for name in spec.tasks}
    ]
    return f"data sets for {task.name}: {', '.join(names) or 'none installed'}"


def no_such_path(path: Path) -> DataError:
    """The error for a path that does not exist: says from where on it does not, and what is near."""
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    missing = path.relative_to(parent).parts[0] if parent in path.parents else path.name
    try:
        close = near(missing, (each.name for each in parent.iterdir())) if parent.is_dir() else []
    except PermissionError:
        close = []
    hint = f"did you mean {' or '.join(repr(str(parent / each)) for each in close)}?" if close else None
    return DataError(
        f"{path}: no such file or directory" + (f" ({parent} has no {missing!r})" if missing != path.name else ""),
        hint=hint or "check the path; it is taken from the working directory",
    )


def entries(directory: Path) -> list[Path]:
    """A folder's entries by name, without hidden ones.

    Raises:
        DataError: it is missing or must not be read.
    """
    try:
        found = [each for each in directory.iterdir() if not each.name.startswith(".") and each.name != "__MACOSX"]
    except FileNotFoundError as error:
        raise no_such_path(directory) from error
    except PermissionError as error:
        raise DataError(f"{directory}: permission denied", hint=f"chmod u+rx {directory}") from error
    except OSError as error:
        raise DataError(f"{directory} cannot be read: {error.strerror or error}") from error
    return sorted(found, key=lambda each: each.name)


# Named splits


def split_name(name: str) -> str | None:
    """train, valid (also val, dev, validation, in any case) or test; None for any other name."""
    name = name.lower()
    name = _ALIASES.get(name, name)
    return name if name in SPLITS else None


def named_splits(directory: Path, *, suffixes: Collection[str] = tuple(TABLE_SUFFIXES)) -> dict[str, Path]:
    """The folders and files of `directory` that are named after a split, in the order train, valid, test.

    Args:
        suffixes: which files count: "train.csv", not "train.log".

    Raises:
        DataError: two of them are the same split, such as val/ and validation.csv.
    """
    found: dict[str, Path] = {}
    for child in entries(directory):
        if not child.is_dir() and child.suffix.lower() not in suffixes:
            continue
        split = split_name(child.name if child.is_dir() else child.stem)
        if split is None:
            continue
        if split in found:
            raise DataError(
                f"{directory}: {found[split].name} and {child.name} are both the split {split!r}",
                hint="rename or remove one of them",
            )
        found[split] = child
    return {split: found[split] for split in SPLITS if split in found}


def named_parts(source: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a mapping from split names to data, under the names train, valid, test.

    Raises:
        DataError: a key is no split's name, or two are the same split's.
    """
    found: dict[str, tuple[str, Any]] = {}
    for key, part in source.items():
        split = split_name(key) if isinstance(key, str) else None
        if split is None:
            raise DataError(
                f"data: {key!r} is no split's name", hint="the splits are train, valid (val, dev, validation) and test"
            )
        if split in found:
            raise DataError(f"data: {found[split][0]!r} and {key!r} are both the split {split!r}")
        found[split] = (key, part)
    return {split: found[split][1] for split in SPLITS if split in found}


# Hugging Face datasets


def is_datasets_directory(path: Path) -> bool:
    """Whether `datasets` wrote this directory (`save_to_disk` of a Dataset or a DatasetDict)."""
    return (path / "dataset_dict.json").is_file() or (
        (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    )


def read_datasets_directory(path: Path) -> Any:
    """A `datasets.Dataset`, or a dict of them by split (train, valid, test), memory-mapped from a directory.

    Raises:
        DataError: the directory is damaged.
    """
    import datasets

    try:
        found = datasets.load_from_disk(str(path), keep_in_memory=False)
    except Exception as error:  # whatever pyarrow, json and datasets make of damaged files
        raise DataError(
            f"{path}: not a readable datasets directory: {type(error).__name__}: {error}",
            hint="write it again with Dataset.save_to_disk",
        ) from error
    return named_parts(found) if isinstance(found, Mapping) else found


# Drawing parts


def _ranks(n: int, seed: int) -> np.ndarray:
    # A bit generator's raw stream is the part of NumPy that promises never to change (NEP 19); permutation() may.
    return np.asarray(np.random.PCG64(seed).random_raw(n), dtype=np.uint64)


def carve(
    labels: Sequence[Any] | np.ndarray | int, *, fraction: float, seed: int, stratify: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a part of a split: the same on every platform, for the same seed and labels.

    Stratified, every class gives its share, rounded so that the whole part has round(n * fraction) examples (largest
    remainders first; a class that can give its share differs from it by less than one). Either way a class keeps at
    least one example in the rest, so that nothing is judged that could not be learned; a single example stays.
    A part with a positive fraction is never empty where any example may be taken.

    Args:
        labels: one for each example; or the number of examples, where there are no classes to keep.
        fraction: of the examples to draw, in [0, 1).

    Returns:
        Positions of the rest and of the part, each ascending, int64.

    Raises:
        ValueError: the fraction is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be in [0, 1), not {fraction}")
    n = labels if isinstance(labels, int) else len(labels)
    classes = np.zeros(n, np.int64) if isinstance(labels, int) else _classes(labels)
    count = max(1, round(n * fraction)) if fraction and n > 1 else 0
    taken = _draw(classes, count, _ranks(n, seed), stratify=stratify, keep=1)
    return np.flatnonzero(~taken), np.flatnonzero(taken)


def limit(labels: Sequence[Any] | np.ndarray | int, *, most: int | None, seed: int) -> np.ndarray:
    """The positions of at most `most` examples, ascending: all, or a sample drawn by the seed (`data.limit`).

    With labels, every class gives its share as in `carve`.
    """
    n = labels if isinstance(labels, int) else len(labels)
    if most is None or most >= n:
        return np.arange(n)
    classes = np.zeros(n, np.int64) if isinstance(labels, int) else _classes(labels)
    return np.flatnonzero(_draw(classes, most, _ranks(n, seed), stratify=True, keep=0))


def _classes(labels: Sequence[Any] | np.ndarray) -> np.ndarray:
    return np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _draw(classes: np.ndarray, count: int, ranks: np.ndarray, *, stratify: bool, keep: int) -> np.ndarray:
    """Which examples are drawn: `count` by rank, `keep` of each class left."""
    sizes = np.bincount(classes)
    order = np.lexsort((ranks, classes))  # by class, then by rank
    starts = np.cumsum(sizes) - sizes
    within = np.empty(len(classes), np.int64)
    within[order] = np.arange(len(classes)) - starts[classes[order]]  # an example's place in its class
    spare = np.maximum(sizes - keep, 0)
    if stratify:
        taken: np.ndarray = within < _shares(sizes, spare, min(count, int(spare.sum())), ranks[order[starts]])[classes]
        return taken
    allowed = np.flatnonzero(within < spare[classes])
    taken = np.zeros(len(classes), bool)
    taken[allowed[np.argsort(ranks[allowed], kind="stable")][:count]] = True
    return taken


def _shares(sizes: np.ndarray, spare: np.ndarray, count: int, tie: np.ndarray) -> np.ndarray:
    """How many each class gives, `count` in all: largest remainders first, ties in the order of `tie`."""
    exact = sizes * (count / max(1, int(sizes.sum())))
    shares: np.ndarray = np.minimum(np.floor(exact).astype(np.int64), spare)
    order = np.lexsort((tie, -(exact - shares)))
    while (left := count - int(shares.sum())) > 0:  # a second round only where classes had nothing to spare
        able = [index for index in order if shares[index] < spare[index]]
        shares[able[:left]] += 1
    return shares


# Fingerprints


def digest(data: bytes | memoryview) -> str:
    """BLAKE2b of some bytes, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_file(path: Path) -> str:
    """BLAKE2b of a file's bytes, read in parts."""
    hasher = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def fingerprint(items: Iterable[str | int | bytes | None]) -> str:
    """A hash of a sequence of values; each counts with its type and length, so that no two sequences run together."""
    hasher = hashlib.blake2b(digest_size=16)
    for item in items:
        body = item if isinstance(item, bytes) else str(item).encode("utf-8", "surrogateescape")
        hasher.update(f"{type(item).__name__}:{len(body)}:".encode())
        hasher.update(body)
    return hasher.hexdigest()


__all__ = [
    "SPLITS",
    "TABLE_SUFFIXES",
    "Table",
    "carve",
    "digest",
    "digest_file",
    "entries",
    "fingerprint",
    "is_datasets_directory",
    "limit",
    "named_parts",
    "named_splits",
    "no_such_path",
    "read_datasets_directory",
    "read_table",
    "resolve_source",
    "split_name",
]
