"""What did the tests measure? What they tell to the fixture `figure` is listed when the session ends, a line each.

A test that asserts something of a number is where that number is measured, and nowhere else: `make bench` runs those
that are marked `figures` beside the benchmarks, and `make test-all` lists what it met.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest


class Figure:
    """What a test calls with what it measured. It does not know what other tests tell.

    Args:
        keep: takes "figure" and a value of lists and texts; under xdist it comes to the process that prints.
    """

    def __init__(self, keep: Callable[[str, object], None]) -> None:
        self._keep = keep

    def __call__(self, what: str, result: str | float) -> None:
        """List a figure.

        Args:
            what: was measured.
            result: a text with its units, printed at once too where output is not captured; or a number: of those that
                tests tell by one name, the largest is listed.
        """
        self._keep("figure", [what, result])
        if isinstance(result, str):
            print(f"\n{what}: {result}")


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Tell what was measured: `figure("plan, one process", "1144 MiB planned, 1310 held")`."""
    return Figure(record_property)


class Table:
    """The figures of a session, as tests end, in whatever process."""

    def __init__(self) -> None:
        self._found: dict[str, list[str | float]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for what, result in (value for name, value in report.user_properties if name == "figure"):
                self._found.setdefault(what, []).append(f"{result} (failed)" if report.failed else result)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._found:
            terminalreporter.section("figures")
        width = max(map(len, self._found), default=0)
        for what, results in self._found.items():
            shown = [each for each in results if isinstance(each, str)]
            if numbers := [each for each in results if not isinstance(each, str)]:
                shown.append(f"{max(numbers):.2g}" + (f", the largest of {len(numbers)}" if len(numbers) > 1 else ""))
            for text in shown:
                terminalreporter.write_line(f"{what.ljust(width)}  {text}")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Table())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Measurements: what takes fewer minutes comes first, file by file."""
    if "bench" not in config.option.markexpr.replace("not bench", ""):
        return
    minutes: dict[str, float] = {}
    for item in items:
        for mark in (*item.iter_markers("bench"), *item.iter_markers("figures")):
            file = str(item.path)
            minutes[file] = max(minutes.get(file, 0), mark.kwargs.get("minutes", 1))
    items.sort(key=lambda item: minutes.get(str(item.path), 0))
