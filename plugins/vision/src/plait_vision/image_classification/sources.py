"""Which images and labels does a source list, before any pixel is read?"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.data import (
    TABLE_SUFFIXES,
    Table,
    entries,
    is_datasets_directory,
    named_parts,
    named_splits,
    no_such_path,
    read_datasets_directory,
    read_table,
    split_name,
)
from plait.errors import DataError, did_you_mean
from plait_vision.image_classification.listing import Cell, Fault, Listing, Row
from plait_vision.images import IMAGE_SUFFIXES, ImageExample

SIDECARS = frozenset(
    (
        *(".csv", ".db", ".htm", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".ndjson", ".parquet", ".py"),
        *(".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml"),
    )
)
"""Files that lie beside images and are none, such as Thumbs.db, desktop.ini and LICENSE.txt: counted, not read."""

SUPPORTED = (
    "a folder per class (also below train, valid and test folders), a table with the columns image and label"
    f" ({', '.join(TABLE_SUFFIXES)}), or a datasets directory"
)


def list_source(source: Any, *, fields: Mapping[str, str]) -> Listing:
    """List a source's examples, in an order that depends on the source alone.

    Args:
        source: a path (see `SUPPORTED`); a sequence of (image, label), ImageExample or {"image": ..., "label": ...};
            {"images": array [n, height, width(, channels)], "labels": ...}; or a mapping from split names to these.
        fields: columns by field, where they are not called image, label and split.

    Raises:
        DataError: nothing can be listed: no such file, no classes, an unknown format, columns that are missing.
    """
    listing = Listing()
    if isinstance(source, Mapping) and "images" not in source:
        for split, part in named_parts(source).items():
            _list_part(listing, split, part, fields, prefix=f"{split}/")
    elif isinstance(source, str | Path):
        _list_path(listing, Path(source), fields)
    else:
        _list_part(listing, "", source, fields)
    listing.make_ids_unique()
    return listing


def _list_path(listing: Listing, path: Path, fields: Mapping[str, str]) -> None:
    """List what lies at a path and may name splits itself."""
    if path.is_dir():
        if is_datasets_directory(path):
            found = read_datasets_directory(path)
            parts = found if isinstance(found, Mapping) else {"": found}
            for split, part in parts.items():
                _list_dataset(listing, split, part, fields, folder=path)
            return
        named = _splits_of(path)
        for split, child in named.items():
            _list_part(listing, split, child, fields, prefix=f"{child.name}/")
        if not named:
            _list_classes(listing, "", path, prefix="")
    elif path.suffix.lower() in TABLE_SUFFIXES and path.exists():
        _list_table(listing, "", path, fields)
    else:
        _list_part(listing, "", path, fields)


def _splits_of(path: Path) -> dict[str, Path]:
    """The named splits of a folder; {} where a class happens to be called "train" or "test"."""
    named = named_splits(path)
    others = [each for each in entries(path) if each.is_dir() and split_name(each.name) is None]
    if named and others:
        held = [child for child in named.values() if child.is_file() or any(each.is_dir() for each in entries(child))]
        if len(held) < len(named):
            return {}
    return named


def _list_part(listing: Listing, split: str, source: Any, fields: Mapping[str, str], prefix: str = "") -> None:
    """List a source that is one split; where it names splits itself, its part of that name."""
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise no_such_path(path)
        if path.is_dir() and is_datasets_directory(path):
            found = read_datasets_directory(path)
            part = _part_of(path, found, split) if isinstance(found, Mapping) else found
            _list_dataset(listing, split, part, fields, folder=path)
        elif path.is_dir() and split and (named := _splits_of(path)):
            _list_part(listing, split, _part_of(path, named, split), fields, prefix=prefix)
        elif path.is_dir():
            _list_classes(listing, split, path, prefix=prefix)
        elif path.suffix.lower() in TABLE_SUFFIXES:
            _list_table(listing, split, path, fields)
        else:
            one = path.suffix.lower() in IMAGE_SUFFIXES
            what = "one image, not a data set" if one else "no data set that can be read"
            raise DataError(f"{path} is {what}", hint=f"expected {SUPPORTED}")
    elif isinstance(source, Mapping):
        _list_arrays(listing, split, source)
    elif _is_dataset(source):
        _list_dataset(listing, split, source, fields, folder=Path())
    else:
        _list_rows(listing, split, source, fields)
    listing.parts.setdefault(split, [])


def _part_of(path: Path, named: Mapping[str, Any], split: str) -> Any:
    if split not in named:
        raise DataError(f"{path} names the splits {', '.join(named)}, and has no {split}")
    return named[split]


# Folders


def _list_classes(listing: Listing, split: str, folder: Path, *, prefix: str) -> None:
    children = entries(folder)
    classes = [each for each in children if each.is_dir()]
    loose = [each for each in children if not each.is_dir() and each.suffix.lower() in IMAGE_SUFFIXES]
    if not classes:
        raise _no_classes(folder, children, loose)
    for path in loose:
        listing.faults.append(Fault(path, f"has no label: it lies in {folder.name}/ beside the class folders"))
    for path in (each for each in children if each not in classes and each not in loose):
        listing.ignored[_kind(path)] += 1
    for child in classes:
        paths = list(_files(child, listing.ignored, {_identity(folder)}))
        if not paths:
            listing.empty.setdefault(split, []).append(child.name)
        for path in paths:
            listing.add(split, path, child.name, id=prefix + path.relative_to(folder).as_posix(), where=path)


def _no_classes(folder: Path, children: list[Path], loose: list[Path]) -> DataError:
    tables = [each for each in children if each.suffix.lower() in TABLE_SUFFIXES]
    if tables:
        return DataError(
            f"{folder} has no class folders, but {', '.join(each.name for each in tables[:3])}",
            hint=f"for a table of images and labels give the file: data.source={tables[0]}",
        )
    if loose:
        return DataError(
            f"{folder} has {len(loose)} images, but no class folders that would say what they show",
            hint=f"move each image into a folder named as its class: {folder.name}/CLASS/{loose[0].name}",
        )
    return DataError(f"{folder} {'has no images' if children else 'is empty'}", hint=f"expected {SUPPORTED}")


def _files(folder: Path, ignored: Counter[str], above: set[tuple[int, int]]) -> Iterator[Path]:
    """The files below a folder that should be images, by name; links that lead back up are not followed."""
    here = _identity(folder)
    if here in above:
        return
    ignored.update(_kind(each) for each in _hidden(folder))
    for path in entries(folder):
        if path.is_dir():
            yield from _files(path, ignored, above | {here})
        elif path.suffix.lower() in SIDECARS:
            ignored[_kind(path)] += 1
        else:
            yield path


def _hidden(folder: Path) -> list[Path]:
    return [Path(each.path) for each in os.scandir(folder) if each.name.startswith(".") and each.is_file()]


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _kind(path: Path) -> str:
    return path.name if path.name.startswith(".") or not path.suffix else f"*{path.suffix.lower()}"


# Tables


def _list_table(listing: Listing, split: str, path: Path, fields: Mapping[str, str]) -> None:
    """List a table; where it has a split column, the rows of `split`, or all under the splits that they name."""
    table = read_table(path, required=("image", "label"), optional=("split",), fields=fields, allow_null=True)
    named = table["split"].to_pylist() if "split" in table else ()
    splits = [_split_of(table, row, value) for row, value in enumerate(named)]
    if splits and split and split not in splits:
        raise DataError(f"{path} has a split column, and no row of {split}")
    column = table["image"]
    is_text = str(column.type) in ("string", "large_string", "string_view", "null")
    images = column.to_pylist() if is_text else None
    for row, label in enumerate(table["label"].to_pylist()):
        name = splits[row] if splits else split
        if split and name != split:
            continue
        if images is None:
            cell = Cell(column, row, path.parent)
            listing.add(name, cell, label, id=f"{path.name}#{row}", where=Row(table, row))
        else:
            image = path.parent / images[row] if images[row] else None
            listing.add(name, image, label, id=str(images[row]), where=Row(table, row, str(images[row] or "")))


def _split_of(table: Table, row: int, value: Any) -> str:
    found = split_name(value) if isinstance(value, str) else None
    if found is None:
        raise DataError(
            f"{table.where(row)}: split is {value!r}", hint="expected train, valid (val, dev, validation) or test"
        )
    return found


# Hugging Face datasets


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a `datasets.Dataset`, read cell by cell."""

    dataset: Any
    name: str

    def __getitem__(self, row: int) -> Any:
        return self.dataset[row][self.name]


