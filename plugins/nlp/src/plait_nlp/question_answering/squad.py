"""Which questions does a SQuAD file hold, and are its answers where it says that they are?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from plait.errors import DataError
from plait.textlines import text_lines
from plait_nlp.question_answering.examples import Answer
from plait_nlp.reading import FileRow

_SHOWN = 40  # characters of an answer in a message


def read_squad(path: Path, encoding: str) -> Iterator[FileRow]:
    """The questions of a file in the format of SQuAD 1.1 or 2.0 (Rajpurkar et al. 2016, 2018), for
    `plait_nlp.reading.Layout`: {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers":
    [{"text", "answer_start"}], "is_impossible"}]}]}]}.

    Raises:
        DataError: it is not JSON, or not of this format; names the line, or the place.
    """
    try:
        found = json.loads("".join(text_lines(path, encoding)))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno})",
            hint="a file with one object a line is named .jsonl",
        ) from error
    for number, article in enumerate(_list(found, "data", path, "the file")):
        place = f"data[{number}]"
        title = str(article.get("title", "")) if isinstance(article, Mapping) else ""
        for row, paragraph in enumerate(_list(article, "paragraphs", path, place)):
            inside = f"{place}.paragraphs[{row}]"
            if not isinstance(paragraph.get("context"), str):
                raise _not_squad(path, inside, "has no text 'context'")
            for index, asked in enumerate(_list(paragraph, "qas", path, inside)):
                if not isinstance(asked, Mapping):
                    raise _not_squad(path, f"{inside}.qas[{index}]", "is no object")
                id_ = str(asked.get("id") or f"{number}-{row}-{index}")
                answers = [] if asked.get("is_impossible") else asked.get("answers")
                values = {
                    "question": asked.get("question"), "context": paragraph["context"], "answers": answers,
                    "title": title,
                }  # fmt: skip
                yield FileRow(values, id_, f"{path} (question {id_})")


def _list(value: Any, name: str, path: Path, place: str) -> Sequence[Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(found, list):
        raise _not_squad(path, place, f"has no list {name!r}")
    return found


def _not_squad(path: Path, place: str, what: str) -> DataError:
    shape = '{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}'
    return DataError(f"{path}: {place} {what}", hint=f"SQuAD's format is {shape}; other tables can be .jsonl or .csv")


def answers_of(values: Mapping[str, Any]) -> tuple[Answer, ...] | None:
    """The answers of a row, once each is seen to be where it should be: from `answers`, a list of {text, answer_start}
    or (as `datasets` has it) {text: [...], answer_start: [...]}, or from `answer` and `answer_start`.

    Returns:
        () where the row says that there is none, None where it says nothing.

    Raises:
        ValueError: says what is wrong.
    """
    given, context = values.get("answers"), values["context"]
    if given is None:
        if values.get("answer") is None:
            return None
        text = str(values["answer"])
        given = [{"text": text, "answer_start": values.get("answer_start")}] if text else []
    if isinstance(given, Mapping):
        texts, starts = given.get("text"), given.get("answer_start")
        if not isinstance(texts, Sequence) or not isinstance(starts, Sequence) or len(texts) != len(starts):
            raise ValueError("has answers without lists 'text' and 'answer_start' of one length")
        given = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError(f"has answers that are {type(given).__name__}, not a list")
    return tuple(dict.fromkeys(_answer(each, context) for each in given))


def _answer(given: Any, context: str) -> Answer:
    if not isinstance(given, Mapping) or not isinstance(given.get("text"), str):
        raise ValueError(f"has an answer without a text: {given!r:.60}")
    text, start = given["text"], given.get("answer_start")
    short = repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
    places = list(islice(_places(text, context), 5)) if text.strip() else []
    if isinstance(start, float) and start.is_integer():  # pandas writes 3 as 3.0 beside a null
        start = int(start)
    if not text.strip():
        raise ValueError("has an empty answer; a question without one has none in its list")
    if start is None and len(places) == 1:
        return Answer(places[0], text)
    if not isinstance(start, int) or isinstance(start, bool):
        where = f"it occurs at {', '.join(map(str, places))}" if places else "it does not occur in the context"
        raise ValueError(f"has an answer {short} whose answer_start is {start!r}; {where}")
    if start < 0 or context[start : start + len(text)] != text:
        where = f"it occurs at {', '.join(map(str, places))}" if places else "it does not occur there"
        there = context[start : start + len(text)] if 0 <= start < len(context) else ""
        said = f"the context has {there[:_SHOWN]!r}" if there else f"the context has {len(context)} characters"
        raise ValueError(f"has an answer {short} that is not at character {start}, where {said}; {where}")
    return Answer(start, text)


def _places(text: str, context: str) -> Iterator[int]:
    place = context.find(text)
    while place >= 0:
        yield place
        place = context.find(text, place + 1)
