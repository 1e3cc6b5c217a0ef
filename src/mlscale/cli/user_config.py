"""The user's own defaults: a file whose settings hold where neither flag, environment nor spec says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from mlscale.errors import UsageError

CONFIG_FILE = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mlscale" / "config.yaml"


def settings() -> dict[str, str]:
    """Return the settings in the user's file, none if there is no file.

    Raises:
        UsageError: the file can't be read, or holds something else than settings.
    """
    try:
        text = CONFIG_FILE.read_text()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError("the user's settings can't be read", why=f"{CONFIG_FILE}: {error.strerror}") from error
    from mlscale.spec.nodes import tree_of

    tree = tree_of(text, str(CONFIG_FILE))
    if tree.problems or not isinstance(tree.value, dict):
        raise UsageError("the user's settings can't be read", why=str(*tree.problems[:1]), hint=f"edit {CONFIG_FILE}")
    return {key: str(value) for key, value in tree.value.items()}
