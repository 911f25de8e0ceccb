"""Which pairs does a source hold, with which targets, and how are they divided?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from plait.data import carve, limit
from plait.errors import DataError, InputError, did_you_mean
from plait.task import Problem, Splits
from plait_recommendation.features import FeatureTable, Kind, typed
from plait_recommendation.interactions import InteractionData
from plait_recommendation.options import InteractionOptions
from plait_recommendation.pairs import Pair, Pairs, Targets
from plait_recommendation.ranking.splitting import TEST, TRAIN, VALID, Division
from plait_recommendation.reading import PARTS, read_interactions
from plait_recommendation.wording import counted

READ: tuple[Kind, ...] = ("categorical", "numeric", "token_seq")
"""The kinds of columns that networks on pairs read; texts and embeddings they leave out, with a note."""


class PairOptions(InteractionOptions):
    """The recipe's `data` block for tasks that judge one user and one item at a time."""

    split: Literal["random", "global-time", "leave-last-out"] = "random"
    """How pairs are divided where the data name no splits: drawn by the seed; the newest of all; each user's last."""
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """The part of what is not test that becomes `valid` (not under leave-last-out); 0: no valid."""
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    """The part of all pairs that becomes `test` (not under leave-last-out); 0: no test."""
    ignore: tuple[str, ...] = ()
    """Columns that are left out: what is known only after the event, or identifies it."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a task makes of the events that were read.

    Args:
        targets: float32 [events]; NaN: the event is left out.
        used: columns of the events that the targets are made of; no model may read them.
        notes: what a reader must know.
    """

    targets: Targets
    used: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_pairs(
    source: Any,
    options: PairOptions,
    *,
    seed: int,
    problem: Problem | None,
    label: Callable[[InteractionData], Labelled],
    classes: bool,
    refit: bool = False,
) -> Splits:
    """Read, label and divide the pairs of a source; see `read_interactions` for what a source may be.

    Args:
        problem: of a trained run: columns keep its kinds, and what it lacks is left out.
        label: makes targets of events.
        classes: whether `data.limit` keeps each target's share.
        refit: whether models without gradients are fitted once more, on train and valid, before test.

    Raises:
        DataError: names file, line, column and what was expected.
    """
    kinds = {name: kind for table in (problem or {"columns": {}})["columns"].values() for name, kind in table.items()}
    options = options.model_copy(update={"kinds": {**kinds, **options.kinds}})
    data = read_interactions(source, options, seed=seed, columns=None)
    labelled = label(data)
    context, data, notes = _columns(data, labelled, options, problem)
    parts, said = _divided(data, options, seed)
    parts = np.where(np.isnan(labelled.targets), -1, parts)
    splits: dict[str, Pairs] = {}
    for code, name in ((TRAIN, "train"), (VALID, "valid"), (TEST, "test")):
        rows = np.flatnonzero(parts == code)
        if not len(rows):
            continue
        rows = rows[np.argsort(data.interactions.rows[rows], kind="stable")]  # as in the source, not by user
        targets = labelled.targets[rows]
        kept = limit(targets if classes else len(rows), most=options.limit, seed=seed)
        splits[name] = Pairs(data, rows[kept], targets[kept], context=context)
    if problem is None and "train" not in splits:
        raise DataError("no pairs are left to train on", hint="lower data.test_fraction, or give more data")
    again = None
    if refit and set(splits) == {"train", "valid", "test"}:
        rows, targets = (np.concatenate([getattr(splits[name], part) for name in ("train", "valid")]) for part in
                         ("rows", "targets"))  # fmt: skip
        again = Pairs(data, rows, targets, context=context)
    index = [pa.table({"id": pairs.ids(), "split": [name] * len(pairs)}) for name, pairs in splits.items()]
    return Splits(
        **splits, refit=again, fingerprint=data.fingerprint, index=pa.concat_tables(index),
        notes=(*data.notes, *labelled.notes, *notes, *said),
    )  # fmt: skip


def columns_of(pairs: Pairs) -> dict[str, dict[str, str]]:
    """The kinds of columns beside the ids, by whose they are: "user", "item", "pair"."""
    tables = {"user": pairs.data.user_features, "item": pairs.data.item_features, "pair": pairs.context}
    return {source: dict(table.kinds) if table else {} for source, table in tables.items()}


def protocol(options: PairOptions, data: InteractionData, seed: int) -> dict[str, Any]:
    """What every number must be read with: how pairs were divided and filtered, and by which seed."""
    return {
        "split": "given" if data.parts is not None else options.split, "valid_fraction": options.valid_fraction,
        "test_fraction": options.test_fraction, "min_user_events": options.min_user_events,
        "min_item_events": options.min_item_events, "duplicates": options.duplicates, "seed": seed,
    }  # fmt: skip


def said(protocol: Mapping[str, Any]) -> str:
    """The protocol in words."""
    return (
        f"Split {protocol['split']}, users with at least {protocol['min_user_events']} and items with at least "
        f"{protocol['min_item_events']} events, repeated pairs: {protocol['duplicates']}, seed {protocol['seed']}."
    )


