"""Which visits does a two-tower model learn from, and what does it know at each?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from plait.errors import IntegrityError
from plait.model import Batch, Key, Processor
from plait_recommendation.interactions import Lists
from plait_recommendation.padding import first_targets, recent
from plait_recommendation.ranking.cases import Case, RankingTrain
from plait_recommendation.ranking.queries import Memory, Queries
from plait_recommendation.retrieval.features import Encoded, Vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """One event to learn from: what was chosen after what.

    Args:
        user: code.
        place: of the event among all, so that the user's earlier ones lie before it.
        histories: everybody's.
    """

    user: int
    place: int
    histories: Lists


class Visits(Sequence[Visit]):
    """Events as columns: what an epoch visits, one by one or a batch at a time.

    Args:
        histories: everybody's events, in the order of time.
        places: of the events, int64 [visits].
        users: codes, [visits].
    """

    in_memory = True

    def __init__(self, histories: Lists, places: npt.NDArray[np.int64], users: npt.NDArray[Any]) -> None:
        self.histories, self.places, self.users = histories, places, users

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Visits(self.histories, self.places[index], self.users[index])
        return Visit(int(self.users[index]), int(self.places[index]), self.histories)

    def take(self, indices: Sequence[int]) -> Visits:
        """The visits at `indices`, still as columns."""
        rows = np.asarray(indices, np.int64)
        return Visits(self.histories, self.places[rows], self.users[rows])

    @classmethod
    def of(cls, visits: Sequence[Visit]) -> Visits:
        """Visits as columns, however they are given."""
        if isinstance(visits, Visits):
            return visits
        places, users = (np.array([getattr(each, name) for each in visits], np.int64) for name in ("place", "user"))
        return cls(visits[0].histories, places, users)

    def before(self, length: int) -> Lists:
        """What each user did before, at most the last `length` items, one list a visit."""
        starts = np.maximum(self.histories.indptr[self.users], self.places - length)
        sizes = self.places - starts
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], sizes)
        return Lists(indptr, self.histories.items[np.repeat(starts, sizes) + within])


@dataclass(kw_only=True)
class TowerProcessor(Processor):
    """The preprocessing of a two-tower model: which words and numbers it knows. It knows no network.

    Args:
        length: how many of the last items of a history count.
        user_words, item_words: what is known of feature columns.
        memory: what each user of the training did; kept beside the JSON, as are the next two.
        users, items: the encoded feature tables, one row a code.
    """

    length: int
    user_words: Vocabulary
    item_words: Vocabulary
    memory: Memory | None = None
    users: Encoded = field(default_factory=lambda: Encoded.nothing(0))
    items: Encoded = field(default_factory=lambda: Encoded.nothing(0))

    @classmethod
    def fit(cls, train: RankingTrain, *, length: int) -> Self:
        """Vocabularies of the feature tables, and what is known of everybody."""
        words = (Vocabulary.fit(table) for table in (train.user_features, train.item_features))
        made = cls(length=length, user_words=next(words), item_words=next(words))
        made.remember(train)
        return made

    def remember(self, train: RankingTrain) -> None:
        """Keep what the training knows of users and items."""
        self.memory = Memory.of(train.interactions)
        self.users = self.user_words.encode(train.user_features, len(train.users))
        self.items = self.item_words.encode(train.item_features, len(train.items))

    def units(self, train: Any) -> Visits:
        """Every event, with the user's earlier ones. Every rank remembers who did what."""
        assert isinstance(train, RankingTrain)
        if self.memory is None:
            self.remember(train)
        return Visits(train.histories, np.arange(len(train.interactions)), train.interactions.users.astype(np.int64))

    def collate(self, examples: Sequence[Any], keys: Sequence[Key], *, training: bool) -> Batch:
        """Visits, or cases; both know a user and what they did before.

        Returns:
            "users", int64 [batch], -1 for one whom training has not seen; "history", int64 [batch, recent], -1 where
            there is none; "wanted", int64 [batch], what was chosen. Of cases: "like", int64 [batch], the item of an
            item-to-item question or -1; "wanted" where every case has a target.
        """
        if len(examples) and (isinstance(examples, Visits) or isinstance(examples[0], Visit)):
            visits = Visits.of(examples)
            history, _ = recent(visits.before(self.length), self.length, padding=-1)
            wanted = visits.histories.items[visits.places].astype(np.int64)
            arrays = {"users": visits.users.astype(np.int64), "history": history, "wanted": wanted}
            return Batch({name: torch.from_numpy(each) for name, each in arrays.items()}, len(visits), len(visits))
        return self._cases(examples)

    def _cases(self, cases: Sequence[Case]) -> Batch:
        queries = Queries.of(cases, self.memory)
        history, _ = recent(queries.histories, self.length, padding=-1)
        users = queries.users.astype(np.int64)
        arrays = {"users": users, "history": history, "like": queries.likes.astype(np.int64)}
        wanted = first_targets(cases)
        if wanted is not None:
            arrays["wanted"] = wanted
        tensors = {name: torch.from_numpy(each) for name, each in arrays.items()}
        return Batch(tensors, len(queries), len(queries), extra={"queries": queries})

    def as_json(self) -> dict[str, Any]:
        words = {"user_words": self.user_words.as_json(), "item_words": self.item_words.as_json()}
        return {"length": self.length, **words}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The processor that `as_json` described.

        Raises:
            IntegrityError: the state has unknown or missing fields.
        """
        try:
            users, items = (Vocabulary.from_json(state[name]) for name in ("user_words", "item_words"))
            return cls(length=int(state["length"]), user_words=users, item_words=items)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"processor.json does not describe a two-tower processor: {error}") from error

    def save(self, directory: Path) -> None:
        """Write what is not JSON."""
        if self.memory is not None:
            self.memory.save(directory)
            self.users.save(directory / "users.safetensors")
            self.items.save(directory / "items.safetensors")

    def read(self, directory: Path) -> None:
        """Take back what `save` wrote."""
        self.memory = Memory.load(directory)
        self.users = Encoded.load(directory / "users.safetensors")
        self.items = Encoded.load(directory / "items.safetensors")
