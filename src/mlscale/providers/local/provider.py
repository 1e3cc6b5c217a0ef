"""This machine as a provider: processes or containers behind a gateway on loopback."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, assert_never

from mlscale.clock import Clock
from mlscale.deployment import AT_ONCE, Content, Deployment, Identity, Revision, Role, RolloutWish, revision_of
from mlscale.errors import MlscaleError, NotDeployed, ProviderFailed, Unsupported
from mlscale.plan.steps import Step
from mlscale.providers import artifact, docker_engine, image
from mlscale.providers.contract import (
    DONE,
    Answer,
    BadOfAll,
    Check,
    LogLine,
    LogQuery,
    Outcome,
    Progress,
    Refusal,
    Steps,
    Work,
)
from mlscale.providers.local import client, containers, logs, metrics, records, translate
from mlscale.providers.local.client import Home, State
from mlscale.providers.local.failures import start_failure
from mlscale.providers.local.records import Desired, DesiredRevision, Observed, ObservedRevision
from mlscale.providers.local.translate import (
    AddRevision,
    AwaitRevision,
    Bake,
    Configure,
    DeleteFiles,
    DropRevision,
    GrowRevision,
    PrepareRevision,
    PromoteRevision,
    ShiftTraffic,
    StartEndpoint,
    StopEndpoint,
)

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 40.0
LITTLE_DISK_MIB = 500

BROKEN_AFTER = 2
"""Failed starts in a row, with no success, after which a revision counts as broken: one may be bad luck."""


class Local:
    """The contract, on this machine. `root` is the folder `.mlscale/` beside the spec."""

    name = "local"
    slowest_poll_s = 0.1
    settles_within_s = 5.0
    lag = metrics.LAG

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root.resolve()
        self._clock = clock

    def abilities(
        self, asked: Deployment, seen: Deployment | None, rollout: RolloutWish = AT_ONCE
    ) -> tuple[Refusal, ...]:
        """Return what can't be done of `asked`: a rollout by us alone, files unseen, what the engine has not."""
        del seen
        contents = [each.revision.content for each in asked.revisions]
        found = (
            *_driver_refusals(rollout),
            *(refusal for each in contents for refusal in _requirement_refusals(asked, each)),
            *(refusal for each in contents if each.image for refusal in _engine_refusals(each)),
        )
        return tuple(dict.fromkeys(found))

    def preflight(self, asked: Deployment, seen: Deployment | None) -> None:
        """Return: what this machine lacks is found by looking, which `abilities` has done."""
        del asked, seen

    def pinned(self, asked: Deployment, seen: Deployment | None) -> Deployment:
        """Return `asked` with its image: an own one by digest, else the tag of the one that we build.

        An image that we built for the same content stays: an upgrade of mlscale is no new revision.
        """
        there = [each.revision.content for each in seen.revisions] if seen else []
        pinned = tuple(
            replace(each, revision=revision_of(_pinned(each.revision.content, there, asked.identity.name)))
            if each.revision.content.image and each.revision.content not in there
            else each
            for each in asked.revisions
        )
        return replace(asked, revisions=pinned)

    def read(self, identity: Identity) -> Deployment | None:
        """Return what the records say and the supervisor sees."""
        home = self._home(identity)
        with client.errors_of("reading the deployment"):
            desired = records.read_desired(home.path)
            if desired is None:
                return None
            found = client.supervision(home, self._clock.now())
            damage = _damage(home, desired)
        return translate.deployment(identity, desired, found.observed, trouble=found.trouble, damage=damage)

    def read_all(self, identities: Sequence[Identity]) -> Sequence[Deployment | None]:
        """Return what `read` gives for each."""
        return [self.read(each) for each in identities]

    def revisions(self, identity: Identity) -> Sequence[Revision]:
        """Return none: what this machine keeps lies in the workspace, which remembers them."""
        del identity
        return ()

    def steps(self, asked: Deployment | None, seen: Deployment | None, rollout: RolloutWish) -> Steps:
        """Return the steps from `seen` to `asked`."""
        return translate.steps(asked, seen, rollout)

    def payloads(self) -> Any:
        """Return the union of this provider's payloads."""
        return translate.Payload

    def perform(self, step: Step[object], progress: Progress) -> Outcome:
        """Carry out `step`."""
        home = self._home_of(step)
        payload = _payload(step)
        with client.errors_of(step.key):
            match payload:
                case StartEndpoint():
                    self._start(home, payload)
                case PrepareRevision():
                    files = {
                        "model": payload.model,
                        "handler": payload.handler,
                        "requirements": payload.requirements,
                    }
                    client.prepare(home, payload.revision, files, progress)
                case AwaitRevision():
                    return self.poll(step, "start")
                case Bake():
                    return self.poll(step, (self._clock.now() + payload.bake_time).isoformat())
                case AddRevision() | GrowRevision() | ShiftTraffic() | PromoteRevision() | DropRevision() | Configure():
                    client.change(home, lambda desired: _changed(desired, payload))
                    if not isinstance(payload, AddRevision):
                        return self.poll(step, "taken up")
                case DeleteFiles():
                    client.delete_folder(home, payload.folder, progress)
                    client.delete_logs(home, Path(payload.folder).name)
                case StopEndpoint():
                    self._stop(home, progress)
                case _:
                    assert_never(payload)
        return DONE

    def is_done(self, step: Step[object]) -> bool:
        """Return whether nothing is left to do for `step`."""
        home = self._home_of(step)
        payload = _payload(step)
        desired = records.read_desired(home.path)
        match payload:
            case StartEndpoint():
                return desired is not None and client.supervision(home, self._clock.now()).state is State.RUNS
            case PrepareRevision():
                return client.is_whole(home, payload.revision.id)
            case AwaitRevision():
                return self.poll(step, "start").work is Work.DONE
            case Bake():
                return False
            case AddRevision() | GrowRevision() | ShiftTraffic() | PromoteRevision() | DropRevision() | Configure():
                return desired is not None and _changed(desired, payload) == desired
            case DeleteFiles():
                return not (home.path / payload.folder).exists()
            case StopEndpoint():
                return desired is None and not client.lock_is_held(home)
            case _:
                assert_never(payload)

    def poll(self, step: Step[object], operation: str) -> Outcome:
        """Return how far a wait is; `operation` is the end of the bake, or a word for the reader."""
        home = self._home_of(step)
        payload = _payload(step)
        if isinstance(payload, AwaitRevision):
            return self._health(home, payload, operation)
        if isinstance(payload, Bake):
            return self._baked(home, payload, operation)
        if isinstance(payload, Configure):
            return self._scaled(home, payload.scaling.min, operation)
        return self._taken_up(home, operation)

    def shares_that_hold(self, shares: Mapping[str, int]) -> Mapping[str, int]:
        """Return `shares`: the gateway gives each revision its basis points to the request."""
        return dict(shares)

    def counts(
        self, identity: Identity, start: datetime, end: datetime, slow_over_ms: float | None
    ) -> Sequence[BadOfAll]:
        """Return what the gateway counted: an answer of 5xx, a broken connection and a timeout are errors.

        Times are those from the moment when a replica was asked; a shadow's are those of its copies.
        """
        return metrics.counts(self._home(identity).path, start, end, slow_over_ms, now=self._clock.now())

    def invoke(self, identity: Identity, body: bytes, content_type: str, accept: str) -> Answer:
        """Return the gateway's answer."""
        seen = self.read(identity)
        if seen is None:
            raise NotDeployed("nothing is deployed", why=str(identity), hint="mlscale deploy")
        if seen.address is None:
            raise ProviderFailed("the endpoint does not run", why=seen.reason, hint="mlscale deploy")
        return client.post(seen.address, "/invocations", body, content_type, accept)

    def logs(self, identity: Identity, query: LogQuery) -> Iterator[LogLine]:
        """Yield the replicas' log lines."""
        return client.lines(self._home(identity), query)

    def list(self) -> Sequence[Identity]:
        """Return the deployments under the root."""
        return tuple(Identity(self.name, name) for name in client.homes(self._root))

    def adopt(self, identity: Identity, labels: Mapping[str, str]) -> Steps:
        """Refuse: what is in our folder is ours.

        Raises:
            Unsupported: always.
        """
        del labels
        raise Unsupported("there is nothing to import", why=f"{identity}: what runs on this machine is mlscale's own")

    def doctor(self, asked: Deployment | None = None) -> Sequence[Check]:
        """Return what this machine needs to serve."""
        del asked
        uv = shutil.which("uv")
        free = shutil.disk_usage(_existing(self._root)).free // 2**20
        return (
            Check("python", ok=True, found=f"{sys.version.split()[0]} at {sys.executable}"),
            Check("environments", ok=True, found=f"uv at {uv}" if uv else "pip (uv is quicker: pip install uv)"),
            _engine_check(),
            Check("disk", ok=free > LITTLE_DISK_MIB, found=f"{free} MiB free", hint="free some space"),
            Check(
                "workspace",
                ok=os.access(_existing(self._root), os.W_OK),
                found=str(self._root),
                hint="correct its permissions, or choose another with --workspace",
            ),
        )

    def garbage(self, identity: Identity, keep: Sequence[str]) -> Steps:
        """Return steps that delete the files of revisions neither in use nor in `keep`."""
        return translate.garbage_steps(identity.name, client.unused(self._home(identity), keep))

    def _home(self, identity: Identity) -> Home:
        return Home(self._root / "local" / identity.name)

    def _home_of(self, step: Step[object]) -> Home:
        return Home(self._root / "local" / _payload(step).name)

    def _start(self, home: Home, payload: StartEndpoint) -> None:
        client.make_home(home)
        if records.read_desired(home.path) is None:
            fresh = Desired(name=payload.name, host=payload.host, port=payload.port, scaling=payload.scaling)
            records.write(home.path / records.DESIRED, fresh)
        client.end_silent_supervisor(home)
        if client.supervision(home, self._clock.now()).state is not State.RUNS:
            client.start_supervisor(home)
        client.await_beat(home, START_TIMEOUT_S)

    def _stop(self, home: Home, progress: Progress) -> None:
        observed = records.read_observed(home.path)
        client.end_silent_supervisor(home)
        client.stop_supervisor(home, STOP_TIMEOUT_S, progress)
        client.end_replicas(observed, home)
        client.end_containers(home)
        client.delete_home(home, progress)

    def _health(self, home: Home, payload: AwaitRevision, operation: str) -> Outcome:
        seen, wanted = self._observed(home, payload.id)
        if seen is None:
            return Outcome(Work.RUNNING, operation, "waiting for the supervisor")
        healthy = sum(replica.health == "healthy" for replica in seen.replicas)
        if healthy >= max(1, min(wanted, seen.wanted)):
            return Outcome(Work.DONE, operation, f"{healthy} healthy")
        if not client.is_whole(home, payload.id):
            raise client.files_gone(payload.id)
        if seen.failures >= BROKEN_AFTER:
            raise self._broken(home, seen, f"revision {payload.id} does not start")
        return Outcome(Work.RUNNING, operation, f"{healthy} of {wanted} replicas healthy")

    def _baked(self, home: Home, payload: Bake, operation: str) -> Outcome:
        seen, _ = self._observed(home, payload.id)
        if seen is not None and not any(replica.health == "healthy" for replica in seen.replicas):
            raise self._broken(home, seen, f"revision {payload.id} failed while it was watched")
        left = datetime.fromisoformat(operation) - self._clock.now()
        if left <= timedelta(0):
            return Outcome(Work.DONE, operation)
        return Outcome(Work.RUNNING, operation, f"watched for {left.total_seconds():.0f} s more")

    def _taken_up(self, home: Home, operation: str) -> Outcome:
        desired, observed = self._read(home)
        if desired is None:
            raise ProviderFailed("the deployment's record is gone", why=str(home.path), hint="mlscale deploy")
        return Outcome(Work.RUNNING if observed is None else Work.DONE, operation)

    def _scaled(self, home: Home, least: int, operation: str) -> Outcome:
        """Return whether the settings are taken up, and as many replicas are healthy as shall always run."""
        _, observed = self._read(home)
        for seen in observed.revisions if observed else ():
            healthy = sum(replica.health == "healthy" for replica in seen.replicas)
            if seen.share and healthy < min(least, seen.wanted):
                if seen.failures >= BROKEN_AFTER:
                    raise self._broken(home, seen, f"revision {seen.id} does not start")
                return Outcome(Work.RUNNING, operation, f"{healthy} of {least} replicas healthy")
        return Outcome(Work.RUNNING if observed is None else Work.DONE, operation)

    def _observed(self, home: Home, revision: str) -> tuple[ObservedRevision | None, int]:
        """Return how `revision` runs, None until the supervisor knows it, and how many replicas it starts with."""
        desired, observed = self._read(home)
        wanted = next((each.start_with for each in desired.revisions if each.id == revision), 1) if desired else 1
        return next((each for each in observed.revisions if each.id == revision), None) if observed else None, wanted

    def _read(self, home: Home) -> tuple[Desired | None, Observed | None]:
        """Return what is desired, and what the supervisor has made of it: None until it has taken it up.

        Raises:
            ProviderFailed: no supervisor answers, or its gateway can't serve.
        """
        found = client.supervision(home, self._clock.now())
        if found.trouble:
            raise ProviderFailed("the supervisor does not answer", why=found.trouble, hint="mlscale deploy")
        desired, observed = records.read_desired(home.path), found.observed
        if observed is None or (desired and observed.generation < desired.generation):
            return desired, None
        if observed.failed:
            raise ProviderFailed("the gateway can't serve", why=observed.failed, hint="mlscale status")
        return desired, observed

    def _broken(self, home: Home, seen: ObservedRevision, what: str) -> MlscaleError:
        detail = next((replica.detail for replica in seen.replicas if replica.detail), "no replica is healthy")
        newest = client.log_files(home, LogQuery(revision=seen.id))[-1:]
        log = logs.last_lines(newest[0], 20) if newest else ""
        return start_failure(what, f"{detail}\n{log}" if log else detail)


