"""What is known of users, items and events beside their ids?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from plait.errors import DataError, did_you_mean

Kind = Literal["categorical", "numeric", "token_seq", "text", "embedding"]
"""categorical: one value of a few; numeric: a number; token_seq: several values ("Action Comedy" in text, or a list);
text: words to be read; embedding: a list of numbers of fixed length."""


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Columns with one row a code; a row is null where nothing is known. It does not know how a model encodes them.

    Args:
        table: [codes] rows: string (categorical, text), float64 (numeric), list<string> (token_seq),
            list<float32> (embedding).
        kinds: what each column is.
    """

    table: pa.Table
    kinds: Mapping[str, Kind]

    def __len__(self) -> int:
        rows: int = self.table.num_rows
        return rows

    def names(self, *kinds: Kind) -> list[str]:
        """The columns of these kinds."""
        return [name for name, kind in self.kinds.items() if kind in kinds]


def typed(table: pa.Table, kinds: Mapping[str, str], *, where: str) -> FeatureTable:
    """Columns as features: the kinds that are given, else what their types say (text is categorical).

    Args:
        kinds: by column; those of other tables are ignored.
        where: the file or table, for messages.

    Raises:
        DataError: a column's values are not of the kind that it is said to have.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    found: dict[str, Kind] = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = kinds.get(name) or _kind(column.type)
        if kind is None:
            raise DataError(f"{where}: column {name!r} is {column.type}, which is no feature", hint="leave it out")
        if kind not in get_args(Kind):
            hint = did_you_mean(kind, get_args(Kind)) or f"kinds are {', '.join(get_args(Kind))}"
            raise DataError(f"data.kinds.{name}: {kind!r} is no kind of feature", hint=hint)
        found[name] = kind  # type: ignore[assignment]  # looked up in the line above
        columns[name] = _cast(column, found[name], name, where)
    return FeatureTable(pa.table(columns), found)


def _kind(type_: pa.DataType) -> Kind | None:
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_boolean(type_):
        return "categorical"
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return "numeric"
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        inner = type_.value_type
        return "token_seq" if pa.types.is_string(inner) or pa.types.is_integer(inner) else "embedding"
    return None


def _cast(column: pa.ChunkedArray, kind: Kind, name: str, where: str) -> pa.ChunkedArray:
    wanted = {
        "categorical": pa.string(), "text": pa.string(), "numeric": pa.float64(),
        "token_seq": pa.list_(pa.string()), "embedding": pa.list_(pa.float32()),
    }[kind]  # fmt: skip
    if kind == "token_seq" and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        words = pc.ascii_split_whitespace(pc.ascii_trim_whitespace(column))
        column = pc.if_else(pc.equal(column, ""), pa.scalar([], pa.list_(column.type)), words)
    if kind in ("numeric", "categorical") and pa.types.is_string(column.type):
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)  # an empty cell is unknown
    try:
        cast = column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{where}: column {name!r} is {column.type}, which does not read as {kind}: {error}",
            hint=f"say what it is: data.kinds.{name}=categorical",
        ) from error
    if kind == "embedding":
        lengths = pc.unique(pc.list_value_length(cast).drop_null()).to_pylist()
        if len(lengths) > 1:
            raise DataError(f"{where}: embeddings in {name!r} have {len(lengths)} lengths: {sorted(lengths)[:5]}")
    return cast
