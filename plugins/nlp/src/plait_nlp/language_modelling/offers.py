"""Which tasks, models and data sets of language models does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, TaskSpec

CAUSAL = "nlp/causal-language-modelling"
_CODE = "plait_nlp.language_modelling"

TASKS = [
    TaskSpec(
        name=CAUSAL,
        summary="Predict a text from its beginning to its end: perplexity per token and per byte",
        target=f"{_CODE}.task:CausalLanguageModelling",
        accepts={"text": "text"},
        returns={"bits_per_byte": "number"},
        primary_metric=Metric("bits_per_byte", False),
        models=("nlp/gpt", "nlp/ngram", "transformers/*"),
        default_model="nlp/gpt",
        baselines=("nlp/ngram",),
        demo_data="place-names",
    )
]
MODELS = [
    ModelSpec(
        name="nlp/gpt",
        summary="A small GPT over characters, bytes or BPE, trained from scratch",
        target=f"{_CODE}.model:GptModel",
        tasks=(CAUSAL,),
        trainer="gradient",
        conformance=(
            {"model.width": 32, "model.layers": 2, "model.heads": 2, "model.length": 16, "trainer.learning_rate": 0.01},
            {
                "model.tokenizer": "bpe", "model.vocabulary": 300, "model.positions": "learned", "model.width": 32,
                "model.layers": 1, "model.heads": 1, "model.length": 16, "model.dropout": 0.1,
                "trainer.learning_rate": 0.01,
            },
        ),
        defaults={
            "trainer.learning_rate": 0.002, "trainer.epochs": 5, "trainer.batch_size": 32, "trainer.betas": [0.9, 0.95],
            "trainer.weight_decay": 0.1, "trainer.evaluation_batch_size": 16,
        },
    ),
    ModelSpec(
        name="nlp/ngram",
        summary="Witten-Bell interpolated character n-grams: the baseline of every report",
        target=f"{_CODE}.ngram:NgramModel",
        tasks=(CAUSAL,),
        trainer="iterative",
    ),
]  # fmt: skip
DATASETS = [
    DatasetSpec(
        name="place-names",
        summary="Names of countries, languages and currencies in twelve languages, each a text (CLDR, babel)",
        target="plait_nlp.language_modelling.demo:place_names",
        tasks=(CAUSAL,),
        license="Unicode License v3 (CLDR)",
    ),
]
