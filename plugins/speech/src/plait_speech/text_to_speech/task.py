"""What is answered: how does a text sound?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from plait.data import digest, fingerprint, limit, named_parts, named_splits, no_such_path
from plait.errors import DataError, InputError, RunError
from plait.evaluation import Evaluator
from plait.predictor import named
from plait.tables import TABLE_SUFFIXES, read_table
from plait.task import Prediction, Problem, Split, Splits, Task
from plait.textlines import text_lines
from plait_speech.audio import Samples

SUPPORTED = "a .txt file with one text a line, a table with a column text, or from Python a sequence of texts"
LONGEST = 10_000
"""Characters of a text: about ten minutes of speech, and 50 MB of samples."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text to be spoken.

    Args:
        text: not blank, without control characters other than white space.
        id: where it came from: "greetings.txt:3".
    """

    text: str
    id: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """A text as it was spoken.

    Args:
        samples: [samples], float32, mono, full scale is -1..1.
        rate: samples per second, Hz.
    """

    samples: Samples
    rate: int


class TextToSpeech(Task):
    """One recording a text. Examples are `Sentence`, predictions `Speech`; it knows no voice, and does not judge one.

    Nothing is learned of the data, so all texts without a named split are the split `test`.
    """

    def read(self, source: Any, problem: Problem | None = None) -> Splits:
        """Read texts.

        Raises:
            DataError: they are missing, blank or too long; names the lines.
        """
        if source is None:
            return Splits(notes=("no data: every text can be spoken",))
        parts = {name: self._read_part(part) for name, part in _parts(source).items()}
        kept: dict[str, Any] = {
            name: [part[each] for each in limit(len(part), most=self.options.limit, seed=self.seed)]
            for name, part in parts.items()
        }
        rows = [(name, each.id) for name, part in kept.items() for each in part]
        index = pa.table({"id": [id_ for _, id_ in rows], "split": [name for name, _ in rows]})
        seen = fingerprint(digest(each.text.encode()) for part in kept.values() for each in part)
        return Splits(**kept, fingerprint=seen, index=index)

    def _read_part(self, source: Any) -> list[Sentence]:
        found, faults = [], []
        for sentence in self._listed(source):
            fault = _fault(sentence.text)
            if fault is None:
                found.append(sentence)
            else:
                faults.append(f"{sentence.id} {fault}")
        if faults and self.options.on_error == "stop":
            raise DataError(
                f"{len(faults)} of {len(faults) + len(found)} texts cannot be spoken:\n  " + "\n  ".join(faults[:10]),
                hint="mend or remove them, or skip them with data.on_error=skip",
            )
        if not found:
            raise DataError("there are no texts to speak", hint=f"expected {SUPPORTED}")
        return found

    def _listed(self, source: Any) -> list[Sentence]:
        if isinstance(source, str | Path):
            return self._from_file(Path(source))
        if not isinstance(source, Sequence):
            raise DataError(f"no texts can be read of {type(source).__name__}", hint=f"expected {SUPPORTED}")
        found = []
        for number, each in enumerate(source):
            sentence = Sentence(each) if isinstance(each, str) else each
            if isinstance(sentence, Mapping) and isinstance(sentence.get("text"), str):
                sentence = Sentence(sentence["text"], str(sentence.get("id", "")))
            if not isinstance(sentence, Sentence):
                raise DataError(f"item {number} is {type(each).__name__}; expected a text")
            found.append(sentence if sentence.id else replace(sentence, id=f"item {number}"))
        return found

    def _from_file(self, path: Path) -> list[Sentence]:
        if not path.exists():
            raise no_such_path(path)
        if path.suffix.lower() in TABLE_SUFFIXES:
            table = read_table(path, required=["text"], optional=["id"], fields=self.options.fields)
            ids = table["id"].to_pylist() if "id" in table else [f"{path.name}:{row + 1}" for row in range(len(table))]
            texts = table["text"].to_pylist()
            return [Sentence(str(text), str(id_)) for text, id_ in zip(texts, ids, strict=True)]
        if path.is_dir() or path.suffix.lower() != ".txt":
            raise DataError(f"{path}: no texts can be read of it", hint=f"expected {SUPPORTED}")
        lines = enumerate(text_lines(path), start=1)
        return [Sentence(line.strip(), f"{path.name}:{number}") for number, line in lines if line.strip()]

    def problem(self, splits: Splits) -> Problem:
        """{}: nothing is learned."""
        return {}

    def evaluator(self, problem: Problem, split: Split) -> Evaluator:
        raise RunError(
            "speech/text-to-speech has no metric: nothing says how a text must sound",
            hint="compose it with a recogniser, and judge what that understands",
        )

    def parse(self, inputs: Mapping[str, Any], problem: Problem) -> Sentence:
        """An example from the input port `text`.

        Raises:
            InputError: it is no text, blank, too long, or has control characters.
        """
        text = named(inputs, {"text": "text"})["text"]
        if not isinstance(text, str):
            raise InputError(f"text is {type(text).__name__}; expected a text")
        fault = _fault(text)
        if fault is not None:
            raise InputError(f"the text {fault}")
        return Sentence(text)

    def present(self, prediction: Speech, problem: Problem) -> Prediction:
        """{"seconds", "rate"}; the recording itself is the output `audio`, a pair (samples, rate)."""
        seconds = round(len(prediction.samples) / prediction.rate, 3)
        outputs = {"audio": (prediction.samples, prediction.rate)}
        return Prediction(prediction={"seconds": seconds, "rate": prediction.rate}, outputs=outputs)


def greetings() -> list[Sentence]:
    """Five short English sentences."""
    said = (
        "Hello, and welcome.",
        "The quick brown fox jumps over the lazy dog.",
        "It is 7:45 on the 3rd of May.",
        "Who said that?",
        "Thank you, and goodbye!",
    )
    return [Sentence(text, text) for text in said]


def _parts(source: Any) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return named_parts(source)
    if isinstance(source, str | Path) and Path(source).is_dir():
        found = named_splits(Path(source), suffixes=(*TABLE_SUFFIXES, ".txt"))
        if found:
            return found
    return {"test": source}


def _fault(text: str) -> str | None:
    """Why a text cannot be spoken; None where it can."""
    if not text.strip():
        return "is blank"
    if len(text) > LONGEST:
        return f"has {len(text):,} characters, and at most {LONGEST:,} are spoken at once"
    bad = next((each for each in text if not each.isprintable() and not each.isspace()), None)
    if bad is not None and (ord(bad) < 32 or 0xD800 <= ord(bad) < 0xE000):  # ends a C string, or is no text at all
        return f"has the control character U+{ord(bad):04X}"
    return None