def _damage(home: Home, desired: Desired) -> str:
    """Return what is wrong with what the revisions are made of, empty if nothing."""
    try:
        lost = next((each for each in desired.revisions if not client.is_whole(home, each.id)), None)
    except MlscaleError as error:
        return f"{error.what}: {error.why}"
    if lost is None:
        return ""
    what = f"the files or the image {lost.content.image}" if lost.content.image else "the files"
    return f"{what} of revision {lost.id} are gone"


def _driver_refusals(rollout: RolloutWish) -> tuple[Refusal, ...]:
    if rollout.strategy not in ("canary", "linear", "rolling"):
        return ()
    why = f"this machine has no {rollout.strategy} rollout of its own, with alarms that guard it: use weights"
    return (Refusal("rollout.driver", why),)


def _requirement_refusals(asked: Deployment, content: Content) -> tuple[Refusal, ...]:
    requirements = asked.sources.get(content.requirements or "")
    named = artifact.other_files(Path(requirements)) if requirements else ()
    return tuple(
        Refusal("model.requirements", f"a change of what {line!r} names would go unseen: write it out")
        for line in named
    )


def _pinned(content: Content, there: Sequence[Content], name: str) -> Content:
    """Return `content` with its image; one that we built for the same content is found among what is `there`."""
    if not content.is_built:
        return replace(content, image=docker_engine.resolve(str(content.image)))
    same = (each for each in there if each.is_built and replace(each, image=None) == replace(content, image=None))
    return next(same, None) or replace(content, image=image.tag_of(name, content))


