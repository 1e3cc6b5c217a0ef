"""`mlscale invoke`: send a request, and print the prediction."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlscale.cli import options
from mlscale.errors import ProviderFailed, UsageError

app = typer.Typer(rich_markup_mode=None)
FIRST_FAILURE = 400


@app.command()
def invoke(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    data: Annotated[str | None, typer.Option("--data", "-d", help="The request's body.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A file with the body; without both, stdin.")
    ] = None,
    content_type: Annotated[str, typer.Option(help="The body's type.")] = "application/json",
    accept: Annotated[str, typer.Option(help="The type of the answer.")] = "application/json",
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
) -> None:
    """Send one request and print the answer's body; an answer of 400 or more is an error."""
    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    answer = session.provider.invoke(session.identity, _body(data, file), content_type, accept)
    if answer.status >= FIRST_FAILURE:
        raise ProviderFailed(
            f"the model answered {answer.status}",
            why=answer.body.decode(errors="replace"),
            hint=f"mlscale logs {session.spec_path}",
        )
    sys.stdout.buffer.write(answer.body)
    if sys.stdout.isatty() or answer.content_type.startswith("application/json"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()


def _body(data: str | None, file: Path | None) -> bytes:
    if data is not None and file is not None:
        raise UsageError("--data and --file are both there", hint="keep one of them")
    if data is not None:
        return data.encode()
    try:
        return sys.stdin.buffer.read() if file is None else file.read_bytes()
    except OSError as error:
        raise UsageError("the request can't be read", why=f"{file}: {error.strerror}") from error
