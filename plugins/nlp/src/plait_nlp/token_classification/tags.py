"""Which entities do the tags of a sentence's words say, in IOB1, IOB2 and BIOES, and which sequences are none?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

Scheme = Literal["iob1", "iob2", "bioes"]
Integers = npt.NDArray[np.int64]

_PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I"}
"""BILOU's and BMES's letters are other names for those of BIOES."""
_CODES = {"O": 0, "B": 1, "I": 2, "E": 3, "S": 4}
_O, _B, _I, _E, _S = range(5)


@dataclass(frozen=True, slots=True)
class Entity:
    """Some words in a row, and what they name.

    Args:
        type: "location".
        first, end: positions of words, the end exclusive.
    """

    type: str
    first: int
    end: int


def parse_tag(tag: str) -> tuple[str, str]:
    """The prefix (O, B, I, E or S) and the type of a tag; "" is the type of O.

    Raises:
        ValueError: says what a tag is.
    """
    if tag == "O":
        return "O", ""
    prefix, dash, type_ = tag.partition("-")
    if not dash or not type_ or prefix not in _PREFIXES:
        raise ValueError("expected O, or B-TYPE, I-TYPE (and E-TYPE, S-TYPE)")
    return _PREFIXES[prefix], type_


@dataclass(frozen=True, slots=True)
class Spans:
    """The entities of many sentences, whose words are numbered through; each column [entities], int64.

    Args:
        type: a number.
        first, end: positions of words, the end exclusive.
    """

    type: Integers
    first: Integers
    end: Integers


def find_spans(prefixes: Integers, types: Integers) -> Spans:
    """The entities in tags, read leniently, as conlleval and seqeval's default read them: an I- that continues nothing
    begins an entity, and a change of type ends one.

    It reads IOB1, IOB2 and BIOES alike. Sentences are kept apart by an O between them.

    Args:
        prefixes: [words], the place of each in "OBIES".
        types: [words], a number for each type; any number for O.
    """
    before, now = np.append(_O, prefixes), np.append(prefixes, _O)
    other = np.append(-1, types) != np.append(types, -1)
    begins = (now == _B) | (now == _S) | ((now != _O) & ((before == _O) | (before == _E) | (before == _S) | other))
    inside = (before == _B) | (before == _I)
    ends = (before == _E) | (before == _S) | (inside & ((now == _O) | (now == _B) | (now == _S) | other))
    # an entity ends before the next one begins, and none ends that has not begun: both lists are as long
    first, end = np.flatnonzero(begins), np.flatnonzero(ends)
    return Spans(types[end - 1] if len(end) else end, first, end)


def encode_tags(sentences: Sequence[Sequence[str]], types: Sequence[str]) -> tuple[Integers, Integers, Integers]:
    """Prefixes and types as `find_spans` takes them, an O after each sentence, and where each sentence begins.

    Raises:
        KeyError: a type is not one of `types`.
    """
    numbers = {name: number for number, name in enumerate(types)}
    known: dict[str, tuple[int, int]] = {"O": (_O, 0)}
    rows: list[tuple[int, int]] = []
    starts = np.zeros(len(sentences), np.int64)
    for position, tags in enumerate(sentences):
        starts[position] = len(rows)
        for tag in tags:
            if tag not in known:
                prefix, type_ = parse_tag(tag)
                known[tag] = (_CODES[prefix], numbers[type_])
            rows.append(known[tag])
        rows.append((_O, 0))
    table = np.array(rows, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1], starts


def entities_of(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sentence, read as `find_spans` does."""
    types = sorted({parse_tag(tag)[1] for tag in tags})
    spans = find_spans(*encode_tags([tags], types)[:2])
    rows = zip(spans.type.tolist(), spans.first.tolist(), spans.end.tolist(), strict=True)
    return [Entity(types[type_], first, end) for type_, first, end in rows]


def as_iob2(tags: Sequence[str]) -> tuple[str, ...]:
    """The same entities in IOB2: each begins with B-."""
    found = ["O"] * len(tags)
    for each in entities_of(tags):
        found[each.first : each.end] = [f"B-{each.type}", *[f"I-{each.type}"] * (each.end - each.first - 1)]
    return tuple(found)


def detect_scheme(sentences: Sequence[Sequence[str]]) -> Scheme:
    """The scheme that tags are in: BIOES where an E- or S- occurs; IOB1 where entities begin with I-, all but a few."""
    with_b = with_i = 0
    for tags in sentences:
        for before, tag in pairwise(["O", *tags]):
            if tag[:2] in ("E-", "S-", "L-", "U-"):
                return "bioes"
            if tag != "O" and before[2:] != tag[2:]:  # an entity begins here, in any scheme
                with_b += tag[:1] == "B"
                with_i += tag[:1] == "I"
    return "iob1" if with_i > 20 * with_b else "iob2"  # else it is IOB2 with mistakes


def fault_of(tags: Sequence[str], scheme: Scheme) -> tuple[int, str] | None:
    """The position of the first tag that cannot stand where it does, and why; None where the sequence is valid."""
    parsed = [("O", ""), *map(parse_tag, tags), ("O", "")]
    for position, ((before, last), (now, type_)) in enumerate(pairwise(parsed)):
        same = before != "O" and last == type_
        after = "the sentence begins" if not position else f"{tags[position - 1]} comes before it"
        what = "the sentence ends" if position == len(tags) else f"{tags[position]} follows"
        if scheme == "bioes":
            if before in "BI" and before != "O" and not (same and now in "IE"):
                return position - 1, f"the entity of {tags[position - 1]} is not closed by E-{last}: {what}"
            if now in "IE" and not (same and before in "BI"):
                return position, f"{tags[position]} continues no entity: {after}"
        elif position == len(tags):
            break
        elif now not in "OBI":
            return position, f"{tags[position]} is no tag of {scheme.upper()}"
        elif scheme == "iob2" and now == "I" and not same:
            return position, f"{tags[position]} continues no entity: {after}"
        elif scheme == "iob1" and now == "B" and not same:
            return position, f"{tags[position]} begins an entity that follows none of its type: {after}"
    return None


def allowed_steps(labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which tag may follow which in IOB2: [labels + 1, labels], the last row for the beginning of a sentence."""
    table = np.ones((len(labels) + 1, len(labels)), bool)
    for column, label in enumerate(labels):
        if label.startswith("I-"):
            before = {f"B-{label[2:]}", label}
            table[:, column] = [*(each in before for each in labels), False]
    return table


def iob2_labels(types: Sequence[str]) -> list[str]:
    """The tags of IOB2, O first."""
    return ["O", *(f"{prefix}-{type_}" for type_ in types for prefix in "BI")]
