"""ONNX Runtime built for GPUs: any file is a model that adds up each row.

A provider that can't be started is left out of the session, and the processor is always the last, as in the real one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from machine import HAS, note  # type: ignore[import-not-found,unused-ignore]

CPU = "CPUExecutionProvider"


@dataclass
class SessionOptions:
    """How a session runs."""

    intra_op_num_threads: int = 0


@dataclass
class Value:
    """An input or output."""

    name: str
    type: str
    shape: list[Any]


def get_available_providers() -> Sequence[str]:
    """Return what this build has."""
    found: Sequence[str] = HAS["providers"]
    return found


def preload_dlls() -> None:
    """Take note."""
    note("preload_dlls")


class InferenceSession:
    """A loaded model."""

    def __init__(self, path: str, options: SessionOptions, providers: Sequence[str]) -> None:
        self.path = path
        note("InferenceSession", list(providers), options.intra_op_num_threads)
        self._providers = [each for each in providers if each in HAS["starts"] and each != CPU] + [CPU]

    def get_providers(self) -> Sequence[str]:
        """Return what was started."""
        return self._providers

    def get_inputs(self) -> Sequence[Value]:
        """Return the only input."""
        return [Value("x", "tensor(float)", ["rows", 2])]

    def get_outputs(self) -> Sequence[Value]:
        """Return the only output."""
        return [Value("sum", "tensor(float)", ["rows"])]

    def run(self, _: Sequence[str], feed: Mapping[str, Any]) -> Sequence[Any]:
        """Return the sum of each row."""
        return [np.sum(feed["x"], axis=1)]
