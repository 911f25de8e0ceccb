"""How well do the last few characters alone predict the next one? The baseline that every report prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field

from plait.engine.base import Engine
from plait.errors import DataError
from plait.model import IterativeModel, Progress, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_nlp.generation.continuation import Continuation
from plait_nlp.language_modelling.corpus import Piece
from plait_nlp.language_modelling.counts import Codes, Counts, Order, Symbols
from plait_nlp.language_modelling.predictions import UNKNOWN, TextScore

_AT_ONCE = 1024  # pieces that are counted together: 1 MB of text at the default size, and 0.1 GB of arrays


class NgramOptions(ModelOptions):
    """The `model` block of nlp/ngram."""

    order: int = Field(default=5, ge=1, le=12)
    """Symbols of the longest n-gram: the last one is predicted from those before it."""
    unit: Literal["character", "byte"] = "character"
    """What symbols are. Characters that training had not count as one of all that Unicode can have."""


class NgramModel(IterativeModel):
    """Witten-Bell interpolated n-grams, counted in one step. It knows no words and no network.

    Args:
        alphabet: code points of the symbols, sorted; one more stands for all others.
    """

    Options: ClassVar[type[NgramOptions]] = NgramOptions

    options: NgramOptions

    def __init__(self, *, options: NgramOptions, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.alphabet: Codes = np.empty(0, np.int64)
        self.counts: Counts | None = None

    @classmethod
    def create(cls, *, options: NgramOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        self.count(_everywhere(data, engine))
        assert self.counts is not None  # just counted
        tensors = {"alphabet": self.alphabet}
        for length, order in enumerate(self.counts.orders, start=1):
            tensors |= {f"codes.{length}": order.codes, f"counts.{length}": order.counts}
        grams = float(sum(len(order.codes) for order in self.counts.orders))
        found = {name: torch.from_numpy(each) for name, each in tensors.items()}
        return State(found), Progress({"grams": grams}, converged=True)

    def count(self, pieces: Split) -> None:
        """Fit to texts.

        Raises:
            DataError: there is none.
        """
        if not len(pieces):
            raise DataError("there is no text to count", hint="give training text")
        if self.options.unit == "byte":
            self.alphabet = np.arange(256)
        else:
            seen: Codes = np.empty(0, np.int64)
            for first in range(0, len(pieces), _AT_ONCE):
                seen = np.union1d(seen, self._codes("".join(each.text for each in _some(pieces, first))))
            self.alphabet = seen
        order, symbols = self.options.order, len(self.alphabet) + 1
        self.counts = Counts.fit(lambda: self._parts(pieces), order=order, symbols=symbols)

    def _codes(self, text: str) -> Codes:
        if self.options.unit == "byte":
            return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64)
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)

    def numbers(self, text: str) -> Codes:
        """The symbols of a text; the last number of all is an unknown one."""
        codes = self._codes(text)
        at = np.minimum(np.searchsorted(self.alphabet, codes), len(self.alphabet) - 1)
        found: Codes = np.where(self.alphabet[at] == codes, at, len(self.alphabet))
        return found

    def _parts(self, pieces: Split) -> Iterator[Symbols]:
        return (self._symbols(_some(pieces, first))[0] for first in range(0, len(pieces), _AT_ONCE))

    def _symbols(self, pieces: Sequence[Piece]) -> tuple[Symbols, Codes]:
        """Pieces as symbols, each after as many of its context as an n-gram looks back; and how many each has of its
        own."""
        # a symbol of context is a byte at least, and a character at most
        contexts = [self.numbers(each.context[-self.options.order :])[-self.options.order :] for each in pieces]
        texts = [self.numbers(each.text) for each in pieces]
        sizes = np.array([len(one) + len(other) for one, other in zip(contexts, texts, strict=True)])
        begins = np.repeat(np.cumsum(sizes) - sizes, sizes)
        before = np.arange(int(sizes.sum())) - begins
        context = np.repeat([len(each) for each in contexts], sizes)
        pairs = [each for pair in zip(contexts, texts, strict=True) for each in pair]
        own = np.array([len(each) for each in texts])
        return Symbols(np.concatenate(pairs).astype(np.int64), before, before >= context), own

    def finish(self, state: State) -> None:
        arrays = {name: tensor.numpy() for name, tensor in state.tensors.items()}
        self.alphabet = arrays["alphabet"]
        symbols, orders, shorter = len(self.alphabet) + 1, [], 1
        for length in range(1, self.options.order + 1):
            orders.append(Order(arrays[f"codes.{length}"], arrays[f"counts.{length}"], shorter, symbols))
            shorter = len(orders[-1].codes)
        self.counts = Counts(tuple(orders))

    def predict(self, examples: Sequence[Piece]) -> list[TextScore]:
        assert self.counts is not None  # a model that is not fitted yet
        found: list[TextScore] = []
        for first in range(0, len(examples), _AT_ONCE):
            pieces = _some(examples, first)
            part, sizes = self._symbols(pieces)
            nats = -np.log(self.counts.probabilities(part)[part.wanted])
            unknown = part.numbers[part.wanted] == len(self.alphabet)
            ends = np.cumsum(sizes)
            for piece, begin, end in zip(pieces, ends - sizes, ends, strict=True):
                many = int(unknown[begin:end].sum())
                total = float(nats[begin:end].sum()) + many * UNKNOWN
                found.append(TextScore(total, int(end - begin), piece.size, many))
        return found

    def continuation(self) -> Continuation:
        """How generation asks for next symbols."""
        from plait_nlp.generation.networks import NgramContinuation

        assert self.counts is not None  # a model that is not fitted yet
        return NgramContinuation(self)

    def save(self, directory: Path) -> None:
        assert self.counts is not None  # only fitted models are saved
        tensors = {"alphabet": torch.from_numpy(np.ascontiguousarray(self.alphabet))}
        for length, order in enumerate(self.counts.orders, start=1):
            tensors[f"codes.{length}"] = torch.from_numpy(np.ascontiguousarray(order.codes))
            tensors[f"counts.{length}"] = torch.from_numpy(np.ascontiguousarray(order.counts))
        save_tensors(tensors, directory / "model.safetensors")
        said = {"order": self.options.order, "unit": self.options.unit, "smoothing": "Witten-Bell, interpolated"}
        (directory / "ngram.json").write_text(json.dumps(said), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: NgramOptions, problem: Problem) -> Self:
        model = cls(options=options, problem=problem)
        model.finish(State(load_tensors(directory / "model.safetensors")))
        return model


def _some(pieces: Split, first: int) -> list[Piece]:
    return [pieces[index] for index in range(first, min(first + _AT_ONCE, len(pieces)))]


def _everywhere(data: Split, engine: Engine) -> Split:
    """The pieces of all ranks, on every rank: n-grams are counted over all of them."""
    if engine.world_size == 1:
        return data
    own = [data[index] for index in range(len(data))]
    parts: Any = engine.gather([[each.text, each.context] for each in own])
    return [Piece(text, context) for part in parts for text, context in part]