def _engine_refusals(content: Content) -> tuple[Refusal, ...]:
    try:
        info = docker_engine.info()
    except MlscaleError as error:
        path = "local.runtime" if content.is_built else "model.image"
        return (Refusal(path, f"{error.what}: {error.why}; {error.hint}"),)
    return containers.refusals(content, info, has_hook=_has_hook())


def _engine_check() -> Check:
    """Return what there is of an engine; a model that is served by processes needs none."""
    try:
        info = docker_engine.info()
    except MlscaleError as error:
        return Check("docker", ok=True, found=f"none ({error.what}: {error.why}); only containers need it")
    gpus = "NVIDIA GPUs" if _has_hook() or containers.has_nvidia(info) else "no NVIDIA runtime"
    return Check("docker", ok=True, found=f"engine {info['ServerVersion']} on {info['OperatingSystem']}, {gpus}")


def _has_hook() -> bool:
    return shutil.which("nvidia-container-runtime-hook") is not None


def _changed(
    desired: Desired, payload: AddRevision | GrowRevision | ShiftTraffic | PromoteRevision | DropRevision | Configure
) -> Desired:
    """Return `desired` with `payload` done to it; the same value when it is done already."""
    revisions = desired.revisions
    match payload:
        case AddRevision():
            revision = payload.revision
            if any(each.id == revision.id for each in revisions):
                return desired
            new = DesiredRevision(
                id=revision.id,
                content=revision.content,
                role=Role.CANDIDATE,
                share=0,
                start_with=payload.start_with,
            )
            return desired.model_copy(update={"revisions": (*revisions, new)})
        case GrowRevision():
            return desired.model_copy(update={"revisions": tuple(_grown(each, payload) for each in revisions)})
        case ShiftTraffic():
            return desired.model_copy(update={"revisions": tuple(_shifted(each, payload) for each in revisions)})
        case PromoteRevision():
            promoted = tuple(each.model_copy(update={"role": _role(each, payload.id)}) for each in revisions)
            return desired.model_copy(update={"revisions": promoted})
        case DropRevision():
            return desired.model_copy(update={"revisions": tuple(each for each in revisions if each.id != payload.id)})
        case Configure():
            return desired.model_copy(
                update={
                    "scaling": payload.scaling,
                    "labels": dict(payload.labels),
                    "host": payload.host,
                    "port": payload.port,
                    "spec_hash": payload.spec_hash,
                }
            )
        case _:
            assert_never(payload)


def _grown(revision: DesiredRevision, grow: GrowRevision) -> DesiredRevision:
    count = grow.replicas if revision.id == grow.id else 0
    return revision.model_copy(update={"start_with": max(revision.start_with, count)})


def _shifted(revision: DesiredRevision, shift: ShiftTraffic) -> DesiredRevision:
    """Return `revision` with its share; one that gets one is a candidate or a shadow, unless it is the stable one."""
    role = revision.role
    if revision.id in shift.shares and role is not Role.STABLE:
        role = Role.SHADOW if revision.id == shift.shadow else Role.CANDIDATE
    return revision.model_copy(
        update={
            "role": role,
            "share": shift.shares.get(revision.id, 0),
            "start_with": shift.replicas.get(revision.id, revision.start_with),
        }
    )


def _role(revision: DesiredRevision, promoted: str) -> Role:
    if revision.id == promoted:
        return Role.STABLE
    return Role.RETIRED if revision.role is Role.STABLE else revision.role


def _payload(step: Step[object]) -> translate.Payload:
    if not isinstance(step.payload, translate.Payload):
        raise TypeError(f"step {step.key} is not for this provider: {type(step.payload).__name__}")
    return step.payload


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())
