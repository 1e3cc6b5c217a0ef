"""`mlscale image`: build the image that serves a model, push it, and look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlscale.cli import options
from mlscale.cli.console import Output
from mlscale.errors import Interrupted, NotDeployed, UsageError

if TYPE_CHECKING:
    from mlscale.deployment import Content
    from mlscale.engine.session import Session
    from mlscale.providers.contract import Progress
    from mlscale.providers.docker_engine import Image

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

SPECS = (".yaml", ".yml")
MB, KB = 1_000_000, 1_000


@app.callback()
def image() -> None:
    """Build the image that serves a model, push it, and look at it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The image that a spec asks for: its deployment's name, what is in it, and where the files of that are."""

    name: str
    content: Content
    files: Mapping[str, str | None]

    def tag(self, base: str) -> str:
        """Return what the image is called on `base`."""
        from mlscale.providers.image import tag_of

        return tag_of(self.name, self.content, base)


@app.command(
    epilog=options.examples(
        "mlscale image build",
        "mlscale image build spec.yaml --base python:3.12-slim-bookworm",
        "mlscale image build --push 123456789012.dkr.ecr.us-east-1.amazonaws.com/iris",
    )
)
def build(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="IMAGE", help="The image below; it has Python 3.11 or later and pip."),
    ] = None,
    push_to: Annotated[
        str | None, typer.Option("--push", metavar="REPOSITORY", help="Push it there once it is built.")
    ] = None,
    *,
    timeout: options.TimeoutOption = None,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Build the image that serves the spec's model; one that is there already is not built again.

    It has the model, its packages and the model server, and runs unchanged here, on SageMaker and on Vertex AI. Its
    tag is made from what is in it.
    """
    from mlscale.cli.console import show
    from mlscale.providers import docker_engine
    from mlscale.providers.image import BASE

    if push_to is not None:
        _refuse_tag(push_to)
    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides)
    wanted, below = _wanted(session), base or BASE
    tag = wanted.tag(below)
    facts: dict[str, Any] = {}
    with _telling(context, session, timeout, output, no_color=no_color) as telling:
        is_there = docker_engine.inspect(tag) is not None
        built = docker_engine.ensure(wanted.name, wanted.content, wanted.files, telling("build"), base=below)
        lines = [f"{'It is there already:' if is_there else 'Built'} {tag}, {_size(built.size)}"]
        if push_to is not None:
            facts = {"reference": _pushed(tag, push_to, telling("push"))}
            lines += _use(facts["reference"])
    if push_to is None:
        lines += ["", f"  {options.next_command(session, 'image push', 'REPOSITORY')}"]
    show("\n".join(lines), {"image": _facts(built), "built": not is_there, **facts}, output, no_color=no_color)


@app.command(
    epilog=options.examples(
        "mlscale image push europe-west4-docker.pkg.dev/acme/models/iris",
        "mlscale image push spec.yaml registry.example.com/ml/iris",
    )
)
def push(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar="[SPEC] REPOSITORY", help="The spec, and the registry's repository.")
    ],
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    *,
    timeout: options.TimeoutOption = None,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Push the image that was built for the spec, and print the digest by which a spec names it.

    Amazon ECR and Google's Artifact Registry are asked for a token with your credentials there; for another registry
    `docker login` is what counts.
    """
    from mlscale.cli.console import show

    if len(words) > len(("SPEC", "REPOSITORY")):
        raise UsageError("there are too many words", why=" ".join(words), hint="mlscale image push [SPEC] REPOSITORY")
    repository = words[-1]
    _refuse_tag(repository)
    spec_word = Path(words[0]) if words[1:] else None
    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides)
    found, is_current = _newest(session)
    if not is_current:
        raise _not_built(session)
    with _telling(context, session, timeout, output, no_color=no_color) as telling:
        pinned = _pushed(_tag(found), repository, telling("push"))
    facts = {"image": _facts(found), "reference": pinned}
    show("\n".join((f"Pushed {_tag(found)}", *_use(pinned))), facts, output, no_color=no_color)


