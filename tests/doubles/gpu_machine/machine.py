"""What the packages have in common: the machine that they are on, and the journal of what is asked of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

HAS: dict[str, Any] = json.loads(os.environ["GPU_MACHINE"])


def note(*words: Any) -> None:
    """Write down one thing that was asked."""
    with Path(os.environ["GPU_JOURNAL"]).open("a") as journal:
        journal.write(json.dumps(words) + "\n")
