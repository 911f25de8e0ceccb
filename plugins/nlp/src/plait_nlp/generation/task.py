"""What is answered: how does a text go on?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from plait.data import no_such_path
from plait.errors import DataError, InputError, RunError
from plait.evaluation import Evaluator
from plait.listing import settle
from plait.options import DataOptions
from plait.predictor import named
from plait.task import Prediction, Problem, Split, Splits, Task
from plait_nlp.architectures.tokenizers import whole_text
from plait_nlp.reading import Layout, TextOptions, list_texts, text_media

SUPPORTED = (
    "a .txt file with a prompt a line, a CSV, TSV, JSONL or Parquet file with the column prompt (data.fields renames"
    " it), or a sequence of texts"
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a text begins with; "" for one from its beginning.

    Args:
        id: where it came from.
    """

    text: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Continued:
    """How a text goes on.

    Args:
        text: what follows the prompt.
        log_probability: of it under the model, nats.
        tokens: that were generated.
        reason: "length" (as many tokens as were allowed), "end" (of the text), "stop" (a stop string), or "" while it
            still grows.
    """

    text: str
    log_probability: float
    tokens: int
    reason: str


@dataclass(slots=True)
class Request:
    """A prompt whose answer is followed while it grows: the model marks it as answered.

    `Predictor.live` asks for piece after piece of an input; here the input is there at once and the answer is not, so
    that each piece is this one again, a request for one more token, until it is answered.
    """

    prompt: Prompt
    answered: bool = False


class TextGeneration(Task):
    """The continuation of a prompt. Examples are `Prompt`, predictions `Continued`; it knows no model.

    Nothing is learned of the data, so that all prompts without a named split are the split `test`.
    """

    Options: ClassVar[type[DataOptions]] = TextOptions

    options: TextOptions

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read prompts. See `list_texts` for what a source may be.

        Raises:
            DataError: nothing can be read; with file and line.
        """
        if source is None:
            return Splits(notes=("no data: prompts come from the user",))
        media = text_media("prompt", supported=SUPPORTED, field="prompt")
        found = list_texts(source, layout=Layout(media=media, required=("prompt",), lines=True), options=self.options)
        listing = found.listing
        total = len(listing) + len(listing.faults)
        notes = [*found.notes, *listing.notes()]
        notes += settle(listing.faults, total=total, on_error=self.options.on_error, nouns="prompts")
        parts: dict[str, list[Prompt]] = {}
        for split, items in listing.parts.items():
            kept = [Prompt(whole_text(str(item.content["prompt"])), item.id) for item in items[: self.options.limit]]
            parts[split or "test"] = kept
        if not parts:
            raise DataError("there are no prompts", hint=f"expected {SUPPORTED}")
        train, valid, test = (parts.get(name) for name in ("train", "valid", "test"))
        return Splits(train=train, valid=valid, test=test, notes=tuple(notes))

    def problem(self, splits: Splits) -> Problem:
        """Nothing is learned of prompts."""
        return {"objective": "text-generation"}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        raise RunError(
            "nlp/text-generation has no metric: nothing says how a text must go on",
            hint="judge the language model itself: plait evaluate RUN of nlp/causal-language-modelling",
        )

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Prompt:
        """A prompt from the port `prompt`; it may be empty.

        Raises:
            InputError: it is no text.
        """
        value = named(inputs, {"prompt": "text"})["prompt"]
        if isinstance(value, Prompt):
            return value
        if not isinstance(value, str):
            raise InputError(f"prompt is {type(value).__name__}, not a text", hint="give a str")
        return Prompt(whole_text(value))

    def pieces(self, source: Any, problem: Problem) -> Iterator[Request]:
        """A request for each further token, until the model says that the prompt is answered.

        Args:
            source: the path of a text file that is the prompt, an open binary file, or from Python a sequence of texts,
                which are joined: `predictor.live(["Once upon"])`.

        Raises:
            InputError: it is no text.
        """
        request = Request(Prompt(_prompt(source)))
        while not request.answered:
            yield request

    def present(self, prediction: Continued, problem: Problem) -> Prediction:
        """The text; the score is its log-probability in nats."""
        scores = {"log_probability": prediction.log_probability}
        return Prediction(prediction=prediction.text, scores=scores, outputs={"text": prediction.text})


def _prompt(source: Any) -> str:
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            error = no_such_path(path) if not path.exists() else DataError(f"{path}: not a file")
            raise InputError(error.message, hint=error.hint or "--live takes a file with the prompt, or -")
        raw = path.read_bytes()
    elif hasattr(source, "read"):
        raw = source.read()
    elif isinstance(source, Sequence) and all(isinstance(each, str) for each in source):
        return whole_text("".join(source))
    else:
        raise InputError(f"a prompt from {type(source).__name__}", hint="give a path, a binary file or a list of texts")
    try:
        text: str = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the prompt is not UTF-8: byte {error.start + 1}") from error
    return text.removesuffix("\n")  # which editors and `echo` add
