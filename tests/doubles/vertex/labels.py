"""User labels, as every resource of Vertex AI has them."""

from __future__ import annotations

import re
from typing import Any

from tests.doubles.vertex.refusal import wrong_field

KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
VALUE = re.compile(r"[a-z0-9_-]{0,63}")
MOST = 64


def check(labels: Any, field: str) -> None:
    """Return if the labels are ones.

    Raises:
        Refusal: there are too many, or a key or a value is none.
    """
    # rule labels.form
    if len(labels) > MOST:
        raise wrong_field("labels.many", field, f"more than {MOST} labels")
    for key, value in labels.items():
        if not KEY.fullmatch(key) or not VALUE.fullmatch(value):
            words = "label keys and values may only have lowercase letters, digits, underscores and dashes, 63 at most"
            raise wrong_field("labels.form", f"{field}[{key}]", words)
