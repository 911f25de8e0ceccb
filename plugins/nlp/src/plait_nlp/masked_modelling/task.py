"""What is learned: the words that are hidden in a text, from those around them (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from plait.errors import DataError, InputError, did_you_mean
from plait.evaluation import Evaluator
from plait.options import DataOptions
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_nlp.documents import SUPPORTED, DocumentOptions, Examples, read_documents
from plait_nlp.masked_modelling.evaluation import MaskedEvaluator
from plait_nlp.masked_modelling.passages import MASK, Passage, marked, passages_of
from plait_nlp.masked_modelling.predictions import MaskedPrediction


class MaskedOptions(DocumentOptions):
    """The recipe's `data` block for hidden words."""

    next_sentence: bool = False
    """Whether it is also learned whether one text goes on where another ends; documents then need two sentences."""
    hidden: float = Field(default=0.15, gt=0, lt=1)
    """The part of the words of valid and test that is hidden: the same words for every model and seed."""
    passage: int = Field(default=64, ge=4)
    """Documents of valid and test are judged in passages of whole sentences, words at most."""


class MaskedLanguageModelling(Task):
    """Hidden words of running text, and perhaps whether one text follows another. It knows no model and no tokenizer.

    Training examples are `plait_nlp.documents.Document`s, those of valid and test `Passage`s, predictions
    `MaskedPrediction`s. Words are hidden from models whole, by `[MASK]` alone, so that tokenizers can be compared: by
    bits a byte of what was hidden.
    """

    Options: ClassVar[type[DataOptions]] = MaskedOptions

    options: MaskedOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read documents, divide them, and hide words of valid and test. See `plait_nlp.documents.SUPPORTED`.

        Raises:
            DataError: names files and lines and what to do: unreadable data, a missing column, empty documents, none
                with two sentences where `data.next_sentence` asks for them.
        """
        if source is None:
            raise DataError("no data are given", hint=f"data.source: {SUPPORTED}")
        options = self.options
        found = read_documents(source, options=options, seed=self.seed, fixed=problem is not None)
        follow = options.next_sentence if problem is None else bool(problem["next_sentence"])
        train, notes = found.parts.get("train"), list(found.notes)
        if follow and train is not None:
            several = sum(len(each.sentences) > 1 for each in train)
            if not several:
                raise DataError(
                    f"data.next_sentence: none of the {len(train)} training documents has two sentences",
                    hint="part documents by blank lines (a sentence a line), or give lists of sentences; or set"
                    " data.next_sentence=false",
                )
            if several < len(train):
                notes.append(
                    f"{len(train) - several} of {len(train)} training documents have one sentence only: they teach"
                    " hidden words, not what follows"
                )
        parts: dict[str, Any] = {}
        for name, documents in found.parts.items():
            if name == "train":
                parts[name] = Examples(documents, ("\n".join(each.sentences) for each in documents))
                continue
            passages = passages_of(documents, words=options.passage, fraction=options.hidden, next_sentence=follow)
            if not passages:
                raise DataError(f"{name}: its {len(documents)} documents hold no word that could be hidden")
            parts[name] = Examples(passages, (each.text for each in passages))
        return Splits(**parts, fingerprint=found.fingerprint, index=found.index, notes=tuple(notes))

    def problem(self, splits: Splits) -> Problem:
        """{"objective": ..., "next_sentence": whether the second thing is learned, too}."""
        follow = self.options.next_sentence
        return {"objective": "hidden-words-and-next-sentence" if follow else "hidden-words", "next_sentence": follow}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return MaskedEvaluator()

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Passage:
        """A passage from the port `text`, with a `[MASK]` for each word to be told, and perhaps from the port `pair`.

        Raises:
            InputError: one is missing, unknown, empty, or no text; nothing is hidden; the model was fitted without
                pairs.
        """
        for name in inputs:
            if name not in ("text", "pair"):
                raise InputError(f"there is no input {name!r}", hint=did_you_mean(name, ["text", "pair"]))
        text, pair = inputs.get("text"), inputs.get("pair")
        if isinstance(text, Passage):
            return text
        for name, value in (("text", text), *([("pair", pair)] if pair is not None else [])):
            if not isinstance(value, str):
                raise InputError(f"{name} is {type(value).__name__}, not a text", hint="give a str")
            if not value.strip():
                raise InputError(f"the {name} is empty")
        if pair is not None and not problem["next_sentence"]:
            raise InputError("the model was fitted without pairs of texts", hint="leave out pair")
        assert isinstance(text, str)
        passage = marked(text, pair)
        if not passage.spans and pair is None:
            raise InputError("no word of the text is hidden", hint=f"write {MASK} for each word to be told")
        return passage

    def present(self, prediction: MaskedPrediction, problem: Problem) -> Prediction:
        """The text with its best words; as scores those of the first few guesses, numbered where there are several
        hidden words, and "follows", the probability that the pair goes on where the text ends."""
        if prediction.passage.answers is None and any(not each.guesses for each in prediction.filled):
            return Prediction(error="a hidden word lies beyond what the model sees of a text (model.max_length)")
        scores: dict[str, float] = {}
        for number, each in enumerate(prediction.filled, start=1):
            before = f"{number}: " if len(prediction.filled) > 1 else ""
            scores |= {f"{before}{word}": float(probability) for word, probability in each.guesses}
        if prediction.follows is not None:
            scores["follows"] = float(prediction.follows)
        return Prediction(prediction=prediction.text, scores=scores, outputs={"text": prediction.text})
