"""What is learned: when each word of a transcript is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from plait.errors import InputError, did_you_mean
from plait.listing import Media
from plait.options import DataOptions
from plait.task import Prediction, Problem, Split
from plait_speech.alignment.evaluation import AlignmentEvaluator
from plait_speech.alignment.spans import Alignment, as_json, read_alignment
from plait_speech.audio import Utterance
from plait_speech.recognition.task import RecognitionOptions, SpeechRecognition
from plait_speech.recognition.transcripts import Spelling
from plait_speech.recordings import read_input, recordings_of


class AlignmentOptions(RecognitionOptions):
    """The recipe's `data` block of speech alignment: recordings with transcripts. A column `alignment`, a list of
    {"unit", "start", "end"} in seconds, gives the times to judge by; training does not need it."""

    media: ClassVar[Media] = recordings_of("text", more={"alignment": read_alignment})


class SpeechAlignment(SpeechRecognition):
    """Audio and its transcript to when each word is said. Examples are `Utterance`s with `text`, whose
    `more["alignment"]` are `Span`s where they are known; predictions are `Alignment`s. It knows no model.

    A word is what white space separates: where transcripts are phones with spaces between, phones are aligned.
    """

    Options: ClassVar[type[DataOptions]] = AlignmentOptions

    options: AlignmentOptions

    def evaluator(self, problem: Problem, split: Split) -> AlignmentEvaluator:  # type: ignore[override]  # it judges alignments
        return AlignmentEvaluator()

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Utterance:
        """A recording from the port `audio`, what is said in it from the port `text`.

        Raises:
            InputError: a port is missing or unknown, the recording cannot be used, or the text has no word.
        """
        ports = ("audio", "text")
        unknown = next((name for name in inputs if name not in ports), None)
        missing = [name for name in ports if name not in inputs]
        if unknown is not None or missing:
            said = f"there is no input {unknown!r}" if unknown is not None else f"the input {missing[0]!r} is missing"
            near = did_you_mean(unknown, ports) if unknown is not None else None
            raise InputError(said, hint=near or 'give {"audio": a path, "text": what is said}')
        text = inputs["text"]
        if not isinstance(text, str):
            raise InputError(f"text is {type(text).__name__}; expected what is said, as text")
        spelt = Spelling(**problem["spelling"]).of(text)
        if not spelt:
            raise InputError("text has no word: there is nothing to align")
        heard = read_input({"audio": inputs["audio"]}, options=self.options)
        return Utterance(heard.samples, heard.rate, id=heard.id, text=spelt)

    def present(self, prediction: Alignment, problem: Problem) -> Prediction:  # type: ignore[override]  # as the evaluator
        """A list of {"unit", "start", "end"}, seconds; `log_likelihood`, nats per frame, where the model knows one."""
        if prediction.fault:
            return Prediction(error=prediction.fault)
        found = as_json(prediction.spans)
        scores = None if prediction.log_likelihood is None else {"log_likelihood": prediction.log_likelihood}
        return Prediction(prediction=found, scores=scores, outputs={"alignment": found})
