"""How does a causal language model of a run, or of a directory, become a generator?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from plait.artifact import Artifact, load_model
from plait.errors import InputError, RecipeError
from plait.live import Live
from plait.model import Model
from plait.options import PATH
from plait.task import Problem, Split
from plait_nlp.architectures.network import TransformersModel
from plait_nlp.architectures.options import TransformersOptions
from plait_nlp.generation.continuation import Continuation, Continues
from plait_nlp.generation.decoding import DecodingOptions, Drawing, Row, search
from plait_nlp.generation.task import Continued, Prompt, Request
from plait_nlp.language_modelling.corpus import Piece
from plait_nlp.language_modelling.demo import place_names
from plait_nlp.language_modelling.head import CausalHead
from plait_nlp.language_modelling.ngram import NgramModel, NgramOptions
from plait_nlp.language_modelling.predictions import OBJECTIVE
from plait_registry.registry import Registry

_CAUSAL = "nlp/causal-language-modelling"
_PROBLEM = {"objective": OBJECTIVE}
_PART = "language-model"


class GeneratorOptions(DecodingOptions):
    """The `model` block of nlp/generator. `from` names a run of nlp/causal-language-modelling."""

    directory: str | None = Field(default=None, json_schema_extra=PATH)
    """A local directory of transformers with a causal model, instead of a run."""


class Generator(Model):
    """Continues prompts with a causal language model. It fits nothing, and knows no tokens beyond their numbers.

    Without `from` and `directory` it brings a character 5-gram of place names, so that there is something to see.
    """

    Options: ClassVar[type[GeneratorOptions]] = GeneratorOptions

    options: GeneratorOptions

    def __init__(
        self, *, options: GeneratorOptions, problem: Problem, language: Model, source: Artifact | None
    ) -> None:
        self.options, self.problem = options, problem
        self.language = language
        self._source = source  # the run's, so that it can be saved whole

    @classmethod
    def create(cls, *, options: GeneratorOptions, problem: Problem, train: Split | None, seed: int) -> Self:
        """Take over a language model.

        Raises:
            RecipeError: what `from` names cannot generate, or two are named.
            RunError: there is no run.
            DataError: the directory lacks something.
        """
        if options.from_ is not None and options.directory is not None:
            raise RecipeError("model.from and model.directory both name a language model", hint="leave one out")
        if options.weights is not None or options.freeze:
            raise RecipeError("nlp/generator fits nothing", hint="leave out model.weights and model.freeze")
        if options.from_ is not None:
            path = Path(options.from_)
            found = load_model(path if (path / "plait.json").is_file() else path / "model", Registry.discover())
            _check(found.model, options.from_)
            return cls(options=options, problem=problem, language=found.model, source=found)
        language = _of_directory(options.directory) if options.directory is not None else _of_demo()
        return cls(options=options, problem=problem, language=language, source=None)

    def _continuation(self) -> Continuation:
        return continuation_of(self.language)

    def predict(self, examples: Sequence[Prompt]) -> list[Continued]:
        source = self._continuation()
        prompts = [tokens_of(each.text, source) for each in examples]
        if self.options.beam > 1:
            return [_continued(search(source, prompt, self.options)) for prompt in prompts]
        drawing = Drawing(source, prompts, [each.text for each in examples], self.options)
        while drawing.step():
            pass
        return [_continued(row) for row in drawing.rows]

    def live(self) -> Live:
        if self.options.beam > 1:
            raise InputError("a beam knows its answer at its end; it cannot be followed", hint="--set model.beam=1")
        return Growing(self._continuation(), self.options)

    def save(self, directory: Path) -> None:
        part = directory / _PART
        if self._source is not None:
            self._source.save(part)
            return
        part.mkdir()
        self.language.save(part)
        card = {"model": self.language.options.name, "options": self.language.options.as_json()}
        (part / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: GeneratorOptions, problem: Problem) -> Self:
        part = directory / _PART
        if not (part / "card.json").is_file():
            found = load_model(part, Registry.discover())
            return cls(options=options, problem=problem, language=found.model, source=found)
        card = json.loads((part / "card.json").read_text(encoding="utf-8"))
        kind: Any = NgramModel if card["model"] == "nlp/ngram" else TransformersModel
        language = kind.load(part, options=kind.Options.model_validate(card["options"]), problem=_PROBLEM)
        return cls(options=options, problem=problem, language=language, source=None)


class Growing(Live):
    """An answer that grows by a token with each request. It knows no clock."""

    def __init__(self, source: Continuation, options: DecodingOptions) -> None:
        self._source, self._options = source, options
        self._drawing: Drawing | None = None

    def accept(self, piece: Request) -> Continued:
        if self._drawing is None:
            text = piece.prompt.text
            self._drawing = Drawing(self._source, [tokens_of(text, self._source)], [text], self._options)
        piece.answered = not self._drawing.step()
        row = self._drawing.rows[0]
        found = _continued(row)
        # a character of several tokens is not whole yet, and what may become a stop string is not shown
        held = 0 if row.reason else max((_overlap(found.text, stop) for stop in self._options.stop), default=0)
        shown = found.text[: len(found.text) - held].rstrip("�") if not row.reason else found.text
        return Continued(shown, found.log_probability, found.tokens, found.reason)

    def finish(self) -> Continued:
        assert self._drawing is not None  # a request comes first
        while self._drawing.step():
            pass
        return _continued(self._drawing.rows[0])


def continuation_of(model: Model) -> Continuation:
    """What gives the next tokens of a fitted causal language model.

    Raises:
        RecipeError: the model cannot generate.
    """
    if isinstance(model, Continues):
        return model.continuation()
    if isinstance(model, TransformersModel) and isinstance(model.head, CausalHead):
        from plait_nlp.generation.networks import TransformersContinuation

        length = model.processor.max_length
        packing = model.head.packing(model.processor.tokenizer, length)
        return TransformersContinuation(model.network, packing, limit=length)
    raise RecipeError(f"{model.options.name} cannot generate", hint=f"name a run of {_CAUSAL}")


def tokens_of(prompt: str, source: Continuation) -> list[int]:
    """A prompt as the model reads it: from the beginning of a text."""
    return [*([] if source.boundary is None else [source.boundary]), *source.encode(prompt)]


def _check(model: Model, name: str) -> None:
    causal = isinstance(model, TransformersModel) and isinstance(model.head, CausalHead)
    if not isinstance(model, Continues) and not causal:
        raise RecipeError(
            f"model.from={name}: {model.options.name} of this task cannot generate", hint=f"name a run of {_CAUSAL}"
        )


def _of_directory(directory: str) -> Model:
    options = TransformersOptions(name="transformers/auto", directory=directory, max_length=1 << 20)
    return TransformersModel.create(options=options, problem=_PROBLEM, train=None, seed=0)


def _of_demo() -> Model:
    model = NgramModel(options=NgramOptions(name="nlp/ngram"), problem=_PROBLEM)
    model.count([Piece("\n".join(place_names()["train"]))])
    return model


def _continued(row: Row) -> Continued:
    return Continued(row.text, row.log_probability, len(row.tokens), row.reason or "")


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text begin a stop string."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


__all__ = ["Generator", "GeneratorOptions", "Growing", "continuation_of", "tokens_of"]
