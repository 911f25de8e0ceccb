"""Which prompts are answered where none is given?"""

from __future__ import annotations


def prompts() -> list[str]:
    """Beginnings of names, made up: what nlp/generator brings was fitted on names of places."""
    return ["Saint ", "New ", "Rep", "Königreich ", "Île ", "Ka"]
