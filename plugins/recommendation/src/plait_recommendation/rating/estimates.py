"""What do models by biases of user and item share: which of them are known, and estimates for pairs?"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from plait.engine.base import Engine
from plait.model import IterativeModel, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait.weights import load_tensors, save_tensors
from plait_recommendation.ids import UNKNOWN, Codes, IdMap
from plait_recommendation.pairs import Pairs


class Estimate(NamedTuple):
    """A predicted rating.

    Args:
        rating: in the data's unit.
        known_user, known_item: whether training has seen them; the rating of one that it has not rests on the mean
            and on what is known of the other.
    """

    rating: float
    known_user: bool
    known_item: bool


class RatingOptions(ModelOptions):
    """The recipe's `model` block, as far as every model of ratings has it."""

    clip: bool = True
    """Whether estimates beyond the ratings of training become the lowest or highest of them."""


class RatingModel(IterativeModel):
    """Ratings (or log odds of clicks) as a mean, a user's bias and an item's bias, and what a subclass adds. It knows
    no file.

    Args:
        users, items: the ids behind the data's codes; `user_known` and `item_known` of the state say of which of them
            the fit has seen ratings.
    """

    Options: ClassVar[type[ModelOptions]] = RatingOptions
    options: Any  # `RatingOptions`, or a subclass's own

    def __init__(self, *, options: Any, problem: Problem, users: IdMap, items: IdMap, seed: int) -> None:
        self.options, self.problem, self.seed = options, problem, seed
        self.users, self.items = users, items
        self.fitted: Mapping[str, Tensor] = {}
        self._looked_up: tuple[Any, Codes, Codes] | None = None

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        assert isinstance(train, Pairs)  # the task reads no data without training pairs
        return cls(options=options, problem=problem, users=train.data.users, items=train.data.items, seed=seed)

    def finish(self, state: State) -> None:
        self.fitted, self._looked_up = dict(state.tensors), None

    @abstractmethod
    def estimates(self, users: Codes, items: Codes) -> npt.NDArray[np.float64]:
        """Ratings before clipping [pairs]; -1 is a user or item that training has not seen."""

    def predict(self, examples: Sequence[Any]) -> Sequence[Any]:
        """`Estimate`s, where a subclass says nothing else."""
        users, items = self.codes(examples)
        ratings = self.estimates(users, items)
        if self.options.clip:
            ratings = np.clip(ratings, float(self.fitted["low"]), float(self.fitted["high"]))
        known = (codes != UNKNOWN for codes in (users, items))
        return [Estimate(*each) for each in zip(ratings.tolist(), *(mask.tolist() for mask in known), strict=True)]

    def columns(self, data: Split) -> tuple[Codes, Codes, Tensor]:
        """Codes of users and of items, and ratings float64, [pairs], of the training split or a part of it."""
        table = data.table(["user", "item", "target"])  # type: ignore[attr-defined]  # a columnar split, or a part
        ratings = torch.from_numpy(table["target"].to_numpy().astype(np.float64))
        return table["user"].to_numpy(), table["item"].to_numpy(), ratings

    def facts(self, data: Split, engine: Engine) -> dict[str, Tensor]:
        """What every fit begins with: the ratings' `mean`, `low` and `high` []; `user_known` [users] and `item_known`
        [items], 1 for those who have ratings; and biases of zero."""
        users, items, ratings = self.columns(data)
        totals = engine.reduce(torch.tensor([float(ratings.sum()), float(len(ratings))], dtype=torch.float64))
        none = torch.tensor([torch.inf], dtype=torch.float64)  # a process without ratings
        found = {
            "mean": totals[0] / totals[1],
            "low": engine.reduce(torch.cat([ratings, none]).min(), "min"),
            "high": -engine.reduce(torch.cat([-ratings, none]).min(), "min"),
        }
        for side, codes, ids in (("user", users, self.users), ("item", items, self.items)):
            counts = engine.reduce(torch.from_numpy(np.bincount(codes, minlength=len(ids)).astype(np.float64)))
            found |= {f"{side}_known": (counts > 0).double(), f"{side}_bias": torch.zeros_like(counts)}
        return found

    def biased(self, users: Codes, items: Codes) -> npt.NDArray[np.float64]:
        """Mean and biases, [pairs]; those of unknown users and items are zero."""
        total: npt.NDArray[np.float64] = float(self.fitted["mean"]) + rows_of(self.fitted["user_bias"], users)
        return total + rows_of(self.fitted["item_bias"], items)

    def codes(self, examples: Sequence[Any]) -> tuple[Codes, Codes]:
        """Codes of users and of items, int32 [pairs]; `UNKNOWN` for those that training has not seen."""
        if not isinstance(examples, Pairs):
            pairs = [(self.users.code(each.values["user"]), self.items.code(each.values["item"])) for each in examples]
            users, items = np.asarray(pairs, np.int32).reshape(-1, 2).T
            return self._rated("user", users), self._rated("item", items)
        if self._looked_up is None or self._looked_up[0] is not examples.data:  # once for all batches of a split
            data = examples.data
            users, items = _known(data.users, self.users), _known(data.items, self.items)
            self._looked_up = data, self._rated("user", users), self._rated("item", items)
        return self._looked_up[1][examples.users], self._looked_up[2][examples.items]

    def save(self, directory: Path) -> None:
        save_tensors(self.fitted, directory / "model.safetensors")
        state = {"users": self.users.as_json(), "items": self.items.as_json(), "seed": self.seed}
        (directory / "ratings.json").write_text(json.dumps(state), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        state = json.loads((directory / "ratings.json").read_text(encoding="utf-8"))
        state |= {name: IdMap.from_json(state[name]) for name in ("users", "items")}
        model = cls(options=options, problem=problem, **state)
        model.fitted = load_tensors(directory / "model.safetensors")
        return model

    def _rated(self, side: str, codes: Codes) -> Codes:
        """The codes, `UNKNOWN` for those without a rating in training."""
        known = self.fitted[f"{side}_known"].numpy() > 0
        return np.where(known[np.maximum(codes, 0)] & (codes >= 0), codes, np.int32(UNKNOWN))


def rows_of(table: Tensor, codes: Codes) -> npt.NDArray[np.float64]:
    """Rows of a fitted tensor, zeros for `UNKNOWN`, [pairs, ...]."""
    found: npt.NDArray[np.float64] = table.numpy()[np.maximum(codes, 0)]  # a copy
    found[codes == UNKNOWN] = 0
    return found


def _known(ids: IdMap, trained: IdMap) -> Codes:
    if ids.is_text == trained.is_text:
        return trained.codes(ids.ids)
    return np.array([trained.code(each) for each in ids.as_json()], np.int32)
