"""What does the NLP plugin offer: which tasks, models and data sets, and where does their code live?"""

from __future__ import annotations

from plait_nlp.architectures.offers import TRANSFORMERS
from plait_nlp.generation import offers as generation
from plait_nlp.language_modelling import offers as language
from plait_nlp.masked_modelling import offers as masked
from plait_nlp.question_answering import offers as answering
from plait_nlp.sentence_embedding import offers as embedding
from plait_nlp.sequence_to_sequence import offers as sequence
from plait_nlp.text_classification import offers as classification
from plait_nlp.token_classification import offers as tagging
from plait_nlp.word_embedding import offers as words
from plait_registry import DatasetSpec, ModelSpec, PortSpec, TaskSpec, hookimpl

plait_api = 1

_PARTS = (
    classification,
    tagging,
    answering,
    embedding,
    masked,
    words,
    language,
    generation,
    sequence,
)
"""Modules with TASKS, MODELS and DATASETS, and perhaps PORTS, in the order of `plait list`."""


@hookimpl
def plait_tasks() -> list[TaskSpec]:
    return [spec for part in _PARTS for spec in part.TASKS]


@hookimpl
def plait_models() -> list[ModelSpec]:
    return [TRANSFORMERS, *(spec for part in _PARTS for spec in part.MODELS)]


@hookimpl
def plait_datasets() -> list[DatasetSpec]:
    return [spec for part in _PARTS for spec in part.DATASETS]


@hookimpl
def plait_ports() -> list[PortSpec]:
    return [spec for part in _PARTS for spec in getattr(part, "PORTS", ())]
