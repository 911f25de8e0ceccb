"""How do pairs become rows of an embedding table?"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from plait.model import Batch, Key, Processor
from plait_recommendation.ctr.fields import FIRST, MISSING, Field, Numbers, Source, fit_fields, flat
from plait_recommendation.features import FeatureTable
from plait_recommendation.ids import IdMap
from plait_recommendation.interactions import InteractionData
from plait_recommendation.pairs import Pair, Pairs

Indices = npt.NDArray[np.int32]

_SOURCES: tuple[Source, ...] = ("user", "item", "pair")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows of one table, encoded. Columns are in the order of the encoder's fields.

    Args:
        fields: categories and buckets, int32 [rows, fields].
        numbers: the row of each number in the embedding table, int32 [rows, numbers].
        weights: the numbers as scaled, float32 [rows, numbers]; 1 on a row that says "missing".
        bags: int32 [rows, bags, values], 0 where a bag has fewer values.
    """

    fields: Indices
    numbers: Indices
    weights: npt.NDArray[np.float32]
    bags: Indices

    def take(self, rows: npt.NDArray[Any]) -> Encoded:
        """Some rows, in that order."""
        return Encoded(
            np.take(self.fields, rows, axis=0), np.take(self.numbers, rows, axis=0),
            np.take(self.weights, rows, axis=0), np.take(self.bags, rows, axis=0),
        )  # fmt: skip


class PairEncoder(Processor):
    """Columns of users, items and meetings as rows of one embedding table, with weights. It knows no network.

    Whole tables are encoded once, users and items by their codes, and batches gather rows of them: no text is looked
    up while training. What is known of users and items is kept, so that their ids alone suffice for a prediction.

    Args:
        fields: the columns.
        most_values: of a column of several values, the first so many count.
        known: what is known of users and of items: a column "id", and their fields' columns.
    """

    def __init__(self, fields: Sequence[Field], *, most_values: int, known: Mapping[str, pa.Table]) -> None:
        self.fields, self.most_values, self.known = tuple(fields), most_values, dict(known)
        self._encoded: dict[int, tuple[Any, dict[Source, Encoded]]] = {}
        self._places: dict[str, dict[str, int]] = {}

    @classmethod
    def fit(
        cls, train: Pairs, *, min_count: int, numbers: Numbers, columns: Mapping[str, Numbers], most_values: int
    ) -> Self:
        """Vocabularies and scales of a training split; see `fit_fields`."""
        fields = fit_fields(train, min_count=min_count, numbers=numbers, columns=columns)
        tables = {"user": train.data.user_features, "item": train.data.item_features}
        ids = {"user": train.data.users, "item": train.data.items}
        known = {}
        for source, table in tables.items():
            names = [field.name for field in fields[2:] if field.source == source]
            if table is not None and names:
                texts = ids[source].ids.cast(pa.string())
                known[source] = pa.table({"id": texts, **{name: table.table.column(name) for name in names}})
        return cls(fields, most_values=most_values, known=known)

    @property
    def size(self) -> int:
        """Rows of the embedding table."""
        return self.fields[-1].base + self.fields[-1].size

    @property
    def categories(self) -> int:
        """Columns of the batch's "fields"."""
        return sum(field.kind != "token_seq" and not field.is_number for field in self.fields)

    @property
    def numbers(self) -> int:
        """Columns of the batch's "numbers" and "weights"."""
        return sum(field.is_number for field in self.fields)

    @property
    def bags(self) -> int:
        """Columns of several values."""
        return sum(field.kind == "token_seq" for field in self.fields)

    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool) -> Batch:
        """A batch of `Pairs`, or of a sequence of `Pair`.

        Tensors, all [batch, ...]: "fields" int32 [batch, categories]; "numbers" int32 and "weights" float32
        [batch, numbers]; "bags" int32 [batch, bags, values], padded with 0; "target" float32 [batch] where all
        have one.
        """
        if isinstance(examples, Pairs):
            parts, targets = self._gathered(examples), examples.targets
        else:
            parts = self._made(examples)
            wanted = [example.target for example in examples]
            targets = np.zeros(0, np.float32) if None in wanted else np.asarray(wanted, np.float32)
        values = max(part.bags.shape[2] for part in parts)
        bags = [np.pad(part.bags, ((0, 0), (0, 0), (0, values - part.bags.shape[2]))) for part in parts]
        joined = {
            "fields": np.concatenate([part.fields for part in parts], axis=1),
            "numbers": np.concatenate([part.numbers for part in parts], axis=1),
            "weights": np.concatenate([part.weights for part in parts], axis=1),
            "bags": np.concatenate(bags, axis=1),
        }
        if len(targets) == len(examples):
            joined["target"] = targets
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in joined.items()}
        return Batch(tensors, count=len(examples), size=len(examples))

    def as_json(self) -> dict[str, Any]:
        """Fields as JSON; what is known of users and items as Arrow's bytes, which keep types and nulls."""
        known = {source: _packed(table) for source, table in self.known.items()}
        return {"fields": [each.as_json() for each in self.fields], "most_values": self.most_values, "known": known}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        known = {source: _unpacked(text) for source, text in state["known"].items()}
        fields = [Field.from_json(each) for each in state["fields"]]
        return cls(fields, most_values=state["most_values"], known=known)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_encoded": {}}  # another process encodes for itself, or inherits by fork

    # ------------------------------------------------------------------------------------------ whole splits

    def _gathered(self, pairs: Pairs) -> list[Encoded]:
        tables = self._tables(pairs)
        rows: dict[str, npt.NDArray[Any]] = {"user": pairs.users, "item": pairs.items, "pair": pairs.rows}
        return [tables[source].take(rows[source]) for source in _SOURCES]

    def _tables(self, pairs: Pairs) -> dict[Source, Encoded]:
        """The encoded tables behind a split; those of the last few sources are kept."""
        data = pairs.data
        if id(data) not in self._encoded:
            while len(self._encoded) > 1:  # the training data, and what they are judged on
                del self._encoded[next(iter(self._encoded))]
            self._encoded[id(data)] = (data, self._encode(data, pairs.context))  # holds `data`: ids are not used again
        return self._encoded[id(data)][1]

    def _encode(self, data: InteractionData, context: FeatureTable | None) -> dict[Source, Encoded]:
        return {
            "user": self._table("user", len(data.users), data.user_features, data.users),
            "item": self._table("item", len(data.items), data.item_features, data.items),
            "pair": self._table("pair", len(data.interactions), context, None),
        }

    def _table(self, source: Source, rows: int, features: FeatureTable | None, ids: IdMap | None) -> Encoded:
        columns: dict[str, pa.ChunkedArray] = {}
        for each in self.fields:
            if each.source == source and features is not None and each.name in features.kinds:
                columns[each.name] = features.table.column(each.name)
        if ids is not None:
            columns[source] = pa.chunked_array([ids.ids.cast(pa.string())])
        return self._encoded_columns(source, rows, columns)

    # ------------------------------------------------------------------------------------------ single pairs

    def _made(self, examples: Sequence[Pair]) -> list[Encoded]:
        parts = []
        for source in _SOURCES:
            columns: dict[str, pa.ChunkedArray] = {}
            for each in self.fields:
                if each.source == source:
                    values = [self._value(each, example) for example in examples]
                    columns[each.name] = pa.chunked_array([pa.array(values, _TYPES[each.kind])])
            parts.append(self._encoded_columns(source, len(examples), columns))
        return parts

    def _value(self, field: Field, example: Pair) -> Any:
        """What an example says of itself, else what is known of its user or item."""
        given = example.values.get(field.name)
        if field.name in ("user", "item"):
            return None if given is None else str(given)
        if given is not None or field.source not in self.known:
            return given
        table = self.known[field.source]
        if field.source not in self._places:
            self._places[field.source] = {each: row for row, each in enumerate(table.column("id").to_pylist())}
        row = self._places[field.source].get(str(example.values.get(field.source)))
        return None if row is None else table.column(field.name)[row].as_py()

    # ------------------------------------------------------------------------------------------ columns

    def _encoded_columns(self, source: Source, rows: int, columns: Mapping[str, pa.ChunkedArray]) -> Encoded:
        fields, numbers, weights, bags = [], [], [], []
        for field in (each for each in self.fields if each.source == source):
            column = columns.get(field.name)
            if column is None:  # these data have no such column: nothing is known
                column = pa.chunked_array([pa.nulls(rows, _TYPES[field.kind])])
            if field.kind == "token_seq":
                bags.append(_bags(field, column, self.most_values))
            elif field.kind == "categorical":
                fields.append(_categories(field, column))
            else:
                values = column.to_numpy().astype(np.float64)
                there = np.isfinite(values)
                if field.is_number:
                    numbers.append(np.where(there, field.base + FIRST, field.base + MISSING).astype(np.int32))
                    weights.append(np.where(there, field.scaled(values), np.float32(1)))
                else:
                    bucket = field.base + FIRST + np.searchsorted(np.asarray(field.edges), values, "right")
                    fields.append(np.where(there, bucket, field.base + MISSING).astype(np.int32))
        most = max((each.shape[1] for each in bags), default=0)
        padded = [np.pad(each, ((0, 0), (0, most - each.shape[1]))) for each in bags]
        stacked = np.stack(padded, axis=1) if padded else np.zeros((rows, 0, 0), np.int32)
        return Encoded(
            _stack(fields, rows, np.int32), _stack(numbers, rows, np.int32), _stack(weights, rows, np.float32), stacked
        )


