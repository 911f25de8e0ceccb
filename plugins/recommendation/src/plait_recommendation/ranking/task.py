"""What is learned: which items somebody will want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from plait.errors import DataError, InputError, did_you_mean
from plait.options import DataOptions
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_recommendation.ids import UNKNOWN, Codes, IdMap
from plait_recommendation.interactions import InteractionData
from plait_recommendation.ranking.cases import EMPTY, Case, Ranking, RankingTrain
from plait_recommendation.ranking.evaluation import RankingEvaluator
from plait_recommendation.ranking.options import RankingOptions
from plait_recommendation.ranking.splitting import Division, How, make_splits
from plait_recommendation.reading import read_interactions

_ASKING = 'ask with {"user": id}, {"history": [ids]} or {"item": id}'


class RankingTask(Task):
    """Items in order of preference, for a user, a history or an item. It knows no model.

    Examples to judge are `Case`, those to learn from `UserHistory`, predictions `Ranking`. Both tasks that use it,
    top-n and next-item, read, split and judge alike; they differ in what their models make of the order of events.
    """

    Options: ClassVar[type[DataOptions]] = RankingOptions

    options: RankingOptions

    def __init__(self, *, options: DataOptions, seed: int) -> None:
        super().__init__(options=options, seed=seed)
        self._maps: tuple[Problem | None, IdMap, IdMap] = (None, IdMap.from_json([]), IdMap.from_json([]))

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read interactions and divide them; see `open_source` for what a source may be.

        With a trained run's problem, data that are one test part as a whole are judged by fold-in: the history of each
        user there is what they did before the events to be found.

        Raises:
            DataError: names file, line, column and what was expected; or says that nothing is left, and why.
        """
        users, items = (None, None) if problem is None else self._ids(problem)
        options = self.options
        data = read_interactions(
            source, options, seed=self._split_seed, users=users, items=items, most_users=options.limit,
            least_rating=options.least_rating,
        )  # fmt: skip
        if len(data.items) < 2:
            raise DataError("the catalogue has one item: there is nothing to rank", hint="; ".join(data.notes) or None)
        return make_splits(data, self._division(data))

    @property
    def _split_seed(self) -> int:
        return self.seed if self.options.split_seed is None else self.options.split_seed

    def _division(self, data: InteractionData) -> Division:
        options = self.options
        how: How
        if data.parts is not None and (data.parts == 2).all():
            how = "held-out"
        elif options.split == "auto":
            by_time = "leave-last-out" if data.interactions.times is not None else "random"
            how = "given" if data.parts is not None else by_time  # type: ignore[assignment]  # two of its members
        else:
            how = options.split
        return Division(
            how=how, valid_fraction=options.valid_fraction, test_fraction=options.test_fraction, seed=self._split_seed,
            mask_seen=options.mask_seen, refit=options.refit,
        )  # fmt: skip

    def problem(self, splits: Splits) -> Problem:
        """{"items", "users": ids by code, "counts": training events of each item, "cutoffs": k of the metrics,
        "protocol": how the data were filtered, divided and masked, for whoever reads a number}."""
        train = splits.train
        if not isinstance(train, RankingTrain):
            raise DataError("no training events: the catalogue is not known", hint="give data with a train part")
        options = self.options
        how = train.how
        fractions = {"test": options.test_fraction, "valid": options.valid_fraction}
        protocol = {
            "split": how if how in ("leave-last-out", "given") else f"{how}, {fractions}, seed {self._split_seed}",
            "filtering": f"users with {options.min_user_events} events or more, items with {options.min_item_events}"
            + ("" if options.least_rating is None else f", ratings of {options.least_rating:g} or more"),
            "candidates": f"all {len(train.items):,} items",
            "masking": "items of the history are not recommended" if options.mask_seen else "nothing is masked",
            "ties": "equal scores by id, equal times by the order of the file",
            "refit": "closed-form and alternating models on train and valid" if splits.refit is not None else "none",
            "seed": self.seed,
        }
        return {
            "items": train.items.as_json(), "users": train.users.as_json(),
            "counts": train.interactions.item_counts().tolist(), "cutoffs": list(options.cutoffs), "protocol": protocol,
        }  # fmt: skip

    def evaluator(self, problem: Problem, split: Split) -> RankingEvaluator:
        return RankingEvaluator(problem["counts"], cutoffs=problem["cutoffs"], protocol=problem["protocol"])

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Case:
        """A question: `user` (an id), `history` (ids in the order of time) or both, or `item` (an id, for items like
        it); with `n` items (default: the largest cutoff), only those `allowed`, none of those `excluded` (ids), and
        `explain` reasons for each (default: none).

        Unknown ids are no error: the answer says what they are and what it is made from instead.

        Raises:
            InputError: nothing to answer for, or a value of the wrong type.
        """
        known = ("user", "history", "item", "n", "allowed", "excluded", "explain")
        for name in inputs:
            if name not in known:
                raise InputError(f"there is no input {name!r}", hint=did_you_mean(name, known) or _ASKING)
        given = {name: value for name, value in inputs.items() if value is not None}
        if not {"user", "history", "item"} & set(given):
            raise InputError("neither a user, nor a history, nor an item", hint=_ASKING)
        if "item" in given and {"user", "history"} & set(given):
            raise InputError("items like an item, or items for a user: not both", hint=_ASKING)
        users, items = self._ids(problem)
        notes: list[str] = []
        for name in ("user", "item"):
            if name in given and (isinstance(given[name], bool) or not isinstance(given[name], str | int)):
                raise InputError(f"{name!r} must be an id (text or an integer), not {given[name]!r:.60}")
        user, item = UNKNOWN, None
        if "user" in given:
            user = users.code(given["user"])
            if user == UNKNOWN:
                notes.append(f"user {given['user']!r} is not known")
        history = _codes(given["history"], "history", items, notes) if "history" in given else None
        if "item" in given:
            code = items.code(given["item"])
            if code == UNKNOWN:
                notes.append(f"item {given['item']!r} is not known: what most users chose instead")
                history = EMPTY
            else:
                item = code
        elif (user == UNKNOWN and history is None) or (history is not None and not len(history)):
            history = EMPTY
            notes.append("nothing is known of the user: what most users chose")
        return Case(
            user, history, id=str(given.get("user", given.get("item", ""))), item=item, n=_count(given, "n"),
            explain=_count(given, "explain") or 0,
            allowed=_codes(given["allowed"], "allowed", items, notes) if "allowed" in given else None,
            excluded=_codes(given.get("excluded", ()), "excluded", items, notes), mask_seen=self.options.mask_seen,
            notes=tuple(notes),
        )  # fmt: skip

    def present(self, prediction: Ranking, problem: Problem) -> Prediction:
        """Item ids, best first: a list; or, where there is something to say beside it, {"items", "notes", "reasons"}.
        `scores` holds each item's; output `ranking` is the list of ids."""
        items = self._ids(problem)[1]
        ids = items.take(prediction.items)
        scores = {str(each): float(score) for each, score in zip(ids, prediction.scores, strict=True)}
        shown: Any = ids
        if prediction.notes or prediction.reasons:
            shown = {"items": ids}
            if prediction.notes:
                shown["notes"] = list(prediction.notes)
            if prediction.reasons:
                shown["reasons"] = [
                    [{"item": items.id(code), "weight": weight} for code, weight in each] for each in prediction.reasons
                ]
        return Prediction(prediction=shown, scores=scores, outputs={"ranking": ids})

    def _ids(self, problem: Problem) -> tuple[IdMap, IdMap]:
        """The maps of a problem, made once."""
        if self._maps[0] is not problem:
            self._maps = (problem, IdMap.from_json(problem["users"]), IdMap.from_json(problem["items"]))
        return self._maps[1:]


def _codes(ids: Any, name: str, items: IdMap, notes: list[str]) -> Codes:
    """The codes of item ids that are known; the others are told."""
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Sequence | np.ndarray):
        raise InputError(f"{name!r} must be a list of item ids, not {ids!r:.60}", hint=f'{{"{name}": ["a", "b"]}}')
    wrong = [each for each in ids if isinstance(each, bool) or not isinstance(each, str | int | np.integer)]
    if wrong:
        raise InputError(f"{name!r} holds {wrong[0]!r:.60}, which is no item id (text or an integer)")
    codes = np.array([items.code(each) for each in ids], np.int32)
    if unknown := [each for each, code in zip(ids, codes, strict=True) if code == UNKNOWN]:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        notes.append(f"{name}: items that are not known: {', '.join(repr(each) for each in unknown[:5])}{more}")
    kept: Codes = codes[codes != UNKNOWN]
    return kept


def _count(given: Mapping[str, Any], name: str) -> int | None:
    if name not in given:
        return None
    count = given[name]
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"{name!r} must be a whole number from 1 on, not {count!r:.60}")
    return count
