"""How well does a language model predict a text, in units that do not depend on its tokens?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from plait.bootstrap import Floats
from plait.engine.base import Engine
from plait.evaluation import Evaluator, gather_table
from plait.report import Section, Table
from plait_nlp.language_modelling.corpus import Piece
from plait_nlp.language_modelling.predictions import TextScore
from plait_registry.specs import Metric

BITS_PER_BYTE = Metric("bits_per_byte", False)
_SHOWN = 120  # characters of a piece in a report
_WORST = 10


class LanguageEvaluator(Evaluator):
    """Judges scores of pieces of text.

    Metrics: `bits_per_byte` and `bits_per_character`, `perplexity_per_byte`, all of which compare models with different
    tokens; `perplexity_per_token` and `bytes_per_token`, which do not; `unknown_tokens`, a fraction. A prediction that
    covers fewer bytes than its piece has is charged 8 bits for each that it leaves out.
    """

    def __init__(self) -> None:
        self.primary = BITS_PER_BYTE
        self._rows = [self._encode([], [])]

    def update(self, predictions: Sequence[TextScore], examples: Sequence[Piece]) -> None:
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        self._rows.append(self._encode(predictions, examples))

    @staticmethod
    def _encode(predictions: Sequence[TextScore], examples: Sequence[Piece]) -> pa.Table:
        sizes = [each.size for each in examples]
        left = [max(0, size - each.size) for size, each in zip(sizes, predictions, strict=True)]
        nats = [each.nats + over * math.log(256) for each, over in zip(predictions, left, strict=True)]
        columns = {
            "id": pa.array([each.id for each in examples], pa.string()),
            "nats": pa.array(nats, pa.float64()),
            "bytes": pa.array(sizes, pa.int64()),
            "characters": pa.array([len(each.text) for each in examples], pa.int64()),
            "tokens": pa.array([each.tokens for each in predictions], pa.int64()),
            "unknown": pa.array([each.unknown for each in predictions], pa.int64()),
            "text": pa.array([each.text[:_SHOWN] for each in examples], pa.string()),
        }
        return pa.table(columns)

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def table(self) -> pa.Table:
        """One row a piece: `id`, `nats`, `bytes`, `characters`, `tokens`, `unknown`, and how the `text` begins."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        nats, size = (weights @ table[name].to_numpy().astype(np.float64) for name in ("nats", "bytes"))
        found: Floats = nats / size / math.log(2)
        return found

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        names = ("nats", "bytes", "characters", "tokens", "unknown")
        nats, size, characters, tokens, unknown = (float(table[name].to_numpy().sum()) for name in names)
        return {
            "bits_per_byte": float(self.measure(table, np.ones((1, len(table))))[0]),
            "bits_per_character": nats / characters / math.log(2),
            "perplexity_per_byte": _exp(nats / size),
            "perplexity_per_token": _exp(nats / tokens) if tokens else math.inf,
            "bytes_per_token": size / tokens if tokens else 0.0,
            "unknown_tokens": unknown / tokens if tokens else 0.0,
        }

    def sections(self) -> list[Section]:
        table = self.table()
        if not len(table):
            return []
        bits = table["nats"].to_numpy() / table["bytes"].to_numpy() / math.log(2)
        order = np.argsort(-bits, kind="stable")
        ids, texts, sizes = (table[name].to_pylist() for name in ("id", "text", "bytes"))
        rows = tuple(
            (ids[at], round(float(bits[at]), 3), sizes[at], _line(texts[at])) for at in order[:_WORST].tolist()
        )
        low, middle, high = (round(float(each), 3) for each in np.quantile(bits, [0.05, 0.5, 0.95]))
        text = f"Bits per byte of {len(table)} pieces: 5 % below {low}, half below {middle}, 95 % below {high}."
        return [Section("Least expected", text, Table(("piece", "bits per byte", "bytes", "begins"), rows))]


def _line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() or each.isspace() else "�" for each in text).split())


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
