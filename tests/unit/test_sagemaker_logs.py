"""Log lines from CloudWatch Logs: the last ones, those that come, and those of a container that failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from mlscale.providers.contract import LogLine, LogQuery
from mlscale.providers.sagemaker import logs
from mlscale.providers.sagemaker.client import Client
from tests.doubles.moved_clock import MORNING, MovedClock

GROUP = "/aws/sagemaker/Endpoints/reviews"


def ms(seconds: float) -> int:
    """Return the moment that is so many seconds after the morning, as CloudWatch has it."""
    return int((MORNING + timedelta(seconds=seconds)).timestamp() * 1000)


class Kept(Client):
    """CloudWatch Logs with one group, `page` lines a call; streams by name, each with its beginning and its lines."""

    def __init__(self, *, page: int = 2) -> None:
        super().__init__(None, "us-east-1", MovedClock())
        self.streams: dict[str, list[tuple[float, str]]] | None = {}
        self.begun: dict[str, float] = {}
        self.page = page
        self.asked: list[str] = []

    def write(self, stream: str, *lines: tuple[float, str]) -> None:
        """Write lines, each at its second."""
        assert self.streams is not None
        self.streams.setdefault(stream, []).extend(lines)
        self.begun.setdefault(stream, lines[0][0])

    def find(self, service: str, operation: str, **request: Any) -> dict[str, Any] | None:
        """Return what CloudWatch Logs answers."""
        assert (service, request["logGroupName"]) == ("logs", GROUP)
        self.asked.append(operation)
        if self.streams is None:
            return None
        answers: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "describe_log_streams": self._described,
            "get_log_events": self._of_one,
            "filter_log_events": self._of_all,
        }
        return answers[operation](request)

    def _described(self, request: dict[str, Any]) -> dict[str, Any]:
        rows: list[dict[str, Any]] = [
            {"logStreamName": name, "creationTime": ms(self.begun[name]), "lastEventTimestamp": ms(lines[-1][0])}
            for name, lines in (self.streams or {}).items()
        ]
        assert request["descending"]
        return {"logStreams": sorted(rows, key=lambda row: -int(row["lastEventTimestamp"]))[: request["limit"]]}

    def _of_one(self, request: dict[str, Any]) -> dict[str, Any]:
        events = self._events(request["logStreamName"])
        end = int(request.get("nextToken", len(events)))
        start = max(0, end - min(self.page, request["limit"]))
        return {"events": events[start:end], "nextBackwardToken": str(start)}

    def _of_all(self, request: dict[str, Any]) -> dict[str, Any]:
        events = [
            {**event, "logStreamName": name}
            for name in self.streams or {}
            for event in self._events(name)
            if event["timestamp"] >= request["startTime"]
        ]
        events.sort(key=lambda event: event["timestamp"])
        start = int(request.get("nextToken", 0))
        more = {"nextToken": str(start + self.page)} if events[start + self.page :] else {}
        return {"events": events[start : start + self.page], **more}

    def _events(self, stream: str) -> list[dict[str, Any]]:
        return [{"timestamp": ms(at), "message": f"{text}\n"} for at, text in (self.streams or {})[stream]]


class Eventful(MovedClock):
    """A clock at whose sleeps something happens, one thing a sleep."""

    def __init__(self, *happens: Callable[[], None]) -> None:
        super().__init__()
        self.happens = list(happens)

    def sleep(self, seconds: float) -> None:
        """Let the time pass, and the next thing happen."""
        super().sleep(seconds)
        if self.happens:
            self.happens.pop(0)()


def revision_at(variant: str, at: datetime) -> str:
    """Return a revision a variant, another one from 100 s on."""
    return f"{variant}-{'new' if at >= MORNING + timedelta(seconds=100) else 'old'}"


def read(client: Client, query: LogQuery, clock: MovedClock | None = None, *, most: int = 100) -> Sequence[LogLine]:
    """Return the first lines that come, `most` of them."""
    return list(islice(logs.lines(client, "reviews", query, revision_at, clock or MovedClock()), most))


def line(at: float, stream: str, text: str) -> LogLine:
    """Return the line that a container wrote."""
    variant, _, replica = stream.partition("/")
    moment = MORNING + timedelta(seconds=at)
    return LogLine(moment.astimezone(UTC), revision_at(variant, moment), replica, text)


def test_the_last_lines_of_each_replica_come_by_time() -> None:
    """However many pages it takes, each replica gives its last lines, and all come oldest first."""
    kept = Kept(page=2)
    kept.write("a/i-1", (1, "one"), (3, "three"), (5, "five"), (7, "seven"))
    kept.write("a/i-2", (6, "six"))

    assert read(kept, LogQuery(tail=3)) == [
        line(3, "a/i-1", "three"),
        line(5, "a/i-1", "five"),
        line(6, "a/i-2", "six"),
        line(7, "a/i-1", "seven"),
    ]


def test_an_endpoint_that_never_wrote_has_no_lines() -> None:
    """SageMaker makes the group with the first line: that it is missing is no error."""
    kept = Kept()
    kept.streams = None

    assert (read(kept, LogQuery()), logs.last_lines(kept, "reviews", 5)) == ([], "")


def test_instances_that_are_gone_are_left_out() -> None:
    """A stream that stopped hours before the newest belongs to an instance that does not run any more."""
    kept = Kept()
    kept.write("a/i-1", (0, "long ago"))
    kept.write("a/i-2", (4 * 3600, "now"))

    assert read(kept, LogQuery()) == [line(4 * 3600, "a/i-2", "now")]


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        (LogQuery(replica="i-2"), ["of 2"]),
        (LogQuery(revision="a-old"), ["of 1", "of 2"]),
        (LogQuery(revision="a-new"), ["later"]),
        (LogQuery(replica="i-3"), []),
        (LogQuery(tail=0), []),
    ],
)
def test_lines_of_one_replica_or_revision(query: LogQuery, texts: list[str]) -> None:
    """What is asked for is all that comes; a tail of 0 is nothing of the past."""
    kept = Kept()
    kept.write("a/i-1", (1, "of 1"), (101, "later"))
    kept.write("a/i-2", (2, "of 2"))

    assert [each.text for each in read(kept, query)] == texts


def test_follow_tells_each_new_line_once() -> None:
    """What comes later is told, also by a new instance, late, or in the same words; what was told is not."""
    kept = Kept(page=2)
    kept.write("a/i-1", (10, "not asked for"), (20, "first"))
    clock = Eventful(
        lambda: kept.write("a/i-1", (22, "second"), (22, "second")),
        lambda: kept.write("a/i-2", (21, "late"), (30, "third")),
        lambda: None,
        lambda: kept.write("a/i-2", (31, "fourth")),
    )

    found = read(kept, LogQuery(tail=1, follow=True), clock, most=6)

    assert [each.text for each in found] == ["first", "second", "second", "late", "third", "fourth"]
    assert set(clock.slept) == {logs.POLL_EVERY_S}


def test_follow_waits_for_the_first_line() -> None:
    """The group may come long after somebody began to wait for it."""
    kept = Kept()
    kept.streams = None

    def begin() -> None:
        kept.streams = {}
        kept.write("a/i-1", (5, "hello"))

    clock = Eventful(lambda: None, begin)

    assert read(kept, LogQuery(follow=True), clock, most=1) == [line(5, "a/i-1", "hello")]


def test_follow_asks_only_for_what_is_new() -> None:
    """Old lines are read once: later looks begin shortly before the newest line."""
    kept = Kept(page=1)
    kept.write("a/i-1", *((at, f"line {at}") for at in range(0, 1000, 100)))
    clock = Eventful(lambda: None, lambda: kept.write("a/i-1", (1000, "new")))

    read(kept, LogQuery(tail=1, follow=True), clock, most=2)

    assert kept.asked.count("filter_log_events") == 4  # the newest line thrice, and the new one on a page of its own


def test_the_last_lines_of_a_failed_change_are_the_newest_containers() -> None:
    """The old revision goes on writing; what failed is the container that began last."""
    kept = Kept()
    kept.write("a/i-new", (50, "loading"), (51, "no module named iris"), (52, "bye"))
    kept.write("a/i-old", (1, "serving"), (99, "POST /invocations 200"))
    kept.begun["a/i-old"] = 0

    assert logs.last_lines(kept, "reviews", 2) == "no module named iris\nbye"


def test_the_last_lines_of_a_candidate_are_its_own() -> None:
    """Beside it containers of the stable revision begin, too."""
    kept = Kept()
    kept.write("b/i-new", (50, "no module named iris"))
    kept.write("a/i-new", (60, "serving"))
    kept.begun.update({"b/i-new": 10, "a/i-new": 20})

    assert logs.last_lines(kept, "reviews", 2, variant="b") == "no module named iris"
    assert logs.last_lines(kept, "reviews", 2, variant="c") == ""


def test_the_lines_of_an_earlier_failure_are_not_taken_for_this_ones() -> None:
    """A container that began before the change has nothing to do with it."""
    kept = Kept()
    kept.write("a/i-1", (50, "the failure of yesterday"))

    begun = MORNING + timedelta(seconds=60)
    assert logs.last_lines(kept, "reviews", 5, since=begun) == ""
    assert logs.last_lines(kept, "reviews", 5, since=begun - timedelta(seconds=20)) == "the failure of yesterday"
