"""Which examples does a source of some medium list: folders, tables, datasets directories, or Python's rows?"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plait.data import (
    TABLE_SUFFIXES,
    Table,
    is_datasets_directory,
    named_parts,
    no_such_path,
    read_datasets_directory,
    read_table,
    split_name,
)
from plait.errors import DataError, InputError, did_you_mean
from plait.folders import list_folder, splits_of
from plait.listing import Cell, Listing, Media, Row


def list_source(source: Any, *, media: Media, fields: Mapping[str, str], pattern: str | None = None) -> Listing:
    """List a source's examples, in an order that depends on the source alone.

    Args:
        source: a path of a folder (one per class, or files with their texts beside them, also below train, valid and
            test), a table (`TABLE_SUFFIXES`) or a datasets directory; a `datasets.Dataset`; a sequence of (content,
            target), of mappings by field, or of what `media.unpack` knows; the mapping of `media.arrays`; or a mapping
            from split names to any of these.
        fields: columns by field, where they are not called as the medium's fields, and split.
        pattern: a regular expression for the paths below a folder, see `plait.folders.check_pattern`.

    Raises:
        DataError: nothing can be listed: no such file, no classes, an unknown format, columns that are missing.
    """
    reader = _Reader(Listing(media), fields, None if pattern is None else re.compile(pattern))
    if isinstance(source, Mapping) and not (media.arrays and media.arrays[0] in source):
        for split, part in named_parts(source).items():
            reader.part(split, part, prefix=f"{split}/")
    elif isinstance(source, str | Path):
        reader.path(Path(source))
    else:
        reader.part("", source)
    reader.listing.make_ids_unique()
    return reader.listing


def input_value(inputs: Mapping[str, Any], media: Media) -> Any:
    """The value of a task's only input port, which is called as the medium's field.

    Raises:
        InputError: there is another, or none.
    """
    port = media.field
    if set(inputs) == {port}:
        return inputs[port]
    unknown = next((name for name in inputs if name != port), None)
    raise InputError(
        f"there is no input {unknown!r}" if unknown else f"the input {port!r} is missing",
        hint=(did_you_mean(unknown, [port]) if unknown else None) or f'give {{"{port}": a path}}',
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Fills a listing. It knows how sources are laid out, and not what the content is."""

    listing: Listing
    fields: Mapping[str, str]
    rule: re.Pattern[str] | None

    @property
    def media(self) -> Media:
        return self.listing.media

    def path(self, path: Path) -> None:
        """List what lies at a path and may name splits itself."""
        if path.is_dir() and is_datasets_directory(path):
            found = read_datasets_directory(path)
            for split, part in (found if isinstance(found, Mapping) else {"": found}).items():
                self.dataset(split, part, folder=path)
            return
        named = splits_of(path) if path.is_dir() else {}
        for split, child in named.items():
            self.part(split, child, prefix=f"{child.name}/")
        if not named:
            self.part("", path)

    def part(self, split: str, source: Any, *, prefix: str = "") -> None:
        """List a source that is one split; where it names splits itself, its part of that name."""
        if isinstance(source, str | Path):
            self._part_at(split, Path(source), prefix)
        elif isinstance(source, Mapping):
            self._arrays(split, source)
        elif _is_dataset(source):
            self.dataset(split, source, folder=Path())
        else:
            self._rows(split, source)
        if split or not self.listing.parts:
            self.listing.parts.setdefault(split, [])

    def _part_at(self, split: str, path: Path, prefix: str) -> None:
        if not path.exists():
            raise no_such_path(path)
        if path.is_dir() and is_datasets_directory(path):
            found = read_datasets_directory(path)
            part = _part_of(path, found, split) if isinstance(found, Mapping) else found
            self.dataset(split, part, folder=path)
        elif path.is_dir() and split and (named := splits_of(path)):
            self.part(split, _part_of(path, named, split), prefix=prefix)
        elif path.is_dir():
            list_folder(self.listing, split, path, self.rule, prefix=prefix)
        elif path.suffix.lower() in TABLE_SUFFIXES:
            self._table(split, path)
        else:
            one = path.suffix.lower() in self.media.suffixes
            what = f"one {self.media.noun}, not a data set" if one else "no data set that can be read"
            raise DataError(f"{path} is {what}", hint=f"expected {self.media.supported}")

    # Tables

    def _table(self, split: str, path: Path) -> None:
        """List a table; where it has a split column, the rows of `split`, or all under the splits that they name."""
        media, needed = self.media, self._needed()
        optional = (*(field for field in media.more if field not in needed), "split")
        table = read_table(path, required=needed, optional=optional, fields=self.fields, allow_null=True)
        named = table["split"].to_pylist() if "split" in table else ()
        splits = [_split_of(table, row, value) for row, value in enumerate(named)]
        if splits and split and split not in splits:
            raise DataError(f"{path} has a split column, and no row of {split}")
        columns = {field: table[field].to_pylist() for field in optional[:-1] if field in table}
        targets = table[media.target].to_pylist() if media.target else [None] * len(table)
        content = table[media.field]
        paths = content.to_pylist() if str(content.type) in ("string", "large_string", "string_view", "null") else None
        for row, target in enumerate(targets):
            name = splits[row] if splits else split
            if split and name != split:
                continue
            more = {field: values[row] for field, values in columns.items()}
            where, value, id_ = Row(table, row), None, f"{path.name}#{row}"
            if paths is None:
                value = Cell(content, row, path.parent)
            elif paths[row]:
                value, where = path.parent / paths[row], Row(table, row, paths[row])
                id_ = paths[row] if more.get("start") in (None, "") else f"{paths[row]}@{more['start']}"
            self.listing.add(name, value, target, id=id_, where=where, more=more)

    def _needed(self) -> tuple[str, ...]:
        return (self.media.field, self.media.target) if self.media.target else (self.media.field,)

    # Hugging Face datasets

    def dataset(self, split: str, dataset: Any, *, folder: Path) -> None:
        """List a `datasets.Dataset`; its content is decoded by us: our rules, our errors."""
        import datasets

        media, listing = self.media, self.listing
        names = {field: self.fields.get(field, field) for field in media.fields}
        for field in self._needed():
            _check_column(dataset, field, names[field])
        feature = dataset.features[names[media.field]]
        if getattr(feature, "decode", False):
            dataset = dataset.cast_column(names[media.field], replace(feature, decode=False))
        plain = dataset.with_format(None)
        columns = {
            field: list(plain[name])
            for field, name in names.items()
            if field != media.field and name in plain.column_names
        }
        classes = dataset.features[names[media.target]] if media.target else None
        targets: list[Any] = columns.pop(media.target) if media.target else [None] * len(plain)
        if isinstance(classes, datasets.ClassLabel):
            listing.classes = listing.classes or tuple(classes.names)
            targets = [classes.names[each] if each is not None and each >= 0 else None for each in targets]  # -1: none
        content = _Column(plain.select_columns([names[media.field]]), names[media.field])
        for row, target in enumerate(targets):
            where = f"{folder if folder.name else 'data'} ({split or 'row'} {row})"
            more = {field: values[row] for field, values in columns.items()}
            listing.add(split, Cell(content, row, folder), target, id=f"{split}#{row}", where=where, more=more)
        listing.parts.setdefault(split, [])

    # Python

    def _arrays(self, split: str, source: Mapping[str, Any]) -> None:
        keys = self.media.arrays
        if keys is None or set(source) != set(keys):
            expected = f'{{"{keys[0]}": array, "{keys[1]}": sequence}}, or ' if keys else ""
            raise DataError(
                f"data: a mapping with the keys {', '.join(map(repr, source))}",
                hint=f"expected {expected}split names (train, valid, test)",
            )
        contents, targets = source[keys[0]], source[keys[1]]
        if len(contents) != len(targets):
            raise DataError(
                f"data: {len(contents)} {keys[0]} and {len(targets)} {keys[1]}",
                hint=f"give one {self.media.target} for each {self.media.noun}",
            )
        self._rows(split, list(zip(contents, targets, strict=True)))

    def _rows(self, split: str, rows: Any) -> None:
        media = self.media
        if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")) or isinstance(rows, bytes):
            raise DataError(
                f"data: cannot read {media.nouns} from {type(rows).__name__}",
                hint=f"expected a path, a data set's name, or a sequence of {_pair(media)}",
            )
        for row in range(len(rows)):
            value, where = rows[row], f"data{f'[{split!r}]' if split else ''}[{row}]"
            found = self._row(value)
            if found is None:
                hint = f'expected {_pair(media)}, {{"{media.field}": ...}} by field, or an example of this task'
                raise DataError(f"{where} is {type(value).__name__}", hint=hint)
            id_ = found.get("id") or (f"{split}/{row}" if split else str(row))
            more = {field: found[field] for field in media.more if field in found and field != media.target}
            target = found.get(media.target) if media.target else None
            self.listing.add(split, found.get(media.field), target, id=id_, where=where, more=more)

    def _row(self, value: Any) -> Mapping[str, Any] | None:
        """A row's values by field; None for what is no row."""
        media = self.media
        found = media.unpack(value)
        if found is not None:
            return found
        if isinstance(value, Mapping):
            return {field: value.get(self.fields.get(field, field)) for field in media.fields}
        if isinstance(value, Sequence) and not isinstance(value, str | bytes) and media.target and len(value) == 2:
            return {media.field: value[0], media.target: value[1]}
        return None


def _pair(media: Media) -> str:
    return f"({media.field}, {media.target})" if media.target else f"{media.nouns} by field"


def _part_of(path: Path, named: Mapping[str, Any], split: str) -> Any:
    if split not in named:
        raise DataError(f"{path} names the splits {', '.join(named)}, and has no {split}")
    return named[split]


def _split_of(table: Table, row: int, value: Any) -> str:
    found = split_name(value) if isinstance(value, str) else None
    if found is None:
        raise DataError(
            f"{table.where(row)}: split is {value!r}", hint="expected train, valid (val, dev, validation) or test"
        )
    return found


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


def _check_column(dataset: Any, field: str, column: str) -> None:
    names = list(dataset.column_names)
    if column not in names:
        guess = did_you_mean(column, names)
        hint = f"name it: data.fields.{field}=COLUMN"
        raise DataError(
            f"the datasets directory has no column {column!r}; its columns are {', '.join(map(repr, names))}",
            hint=f"{guess} {hint}" if guess else hint,
        )
