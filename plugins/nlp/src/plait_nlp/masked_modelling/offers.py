"""Which task, model and data set of hidden words does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, TaskSpec

MASKED = "nlp/masked-language-modelling"
_CODE = "plait_nlp.masked_modelling"

TASKS = [
    TaskSpec(
        name=MASKED,
        summary="Tell words that are hidden in a text, and perhaps whether a text follows another: BERT's pre-training",
        target=f"{_CODE}.task:MaskedLanguageModelling",
        accepts={"text": "text", "pair": "text"},
        optional=("pair",),
        returns={"text": "text"},
        primary_metric=Metric("bits_per_byte", False),
        models=("transformers/*", "nlp/unigram"),
        default_model="transformers/bert",
        baselines=("nlp/unigram",),
        demo_data="synthetic-stories",
    )
]
MODELS = [
    ModelSpec(
        name="nlp/unigram",
        summary="How frequent a word is, whatever is around it: what a model of hidden words must beat",
        target=f"{_CODE}.unigram:Unigram",
        tasks=(MASKED,),
        trainer="iterative",
    )
]
DATASETS = [
    DatasetSpec(
        name="synthetic-stories",
        summary="300 made-up stories of six sentences: who is where, and what they eat there",
        target="plait_nlp.demo_data:synthetic_stories",
        tasks=(MASKED,),
        synthetic=True,
        license="Apache-2.0 (generated)",
    )
]
