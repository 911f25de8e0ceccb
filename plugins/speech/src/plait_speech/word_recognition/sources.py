"""Which recordings, labels and speakers does a source list, before any sample is read?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plait.data import (
    SPLITS,
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
from plait.errors import DataError
from plait_speech.audio import AUDIO_SUFFIXES, Utterance
from plait_speech.word_recognition.listing import Cell, Fault, Listing, Row, several

SUPPORTED = (
    "a folder per class (also below train, valid and test folders), folders with data.pattern, or a table with the"
    f" columns audio and label, optionally speaker, start, end, split ({', '.join(TABLE_SUFFIXES)})"
)

GROUPS = ("label", "speaker", "split", *SPLITS)
"""The named groups of `data.pattern`."""


def list_source(source: Any, *, fields: Mapping[str, str], pattern: str | None) -> Listing:
    """List a source's recordings, in an order that depends on the source alone.

    Args:
        source: a path (see `SUPPORTED`); a sequence of `Utterance`, (audio, label), (array, rate, label) or
            {"audio": ..., "label": ..., "speaker": ..., "start": ..., "end": ...}; or a mapping from split names to
            these.
        fields: columns by field, where they are not called audio, label, speaker, start, end and split.
        pattern: a regular expression for file names, see `WordOptions.pattern`.

    Raises:
        DataError: nothing can be listed: no such file, no classes, an unknown format, columns that are missing.
    """
    listing = Listing()
    rule = None if pattern is None else re.compile(pattern)
    if isinstance(source, Mapping):
        for split, part in named_parts(source).items():
            _list_part(listing, split, part, fields, rule, prefix=f"{split}/")
    elif isinstance(source, str | Path) and Path(source).is_dir():
        path = Path(source)
        named = {} if is_datasets_directory(path) else _splits_of(path)
        for split, child in named.items():
            _list_part(listing, split, child, fields, rule, prefix=f"{child.name}/")
        if not named:
            _list_part(listing, "", path, fields, rule)
    else:
        _list_part(listing, "", source, fields, rule)
    listing.make_ids_unique()
    return listing


def _splits_of(path: Path) -> dict[str, Path]:
    """The named splits of a folder; {} where a word of the vocabulary happens to be called "train" or "test"."""
    named = named_splits(path)
    others = [each for each in entries(path) if each.is_dir() and split_name(each.name) is None]
    held = [each for each in named.values() if each.is_file() or any(inner.is_dir() for inner in entries(each))]
    return {} if named and others and len(held) < len(named) else named


def _list_part(
    listing: Listing, split: str, source: Any, fields: Mapping[str, str], rule: re.Pattern[str] | None, prefix: str = ""
) -> None:
    """List a source that is one split, or that names its splits in a column, a pattern or a datasets directory."""
    if not isinstance(source, str | Path):
        _list_rows(listing, split, source, fields)
        listing.parts.setdefault(split, [])
        return
    path = Path(source)
    if not path.exists():
        raise no_such_path(path)
    if path.is_dir() and is_datasets_directory(path):
        found = read_datasets_directory(path)
        for name, dataset in (found if isinstance(found, Mapping) else {split: found}).items():
            if not split or split == name:
                _list_dataset(listing, name, dataset, fields, folder=path)
    elif path.is_dir() and rule is not None:
        _list_matching(listing, split, path, rule, prefix)
    elif path.is_dir():
        _list_classes(listing, split, path, prefix)
    elif path.suffix.lower() in TABLE_SUFFIXES:
        _list_table(listing, split, path, fields)
    else:
        one = path.suffix.lower() in AUDIO_SUFFIXES
        raise DataError(
            f"{path} is {'one recording, not a data set' if one else 'no data set that can be read'}",
            hint=f"expected {SUPPORTED}",
        )


# Folders


def _list_classes(listing: Listing, split: str, folder: Path, prefix: str) -> None:
    children = entries(folder)
    classes = [each for each in children if each.is_dir()]
    loose = [each for each in children if not each.is_dir() and each.suffix.lower() in AUDIO_SUFFIXES]
    if not classes:
        raise _no_classes(folder, children, loose)
    for path in loose:
        listing.faults.append(Fault(path, f"has no label: it lies in {folder.name}/ beside the class folders"))
    for child in classes:
        paths = list(_recordings(child, listing))
        if not paths:
            listing.empty.setdefault(split, []).append(child.name)
        for path in paths:
            listing.add(split, path, child.name, id=prefix + path.relative_to(folder).as_posix(), where=path)


def _no_classes(folder: Path, children: list[Path], loose: list[Path]) -> DataError:
    tables = [each for each in children if each.suffix.lower() in TABLE_SUFFIXES]
    if tables:
        return DataError(
            f"{folder} has no class folders, but {several((each.name for each in tables), most=3)}",
            hint=f"for a table of recordings and labels give the file: data.source={tables[0]}",
        )
    if loose:
        return DataError(
            f"{folder} has {len(loose)} recordings, but no class folders that would say what they are",
            hint=f"move each into a folder named as its class: {folder.name}/CLASS/{loose[0].name}; or read it from"
            r" the name: data.pattern='(?P<label>[^_]+)_.*\.wav'",
        )
    return DataError(f"{folder} {'has no recordings' if children else 'is empty'}", hint=f"expected {SUPPORTED}")


def _list_matching(listing: Listing, split: str, folder: Path, rule: re.Pattern[str], prefix: str) -> None:
    """List every recording below a folder, its label, speaker and split read from its path by `rule`."""
    names_splits = bool({"split", *SPLITS} & set(rule.groupindex))
    for path in _recordings(folder, listing):
        name = path.relative_to(folder).as_posix()
        found = rule.fullmatch(name)
        if found is None:
            listing.faults.append(Fault(path, f"does not match data.pattern: {name!r} against {rule.pattern!r}"))
            continue
        groups = found.groupdict()
        own = split or _split_in(groups, path) or ("train" if names_splits else "")
        listing.add(own, path, groups["label"], id=prefix + name, where=path, speaker=groups.get("speaker"))


def _split_in(groups: Mapping[str, str | None], path: Path) -> str | None:
    """The split that a file's name puts it in; None where it does not say."""
    named = groups.get("split")
    if named is not None:
        split = split_name(named)
        if split is None:
            raise DataError(
                f"{path}: data.pattern finds the split {named!r}",
                hint="expected train, valid (val, dev, validation) or test",
            )
        return split
    return next((split for split in SPLITS if groups.get(split) is not None), None)


