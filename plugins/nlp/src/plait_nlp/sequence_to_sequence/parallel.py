"""Which pairs of lines do parallel files hold: train.en beside train.de?"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from plait.data import TABLE_SUFFIXES, entries, is_datasets_directory, no_such_path, split_name
from plait.errors import DataError, did_you_mean
from plait.listing import Fault, Item, Listing, Media, several
from plait.textlines import text_lines
from plait_nlp.encodings import detect_encoding
from plait_nlp.reading import TextListing

_WORD = re.compile(r"[a-z]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """Where a pair of lines is."""

    path: Path
    other: Path
    number: int

    def __str__(self) -> str:
        return f"{self.path}:{self.number} (and {self.other.name}:{self.number})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelFiles:
    """Reads files that hold a translation of each other's lines. It knows no table.

    Args:
        media: what messages call a pair.
        languages: the ends of the names of the files that are translated, and of those that hold the translations:
            ("en", "de"); None where nobody has said which is which.
        files: the beginnings of file names by split, where they do not begin with its name.
        encoding: of the files, or "auto".
    """

    media: Media
    languages: tuple[str, str] | None
    files: Mapping[str, str]
    encoding: str

    def holds(self, path: Path) -> bool:
        """Whether a path is a folder of such files, or the beginning of the names of two of them.

        Raises:
            DataError: it is a folder of them, and which language is translated is not said.
        """
        if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
            return False
        if path.is_dir():
            if is_datasets_directory(path):
                return False
            stems = _stems(path)
            if self.languages is not None:
                return bool(self._complete(stems))
            twice = sorted({suffix for suffixes in stems.values() if len(suffixes) > 1 for suffix in suffixes})
            tables = any(each.suffix.lower() in TABLE_SUFFIXES for each in entries(path))
            if len(twice) > 1 and not tables:
                raise DataError(
                    f"{path} holds parallel files ({', '.join(f'*.{each}' for each in twice)}), and nothing says which"
                    " are translated",
                    hint=f"set data.languages='{json.dumps(twice[:2])}' to translate *.{twice[0]} into *.{twice[1]}",
                )
            return False
        return self.languages is not None and all(_beside(path, each).is_file() for each in self.languages)

    def listing(self, path: Path, split: str = "") -> TextListing:
        """The pairs of a folder by split, or of two files.

        Args:
            split: what all of them are for; "": what the names of the files say.

        Raises:
            DataError: a file is missing, two files differ in length, or bytes are of another encoding.
        """
        assert self.languages is not None
        found = TextListing(Listing(self.media))
        if not path.is_dir():
            self._pair(found, split, path)
            return found
        chosen = self._by_split(path)
        if split:
            if split not in chosen and "" not in chosen:
                raise DataError(f"{path} has parallel files for {', '.join(chosen)}, and none for {split}")
            chosen = {split: chosen.get(split, chosen.get("", ""))}
        for name, stem in chosen.items():
            self._pair(found, name, path / stem)
        return found

    def _by_split(self, folder: Path) -> dict[str, str]:
        """The beginnings of file names for each split; one pair that is called otherwise is all the data."""
        assert self.languages is not None
        stems = _stems(folder)
        whole = self._complete(stems)
        for split, stem in self.files.items():
            if stem not in stems:
                raise DataError(
                    f"data.files.{split}={stem}: {folder} holds no {stem}.{self.languages[0]}",
                    hint=did_you_mean(stem, whole) or f"it holds {several(whole)}",
                )
        named: dict[str, list[str]] = {split: [stem] for split, stem in self.files.items()}
        for stem in stems:
            word = _WORD.match(stem)
            name = split_name(word.group()) if word else None
            if name is not None and name not in self.files:
                named.setdefault(name, []).append(stem)
        for split, several_stems in named.items():
            if len(several_stems) > 1:
                raise DataError(
                    f"{folder}: {several(several_stems)} are all for {split}",
                    hint=f"choose one: data.files.{split}={several_stems[0]}",
                )
        if named:
            return {split: named[split][0] for split in ("train", "valid", "test") if split in named}
        if len(whole) == 1:
            return {"": whole[0]}
        raise DataError(
            f"{folder}: none of {several(whole)} is named train, valid or test",
            hint=f"say which is which: data.files.train={whole[0]}",
        )

    def _complete(self, stems: Mapping[str, Sequence[str]]) -> list[str]:
        """The beginnings with a file of each language; of one, where no name has both."""
        assert self.languages is not None
        both = [stem for stem, suffixes in stems.items() if set(self.languages) <= set(suffixes)]
        return both or [stem for stem, suffixes in stems.items() if set(self.languages) & set(suffixes)]

    def _pair(self, found: TextListing, split: str, stem: Path) -> None:
        """List the pairs of lines of two files."""
        assert self.languages is not None
        first, second = (_beside(stem, each) for each in self.languages)
        for path in (first, second):
            if not path.is_file():
                raise no_such_path(path)
        lines = [self._lines(found, path) for path in (first, second)]
        if len(lines[0]) != len(lines[1]):
            raise DataError(
                f"{first} has {len(lines[0])} lines and {second} has {len(lines[1])}: parallel files have a line for"
                " each line of the other",
                hint=_slip(*lines),
                details={"lines": {str(first): len(lines[0]), str(second): len(lines[1])}},
            )
        items = found.listing.parts.setdefault(split, [])
        for number, (source, target) in enumerate(zip(*lines, strict=True), start=1):
            where = Line(first, second, number)
            blank = [name for name, text in (("source", source), ("target", target)) if not text.strip()]
            if blank:
                found.listing.faults.append(Fault(where, f"has an empty {' and an empty '.join(blank)}"))
            else:
                items.append(Item({"source": source, "target": target}, "", f"{stem.name}#{number - 1}", where))

    def _lines(self, found: TextListing, path: Path) -> list[str]:
        encoding = self.encoding
        if encoding == "auto":
            detected = detect_encoding(path)
            encoding = detected.name
            if detected.note:
                found.notes.append(detected.note)
        return [line.rstrip("\r\n") for line in text_lines(path, encoding)]


def _stems(folder: Path) -> dict[str, list[str]]:
    """The endings of a folder's files by what is before the last dot."""
    found: dict[str, list[str]] = {}
    for each in entries(folder):
        if each.is_file() and "." in each.name:
            stem, _, suffix = each.name.rpartition(".")
            found.setdefault(stem, []).append(suffix)
    return found


def _beside(stem: Path, language: str) -> Path:
    return stem.with_name(f"{stem.name}.{language}")


def _slip(first: Sequence[str], second: Sequence[str]) -> str:
    """A guess at the line where two files part: the first that is blank in one only."""
    for number, (one, other) in enumerate(zip_longest(first, second, fillvalue=""), start=1):
        if bool(one.strip()) != bool(other.strip()):
            return f"line {number} is blank in one of them, and not in the other"
    return "a line break inside a sentence, or a line that was dropped from one of them, is the usual cause"


def is_path(value: Any) -> bool:
    """Whether a source, or a part of one, is a path."""
    return isinstance(value, str | Path)
