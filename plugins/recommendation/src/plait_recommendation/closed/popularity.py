"""What did most users choose? The least that a recommender must beat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from plait.engine.base import Engine
from plait.model import IterativeModel, Progress, State
from plait.options import ModelOptions
from plait.task import Problem, Split
from plait_recommendation.ids import Codes
from plait_recommendation.interactions import Lists
from plait_recommendation.ranking.cases import Case, RankingTrain
from plait_recommendation.ranking.queries import Memory
from plait_recommendation.ranking.recommending import recommend
from plait_recommendation.ranking.topk import Rankings


class Popularity(IterativeModel):
    """Items by how many users have chosen them, the same for everybody but for what is masked. It knows no taste.

    One step; a user's repeated events with an item count once.
    """

    Options: ClassVar[type[ModelOptions]] = ModelOptions
    memory: Memory

    def __init__(self, *, options: Any, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.scores = torch.zeros(0)

    @classmethod
    def create(cls, *, options: Any, problem: Problem, train: Split | None, seed: int) -> Self:
        return cls(options=options, problem=problem)

    def start(self, data: Split, engine: Engine) -> State:
        self.memory = remembered(data, engine)
        return State({})

    def step(self, data: Split, state: State, engine: Engine) -> tuple[State, Progress]:
        from plait_recommendation.closed.matrices import binary

        users = binary(self.memory.histories, len(self.problem["items"])).sum(axis=0)
        scores = torch.from_numpy(users.astype("float32")).reshape(-1)
        return State({"scores": scores}), Progress({}, converged=True)

    def finish(self, state: State) -> None:
        self.scores = state.tensors["scores"]

    def predict(self, examples: Sequence[Case]) -> Rankings:
        return recommend(self, examples, self.problem)

    def score(self, histories: Lists) -> Tensor:
        return self.scores.repeat(len(histories), 1)

    def similar(self, items: Codes) -> Tensor:
        return self.scores.repeat(len(items), 1)

    def weigh(self, history: Codes, items: Codes) -> None:
        return None

    def save(self, directory: Path) -> None:
        from plait.weights import save_tensors

        save_tensors({"scores": self.scores}, directory / "model.safetensors")
        self.memory.save(directory)

    @classmethod
    def load(cls, directory: Path, *, options: Any, problem: Problem) -> Self:
        from plait.weights import load_tensors

        model = cls(options=options, problem=problem)
        model.scores = load_tensors(directory / "model.safetensors")["scores"]
        model.memory = Memory.load(directory)
        return model


def remembered(data: Split, engine: Engine) -> Memory:
    """The memory of a training split.

    Raises:
        EngineError: there are several processes: closed forms need all interactions in one.
        TypeError: the split holds no interactions.
    """
    from plait.errors import EngineError

    if engine.world_size > 1:
        raise EngineError("this model needs all interactions in one process", hint="set engine.processes=1")
    if not isinstance(data, RankingTrain):
        raise TypeError(f"{type(data).__name__} has no interactions; this model serves tasks that give a RankingTrain")
    return Memory.of(data.interactions)
