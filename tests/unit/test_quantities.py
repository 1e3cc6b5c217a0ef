"""Durations and percentages."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mlscale.quantities import duration_of, duration_text, percent_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("0s", 0), ("1.5s", 1.5)]
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    """Every unit counts, and they add up."""
    assert duration_of(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "1m1h", "-5s", "5 m", "9999999999d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A number without unit, a wrong order or a sign is refused, not guessed."""
    with pytest.raises(ValueError, match="not a duration"):
        duration_of(text)


@pytest.mark.parametrize("text", ["1h30m", "45s", "2d", "0s", "1.5s"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    """Writing and reading are each other's inverse."""
    assert duration_text(duration_of(text)) == text


def test_a_percentage_needs_its_sign() -> None:
    """85% is 85.0; 85 is no percentage."""
    assert percent_of("85%") == 85.0
    with pytest.raises(ValueError, match="not a percentage"):
        percent_of("85")
