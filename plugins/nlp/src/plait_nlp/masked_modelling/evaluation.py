"""How well are hidden words told, and whether a text goes on?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from plait.bootstrap import Floats
from plait.engine.base import Engine
from plait.evaluation import Evaluator, gather_table
from plait.report import Section, Table
from plait_nlp.masked_modelling.passages import Passage
from plait_nlp.masked_modelling.predictions import Filled, MaskedPrediction
from plait_registry.specs import Metric

BITS_PER_BYTE = Metric("bits_per_byte", False)
_SHOWN = 160  # characters of a text in a report
_ROWS = 15
_SPELLED = 8 * math.log(2)  # nats of a byte that is merely spelled out

_SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("words", pa.list_(pa.string())), ("guesses", pa.list_(pa.string())),
        ("nats", pa.float64()), ("bytes", pa.int64()), ("tokens", pa.int64()), ("right", pa.int64()),
        ("spelled", pa.int64()), ("followed", pa.bool_()), ("text", pa.string()),
    ]
)  # fmt: skip


class MaskedEvaluator(Evaluator):
    """Judges `MaskedPrediction`s for `Passage`s. It knows no tokenizer.

    Metrics: `bits_per_byte`, -log2 of the probabilities of the hidden words over their UTF-8 bytes, which does not
    depend on the tokenizer; `perplexity`, e to the mean negative log-probability of their tokens, which does;
    `accuracy` of their tokens; `word_accuracy`, the part of hidden words whose tokens were all right; `spelled`, the
    part that the model did not see or could not write, which cost 8 bits a byte; and `next_sentence_accuracy` where
    passages have pairs. A prediction for another passage counts as none.
    """

    def __init__(self) -> None:
        self.primary = BITS_PER_BYTE
        self._rows: list[pa.Table] = [_SCHEMA.empty_table()]

    def update(self, predictions: Sequence[MaskedPrediction], examples: Sequence[Passage]) -> None:
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        rows = [_row(*each) for each in zip(predictions, examples, strict=True)]
        self._rows.append(pa.Table.from_pylist(rows, schema=_SCHEMA))

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def table(self) -> pa.Table:
        """One row a passage: `id`, the hidden `words` and the best `guesses`, `nats` of the words in all, their `bytes`
        and `tokens`, how many of these were `right`, how many words were `spelled`, whether what follows was told
        (`followed`; null where there is no pair), and the beginning of the `text`."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        total = {name: float(table[name].to_numpy().sum()) for name in ("nats", "bytes", "tokens", "right", "spelled")}
        words, guesses = (table[name].combine_chunks().flatten().to_pylist() for name in ("words", "guesses"))
        found = {
            "bits_per_byte": total["nats"] / total["bytes"] / math.log(2),
            "perplexity": math.exp(min(total["nats"] / total["tokens"], 700.0)),
            "accuracy": total["right"] / total["tokens"],
            "word_accuracy": sum(map(str.__eq__, words, guesses)) / len(words),
            "spelled": total["spelled"] / len(words),
        }
        followed = table["followed"].drop_null().to_pylist()
        return {**found, "next_sentence_accuracy": sum(followed) / len(followed)} if followed else found

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        nats, size = (table[name].to_numpy().astype(np.float64) for name in ("nats", "bytes"))
        found: Floats = (weights @ nats) / (weights @ size) / math.log(2)
        return found

    def sections(self) -> list[Section]:
        table = self.table()
        if not len(table):
            return []
        words, guesses = (table[name].combine_chunks().flatten().to_pylist() for name in ("words", "guesses"))
        told = Counter(word for word, guess in zip(words, guesses, strict=True) if word == guess)
        missed = Counter(each for each in zip(words, guesses, strict=True) if each[0] != each[1])
        cost = table["nats"].to_numpy() / table["bytes"].to_numpy() / math.log(2)
        order = np.argsort(-cost, kind="stable")[:_ROWS].tolist()
        columns = [table[name].to_pylist() for name in ("id", "words", "guesses", "text")]
        worst = tuple(
            (columns[0][row], ", ".join(columns[1][row]), ", ".join(columns[2][row]), float(cost[row]), columns[3][row])
            for row in order
        )
        return [
            Section(
                "Words told most often", "",
                Table(("word", "told", "hidden"), tuple(
                    (word, count, words.count(word)) for word, count in told.most_common(_ROWS)
                )),
            ),
            Section(
                "Most frequent mistakes", "",
                Table(("hidden", "guessed", "times"), tuple(
                    (*each, count) for each, count in missed.most_common(_ROWS)
                )),
            ),
            Section("Worst passages", "", Table(("id", "hidden", "guessed", "bits per byte", "text"), worst)),
        ]  # fmt: skip


def _row(prediction: MaskedPrediction, passage: Passage) -> dict[str, Any]:
    answers = passage.answers or ()
    filled: Sequence[Filled] = (
        prediction.filled if prediction.passage == passage else [Filled((), spelled=True)] * len(answers)
    )
    sizes = [len(each.encode("utf-8", "surrogatepass")) for each in answers]
    nats = sum(each.nats + (size * _SPELLED if each.spelled else 0) for each, size in zip(filled, sizes, strict=True))
    guesses = [
        (word if each.right == each.tokens and not each.spelled else each.guesses[0][0] if each.guesses else "")
        for word, each in zip(answers, filled, strict=True)
    ]
    followed = None
    if passage.follows is not None:
        followed = prediction.follows is not None and (prediction.follows >= 0.5) == passage.follows
    return {
        "id": passage.id, "words": list(map(_plain, answers)), "guesses": list(map(_plain, guesses)),
        "nats": nats if math.isfinite(nats) else math.inf, "bytes": sum(sizes),
        "tokens": sum(each.tokens for each in filled), "right": sum(each.right for each in filled),
        "spelled": sum(each.spelled for each in filled), "followed": followed, "text": _plain(passage.text[:_SHOWN]),
    }  # fmt: skip


def _plain(text: str) -> str:
    """Text that a report can hold: half a surrogate pair is no UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