def _is_dataset(source: Any) -> bool:
    module = sys.modules.get("datasets")  # who has a Dataset has imported it
    return module is not None and isinstance(source, module.Dataset)


def _list_dataset(listing: Listing, split: str, dataset: Any, fields: Mapping[str, str], *, folder: Path) -> None:
    import datasets

    image, label = (_column(dataset, name, fields) for name in ("image", "label"))
    if isinstance(dataset.features[image], datasets.Image):
        dataset = dataset.cast_column(image, datasets.Image(decode=False))  # we decode: our rules, our errors
    feature = dataset.features[label]
    labels: list[Any] = list(dataset.with_format(None)[label])
    if isinstance(feature, datasets.ClassLabel):
        listing.classes = listing.classes or tuple(feature.names)
        labels = [feature.names[each] if each is not None and each >= 0 else None for each in labels]  # -1: unknown
    pixels = _Column(dataset.with_format(None).select_columns([image]), image)
    prefix = f"{split}#" if split else "#"
    for row, each in enumerate(labels):
        where = f"{folder if folder.name else 'data'} ({split or 'row'} {row})"
        listing.add(split, Cell(pixels, row, folder), each, id=f"{prefix}{row}", where=where)
    listing.parts.setdefault(split, [])


def _column(dataset: Any, name: str, fields: Mapping[str, str]) -> str:
    column, names = fields.get(name, name), list(dataset.column_names)
    if column not in names:
        guess = did_you_mean(column, names)
        hint = f"name it: data.fields.{name}=COLUMN"
        raise DataError(
            f"the datasets directory has no column {column!r}; its columns are {', '.join(map(repr, names))}",
            hint=f"{guess} {hint}" if guess else hint,
        )
    return column


