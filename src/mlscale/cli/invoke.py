"""`mlscale invoke`: send a request, and print the prediction."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlscale.cli import options
from mlscale.cli.checking import STDIN
from mlscale.cli.console import Output
from mlscale.errors import ProviderFailed, UsageError

if TYPE_CHECKING:
    from mlscale.providers.contract import Answer

app = typer.Typer(rich_markup_mode=None, add_completion=False)
FIRST_FAILURE = 400


@app.command(
    epilog=options.examples(
        "mlscale invoke --file request.json",
        """mlscale invoke --data '{"instances": [[5.1, 3.5, 1.4, 0.2]]}'""",
        "mlscale invoke --content-type text/csv < rows.csv",
    )
)
def invoke(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    data: Annotated[str | None, typer.Option("--data", "-d", metavar="TEXT", help="The request's body.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="A file with the body; without both, stdin."),
    ] = None,
    content_type: Annotated[str, typer.Option(metavar="TYPE", help="The body's type.")] = "application/json",
    accept: Annotated[str, typer.Option(metavar="TYPE", help="The type of the answer.")] = "application/json",
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    timeout: options.TimeoutOption = None,
    *,
    output: options.OutputOption = Output.TEXT,
) -> None:
    """Send one request and print the answer's body; an answer of 400 or more is an error."""
    from mlscale.cli.console import show

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    if data is not None and file is not None:
        raise UsageError("--data and --file are both there", hint="keep one of them")
    if session.spec_path == STDIN and data is None and file is None:
        raise UsageError("spec and request can't both come from stdin", hint="add --file or --data")
    options.deployed(session)
    body, logs = _body(data, file), options.next_command(session, "logs")
    with options.ended_after(timeout, "the model did not answer", logs):
        answer = session.provider.invoke(session.identity, body, content_type, accept)
    if answer.status >= FIRST_FAILURE:
        raise ProviderFailed(f"the model answered {answer.status}", why=answer.body.decode(errors="replace"), hint=logs)
    if output is Output.TEXT:
        _write(answer)
        return
    facts = {"status": answer.status, "content_type": answer.content_type, "revision": answer.revision}
    show("", {**facts, **_body_facts(answer)}, output)


def _write(answer: Answer) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(answer.body)
    if sys.stdout.isatty() or answer.content_type.startswith("application/json"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()


def _body_facts(answer: Answer) -> dict[str, Any]:
    """Return the body as a value if it is JSON, as text if it is text, else in base64 under a name of its own."""
    try:
        text = answer.body.decode()
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(answer.body).decode()}
    if not answer.content_type.startswith("application/json"):
        return {"body": text}
    try:
        return {"body": json.loads(text, parse_constant=_refuse)}
    except ValueError:
        return {"body": text}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _body(data: str | None, file: Path | None) -> bytes:
    if data is not None:
        return data.encode()
    try:
        return sys.stdin.buffer.read() if file is None else file.read_bytes()
    except OSError as error:
        raise UsageError("the request can't be read", why=f"{file}: {error.strerror}") from error
