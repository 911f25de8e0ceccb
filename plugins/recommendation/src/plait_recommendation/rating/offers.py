"""Which task and models of rating prediction does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import Metric, ModelSpec, TaskSpec

RATINGS = "recommendation/rating"

RATING_TASK = TaskSpec(
    name=RATINGS,
    summary="Predict the rating that a user gives an item",
    target="plait_recommendation.rating.task:RatingPrediction",
    accepts={"row": "row"},
    returns={"rating": "number"},
    primary_metric=Metric("rmse", False),
    models=("recommendation/biased-mf", "recommendation/bias"),
    default_model="recommendation/biased-mf",
    baselines=("recommendation/bias",),
    demo_data="synthetic-interactions",
)

RATING_MODELS = (
    ModelSpec(
        name="recommendation/bias",
        summary="The mean and damped biases of user and item, in closed form",
        target="plait_recommendation.rating.bias:Bias",
        tasks=(RATINGS,),
        trainer="iterative",
        conformance=({"data.limit": 1000},),
    ),
    ModelSpec(
        name="recommendation/biased-mf",
        summary="Biases and a product of two vectors by alternating least squares (Koren et al. 2009)",
        target="plait_recommendation.rating.factors:BiasedFactors",
        tasks=(RATINGS,),
        trainer="iterative",
        conformance=({"data.limit": 1000, "model.dimension": 4},),
        defaults={"trainer.iterations": 30, "trainer.save_every": 10},
    ),
)
