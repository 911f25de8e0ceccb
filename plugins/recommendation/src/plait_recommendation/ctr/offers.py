"""Which task, models and data set of click prediction does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, TaskSpec

CLICKS = "recommendation/ctr"

_TINY = {"model.min_count": 1, "trainer.learning_rate": 0.03, "data.limit": 512, "trainer.batch_size": 64}
_DEEP_TINY = {**_TINY, "model.dimension": 4, "model.hidden": [8], "trainer.learning_rate": 0.02}
_FIT = {
    "trainer.batch_size": 512, "trainer.evaluation_batch_size": 4096, "trainer.epochs": 40, "trainer.patience": 10,
    "trainer.schedule": "constant", "trainer.clip": None, "trainer.log_every": 50,
}  # fmt: skip
_VECTORS = {**_FIT, "trainer.learning_rate": 0.005, "trainer.weight_decay": 0.3, "trainer.average": 0.995}

CLICK_TASK = TaskSpec(
    name=CLICKS,
    summary="Predict how probable a click (or a like) is, from user, item and features",
    target="plait_recommendation.ctr.task:ClickPrediction",
    accepts={"row": "row"},
    returns={"probability": "number"},
    primary_metric=Metric("auc", True),
    models=(
        "recommendation/deepfm", "recommendation/dcn-v2", "recommendation/dlrm",
        "recommendation/factorization-machine", "recommendation/logistic-regression", "recommendation/click-rates",
    ),
    default_model="recommendation/deepfm",
    baselines=("recommendation/click-rates",),
    demo_data="synthetic-clicks",
)  # fmt: skip

CLICK_MODELS = (
    ModelSpec(
        name="recommendation/click-rates",
        summary="The damped rates of clicks of user and item, in closed form: what a click model has to beat",
        target="plait_recommendation.ctr.rates:ClickRates",
        tasks=(CLICKS,), trainer="iterative", conformance=({"data.limit": 512},),
    ),
    ModelSpec(
        name="recommendation/logistic-regression",
        summary="A weight for each value: the linear baseline of click prediction",
        target="plait_recommendation.ctr.models:LogisticRegressionModel",
        tasks=(CLICKS,), trainer="gradient", conformance=({**_TINY, "trainer.learning_rate": 0.1},),
        defaults={**_FIT, "trainer.learning_rate": 0.01, "trainer.weight_decay": 0.01},
    ),
    ModelSpec(
        name="recommendation/factorization-machine",
        summary="Products of two vectors for each pair of values (Rendle 2010)",
        target="plait_recommendation.ctr.models:FactorizationMachineModel",
        tasks=(CLICKS,), trainer="gradient",
        conformance=({**_TINY, "model.dimension": 4}, {**_TINY, "model.numbers": "buckets"}),
        defaults=_VECTORS,
    ),
    ModelSpec(
        name="recommendation/deepfm",
        summary="A factorization machine and a perceptron on the same vectors (Guo et al. 2017)",
        target="plait_recommendation.ctr.models:DeepFmModel",
        tasks=(CLICKS,), trainer="gradient", conformance=(_DEEP_TINY,),
        defaults=_VECTORS,
    ),
    ModelSpec(
        name="recommendation/dcn-v2",
        summary="Cross layers, which multiply features, beside a perceptron (Wang et al. 2021)",
        target="plait_recommendation.ctr.models:DeepCrossModel",
        tasks=(CLICKS,), trainer="gradient",
        conformance=(_DEEP_TINY, {**_DEEP_TINY, "model.rank": 2, "model.structure": "stacked"}),
        defaults=_VECTORS,
    ),
    ModelSpec(
        name="recommendation/dlrm",
        summary="Numbers and categories as vectors, their products, a perceptron (Naumov et al. 2019)",
        target="plait_recommendation.ctr.models:DlrmModel",
        tasks=(CLICKS,), trainer="gradient", conformance=(_DEEP_TINY,),
        defaults=_VECTORS,
    ),
)  # fmt: skip

CLICK_DATA = DatasetSpec(
    name="synthetic-clicks",
    summary="Generated impressions with interactions of known order, and a known best AUC",
    target="plait_recommendation.ctr.demo_data:synthetic_clicks",
    tasks=(CLICKS,),
    synthetic=True,
    license="Apache-2.0 (generated)",
)
