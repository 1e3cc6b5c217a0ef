"""The values that say what is served."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlscale.deployment import WHOLE, Identity, Live, Replica, Role, ServedRevision, revision_of, without_live
from tests.builders import a_content, a_deployment


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (Identity("local", "reviews"), "local/reviews"),
        (
            Identity("sagemaker", "reviews-prod", "123456789012", "us-east-1"),
            "sagemaker/123456789012/us-east-1/reviews-prod",
        ),
    ],
)
def test_an_identity_reads_from_the_provider_to_the_name(identity: Identity, words: str) -> None:
    """What is not there, as an account on this machine, is left out."""
    assert str(identity) == words


def test_stable_is_the_revision_to_go_back_to() -> None:
    """The candidate with more traffic is not it, and an endpoint may have none."""
    stable = ServedRevision(revision_of(a_content("one")), Role.STABLE, 0)
    candidate = ServedRevision(revision_of(a_content("two")), Role.CANDIDATE, WHOLE)

    assert a_deployment(revisions=(candidate, stable)).stable == stable
    assert a_deployment(revisions=(candidate,)).stable is None


def test_without_live_keeps_only_what_stands_still() -> None:
    """Counts, replicas and the address go; shares, roles and settings stay."""
    still = a_deployment(labels={"a": "b"})
    [one] = still.revisions
    moving = replace(
        still,
        revisions=(replace(one, live=Live(2, 1), replicas=(Replica("r-1", "starting"),)),),
        address="http://127.0.0.1:1",
    )

    assert without_live(moving) == still
