"""What tests measured is listed when they have ended, by `make bench` the short ones first."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

MEASURED = """
import pytest

pytestmark = pytest.mark.figures(minutes={minutes})

@pytest.mark.parametrize("number", [2e-7, 3e-7, 0.0])
def test_parity(figure, number):
    figure("largest difference", number)

def test_time(figure):
    figure("seconds {minutes}", "median 4.2")
    assert {minutes} < 5
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_figures_are_listed_once_the_tests_have_ended(pytester: pytest.Pytester, workers: int) -> None:
    """Of numbers told by one name the largest; those of a failed test too; from other processes too."""
    pytester.makeconftest('pytest_plugins = ["tests.figures"]')
    pytester.makepyfile(test_long=MEASURED.format(minutes=9), test_short=MEASURED.format(minutes=2))
    ended = pytester.runpytest("-q", "-n", str(workers), "-p", "no:cacheprovider", "-m", "bench or figures")
    ended.assert_outcomes(passed=7, failed=1)
    lines = ended.outlines[next(at for at, line in enumerate(ended.outlines) if " figures " in line) :]
    assert "largest difference  3e-07, the largest of 6" in lines
    assert {"seconds 2           median 4.2", "seconds 9           median 4.2 (failed)"} < set(lines)
    if not workers:
        assert lines.index("seconds 2           median 4.2") < lines.index("seconds 9           median 4.2 (failed)")


def test_only_measurements_are_sorted(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["tests.figures"]')
    pytester.makepyfile(test_long=MEASURED.format(minutes=9), test_short=MEASURED.format(minutes=2))
    for marks, first in {"not bench": "test_long.py", "bench or figures": "test_short.py"}.items():
        listed = pytester.runpytest("-q", "--collect-only", "-p", "no:cacheprovider", "-m", marks).outlines
        assert listed[0].startswith(first)
