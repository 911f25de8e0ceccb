"""Which task, model and data set of text generation does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import DatasetSpec, ModelSpec, TaskSpec

GENERATION = "nlp/text-generation"

TASKS = [
    TaskSpec(
        name=GENERATION,
        summary="Continue a prompt with a causal language model: greedy, drawn, or by beam search",
        target="plait_nlp.generation.task:TextGeneration",
        accepts={"prompt": "text"},
        returns={"text": "text"},
        models=("nlp/generator",),
        demo_data="synthetic-prompts",
    )
]
MODELS = [
    ModelSpec(
        name="nlp/generator",
        summary="A run of nlp/causal-language-modelling (model.from=RUN) or a directory of transformers that generates",
        target="plait_nlp.generation.model:Generator",
        tasks=(GENERATION,),
        trainer=None,
        early="plait_nlp.generation.early:check_block",
        conformance=({"model.max_tokens": 20, "model.stop": ["\n"]}, {"model.max_tokens": 8, "model.beam": 3}),
    )
]
DATASETS = [
    DatasetSpec(
        name="synthetic-prompts",
        summary="Six beginnings of names",
        target="plait_nlp.generation.demo:prompts",
        tasks=(GENERATION,),
        synthetic=True,
        license="Apache-2.0 (made up)",
    )
]
