"""Which options does every task on interactions share?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from plait.options import PATH, DataOptions
from plait_recommendation.features import Kind


class InteractionOptions(DataOptions):
    """The recipe's `data` block, as far as every task on interactions has it."""

    items: str | None = Field(default=None, json_schema_extra=PATH)
    """A table of items: a column item (or item_id) and features."""
    users: str | None = Field(default=None, json_schema_extra=PATH)
    """A table of users: a column user (or user_id) and features."""
    kinds: dict[str, Kind] = Field(default_factory=dict)
    """What feature columns are where their types do not say it: {"title": "text", "year": "numeric"}. Text cells are
    categorical unless this says otherwise."""
    duplicates: Literal["keep", "first", "last"] = "keep"
    """What becomes of further events of one user with one item: keep, or only the first or the last in time."""
    min_user_events: int = Field(default=1, ge=1)
    """Users with fewer events are left out, and counted; repeated with min_item_events until both hold (k-core)."""
    min_item_events: int = Field(default=1, ge=1)
    """Items with fewer events are left out, and counted."""
