"""Which examples do folders hold: by class, by what files' names say, or beside their transcripts?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from plait.data import SPLITS, TABLE_SUFFIXES, entries, named_splits, split_name
from plait.errors import DataError
from plait.listing import NOTHING, Fault, Listing, Media, several

_LIBRISPEECH = re.compile(r"(\d+)-\d+-\d+")
"""A file's name in LibriSpeech's layout: speaker, chapter, utterance (Panayotov et al. 2015)."""


def splits_of(path: Path) -> dict[str, Path]:
    """The named splits of a folder; {} where a class happens to be called "train" or "test"."""
    named = named_splits(path)
    others = [each for each in entries(path) if each.is_dir() and split_name(each.name) is None]
    if named and others:
        held = [child for child in named.values() if child.is_file() or any(each.is_dir() for each in entries(child))]
        if len(held) < len(named):
            return {}
    return named


def list_folder(listing: Listing, split: str, folder: Path, rule: re.Pattern[str] | None, *, prefix: str) -> None:
    """List a folder that is one split, or that names its splits in files' names.

    Args:
        rule: what files' names say, see `check_pattern`; None: the folders are classes, or texts lie beside files.
        prefix: of the ids, which are paths below the folder.

    Raises:
        DataError: there is nothing that could be listed: no class folders, no content.
    """
    if rule is not None:
        _list_matching(listing, split, folder, rule, prefix)
    elif listing.media.target and listing.media.classes:
        _list_classes(listing, split, folder, prefix)
    else:
        _list_files(listing, split, folder, prefix)


# Classes


def _list_classes(listing: Listing, split: str, folder: Path, prefix: str) -> None:
    media, children = listing.media, entries(folder)
    classes = [each for each in children if each.is_dir()]
    loose = [each for each in children if not each.is_dir() and each.suffix.lower() in media.suffixes]
    if not classes:
        raise _no_classes(media, folder, children, loose)
    for path in loose:
        reason = f"has no {media.target}: it lies in {folder.name}/ beside the class folders"
        listing.faults.append(Fault(path, reason))
    for path in (each for each in children if each not in classes and each not in loose):
        listing.ignored[_kind(path)] += 1
    for child in classes:
        paths = list(_files(child, listing, frozenset({_identity(folder)})))
        if not paths:
            listing.empty.setdefault(split, []).append(child.name)
        for path in paths:
            listing.add(split, path, child.name, id=prefix + path.relative_to(folder).as_posix(), where=path)


def _no_classes(media: Media, folder: Path, children: list[Path], loose: list[Path]) -> DataError:
    tables = [each for each in children if each.suffix.lower() in TABLE_SUFFIXES]
    if tables:
        return DataError(
            f"{folder} has no class folders, but {several((each.name for each in tables), most=3)}",
            hint=f"for a table of {media.nouns} and {media.target}s give the file: data.source={tables[0]}",
        )
    if loose:
        return DataError(
            f"{folder} has {len(loose)} {media.nouns}, but no class folders that would say what they are",
            hint=f"move each {media.noun} into a folder named as its class: {folder.name}/CLASS/{loose[0].name}; or"
            rf" read it from the name: data.pattern='(?P<{media.target}>[^_]+)_.*\{loose[0].suffix}'",
        )
    return DataError(
        f"{folder} {f'has no {media.nouns}' if children else 'is empty'}", hint=f"expected {media.supported}"
    )


# Files' names


def check_pattern(pattern: str, media: Media) -> None:
    """Refuse a regular expression that says nothing of files' paths.

    Its groups are the medium's target and further fields, split, and train, valid and test: a file in which one of the
    last three occurs is in that split, and all others are in train.

    Raises:
        ValueError: it is none, names other groups, or lacks the class.
    """
    try:
        found = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    groups = (*media.fields[1:], "split", *SPLITS)
    unknown = [name for name in found if name not in groups]
    if unknown or (media.target and media.classes and media.target not in found):
        wrong = f"unknown groups {', '.join(unknown)}" if unknown else f"no group (?P<{media.target}>...)"
        raise ValueError(f"{wrong}; the groups are {', '.join(groups)}")


def _list_matching(listing: Listing, split: str, folder: Path, rule: re.Pattern[str], prefix: str) -> None:
    """List every file below a folder, its target, further fields and split read from its path by `rule`."""
    media, texts = listing.media, _Transcripts(listing)
    names_splits = bool({"split", *SPLITS} & set(rule.groupindex))
    for path in _files(folder, listing, frozenset()):
        name = path.relative_to(folder).as_posix()
        found = rule.fullmatch(name)
        if found is None:
            listing.faults.append(Fault(path, f"does not match data.pattern: {name!r} against {rule.pattern!r}"))
            continue
        groups = found.groupdict()
        own = split or _split_in(groups, path) or ("train" if names_splits else "")
        more = {field: groups[field] for field in media.more if groups.get(field) is not None}
        if media.target and media.target not in rule.groupindex:
            texts.add(own, path, prefix + name, more)
        else:
            listing.add(own, path, groups.get(media.target or ""), id=prefix + name, where=path, more=more)
    texts.uncount()


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


# Files, perhaps with transcripts


def _list_files(listing: Listing, split: str, folder: Path, prefix: str) -> None:
    """List every file below a folder, with the text beside it where the medium has one."""
    media, texts = listing.media, _Transcripts(listing)
    paths = list(_files(folder, listing, frozenset()))
    if not paths:
        raise _no_files(media, folder)
    for path in paths:
        id_ = prefix + path.relative_to(folder).as_posix()
        if media.target:
            texts.add(split, path, id_, NOTHING)
        else:
            listing.add(split, path, None, id=id_, where=path)
    texts.uncount()


def _no_files(media: Media, folder: Path) -> DataError:
    children = entries(folder)
    tables = [each for each in children if each.suffix.lower() in TABLE_SUFFIXES]
    if tables:
        return DataError(
            f"{folder} has no {media.nouns}, but {several((each.name for each in tables), most=3)}",
            hint=f"for a table of {media.nouns} give the file: data.source={tables[0]}",
        )
    return DataError(
        f"{folder} {f'has no {media.nouns}' if children else 'is empty'}", hint=f"expected {media.supported}"
    )


class _Transcripts:
    """The texts beside files: x.txt beside x.wav, or the line of x in a *.trans.txt of its folder, as LibriSpeech has
    them. It knows nothing of what the files hold."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._lines: dict[Path, dict[str, tuple[str, Path]]] = {}
        self._used: set[Path] = set()

    def add(self, split: str, path: Path, id_: str, more: Mapping[str, str]) -> None:
        """List a file with its text, or the reason why it has none."""
        listing, target = self._listing, self._listing.media.target
        beside = path.with_suffix(".txt")
        try:
            if beside.is_file():
                text, source = beside.read_text(encoding="utf-8-sig"), beside
            elif path.stem in (lines := self._lines_of(path.parent)):
                text, source = lines[path.stem]
                speaker = _LIBRISPEECH.fullmatch(path.stem)
                if speaker and "speaker" in listing.media.more:
                    more = {"speaker": speaker[1], **more}
            else:
                expected = f"{beside.name} beside it, or a line of a *.trans.txt"
                listing.faults.append(Fault(path, f"has no {target}: expected {expected}"))
                return
        except (OSError, UnicodeDecodeError) as error:
            listing.faults.append(Fault(path, f"has a {target} that cannot be read as UTF-8: {error}"))
            return
        self._used.add(source)
        listing.add(split, path, " ".join(text.split()), id=id_, where=path, more=more)

    def uncount(self) -> None:
        """Take the files whose texts were used out of those that were ignored."""
        left = self._listing.ignored["*.txt"] - len(self._used)
        del self._listing.ignored["*.txt"]
        if left > 0:
            self._listing.ignored["*.txt"] = left

    def _lines_of(self, folder: Path) -> dict[str, tuple[str, Path]]:
        """The texts of a folder's *.trans.txt by files' stems, and where each is."""
        if folder not in self._lines:
            found: dict[str, tuple[str, Path]] = {}
            for path in sorted(folder.glob("*.trans.txt")):
                for line in path.read_text(encoding="utf-8-sig").splitlines():
                    stem, _, text = line.strip().partition(" ")
                    found[stem] = text, path
            self._lines[folder] = found
        return self._lines[folder]


def _files(folder: Path, listing: Listing, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """The files below a folder that should be content, by name; links that lead back up are not followed."""
    here = _identity(folder)
    if here in above:
        return
    listing.ignored.update(_kind(each) for each in _hidden(folder))
    for path in entries(folder):
        if path.is_dir():
            yield from _files(path, listing, above | {here})
        elif listing.media.is_content(path):
            yield path
        else:
            listing.ignored[_kind(path)] += 1


def _hidden(folder: Path) -> list[Path]:
    return [Path(each.path) for each in os.scandir(folder) if each.name.startswith(".") and each.is_file()]


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _kind(path: Path) -> str:
    return path.name if path.name.startswith(".") or not path.suffix else f"*{path.suffix.lower()}"
