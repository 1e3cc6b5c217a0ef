"""Where the templates are: what `mlscale init` copies and images are made from."""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """Return the folder of the templates: in the package when it was installed, beside `src` in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent.parent / "templates"
