"""`mlscale iam`: say what whoever deploys must be allowed to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mlscale.cli import options
from mlscale.cli.console import Output
from mlscale.errors import Unsupported

if TYPE_CHECKING:
    from mlscale.deployment import Deployment
    from mlscale.engine.session import Session

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def iam() -> None:
    """Say what whoever deploys must be allowed to do."""


@app.command(
    epilog=options.examples(
        "mlscale iam policy > policy.json",
        "mlscale iam policy spec.yaml --env prod",
    )
)
def policy(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    output: options.OutputOption = Output.TEXT,
) -> None:
    """Print the least IAM policy that the spec needs.

    For Google it is roles, each as a file for gcloud iam roles create, and what each is granted on.

    It is enough from deploy to destroy, names this deployment's own resources, and has only what the spec has: no
    alarm, no right to make one. While a spec changes, what it had and what it gets are both needed. Nothing is called.
    """
    import json

    from mlscale.cli.console import show
    from mlscale.providers.contract import Permissions

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    if not isinstance(session.provider, Permissions):
        raise Unsupported(
            "there is no policy to print",
            why=f"provider {session.provider.name} has nobody who could allow it",
            hint="name a spec with provider: sagemaker or vertex",
        )
    made = session.provider.policy(_asked(session), session.workspace)
    show(json.dumps(made, indent=2), {"policy": made}, output, no_color=True)


def _asked(session: Session) -> Deployment:
    """Return what the spec asks for, with its files as they are named: who allows it may not have them."""
    from mlscale.spec.resolve import Digests, deployment_of

    return deployment_of(session.spec, Digests(session.spec.model.source or "", None, None, None), {})
