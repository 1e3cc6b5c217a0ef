"""`mlscale list`: list the deployments of a folder, or of an account and region."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlscale.cli import options
from mlscale.cli.checking import usual_spec
from mlscale.cli.console import Output
from mlscale.errors import UsageError

if TYPE_CHECKING:
    from mlscale.providers.contract import Provider

app = typer.Typer(rich_markup_mode=None, add_completion=False)


class ProviderName(StrEnum):
    """Where deployments can be."""

    LOCAL = "local"
    SAGEMAKER = "sagemaker"
    VERTEX = "vertex"


@app.command(
    name="list",
    epilog=options.examples(
        "mlscale list",
        "mlscale list models/churn --output json",
        "mlscale list --provider sagemaker --region us-east-1",
        "mlscale list --provider vertex --project acme-ml --region us-central1",
    ),
)
def list_(
    context: typer.Context,
    place: options.FolderArgument = Path(),
    provider: Annotated[
        ProviderName | None, typer.Option("--provider", help="Whose deployments; those of the spec if left out.")
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", metavar="REGION", help="The cloud's region, for --provider.")
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", metavar="ID", help="The project at Google, for --provider vertex.")
    ] = None,
    env: options.EnvOption = None,
    *,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """List the deployments where the spec's is: in this folder, or in the cloud's account and region.

    Without a spec they are this folder's. At AWS the credentials say which account it is, at Google --project does.
    """
    from mlscale.cli.console import show
    from mlscale.report import json
    from mlscale.report.tables import table

    asked = _provider(context, place, provider, (region, project), env)
    seen = [found for found in asked.read_all(asked.list()) if found is not None]
    if output is Output.JSONL:
        for each in seen:
            show("", {"deployment": json.data(each)}, output)
        return
    rows = [
        (each.identity.name, each.phase, each.stable.revision.id if each.stable else "", each.address or "")
        for each in seen
    ]
    words = table(("NAME", "PHASE", "REVISION", "ADDRESS"), rows) if rows else "No deployments here."
    show(words, {"deployments": json.data(seen)}, output, no_color=no_color)


def _provider(
    context: typer.Context,
    place: Path,
    name: ProviderName | None,
    cloud: tuple[str | None, str | None],
    env: str | None,
) -> Provider:
    """Return who is asked: the provider that is named, else that of the spec, else this machine."""
    from mlscale.engine.session import LOCAL_ROOT
    from mlscale.providers.registry import Site

    region, project = cloud
    _refuse_unfit(name, region, project)
    folder = options.folder_of(place)
    if name is None and (place.is_file() or usual_spec(folder) is not None):
        return options.session_of(context, place, None, env=env).provider
    return options.world_of(context).provider(Site(name or "local", folder / LOCAL_ROOT, project, region))


def _refuse_unfit(name: ProviderName | None, region: str | None, project: str | None) -> None:
    """Return if the options say where to look, and no more than that.

    Raises:
        UsageError: they don't.
    """
    examples = {ProviderName.SAGEMAKER: "us-east-1", ProviderName.VERTEX: "us-central1"}
    if name in examples and region is None:
        hint = f"add --region {examples[name]}"
        raise UsageError(f"--provider {name} has many regions", why="--region is not there", hint=hint)
    if name is ProviderName.VERTEX and project is None:
        hint = "add --project, with the project's id"
        raise UsageError("--provider vertex has many projects", why="--project is not there", hint=hint)
    if region is not None and name not in examples:
        raise UsageError("--region is for a cloud", why=f"--region {region}", hint="add --provider sagemaker or vertex")
    if project is not None and name is not ProviderName.VERTEX:
        raise UsageError("--project is for Google", why=f"--project {project}", hint="add --provider vertex")
