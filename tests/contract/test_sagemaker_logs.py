"""Log lines over HTTP, from the double's CloudWatch Logs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from mlscale.providers.contract import LogLine, LogQuery
from mlscale.providers.sagemaker import logs
from mlscale.providers.sagemaker.client import Client
from tests.doubles.aws import serving
from tests.doubles.aws.serving import ACCOUNT, REGION, Double
from tests.doubles.moved_clock import MovedClock

GROUP = "/aws/sagemaker/Endpoints/reviews"


@pytest.fixture(scope="module")
def served() -> Iterator[Double]:
    """A running double."""
    with serving() as double:
        yield double


@pytest.fixture
def client(served: Double, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of the empty double."""
    served.post("reset")
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return Client(ACCOUNT, REGION, MovedClock())


def revision_at(variant: str, at: datetime) -> str:
    """Return the variant, whenever it was."""
    del at
    return variant


def test_lines_are_read_as_they_were_written(served: Double, client: Client) -> None:
    """Of each container the last lines, with the instance's id and the time; the one that began last is told apart."""
    wrote = served.client("logs")
    wrote.create_log_group(logGroupName=GROUP)
    now = datetime.now(UTC).replace(microsecond=0)
    for number, stream in enumerate(("a/i-1", "a/i-2")):
        wrote.create_log_stream(logGroupName=GROUP, logStreamName=stream)
        events = [
            {"timestamp": int((now - timedelta(seconds=60 - line * 2 - number)).timestamp() * 1000), "message": text}
            for line, text in enumerate((f"{stream} starts", f"{stream} serves"))
        ]
        wrote.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)

    found = list(logs.lines(client, "reviews", LogQuery(tail=1), revision_at, MovedClock()))

    assert found == [
        LogLine(now - timedelta(seconds=58), "a", "i-1", "a/i-1 serves"),
        LogLine(now - timedelta(seconds=57), "a", "i-2", "a/i-2 serves"),
    ]
    assert logs.last_lines(client, "reviews", 5) == "a/i-2 starts\na/i-2 serves"


def test_a_group_that_is_not_there_has_no_lines(client: Client) -> None:
    """An endpoint that never wrote has no group."""
    assert list(logs.lines(client, "reviews", LogQuery(), revision_at, MovedClock())) == []
