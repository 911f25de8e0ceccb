"""On which hosts does a training run, and which of them is this one?"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plait.errors import EngineError, RecipeError

PORT = 29400
"""Where the first host answers the others, unless its line says another port."""


def read_hosts(path: Path) -> tuple[str, ...]:
    """A file with one host a line, "name" or "name:port"; empty lines and # comments are left out.

    Raises:
        RecipeError: the file is not to be read; names the line that is no host.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a readable text file ({error})") from error
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if text:
            name, _ = _parsed(text, f"{path}:{number}")
            if name in found:
                raise RecipeError(
                    f"{path}:{number}: {name} is in line {found[name][0]} already",
                    hint="name each host once; --nproc says how many processes all of them have together",
                )
            found[name] = number, text
    if not found:
        raise RecipeError(f"{path}: names no host", hint="write one host a line; the first answers the others")
    return tuple(text for _, text in found.values())


def _parsed(text: str, where: str) -> tuple[str, int]:
    """The name and the port of "name" or "name:port"."""
    name, _, port = text.partition(":")
    if not re.fullmatch(r"[\w.-]+(:\d{1,5})?", text) or not 0 <= int(port or PORT) < 1 << 16:
        raise RecipeError(f"{where}: {text!r} is no host; expected name or name:port, a port below 65536")
    return name, int(port or PORT)


@dataclass(frozen=True, slots=True)
class Place:
    """This host among those of a training.

    Args:
        name: of this host, as the others reach it.
        endpoint: where the first host answers: "name:port".
        hosts: how many there are.
        processes: how many of the training's run here.
        answers: whether it is the first; None where several of the names are this machine's, and the first come is.
    """

    name: str = "localhost"
    endpoint: str = "localhost:0"
    hosts: int = 1
    processes: int = 1
    answers: bool | None = None

    @classmethod
    def find(cls, hosts: Sequence[str], processes: int) -> Place:
        """Which of `hosts` this one is. None named: it is the only one.

        Raises:
            RecipeError: one of them is no host.
            EngineError: this is none of them, or the processes cannot be dealt evenly.
        """
        if not hosts:
            return cls(processes=processes)
        parsed = [_parsed(each, "engine.hosts") for each in hosts]
        if processes % len(hosts):
            raise EngineError(
                f"engine.processes={processes} cannot be dealt evenly to {len(hosts)} hosts",
                hint=f"--nproc counts the processes of all hosts: a multiple of {len(hosts)}",
            )
        names = [name for name, _ in parsed]
        here = [each for each in names if _is_here(each)]
        if not here:
            raise EngineError(
                f"this host ({socket.gethostname()}) is none of {', '.join(names)}",
                hint="run the same command on each host that engine.hosts names, and on no other",
            )
        answers = here[0] == names[0] if len(here) == 1 else None
        return cls(here[0], f"{names[0]}:{parsed[0][1]}", len(hosts), processes // len(hosts), answers)


def _is_here(name: str) -> bool:
    """Whether a host's name is this machine's, or resolves to an address that a socket can be bound to here."""
    if name in ("localhost", socket.gethostname(), socket.getfqdn()):
        return True
    try:
        family, kind, _, _, address = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except OSError:  # unknown here, or another machine's
        return False
    return True