def _recordings(folder: Path, listing: Listing) -> Iterator[Path]:
    """The audio files below a folder, by name; others are counted. Links to folders are not followed: they may lead
    back up."""
    for path in entries(folder):
        if path.is_dir():
            if not path.is_symlink():
                yield from _recordings(path, listing)
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            yield path
        else:
            listing.ignored[f"*{path.suffix.lower()}" if path.suffix else path.name] += 1


# Tables


def _list_table(listing: Listing, split: str, path: Path, fields: Mapping[str, str]) -> None:
    """List a table; where it has a split column, the rows of `split`, or all under the splits that they name."""
    optional = ("speaker", "start", "end", "split")
    table = read_table(path, required=("audio", "label"), optional=optional, fields=fields, allow_null=True)
    columns = {name: table[name].to_pylist() if name in table else [None] * len(table) for name in optional}
    audio = table["audio"]
    paths = audio.to_pylist() if str(audio.type) in ("string", "large_string", "string_view", "null") else None
    for row, label in enumerate(table["label"].to_pylist()):
        name = split
        if "split" in table:
            name = _split_of(table, row, columns["split"][row])
            if split and name != split:
                continue
        speaker, start, end = (columns[field][row] for field in ("speaker", "start", "end"))
        where, value, id_ = Row(table, row), None, f"{path.name}#{row}"
        if paths is None:
            value = Cell(audio, row, path.parent)
        elif paths[row]:
            value, where = path.parent / paths[row], Row(table, row, paths[row])
            id_ = paths[row] if start in (None, "") else f"{paths[row]}@{start}"
        listing.add(name, value, label, id=id_, where=where, speaker=speaker, start=start, end=end)
    listing.parts.setdefault(split, [])


