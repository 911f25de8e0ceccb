"""Which vectors does counting give: positive pointwise mutual information, and its largest singular vectors?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from scipy.sparse.linalg import svds

from plait.engine.base import Engine
from plait.errors import DataError
from plait.model import IterativeModel, Progress, State
from plait.options import AFTERWARDS, ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_nlp.word_embedding.corpus import encoded
from plait_nlp.word_embedding.vectors import Said, WordVectors
from plait_nlp.word_embedding.words import Question, counts_of

_TABLES = ("vectors", "own", "others")


class PpmiOptions(ModelOptions):
    """The `model` block of nlp/ppmi-svd."""

    width: int = Field(default=100, ge=1)
    """Of the vectors; fewer where there are fewer words."""
    window: int = Field(default=5, ge=1)
    """Words to each side, within a sentence; one at distance d counts for (window + 1 - d) / window."""
    min_count: int = Field(default=5, ge=1)
    """Words that occur less often get no vector."""
    vocabulary: int = Field(default=50_000, ge=2)
    """Words at most."""
    smoothing: float = Field(default=0.75, gt=0, le=1)
    """Neighbours' frequencies are taken to this power, so that rare ones are not overrated."""
    power: float = Field(default=0.5, ge=0, le=1)
    """Of the singular values in the vectors."""
    top: int = Field(default=10, ge=1, le=1000, json_schema_extra=AFTERWARDS)
    """How many neighbours are shown."""


class PpmiSvd(IterativeModel):
    """Vectors from counts of neighbours, in closed form (Levy, Goldberg and Dagan 2015): what word2vec must beat.

    It takes one step: counts with the weights that word2vec's reaches have on average, then
    max(0, log p(w, c) / (p(w) p(c)^a)), and the largest singular vectors of that.
    """

    Options: ClassVar[type[PpmiOptions]] = PpmiOptions

    options: PpmiOptions

    def __init__(self, *, options: PpmiOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.vectors = WordVectors([], np.zeros((0, 1), np.float32))
        self._tensors: dict[str, torch.Tensor] = {}

    @classmethod
    def create(cls, *, options: PpmiOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        counts = counts_of([data[index] for index in range(len(data))])
        if engine.world_size > 1:
            parts = engine.gather(dict(counts))
            counts.clear()
            for part in parts:
                counts.update(part)
        words = [word for word, count in counts.items() if count >= self.options.min_count]
        words = sorted(words, key=lambda word: (-counts[word], word))[: self.options.vocabulary]
        if len(words) < 2:
            raise DataError(
                f"{len(words)} words occur {self.options.min_count} times or more; vectors need two",
                hint="give more text, or set model.min_count=1",
            )
        found = dict(zip(_TABLES, self._vectors(self._together(data, words, engine)), strict=True))
        state = State({name: torch.from_numpy(table) for name, table in found.items()}, {"words": words})
        return state, Progress({"words": float(len(words))}, converged=True)

    def _together(self, data: Split, words: Sequence[str], engine: Engine) -> Any:
        """How often words stand near each other, [words, words], CSR, symmetric."""
        corpus, size = encoded(data, words, block=1), len(words)
        ids, sentences, window = corpus.ids.astype(np.int64) - 1, corpus.sentences, self.options.window
        total = sp.csr_matrix((size, size))
        for apart in range(1, min(window, max(0, len(ids) - 1)) + 1):
            inside = sentences[apart:] == sentences[:-apart]
            first, second = ids[:-apart][inside], ids[apart:][inside]
            weights = np.full(len(first), (window + 1 - apart) / window)
            total += sp.coo_matrix((weights, (first, second)), (size, size)).tocsr()
        if engine.world_size > 1:
            found = total.tocoo()
            parts = engine.gather([found.row.tolist(), found.col.tolist(), found.data.tolist()])
            total = sum(
                (sp.coo_matrix((part[2], (part[0], part[1])), (size, size)).tocsr() for part in parts),
                start=sp.csr_matrix((size, size)),
            )
        return (total + total.T).tocsr()

    def _vectors(self, together: Any) -> tuple[np.ndarray[Any, np.dtype[np.float32]], ...]:
        """Three tables [words, width]: the vectors; and two whose products are the information that is left."""
        own = np.asarray(together.sum(axis=1)).reshape(-1)
        smoothed = own**self.options.smoothing
        found = together.tocoo()
        scale = smoothed.sum() / (own[found.row] * smoothed[found.col])
        values = np.maximum(0.0, np.log(found.data * scale))
        table = sp.csr_matrix((values, (found.row, found.col)), found.shape)
        table.eliminate_zeros()
        width = min(self.options.width, table.shape[0] - 1)
        if not table.nnz:
            return (np.zeros((table.shape[0], width), np.float32),) * 3
        start = np.random.default_rng(0).standard_normal(table.shape[0])  # else ARPACK begins anywhere
        left, strength, right = svds(table, k=width, v0=start)
        order = np.argsort(-strength, kind="stable")
        left, strength, right = left[:, order], strength[order], right[order].T
        signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(width)])  # else ARPACK chooses
        tables = (left * strength**self.options.power, left * strength**0.5, right * strength**0.5)
        return tuple(np.ascontiguousarray(each * signs, np.float32) for each in tables)

    def finish(self, state: State) -> None:
        self._tensors = {name: state.tensors[name] for name in _TABLES}
        vectors, own, others = (each.numpy() for each in self._tensors.values())
        self.vectors = WordVectors(state.values["words"], vectors, (own, others))

    def predict(self, examples: Sequence[Question]) -> list[Said]:
        return self.vectors.answer(examples, top=self.options.top)

    def save(self, directory: Path) -> None:
        save_tensors(self._tensors, directory / "model.safetensors")
        (directory / "words.json").write_text(json.dumps({"words": self.vectors.words}), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: PpmiOptions, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        values: dict[str, Any] = json.loads((directory / "words.json").read_text(encoding="utf-8"))
        model.finish(State(load_tensors(directory / "model.safetensors"), values))
        return model
