"""What the shell offers for a word that is being typed: from this machine and the workspace, and never an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mlscale.engine.session import Session

SPEC_ENDINGS = (".yaml", ".yml")


def specs(incomplete: str) -> Sequence[str]:
    """Return YAML files, and folders that may hold some."""
    typed = Path(incomplete or ".")
    folder = typed if incomplete.endswith("/") or not incomplete else typed.parent
    found = []
    with suppress(OSError):
        for each in sorted(folder.iterdir()):
            shown = each.as_posix()
            if incomplete.startswith("./"):
                shown = f"./{shown}"
            if each.is_dir() and not each.name.startswith("."):
                found.append(f"{shown}/")
            elif each.suffix in SPEC_ENDINGS:
                found.append(shown)
    return _fitting(found, incomplete)


def templates(incomplete: str) -> Sequence[str]:
    """Return the templates of `mlscale init`."""
    from mlscale.cli.init import known_templates

    return _fitting(_quietly(known_templates), incomplete)


def environments(context: typer.Context, incomplete: str) -> Sequence[str]:
    """Return the overlays of the spec."""

    def found() -> Iterable[str]:
        from mlscale.cli.checking import spec_path
        from mlscale.spec.nodes import tree_of

        path = spec_path(_word(context), context.params.get("spec"))
        overlays = (tree_of(path.read_bytes(), str(path)).value or {}).get("environments")
        return list(overlays) if isinstance(overlays, dict) else []

    return _fitting(_quietly(found), incomplete)


def revisions(context: typer.Context, incomplete: str) -> Sequence[str]:
    """Return the revisions that were deployed, the newest first."""

    def found() -> Iterable[str]:
        from mlscale.state.revisions import recorded

        session = _session(context)
        return [each.revision.id for each in recorded(session.store, session.identity.name)]

    return _fitting(_quietly(found), incomplete)


def runs(context: typer.Context, incomplete: str) -> Sequence[str]:
    """Return the runs of the journal, the newest first."""

    def found() -> Iterable[str]:
        from mlscale.state.journal import runs as known_runs

        session = _session(context)
        return reversed(known_runs(session.store, session.identity.name))

    return _fitting(_quietly(found), incomplete)


def _session(context: typer.Context) -> Session:
    from mlscale.cli.checking import STDIN
    from mlscale.cli.options import session_of

    given, word = context.params, _word(context)
    if word == STDIN:
        raise typer.Abort  # it is the shell's own
    return session_of(
        context,
        word,
        given.get("spec"),
        env=given.get("env"),
        overrides=given.get("overrides"),
        workspace=given.get("workspace"),
    )


def _word(context: typer.Context) -> Path | None:
    """Return the spec that stands there as a word; behind an option without its value it is still among the rest."""
    words: list[Path] | None = context.params.get("specs")
    word: Path | None = words[0] if words else context.params.get("spec_word")
    return word or next((Path(each) for each in context.args if not each.startswith("--")), None)


def _quietly(found: Callable[[], Iterable[str]]) -> Sequence[str]:
    try:
        return list(found())
    except Exception:  # noqa: BLE001 - a shell that completes shows nothing rather than a traceback
        return []


def _fitting(words: Sequence[str], incomplete: str) -> Sequence[str]:
    return [each for each in words if each.startswith(incomplete)]
