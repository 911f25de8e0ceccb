"""Does the README show the command line as it is?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from plait.cli.verbs import VERBS, cli

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_prints_the_help_as_it_is(process: Any) -> None:
    blocks = re.findall(r"```text\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    (shown,) = (block for block in blocks if block.startswith("$ plait --help\n"))
    assert shown.removeprefix("$ plait --help\n").strip() == process("--help", COLUMNS="80").out.strip()


def test_each_verb_says_in_the_overview_what_its_own_help_says() -> None:
    for verb, (_, line) in VERBS.items():
        command = cli.get_command(None, verb)  # type: ignore[arg-type]  # the context is not used
        assert command is not None
        assert command.name == verb
        assert (command.help or "").split("\n\n")[0] == line
