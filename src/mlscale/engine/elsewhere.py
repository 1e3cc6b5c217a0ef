"""One spec read for every provider: where it is valid, what each has no use for, and what each is asked otherwise.

For the provider that it names a spec is read as it is, and for another with the overlay under `environments` that names
that one; where there is none, `provider` alone is replaced. Nobody is called, and of the files that the spec names only
the code is read, which decides on what can serve it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlscale.deployment import Deployment
from mlscale.engine.session import Session, World, open_session
from mlscale.errors import Problem, SpecInvalid
from mlscale.plan.diff import changes
from mlscale.plan.steps import Change
from mlscale.providers.contract import Refusal
from mlscale.spec.model import Spec
from mlscale.spec.nodes import tree_of
from mlscale.spec.resolve import Digests, deployment_of, ignored_by, wish_of

PROVIDERS = ("local", "sagemaker", "vertex")
_SET = "provider="


@dataclass(frozen=True, slots=True)
class Reading:
    """A spec as one provider reads it.

    `env` is the overlay that it was read with, `swapped` whether `provider` was replaced for it. `unknown` says why the
    provider could not be asked what it refuses. `changes` are from what the spec's own provider is asked, none where
    either can't be read.
    """

    provider: str
    env: str | None
    swapped: bool = False
    problems: tuple[Problem, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    unknown: str = ""
    ignored: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def valid(self) -> bool:
        """Return whether nothing stands against it."""
        return not self.problems and not self.refusals


@dataclass(frozen=True, slots=True)
class _Text:
    """A spec's text and how it was asked to be read."""

    world: World
    path: Path
    text: bytes
    env: str | None
    overrides: Sequence[str]

    def session(self, reading: Reading) -> Session:
        """Return the session that a reading is; its provider is as the command line says only for that very one."""
        said = f"{_SET}{reading.provider}"
        overrides = [each for each in self.overrides if not reading.provider or not each.startswith(_SET)]
        if reading.swapped or said in self.overrides:
            overrides.append(said)
        return open_session(self.world, self.path, text=self.text, env=reading.env, overrides=overrides)


def readings(
    world: World, path: Path, text: bytes, *, env: str | None = None, overrides: Sequence[str] = ()
) -> tuple[Reading, ...]:
    """Return a reading for each provider, the spec's own first; several where several overlays name one.

    Raises:
        SpecInvalid: the text is no spec, or names no provider that there is.
    """
    asked = _Text(world, path, text, env, overrides)
    named = _named(text, str(path))
    chosen = [each.removeprefix(_SET) for each in overrides if each.startswith(_SET)]
    own = chosen[-1] if chosen else named.get(env) or named.get(None)
    if own not in PROVIDERS:
        own = asked.session(Reading("", env)).spec.provider  # a variable may say it; if not, it raises what is wrong
    first, session = _read(asked, Reading(own, env))
    others = (each for provider in PROVIDERS if provider != own for each in _others(provider, named, env))
    return first, *(_against(session, *_read(asked, each)) for each in others)


def _named(text: bytes, file: str) -> Mapping[str | None, Any]:
    """Return the provider that each overlay names, under None that of the spec's top."""
    whole = tree_of(text, file).value
    if not isinstance(whole, dict):
        return {}
    overlays = whole.get("environments")
    parts = {None: whole, **(overlays if isinstance(overlays, dict) else {})}
    return {name: part["provider"] for name, part in parts.items() if isinstance(part, dict) and "provider" in part}


def _others(provider: str, named: Mapping[str | None, Any], env: str | None) -> Iterator[Reading]:
    overlays = [name for name, each in named.items() if each == provider]
    for name in overlays:
        # An overlay without a provider is for that of the top.
        yield Reading(provider, env if name is None and env not in named else name)
    if not overlays:
        yield Reading(provider, env, swapped=True)


def _read(asked: _Text, reading: Reading) -> tuple[Reading, Session | None]:
    """Return a reading with what stands against it and what it has no use for, and its session where there is one."""
    try:
        session = asked.session(reading)
    except SpecInvalid as error:
        return replace(reading, problems=error.problems), None
    ignored = (*ignored_by(session.spec), *_blocks(session.spec))
    found = replace(reading, ignored=ignored)
    if reading.provider == "local":  # what this machine lacks is no matter of the spec
        return found, session
    missing = [name for name, path in _files(session).items() if not Path(path).exists()]
    if missing:
        return replace(found, unknown=f"{', '.join(missing)} not found: what serves it is not known"), session
    refused = session.provider.abilities(_asked(session), None, wish_of(session.spec))
    return replace(found, refusals=refused), session


def _blocks(spec: Spec) -> Iterator[str]:
    """Yield a line for each block of another provider's that says something."""
    for provider in PROVIDERS:
        said = sorted(getattr(spec, provider).model_fields_set) if provider != spec.provider else ()
        if said:
            verb = "is" if len(said) == 1 else "are"
            yield f"{', '.join(f'{provider}.{each}' for each in said)} {verb} for {provider} alone"


def _against(own: Session | None, reading: Reading, session: Session | None) -> Reading:
    if own is None or session is None:
        return reading
    # A revision's id follows from what is in it, and what another provider's block has is told as ignored.
    beside = ("revision ", *(f"{each}." for each in PROVIDERS if each != reading.provider))
    found = changes(_asked(session), _asked(own))
    return replace(reading, changes=tuple(each for each in found if not each.path.startswith(beside)))


def _asked(session: Session) -> Deployment:
    """Return what the spec asks for, with its files by their names: what is in them makes no difference here."""
    model = session.spec.model
    digests = Digests(model.source or "", model.handler, model.requirements, None)
    return deployment_of(session.spec, digests, _files(session))


def _files(session: Session) -> Mapping[str, str]:
    """Return the files that the spec names, and where they are."""
    model, folder = session.spec.model, session.spec_path.resolve().parent
    return {name: str(folder / name) for name in (model.source, model.handler, model.requirements) if name}
