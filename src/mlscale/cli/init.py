"""`mlscale init`: copy a template."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mlscale.cli import completion, options
from mlscale.cli.console import Output
from mlscale.errors import UsageError

app = typer.Typer(rich_markup_mode=None, add_completion=False)
SCHEMA_FILE = "spec.schema.json"
LEFT_OUT = shutil.ignore_patterns(".mlscale", "__pycache__", SCHEMA_FILE)


@app.command(
    epilog=options.examples(
        "mlscale init",
        "mlscale init sklearn iris && mlscale deploy iris/spec.yaml",
        "mlscale init sagemaker",
        "mlscale init vertex",
    )
)
def init(
    template: Annotated[
        str | None,
        typer.Argument(help="The template; without it they are listed.", autocompletion=completion.templates),
    ] = None,
    folder: Annotated[Path | None, typer.Argument(help="Where to; a new folder of the template's name.")] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    output: options.OutputOption = Output.TEXT,
) -> None:
    """Copy a template: a spec, a small real model with the script that made it, and a request."""
    from mlscale.cli.console import show
    from mlscale.providers import templates

    known = known_templates()
    if template is None:
        show("\n".join(known), {"templates": known}, output)
        return
    if template not in known:
        raise UsageError("there is no such template", why=template, hint=f"known are {', '.join(known)}")
    target = folder or Path(template)
    spec = target / "spec.yaml"
    _copy(templates.folder() / template, target, force=force)
    facts = {"template": template, "folder": str(target), "spec": str(spec)}
    show(f"Wrote {target}. Next: {_next(spec)}", facts, output)


def _next(spec: Path) -> str:
    """Return what to do with the copied `spec`; in a cloud it first needs what is the user's own."""
    from mlscale.spec.parse import parse

    if parse(spec.read_bytes(), str(spec), variables={}).provider == "local":
        return f"mlscale deploy {spec}"
    return f"write what is yours into {spec}, then: mlscale doctor {spec}"


def _copy(source: Path, target: Path, *, force: bool) -> None:
    from mlscale.spec.schema import json_schema

    try:
        if target.exists() and not force and (not target.is_dir() or any(target.iterdir())):
            raise UsageError("the folder is not empty", why=str(target), hint="choose another folder, or add --force")
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=LEFT_OUT)
        (target / SCHEMA_FILE).write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
        spec = target / "spec.yaml"
        text = spec.read_text(encoding="utf-8")
        spec.write_text(f"# yaml-language-server: $schema={SCHEMA_FILE}\n{text}", encoding="utf-8")
    except shutil.Error as error:
        place, _, why = error.args[0][0]
        raise UsageError("the template can't be written", why=f"{place}: {why}") from error
    except OSError as error:
        raise UsageError("the template can't be written", why=f"{error.filename}: {error.strerror}") from error


def known_templates() -> Sequence[str]:
    """Return the names of the templates."""
    from mlscale.providers import templates

    return sorted(each.name for each in templates.folder().iterdir() if (each / "spec.yaml").is_file())
