"""Whose a resource is."""

from __future__ import annotations

import pytest

from mlscale.errors import NotOurs
from mlscale.providers.ownership import refuse_others


def test_what_is_marked_with_the_name_is_ours() -> None:
    """Nothing is raised."""
    refuse_others("endpoint", "reviews", "reviews", "reviews")


@pytest.mark.parametrize(
    ("kind", "owner", "why", "hint"),
    [
        ("endpoint", None, "it has none of our marks", "mlscale import, or choose another name"),
        ("endpoint", "fraud", "it belongs to the deployment fraud", "choose another name"),
        ("model", None, "it has none of our marks", "choose another name"),
    ],
)
def test_what_is_others_is_refused(kind: str, owner: str | None, why: str, hint: str) -> None:
    """Only an endpoint that belongs to nobody can be imported."""
    with pytest.raises(NotOurs) as raised:
        refuse_others(kind, "theirs", "reviews", owner)

    error = raised.value
    assert (error.what, error.why, error.hint) == (f"this {kind} is not ours", f"theirs: {why}", hint)
