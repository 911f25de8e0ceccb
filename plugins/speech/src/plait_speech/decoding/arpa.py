"""How is a language model read from an ARPA file, and written to one?"""

from __future__ import annotations

import math
from pathlib import Path

from plait.data import no_such_path
from plait.errors import DataError
from plait.textlines import text_lines
from plait_speech.decoding.ngram import START, Gram, Ngram

_TEN = math.log(10)
_NEVER = -99.0  # what ARPA files write for the logarithm of zero, base 10


def read_arpa(path: Path) -> Ngram:
    r"""A back-off model as SRILM, KenLM and others write it: sections \1-grams:, \2-grams: ... of lines "log10 P,
    words, log10 of the back-off weight", ended by \end\.

    Raises:
        DataError: no such file, or names the line that is not as expected.
    """
    if not path.is_file():
        raise no_such_path(path)
    order, ended = 0, False
    probabilities: dict[Gram, float] = {}
    backoffs: dict[Gram, float] = {}
    for number, line in enumerate(text_lines(path), start=1):
        line = line.strip()
        if line.startswith("\\") and line.endswith("-grams:"):
            order = _number(line[1 : -len("-grams:")], path, number, expected=order + 1)
        elif line == "\\end\\":
            ended = True
            break
        elif order and line:
            gram, probability, backoff = _entry(line, order, path, number)
            probabilities[gram] = probability
            if backoff is not None:
                backoffs[gram] = backoff
    if not ended or not probabilities:
        what = "there are no n-grams in it" if not probabilities else "it does not end with \\end\\"
        raise DataError(
            f"{path}: not a whole ARPA language model: {what}",
            hint="write one with lmplz (KenLM) or ngram-count (SRILM)",
        )
    probabilities.pop((START,), None)  # it is never predicted; files list it for its back-off weight
    return Ngram(order, probabilities, backoffs)


def write_arpa(model: Ngram, path: Path) -> None:
    """Write a model so that other tools read it."""
    grams = {*model.probabilities, *model.backoffs}
    by_order = [sorted(each for each in grams if len(each) == order) for order in range(1, model.order + 1)]
    lines = ["\\data\\", *(f"ngram {order}={len(each)}" for order, each in enumerate(by_order, start=1))]
    for order, each in enumerate(by_order, start=1):
        lines += ["", f"\\{order}-grams:"]
        for gram in each:
            probability = model.probabilities.get(gram)
            written = _NEVER if probability is None else probability / _TEN
            backoff = f"\t{model.backoffs[gram] / _TEN:.9g}" if gram in model.backoffs else ""
            lines.append(f"{written:.9g}\t{' '.join(gram)}{backoff}")
    path.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")


def _number(text: str, path: Path, line: int, *, expected: int) -> int:
    if text != str(expected):
        raise DataError(f"{path}:{line}: found \\{text}-grams:, expected \\{expected}-grams:")
    return expected


def _entry(line: str, order: int, path: Path, number: int) -> tuple[Gram, float, float | None]:
    """An n-gram, ln P and ln of its back-off weight."""
    parts = line.split()
    try:
        if len(parts) not in (order + 1, order + 2):
            raise ValueError
        values = [float(parts[0]), *(float(each) for each in parts[order + 1 :])]
        if not all(math.isfinite(each) for each in values):
            raise ValueError
    except ValueError:
        raise DataError(
            f"{path}:{number}: {line[:60]!r}; expected a logarithm, {order} words, and perhaps a back-off weight"
        ) from None
    return tuple(parts[1 : order + 1]), values[0] * _TEN, values[1] * _TEN if len(values) > 1 else None
