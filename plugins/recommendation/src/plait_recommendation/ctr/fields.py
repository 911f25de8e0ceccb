"""Which columns does a network on pairs read, and which rows of its embedding table are each column's?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait.errors import RecipeError, did_you_mean
from plait_recommendation.features import Kind
from plait_recommendation.pairs import Pairs

Source = Literal["user", "item", "pair"]
"""Whose column it is: the user's, the item's, or the meeting's."""
Numbers = Literal["standard", "log", "buckets"]
"""How a number is read: standardised; log(1 + |x|) with x's sign, then standardised; as one of equally full buckets."""

MISSING, OTHER, FIRST = 0, 1, 2
"""A column's own rows: no value; a value that training saw too seldom; the first known value, bucket, or the number."""
BUCKETS = 16


@dataclass(frozen=True, slots=True)
class Field:
    """A column as rows of one embedding table; `base` + MISSING is the first of them.

    Args:
        name, source: which column.
        kind: "categorical", "token_seq" (several values, whose mean counts), or "numeric" (buckets where `edges`).
        base: its first row; row 0 of the table is padding.
        values: the known values, each a row from `base` + FIRST.
        edges: ascending; a number is in bucket `searchsorted(edges, x, "right")`.
        log, mean, deviation: how a number is scaled, where it has no buckets.
    """

    name: str
    source: Source
    kind: Kind
    base: int
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    log: bool = False
    mean: float = 0.0
    deviation: float = 1.0
    _known: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def size(self) -> int:
        """Rows of the embedding table."""
        return FIRST + (1 + len(self.edges) if self.kind == "numeric" else len(self.values))

    @property
    def is_number(self) -> bool:
        """Whether its one row is scaled by the value."""
        return self.kind == "numeric" and not self.edges

    def rows_of(self, values: Sequence[str | None]) -> npt.NDArray[np.int32]:
        """The table's row for each of some texts, [values]."""
        if not self._known and self.values:
            self._known.update({value: self.base + FIRST + row for row, value in enumerate(self.values)})
        other, missing = self.base + OTHER, self.base + MISSING
        found = [missing if value is None else self._known.get(value, other) for value in values]
        return np.asarray(found, np.int32)

    def scaled(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Numbers as the network reads them, 0 where missing."""
        if self.log:
            numbers = signed_log(numbers)
        return np.nan_to_num((numbers - self.mean) / self.deviation).astype(np.float32)

    def as_json(self) -> dict[str, Any]:
        state = asdict(self)
        del state["_known"]
        return state

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        return cls(**{**state, "values": tuple(state["values"]), "edges": tuple(state["edges"])})


def fit_fields(train: Pairs, *, min_count: int, numbers: Numbers, columns: Mapping[str, Numbers]) -> tuple[Field, ...]:
    """The fields of a training split: ids first, then the columns of users, items and meetings.

    Args:
        min_count: values that fewer pairs have are read as "other", which so is trained, too.
        numbers: how numbers are read, where `columns` says nothing else.

    Raises:
        RecipeError: `columns` names a column that is no number.
    """
    tables = {"user": train.data.user_features, "item": train.data.item_features, "pair": train.context}
    rows: dict[str, npt.NDArray[Any]] = {"user": train.users, "item": train.items, "pair": train.rows}
    known = [name for table in tables.values() if table for name in table.names("numeric")]
    for name in columns:
        if name not in known:
            hint = did_you_mean(name, known) or f"the numbers are {', '.join(known) or 'none'}"
            raise RecipeError(f"model.columns.{name}: there is no column {name!r} of numbers", hint=hint)
    found: list[Field] = []

    def base() -> int:
        return found[-1].base + found[-1].size if found else 1

    for source, ids in (("user", train.data.users), ("item", train.data.items)):
        counts = np.bincount(rows[source], minlength=len(ids))
        frequent = tuple(map(str, ids.take(np.flatnonzero(counts >= min_count))))
        found.append(Field(source, source, "categorical", base(), frequent))  # type: ignore[arg-type]  # literals
    for source, table in tables.items():
        if table is None:
            continue
        weights = np.bincount(rows[source], minlength=len(table)).astype(np.float64)
        for name in table.names("categorical", "token_seq"):
            values = _frequent(table.table.column(name), weights, min_count)
            found.append(Field(name, source, table.kinds[name], base(), values))  # type: ignore[arg-type]  # literals
        for name in table.names("numeric"):
            column = table.table.column(name).to_numpy().astype(np.float64)
            fitted = _scale(column, weights, columns.get(name, numbers))
            found.append(Field(name, source, "numeric", base(), **fitted))  # type: ignore[arg-type]  # literals
    return tuple(found)


def signed_log(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """log(1 + |x|) with the sign of x: for counts and prices, whose tails are long."""
    logs: npt.NDArray[np.float64] = np.sign(numbers) * np.log1p(np.abs(numbers))
    return logs


def _frequent(column: pa.ChunkedArray, weights: npt.NDArray[np.float64], min_count: int) -> tuple[str, ...]:
    """The values that enough pairs have, ascending."""
    rows, values = flat(column)
    encoded = values.dictionary_encode()
    kept = encoded.indices.is_valid().to_numpy(zero_copy_only=False)
    codes = encoded.indices.fill_null(0).to_numpy()
    counts = np.bincount(codes[kept], weights[rows][kept], minlength=len(encoded.dictionary))
    frequent: list[str] = encoded.dictionary.filter(pa.array(counts >= min_count)).to_pylist()
    return tuple(sorted(frequent))


def flat(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """The values of a column of texts, or of lists of them, and the row that each is from."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # no chunk at all, or too much text for one
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], whole.type)
    if not pa.types.is_list(whole.type):
        return np.arange(len(whole)), whole
    lengths = whole.value_lengths().fill_null(0).to_numpy()
    return np.repeat(np.arange(len(whole)), lengths), whole.flatten()


def _scale(column: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], how: Numbers) -> dict[str, Any]:
    """How a number is read, from the training pairs' distribution."""
    kept = np.isfinite(column) & (weights > 0)
    values, weights = column[kept], weights[kept]
    if how == "buckets":
        order = np.argsort(values, kind="stable")
        shares = np.cumsum(weights[order]) / max(1.0, weights.sum())
        cuts = np.searchsorted(shares, np.arange(1, BUCKETS) / BUCKETS)
        return {"edges": tuple(np.unique(values[order][cuts]).tolist() if len(values) else ())}
    if how == "log":
        values = signed_log(values)
    mean = float(np.average(values, weights=weights)) if len(values) else 0.0
    variance = float(np.average((values - mean) ** 2, weights=weights)) if len(values) else 0.0
    return {"log": how == "log", "mean": mean, "deviation": variance**0.5 or 1.0}  # a constant becomes zeros
