"""Durations, latencies, percentages and sizes as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
DURATION_PATTERN = r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6}(?:\.[0-9]{1,3})?)s)?"
PERCENT_PATTERN = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)%"
LATENCY_PATTERN = r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s)"
SIZE_PATTERN = r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(Ki|Mi|Gi|Ti)"
_SIZES = {"Ti": 2**40, "Gi": 2**30, "Mi": 2**20, "Ki": 2**10}
_LONGEST_SHOWN = 40


def duration_of(text: str) -> timedelta:
    """Return the time that `text` says: `90s`, `10m`, `1h30m`, `2d`.

    Raises:
        ValueError: it is not a duration; the words are fit for a user.
    """
    found = re.fullmatch(DURATION_PATTERN, text)
    if not text or found is None:
        raise ValueError(f"{text[:_LONGEST_SHOWN]!r} is not a duration: write it like 30s, 10m or 1h30m")
    days, hours, minutes, seconds = (part or "0" for part in found.groups())
    return timedelta(days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds))


def duration_text(duration: timedelta) -> str:
    """Return a duration as `duration_of` reads it, in the largest units that fit: 5400 s → `1h30m`."""
    left = duration.total_seconds()
    if left == 0:
        return "0s"
    parts = []
    for letter, unit in _UNITS[:-1]:
        count, left = divmod(left, unit)
        if count:
            parts.append(f"{count:.0f}{letter}")
    if left:
        parts.append(f"{left:.6f}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)


def latency_of(text: str) -> timedelta:
    """Return the time that `text` says: `500ms`, `1.5s`.

    Raises:
        ValueError: it is not a latency; the words are fit for a user.
    """
    found = re.fullmatch(LATENCY_PATTERN, text)
    if found is None:
        raise ValueError(f"{text[:_LONGEST_SHOWN]!r} is not a latency: write it like 500ms or 1.5s")
    return timedelta(milliseconds=float(found[1]) * (1000 if found[2] == "s" else 1))


def latency_text(latency: timedelta) -> str:
    """Return a latency in milliseconds, as `latency_of` reads it: 1.5 s → `1500ms`."""
    return f"{latency.total_seconds() * 1000:.3f}".rstrip("0").rstrip(".") + "ms"


def percent_of(text: str) -> float:
    """Return the number before the percent sign: `85%` → 85.0.

    Raises:
        ValueError: it is not a percentage; the words are fit for a user.
    """
    found = re.fullmatch(PERCENT_PATTERN, text)
    if found is None:
        raise ValueError(f"{text[:_LONGEST_SHOWN]!r} is not a percentage: write it like 85%")
    return float(found[1])


def percent_text(percent: float) -> str:
    """Return a percentage as `percent_of` reads it: 0.5 → `0.5%`."""
    return f"{percent:.6f}".rstrip("0").rstrip(".") + "%"


def size_of(text: str) -> int:
    """Return the bytes that `text` says: `512Mi`, `4Gi`, `1.5Gi`.

    Raises:
        ValueError: it is not a size; the words are fit for a user.
    """
    found = re.fullmatch(SIZE_PATTERN, text)
    if found is None:
        raise ValueError(f"{text[:_LONGEST_SHOWN]!r} is not a size: write it like 512Mi or 4Gi")
    return int(float(found[1]) * _SIZES[found[2]])


def size_text(size: int) -> str:
    """Return whole KiB of bytes as `size_of` reads them, in the largest unit that fits: 1536 MiB → `1536Mi`."""
    unit = next((name for name, bytes_ in _SIZES.items() if size >= bytes_ and size % bytes_ == 0), "Ki")
    return f"{size // _SIZES[unit]}{unit}"
