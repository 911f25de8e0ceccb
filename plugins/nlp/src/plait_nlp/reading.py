"""Which rows of text does a source hold: tables, lines, class folders, datasets directories, or Python's rows?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field, field_validator

from plait.data import (
    TABLE_SUFFIXES,
    is_datasets_directory,
    named_parts,
    named_splits,
    no_such_path,
    read_datasets_directory,
    read_table,
    split_name,
)
from plait.errors import DataError, did_you_mean
from plait.listing import Fault, Item, Listing, Media, Row, name_of
from plait.options import DataOptions
from plait.sources import list_source
from plait.textlines import text_lines
from plait_nlp.encodings import detect_encoding, known_encoding

SUFFIXES = frozenset((*TABLE_SUFFIXES, ".txt", ".text"))
_LINES = frozenset({".txt", ".text"})


class TextOptions(DataOptions):
    """What the `data` block of every task on texts has."""

    encoding: str = "auto"
    """Of text files: auto (byte order mark, else UTF-8, else Latin-1 with a note), or a name such as utf-16."""
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The names of the columns of CSV and TSV files whose first line is no header: ["text", "label"]."""
    split: Literal["auto", "given", "random", "stratified"] = "auto"
    """auto: splits that the data name, else by the seed; given: only these; random, stratified: all divided anew."""
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """The part of the training examples that becomes `valid` where the data name none; 0: no valid."""
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    """The part of all examples that becomes `test` where the data name no splits; 0: no test."""

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        return encoding if encoding == "auto" else known_encoding(encoding)


