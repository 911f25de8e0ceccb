"""What does the speech plugin offer: which tasks, models and data sets, and where does their code live?"""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, TaskSpec, hookimpl

plait_api = 1

_WORDS = "speech/word-recognition"


@hookimpl
def plait_tasks() -> list[TaskSpec]:
    return [
        TaskSpec(
            name=_WORDS,
            summary="Tell which word is said, of a known few",
            target="plait_speech.word_recognition.task:WordRecognition",
            accepts={"audio": "audio"},
            returns={"label": "label"},
            primary_metric=Metric("accuracy", True),
            models=("speech/gmm-hmm", "speech/tdnn", "speech/cnn", "speech/hmmlearn"),
            default_model="speech/gmm-hmm",
            demo_data="synthetic-words",
        )
    ]


@hookimpl
def plait_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="speech/gmm-hmm",
            summary="Gaussian-mixture hidden Markov models, one for each word, fitted by EM on packed frames",
            target="plait_speech.hmm.models:GmmHmm",
            tasks=(_WORDS,),
            trainer="iterative",
            conformance=({"model.states": 3, "model.mixtures": 2, "model.step": 0.02},),
        ),
        ModelSpec(
            name="speech/hmmlearn",
            summary="Hidden Markov models fitted by hmmlearn, the reference; needs plait-speech[hmmlearn]",
            target="plait_speech.hmm.reference:Hmmlearn",
            tasks=(_WORDS,),
            trainer="iterative",
            conformance=({"model.states": 3, "model.step": 0.02},),
        ),
        ModelSpec(
            name="speech/tdnn",
            summary="Time-delay network on log mel frames: dilated convolutions over time, statistics pooling",
            target="plait_speech.networks.tdnn:Tdnn",
            tasks=(_WORDS,),
            trainer="gradient",
            conformance=({"model.width": 16, "model.mels": 16, "model.dilations": [1, 2], "model.step": 0.02},),
            defaults={"trainer.learning_rate": 0.003, "trainer.epochs": 20},
        ),
        ModelSpec(
            name="speech/cnn",
            summary="Small two-dimensional network on log mel frames: broadcasted residual blocks, as in BC-ResNet",
            target="plait_speech.networks.cnn:Cnn",
            tasks=(_WORDS,),
            trainer="gradient",
            conformance=({"model.widths": [8, 12], "model.blocks": 1, "model.mels": 16, "model.step": 0.02},),
            defaults={"trainer.learning_rate": 0.005, "trainer.epochs": 12},
        ),
    ]


@hookimpl
def plait_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="synthetic-words",
            summary="280 utterances of ten made-up words by four made-up speakers, 8 kHz: formants and noise",
            target="plait_speech.demo_data:synthetic_words",
            tasks=(_WORDS,),
            synthetic=True,
            license="Apache-2.0 (generated)",
        ),
        DatasetSpec(
            name="spoken-digits",
            summary="960 utterances of the English digits by 32 voices of espeak-ng, 8 kHz; other voices in the test",
            target="plait_speech.synthesis:spoken_digits",
            tasks=(_WORDS,),
            synthetic=True,
            license="free to use (espeak-ng, which speaks them, is under the GPL-3)",
            requires="plait-speech[synth]",
        ),
    ]
