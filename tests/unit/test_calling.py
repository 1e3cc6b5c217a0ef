"""Reads of a cloud that are under way side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mlscale.errors import NoCapacity
from mlscale.providers.calling import together


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