@app.command(
    epilog=options.examples(
        "mlscale image inspect", "mlscale image inspect spec.yaml --output json", "mlscale image inspect iris:latest"
    )
)
def inspect(
    context: typer.Context,
    word: Annotated[
        str | None, typer.Argument(metavar="[SPEC|REFERENCE]", help="The spec, or any image that the engine has.")
    ] = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    *,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Show an image: its size, what each part of it holds, its labels and digest, and whether the spec asks for it."""
    from mlscale.cli.console import show
    from mlscale.providers import docker_engine

    if word is not None and not _is_spec(word):
        found = docker_engine.inspect(word)
        if found is None:
            raise UsageError("the engine has no such image", why=word, hint="docker pull it, or name a spec")
        show("\n".join(_described(found, "")), {"image": _facts(found)}, output, no_color=no_color)
        return
    session = options.session_of(context, Path(word) if word else None, spec, env=env, overrides=overrides)
    found, is_current = _newest(session)
    state = "what the spec asks for" if is_current else "not what the spec asks for now: mlscale image build"
    facts = {"image": _facts(found), "up_to_date": is_current}
    show("\n".join(_described(found, state)), facts, output, no_color=no_color)


def _is_spec(word: str) -> bool:
    return word == "-" or word.endswith(SPECS) or Path(word).exists()


def _refuse_tag(repository: str) -> None:
    last = repository.rpartition("/")[2]
    if ":" in last or "@" in last:
        raise UsageError(
            "a repository has no tag",
            why=f"{repository}: the tag is made from what is in the image",
            hint="leave it out",
        )


def _wanted(session: Session) -> Wanted:
    from mlscale.engine.plans import asked_for

    if session.spec.model.image:
        raise UsageError(
            "the spec names an image of its own",
            why=f"model.image is {session.spec.model.image}",
            hint="leave it out to have one built",
        )
    asked = asked_for(session, None)
    if asked.stable is None:
        raise AssertionError("a spec asks for one revision")
    content = asked.stable.revision.content
    digests = {"model": content.artifact, "handler": content.handler, "requirements": content.requirements}
    return Wanted(
        asked.identity.name, content, {name: asked.sources[each] if each else None for name, each in digests.items()}
    )


def _newest(session: Session) -> tuple[Image, bool]:
    """Return the image that the spec asks for, whatever it is based on, and True; else the newest of its name.

    Raises:
        NotDeployed: there is none of its name.
    """
    from mlscale.providers import docker_engine
    from mlscale.providers.image import BASE, BASE_LABEL

    wanted = _wanted(session)
    images = docker_engine.named(wanted.name)
    if not images:
        raise _not_built(session)
    current = [each for each in images if wanted.tag(each.labels.get(BASE_LABEL, BASE)) in each.tags]
    return (current or images)[0], bool(current)


def _not_built(session: Session) -> NotDeployed:
    return NotDeployed(
        "the image is not built",
        why=f"there is none for what {session.spec_path} asks for now",
        hint=options.next_command(session, "image build"),
    )


@contextmanager
def _telling(
    context: typer.Context, session: Session, timeout: str | None, output: Output, *, no_color: bool
) -> Iterator[Callable[[str], Progress]]:
    """Yield what gives a progress for a word of what is done; ends what runs inside after the user's time.

    Raises:
        TimedOut: it was not done by then.
        Interrupted: the user stopped it; the engine ends what nobody waits for.
    """
    from mlscale.cli import console
    from mlscale.engine.run import Event

    name, again = session.identity.name, options.command_of(context)
    progress = console.Progress(output, name=name, no_color=no_color)

    def telling(doing: str) -> Progress:
        def tell(text: str) -> None:
            progress(Event(session.world.clock.now(), "progress", f"image/{doing}", name, text))

        return tell

    try:
        with options.ended_after(timeout, "the image was made", hint=again), progress.running():
            yield telling
    except KeyboardInterrupt as error:
        raise Interrupted("stopped", why="the image is not made", hint=f"{again} goes on with what is built") from error


def _pushed(tag: str, repository: str, tell: Progress) -> str:
    """Return the pinned reference of the image `tag` in `repository`, after it was pushed."""
    from mlscale.providers import docker_engine
    from mlscale.providers.registry_auth import auth_of

    reference = f"{repository}:{tag.rpartition(':')[2]}"
    auth = auth_of(reference)
    docker_engine.tag_as(tag, reference)
    return f"{repository}@{docker_engine.push(reference, auth, tell)}"


def _use(pinned: str) -> Sequence[str]:
    return (pinned, "", "To serve it, in the spec:", "", "  model:", f"    image: {pinned}")


def _tag(found: Image) -> str:
    """Return the tag that we gave an image; another's, or its id, where it is none of ours."""
    return next((each for each in found.tags if each.startswith("mlscale/")), (*found.tags, found.id)[0])


def _described(found: Image, state: str) -> Sequence[str]:
    from mlscale.report.tables import table

    rows = [(each.part, _size(each.size)) for each in found.layers]
    facts = [("id", found.id), ("runs on", found.platform)]
    facts += [("digest", each) for each in found.digests or ("none: it was not pushed",)]
    facts += [("label", f"{name}={value}") for name, value in sorted(found.labels.items())]
    return (
        f"{_tag(found)}, {_size(found.size)}{f', {state}' if state else ''}",
        "",
        *(f"  {name:<7} {value}" for name, value in facts),
        "",
        table(("HOLDS", "SIZE"), rows),
    )


def _size(size: int) -> str:
    return f"{size / MB:,.1f} MB" if size >= MB else f"{size / KB:,.1f} kB"


def _facts(found: Image) -> Mapping[str, Any]:
    from mlscale.report import json

    return {**json.data(found), "tag": _tag(found)}
