"""Which impressions can be made up whose clicks depend on features in a known way?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait_recommendation.ctr.ranking_quality import weighted_auc
from plait_recommendation.sources import Source

SEGMENTS = ("casual", "family", "sports", "student", "tech", "travel")
CATEGORIES = ("books", "games", "garden", "music", "shoes", "tools")
DEVICES = ("desktop", "phone", "tablet", "tv")
IMPRESSIONS = 50_000
TAGS = ("classic", "gift", "light", "new", "sale", "small", "strong", "warm")


@dataclass(frozen=True, slots=True)
class Clicks:
    """Impressions, and the truth behind their clicks.

    Args:
        source: users with `segment` and `age`; items with `category`, `price` and `tags`; impressions with `device`,
            `label` (clicked or not) and `timestamp` (seconds).
        probability: of a click, for each impression, float64 [impressions].
    """

    source: Source
    probability: npt.NDArray[np.float64]

    @property
    def bayes_auc(self) -> float:
        """The AUC of the true probabilities, expected over clicks: no model's is higher, but by luck."""
        p = self.probability
        both = np.concatenate([p, p])
        classes = np.repeat([1.0, 0.0], len(p))
        return float(weighted_auc(both, classes, np.concatenate([p, 1 - p])[None])[0])


def synthetic_clicks() -> Source:
    """50,000 impressions of 400 users and 200 items: enough for a network to find an interaction of order 3."""
    return make_clicks(IMPRESSIONS).source


def make_clicks(impressions: int, *, users: int = 400, items: int = 200, seed: int = 0) -> Clicks:
    """Impressions whose log odds of a click are a sum of four parts.

    Order 1: each segment and each category has its weight. Order 2: a segment likes some tags. Order 3: half of the
    segments, categories and devices are "odd"; an odd number of odd ones is +1.2, an even number -1.2, so that no one
    and no two of the three tell anything: neither a weight for each value nor products of two vectors can say it. Not
    a product: the user's age is the nearer to the category's own age the better, by the absolute difference.
    """
    random = np.random.default_rng(seed)
    segment, age = random.integers(len(SEGMENTS), size=users), random.uniform(16, 70, users).round(1)
    category, price = random.integers(len(CATEGORIES), size=items), random.lognormal(3, 1, items).round(2)
    tagged = random.random((items, len(TAGS))) < 0.25
    by_segment, by_category = random.normal(0, 0.4, len(SEGMENTS)), random.normal(0, 0.4, len(CATEGORIES))
    likes = random.normal(0, 0.8, (len(SEGMENTS), len(TAGS)))
    fitting = random.permutation(np.linspace(20, 65, len(CATEGORIES)))
    user, item = random.integers(users, size=impressions), random.integers(items, size=impressions)
    device = random.integers(len(DEVICES), size=impressions)
    s, c = segment[user], category[item]
    odd = (s % 2 + c % 2 + device % 2) % 2
    mean_liking = (likes[s] * tagged[item]).sum(axis=1) / np.maximum(1, tagged[item].sum(axis=1))
    distance = np.abs(age[user] - fitting[c]) / 10
    log_odds = by_segment[s] + by_category[c] + mean_liking + 1.2 * (2 * odd - 1) - 0.7 * distance
    probability = 1 / (1 + np.exp(-log_odds))
    clicked = random.random(impressions) < probability
    tags = [[tag for tag, there in zip(TAGS, row, strict=True) if there] for row in tagged]
    source = Source(
        interactions=pa.table(
            {
                "user": user, "item": item, "label": clicked, "timestamp": 1_700_000_000 + 60 * np.arange(impressions),
                "device": _names(DEVICES, device),
            }
        ),
        users=pa.table({"user": np.arange(users), "segment": _names(SEGMENTS, segment), "age": age}),
        items=pa.table(
            {
                "item": np.arange(items), "category": _names(CATEGORIES, category), "price": price,
                "tags": pa.array(tags, pa.list_(pa.string())),
            }
        ),
        name="synthetic-clicks",
    )  # fmt: skip
    return Clicks(source, probability)


def _names(names: tuple[str, ...], codes: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(names).take(pa.array(codes))
