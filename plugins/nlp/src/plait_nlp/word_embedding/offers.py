"""Which task, models and data set of words' vectors does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, TaskSpec

WORDS = "nlp/word-embedding"
_CODE = "plait_nlp.word_embedding"

TASKS = [
    TaskSpec(
        name=WORDS,
        summary="Give words vectors by what stands around them: neighbours, analogies, features for others",
        target=f"{_CODE}.task:WordEmbedding",
        accepts={"text": "text"},
        returns={"embedding": "embedding"},
        primary_metric=Metric("gap_accuracy", True),
        models=("nlp/word2vec", "nlp/ppmi-svd"),
        default_model="nlp/word2vec",
        baselines=("nlp/ppmi-svd",),
        demo_data="synthetic-analogies",
    )
]
MODELS = [
    ModelSpec(
        name="nlp/word2vec",
        summary="Skip-gram or CBOW with negative sampling",
        target=f"{_CODE}.word2vec:Word2Vec",
        tasks=(WORDS,),
        trainer="gradient",
        conformance=(
            {
                "model.width": 16, "model.min_count": 1, "model.negatives": 1, "model.shared": 8,
                "trainer.learning_rate": 0.05,
            },
            {
                "model.kind": "cbow", "model.width": 16, "model.min_count": 1, "model.negatives": 1, "model.shared": 8,
                "trainer.learning_rate": 0.05,
            },
        ),
        # decay would wear the vectors of rare words away between their visits
        defaults={
            "trainer.learning_rate": 0.03, "trainer.weight_decay": 0.0, "trainer.schedule": "linear",
            "trainer.batch_size": 8,
        },
    ),
    ModelSpec(
        name="nlp/ppmi-svd",
        summary="Counts of neighbours as positive pointwise mutual information, and its singular vectors",
        target=f"{_CODE}.ppmi:PpmiSvd",
        tasks=(WORDS,),
        trainer="iterative",
        conformance=({"model.width": 16, "model.min_count": 1},),
    ),
]  # fmt: skip
DATASETS = [
    DatasetSpec(
        name="synthetic-analogies",
        summary="1,200 made-up texts on fourteen trades in three forms, with the analogies that hold between them",
        target="plait_nlp.demo_data:synthetic_analogies",
        tasks=(WORDS,),
        synthetic=True,
        license="Apache-2.0 (generated)",
    )
]
