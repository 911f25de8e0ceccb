"""How good are vectors of words: at gaps in held-out text, at analogies, and at what people find alike?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata

from plait.bootstrap import Floats
from plait.engine.base import Engine
from plait.evaluation import Evaluator, gather_table
from plait.report import Section, Table
from plait_nlp.word_embedding.vectors import Said
from plait_nlp.word_embedding.words import Analogy, Gap, Query, Question, Similarity
from plait_registry.specs import Metric

GAP_ACCURACY = Metric("gap_accuracy", True)
_ROWS = 15
_SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("kind", pa.string()), ("question", pa.string()), ("answer", pa.string()),
        ("said", pa.string()), ("correct", pa.bool_()), ("known", pa.bool_()), ("score", pa.float64()),
        ("cosine", pa.float64()),
    ]
)  # fmt: skip


class VectorsEvaluator(Evaluator):
    """Judges `Said` for questions. It knows no vector.

    Metrics, as far as there are such questions: `gap_accuracy`, the part of gaps whose word goes better with those
    around than the nine others (chance: 0.1); `analogy_accuracy`, the part of analogies whose word is the nearest of
    all but the three given; `similarity_spearman`, the rank correlation of cosines with people's scores; `known`, the
    part of questions whose words (of gaps, whose candidates) all have a vector. What is not known is wrong (of
    similarities: of cosine 0).
    """

    def __init__(self) -> None:
        self.primary = GAP_ACCURACY
        self._rows: list[pa.Table] = [_SCHEMA.empty_table()]

    def update(self, predictions: Sequence[Said], examples: Sequence[Question]) -> None:
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        rows = [_row(*each) for each in zip(predictions, examples, strict=True)]
        self._rows.append(pa.Table.from_pylist(rows, schema=_SCHEMA))

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def table(self) -> pa.Table:
        """One row a question: `id`, its `kind`, `question`, right `answer` and what was `said`; `correct` (null of
        similarities); whether all its words are `known`; people's `score` and the `cosine` of similarities."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        kind = np.array(table["kind"].to_pylist())
        correct = np.array([bool(each) for each in table["correct"].to_pylist()])
        found = {
            name: float(correct[kind == which].mean())
            for which, name in (("gap", "gap_accuracy"), ("analogy", "analogy_accuracy"))
            if (kind == which).any()
        }
        alike = kind == "similarity"
        if alike.sum() > 1:
            scores, cosines = (table[name].to_numpy()[alike] for name in ("score", "cosine"))
            found["similarity_spearman"] = _correlation(rankdata(scores), rankdata(cosines))
        return {**found, "known": float(table["known"].to_numpy(zero_copy_only=False).mean())}

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        gap = np.array([kind == "gap" for kind in table["kind"].to_pylist()], np.float64)
        correct = np.array([bool(each) for each in table["correct"].to_pylist()], np.float64)
        total = weights @ gap
        found: Floats = np.where(total > 0, weights @ (gap * correct) / np.where(total > 0, total, 1), np.nan)
        return found

    def sections(self) -> list[Section]:
        rows = [row for row in self.table().to_pylist() if row["correct"] is False]
        sections = []
        for kind, title in (("gap", "Gaps that were filled wrongly"), ("analogy", "Analogies that were not found")):
            listed = tuple((row["question"], row["answer"], row["said"]) for row in rows if row["kind"] == kind)[:_ROWS]
            if listed:
                sections.append(Section(title, "", Table(("question", "answer", "said"), listed)))
        alike = [row for row in self.table().to_pylist() if row["kind"] == "similarity"]
        if alike:
            ranks = rankdata([row["score"] for row in alike]) - rankdata([row["cosine"] for row in alike])
            worst = [alike[index] for index in np.argsort(-np.abs(ranks), kind="stable")[:_ROWS].tolist()]
            listed = tuple((row["question"], row["score"], row["cosine"]) for row in worst)
            sections.append(Section("Pairs that people see otherwise", "", Table(("words", "score", "cosine"), listed)))
        return sections


def _row(said: Said, question: Question) -> dict[str, Any]:
    """What was said to another question counts as nothing."""
    own = said.question == question
    row: dict[str, Any] = {"id": question.id, "correct": None, "known": True, "score": None, "cosine": None}
    if isinstance(question, Gap):
        scores = np.array(said.scores if own else [np.nan] * len(question.candidates))
        known = np.isfinite(scores)
        best = int(np.argmax(np.where(known, scores, -np.inf))) if known.any() else -1
        right = bool(known[0]) and bool((scores[1:][known[1:]] < scores[0]).all())
        return row | {
            "kind": "gap", "question": f"{' '.join(question.around)}: {' '.join(sorted(question.candidates))}",
            "answer": question.candidates[0], "said": question.candidates[best] if best >= 0 else "",
            "correct": right, "known": bool(known.all()),
        }  # fmt: skip
    if isinstance(question, Similarity):
        cosine = said.scores[0] if own else float("nan")
        known = bool(np.isfinite(cosine))
        return row | {
            "kind": "similarity", "question": f"{question.first} {question.second}", "answer": "", "said": "",
            "score": question.score, "cosine": cosine if known else 0.0, "known": known,
        }  # fmt: skip
    if isinstance(question, Analogy):
        word = said.nearest[0][0] if own and said.nearest else ""
        return row | {
            "kind": "analogy", "question": f"{question.first} {question.second} {question.third}",
            "answer": question.answer, "said": word, "correct": word == question.answer, "known": bool(word),
        }  # fmt: skip
    assert isinstance(question, Query)
    return row | {"kind": "query", "question": " ".join(question.plus), "answer": "", "said": ""}


def _correlation(one: Any, other: Any) -> float:
    one, other = one - one.mean(), other - other.mean()
    below = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / below if below else 0.0
