"""LitServe as its documentation has it."""

from __future__ import annotations

import os
from typing import Any

import litserve
from predict import loaded


class Digits(litserve.LitAPI):  # type: ignore[misc]
    """The model."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's interface
        """Load it."""
        self.predict_rows = loaded()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - it reads the annotation
        """Return the rows."""
        return request["instances"]

    def predict(self, x: Any) -> Any:
        """Return the predictions."""
        return self.predict_rows(x)

    def encode_response(self, output: Any) -> Any:
        """Return the answer."""
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Digits(api_path="/invocations"), accelerator="cpu").run(
        host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, log_level="error"
    )
