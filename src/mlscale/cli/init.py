"""`mlscale init`: copy a template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from mlscale.errors import UsageError

app = typer.Typer(rich_markup_mode=None)
SCHEMA_FILE = "spec.schema.json"
LEFT_OUT = shutil.ignore_patterns(".mlscale", "__pycache__", SCHEMA_FILE)


@app.command()
def init(
    template: Annotated[str | None, typer.Argument(help="The template; without it they are listed.")] = None,
    folder: Annotated[Path | None, typer.Argument(help="Where to; a new folder of the template's name.")] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Copy a template: a spec, a small real model with the script that made it, and a request."""
    known = sorted(each.name for each in templates().iterdir() if (each / "spec.yaml").is_file())
    if template is None:
        typer.echo("\n".join(known))
        return
    if template not in known:
        raise UsageError("there is no such template", why=template, hint=f"known are {', '.join(known)}")
    target = folder or Path(template)
    if target.exists() and any(target.iterdir()) and not force:
        raise UsageError("the folder is not empty", why=str(target), hint="another folder, or --force")
    from mlscale.spec.schema import json_schema

    try:
        shutil.copytree(templates() / template, target, dirs_exist_ok=True, ignore=LEFT_OUT)
        (target / SCHEMA_FILE).write_text(json.dumps(json_schema(), indent=1) + "\n")
        spec = target / "spec.yaml"
        spec.write_text(f"# yaml-language-server: $schema={SCHEMA_FILE}\n{spec.read_text()}")
    except OSError as error:
        raise UsageError("the template can't be written", why=f"{error.filename}: {error.strerror}") from error
    typer.echo(f"Wrote {target}. Next: mlscale deploy {spec}")


def templates() -> Path:
    """Return the folder of the templates: in the package when it was installed, beside `src` in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent.parent / "templates"
