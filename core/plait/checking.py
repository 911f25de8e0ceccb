"""Which listed examples are sound, what do two splits share, and how are the data known again?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from plait.data import fingerprint
from plait.listing import Fault, Item

About = TypeVar("About")

_AT_ONCE = 1024  # examples in flight: bounds memory, keeps the threads busy


@dataclass(frozen=True, slots=True)
class Sound(Generic[About]):
    """What checking found out about a good example.

    Args:
        about: what is known without its content: a shape, a rate and a length.
        digest: of the content, so that it is known again.
        content: decoded, kept where it fits in memory.
    """

    about: About
    digest: str
    content: np.ndarray[Any, np.dtype[Any]] | None = None


class Checked(Protocol):
    """A split as `shared` and `data_fingerprint` see it: one text for each example."""

    ids: list[str]
    digests: list[str]
    targets: list[str]

    def __len__(self) -> int: ...


def examine(
    items: Sequence[Item],
    check: Callable[[Item], Sound[About]],
    *,
    error: type[Exception],
    cache: bool | Literal["auto"],
    cache_bytes: int,
) -> tuple[dict[int, Sound[About]], list[Fault]]:
    """Read every example once, in threads.

    Args:
        check: reads one, or raises `error`, whose text is the reason.
        cache: keep decoded contents; "auto": while they take no more than `cache_bytes` in all.

    Returns:
        What is known of the good ones by position, and the faults of the others by id.
    """
    sound: dict[int, Sound[About]] = {}
    faults: list[tuple[str, Fault]] = []
    held, keep = 0, cache is not False

    def found_of(item: Item) -> Sound[About] | Fault:
        try:
            found = check(item)
        except error as reason:
            return Fault(item.where, str(reason))
        return found if keep else replace(found, content=None)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _AT_ONCE):
            for position, found in enumerate(pool.map(found_of, items[start : start + _AT_ONCE]), start):
                if isinstance(found, Fault):
                    faults.append((items[position].id, found))
                    continue
                sound[position] = found
                held += 0 if found.content is None else found.content.nbytes
            if keep and cache == "auto" and held > cache_bytes:
                keep = False
                sound = {key: replace(each, content=None) for key, each in sound.items()}
    return sound, [fault for _, fault in sorted(faults, key=lambda each: each[0])]


def shared(splits: Mapping[str, Checked], *, nouns: str, how: str) -> list[str]:
    """Notes on content that is in two splits: what was trained on is then judged, too.

    Args:
        how: what a digest is of: "byte for byte".
    """
    notes = []
    for one, other in combinations(splits, 2):
        first = dict(zip(reversed(splits[one].digests), reversed(splits[one].ids), strict=True))
        pairs = [
            (first[each], id_)
            for each, id_ in zip(splits[other].digests, splits[other].ids, strict=True)
            if each in first
        ]
        if pairs:
            notes.append(
                f"{len(pairs)} of {len(splits[other])} {nouns} of {other} are also in {one}, {how}:"
                f" first {pairs[0][1]} = {pairs[0][0]}"
            )
    return notes


def data_fingerprint(splits: Mapping[str, Checked]) -> str:
    """A hash of what training sees: contents, targets and order of train and valid."""
    seen = [(name, splits[name]) for name in ("train", "valid") if name in splits]
    return fingerprint(
        value for name, split in seen for value in (name, str(len(split)), *split.digests, *split.targets)
    )