_TYPES: Mapping[str, pa.DataType] = {
    "categorical": pa.string(), "token_seq": pa.list_(pa.string()), "numeric": pa.float64(),
}  # fmt: skip


def _stack(columns: Sequence[npt.NDArray[Any]], rows: int, type_: Any) -> npt.NDArray[Any]:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), type_)


def _categories(field: Field, column: pa.ChunkedArray) -> Indices:
    encoded = flat(column)[1].dictionary_encode()
    rows = field.rows_of([*encoded.dictionary.to_pylist(), None])
    taken: Indices = rows[encoded.indices.fill_null(len(rows) - 1).to_numpy()]
    return taken


def _bags(field: Field, column: pa.ChunkedArray, most_values: int) -> Indices:
    """The rows of each bag's values, [rows, values]; a bag without values holds one "missing"."""
    owners, values = flat(column)
    encoded = values.dictionary_encode()
    table = field.rows_of([*encoded.dictionary.to_pylist(), None])
    found = table[encoded.indices.fill_null(len(table) - 1).to_numpy()]
    counts = np.bincount(owners, minlength=len(column))
    within = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = max(1, min(most_values, int(counts.max(initial=0))))
    bags = np.zeros((len(column), width), np.int32)
    kept = within < width
    bags[owners[kept], within[kept]] = found[kept]
    bags[counts == 0, 0] = field.base + MISSING
    return bags


def _packed(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return base64.b64encode(sink.getvalue()).decode("ascii")


def _unpacked(text: str) -> pa.Table:
    return pa.ipc.open_stream(base64.b64decode(text)).read_all()
