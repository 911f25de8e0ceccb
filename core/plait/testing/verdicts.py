"""How does a check say that it failed, or that it does not apply?"""

from __future__ import annotations


class Failed(Exception):  # not an error of the suite: a check's verdict
    """The contract is broken; the message says what was expected and how to mend it, to the plugin's author."""


class Skipped(Exception):  # as above
    """The check does not apply to the case; the message says why."""


def require(kept: bool, what: str, *, expected: str) -> None:
    """Fail unless a promise is kept.

    Args:
        what: what was found.
        expected: what should be so, and how to make it so.
    """
    if not kept:
        raise Failed(f"{what}; expected: {expected}")
