"""How does an item's text, image or given vector become the vector that it is compared by?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from plait.errors import DataError, RecipeError, did_you_mean
from plait.predictor import load
from plait_recommendation.features import FeatureTable
from plait_recommendation.ids import IdMap

Vectors = npt.NDArray[np.float32]

_WORD = re.compile(r"\w+")


def given_vectors(features: FeatureTable, column: str) -> Vectors:
    """The vectors of an embedding column, [items, width]; zeros where an item has none."""
    rows = features.table.column(column).to_pylist()
    width = next((len(row) for row in rows if row is not None), 0)
    if not width:
        raise DataError(f"item column {column!r} has no vector", hint="name another: model.columns")
    vectors: Vectors = np.array([np.zeros(width) if row is None else row for row in rows], np.float32)
    return vectors


def hashed_words(features: FeatureTable, columns: Sequence[str], width: int) -> Vectors:
    """Words and values weighted by how rare they are (tf-idf), hashed into signed places (Weinberger et al. 2009).

    Nothing is fitted but the rarity, and the hash (CRC-32) is the same on every platform.

    Args:
        columns: text is split into words in lower case; a value of any other column counts as one word.

    Returns:
        [items, width]; zeros where an item has no word.
    """
    documents: list[Counter[str]] = [Counter() for _ in range(len(features))]
    for name in columns:
        for document, cell in zip(documents, features.table.column(name).to_pylist(), strict=True):
            document.update(_words(name, features.kinds[name], cell))
    seen = Counter(word for document in documents for word in document)
    vectors = np.zeros((len(documents), width), np.float32)
    for row, document in zip(vectors, documents, strict=True):
        for word, count in document.items():
            rarity = np.log((1 + len(documents)) / (1 + seen[word])) + 1  # scikit-learn's smooth idf
            place = crc32(word.encode("utf-8", "surrogateescape"))
            row[place % width] += (1 if place >> 31 else -1) * count * rarity
    return vectors


def _words(column: str, kind: str, cell: Any) -> list[str]:
    if cell is None:
        return []
    if kind == "text":
        return _WORD.findall(str(cell).lower())
    return [f"{column}={value}" for value in (cell if isinstance(cell, list) else [cell])]


def predicted_vectors(features: FeatureTable, items: IdMap, encoder: Path, column: str | None) -> Vectors:
    """What a run's predictor makes of a column of the item table, [items, width].

    Args:
        encoder: a run, a model directory or a saved composition that returns a port of type embedding.
        column: what it is given: a text, the path of an image; None: the column named as its input port, else the only
            text column.

    Raises:
        RecipeError: the predictor returns no embedding, or takes more than one input.
        DataError: an item's value cannot be embedded; names the item.
    """
    predictor = load(encoder)
    ports = [port for port, kind in predictor.returns.items() if kind == "embedding"]
    needed = [port for port in predictor.accepts if port not in getattr(predictor, "optional", ())]
    if len(ports) != 1 or len(needed) > 1:
        raise RecipeError(
            f"model.encoder={encoder}: takes {', '.join(predictor.accepts)} and returns "
            f"{', '.join(f'{port} ({kind})' for port, kind in predictor.returns.items())}",
            hint="expected a predictor of one input that returns one port of type embedding",
        )
    port = needed[0] if needed else next(iter(predictor.accepts))
    column = _column(features, column, port)
    values = features.table.column(column).to_pylist()
    rows = [row for row, value in enumerate(values) if value not in (None, "")]
    if not rows:
        raise DataError(f"item column {column!r} has no value to embed")
    found = _embedded(predictor, port, ports[0], [values[row] for row in rows], [items.id(row) for row in rows], column)
    vectors = np.zeros((len(values), found.shape[1]), np.float32)
    # encoders put everything into a narrow cone; without its mean, likeness is about what tells items apart
    vectors[rows] = found - found.mean(axis=0)
    return vectors


def _embedded(
    predictor: Any, port: str, returned: str, values: Sequence[Any], ids: Sequence[Any], column: str
) -> Vectors:
    vectors = []
    for id_, answer in zip(ids, predictor.predict([{port: value} for value in values]), strict=True):
        if answer.error is not None:
            raise DataError(f"item {id_!r}, column {column!r}: cannot be embedded: {answer.error}")
        vectors.append(np.asarray(answer.outputs[returned], np.float32).reshape(-1))
    widths = {len(vector) for vector in vectors}
    if len(widths) > 1:
        raise DataError(f"the encoder gives vectors of {len(widths)} lengths: {sorted(widths)[:5]}")
    return np.stack(vectors)


def _column(features: FeatureTable, column: str | None, port: str) -> str:
    names = list(features.kinds)
    if column is not None:
        require_columns(features, [column])
        return column
    texts = features.names("text")
    for candidates in ([port] if port in names else [], texts):
        if len(candidates) == 1:
            return candidates[0]
    raise DataError(
        f"which item column goes into {port!r}? there are {', '.join(names)}", hint="name it: model.columns=[COLUMN]"
    )


def require_columns(features: FeatureTable, columns: Sequence[str]) -> None:
    """Refuse names that are no columns of the item table.

    Raises:
        DataError: names the column and those that there are.
    """
    for name in columns:
        if name not in features.kinds:
            there = ", ".join(features.kinds) or "none"
            hint = did_you_mean(name, features.kinds) or f"there are {there}"
            raise DataError(f"model.columns: the item table has no column {name!r}", hint=hint)