# Python


def _list_arrays(listing: Listing, split: str, source: Mapping[str, Any]) -> None:
    if set(source) != {"images", "labels"}:
        raise DataError(
            f"data: a mapping with the keys {', '.join(map(repr, source))}",
            hint='expected {"images": array, "labels": sequence}, or split names (train, valid, test)',
        )
    images, labels = source["images"], source["labels"]
    if len(images) != len(labels):
        raise DataError(f"data: {len(images)} images and {len(labels)} labels", hint="give one label for each image")
    _list_rows(listing, split, list(zip(images, labels, strict=True)), {})


def _list_rows(listing: Listing, split: str, rows: Any, fields: Mapping[str, str]) -> None:
    if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")) or isinstance(rows, bytes):
        raise DataError(
            f"data: cannot read images from {type(rows).__name__}",
            hint="expected a path, a data set's name, or a sequence of (image, label)",
        )
    for row in range(len(rows)):
        image: Any
        label: Any
        value, where = rows[row], f"data{f'[{split!r}]' if split else ''}[{row}]"
        id_ = f"{split}/{row}" if split else str(row)
        if isinstance(value, ImageExample):
            image, label, id_ = value.image, value.label, value.id or id_
        elif isinstance(value, Mapping):
            image, label = value.get(fields.get("image", "image")), value.get(fields.get("label", "label"))
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == 2:
            image, label = value
        else:
            raise DataError(
                f"{where} is {type(value).__name__}", hint='expected (image, label), {"image": ..., "label": ...}'
            )
        listing.add(split, image, label, id=id_, where=where)
