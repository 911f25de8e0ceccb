"""How are answers judged: word for word, and by the words that they share with a right one?"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from plait.bootstrap import Floats
from plait.engine.base import Engine
from plait.errors import DataError
from plait.evaluation import Evaluator, gather_table
from plait.report import Section, Table
from plait_nlp.examples import TextExample
from plait_nlp.question_answering.examples import AnswerPrediction, Question
from plait_nlp.text_classification.evaluation import snippet, worst_section
from plait_registry.specs import Metric

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WORDS = ("what", "who", "when", "where", "which", "how", "why")
_SLICES = 12  # articles in a report: the worst


def normalised(answer: str) -> str:
    """What is compared: lower case, without (ASCII) punctuation, English articles and spaces beyond one, as the
    official script of SQuAD has it (Rajpurkar et al. 2016)."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, right: Sequence[str]) -> float:
    """1 where the answer is one of the right ones, normalised; no answer, "", is right where there are none."""
    wanted = {each for each in map(normalised, right) if each} or {""}
    return float(normalised(answer) in wanted)


def word_f1(answer: str, right: Sequence[str]) -> float:
    """The best F1 of the answer's words with those of a right one, each counted as often as it occurs."""
    found = normalised(answer).split()
    wanted = [each.split() for each in map(normalised, right) if each] or [[]]
    return max(_f1(found, each) for each in wanted)


def _f1(found: Sequence[str], wanted: Sequence[str]) -> float:
    if not found or not wanted:
        return float(not found and not wanted)
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted))


class AnswerEvaluator(Evaluator):
    """Judges answers as the official script of SQuAD does. Predictions are `AnswerPrediction`, examples `Question`.

    Metrics: `f1`, the mean of `word_f1`; `exact_match`; where some questions have no answer, also `f1_answerable` and
    `f1_unanswerable` (how many of those get none).
    """

    def __init__(self) -> None:
        self.primary = Metric("f1", True)
        self._rows: list[pa.Table] = [self._judged([], [])]

    def update(self, predictions: Sequence[AnswerPrediction], examples: Sequence[Question]) -> None:
        """Take in predictions.

        Raises:
            DataError: an example has no answers, not even none.
            ValueError: lengths differ.
        """
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        for example in examples:
            if example.answers is None:
                raise DataError(f"{example.id}: has no answers to judge by", hint="evaluate on answered questions")
        if examples:
            self._rows.append(self._judged(predictions, examples))

    @staticmethod
    def _judged(predictions: Sequence[AnswerPrediction], examples: Sequence[Question]) -> pa.Table:
        right = [[each.text for each in example.answers or ()] for example in examples]
        texts = [each.text for each in predictions]
        best = [each.best[0].answer.text if each.best else "" for each in predictions]

        def numbers(values: Any) -> pa.Array:
            return pa.array([None if value is None else float(value) for value in values], pa.float64())

        columns = {
            "exact": numbers(map(exact_match, texts, right)), "f1": numbers(map(word_f1, texts, right)),
            "f1_of_best": numbers(map(word_f1, best, right)),
            "surplus": numbers(each.surplus for each in predictions),
            "answerable": pa.array([bool(each) for each in right], pa.bool_()),
            "kind": pa.array([_kind(each.question) for each in examples], pa.string()),
            "article": pa.array([_plain(each.article) for each in examples], pa.string()),
            "target": pa.array([_plain(" | ".join(dict.fromkeys(each))) for each in right], pa.string()),
            "prediction": pa.array([_plain(each) for each in texts], pa.string()),
            "text": pa.array([snippet(TextExample(each.question, each.context)) for each in examples], pa.string()),
        }  # fmt: skip
        return pa.table({"id": pa.array([each.id for each in examples], pa.string()), **columns})

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def table(self) -> pa.Table:
        """One row a question: `id`, `exact` and `f1`; `f1_of_best`, of the best candidate whether it was the answer or
        not; `surplus`, see `AnswerPrediction`; whether it is `answerable`; the `kind` of question and its `article`;
        `target` and `prediction`, and the beginning of question and context, `text`."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        found: Floats = weights @ table["f1"].to_numpy() / weights.sum(axis=1)
        return found

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        f1, answerable = table["f1"].to_numpy(), table["answerable"].to_numpy()
        found = {"f1": float(f1.mean()), "exact_match": float(table["exact"].to_numpy().mean())}
        if answerable.all():
            return found
        if answerable.any():
            found["f1_answerable"] = float(f1[answerable].mean())
        return {**found, "f1_unanswerable": float(f1[~answerable].mean())}

    def details(self) -> dict[str, Any]:
        """`by_kind` of question: F1, exact match and number; where the model knows of no answer, and some questions
        have none, `best_threshold` of the surplus on this split, and the F1 it would give."""
        table = self.table()
        found: dict[str, Any] = {"by_kind": [list(row) for row in _slices(table, "kind")]}
        if len(table) and not table["answerable"].to_numpy().all() and not table["surplus"].null_count:
            threshold, f1 = _best_threshold(table)
            found |= {"best_threshold": threshold, "f1_at_best_threshold": f1}
        return found

    def sections(self) -> list[Section]:
        table = self.table()
        if not len(table):
            return []
        details = self.details()
        head = ("F1", "exact match", "questions")
        found = [Section("Kinds of questions", "", Table(("kind", *head), tuple(map(tuple, details["by_kind"]))))]
        articles = sorted(_slices(table, "article"), key=lambda row: row[1])
        if len(articles) > 1:
            shown = Table(("article", *head), tuple(articles[:_SLICES]))
            found.append(Section("Articles", f"The worst of {len(articles)}.", shown))
        if "best_threshold" in details:
            text = (
                f"The F1 of this split would be {details['f1_at_best_threshold']:.4f} with"
                f" model.answers.no_answer={details['best_threshold']:.4g}; chosen on valid, it may be set for"
                " predicting."
            )
            found.append(Section("No answer", text))
        errors = table.append_column("error", pa.array(1 - table["f1"].to_numpy()))
        return [*found, worst_section(errors, "error", ("target", "prediction"))]


def _best_threshold(table: pa.Table) -> tuple[float, float]:
    """The surplus above which no answer is the best choice, on this table, and the F1 that it gives."""
    surplus = table["surplus"].to_numpy()
    order = np.argsort(surplus, kind="stable")
    best, none = table["f1_of_best"].to_numpy()[order], (~table["answerable"].to_numpy()[order]).astype(float)
    # the first k questions are answered, the others are not
    totals = np.append(0, np.cumsum(best)) + np.append(np.cumsum(none[::-1])[::-1], 0)
    # not between equals: one threshold cannot tell them apart
    apart = np.append(True, np.append(surplus[order][1:] != surplus[order][:-1], True))
    count = int(np.argmax(np.where(apart, totals, -1)))
    threshold = float(surplus[order][count - 1]) if count else float(surplus[order][0]) - 1.0
    return threshold, float(totals[count] / len(table))


def _slices(table: pa.Table, by: str) -> list[tuple[str, float, float, int]]:
    """F1, exact match and number of questions for each value of a column, the most frequent first."""
    values = np.array(table[by].to_pylist(), object)
    f1, exact = table["f1"].to_numpy(), table["exact"].to_numpy()
    counts = Counter(values.tolist())
    return [
        (name, float(f1[values == name].mean()), float(exact[values == name].mean()), count)
        for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    ]


def _kind(question: str) -> str:
    """The first question word in it, else "other"."""
    words = re.findall(r"[a-z]+", question.lower())
    return next((word for word in words if word in _WORDS), "other")


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no UTF-8
