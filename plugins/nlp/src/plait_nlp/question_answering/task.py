"""What is learned of a question and a context: which part of the context answers it, or that none does?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pyarrow as pa

from plait.checking import data_fingerprint, shared
from plait.data import SPLITS, carve, digest
from plait.errors import DataError, InputError, did_you_mean
from plait.evaluation import Evaluator
from plait.listing import Fault, Item, Listing, settle
from plait.options import DataOptions
from plait.splitting import Division, limited
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_nlp.examples import TextSplit
from plait_nlp.question_answering.evaluation import AnswerEvaluator
from plait_nlp.question_answering.examples import AnswerPrediction, Question
from plait_nlp.question_answering.squad import answers_of, read_squad
from plait_nlp.reading import Layout, TextOptions, list_texts, text_media

SUPPORTED = (
    "a .json file as SQuAD 1.1 and 2.0 have it, or a JSONL, Parquet, CSV or TSV file with the columns question and"
    " context and either answers ({text: [...], answer_start: [...]}) or answer and answer_start (data.fields renames"
    " them), a folder with train, valid and test of them, a datasets directory, or a sequence of mappings"
)
_FIELDS = ("answers", "answer", "answer_start", "title", "id")


class AnsweringOptions(TextOptions):
    """The recipe's `data` block for questions."""

    split: Literal["auto", "given", "random", "article"] = "auto"  # type: ignore[assignment]  # other ways to divide
    """auto: splits that the data name, else as article; given: only these; article: no title (without titles, no
    context) is in two splits; random: questions are divided, so that their contexts are in several splits."""


