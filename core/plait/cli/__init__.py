"""What happens between a shell and a verb: what is set before it runs, and what is said and returned after it?

Importing this imports click and nothing else of weight; a verb's module is imported when the verb is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from plait.cli.interruption import Interruption
from plait.cli.output import Output
from plait.cli.session import Session
from plait.cli.verbs import cli
from plait_registry.errors import PlaitError
from plait_registry.targets import blame, describe


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the console script `plait` is this.

    Args:
        argv: the words after `plait`; None: those of this process.

    Returns:
        0 done; 1 failed; 2 what the user can mend; 130 after Ctrl-C, 143 after SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # Two waiting OpenMP threads that spin take the cores from those that work: 3 to 16 times the time of small batches
    # on a shared machine. It must be set before torch loads, and only a program's own start may decide it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # torch says what it raises once more before, with 20 lines of C++ frames each time
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    with Output(machine=_wants_json(words)) as output, Interruption() as interruption:
        session = Session(output)
        session.forbid_hub()
        try:
            return _run(words, session, interruption)
        except BrokenPipeError:  # the reader of our output has gone (`| head`): nobody is left to tell
            output.abandon()
            return 1


def _run(words: list[str], session: Session, interruption: Interruption) -> int:
    output = session.output
    try:
        try:
            code = cli.main(words, prog_name="plait", standalone_mode=False, obj=session)
            output.flush()
            return code if isinstance(code, int) else 0
        except click.Abort as error:  # what click makes of KeyboardInterrupt and EOFError
            raise error.__cause__ or KeyboardInterrupt from None
    except KeyboardInterrupt:
        return _interrupted(output, interruption)
    except click.ClickException as error:
        output.error(_usage(error))
        return error.exit_code
    except BrokenPipeError:
        raise
    except PlaitError as error:
        _traceback(session)
        if not _told_elsewhere(error):
            output.error(error.as_json())
        return error.exit_code
    except Exception as error:
        _traceback(session)
        if interruption.received is not None:  # a library swallowed it while it was imported, and is there by half
            return _interrupted(output, interruption)
        place = blame(error, "plait")
        message = f"internal error: {describe(error)}" + (f" ({place})" if place else "")
        body: dict[str, Any] = {"type": "InternalError", "message": message}
        if not session.debug:
            body["hint"] = "run it with --debug for the traceback"
        output.error({"error": body})
        return 1


def _told_elsewhere(error: PlaitError) -> bool:
    """Whether torchrun or srun started this command several times, and another of them says the same."""
    from plait.engine.agreement import known_to_all
    from plait.engine.world import World

    return known_to_all(error) and World.find().rank > 0


def _interrupted(output: Output, interruption: Interruption) -> int:
    output.error({"error": {"type": "Interrupted", "message": "interrupted"}})
    return interruption.exit_code


def _usage(error: click.ClickException) -> dict[str, Any]:
    """A wrong command line, in the shape of every other error."""
    body = {"type": "UsageError" if isinstance(error, click.UsageError) else "ClickException"}
    body["message"] = error.format_message()
    context = getattr(error, "ctx", None)
    if context is not None:
        body["hint"] = f"`{context.command_path} --help` says what it takes"
        if isinstance(error, click.NoSuchOption) and context.command_path.split()[-1] in ("train", "run", "config"):
            name = error.option_name.lstrip("-").replace("-", "_")
            body["hint"] += f"; a recipe's options are set by their path: --set trainer.{name}=..."
    return {"error": body}


def _traceback(session: Session) -> None:
    if session.debug:
        import traceback

        traceback.print_exc()


def _wants_json(words: Sequence[str]) -> bool:
    """Whether stdout belongs to a program; known before parsing, so that a wrong command line is answered in JSON."""
    before = words[: words.index("--")] if "--" in words else words
    return "--json" in before or "--jsonl" in before


__all__ = ["cli", "main"]
