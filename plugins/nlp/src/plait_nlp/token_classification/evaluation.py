"""How are entities judged: which are found, with their bounds and types, and which mistakes are made?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from plait.bootstrap import Floats
from plait.engine.base import Engine
from plait.errors import DataError
from plait.evaluation import Evaluator, gather_table
from plait.report import Section, Table
from plait_nlp.text_classification.evaluation import worst_section
from plait_nlp.token_classification.examples import TagPrediction, TokenExample
from plait_nlp.token_classification.tags import Integers, Spans, encode_tags, entities_of, find_spans
from plait_registry.specs import Metric

_KINDS = ("wrong type", "wrong bounds", "missed", "invented")
_SHOWN = 160  # characters of a sentence, or of its entities, in a report


class EntityEvaluator(Evaluator):
    """Judges whole entities: one is right where its first and last word and its type are (CoNLL-2003; the numbers are
    those of conlleval and of seqeval's default). Predictions are `TagPrediction`, examples `TokenExample`.

    Metrics: `f1`, `precision` and `recall` over all entities (0 where there are none to divide by), `f1_macro`, the
    mean over the types that occur or are predicted, and `accuracy` of tags, which the many O make high.

    Args:
        types: what entities there are.
    """

    def __init__(self, types: Sequence[str]) -> None:
        self.types = list(types)
        self.primary = Metric("f1", True)
        self._rows: list[pa.Table] = [self._judged([], [])]

    def update(self, predictions: Sequence[TagPrediction], examples: Sequence[TokenExample]) -> None:
        """Take in predictions; words that one has no tag for count as O.

        Raises:
            DataError: an example has no tags.
            ValueError: lengths differ.
        """
        if len(predictions) != len(examples):
            raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
        for example in examples:
            if example.tags is None:
                raise DataError(f"{example.id}: has no tags to judge a prediction by", hint="evaluate on tagged data")
        if examples:
            self._rows.append(self._judged(predictions, examples))

    def _judged(self, predictions: Sequence[TagPrediction], examples: Sequence[TokenExample]) -> pa.Table:
        """One row an example."""
        wanted = [each.tags or () for each in examples]
        chosen = [
            [*each.tags[: len(tags)], *["O"] * (len(tags) - len(each.tags))]
            for each, tags in zip(predictions, wanted, strict=True)
        ]
        prefixes, types, starts = encode_tags(chosen, self.types)
        right_prefixes, right_types, _ = encode_tags(wanted, self.types)
        found, targets = find_spans(prefixes, types), find_spans(right_prefixes, right_types)
        hits, kinds, placed = _matched(found, targets, words=len(prefixes), types=len(self.types))
        same = (prefixes == right_prefixes) & ((types == right_types) | (prefixes == 0))
        words = np.array([len(tags) for tags in wanted], np.int64)
        correct = np.add.reduceat(same, starts) - 1 if len(starts) else starts  # without the O after each sentence

        def of_sentences(positions: Integers, values: Integers) -> pa.Array:
            """Values of entities as a list for each sentence."""
            sentence = np.searchsorted(starts, positions, side="right") - 1
            offsets = np.append(0, np.cumsum(np.bincount(sentence, minlength=len(starts))))
            order = np.argsort(sentence, kind="stable")
            return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values[order], pa.int32()))

        columns = {
            "hits": of_sentences(found.first[hits], found.type[hits]),
            "predicted": of_sentences(found.first, found.type),
            "targets": of_sentences(targets.first, targets.type),
            "mistakes": of_sentences(placed, kinds),
            "words": pa.array(words, pa.int64()), "correct": pa.array(correct.astype(np.int64), pa.int64()),
            "target": pa.array([_shown(*each) for each in zip(examples, wanted, strict=True)], pa.string()),
            "prediction": pa.array([_shown(*each) for each in zip(examples, chosen, strict=True)], pa.string()),
            "text": pa.array([_short(each.text) for each in examples], pa.string()),
        }  # fmt: skip
        return pa.table({"id": pa.array([each.id for each in examples], pa.string()), **columns})

    def reduce(self, engine: Engine) -> None:
        self._rows = [gather_table(self.table(), engine)]

    def table(self) -> pa.Table:
        """One row a sentence: `id`; lists of the types of its `hits`, `predicted` and target (`targets`) entities and
        of the kinds of its `mistakes` (numbers); `words`, and how many have the `correct` tag; `target` and
        `prediction`, the beginning of the entities, and of the `text`."""
        self._rows = [pa.concat_tables(self._rows).combine_chunks()]
        return self._rows[0]

    def measure(self, table: pa.Table, weights: Floats) -> Floats:
        hits, predicted, targets = (weights @ _lengths(table, name) for name in ("hits", "predicted", "targets"))
        both = predicted + targets
        found: Floats = np.where(both > 0, 2 * hits / np.where(both > 0, both, 1), 0.0)
        return found

    def compute(self) -> dict[str, float]:
        table = self.table()
        if not len(table):
            return {}
        per_type = self._counts()
        hits, predicted, targets = per_type.sum(axis=1).tolist()
        present = per_type[1] + per_type[2] > 0
        scores = 2 * per_type[0, present] / (per_type[1] + per_type[2])[present]
        words = int(table["words"].to_numpy().sum())
        return {
            "f1": float(self.measure(table, np.ones((1, len(table))))[0]),
            "precision": hits / predicted if predicted else 0.0,
            "recall": hits / targets if targets else 0.0,
            "f1_macro": float(scores.mean()) if len(scores) else 0.0,
            "accuracy": float(table["correct"].to_numpy().sum() / words) if words else 0.0,
        }

    def _counts(self) -> Floats:
        """Hits, predicted and target entities [3, types]."""
        names = ("hits", "predicted", "targets")
        rows = [np.bincount(_flat(self.table(), name), minlength=len(self.types)) for name in names]
        return np.array(rows, float)

    def details(self) -> dict[str, Any]:
        """`per_type` numbers, and `mistakes`: how many entities have the wrong type (with the right bounds), the wrong
        bounds (they overlap a right one), are missed (nothing overlaps them) or invented."""
        counts = np.bincount(_flat(self.table(), "mistakes"), minlength=len(_KINDS)).tolist()
        return {
            "per_type": [
                {
                    "type": name, "precision": hits / predicted if predicted else None,
                    "recall": hits / targets if targets else None,
                    "f1": 2 * hits / (predicted + targets) if predicted + targets else None, "support": int(targets),
                }
                for name, hits, predicted, targets in zip(self.types, *self._counts().tolist(), strict=True)
            ],
            "mistakes": dict(zip(_KINDS, counts, strict=True)),
        }  # fmt: skip

    def sections(self) -> list[Section]:
        table = self.table()
        if not len(table):
            return []
        details = self.details()
        names = ("type", "precision", "recall", "f1", "support")
        rows = tuple(tuple(each[name] for name in names) for each in details["per_type"])
        types = Section("Types", "", Table(("type", "precision", "recall", "F1", "entities"), rows))
        text = (
            "Of right entities that were not found: the wrong type with the right bounds, wrong bounds, or nothing that"
            " overlaps them (missed). An invented one overlaps no right one."
        )
        mistakes = Section("Mistakes", text, Table(("kind", "entities"), tuple(details["mistakes"].items())))
        errors = _lengths(table, "predicted") + _lengths(table, "targets") - 2 * _lengths(table, "hits")
        worst = worst_section(table.append_column("errors", pa.array(errors)), "errors", ("target", "prediction"))
        return [types, mistakes, worst]


def _matched(
    found: Spans, targets: Spans, *, words: int, types: int
) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], Integers, Integers]:
    """Which found entities are right; and of the mistakes the kind (a place in `_KINDS`) and the first word."""

    def key(spans: Spans) -> Integers:
        bounds: Integers = (spans.first * (words + 1) + spans.end) * (types + 1)
        return bounds

    hits, hit = (
        np.isin(key(one) + one.type, key(other) + other.type) for one, other in ((found, targets), (targets, found))
    )
    lost, extra = ~hit, ~hits
    retyped, overlapped = np.isin(key(targets), key(found)), _touched(targets, found, words)
    kinds = np.where(retyped, 0, np.where(overlapped, 1, 2))[lost]
    invented = extra & ~_touched(found, targets, words)
    kinds = np.concatenate([kinds, np.full(int(invented.sum()), 3)]).astype(np.int64)
    return hits, kinds, np.concatenate([targets.first[lost], found.first[invented]])


def _touched(spans: Spans, others: Spans, words: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which spans have a word in common with one of the others."""
    steps = np.zeros(words + 1, np.int64)
    np.add.at(steps, others.first, 1)
    np.add.at(steps, others.end, -1)
    covered = np.append(0, np.cumsum(np.cumsum(steps)[:words] > 0))
    touched: np.ndarray[Any, np.dtype[np.bool_]] = covered[spans.end] > covered[spans.first]
    return touched


def _lengths(table: pa.Table, name: str) -> Integers:
    """How many values each row's list has."""
    lengths: Integers = table[name].combine_chunks().value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def _flat(table: pa.Table, name: str) -> Integers:
    values: Integers = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return values


def _shown(example: TokenExample, tags: Sequence[str]) -> str:
    """The entities of a sentence on one line: "Berlin [location]; ..."."""
    spans = example.spans
    named = (
        f"{example.text[spans[each.first][0] : spans[each.end - 1][1]]} [{each.type}]" for each in entities_of(tags)
    )
    return _short("; ".join(named))


def _short(text: str) -> str:
    text = " ".join(text.split())
    text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
    return text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no UTF-8