class QuestionAnswering(Task):
    """The part of a context that answers a question, or none. Predictions are `AnswerPrediction`. It knows no model.

    Problems have "objective": "question-answering", and "unanswerable": whether some training question has no answer.
    """

    Options: ClassVar[type[DataOptions]] = AnsweringOptions

    options: AnsweringOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read questions, contexts and answers, and divide them by article. See `SUPPORTED` for what a source may be.

        Raises:
            DataError: names files and questions and what to do: unreadable data, missing columns, empty texts, answers
                that are not where they should be (all at once).
        """
        if source is None:
            return Splits(notes=("no data: for models that need none",))
        options = self.options
        media = text_media("question", supported=SUPPORTED, field="question")
        layout = Layout(media=media, required=("question", "context"), optional=_FIELDS, formats={".json": read_squad})
        found = list_texts(source, layout=layout, options=options)
        listing = found.listing
        self._check_answers(listing)
        total = len(listing) + len(listing.faults)
        notes = [*found.notes, *settle(listing.faults, total=total, on_error=options.on_error, nouns="questions")]
        if not len(listing):
            raise DataError("there is no question in the data", hint=f"expected {SUPPORTED}")
        parts = limited(
            self._divided(listing, fixed=problem is not None), media=media, most=options.limit, seed=self.seed
        )
        splits = {name: TextSplit([each.content["example"] for each in items]) for name, items in parts.items()}
        notes += shared(splits, nouns="questions", how="with the same context, apart from case and spaces")
        notes += _shared_contexts(splits)
        columns = {
            "id": [each for part in splits.values() for each in part.ids],
            "split": [name for name, part in splits.items() for _ in range(len(part))],
        }
        index = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        return Splits(**splits, fingerprint=data_fingerprint(splits), index=index, notes=tuple(notes))

    def _check_answers(self, listing: Listing) -> None:
        """Turn rows into examples; what is wrong with one becomes a fault."""
        for split, items in listing.parts.items():
            kept = []
            for item in items:
                values = item.content
                try:
                    if not isinstance(values["context"], str):
                        raise ValueError(f"has a context that is {type(values['context']).__name__}")
                    answers = answers_of(values)
                    if answers is None:
                        raise ValueError("has no answers; a question without any has an empty list")
                except ValueError as error:
                    listing.faults.append(Fault(item.where, str(error)))
                    continue
                id_ = item.id if values.get("id") is None else str(values["id"])
                values["example"] = Question(
                    values["question"], values["context"], answers, id_, str(values.get("title") or "")
                )
                kept.append(replace(item, id=id_))
            listing.parts[split] = kept
        titles = {each.content["example"].article for items in listing.parts.values() for each in items}
        for items in listing.parts.values():
            for position, item in enumerate(items):
                example = item.content["example"]
                titled = len(titles) > 1 and example.article
                whole = example.article if titled else digest(example.context.encode("utf-8", "surrogatepass"))
                items[position] = replace(item, more={"article": whole})
        listing.make_ids_unique()

    def _divided(self, listing: Listing, *, fixed: bool) -> Mapping[str, Sequence[Item]]:
        """The questions of each split; what is drawn is drawn by article."""
        options = self.options
        named = {split: items for split, items in listing.parts.items() if split and items}
        whole = "train" not in named or "valid" in named  # nothing to draw from the named ones
        if options.split in ("random", "given") or (options.split == "auto" and named and whole):
            division = Division(
                media=listing.media, how=options.split, valid_fraction=options.valid_fraction, seed=self.seed,
                test_fraction=options.test_fraction, fixed=fixed,
            )  # fmt: skip
            return division.of(listing.parts)
        if named and options.split == "auto":  # a valid of articles that train then lacks
            train, valid = _by_article(named["train"], options.valid_fraction, self.seed)
            drawn = {**named, "train": train, "valid": valid}
        else:
            everything = [item for items in listing.parts.values() for item in items]
            rest, test = _by_article(everything, options.test_fraction, self.seed)
            train, valid = _by_article(rest, options.valid_fraction, self.seed)
            drawn = {"train": train, "valid": valid, "test": test}
        return {split: drawn[split] for split in SPLITS if drawn.get(split)}

    def problem(self, splits: Splits) -> Problem:
        """See the class."""
        train = splits.train or ()
        none = any(not train[index].answers for index in range(len(train)))
        return {"objective": "question-answering", "unanswerable": none}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        return AnswerEvaluator()

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Question:
        """An example from the ports `question` and `context`.

        Raises:
            InputError: one is missing, unknown, empty, or no text.
        """
        ports = ("question", "context")
        unknown = [name for name in inputs if name not in ports]
        if unknown:
            raise InputError(f"there is no input {unknown[0]!r}", hint=did_you_mean(unknown[0], ports))
        if isinstance(inputs.get("question"), Question):
            return inputs["question"]  # type: ignore[no-any-return]  # it has just been looked at
        for port in ports:
            value = inputs.get(port)
            if value is None:
                raise InputError(f"the {port} is missing", hint='give {"question": ..., "context": ...}')
            if not isinstance(value, str):
                raise InputError(f"{port} is {type(value).__name__}, not a text", hint="give a str")
            if not value.strip():
                raise InputError(f"the {port} is empty")
        return Question(inputs["question"], inputs["context"])

    def present(self, prediction: AnswerPrediction, problem: Problem) -> Prediction:
        """The `answer` ("" where there is none) with its characters `start` to `end` in the context, and the next best
        ones; scores: its probability, and that of no answer."""
        candidates: list[dict[str, Any]] = [
            {
                "answer": each.answer.text, "start": each.answer.start, "end": each.answer.end,
                "probability": round(each.probability, 6),
            }
            for each in prediction.best
        ]  # fmt: skip
        nothing: dict[str, Any] = {"answer": "", "start": None, "end": None}
        chosen = {key: candidates[0][key] for key in nothing} if prediction.answered and candidates else nothing
        scores = {"answer": candidates[0]["probability"]} if candidates else {}
        if prediction.no_answer is not None and math.isfinite(prediction.no_answer):
            scores["no_answer"] = round(prediction.no_answer, 6)
        others = candidates[1:] if prediction.answered else candidates
        return Prediction(
            prediction={**chosen, "alternatives": others}, scores=scores or None, outputs={"answer": chosen["answer"]}
        )


def _by_article(items: Sequence[Item], fraction: float, seed: int) -> tuple[list[Item], list[Item]]:
    """A rest, and about this part of the questions, in whole articles; the last article stays in the rest."""
    articles = sorted({str(item.more["article"]) for item in items})
    if not fraction or len(articles) < 2:
        return list(items), []
    drawn = carve(len(articles), fraction=fraction, seed=seed, stratify=False)[1].tolist()
    chosen = {articles[index] for index in drawn}
    rest = [item for item in items if item.more["article"] not in chosen]
    return rest, [item for item in items if item.more["article"] in chosen]


def _shared_contexts(splits: Mapping[str, TextSplit]) -> list[str]:
    """Notes on contexts of training that others are judged on."""
    train = {each.context for each in splits["train"]} if "train" in splits else set()
    notes = []
    for name in ("valid", "test"):
        count = sum(each.context in train for each in splits.get(name, ()))
        if count:
            notes.append(f"{count} of {len(splits[name])} questions of {name} are about a context that train has, too")
    return notes
