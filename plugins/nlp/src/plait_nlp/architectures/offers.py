"""Which tasks do the architectures of transformers serve, and with which tiny ones is that checked?"""

from __future__ import annotations

from collections.abc import Mapping

from plait_registry import ModelSpec

_TINY = {
    "model.hidden": 32, "model.layers": 1, "model.heads": 2, "model.intermediate": 64, "model.max_length": 32,
    "model.vocabulary": 400, "trainer.learning_rate": 0.003,
}  # fmt: skip
_VARIANTS = {
    "nlp/text-classification": ("bert", "distilbert", "gpt2", "t5"),
    "nlp/multi-label-classification": ("bert",),
    "nlp/text-regression": ("roberta",),
    "nlp/token-classification": ("bert", "gpt2"),
    "nlp/question-answering": ("bert", "roberta"),
    "nlp/sentence-embedding": ("bert",),
    "nlp/causal-language-modelling": ("gpt2", "llama"),
    "nlp/masked-language-modelling": ("bert", "roberta"),
    "nlp/translation": ("t5", "marian"),
    "nlp/summarization": ("bart",),
}
"""The architectures that the conformance suite trains for each task."""
_MORE: tuple[Mapping[str, object], ...] = (
    {"task": "nlp/masked-language-modelling", "model.name": "transformers/bert", "data.next_sentence": True},
)
"""Further ones, with settings of their own."""

TRANSFORMERS = ModelSpec(
    name="transformers/*",
    summary="Any architecture of transformers, built from sizes or from a local directory: transformers/bert",
    target="plait_nlp.architectures.network:TransformersModel",
    tasks=tuple(_VARIANTS),
    trainer="gradient",
    in_modality="nlp",
    early="plait_nlp.architectures.directory:check_block",
    conformance=(
        *(
            {"task": task, "model.name": f"transformers/{kind}", **_TINY}
            for task, kinds in _VARIANTS.items()
            for kind in kinds
        ),
        *({**_TINY, **each} for each in _MORE),
    ),
    # the trainer's own 1e-3 is for networks without attention; fine-tuning of a directory wants 2e-5 to 5e-5
    defaults={"trainer.learning_rate": 0.0005, "trainer.epochs": 5},
)