def _split_of(table: Table, row: int, value: Any) -> str:
    found = split_name(value) if isinstance(value, str) else None
    if found is None:
        raise DataError(
            f"{table.where(row)}: split is {value!r}", hint="expected train, valid (val, dev, validation) or test"
        )
    return found


def _list_dataset(listing: Listing, split: str, dataset: Any, fields: Mapping[str, str], *, folder: Path) -> None:
    """List a Hugging Face `datasets.Dataset`; its audio is decoded by us, our rules and errors."""
    import datasets

    names = {name: fields.get(name, name) for name in ("audio", "label", "speaker", "start", "end")}
    missing = [names[name] for name in ("audio", "label") if names[name] not in dataset.column_names]
    if missing:
        raise DataError(
            f"{folder} has no column {several(map(repr, missing))}; its columns are {several(dataset.column_names)}",
            hint="name it: data.fields.audio=COLUMN data.fields.label=COLUMN",
        )
    if isinstance(dataset.features[names["audio"]], datasets.Audio):
        dataset = dataset.cast_column(names["audio"], datasets.Audio(decode=False))
    plain = dataset.with_format(None)
    feature = dataset.features[names["label"]]
    columns = {key: list(plain[name]) for key, name in names.items() if key != "audio" and name in plain.column_names}
    if isinstance(feature, datasets.ClassLabel):
        columns["label"] = [
            feature.names[each] if each is not None and each >= 0 else None for each in columns["label"]
        ]
    audio = plain.select_columns([names["audio"]])
    for row in range(len(plain)):
        values = {key: column[row] for key, column in columns.items()}
        where = f"{folder} ({split or 'row'} {row})"
        cell = Cell(_Column(audio, names["audio"]), row, folder)
        listing.add(split, cell, values.pop("label"), id=f"{split}#{row}", where=where, **values)
    listing.parts.setdefault(split, [])


class _Column:
    """A column of a `datasets.Dataset`, read cell by cell."""

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset, self._name = dataset, name

    def __getitem__(self, row: int) -> Any:
        return self._dataset[row][self._name]


# Python


def _list_rows(listing: Listing, split: str, rows: Any, fields: Mapping[str, str]) -> None:
    if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")) or isinstance(rows, bytes):
        raise DataError(
            f"data: cannot read recordings from {type(rows).__name__}",
            hint="expected a path, a data set's name, or a sequence of (audio, label)",
        )
    for row in range(len(rows)):
        value, where = rows[row], f"data{f'[{split!r}]' if split else ''}[{row}]"
        id_ = f"{split}/{row}" if split else str(row)
        more: dict[str, Any] = {}
        audio: Any
        if isinstance(value, Utterance):
            audio, label, id_ = value, value.label, value.id or id_
            more["speaker"] = value.speaker
        elif isinstance(value, Mapping):
            audio, label = value.get(fields.get("audio", "audio")), value.get(fields.get("label", "label"))
            more = {name: value.get(fields.get(name, name)) for name in ("speaker", "start", "end")}
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) in (2, 3):
            audio, label = (value[0], value[1]) if len(value) == 2 else ((value[0], value[1]), value[2])
        else:
            raise DataError(
                f"{where} is {type(value).__name__}",
                hint='expected (audio, label), (array, rate, label), {"audio": ..., "label": ...} or an Utterance',
            )
        listing.add(split, audio, label, id=id_, where=where, **more)
