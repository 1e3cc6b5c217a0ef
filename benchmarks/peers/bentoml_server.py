"""BentoML's async API, the quicker of its two."""

from __future__ import annotations

from typing import Any

import bentoml
from predict import loaded


@bentoml.service
class Digits:
    """The model."""

    def __init__(self) -> None:
        self.predict_rows = loaded()

    @bentoml.api(route="/invocations")  # type: ignore[misc]
    async def invocations(self, instances: list[list[float]]) -> dict[str, Any]:
        """Answer one request."""
        return {"predictions": self.predict_rows(instances).tolist()}
