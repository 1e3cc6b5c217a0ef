"""One double and one warm process for each process that runs tests; and the sum of all kills at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.aws import Double, serving
from tests.doubles.warm import Warm, warm
from tests.e2e.sagemaker.account import Account, arranged

POINTS, RECOVERED = "points", "recovered"


@pytest.fixture(scope="session")
def aws() -> Iterator[Double]:
    """AWS, as its double has it."""
    with serving() as double:
        yield double


@pytest.fixture(scope="session")
def loaded() -> Iterator[Warm]:
    """A process that runs commands without their start."""
    with warm() as process:
        yield process


@pytest.fixture
def account(aws: Double, loaded: Warm, tmp_path: Path) -> Iterator[Account]:
    """An account and a folder; nothing is deployed. No call may have asked what the double does not have."""
    yield arranged(aws, loaded, tmp_path)
    assert aws.get("unimplemented") == []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write how many kills there were for each command, and how many were recovered from."""
    sums: dict[str, Counter[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()) if getattr(report, "when", "") == "call" else ():
                what, _, command = name.partition(" ")
                if what in (POINTS, RECOVERED):
                    sums.setdefault(command, Counter())[what] += value
    if sums:
        terminalreporter.section("SIGKILL at each change of a command")
    for command, counted in [*sums.items(), ("all", sum(sums.values(), Counter()))] if sums else ():
        terminalreporter.write_line(f"{command}: {counted[POINTS]} points / {counted[RECOVERED]} recovered")
