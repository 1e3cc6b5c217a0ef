"""NVML's Python package (nvidia-ml-py): the calls that `nvml_fails` names raise, as without a driver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from machine import HAS, note  # type: ignore[import-not-found,unused-ignore]


class NVMLError(Exception):
    """What every failure of NVML is."""


def _asked(call: str, *words: Any) -> None:
    note(call, *words)
    if call in HAS.get("nvml_fails", ()):
        raise NVMLError("Driver Not Loaded" if call == "nvmlInit" else "Not Supported")


def nvmlInit() -> None:  # noqa: N802 - NVML's names
    """Connect to the driver."""
    _asked("nvmlInit")


def nvmlDeviceGetCount() -> int:  # noqa: N802
    """Return the number of GPUs."""
    _asked("nvmlDeviceGetCount")
    return len(HAS["gpus"])


def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
    """Return what names a GPU in the other calls."""
    _asked("nvmlDeviceGetHandleByIndex", index)
    return index


def nvmlDeviceGetMemoryInfo(handle: int) -> Any:  # noqa: N802
    """Return a GPU's memory."""
    _asked("nvmlDeviceGetMemoryInfo", handle)
    return SimpleNamespace(used=HAS["gpus"][handle]["used"])


def nvmlDeviceGetUtilizationRates(handle: int) -> Any:  # noqa: N802
    """Return how busy a GPU was, in percent."""
    _asked("nvmlDeviceGetUtilizationRates", handle)
    return SimpleNamespace(gpu=HAS["gpus"][handle]["busy"])
