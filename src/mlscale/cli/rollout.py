"""`mlscale rollout`: put a new revision beside the stable one, judge it on evidence, and promote it or take it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer._click import Context
from typer.core import TyperGroup

from mlscale.cli import options, replaying
from mlscale.cli.console import Output
from mlscale.errors import UsageError

if TYPE_CHECKING:
    from mlscale.cli.running import Wishes
    from mlscale.engine.driver import Ways
    from mlscale.engine.session import Session
    from mlscale.state.rollouts import Rollout, Wish

RUN = "run"


class RunGroup(TyperGroup):
    """A group whose `default` is meant where no command is named: `mlscale rollout --canary 10`."""

    default = RUN

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Return the words, with the command that they mean."""
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [self.default, *args])


app = typer.Typer(cls=RunGroup, rich_markup_mode=None, add_completion=False)

IdOption = Annotated[
    str | None, typer.Option("--id", metavar="ROLLOUT", help="A rollout that has ended; without it the last one.")
]


@app.callback()
def rollout() -> None:
    """Put a new revision beside the stable one, judge it on evidence, and promote it or take it back.

    Without the name of a command, run is meant: mlscale rollout --canary 10.
    """


@app.command(
    RUN,
    epilog=options.examples(
        "mlscale rollout --canary 10",
        "mlscale rollout --auto --watch",
        "mlscale rollout spec.yaml --env prod --auto --timeout 3h",
        "mlscale rollout --watch",
    ),
)
def run(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    canary: Annotated[
        str | None,
        typer.Option("--canary", metavar="PERCENT", help="Give the spec's revision this share, like 10, and hold it."),
    ] = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    auto: Annotated[
        bool,
        typer.Option("--auto", help="Go all steps of the spec: promoted is exit code 0, taken back 4."),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show traffic and evidence as they come, until the rollout has ended.")
    ] = False,
    timeout: options.TimeoutOption = None,
    lease_timeout: options.LeaseTimeoutOption = "0s",
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Put the spec's revision beside the stable one, or go all steps with it.

    --canary holds it at a share until somebody promotes or aborts it; --auto goes the steps of the spec, and what is
    counted of both revisions decides. Whatever machine ran it, another can go on.
    """
    from mlscale.engine import rollout as engine

    if canary is not None and auto:
        raise UsageError("--canary and --auto are both there", why="one holds, the other goes on", hint="keep one")
    share = None if canary is None else _share(canary)
    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    if share is None and not auto and not watch:
        raise UsageError(
            "what shall be done is not said",
            why="a rollout is put at a share, or goes its steps",
            hint=f"{options.next_command(session, 'rollout', '--canary', '10')}, or --auto; or mlscale rollout status",
        )
    wishes = _wishes(context, output, timeout, lease_timeout, no_color=no_color)
    if share is not None:
        found = _driven(session, wishes, lambda ways: engine.put(session, share, ways))
    elif auto:
        found = _driven(session, wishes, lambda ways: engine.drive(session, ways), watch=watch)
    else:
        found = engine.live(session)
    if watch and found.is_live:
        found = _watched(session, wishes)
    _show(session, found, output, no_color=no_color)


@app.command(epilog=options.examples("mlscale rollout status", "mlscale rollout status --env prod --output json"))
def status(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Show how far a rollout is, what each metric shows, and what comes next."""
    from mlscale.engine import rollout as engine

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    _show(session, engine.looked_at(session, engine.last(session)), output, no_color=no_color)


@app.command(epilog=options.examples("mlscale rollout report --html rollout.html", "mlscale rollout report --markdown"))
def report(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    rollout_id: IdOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one page with the plots; it needs no network.")
    ] = None,
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it for a pull request or a CI summary.")] = False,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Report a rollout: what it was judged by, how its traffic went, and how it ended."""
    from mlscale.cli.console import note, show
    from mlscale.engine import rollout as engine
    from mlscale.report import rollout as pages

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    found = engine.looked_at(session, engine.last(session, rollout_id))
    if html is not None:
        try:
            html.write_text(pages.html(found), encoding="utf-8")
        except OSError as error:
            why = f"{html}: {error.strerror}"
            raise UsageError("the report can't be written", why=why, hint="another --html FILE") from error
        note(f"written to {html}")
    if markdown:
        show(pages.markdown(found), {}, Output.TEXT, no_color=True)
    elif html is None or output is not Output.TEXT:
        _show(session, found, output, no_color=no_color)


@app.command(epilog=options.examples("mlscale rollout promote", "mlscale rollout promote --full"))
def promote(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    full: Annotated[bool, typer.Option("--full", help="Give it all traffic now, whatever the evidence says.")] = False,
    timeout: options.TimeoutOption = None,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Go one step on, after the last to all traffic, if the evidence allows it.

    What lacks evidence stays as it is, with exit code 8, or is taken back: rollout.analysis.on_inconclusive decides.
    """
    from mlscale.state.rollouts import Wish

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    _wished(session, Wish.PROMOTE_FULL if full else Wish.PROMOTE, _wishes(context, output, timeout, no_color=no_color))


WISHES = {
    "pause": "Stay at the present share until resume; nothing is judged meanwhile, and what is watched is still "
    "counted.",
    "resume": "Go on after a pause; where nobody drives the rollout any more, mlscale rollout --auto does.",
    "abort": "Give all traffic back to the stable revision; the candidate goes, and bills no more.\n\n"
    "It works while another machine drives the rollout, within ten seconds.",
}
"""What may be wished for without more words, each a command of its own, with its help."""


def _wishing(name: str) -> Callable[..., None]:
    """Return the command that wishes for `name`."""

    def wished(
        context: typer.Context,
        spec_word: options.SpecArgument = None,
        spec: options.SpecOption = None,
        env: options.EnvOption = None,
        overrides: options.SetOption = None,
        workspace: options.WorkspaceOption = None,
        *,
        timeout: options.TimeoutOption = None,
        output: options.OutputOption = Output.TEXT,
        no_color: options.NoColorOption = False,
    ) -> None:
        from mlscale.state.rollouts import Wish

        session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
        _wished(session, Wish(name), _wishes(context, output, timeout, no_color=no_color))

    return wished


for _name, _help in WISHES.items():
    _examples = options.examples(f"mlscale rollout {_name}", f"mlscale rollout {_name} --env prod")
    app.command(_name, help=_help, epilog=_examples)(_wishing(_name))


@app.command(epilog=options.examples("mlscale rollout retry", "mlscale rollout retry --watch"))
def retry(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show traffic and evidence as they come.")] = False,
    timeout: options.TimeoutOption = None,
    lease_timeout: options.LeaseTimeoutOption = "0s",
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Try the revision that was taken back once more, from its first step."""
    from mlscale.engine import rollout as engine

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    engine.refuse_unless_taken_back(session)
    wishes = _wishes(context, output, timeout, lease_timeout, no_color=no_color)
    found = _driven(session, wishes, lambda ways: engine.drive(session, ways), watch=watch)
    _show(session, found, output, no_color=no_color)


app.command("replay", epilog=replaying.EPILOG)(replaying.replay)


def _share(text: str) -> int:
    """Return the basis points of a share like `10` or `10%`.

    Raises:
        UsageError: it is none.
    """
    from mlscale.deployment import WHOLE
    from mlscale.quantities import percent_of

    try:
        share = round(percent_of(f"{text.removesuffix('%')}%") * 100)
    except ValueError as error:
        raise UsageError("--canary is not valid", why=str(error), hint="--canary 10") from error
    if not 0 < share < WHOLE:
        raise UsageError(
            "--canary is not valid",
            why=f"{text} is not between 0% and 100%",
            hint="mlscale rollout promote --full gives it all, mlscale rollout abort nothing",
        )
    return share


def _wishes(
    context: typer.Context, output: Output, timeout: str | None = None, lease_timeout: str = "0s", *, no_color: bool
) -> Wishes:
    from mlscale.cli.running import Wishes

    return Wishes(
        command=options.command_of(context),
        output=output,
        no_color=no_color,
        timeout_s=options.seconds_of(timeout, "--timeout"),
        lease_wait_s=options.seconds_of(lease_timeout, "--lease-timeout") or 0.0,
    )


def _driven(session: Session, wishes: Wishes, do: Callable[[Ways], Rollout], *, watch: bool = False) -> Rollout:
    """Return the rollout after `do`, which tells what happens as it goes."""
    from mlscale.cli.running import under_way
    from mlscale.cli.watching import Watching
    from mlscale.engine.driver import Ways

    progress = Watching(session, wishes.output, no_color=wishes.no_color) if watch else None
    try:
        with under_way(session, wishes, progress=progress) as (run_options, tell, stop):
            return do(Ways(run_options, tell, stop))
    finally:
        if progress is not None:
            progress.clear()


def _wished(session: Session, what: Wish, wishes: Wishes) -> None:
    from mlscale.engine import rollout as engine

    found = _driven(session, wishes, lambda ways: engine.wish(session, what, ways))
    _show(session, found, wishes.output, no_color=wishes.no_color)


def _watched(session: Session, wishes: Wishes) -> Rollout:
    """Show the rollout, which others drive or nobody, until it has ended; return how."""
    from mlscale.cli.watching import LOOK_EVERY_S, Watching
    from mlscale.engine import rollout as engine

    watching = Watching(session, wishes.output, no_color=wishes.no_color)
    while True:
        found = engine.looked_at(session, engine.last(session))
        if not found.is_live:
            watching.clear()
            return found
        watching.draw(found)
        session.world.clock.sleep(LOOK_EVERY_S)


def _show(session: Session, found: Rollout, output: Output, *, no_color: bool) -> None:
    from mlscale.cli.console import show
    from mlscale.report import rollout as pages

    facts: dict[str, Any] = {"deployment": str(session.identity), "rollout": pages.data(found)}
    show(pages.text(found), facts, output, no_color=no_color)
