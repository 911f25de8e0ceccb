"""Which tasks, models and data sets of texts with a target does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, PortSpec, TaskSpec

CLASSIFICATION = "nlp/text-classification"
MULTI_LABEL = "nlp/multi-label-classification"
REGRESSION = "nlp/text-regression"
_CODE = "plait_nlp.text_classification"
_MODELS = ("nlp/linear", "nlp/bag-of-embeddings", "nlp/frozen-encoder", "transformers/*")

TASKS = [
    TaskSpec(
        name=CLASSIFICATION,
        summary="Sort texts, or pairs of texts, into classes",
        target=f"{_CODE}.task:TextClassification",
        accepts={"text": "text", "pair": "text"},
        optional=("pair",),
        returns={"label": "label"},
        primary_metric=Metric("accuracy", True),
        models=_MODELS,
        default_model="nlp/linear",
        baselines=("nlp/linear",),
        demo_data="locale-names",
    ),
    TaskSpec(
        name=MULTI_LABEL,
        summary="Give texts, or pairs of texts, any number of labels",
        target=f"{_CODE}.task:MultiLabelClassification",
        accepts={"text": "text", "pair": "text"},
        optional=("pair",),
        returns={"labels": "labels"},
        primary_metric=Metric("f1_micro", True),
        models=_MODELS,
        default_model="nlp/linear",
        baselines=("nlp/linear",),
        demo_data="synthetic-topics",
    ),
    TaskSpec(
        name=REGRESSION,
        summary="Give a number to a text, or to a pair of texts: how alike they are",
        target=f"{_CODE}.task:TextRegression",
        accepts={"text": "text", "pair": "text"},
        optional=("pair",),
        returns={"value": "number"},
        primary_metric=Metric("spearman", True),
        models=_MODELS,
        default_model="nlp/linear",
        baselines=("nlp/linear",),
        demo_data="synthetic-similarity",
    ),
]
MODELS = [
    ModelSpec(
        name="nlp/linear",
        summary="Logistic (ridge) regression on n-grams, naive Bayes or tf-idf weighted: the baseline of every report",
        target=f"{_CODE}.linear:LinearModel",
        tasks=(CLASSIFICATION, MULTI_LABEL, REGRESSION),
        trainer="iterative",
    ),
    ModelSpec(
        name="nlp/bag-of-embeddings",
        summary="The mean of word and word-pair vectors, and a linear layer (fastText)",
        target=f"{_CODE}.bag:BagOfEmbeddings",
        tasks=(CLASSIFICATION, MULTI_LABEL, REGRESSION),
        trainer="gradient",
        conformance=({"model.width": 16, "model.buckets": 256, "trainer.learning_rate": 0.03},),
        defaults={"trainer.learning_rate": 0.003, "trainer.epochs": 8, "trainer.batch_size": 64},
    ),
    ModelSpec(
        name="nlp/frozen-encoder",
        summary="Logistic (ridge) regression on the vectors of a local encoder that stays as it is (all-MiniLM-L6-v2)",
        target=f"{_CODE}.frozen:FrozenEncoder",
        tasks=(CLASSIFICATION, MULTI_LABEL, REGRESSION),
        trainer="iterative",
        requires="plait-nlp[minilm]",
        early="plait_nlp.architectures.directory:check_encoder",
    ),
]
DATASETS = [
    DatasetSpec(
        name="locale-names",
        summary="Names of countries, languages and currencies in twelve languages (CLDR, as babel ships it)",
        target="plait_nlp.demo_data:locale_names",
        tasks=(CLASSIFICATION,),
        license="Unicode License v3 (CLDR)",
    ),
    DatasetSpec(
        name="synthetic-topics",
        summary="600 made-up sentences on one to three of five topics",
        target="plait_nlp.demo_data:synthetic_topics",
        tasks=(MULTI_LABEL,),
        synthetic=True,
        license="Apache-2.0 (generated)",
    ),
    DatasetSpec(
        name="synthetic-similarity",
        summary="600 made-up pairs of sentences with the share of meaning that they have in common, 0 to 5",
        target="plait_nlp.demo_data:synthetic_similarity",
        tasks=(REGRESSION,),
        synthetic=True,
        license="Apache-2.0 (generated)",
    ),
]
PORTS = [PortSpec(name="labels", summary="Names of classes, any number of them.")]
