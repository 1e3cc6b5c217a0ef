"""PyTorch: a file is a TorchScript if its text is the form of its output: tensor, tuple or dict.

Its module has a weight of 1 for each column. As with the real one a tensor must be of the weights' type and on their
device, and a device that is not there is a RuntimeError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from machine import HAS, note  # type: ignore[import-not-found,unused-ignore]

float32 = np.dtype("float32")
float16 = np.dtype("float16")
_state = SimpleNamespace(inference=False)


class Tensor:
    """An array on a device."""

    def __init__(self, values: Any, device: str = "cpu") -> None:
        self.values = values
        self.device = device

    @property
    def dtype(self) -> Any:
        """The type of its values."""
        return self.values.dtype

    def is_floating_point(self) -> bool:
        """Whether it can have fractions."""
        return bool(self.values.dtype.kind == "f")

    def to(self, where: Any) -> Tensor:
        """Return it on another device, or of another type."""
        if isinstance(where, str):
            _present(where)
            return Tensor(self.values, where)
        return Tensor(self.values.astype(where), self.device)

    def tolist(self) -> Any:
        """Return its values."""
        return self.values.tolist()


class Script:
    """A loaded TorchScript."""

    def __init__(self, form: str, device: str) -> None:
        self._form = form
        self._weight = Tensor(np.ones(2, dtype=HAS.get("weights", "float32")), device)
        self.training = True

    def eval(self) -> None:
        """Leave the mode for training."""
        self.training = False

    def parameters(self) -> Iterator[Tensor]:
        """Yield a counter, as batch normalization has one, and the weights."""
        yield Tensor(np.zeros(1, dtype="int64"))
        yield self._weight

    def __call__(self, rows: Tensor) -> Any:
        note(
            "call", rows.device, str(rows.dtype), rows.tolist(), {"inference": _state.inference, "train": self.training}
        )
        if rows.device != self._weight.device:
            raise RuntimeError("Expected all tensors to be on the same device")
        if rows.dtype != self._weight.dtype:
            raise RuntimeError("expected scalar type Float")
        sums, most = Tensor(rows.values @ self._weight.values), Tensor(rows.values.max(axis=1))
        forms: dict[str, Any] = {"tensor": sums, "tuple": (sums, most), "dict": {"sum": sums, "most": most}}
        return forms[self._form]


def _present(device: str) -> None:
    kind = device.partition(":")[0]
    if kind != "cpu" and not HAS.get(kind):
        raise RuntimeError(f"Attempting to use {device}, which is not there.\nIf you are on a CPU-only machine: don't")


def _load(file: str, map_location: str) -> Script:
    note("jit.load", Path(file).name, map_location)
    _present(map_location)
    form = Path(file).read_text()
    if form not in ("tensor", "tuple", "dict"):
        raise RuntimeError("PytorchStreamReader failed locating file constants.pkl: file not found")
    return Script(form, map_location)


def from_numpy(values: Any) -> Tensor:
    """Return an array as a tensor."""
    return Tensor(values)


@contextmanager
def inference_mode() -> Iterator[None]:
    """Keep nothing for gradients."""
    _state.inference = True
    try:
        yield
    finally:
        _state.inference = False


jit = SimpleNamespace(load=_load)
cuda = SimpleNamespace(is_available=lambda: bool(HAS.get("cuda")))
backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: bool(HAS.get("mps"))))
__all__: Sequence[str] = ("Tensor", "backends", "cuda", "float16", "float32", "from_numpy", "inference_mode", "jit")
