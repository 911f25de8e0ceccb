"""Which analogies and similarities does a user's file hold?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from plait.data import no_such_path
from plait.errors import DataError
from plait.textlines import text_lines
from plait_nlp.encodings import detect_encoding
from plait_nlp.word_embedding.words import Analogy, Similarity

Asked = TypeVar("Asked", Analogy, Similarity)

_ANALOGY = (
    "four words a line (man king woman queen), as Google's questions-words.txt has them; lines that begin with : name"
    " sections"
)
_SIMILARITY = "two words and a number a line, parted by tabs or commas, as WordSim-353 and SimLex-999 have them"


def analogies_of(source: Any, *, lowercase: bool) -> list[Analogy]:
    """Analogies from a path, or from rows of four words.

    Raises:
        DataError: names the line that is none.
    """

    def made(cells: Sequence[Any], id_: str) -> Analogy | None:
        if len(cells) != 4 or not all(isinstance(each, str) and each.strip() for each in cells):
            return None
        first, second, third, answer = (_word(each, lowercase) for each in cells)
        return Analogy(first, second, third, answer, id_)

    def lines(path: Path) -> Iterator[tuple[str, str, list[str]]]:
        for where, number, line in _lines(path):
            if not line.startswith(":"):
                yield where, number, line.split()

    return _read(source, lines, made, name="analogies", expected=_ANALOGY)


def similarities_of(source: Any, *, lowercase: bool) -> list[Similarity]:
    """Similarities from a path, or from rows (word, word, number). A first line without a number is a header.

    Raises:
        DataError: names the line that is none.
    """

    def made(cells: Sequence[Any], id_: str) -> Similarity | None:
        words, numbers = list(cells[:2]), [score for each in cells[2:] if (score := _number(each)) is not None]
        if len(words) < 2 or not all(isinstance(each, str) and each.strip() for each in words) or not numbers:
            return None
        return Similarity(_word(words[0], lowercase), _word(words[1], lowercase), numbers[0], id_)

    def lines(path: Path) -> Iterator[tuple[str, str, list[str]]]:
        for where, number, line in _lines(path):
            cells = [each.strip() for each in line.split("\t" if "\t" in line else ",")]
            if number != "1" or any(_number(each) is not None for each in cells):
                yield where, number, cells

    return _read(source, lines, made, name="similarities", expected=_SIMILARITY)


def _read(
    source: Any, lines: Callable[[Path], Iterator[tuple[str, str, list[str]]]],
    made: Callable[[Sequence[Any], str], Asked | None], *, name: str, expected: str,
) -> list[Asked]:  # fmt: skip
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if not path.is_file():
            raise no_such_path(path)
        rows: Any = lines(path)
    elif isinstance(source, Sequence):
        rows = ((f"data[{name!r}][{number}]", str(number), row) for number, row in enumerate(source))
    else:
        raise DataError(f"data[{name!r}] is {type(source).__name__}", hint=f"expected a path, or rows: {expected}")
    found = []
    for where, number, cells in rows:
        one = made(cells, f"{name}/{number}") if isinstance(cells, Sequence) and not isinstance(cells, str) else None
        if one is None:
            raise DataError(f"{where}: {cells!r:.80} is none of the {name}", hint=f"expected {expected}")
        found.append(one)
    if not found:
        raise DataError(f"data.{name}: {source!r:.80} holds none", hint=f"expected {expected}")
    return found


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Lines with something in them: where they are, their number, their text; comments (#) left out."""
    for number, line in enumerate(text_lines(path, detect_encoding(path).name), start=1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield f"{path}:{number}", str(number), text


def _word(text: str, lowercase: bool) -> str:
    return text.strip().lower() if lowercase else text.strip()


def _number(cell: Any) -> float | None:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None
