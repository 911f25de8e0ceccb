"""Which options do the ranking tasks have?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from plait_recommendation.options import InteractionOptions


class RankingOptions(InteractionOptions):
    """The recipe's `data` block of the ranking tasks."""

    split: Literal["auto", "leave-last-out", "global-time", "random", "users", "given"] = "auto"
    """leave-last-out: each user's last event is test, the last but one valid; global-time: the newest events are test;
    random: events are drawn by the seed; users: some users are held out as a whole and judged by fold-in; given: as
    the data say. auto: given where the data name splits, else leave-last-out with times, random without."""
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Under global-time and random the part of the events that are not test which becomes valid (of users, under
    users); 0: no valid. leave-last-out does not use it."""
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    """The part of the events (of users, under users) that becomes test."""
    split_seed: int | None = Field(default=None, ge=0, lt=2**32)
    """Of what splitting draws; None: the run's seed. One that is fixed lets runs of several seeds be compared."""
    least_rating: float | None = None
    """Only events with this rating or more count as liked; the others are left out, and counted. None: all count."""
    mask_seen: bool = True
    """Never recommend what is in the history; targets that are in it are left out, and counted."""
    refit: bool = True
    """Fit closed-form and alternating models once more on train and valid before test is judged and the model saved."""
    cutoffs: tuple[int, ...] = (10, 20)
    """The k of NDCG@k and all other metrics; 10 is among them, and the largest is how many items a prediction has."""

    @field_validator("cutoffs")
    @classmethod
    def _with_ten(cls, cutoffs: tuple[int, ...]) -> tuple[int, ...]:
        if 10 not in cutoffs or min(cutoffs) < 1:
            raise ValueError(f"{list(cutoffs)}: expected whole numbers from 1 on, 10 among them (ndcg@10 is primary)")
        return tuple(sorted(set(cutoffs)))
