"""How well does one translate word by word, with a dictionary that is learned from the pairs (IBM model 1)?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from plait.engine.base import Engine
from plait.errors import RecipeError
from plait.model import IterativeModel, Progress, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_nlp.sequence_to_sequence.examples import SequenceExample, WrittenText
from plait_nlp.text_classification.ngrams import words_of

_NOTHING = 0
"""The source word that stands for none: what has no counterpart comes from it."""
_TIGHT = re.compile(r" ([.,;:!?)\]])")
"""Marks that stand close to the word before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _WordPairs:
    """The words that occur together in pairs of sentences.

    Args:
        source, target: the words of each cell of the table: each pair of words that occurs.
        cells, places: for each pair of places, its cell, and which of all the target words it is.
        sizes: for each target word, how many source words it may come from.
        words: of both sides, by number.
    """

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    words: tuple[list[str], list[str]]


class DictionaryOptions(ModelOptions):
    """The `model` block of nlp/word-dictionary."""

    pairs: int = Field(default=30_000, ge=1)
    """Training pairs that are looked at, the first ones; it is a baseline, and should cost little."""
    longest: int = Field(default=60, ge=1)
    """Words of a text that are looked at."""
    iterations: int = Field(default=8, ge=1)
    """Of expectation and maximisation, at most."""
    tolerance: float = Field(default=1e-3, ge=0)
    """It ends where the log-likelihood gains less than this part of itself."""


class WordDictionary(IterativeModel):
    """IBM model 1 (Brown et al. 1993): each word of the target comes from one word of the source, or from none, each
    equally likely. It translates word by word, each into its likeliest counterpart, keeps what it does not know, and
    never reorders.

    It does not know probabilities of sentences.
    """

    Options: ClassVar[type[ModelOptions]] = DictionaryOptions

    options: DictionaryOptions

    def __init__(self, *, options: DictionaryOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self._words: dict[str, str] = {}
        self._pairs: _WordPairs | None = None

    @classmethod
    def create(cls, *, options: DictionaryOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        if engine.world_size > 1:
            raise RecipeError(
                f"{self.options.name} fits in one process, and engine.processes is {engine.world_size}",
                hint="set engine.processes=1",
            )
        pairs = self._read(data)
        even = torch.full((len(pairs.source),), 1.0 / len(pairs.words[1]), dtype=torch.float64)
        cells = {"source": torch.from_numpy(pairs.source), "target": torch.from_numpy(pairs.target)}
        words = {"source_words": pairs.words[0], "target_words": pairs.words[1]}
        return State({"table": even, **cells}, {**words, "log_likelihood": None, "rounds": 0})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        pairs, options = self._read(data), self.options
        table = state.tensors["table"].numpy()
        likely = table[pairs.cells]  # t(target word | source word) of every pair of words in a pair of sentences
        sums = np.bincount(pairs.places, likely, minlength=len(pairs.sizes))
        log_likelihood = float(np.log(sums / pairs.sizes).sum())
        expected = np.bincount(pairs.cells, likely / sums[pairs.places], minlength=len(table))
        table = expected / np.bincount(pairs.source, expected)[pairs.source]
        before, rounds = state.values["log_likelihood"], state.values["rounds"] + 1
        settled = before is not None and log_likelihood - before < options.tolerance * abs(before)
        tensors = {**state.tensors, "table": torch.from_numpy(table)}
        values = {**state.values, "log_likelihood": log_likelihood, "rounds": rounds}
        converged = settled or rounds >= options.iterations
        return State(tensors, values), Progress({"log_likelihood": log_likelihood}, converged)

    def finish(self, state: State) -> None:
        source, target, table = (state.tensors[name].numpy() for name in ("source", "target", "table"))
        order = np.lexsort((target, -table, source))  # each source word's likeliest first
        first = order[np.unique(source[order], return_index=True)[1]].tolist()
        words, written = state.values["source_words"], state.values["target_words"]
        self._words = {words[source[cell]]: written[target[cell]] for cell in first if source[cell] != _NOTHING}

    def predict(self, examples: Sequence[SequenceExample]) -> list[WrittenText]:
        return [WrittenText(_TIGHT.sub(r"\1", " ".join(self._translated(each.text)))) for each in examples]

    def _translated(self, text: str) -> Iterator[str]:
        for word in words_of(text)[: self.options.longest]:
            known = self._words.get(word, self._words.get(word.lower()))
            yield word if known is None else known

    def _read(self, data: Split) -> _WordPairs:
        """All pairs of words of all pairs of sentences; read once."""
        if self._pairs is not None:
            return self._pairs
        options, numbers = self.options, ({"": _NOTHING}, dict[str, int]())
        source, target, sizes = [], [], []
        for index in range(min(len(data), options.pairs)):
            example, rows = data[index], []
            for side, text in enumerate((example.text, example.references[0])):
                words = words_of(text)[: options.longest]
                rows.append([numbers[side].setdefault(word, len(numbers[side])) for word in words])
            one, other = np.array([_NOTHING, *rows[0]], np.int64), np.array(rows[1], np.int64)
            source.append(np.tile(one, len(other)))
            target.append(np.repeat(other, len(one)))
            sizes.append(np.full(len(other), len(one)))
        size, width = np.concatenate(sizes), len(numbers[1])
        keys, cells = np.unique(np.concatenate(source) * width + np.concatenate(target), return_inverse=True)
        self._pairs = _WordPairs(
            source=keys // width, target=keys % width, cells=cells.reshape(-1),
            places=np.repeat(np.arange(len(size)), size), sizes=size, words=(list(numbers[0]), list(numbers[1])),
        )  # fmt: skip
        return self._pairs

    def save(self, directory: Path) -> None:
        text = json.dumps(self._words, ensure_ascii=False, indent=0)
        (directory / "words.json").write_text(text, encoding="utf-8", errors="surrogatepass")

    @classmethod
    def load(cls, directory: Path, *, options: DictionaryOptions, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        model._words = json.loads((directory / "words.json").read_text(encoding="utf-8", errors="surrogatepass"))
        return model
