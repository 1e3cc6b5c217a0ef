"""One request, understood, whichever port it came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.doubles.aws import kill, wire

READING = (
    "Get", "List", "Head", "Predict", "RawPredict", "Query", "Search", "Tail", "Test", "Wait",
)  # fmt: skip
"""What the names of operations begin with that leave everything as it is."""

STORAGE = "storage"


@dataclass
class Call(wire.Call):
    """A call of a gRPC method or of Cloud Storage; the journal shows `message` where there is one."""

    message: Any = None
    version: str = "v1"

    @property
    def mutating(self) -> bool:
        """Return whether it may change what exists."""
        return not self.operation.startswith(READING)

    @property
    def workspace(self) -> bool:
        """Return whether it is about mlscale's own notes in a bucket."""
        return self.service == STORAGE and wire.WORKSPACE.search(str(self.params.get("object", ""))) is not None


class Kill(kill.Kill):
    """The kill switch, which knows Cloud Storage by its name."""

    def _is_look(self, call: wire.Call) -> bool:
        return call.service != STORAGE and super()._is_look(call)
