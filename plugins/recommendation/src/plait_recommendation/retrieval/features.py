"""How do columns of users and items become words and numbers that a tower can look up?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from plait.weights import load_tensors, save_tensors
from plait_recommendation.features import FeatureTable

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows of a feature table as arrays.

    Args:
        words: places in the vocabulary, 0 where a row has fewer, int64 [rows, most].
        numbers: scaled numbers and embeddings, float32 [rows, numbers].
    """

    words: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float32]

    @classmethod
    def nothing(cls, rows: int) -> Encoded:
        """What is known where there is no table."""
        return cls(np.zeros((rows, 1), np.int64), np.zeros((rows, 0), np.float32))

    def save(self, file: Path) -> None:
        """Write it as safetensors."""
        save_tensors({"words": torch.from_numpy(self.words), "numbers": torch.from_numpy(self.numbers)}, file)

    @classmethod
    def load(cls, file: Path) -> Encoded:
        """Read what `save` wrote."""
        tensors = load_tensors(file)
        return cls(tensors["words"].numpy(), tensors["numbers"].numpy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a tower knows of feature columns: which words, and how numbers are scaled. It knows no network.

    Args:
        words: "column=value"; place 0 is none of them, so the first has place 1.
        numbers: by numeric column, what is subtracted and what is then divided by.
        embeddings: by embedding column, its width.
    """

    words: tuple[str, ...] = ()
    numbers: Mapping[str, tuple[float, float]]
    embeddings: Mapping[str, int]

    @classmethod
    def fit(cls, features: FeatureTable | None, *, min_count: int = 2) -> Self:
        """The words that at least `min_count` rows have, by frequency and then by name, and the scales of numbers."""
        if features is None:
            return cls(numbers={}, embeddings={})
        seen = Counter(word for row in _rows(features) for word in set(row))
        kept = sorted(
            (word for word, count in seen.items() if count >= min_count), key=lambda word: (-seen[word], word)
        )
        numbers = {}
        for name in features.names("numeric"):
            column = features.table.column(name).to_numpy().astype(np.float64)
            mean = float(np.nanmean(column)) if np.isfinite(column).any() else 0.0
            numbers[name] = (mean, float(np.nanstd(column)) or 1.0) if np.isfinite(column).any() else (0.0, 1.0)
        widths = {}
        for name in features.names("embedding"):
            widths[name] = next((len(row) for row in features.table.column(name).to_pylist() if row is not None), 0)
        return cls(words=tuple(kept), numbers=numbers, embeddings=widths)

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return len(self.numbers) + sum(self.embeddings.values())

    def encode(self, features: FeatureTable | None, rows: int, *, most: int = 64) -> Encoded:
        """The rows of a table; nothing for each of `rows` where there is no table.

        Args:
            most: of a row's words the first so many count.
        """
        if features is None:
            return Encoded.nothing(rows)
        places = {word: place for place, word in enumerate(self.words, start=1)}
        found = [[places[word] for word in row if word in places][:most] for row in _rows(features)]
        words = np.zeros((len(found), max((len(row) for row in found), default=0) or 1), np.int64)
        for filled, row in zip(words, found, strict=True):
            filled[: len(row)] = row
        parts = [np.zeros((len(found), 0))]
        for name, (mean, scale) in self.numbers.items():
            column = features.table.column(name).to_numpy().astype(np.float64)
            parts.append(np.nan_to_num((column - mean) / scale)[:, None])
        for name, width in self.embeddings.items():
            blank = [0.0] * width
            parts.append(np.array([row or blank for row in features.table.column(name).to_pylist()]).reshape(-1, width))
        return Encoded(words, np.concatenate(parts, axis=1).astype(np.float32))

    def as_json(self) -> dict[str, Any]:
        """The vocabulary as JSON values."""
        numbers = {name: list(scale) for name, scale in self.numbers.items()}
        return {"words": list(self.words), "numbers": numbers, "embeddings": dict(self.embeddings)}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The vocabulary that `as_json` described."""
        numbers = {name: (float(mean), float(scale)) for name, (mean, scale) in state["numbers"].items()}
        return cls(words=tuple(state["words"]), numbers=numbers, embeddings=dict(state["embeddings"]))


def _rows(features: FeatureTable) -> list[list[str]]:
    """Each row's words: a text's in lower case, one for a categorical value, one for each value of several."""
    rows: list[list[str]] = [[] for _ in range(len(features))]
    for name in features.names("categorical", "token_seq", "text"):
        kind = features.kinds[name]
        for row, cell in zip(rows, features.table.column(name).to_pylist(), strict=True):
            if cell is None:
                continue
            values = _WORD.findall(cell.lower()) if kind == "text" else cell if isinstance(cell, list) else [cell]
            row.extend(f"{name}={value}" for value in values)
    return rows
