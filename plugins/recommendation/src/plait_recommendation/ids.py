"""Which number stands for which user or item, and back?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from plait.errors import DataError

Codes = npt.NDArray[np.int32]

UNKNOWN = -1
"""The code of an id that the map does not hold."""


class IdMap:
    """Ids of one kind (users, items) by code: text or integers, each once, ascending. It knows no interactions.

    Codes are positions in the order of ids (integers, and text that is all decimal, by number; other text by code
    point), so that a tie broken by code is a tie broken by id, whatever order a file had. An integer asked of a map of
    texts means its decimal text, and the reverse: a CSV's "42" and JSON's 42 are one user. Other types are unknown.

    Args:
        ids: [n], int64 or string, without nulls or repeats.
    """

    __slots__ = ("_codes", "ids")

    def __init__(self, ids: pa.Array) -> None:
        self.ids = ids
        self._codes: dict[str | int, int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_text(self) -> bool:
        """Whether ids are text; else they are integers."""
        return bool(pa.types.is_string(self.ids.type))

    def code(self, id_: object) -> int:
        """The code of an id, or `UNKNOWN`."""
        if self._codes is None:
            self._codes = {each: code for code, each in enumerate(self.ids.to_pylist())}
        if isinstance(id_, np.integer):
            id_ = int(id_)
        if isinstance(id_, bool) or not isinstance(id_, str | int):
            return UNKNOWN
        if self.is_text:
            return self._codes.get(str(id_), UNKNOWN)
        if isinstance(id_, str):
            return self._codes.get(int(id_), UNKNOWN) if id_.isascii() and id_.isdecimal() else UNKNOWN
        return self._codes.get(id_, UNKNOWN)

    def codes(self, ids: pa.Array | pa.ChunkedArray) -> Codes:
        """The codes of many ids, `UNKNOWN` where the map lacks one, int32 [len(ids)]."""
        column = ids.cast(self.ids.type) if ids.type != self.ids.type else ids
        found = pc.index_in(column, value_set=self.ids)
        return np.asarray(pc.fill_null(found, UNKNOWN).to_numpy(), np.int32)

    def id(self, code: int) -> str | int:
        """The id of a code."""
        found: str | int = self.ids[int(code)].as_py()
        return found

    def take(self, codes: Sequence[int] | npt.NDArray[Any]) -> list[str | int]:
        """The ids of codes, in order."""
        found: list[str | int] = self.ids.take(pa.array(codes, pa.int64())).to_pylist()
        return found

    def only(self, kept: npt.NDArray[np.bool_]) -> tuple[IdMap, Codes]:
        """The map of the ids that are kept [n], and each old code's new one (`UNKNOWN` for what is left out)."""
        renumbered = np.where(kept, np.cumsum(kept) - 1, UNKNOWN).astype(np.int32)
        return IdMap(self.ids.filter(pa.array(kept))), renumbered

    def as_json(self) -> list[str | int]:
        """The ids in the order of their codes; JSON keeps text and integers apart."""
        ids: list[str | int] = self.ids.to_pylist()
        return ids

    @classmethod
    def from_json(cls, ids: Sequence[str | int]) -> IdMap:
        """The map that `as_json` described."""
        text = bool(ids) and isinstance(ids[0], str)
        return cls(pa.array(ids, pa.string() if text or not ids else pa.int64()))


def encode(column: pa.ChunkedArray, *, name: str) -> tuple[IdMap, Codes]:
    """The map of a column's ids, and the code of each row, int32 [rows].

    Args:
        name: what the column is, for messages: "user".

    Raises:
        DataError: ids are neither text nor whole numbers.
    """
    column = _as_ids(column, name)
    encoded = column.dictionary_encode().unify_dictionaries()
    chunks = encoded.chunks
    if not chunks:
        return IdMap(pa.array([], pa.string())), np.zeros(0, np.int32)
    ids = chunks[0].dictionary
    order = _order(ids)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return IdMap(ids.take(pa.array(order))), np.concatenate([rank[each.indices.to_numpy()] for each in chunks])


def _as_ids(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_string(kind):
        return column
    if pa.types.is_integer(kind):
        return column.cast(pa.int64())
    if pa.types.is_floating(kind):  # a pandas column of integers that once had a gap
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise DataError(f"{name} ids must be text or whole numbers: {error}") from error
    raise DataError(f"{name} ids must be text or integers, not {kind}", hint=f"name another column: data.fields.{name}")


def _order(ids: pa.Array) -> npt.NDArray[np.int64]:
    """The ascending order of distinct ids: by number where all are decimal, else by code point."""
    if pa.types.is_string(ids.type) and len(ids) and pc.all(pc.ascii_is_decimal(ids)).as_py():
        keys = [("length", "ascending"), ("id", "ascending")]  # "9" before "10"; "007" is not 7 and stays apart
        table = pa.table({"id": ids, "length": pc.utf8_length(ids)})
        return np.asarray(pc.sort_indices(table, sort_keys=keys).to_numpy(), np.int64)
    return np.asarray(pc.sort_indices(ids).to_numpy(), np.int64)
