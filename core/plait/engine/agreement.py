"""How do ranks hear of each other's errors and answers, so that none waits for one that has given up?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import plait.errors
from plait.errors import FailedRankError, PlaitError

if TYPE_CHECKING:
    from plait.engine.base import Channel, Engine


def agree(engine: Channel, failure: BaseException | None) -> None:
    """Raise on every rank when any rank failed: a rank's own error on it, elsewhere the first other's.

    Collective. An error of Plait's keeps its class, message, hint and exit code on the way.
    """
    if engine.world_size == 1:
        if failure is not None:
            raise failure
        return
    told = engine.gather(None if failure is None else told_of(failure))
    if failure is not None:
        raise _known(failure)
    for rank, each in enumerate(told):
        if each is not None:
            raise _known(heard(each, rank))


@contextmanager
def together(engine: Engine) -> Iterator[None]:
    """A block without collectives: it is passed by all ranks, or by none."""
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    agree(engine, failure)


def on_first(engine: Engine, answer: Callable[[], Any]) -> Any:
    """What rank 0 answers (JSON values), on every rank; its error is raised on every rank.

    Collective, and without a limit of time: rank 0 may read, fit or draw for as long as it takes.
    """
    if engine.world_size == 1:
        return answer()
    value, failure = None, None
    if engine.rank == 0:
        try:
            value = answer()
        except Exception as error:
            failure = error
    told = engine.gather([value, None if failure is None else told_of(failure)])[0]
    if failure is not None:
        raise _known(failure)
    if told[1] is not None:
        raise _known(heard(told[1], 0))
    return value if engine.rank == 0 else told[0]


def known_to_all(error: BaseException) -> bool:
    """Whether every rank raises the error, so that one of them is enough to tell the user."""
    return bool(vars(error).get(_KNOWN))


def _known(error: BaseException) -> BaseException:
    vars(error)[_KNOWN] = True
    return error


_KNOWN = "known_to_all_ranks"
"""An attribute of errors of any class."""


def told_of(error: BaseException) -> dict[str, Any]:
    """An error as JSON values."""
    body: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, PlaitError):
        body |= {"message": error.message, "hint": error.hint, "details": error.details}
        body["signal"] = getattr(error, "signal", None)
    return body


def heard(told: Mapping[str, Any], rank: int) -> Exception:
    """The error that `told_of` described, which happened on another rank."""
    kind = getattr(plait.errors, str(told["type"]), None)
    if kind is plait.errors.Interrupted:
        return plait.errors.Interrupted(told["message"], hint=told["hint"], signal=told["signal"])
    if isinstance(kind, type) and issubclass(kind, PlaitError):
        return kind(told["message"], hint=told.get("hint"), details=told.get("details") or ())
    return FailedRankError(f"rank {rank} failed: {told['type']}: {told['message']}")
