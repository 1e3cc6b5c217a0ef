"""Log lines from Cloud Logging: the last ones, those that come, and those of a revision that failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from mlscale.deployment import Identity
from mlscale.providers.contract import LogLine, LogQuery
from mlscale.providers.vertex import logs
from mlscale.providers.vertex.client import Client
from mlscale.providers.vertex.requests import deployed_id
from tests.doubles.moved_clock import MORNING, MovedClock
from tests.doubles.vertex.logs import chosen
from tests.doubles.vertex.world import World

REVIEWS = Identity("vertex", "reviews", "acme-ml", "us-central1")
OLD, NEW = "0a1b2c3d4e", "f5e4d3c2b1"


def entry(at: float, replica: str, text: str, *, revision: str = OLD, key: str = "") -> dict[str, Any]:
    """Return an entry as Cloud Logging has it, so many seconds after the morning."""
    moment = (MORNING + timedelta(seconds=at)).astimezone(UTC)
    return {
        "log_name": f"projects/acme-ml/logs/{logs.CONTAINER}",
        "resource": {
            "type": "aiplatform.googleapis.com/Endpoint",
            "labels": {"location": "us-central1", "endpoint_id": "reviews"},
        },
        "timestamp": moment.isoformat().replace("+00:00", "Z"),
        "insert_id": key or f"{replica} {text}",
        "labels": {"deployed_model_id": deployed_id(revision), "replica_id": replica},
        "json_payload": {"message": f"{text}\n"},
    }


class Kept(Client):
    """Cloud Logging with a list of entries, `most` of them on a page; it knows what was asked."""

    def __init__(self, *entries: dict[str, Any], most: int = 1000) -> None:
        super().__init__("acme-ml", "us-central1", MovedClock())
        self.world = World()
        self.entries = self.world.owner("projects/acme-ml").entries
        self.entries.extend(entries)
        self.most = most
        self.asked: list[dict[str, Any]] = []

    def page(self, service: str, method: str, **request: Any) -> dict[str, Any]:
        """Return a page of the entries that a filter leaves."""
        assert (service, method, request["resource_names"]) == ("logging", "list_log_entries", ["projects/acme-ml"])
        assert 0 < request["page_size"] <= logs.LARGEST_PAGE
        self.asked.append(request)
        found = self._chosen(request)
        start = int(request.get("page_token", 0))
        end = start + min(request["page_size"], self.most)
        return {"entries": found[start:end], **({"next_page_token": str(end)} if found[end:] else {})}

    def pages(self, service: str, method: str, **request: Any) -> list[dict[str, Any]]:
        """Return all entries that a filter leaves."""
        assert (service, method) == ("logging", "list_log_entries")
        self.asked.append(request)
        return self._chosen(request)

    def _chosen(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        found = chosen(self.world, request["resource_names"], request["filter"])
        return found[::-1] if request["order_by"] == "timestamp desc" else found


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


def revision_at(deployed: str, at: datetime) -> str:
    """Return the revision that is deployed; the old one is gone from the endpoint."""
    del at
    return NEW if deployed == deployed_id(NEW) else ""


def read(client: Client, query: LogQuery, clock: MovedClock | None = None, *, most: int = 100) -> Sequence[LogLine]:
    """Return the first lines that come, `most` of them."""
    return list(islice(logs.lines(client, REVIEWS, query, revision_at, clock or MovedClock()), most))


def test_the_last_lines_of_each_replica_come_by_time() -> None:
    """However many pages it takes, each replica gives its last lines, and all come oldest first."""
    kept = Kept(
        entry(1, "r-1", "one", revision=NEW),
        entry(3, "r-1", "three", revision=NEW),
        entry(5, "r-1", "five", revision=NEW),
        entry(4, "r-2", "four", revision=NEW),
        most=2,
    )

    def line(at: float, replica: str, text: str) -> LogLine:
        return LogLine((MORNING + timedelta(seconds=at)).astimezone(UTC), NEW, replica, text)

    assert read(kept, LogQuery(tail=2)) == [line(3, "r-1", "three"), line(4, "r-2", "four"), line(5, "r-1", "five")]


def test_what_others_wrote_is_left_out() -> None:
    """Another endpoint, another region, and the log of requests are no lines of this deployment."""
    others = [entry(1, "r-1", "no") for _ in range(3)]
    others[0]["resource"]["labels"]["endpoint_id"] = "reviews-prod"
    others[1]["resource"]["labels"]["location"] = "us-east1"
    others[2]["log_name"] = "projects/acme-ml/logs/aiplatform.googleapis.com%2Fprediction_access"

    assert [each.text for each in read(Kept(entry(2, "r-1", "yes"), *others), LogQuery())] == ["yes"]


def test_an_endpoint_that_never_wrote_has_no_lines() -> None:
    """There is nothing to begin with, and that is no error."""
    assert (read(Kept(), LogQuery()), logs.last_lines(Kept(), REVIEWS, 5)) == ([], "")


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        (LogQuery(replica="r-2"), ["of 2"]),
        (LogQuery(revision=NEW), ["of 2"]),
        (LogQuery(revision=OLD), ["of 1"]),
        (LogQuery(revision="none"), []),
        (LogQuery(replica="r-3"), []),
        (LogQuery(tail=0), []),
    ],
)
def test_lines_of_one_replica_or_revision(query: LogQuery, texts: list[str]) -> None:
    """What is asked for is all that comes, of a revision that is gone, too; a tail of 0 is nothing of the past."""
    kept = Kept(entry(1, "r-1", "of 1"), entry(2, "r-2", "of 2", revision=NEW))

    assert [each.text for each in read(kept, query)] == texts


def test_a_line_says_its_revision_as_far_as_it_is_known() -> None:
    """The endpoint knows the revisions that it has; who asks for another says which it is."""
    kept = Kept(entry(1, "r-1", "of 1"), entry(2, "r-2", "of 2", revision=NEW))

    assert [each.revision for each in read(kept, LogQuery())] == ["", NEW]
    assert [each.revision for each in read(kept, LogQuery(revision=OLD))] == [OLD]


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"text_payload": "as text\n"}, "as text"),
        ({"json_payload": {"message": "printed", "levelname": "INFO"}}, "printed"),
        ({"json_payload": {"event": "loaded"}}, '{"event": "loaded"}'),
        ({}, "{}"),
    ],
)
def test_the_words_of_an_entry(payload: dict[str, Any], text: str) -> None:
    """A container prints lines, or JSON, which has a message or is told whole."""
    wrote = {key: value for key, value in entry(1, "r-1", "").items() if key != "json_payload"} | payload

    assert [each.text for each in read(Kept(wrote), LogQuery())] == [text]


def test_a_busy_endpoint_is_not_read_whole() -> None:
    """One call gives the tail, however much there is before."""
    kept = Kept(*(entry(at, "r-1", f"line {at}") for at in range(3000)))

    assert [each.text for each in read(kept, LogQuery(tail=2))] == ["line 2998", "line 2999"]
    assert len(kept.asked) == 1


def test_follow_tells_each_new_line_once() -> None:
    """What comes later is told, also late, or in the same words; what was told or not asked for is not."""
    kept = Kept(entry(10, "r-1", "not asked for"), entry(20, "r-1", "first"))
    clock = Eventful(
        lambda: kept.entries.extend(entry(22, "r-1", "second", key=key) for key in ("a", "b")),
        lambda: kept.entries.extend([entry(21, "r-2", "late"), entry(30, "r-2", "third")]),
        lambda: None,
        lambda: kept.entries.append(entry(31, "r-2", "fourth")),
    )

    found = read(kept, LogQuery(tail=1, follow=True), clock, most=6)

    assert [each.text for each in found] == ["first", "second", "second", "late", "third", "fourth"]
    assert set(clock.slept) == {logs.POLL_EVERY_S}


@pytest.mark.parametrize("wrote", [(), (entry(10, "r-1", "of the past"),)])
def test_follow_without_a_tail_begins_now(wrote: tuple[dict[str, Any], ...]) -> None:
    """Nothing of the past is told, whether there is any or not."""
    kept = Kept(*wrote)
    clock = Eventful(lambda: None, lambda: kept.entries.append(entry(12, "r-1", "new")))

    assert [each.text for each in read(kept, LogQuery(tail=0, follow=True), clock, most=1)] == ["new"]


def test_follow_asks_only_for_what_is_new() -> None:
    """Later looks begin shortly before the newest line."""
    kept = Kept(*(entry(at, "r-1", f"line {at}") for at in range(0, 1000, 100)))
    clock = Eventful(lambda: None, lambda: kept.entries.append(entry(1000, "r-1", "new")))

    read(kept, LogQuery(tail=1, follow=True), clock, most=2)

    start = (MORNING + timedelta(seconds=900) - logs.LATE_BY).astimezone(UTC).isoformat()
    assert [each["filter"].partition(" AND timestamp>=")[2] for each in kept.asked[1:]] == [f'"{start}"'] * 2


def test_the_last_lines_of_a_revision_are_its_own() -> None:
    """The old revision goes on writing while the new one fails."""
    kept = Kept(
        entry(50, "r-2", "loading", revision=NEW),
        entry(51, "r-2", "no module named iris", revision=NEW),
        entry(52, "r-2", "bye", revision=NEW),
        entry(99, "r-1", "POST /predict 200"),
    )

    assert logs.last_lines(kept, REVIEWS, 2, deployed_id(NEW)) == "no module named iris\nbye"
    assert logs.last_lines(kept, REVIEWS, 2) == "bye\nPOST /predict 200"
