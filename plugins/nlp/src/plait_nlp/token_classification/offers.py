"""Which task, models and data set of words with tags does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, TaskSpec

TAGGING = "nlp/token-classification"
_CODE = "plait_nlp.token_classification"

TASKS = [
    TaskSpec(
        name=TAGGING,
        summary="Find names in texts, and of what they are: people, places, products",
        target=f"{_CODE}.task:TokenClassification",
        accepts={"text": "text"},
        returns={"entities": "entities"},
        primary_metric=Metric("f1", True),
        models=("nlp/bilstm-crf", "nlp/majority-tag", "transformers/*"),
        default_model="nlp/bilstm-crf",
        baselines=("nlp/majority-tag",),
        demo_data="synthetic-entities",
    ),
]
MODELS = [
    ModelSpec(
        name="nlp/bilstm-crf",
        summary="Word, letter and shape vectors, a recurrent layer both ways and a CRF, trained from nothing",
        target=f"{_CODE}.bilstm:BilstmCrf",
        tasks=(TAGGING,),
        trainer="gradient",
        conformance=(
            {
                "model.words": 16,
                "model.letters": 8,
                "model.filters": 8,
                "model.hidden": 16,
                "model.dropout": 0.1,
                "trainer.learning_rate": 0.02,
            },
        ),
        defaults={"trainer.learning_rate": 0.003, "trainer.epochs": 12, "trainer.batch_size": 16},
    ),
    ModelSpec(
        name="nlp/majority-tag",
        summary="Each word's most frequent tag: the baseline that a tagger must beat",
        target=f"{_CODE}.majority:MajorityTag",
        tasks=(TAGGING,),
        trainer="iterative",
    ),
]
DATASETS = [
    DatasetSpec(
        name="synthetic-entities",
        summary="600 made-up sentences with people, places and firms, whose names are new in the test part",
        target="plait_nlp.demo_data:synthetic_entities",
        tasks=(TAGGING,),
        synthetic=True,
        license="Apache-2.0 (generated)",
    ),
]
