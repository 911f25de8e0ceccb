"""How is a count said, of one and of several?"""

from __future__ import annotations


def counted(count: int, one: str, several: str) -> str:
    """The number and its words: "1 user has", "2,300 users have"."""
    return f"{count:,} {one if count == 1 else several}"
