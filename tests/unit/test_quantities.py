"""Durations, latencies, percentages and sizes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlscale.quantities import (
    duration_of,
    duration_text,
    latency_of,
    latency_text,
    percent_of,
    percent_text,
    size_of,
    size_text,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("0s", 0),
        ("1.5s", 1.5),
        ("1d1h1m1.001s", 90061.001),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    """Every unit counts, and they add up."""
    assert duration_of(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "10", "m", "1m1h", "-5s", "5 m", "9999999999d", "1.5m", "1.2345s", "5M", "٣s", "5s\n", "1e3s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A number without unit, a wrong order, a sign, or digits of another script are refused, not guessed."""
    with pytest.raises(ValueError, match="not a duration"):
        duration_of(text)


@pytest.mark.parametrize("text", ["1h30m", "45s", "2d", "0s", "1.5s", "1m0.001s"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    """Writing and reading are each other's inverse."""
    assert duration_text(duration_of(text)) == text


@given(st.integers(0, 366 * 86_400_000))
def test_no_duration_is_changed_by_writing_it(milliseconds: int) -> None:
    """To the millisecond, and up to a year: what is written reads back as the same time."""
    duration = timedelta(milliseconds=milliseconds)

    assert duration_of(duration_text(duration)) == duration


@given(st.text(max_size=20) | st.from_regex(r"[0-9dhms.]{1,12}", fullmatch=True))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    """No text raises anything else, and what was read is never negative."""
    try:
        duration = duration_of(text)
    except ValueError:
        return
    assert duration >= timedelta(0)


@pytest.mark.parametrize(
    ("text", "seconds", "written"),
    [("500ms", 0.5, "500ms"), ("1.5s", 1.5, "1500ms"), ("0.25ms", 0.00025, "0.25ms"), ("0ms", 0, "0ms")],
)
def test_a_latency_is_read_in_either_unit(text: str, seconds: float, written: str) -> None:
    """Milliseconds or seconds; it is written in milliseconds, without needless digits."""
    assert latency_of(text) == timedelta(seconds=seconds)
    assert latency_text(latency_of(text)) == written


@pytest.mark.parametrize("text", ["", "500", "ms", "5m", "-5ms", "5 ms", "1e3ms", "1.2345ms", "٣s", "5s\n"])
def test_what_is_no_latency_is_refused(text: str) -> None:
    """A unit is needed, and no minutes: who waits that long for one answer?"""
    with pytest.raises(ValueError, match="is not a latency"):
        latency_of(text)


@given(st.integers(0, 3_600_000_000))
def test_no_latency_is_changed_by_writing_it(microseconds: int) -> None:
    """To the microsecond, and up to an hour: what is written reads back as the same time."""
    latency = timedelta(microseconds=microseconds)

    assert latency_of(latency_text(latency)) == latency


@given(st.integers(0, 10**10).map(lambda millionths: millionths / 10**6))
def test_no_percentage_is_changed_by_writing_it(percent: float) -> None:
    """To six digits after the point: what is written reads back as the same number."""
    assert percent_of(percent_text(percent)) == percent


@pytest.mark.parametrize(("percent", "text"), [(1.0, "1%"), (0.5, "0.5%"), (100.0, "100%"), (10.0, "10%"), (0.0, "0%")])
def test_a_percentage_is_written_without_needless_digits(percent: float, text: str) -> None:
    """100 keeps its zeros, and 0.50 does not."""
    assert percent_text(percent) == text


@pytest.mark.parametrize(("text", "percent"), [("85%", 85.0), ("0.5%", 0.5), ("0%", 0.0), ("150%", 150.0)])
def test_a_percentage_is_read(text: str, percent: float) -> None:
    """The number before the sign, as it stands."""
    assert percent_of(text) == percent


@pytest.mark.parametrize("text", ["85", "%", "-1%", "85 %", "1e2%", "nan%", "85%%", "٨٥%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    """Without its sign a number is no percentage; neither is anything else."""
    with pytest.raises(ValueError, match="not a percentage"):
        percent_of(text)


@pytest.mark.parametrize(
    ("text", "size"), [("512Mi", 2**29), ("4Gi", 2**32), ("1.5Gi", 3 * 2**29), ("16Ki", 2**14), ("1Ti", 2**40)]
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    """Binary units, a fraction allowed; and it is written so that it reads the same again."""
    assert size_of(text) == size
    assert size_of(size_text(size)) == size


@pytest.mark.parametrize("text", ["", "4", "4G", "4GB", "-1Gi", "Gi", "4 Gi", "1e3Mi"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """A unit is needed, and it is a binary one."""
    with pytest.raises(ValueError, match="write it like 512Mi or 4Gi"):
        size_of(text)
