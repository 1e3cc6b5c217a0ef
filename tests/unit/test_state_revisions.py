"""The record of revisions, over a folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from mlscale.deployment import Content, Health, Revision, revision_of
from mlscale.errors import WorkspaceFailed
from mlscale.state.revisions import Recorded, forget, record, recorded
from mlscale.state.store import Store, open_store
from tests.doubles.moved_clock import MORNING


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty workspace."""
    return open_store(str(tmp_path))


def a_record(revision: Revision, minutes: int = 0) -> Recorded:
    """Return the record of `revision`, deployed some minutes after the morning."""
    return Recorded(
        revision=revision,
        deployed_at=MORNING + timedelta(minutes=minutes),
        run_id="20261124T071500-0001aa",
        spec_hash="hash",
    )


FIRST = revision_of(
    Content(
        artifact="a" * 64,
        framework="sklearn",
        framework_version="1.4",
        handler="b" * 64,
        environment={"OMP_NUM_THREADS": "1"},
        machine=("ml.c6i.xlarge", "ml.c5.xlarge"),
        health=Health("/ping", timedelta(seconds=90)),
    )
)
SECOND = revision_of(Content(artifact="c" * 64, framework="onnx"))


def test_a_revision_comes_back_whole(store: Store) -> None:
    """What was recorded can be deployed again: its content still gives its id."""
    record(store, "reviews", a_record(FIRST))

    (found,) = recorded(store, "reviews")

    assert found == a_record(FIRST)
    assert revision_of(found.revision.content) == found.revision


def test_revisions_come_newest_first_and_by_deployment(store: Store) -> None:
    """A deployment whose name begins with another's is another."""
    record(store, "reviews", a_record(FIRST))
    record(store, "reviews", a_record(SECOND, minutes=5))
    record(store, "reviews-prod", a_record(FIRST))

    assert [each.revision.id for each in recorded(store, "reviews")] == [SECOND.id, FIRST.id]
    assert list(recorded(store, "nobody")) == []


def test_a_revision_that_serves_again_is_the_newest(store: Store) -> None:
    """Going back to a revision makes it the newest, and there is still one record of it."""
    record(store, "reviews", a_record(FIRST))
    record(store, "reviews", a_record(SECOND, minutes=5))
    record(store, "reviews", a_record(FIRST, minutes=9))

    assert [each.revision.id for each in recorded(store, "reviews")] == [FIRST.id, SECOND.id]


def test_a_forgotten_revision_is_gone(store: Store) -> None:
    """Forgetting takes one revision, and twice is harmless."""
    record(store, "reviews", a_record(FIRST))
    record(store, "reviews", a_record(SECOND))

    forget(store, "reviews", FIRST.id)
    forget(store, "reviews", FIRST.id)

    assert [each.revision.id for each in recorded(store, "reviews")] == [SECOND.id]


@pytest.mark.parametrize("change", ['"version": 2', '"version": 1, "new": 1'])
def test_a_record_that_is_not_of_this_version_is_refused(store: Store, change: str) -> None:
    """An unknown version or key is an error that names the file, never a revision left out."""
    record(store, "reviews", a_record(FIRST))
    path = f"revisions/reviews/{FIRST.id}.json"
    found = store.get(path)
    assert found is not None
    store.put(path, found.data.replace(b'"version": 1', change.encode(), 1).replace(b'"version":1', change.encode(), 1))

    with pytest.raises(WorkspaceFailed, match=path):
        recorded(store, "reviews")
