"""Which tasks, models and data sets of texts written for texts does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, TaskSpec

TRANSLATION = "nlp/translation"
SUMMARIZATION = "nlp/summarization"
_CODE = "plait_nlp.sequence_to_sequence"
_BOTH = (TRANSLATION, SUMMARIZATION)
_TINY = {
    "model.width": 32, "model.vocabulary": 400, "model.dropout": 0.1, "model.decoding": {"beam": 2, "max_length": 12},
    "trainer.learning_rate": 0.01,
}  # fmt: skip

TASKS = [
    TaskSpec(
        name=TRANSLATION,
        summary="Write a text in another language (parallel files, or pairs)",
        target=f"{_CODE}.task:Translation",
        accepts={"text": "text"},
        returns={"text": "text"},
        primary_metric=Metric("bleu", True),
        models=("nlp/seq2seq-gru", "nlp/seq2seq-transformer", "transformers/*", "nlp/word-dictionary", "nlp/copy"),
        default_model="nlp/seq2seq-gru",
        baselines=("nlp/copy", "nlp/word-dictionary"),
        demo_data="name-translations",
    ),
    TaskSpec(
        name=SUMMARIZATION,
        summary="Say in a short text what a long one says",
        target=f"{_CODE}.task:Summarization",
        accepts={"text": "text"},
        returns={"text": "text"},
        primary_metric=Metric("rougeL", True),
        models=("nlp/seq2seq-gru", "nlp/seq2seq-transformer", "transformers/*", "nlp/lead-1", "nlp/lead-3"),
        default_model="nlp/seq2seq-gru",
        baselines=("nlp/lead-1", "nlp/lead-3"),
        demo_data="synthetic-reports",
    ),
]
MODELS = [
    ModelSpec(
        name="nlp/seq2seq-gru",
        summary="Recurrent networks with attention, quick on a processor (Luong, Bahdanau)",
        target=f"{_CODE}.models:GruSequence",
        tasks=_BOTH,
        trainer="gradient",
        conformance=(_TINY,),
        defaults={"trainer.learning_rate": 0.003, "trainer.epochs": 20},
    ),
    ModelSpec(
        name="nlp/seq2seq-transformer",
        summary="A Transformer encoder-decoder (Vaswani et al.)",
        target=f"{_CODE}.models:TransformerSequence",
        tasks=_BOTH,
        trainer="gradient",
        conformance=({**_TINY, "model.layers": 1, "model.heads": 2, "model.intermediate": 64},),
        defaults={
            "trainer.learning_rate": 0.001,
            "trainer.epochs": 20,
            "trainer.warmup": 0.1,
        },
    ),
    ModelSpec(
        name="nlp/word-dictionary",
        summary="Word by word, with a dictionary learned by EM from the pairs (IBM model 1): a baseline",
        target=f"{_CODE}.dictionary:WordDictionary",
        tasks=(TRANSLATION,),
        trainer="iterative",
    ),
    ModelSpec(
        name="nlp/copy",
        summary="The text as it is: the baseline that a translation must beat",
        target=f"{_CODE}.baselines:Copy",
        tasks=(TRANSLATION,),
        trainer=None,
    ),
    *(
        ModelSpec(
            name=f"nlp/lead-{count}",
            summary=f"The first {'sentence' if count == 1 else f'{count} sentences'} of the text: a strong baseline",
            target=f"{_CODE}.baselines:Lead",
            tasks=(SUMMARIZATION,),
            trainer=None,
            defaults={"model.sentences": count},
        )
        for count in (1, 3)
    ),
]
DATASETS = [
    DatasetSpec(
        name="name-translations",
        summary="English names of languages, countries, scripts and currencies, and German ones (CLDR, by babel)",
        target=f"{_CODE}.demo_data:name_translations",
        tasks=(TRANSLATION,),
        license="Unicode License v3 (CLDR)",
    ),
    DatasetSpec(
        name="synthetic-reports",
        summary="600 made-up reports of a few sentences, each with a summary in one",
        target=f"{_CODE}.demo_data:synthetic_reports",
        tasks=(SUMMARIZATION,),
        synthetic=True,
        license="Apache-2.0 (generated)",
    ),
]
