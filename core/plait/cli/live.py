"""How does `plait predict --live` show answers while an input arrives?"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from plait.cli.output import encoded
from plait.cli.session import Session
from plait.composition import Composition
from plait.errors import InputError
from plait.predictor import Predictor
from plait.task import Prediction


def follow(session: Session, predictor: Predictor | Composition, source: str, *, jsonl: bool) -> int:
    """Print each answer that differs from the one before, then the final one; an exit code.

    Args:
        source: a file, or - for standard input.
        jsonl: objects of {"input", "partial"}, then one of {"input", "prediction", "scores"?}.

    Raises:
        InputError: the predictor needs a whole input, or something is wrong with this one.
    """
    if isinstance(predictor, Composition):
        raise InputError(
            "a composition takes whole inputs; --live is for one run", hint="name the run of its first part"
        )
    shown: Any = None
    last: Prediction | None = None
    for answer in predictor.live(sys.stdin.buffer if source == "-" else source):
        if last is not None and last.prediction != shown:
            shown = last.prediction
            _print(session, source, shown, jsonl=jsonl)
        last = answer
    assert last is not None  # `Predictor.live` ends with the final answer
    if jsonl:
        scores = {} if last.scores is None else {"scores": dict(last.scores)}
        session.output.document({"input": source, "prediction": last.prediction, **scores})
    else:
        best = "" if not last.scores else f"\t{max(last.scores.values()):.4f}"
        session.output.text(f"{source}\t{_text(last.prediction)}{best}")
    return 0


def _print(session: Session, source: str, partial: Any, *, jsonl: bool) -> None:
    if jsonl:
        session.output.document({"input": source, "partial": partial})
    else:
        session.output.text(f"{source} ...\t{_text(partial)}")
    with contextlib.suppress(OSError):  # whoever reads a pipe wants partial answers now, and may be gone
        sys.stdout.flush()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encoded(value)
