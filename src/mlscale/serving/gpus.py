"""What this machine's NVIDIA GPUs do now, through NVML, where its Python package and a driver are there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Reading(NamedTuple):
    """One GPU's state; None for what this GPU does not tell."""

    gpu: int
    memory_used_bytes: int | None
    utilization: float | None
    """Share of the last moments in which it computed, 0 to 1."""


class Gpus:
    """The GPUs that NVML knows: none without nvidia-ml-py, a driver or a GPU. Found at the first reading, then kept."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._devices: Sequence[Any] | None = None

    def readings(self) -> Sequence[Reading]:
        """Return the GPUs in NVML's order."""
        if self._devices is None:
            self._devices = self._found()
        return [self._reading(number, device) for number, device in enumerate(self._devices)]

    def exposition(self) -> str:
        """Return the readings in Prometheus's text format (version 0.0.4), empty where there are none."""
        return exposition(self.readings())

    def _found(self) -> Sequence[Any]:
        try:
            import pynvml
        except ImportError:
            return ()
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            sys.stderr.write(f"no GPU is in the metrics: NVML says {error}\n")
            sys.stderr.flush()
            return ()

    def _reading(self, number: int, device: Any) -> Reading:
        nvml = self._nvml
        memory = self._told(lambda: int(nvml.nvmlDeviceGetMemoryInfo(device).used))
        percent = self._told(lambda: int(nvml.nvmlDeviceGetUtilizationRates(device).gpu))
        return Reading(number, memory, None if percent is None else percent / 100)

    def _told(self, read: Any) -> int | None:
        """Return what a GPU tells, None where it does not: a part of a GPU has no utilization, a lost one nothing."""
        try:
            told: int = read()
        except self._nvml.NVMLError:
            return None
        return told


def exposition(readings: Sequence[Reading]) -> str:
    """Return readings in Prometheus's text format (version 0.0.4), empty where there are none."""
    return "".join(f"{line}\n" for line in _lines(readings))


def _lines(readings: Sequence[Reading]) -> Iterator[str]:
    used = [(each.gpu, str(each.memory_used_bytes)) for each in readings if each.memory_used_bytes is not None]
    busy = [(each.gpu, f"{each.utilization:g}") for each in readings if each.utilization is not None]
    for name, values in (("model_gpu_memory_used_bytes", used), ("model_gpu_utilization_ratio", busy)):
        if values:
            yield f"# TYPE {name} gauge"
            yield from (f'{name}{{gpu="{gpu}"}} {value}' for gpu, value in values)
