"""How good are translations: sacreBLEU with its signature, chrF, and how sure is that?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from plait.bootstrap import Floats
from plait.report import Section, Table
from plait_nlp.sequence_to_sequence.judging import WritingEvaluator
from plait_registry.specs import Metric

WordRule = Literal["13a", "intl", "char", "zh", "none"]

_ORDERS = range(1, 5)
_COUNTS = ("words", "reference_words", *(f"matches{n}" for n in _ORDERS), *(f"ngrams{n}" for n in _ORDERS))


class TranslationEvaluator(WritingEvaluator):
    """Judges translations, as sacreBLEU does (Post 2018). It keeps the n-gram counts of each sentence, so that BLEU
    under weights is exact: it is a function of summed counts, and no mean of sentences.

    Metrics: `bleu` and `chrf` in points from 0 to 100, as the field states them; `length_ratio`, words written by words
    of the references; `exact_match`, the part that equals a reference to the letter.

    Args:
        words: how words are parted.
    """

    primary = Metric("bleu", True)
    numbers: ClassVar[Mapping[str, pa.DataType]] = {
        **dict.fromkeys(_COUNTS, pa.int64()), "chrf": pa.float64(), "exact": pa.bool_()
    }  # fmt: skip
    worst: ClassVar[str] = "chrf"

    def __init__(self, words: WordRule = "13a") -> None:
        super().__init__()
        self._bleu, self._chrf = BLEU(tokenize=words, force=True), CHRF()

    def score(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, Sequence[Any]]:
        """Counts of words and n-grams for each sentence, and its chrF."""
        columns: dict[str, list[Any]] = {name: [] for name in self.numbers}
        for text, wanted in zip(written, references, strict=True):
            found = self._bleu.corpus_score([text], [[each] for each in wanted])
            counts = (found.sys_len, found.ref_len, *found.counts, *found.totals)
            for name, count in zip(_COUNTS, counts, strict=True):
                columns[name].append(int(count))
            columns["chrf"].append(float(self._chrf.sentence_score(text, list(wanted)).score))
            columns["exact"].append(text in wanted)
        return columns

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        wanted = table["target"].to_pylist()
        most = max(map(len, wanted))
        # None: an example with fewer references than others, as sacreBLEU's documentation has it
        streams: Any = [[each[index] if index < len(each) else None for each in wanted] for index in range(most)]
        words, reference_words = (float(table[name].to_numpy().sum()) for name in ("words", "reference_words"))
        return {
            "bleu": float(self.measure(table, np.ones((1, len(table))))[0]),
            "chrf": float(self._chrf.corpus_score(table["prediction"].to_pylist(), streams).score),
            "length_ratio": words / max(1.0, reference_words),
            "exact_match": float(table["exact"].to_numpy(zero_copy_only=False).mean()),
        }

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        """BLEU from weighted sums of the sentences' counts."""
        counts = np.stack([table[name].to_numpy() for name in _COUNTS], axis=1).astype(np.float64)
        return bleu(weights @ counts)

    def signatures(self) -> dict[str, str]:
        """What sacreBLEU writes beside a number, so that it can be found again."""
        counts = {len(each) for each in self.table()["target"].to_pylist()}
        for metric in (self._bleu, self._chrf):
            metric.num_refs = min(counts) if len(counts) == 1 else -1  # which sacreBLEU prints as "var"
        return {"bleu": str(self._bleu.get_signature()), "chrf": str(self._chrf.get_signature())}

    def details(self) -> dict[str, Any]:
        """The signatures, the n-gram precisions (points), the brevity penalty, and counts of what went wrong."""
        table = self.table()
        if not len(table):
            return {}
        sums = np.array([float(table[name].to_numpy().sum()) for name in _COUNTS])
        precisions = (100 * sums[2:6] / np.maximum(sums[6:10], 1)).tolist()
        return {
            "signatures": self.signatures(), "precisions": precisions,
            "brevity_penalty": float(_brevity(sums[None])[0]), **self.writing(),
        }  # fmt: skip

    def sections(self) -> list[Section]:
        if not len(self.table()):
            return []
        found = self.details()
        rows = tuple((f"{n}-grams", each) for n, each in zip(_ORDERS, found["precisions"], strict=True))
        text = f"BLEU {found['signatures']['bleu']}; chrF {found['signatures']['chrf']}. {self.told()}".strip()
        table = Table(("part", "value"), (*rows, ("brevity penalty", found["brevity_penalty"])))
        return [Section("BLEU", text, table), self.worst_examples()]


def bleu(sums: Floats) -> Floats:
    """sacreBLEU's corpus BLEU with exponential smoothing (Chen and Cherry 2014, method 3), in points.

    Args:
        sums: [replicates, 10]: words written, words of the references nearest in length, then matches and n-grams
            written of the orders 1 to 4; sums over sentences.

    Returns:
        [replicates].
    """
    matches, ngrams = sums[:, 2:6], sums[:, 6:10]
    misses = np.cumsum((matches == 0) & (ngrams > 0), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        smoothed = np.where(matches > 0, matches / ngrams, 1.0 / (np.exp2(misses) * ngrams))
        # no n-gram of an order at all: sacreBLEU leaves it at zero, and with it the whole
        logs = np.where(ngrams > 0, np.log(smoothed), -np.inf)
    found: Floats = 100.0 * _brevity(sums) * np.exp(logs.mean(axis=1))
    return np.where(matches.sum(axis=1) > 0, found, 0.0)


def _brevity(sums: Floats) -> Floats:
    """The penalty on writing less than the references."""
    words, wanted = sums[:, 0], sums[:, 1]
    found: Floats = np.where(words > 0, np.exp(np.minimum(0.0, 1.0 - wanted / np.maximum(words, 1e-12))), 0.0)
    return found
