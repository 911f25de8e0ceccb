"""Which interactions does a source hold, once checked, filtered and numbered?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from plait.data import fingerprint, limit
from plait.errors import DataError
from plait_recommendation.features import FeatureTable, typed
from plait_recommendation.filtering import Counted, core, repeats
from plait_recommendation.ids import UNKNOWN, Codes, IdMap, encode
from plait_recommendation.interactions import InteractionData, Interactions
from plait_recommendation.options import InteractionOptions
from plait_recommendation.sources import SUPPORTED, Source, open_source, read_features
from plait_recommendation.wording import counted

PARTS = ("train", "valid", "test")
_MEND = "give it a value or remove the row"


@dataclass(slots=True)
class _Columns:
    """Rows in the order of the source, not filtered yet; filters shorten all columns alike."""

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]
    ratings: npt.NDArray[np.float32] | None
    times: npt.NDArray[Any] | None
    parts: npt.NDArray[np.int8] | None

    def keep(self, kept: npt.NDArray[np.bool_]) -> int:
        """Keep some rows; how many others there were."""
        left = len(kept) - int(np.count_nonzero(kept))
        if left:
            for name in ("users", "items", "rows", "ratings", "times", "parts"):
                column = getattr(self, name)
                setattr(self, name, None if column is None else column[kept])
        return left


def read_interactions(
    source: Any,
    options: InteractionOptions,
    *,
    seed: int = 0,
    items: IdMap | None = None,
    users: IdMap | None = None,
    columns: Sequence[str] | None = (),
    most_users: int | None = None,
    least_rating: float | None = None,
) -> InteractionData:
    """Read, check, filter and number the interactions of a source; every row that is left out is counted in the notes.

    Args:
        source: see `plait_recommendation.sources.open_source`.
        items, users: a trained run's maps: its item codes are kept, events with other items are left out and counted;
            users keep codes of the source's own, beside the run's in `known_users`.
        columns: further columns of the interactions to keep as `features`; None: all.
        most_users: keep the events of at most so many users, drawn by the seed.
        least_rating: leave out events with a lower rating.

    Raises:
        DataError: names file, line, column and what was expected; or says that nothing is left, and why.
    """
    if source is None:
        raise DataError("no data are given", hint=f"data.source: {SUPPORTED}")
    opened = open_source(source, fields=options.fields, columns=columns)
    only_test = set(opened) == {"test"}
    table, first = _joined(opened)
    notes: list[str] = []
    user_map, user_codes = encode(table.column("user"), name="user")
    own_items, item_codes = encode(table.column("item"), name="item")
    _require_ids(user_map, user_codes, "user", first)
    _require_ids(own_items, item_codes, "item", first)
    item_map, item_codes = _item_codes(own_items, item_codes, items, notes)
    rows = _Columns(
        user_codes, item_codes, np.arange(len(table)), _ratings(table), _times(table, first), _parts(opened)
    )  # fmt: skip
    hashed = _fingerprint(rows, user_map, item_map)
    total = len(table)
    known = rows.items != UNKNOWN
    if unknown := rows.keep(known):
        notes.append(
            f"{unknown:,} of {counted(total, 'event', 'events')} with items unknown to the trained run: left out"
        )
    _settle_faults(rows, first, options, notes)
    _note_future(rows, notes)
    if least_rating is not None:
        if rows.ratings is None:
            raise DataError(
                f"data.least_rating={least_rating:g}, and {first.name} has no rating",
                hint="name the column: data.fields.rating=COLUMN",
            )
        left = rows.keep(rows.ratings >= np.float32(least_rating))
        notes.append(f"{counted(left, 'event is', 'events are')} rated below {least_rating:g}: left out")
    if most_users is not None:
        present = np.unique(rows.users)
        drawn = present[limit(len(present), most=most_users, seed=seed)]
        chosen = np.zeros(len(user_map), bool)
        chosen[drawn] = True
        if left := rows.keep(chosen[rows.users]):
            notes.append(
                f"data.limit: {len(drawn):,} of {counted(len(present), 'user', 'users')} drawn; "
                f"{counted(left, 'event', 'events')} left out"
            )
    keep, count = repeats(rows.users, rows.items, rows.times, which=options.duplicates)
    rows.keep(keep)
    if count:
        done = "kept" if options.duplicates == "keep" else f"only the {options.duplicates} of each pair kept"
        notes.append(
            f"{counted(count, 'event repeats', 'events repeat')} an earlier one of the same user and item: {done}"
        )
    if not only_test:
        found = core(rows.users, rows.items, options.min_user_events, options.min_item_events)
        rows.keep(found.kept)
        notes += _core_notes(found, options)
    if not len(rows.users):
        raise DataError(f"{first.name}: no interactions are left of {total:,}", hint="; ".join(notes) or None)
    return _numbered(rows, table, opened, user_map, item_map, users, items is not None, options, hashed, notes)


def _joined(opened: dict[str, Source]) -> tuple[pa.Table, Source]:
    """All parts one after the other, and a source that says where a row of it is."""
    first = next(iter(opened.values()))
    if len(opened) == 1:
        table = first.interactions
    else:
        try:
            table = pa.concat_tables([each.interactions for each in opened.values()], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"the splits' columns do not go together: {error}") from error
    if not len(table):
        raise DataError(f"{first.name}: no interactions: the table has no rows")
    ends = np.cumsum([len(each.interactions) for each in opened.values()])

    def where(row: int) -> str:
        part = int(np.searchsorted(ends, row, side="right"))
        own = list(opened.values())[part]
        return own.where(row - (int(ends[part]) - len(own.interactions)))

    joined = replace(first, where=where)
    for name in ("user", "item"):
        missing = pc.is_null(table.column(name), nan_is_null=True)
        if pc.any(missing).as_py():
            at = np.flatnonzero(missing.to_numpy())
            more = f"; {len(at) - 1} more such rows" if len(at) > 1 else ""
            raise DataError(f"{where(int(at[0]))}: {name!r} has no value (null or NaN){more}", hint=_MEND)
    return table, joined


def _require_ids(ids: IdMap, codes: Codes, name: str, first: Source) -> None:
    """Refuse empty texts: a cell that nobody filled in is no id."""
    if len(ids) and ids.id(0) == "":  # the empty text stands before all others
        at = np.flatnonzero(codes == 0)
        more = f"; {len(at) - 1:,} more such rows" if len(at) > 1 else ""
        raise DataError(f"{first.where(int(at[0]))}: {name!r} is empty{more}", hint=_MEND)


def _item_codes(own: IdMap, codes: Codes, items: IdMap | None, notes: list[str]) -> tuple[IdMap, Codes]:
    """The trained run's map where there is one, else the source's own, and the codes in it."""
    if items is None:
        return own, codes
    if own.is_text != items.is_text:  # 42 and "42" are one item, as in `IdMap.code`
        try:
            return items, items.codes(own.ids.cast(items.ids.type))[codes]
        except pa.ArrowInvalid:
            notes.append("items are text here and integers in the trained run")
            return items, np.array([items.code(each) for each in own.as_json()], np.int32)[codes]
    return items, items.codes(own.ids)[codes]


def _ratings(table: pa.Table) -> npt.NDArray[np.float32] | None:
    if "rating" not in table.column_names:
        return None
    column = table.column("rating")
    try:
        numbers = pc.cast(column, pa.float32(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"'rating' is {column.type}; expected numbers: {error}") from error
    return np.asarray(numbers.to_numpy(), np.float32)  # null is NaN


def _times(table: pa.Table, first: Source) -> npt.NDArray[Any] | None:
    """Times as numbers: integers, floats, or text of either or of ISO 8601 (then microseconds since 1970)."""
    if "timestamp" not in table.column_names:
        return None
    column = table.column("timestamp")
    for type_ in (pa.int64(), pa.float64(), pa.timestamp("us")):
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        try:
            found = column.cast(type_)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        if pa.types.is_timestamp(type_):
            found = found.cast(pa.int64())
        missing = pc.is_null(found, nan_is_null=True)
        if pc.any(missing).as_py():
            row = int(np.flatnonzero(missing.to_numpy())[0])
            raise DataError(
                f"{first.where(row)}: 'timestamp' has no value", hint="give it one, or leave the column out"
            )
        return np.asarray(found.to_numpy())
    raise DataError(
        f"{first.name}: 'timestamp' is {column.type}, such as {column[0].as_py()!r}; expected numbers or ISO 8601",
        hint="write seconds since 1970, or 2024-05-01T12:00:00",
    )


def _parts(opened: dict[str, Source]) -> npt.NDArray[np.int8] | None:
    if set(opened) == {""}:
        return None
    codes = [PARTS.index(name) for name in opened]
    return np.repeat(np.array(codes, np.int8), [len(each.interactions) for each in opened.values()])


def _fingerprint(rows: _Columns, users: IdMap, items: IdMap) -> str:
    columns = (rows.users, rows.items, rows.ratings, rows.times, rows.parts)
    ids = (fingerprint(users.as_json()), fingerprint(items.as_json()))
    return fingerprint([*ids, *(b"" if each is None else np.ascontiguousarray(each).tobytes() for each in columns)])


def _settle_faults(rows: _Columns, first: Source, options: InteractionOptions, notes: list[str]) -> None:
    """Ratings that are no finite number stop the reading, or are left out and counted."""
    if rows.ratings is None:
        return
    good = np.isfinite(rows.ratings)
    if good.all():
        return
    bad, where = int((~good).sum()), first.where(int(rows.rows[np.argmin(good)]))
    if options.on_error == "stop":
        raise DataError(
            f"{where}: 'rating' is not a finite number; {bad:,} of {counted(len(good), 'event', 'events')} so",
            hint="mend or remove them, or leave them out with data.on_error=skip",
            details={"rows": bad, "field": "rating"},
        )
    rows.keep(good)
    notes.append(f"skipped {counted(bad, 'event', 'events')} whose rating is not a finite number; the first: {where}")


_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (np.inf, 1e9))  # below this bound, so many ticks are a second


def _note_future(rows: _Columns, notes: list[str]) -> None:
    """Times of plausible units (since 1970, seconds to nanoseconds) that lie in the future: kept, and counted."""
    if rows.times is None or not len(rows.times):
        return
    ticks = next(per for bound, per in _UNITS if np.median(rows.times) < bound)
    tomorrow = (time.time() + 86_400) * ticks  # a day of grace for time zones
    if ahead := int((rows.times > tomorrow).sum()):
        notes.append(
            f"{counted(ahead, 'event lies', 'events lie')} in the future (the latest at {rows.times.max()}): "
            "kept as they are"
        )


def _core_notes(found: Counted, options: InteractionOptions) -> list[str]:
    if options.min_user_events == options.min_item_events == 1:
        return []
    return [
        f"{options.min_user_events}-core of users and {options.min_item_events}-core of items: left out "
        f"{counted(found.users, 'user', 'users')}, {counted(found.items, 'item', 'items')}, "
        f"{counted(found.events, 'event', 'events')} in {counted(found.rounds, 'round', 'rounds')}"
    ]


def _numbered(
    rows: _Columns, table: pa.Table, opened: dict[str, Source], users: IdMap, items: IdMap,
    run_users: IdMap | None, fixed_items: bool, options: InteractionOptions, hashed: str, notes: list[str],
) -> InteractionData:  # fmt: skip
    """Codes without gaps, columns by user and time, features in the order of codes."""
    users, renumbered = users.only(np.bincount(rows.users, minlength=len(users)) > 0)
    user_codes, item_codes = renumbered[rows.users], rows.items
    if not fixed_items:
        items, renumbered = items.only(np.bincount(rows.items, minlength=len(items)) > 0)
        item_codes = renumbered[rows.items]
    further = [name for name in table.column_names if name not in ("user", "item", "rating", "timestamp")]
    features = table.select(further).take(pa.array(rows.rows)) if further else None
    made = Interactions.of(
        user_codes, item_codes, user_count=len(users), item_count=len(items), ratings=rows.ratings, times=rows.times,
        features=features,
    )  # fmt: skip
    tables = {}
    for key, ids, given in (("item", items, options.items), ("user", users, options.users)):
        tables[key] = _features(key, ids, given, list(opened.values()), options, notes)
    return InteractionData(
        interactions=made if len(rows.rows) == len(table) else replace(made, rows=rows.rows[made.rows]),
        users=users, items=items, user_features=tables["user"], item_features=tables["item"],
        known_users=None if run_users is None else _known(users, run_users),
        parts=None if rows.parts is None else rows.parts[made.rows], fingerprint=hashed, notes=tuple(notes),
    )  # fmt: skip


def _known(own: IdMap, trained: IdMap) -> npt.NDArray[np.int32]:
    if own.is_text == trained.is_text:
        return trained.codes(own.ids)
    return np.array([trained.code(each) for each in own.as_json()], np.int32)


def _features(
    key: str, ids: IdMap, given: str | None, sources: Sequence[Source], options: InteractionOptions, notes: list[str]
) -> FeatureTable | None:
    """The table of items or users with one row a code."""
    kinds: dict[str, str] = {}
    table = None
    for source in sources:
        kinds |= source.kinds
        table = table if table is not None else source.items if key == "item" else source.users
    where = f"the table of {key}s"
    if given is not None:
        table, stated = read_features(Path(given), key)
        kinds |= stated
        where = given
    if table is None:
        return None
    own, codes = encode(table.column(key), name=key)
    if len(own) < len(table):
        twice = own.id(int(np.argmax(np.bincount(codes))))
        raise DataError(
            f"{where}: {len(table) - len(own)} rows repeat an id, such as {twice!r}", hint="keep one of each"
        )
    position = np.full(len(own) + 1, UNKNOWN, np.int64)
    position[codes] = np.arange(len(codes))
    found = position[_known(ids, own)]  # UNKNOWN asks for the last, which is UNKNOWN
    missing, unused = int((found == UNKNOWN).sum()), len(own) - int((found != UNKNOWN).sum())
    if missing:
        notes.append(f"{missing:,} of {len(ids):,} {key}s have no row in {where}: their features are unknown")
    if unused:
        notes.append(f"{counted(unused, 'row', 'rows')} of {where} without an event of the {key}: not used")
    columns = table.drop_columns([key])
    return typed(columns.take(pa.array(found, mask=found == UNKNOWN)), {**kinds, **options.kinds}, where=where)