class ReadingOptions(Protocol):
    """What `list_texts` asks of a task's options; `TextOptions` has it."""

    @property
    def fields(self) -> dict[str, str]: ...
    @property
    def encoding(self) -> str: ...
    @property
    def columns(self) -> tuple[str, ...] | None: ...


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row of a file in a format of a task's own.

    Args:
        values: by field, as a column of a table would have them; or what is wrong with the row, after its place.
        id: of the row in its file.
        where: "train.conll:12".
    """

    values: dict[str, Any] | str
    id: str
    where: str


Format = Callable[[Path, str], Iterator[FileRow]]
"""Reads a file of a format, given its encoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the rows of a task hold. It knows no file.

    Args:
        media: what messages call the examples; its `target` is the field that divides classes, or None.
        required: fields that every row has. The first is the text; all that are texts must not be blank.
        optional: fields that are read where they are there.
        lines: whether each line of a .txt file is a row with the first field only.
        paragraphs: whether a .txt file's rows are the paragraphs between its blank lines, each a list of lines; of a
            file without blank lines, each line.
        may_be_empty: required fields that may be a blank text.
        formats: readers of further files by suffix, which win over the others.
        folders: whether .txt files in folders that are named as classes are rows, as IMDb has them.
    """

    media: Media
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    lines: bool = False
    paragraphs: bool = False
    folders: bool = False
    may_be_empty: tuple[str, ...] = ()
    formats: Mapping[str, Format] = field(default_factory=dict)


def text_media(
    noun: str, *, supported: str, field: str = "text", target: str | None = None, classes: bool = False
) -> Media:
    """The medium of texts, as `plait.splitting` and `plait.classes` ask for it.

    Args:
        noun: what a user calls one example: "text", "sentence pair".
        supported: what a source may be, for messages.
    """
    return Media(field=field, noun=noun, suffixes=_LINES, supported=supported, target=target, classes=classes)


@dataclass(slots=True)
class TextListing:
    """What a source holds.

    Args:
        listing: its parts by split ("" where the source names none); an item's content is a mapping from fields to
            values, its target the class as text, or "" where the layout has none.
        notes: what a reader must know: encodings that were guessed.
    """

    listing: Listing
    notes: list[str] = field(default_factory=list)


def list_texts(source: Any, *, layout: Layout, options: ReadingOptions) -> TextListing:
    """List a source's rows, in an order that depends on the source alone.

    Args:
        source: a path of a CSV, TSV, JSONL or Parquet file, of a .txt file (where `layout.lines`), of a folder with
            such files named train, valid and test, of class folders of .txt files (where `layout.folders`), or of a
            `datasets` directory; a `datasets.Dataset`; a sequence of mappings by field, of tuples in the order of
            the required fields, or of bare texts where one field is required; or a mapping from split names to these.

    Raises:
        DataError: nothing can be listed: no such file, an unknown format, columns that are missing, broken lines or
            bytes, each with file and line.
    """
    reader = _Reader(TextListing(Listing(layout.media)), layout, options)
    if isinstance(source, Mapping):
        for split, part in named_parts(source).items():
            reader.part(split, part)
    elif isinstance(source, str | Path):
        reader.path(Path(source))
    else:
        reader.part("", source)
    reader.found.listing.make_ids_unique()
    return reader.found


@dataclass(frozen=True, slots=True)
class _Reader:
    """Fills a listing. It knows how sources are laid out, not what the rows mean."""

    found: TextListing
    layout: Layout
    options: ReadingOptions

    def path(self, path: Path) -> None:
        """List what lies at a path and may name splits itself."""
        if path.is_dir() and is_datasets_directory(path):
            data = read_datasets_directory(path)
            for split, part in (data if isinstance(data, Mapping) else {"": data}).items():
                self._dataset(split, part, str(path))
            return
        named = named_splits(path, suffixes=SUFFIXES | self.layout.formats.keys()) if path.is_dir() else {}
        if named and not all(each.is_dir() for each in named.values()):
            for split, child in named.items():
                self.part(split, child)
        else:
            self.part("", path)

    def part(self, split: str, source: Any) -> None:
        """List a source that is one split; where it names splits itself, all of them (only for split "")."""
        if isinstance(source, str | Path):
            self._file(split, Path(source))
        elif hasattr(source, "features") and hasattr(source, "column_names"):
            self._dataset(split, source, "data")
        else:
            self._rows(split, source)
        if split:
            self.found.listing.parts.setdefault(split, [])

    def _file(self, split: str, path: Path) -> None:
        media, suffix = self.layout.media, path.suffix.lower()
        if not path.exists():
            raise no_such_path(path)
        if path.is_dir():
            if is_datasets_directory(path):
                self._dataset(split, read_datasets_directory(path), str(path))
            elif self.layout.folders:
                self._folders(split, path)
            else:
                raise DataError(f"{path} holds no file named train, valid or test", hint=f"expected {media.supported}")
        elif suffix in self.layout.formats:
            for row in self.layout.formats[suffix](path, self._encoding(path)):
                if isinstance(row.values, str):
                    self.found.listing.faults.append(Fault(row.where, row.values))
                else:
                    self._add(split, row.values, row.id, row.where)
        elif suffix in TABLE_SUFFIXES:
            self._table(split, path)
        elif suffix in _LINES and (self.layout.lines or self.layout.paragraphs):
            lines = ((number, text.rstrip("\r\n")) for number, text in enumerate(self._lines(path), start=1))
            rows = _paragraphs(lines) if self.layout.paragraphs else ((at, text) for at, text in lines if text.strip())
            for number, content in rows:
                self._add(split, {self.layout.required[0]: content}, f"{path.name}#{number - 1}", f"{path}:{number}")
        else:
            raise DataError(
                f"{path}: {suffix or 'a file without a suffix'} cannot be read here", hint=f"expected {media.supported}"
            )

    def _lines(self, path: Path) -> Iterator[str]:
        return text_lines(path, self._encoding(path))

    def _encoding(self, path: Path) -> str:
        if self.options.encoding != "auto":
            return self.options.encoding
        found = detect_encoding(path)
        if found.note:
            self.found.notes.append(found.note)
        return found.name

    def _table(self, split: str, path: Path) -> None:
        layout, binary = self.layout, path.suffix.lower() == ".parquet"
        headless = path.suffix.lower() in (".csv", ".tsv") and self.options.columns is not None
        try:
            table = read_table(
                path, required=layout.required, optional=(*layout.optional, "split"), fields=self.options.fields,
                allow_null=True, encoding="utf-8" if binary else self._encoding(path),
                columns=self.options.columns if headless else None,
            )  # fmt: skip
        except DataError as error:
            if "no column" in error.message and path.suffix.lower() in (".csv", ".tsv") and not headless:
                names = ",".join(layout.required)
                error.hint = f"{error.hint}; or, where the first line is no header, data.columns=[{names}]"
            raise
        columns = {name: table[name].to_pylist() for name in (*layout.required, *layout.optional) if name in table}
        splits = table["split"].to_pylist() if "split" in table and not split else None
        for row in range(len(table)):
            name = split if splits is None else split_name(str(splits[row]))
            if name is None:
                raise DataError(
                    f"{table.where(row)}: split is {splits and splits[row]!r}",
                    hint="expected train, valid (val, dev, validation) or test",
                )
            self._add(
                name, {key: values[row] for key, values in columns.items()}, f"{path.name}#{row}", Row(table, row)
            )

    def _folders(self, split: str, path: Path) -> None:
        """Class folders of .txt files, perhaps below train, valid and test; content that is read here."""
        listed = list_source(path, media=replace(self.layout.media, target="label", classes=True), fields={})
        self.found.listing.faults += listed.faults
        self.found.listing.ignored.update(listed.ignored)
        for name, items in listed.parts.items():
            for item in items:
                file = Path(item.content)
                text = "".join(text_lines(file, self._encoding(file)))
                self._add(split or name, {self.layout.required[0]: text, "label": item.target}, item.id, file)

    def _dataset(self, split: str, dataset: Any, where: str) -> None:
        """List a `datasets.Dataset`; class numbers become names."""
        if isinstance(dataset, Mapping):
            for name, part in named_parts(dataset).items():
                if not split or name == split:
                    self._dataset(name, part, where)
            return
        layout, names = self.layout, list(dataset.column_names)
        columns = {key: self.options.fields.get(key, key) for key in (*layout.required, *layout.optional)}
        for key in layout.required:
            if columns[key] not in names:
                guess = did_you_mean(columns[key], names)
                hint = f"name it: data.fields.{key}=COLUMN"
                raise DataError(
                    f"{where}: no column {columns[key]!r}; its columns are {', '.join(map(repr, names))}",
                    hint=f"{guess} {hint}" if guess else hint,
                )
        values = {key: list(dataset.with_format(None)[column]) for key, column in columns.items() if column in names}
        for key, cells in values.items():
            feature = dataset.features[columns[key]]
            listed = getattr(getattr(feature, "feature", None), "names", None)  # of the words of a sentence
            if listed is not None:
                values[key] = [None if each is None else [listed[number] for number in each] for each in cells]
            classes = getattr(feature, "names", None)
            if classes is not None:  # -1 is how `datasets` writes that there is none
                values[key] = [classes[each] if each is not None and each >= 0 else None for each in cells]
                if key == layout.media.target:
                    self.found.listing.classes = self.found.listing.classes or tuple(classes)
        for row in range(len(dataset)):
            place = f"{where} ({split or 'row'} {row})"
            self._add(split, {key: cells[row] for key, cells in values.items()}, f"{split}#{row}", place)

    def _rows(self, split: str, rows: Any) -> None:
        layout = self.layout
        if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")) or isinstance(rows, bytes | bytearray):
            raise DataError(
                f"data: cannot read {layout.media.nouns} from {type(rows).__name__}",
                hint=f"expected a path, a data set's name, or a sequence of {_shape(layout)}",
            )
        for row in range(len(rows)):
            value, where = rows[row], f"data{f'[{split!r}]' if split else ''}[{row}]"
            id_ = f"{split}/{row}" if split else str(row)
            found = self._fields(value)
            if found is None:
                raise DataError(f"{where} is {type(value).__name__}", hint=f"expected {_shape(layout)}")
            self._add(split, found, str(found.pop("id", None) or id_), where)

    def _fields(self, value: Any) -> dict[str, Any] | None:
        layout = self.layout
        if isinstance(value, Mapping):
            names = (*layout.required, *layout.optional)
            found = {
                key: value[self.options.fields.get(key, key)]
                for key in names
                if self.options.fields.get(key, key) in value
            }
            return found | ({"id": value["id"]} if "id" in value else {})
        if isinstance(value, str) and len(layout.required) == 1:
            return {layout.required[0]: value}
        if isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == len(layout.required):
            return dict(zip(layout.required, value, strict=True))
        return None

    def _add(self, split: str, values: dict[str, Any], id_: str, where: Any) -> None:
        """List a row, or the reason why it cannot be used."""
        listing, media = self.found.listing, self.layout.media
        target = ""
        for key in self.layout.required:
            value = values.get(key)
            if key == media.target and media.classes:
                named = name_of(value)
                if named is None:
                    listing.faults.append(
                        Fault(where, f"has no {key}: found {value!r}, expected a name or a whole number")
                    )
                    return
                target = named
            elif value is None or (
                isinstance(value, str) and not value.strip() and key not in self.layout.may_be_empty
            ):
                listing.faults.append(Fault(where, f"has an empty {key}" if value is not None else f"has no {key}"))
                return
            elif key == media.field and not isinstance(value, str | list):
                listing.faults.append(
                    Fault(where, f"has a {key} that is no text, but {type(value).__name__}: {value!r:.60}")
                )
                return
        listing.parts.setdefault(split, []).append(Item(values, target, id_, where))


def _paragraphs(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    """What stands between blank lines, and the number of its first line; each line, where no line is blank."""
    found: list[tuple[int, list[str]]] = [(1, [])]
    for number, text in lines:
        if text.strip():
            if not found[-1][1]:
                found[-1] = (number, found[-1][1])
            found[-1][1].append(text)
        elif found[-1][1]:
            found.append((number, []))
    if len(found) == 1:
        first, rows = found[0]
        return iter(enumerate(rows, start=first))
    return ((first, rows) for first, rows in found if rows)


def _shape(layout: Layout) -> str:
    names = ", ".join(layout.required)
    bare = "texts, or of " if len(layout.required) == 1 else f"({names}), or of "
    return f"{bare}mappings by field: {{{', '.join(map(repr, layout.required))}: ...}}"
