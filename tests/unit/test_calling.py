"""Reads of a cloud that are under way side by side, and what is told of an upload."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mlscale.errors import NoCapacity
from mlscale.providers.calling import together, uploaded_text


@pytest.mark.parametrize(
    ("sent", "size", "text"),
    [
        (0, 0, "0.0 of 0.0 kB uploaded"),
        (348, 348, "0.3 of 0.3 kB uploaded"),
        (500_000, 12_345_678, "0.5 of 12.3 MB uploaded"),
    ],
)
def test_an_upload_is_told_in_the_unit_of_its_size(sent: int, size: int, text: str) -> None:
    """A small model is not 0.0 MB."""
    assert uploaded_text(sent, size) == text


def test_reads_side_by_side_come_back_in_order() -> None:
    """Also where each does the same with reads of its own."""

    def one(number: int) -> Callable[[], list[int]]:
        return lambda: together(lambda: number, lambda: -number)

    assert together(*[one(number) for number in range(20)]) == [[number, -number] for number in range(20)]


def test_of_reads_side_by_side_the_first_failure_in_order_is_told() -> None:
    """Whichever came first in time."""
    failing = threading.Event()

    def late() -> None:
        assert failing.wait(timeout=10)
        raise NoCapacity("first in order")

    def soon() -> None:
        failing.set()
        raise NoCapacity("first in time")

    with pytest.raises(NoCapacity, match="first in order"):
        together(late, soon, lambda: None)
