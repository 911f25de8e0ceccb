"""Which task, models and data set of questions about texts does the plugin offer? It imports no implementation."""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, TaskSpec

ANSWERING = "nlp/question-answering"
_CODE = "plait_nlp.question_answering"

TASKS = [
    TaskSpec(
        name=ANSWERING,
        summary="Find the part of a text that answers a question, or say that there is none",
        target=f"{_CODE}.task:QuestionAnswering",
        accepts={"question": "text", "context": "text"},
        returns={"answer": "text"},
        primary_metric=Metric("f1", True),
        models=("nlp/sentence-overlap", "nlp/first-sentence", "transformers/*"),
        default_model="nlp/sentence-overlap",
        baselines=("nlp/first-sentence", "nlp/sentence-overlap"),
        demo_data="synthetic-facts",
    ),
]
MODELS = [
    ModelSpec(
        name="nlp/sentence-overlap",
        summary="Words of the sentence that shares most with the question (tf-idf): the baseline of a reader",
        target=f"{_CODE}.overlap:SentenceOverlap",
        tasks=(ANSWERING,),
        trainer="iterative",
    ),
    ModelSpec(
        name="nlp/first-sentence",
        summary="The first sentence of the text, whatever is asked",
        target=f"{_CODE}.overlap:SentenceOverlap",
        tasks=(ANSWERING,),
        trainer="iterative",
        defaults={"model.answer": "first"},
    ),
]
DATASETS = [
    DatasetSpec(
        name="synthetic-facts",
        summary="600 made-up questions about 150 made-up people; one in six has no answer in its text",
        target="plait_nlp.demo_data:synthetic_facts",
        tasks=(ANSWERING,),
        synthetic=True,
        license="Apache-2.0 (generated)",
    ),
]
