"""How good are summaries: which share of words, word pairs and longest common subsequences is in the references?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from plait.bootstrap import Floats
from plait.report import Section, Table
from plait_nlp.sequence_to_sequence.judging import WritingEvaluator
from plait_registry.specs import Metric

SIGNATURE = "rouge|f1|stem:no|case:lower|tok:words of any script|refs:best"
_NAMES = ("rouge1", "rouge2", "rougeL")
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


class SummaryEvaluator(WritingEvaluator):
    """Judges summaries by ROUGE (Lin 2004): F1 as rouge-score has it without stemming, means over examples, fractions
    from 0 to 1. Of several references the best counts, for each measure by itself.

    Metrics: `rouge1`, `rouge2`, `rougeL` (of the whole summary), and `length_ratio`, words written by words of the
    references (the first of each).
    """

    primary = Metric("rougeL", True)
    numbers: ClassVar[Mapping[str, pa.DataType]] = {
        **dict.fromkeys(_NAMES, pa.float64()), "words": pa.int64(), "reference_words": pa.int64()
    }  # fmt: skip
    worst: ClassVar[str] = "rougeL"

    def score(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, Sequence[Any]]:
        """The three scores of each example, and the words of both texts."""
        columns: dict[str, list[Any]] = {name: [] for name in self.numbers}
        for text, wanted in zip(written, references, strict=True):
            tokens, targets = rouge_tokens(text), [rouge_tokens(each) for each in wanted]
            scores = [rouge(tokens, each) for each in targets]
            for position, name in enumerate(_NAMES):
                columns[name].append(max(each[position] for each in scores))
            columns["words"].append(len(tokens))
            columns["reference_words"].append(len(targets[0]))
        return columns

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        words, wanted = (float(table[name].to_numpy().sum()) for name in ("words", "reference_words"))
        scores = {name: float(table[name].to_numpy().mean()) for name in _NAMES}
        return {**scores, "length_ratio": words / max(1.0, wanted)}

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        found: Floats = weights @ table[self.primary.name].to_numpy() / weights.sum(axis=1)
        return found

    def details(self) -> dict[str, Any]:
        """How ROUGE was counted, and counts of what went wrong."""
        return {"signature": SIGNATURE, **self.writing()} if len(self.table()) else {}

    def sections(self) -> list[Section]:
        table = self.table()
        if not len(table):
            return []
        words = table["words"].to_numpy()
        quartiles = np.quantile(words, [0.0, 0.25, 0.5, 0.75, 1.0]).tolist()
        rows = (("words written, quartiles", ", ".join(f"{each:g}" for each in quartiles)),)
        return [
            Section("ROUGE", f"{SIGNATURE}. {self.told()}".strip(), Table(("part", "value"), rows)),
            self.worst_examples(),
        ]


def rouge_tokens(text: str) -> list[str]:
    """Words in lower case: runs of letters and digits of any script, and each Chinese or Japanese character.

    Of English these are rouge-score's words; that one drops every letter outside a to z.
    """
    return _TOKEN.findall(text.lower())


def rouge(written: Sequence[str], reference: Sequence[str]) -> tuple[float, float, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L of two lists of words: F1, from 0 to 1."""
    common = longest_common(written, reference)
    return (
        _overlap(Counter(written), Counter(reference)),
        _overlap(Counter(pairwise(written)), Counter(pairwise(reference))),
        _f1(common, len(written), len(reference)),
    )


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence: a row of the table at a time, as the bits of one integer (Hyyrö
    2004)."""
    places: dict[str, int] = {}
    for position, word in enumerate(one):
        places[word] = places.get(word, 0) | (1 << position)
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        match = row & places.get(word, 0)
        row = ((row + match) | (row - match)) & every
    return len(one) - row.bit_count()


def _overlap(one: Counter[Any], other: Counter[Any]) -> float:
    return _f1((one & other).total(), one.total(), other.total())


def _f1(common: int, one: int, other: int) -> float:
    return 2 * common / (one + other) if common else 0.0
