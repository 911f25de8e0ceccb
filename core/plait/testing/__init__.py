"""Does a plugin keep its promises? The contract of tasks and models, as checks that run.

    from plait.testing import conformance

    test_conformance = conformance("my-distribution")

is a whole test file of a plugin; `plait plugins check my-distribution` runs the same checks without pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal

from plait.errors import PlaitError
from plait.testing.cases import Case, Trial, cases
from plait.testing.checks import CHECKS
from plait.testing.verdicts import Failed, Skipped
from plait_registry.registry import Registry
from plait_registry.targets import blame, describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one check of one case.

    Args:
        reason: why it failed or was skipped, with what was expected and how to mend it; "" where it passed.
        seconds: what it took; the training that several checks share counts for the first that needs it.
        error: what the plugin raised and nobody expected, with its traceback.
    """

    case: Case
    check: str
    status: Literal["passed", "failed", "skipped"]
    reason: str = ""
    seconds: float = 0.0
    error: BaseException | None = field(default=None, repr=False, compare=False)


def run_checks(registry: Registry, distribution: str | None = None) -> Iterator[Result]:
    """Run every check on every case; each result is given when it is there.

    Args:
        distribution: only cases whose task or model is from it; None: all that is installed.

    Raises:
        PluginError: there is no case of that distribution.
    """
    for case in cases(registry, distribution):
        with TemporaryDirectory(prefix="plait-conformance-") as directory:
            trial = Trial(case, registry, Path(directory))
            for check in CHECKS:
                yield run_check(check, trial)


def run_check(check: str, trial: Trial) -> Result:
    """Run one check; whatever a plugin raises in it is a failure of that check and ends nothing else."""
    started = perf_counter()

    def result(status: Any, reason: str = "", error: BaseException | None = None) -> Result:
        seconds = perf_counter() - started
        return Result(case=trial.case, check=check, status=status, reason=reason, seconds=seconds, error=error)

    try:
        CHECKS[check](trial)
    except Skipped as skipped:
        return result("skipped", str(skipped))
    except Failed as failed:
        return result("failed", str(failed))
    except KeyboardInterrupt:
        raise
    except PlaitError as error:
        return result("failed", f"{error.message}" + (f" ({error.hint})" if error.hint else ""), error)
    except BaseException as error:
        place = blame(error, trial.module)
        return result("failed", f"raised {describe(error)}" + (f" ({place})" if place else ""), error)
    return result("passed")


def conformance(distribution: str | None = None) -> Callable[..., None]:
    """A pytest function, parametrised over the cases of a distribution (None: of all) and the checks.

    Raises:
        PluginError: there is no such case; a suite that tests nothing must not pass.
    """
    import pytest

    registry = Registry.discover()
    newest: dict[str, Trial] = {}  # one trial at a time: the checks of its case share a training

    @pytest.mark.parametrize("check", CHECKS)
    @pytest.mark.parametrize("case", cases(registry, distribution), ids=str)
    def test_conformance(case: Case, check: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        if str(case) not in newest:
            newest.clear()
            newest[str(case)] = Trial(case, registry, tmp_path_factory.mktemp("conformance"))
        result = run_check(check, newest[str(case)])
        if result.status == "skipped":
            pytest.skip(result.reason)
        if result.error is not None and not isinstance(result.error, PlaitError):
            raise result.error
        if result.status == "failed":
            pytest.fail(result.reason, pytrace=False)

    return test_conformance


__all__ = ["CHECKS", "Case", "Result", "Trial", "cases", "conformance", "run_check", "run_checks"]
