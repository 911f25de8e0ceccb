"""Which task, models and data set of sentence vectors does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, TaskSpec

EMBEDDING = "nlp/sentence-embedding"
_CODE = "plait_nlp.sentence_embedding"

TASKS = [
    TaskSpec(
        name=EMBEDDING,
        summary="Give texts vectors by which those that belong together are found",
        target=f"{_CODE}.task:SentenceEmbedding",
        accepts={"text": "text"},
        returns={"embedding": "embedding"},
        primary_metric=Metric("mrr", True),
        models=("transformers/*", "nlp/encoder", "nlp/hashed-tfidf"),
        default_model="transformers/bert",
        baselines=("nlp/hashed-tfidf",),
        demo_data="synthetic-questions",
    )
]
MODELS = [
    ModelSpec(
        name="nlp/encoder",
        summary="Vectors of a local encoder as it is, such as all-MiniLM-L6-v2 from its wheel; it only predicts",
        target=f"{_CODE}.models:EncoderModel",
        tasks=(EMBEDDING,),
        trainer=None,
        requires="plait-nlp[minilm]",
        early="plait_nlp.architectures.directory:check_encoder",
    ),
    ModelSpec(
        name="nlp/hashed-tfidf",
        summary="Words and character trigrams, weighted by tf-idf and hashed: what learned vectors must beat",
        target=f"{_CODE}.models:HashedTfidf",
        tasks=(EMBEDDING,),
        trainer="iterative",
        conformance=({"model.width": 512},),
    ),
]
DATASETS = [
    DatasetSpec(
        name="synthetic-questions",
        summary="600 made-up questions and their answers, which share a name and a topic in other words",
        target="plait_nlp.demo_data:synthetic_questions",
        tasks=(EMBEDDING,),
        synthetic=True,
        license="Apache-2.0 (generated)",
    )
]