def parse_pair(inputs: Mapping[str, Any], problem: Problem) -> Pair:
    """A pair from the port `row`: a mapping, or the text of a JSON object; other columns are left out.

    Raises:
        InputError: no user or item, or a column that is none but nearly one.
    """
    row = inputs["row"]
    if isinstance(row, str):
        row = _object(row)
    if not isinstance(row, Mapping):
        raise InputError(f"row: {type(row).__name__}, expected a mapping with user, item and what is known of them")
    columns = {name: kind for table in problem["columns"].values() for name, kind in table.items()}
    absent = [name for name in ("user", "item", *columns) if name not in row]
    for name in row:
        if name not in columns and name not in ("user", "item") and (hint := did_you_mean(str(name), absent)):
            raise InputError(f"row: there is no column {str(name)!r}", hint=hint)
    for name in ("user", "item"):
        if isinstance(row.get(name), bool) or not isinstance(row.get(name), str | int):
            raise InputError(f"row: {name!r} is {row.get(name)!r}, expected an id: a text or an integer")
    return Pair(
        {name: _cell(name, row[name], columns.get(name, "id")) for name in row if name in (*columns, "user", "item")}
    )


def _object(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"row: not JSON: {error}", hint='write {"user": 3, "item": 5}') from error


def _cell(name: str, value: Any, kind: str) -> Any:
    """A value of a row as its column's kind has it; None and "" are unknown."""
    if kind == "id" or value is None:
        return value
    if kind == "numeric":
        try:
            return None if value == "" else float(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"row: {name!r} is {value!r}, expected a number") from error
    if kind == "token_seq":
        if isinstance(value, str):
            return value.split()
        if isinstance(value, list | tuple):
            return [str(each) for each in value]
        raise InputError(f"row: {name!r} is {value!r}, expected a list of texts")
    if isinstance(value, Mapping | list | tuple):
        raise InputError(f"row: {name!r} is {value!r}, expected one value")
    return str(value) if value != "" else None


def _columns(
    data: InteractionData, labelled: Labelled, options: PairOptions, problem: Problem | None
) -> tuple[FeatureTable | None, InteractionData, list[str]]:
    """What models may read: of each event, and of users and items."""
    table, notes = data.interactions.features, []
    context = None
    if table is not None:
        names = [name for name in table.column_names if name not in labelled.used]
        context = typed(table.select(names), options.kinds, where="the interactions") if names else None
    tables = {"pair": context, "user": data.user_features, "item": data.item_features}
    every = [name for features in tables.values() if features for name in features.kinds]
    for name in options.ignore:
        if name not in every:
            raise DataError(f"data.ignore: there is no column {name!r}", hint=did_you_mean(name, every))
    repeated = sorted({name for name in every if every.count(name) > 1 or name in ("user", "item")})
    if repeated:
        raise DataError(
            f"more than one of the tables of interactions, users and items has a column {', '.join(repeated)}",
            hint="rename it in one of them, or leave it out of all with data.ignore",
        )
    made = {}
    for source, features in tables.items():
        wanted = set(problem["columns"][source]) if problem else None
        made[source], left = _readable(features, options.ignore, wanted)
        if left:
            notes.append(f"columns of texts or embeddings, which models of pairs do not read: {', '.join(left)}")
    if problem:
        there = {name for features in made.values() if features for name in features.kinds}
        absent = [name for kinds in problem["columns"].values() for name in kinds if name not in there]
        if absent:
            notes.append(
                f"columns of the trained run that these data lack, and that count as unknown: {', '.join(absent)}"
            )
    return made["pair"], replace(data, user_features=made["user"], item_features=made["item"]), notes


def _readable(
    features: FeatureTable | None, ignored: tuple[str, ...], wanted: set[str] | None
) -> tuple[FeatureTable | None, list[str]]:
    if features is None:
        return None, []
    kept = [name for name in features.names(*READ) if name not in ignored and (wanted is None or name in wanted)]
    left = [name for name in features.kinds if name not in kept and name not in ignored and wanted is None]
    made = FeatureTable(features.table.select(kept), {name: features.kinds[name] for name in kept}) if kept else None
    return made, left


def _divided(data: InteractionData, options: PairOptions, seed: int) -> tuple[npt.NDArray[np.int8], list[str]]:
    if data.parts is None:
        division = Division(
            how=options.split, valid_fraction=options.valid_fraction, test_fraction=options.test_fraction, seed=seed
        )
        return division.divide(data)
    parts = data.parts.copy()
    train = np.flatnonzero(parts == PARTS.index("train"))
    if not (parts == VALID).any() and len(train) and options.valid_fraction:
        parts[train[carve(len(train), fraction=options.valid_fraction, seed=seed)[1]]] = VALID
        return parts, [f"valid: {counted(int((parts == VALID).sum()), 'pair', 'pairs')} drawn from train"]
    return parts, []
