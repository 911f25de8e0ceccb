"""How do rows become other ports' values, and the reverse?"""

from __future__ import annotations

from collections.abc import Mapping


def row_to_text(row: Mapping[str, float | str]) -> str:
    """A sentence for each column, as language models are shown tables (Hegselmann et al. 2023, TabLLM).

    Raises:
        TypeError: it is not a row.
    """
    if not isinstance(row, Mapping):
        raise TypeError(f"a row is a mapping from column names to values, not {type(row).__name__}")
    return " ".join(f"{column} is {value}." for column, value in row.items())


def label_to_row(label: str) -> dict[str, str]:
    """A row with the one column `label`."""
    return {"label": label}
