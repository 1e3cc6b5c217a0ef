"""Vertex AI as a provider: Models, endpoints with traffic splits, long-running operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, assert_never
from urllib.parse import urlsplit

from mlscale.clock import Clock
from mlscale.deployment import AT_ONCE, WHOLE, Content, Deployment, Identity, Revision, RolloutWish, revision_of
from mlscale.errors import MlscaleError, NoCapacity, NotDeployed, NotOurs, ProviderFailed, Unsupported
from mlscale.plan.steps import Step
from mlscale.providers import artifact
from mlscale.providers.calling import together
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
from mlscale.providers.vertex import (
    counting,
    images,
    logs,
    machines,
    permissions,
    preflight,
    reading,
    requests,
    scaling,
    translate,
    watching,
)
from mlscale.providers.vertex.calls import Call
from mlscale.providers.vertex.client import Client
from mlscale.providers.vertex.payloads import (
    Adopt,
    AwaitOperation,
    AwaitReplicas,
    Bake,
    Configure,
    Deploy,
    Discard,
    MakeEndpoint,
    MakeModel,
    Payload,
    RemoveEndpoint,
    RemoveModel,
    RemoveUploads,
    Resize,
    Shift,
    Undeploy,
    Upload,
    Watch,
)

LOG_LINES = 20
"""How many of a container's last lines stand in the error of a deployment that failed."""

APPEARS = "appears"
"""The operation of what somebody else makes, and whose name nobody here knows."""


class Vertex:
    """The contract, on Vertex AI in one project and region; `uploads` is the place of the models' files."""

    name = "vertex"
    slowest_poll_s = 10.0
    settles_within_s = 30.0
    lag = counting.LAG

    def __init__(self, *, project: str, region: str, uploads: str, clock: Clock) -> None:
        self._client = Client(project, region, clock)
        self._project = project
        self._region = region
        self._uploads = uploads
        self._clock = clock

    def abilities(
        self, asked: Deployment, seen: Deployment | None, rollout: RolloutWish = AT_ONCE
    ) -> tuple[Refusal, ...]:
        """Return what Vertex AI can't do of `asked`."""
        contents = [each.revision.content for each in asked.revisions]
        listed = [machines.parse(each) for content in contents for each in content.machine]
        found = (
            *requests.refusals(asked, seen, rollout, self._uploads),
            *(refusal for each in listed for refusal in machines.refusals(each)),
            *scaling.refusals(asked.scaling, listed),
            *watching.refusals(asked.auxiliaries),
            *(refusal for each in contents for refusal in self._image_refusals(each)),
        )
        return tuple(dict.fromkeys(found))

    def preflight(self, asked: Deployment, seen: Deployment | None) -> None:
        """Return if nothing is known that would stop a new revision."""
        preflight.refuse_unready(self._client, asked, seen, self._uploads)

    def pinned(self, asked: Deployment, seen: Deployment | None) -> Deployment:
        """Return `asked` as the cloud will hold it: its image chosen, its scaling in the cloud's words.

        The image of the same content stays: a newer table of images is no new revision.
        """
        served = asked.stable
        listed = [machines.parse(each) for each in served.revision.content.machine] if served else []
        asked = replace(
            asked,
            scaling=scaling.canonical(asked.scaling, listed),
            auxiliaries=watching.canonical(asked.auxiliaries),
        )
        if served is None:
            return asked
        content = served.revision.content
        before = seen.stable.revision.content if seen and seen.stable else None
        if content.image is not None:
            content = replace(content, image=preflight.pinned_image(self._client, content.image))
        elif before and replace(before, image=None) == replace(content, image=None, runtime=None):
            content = before
        else:
            content = self._with_image(asked)
        return replace(asked, revisions=(replace(served, revision=revision_of(content)),))

    def read(self, identity: Identity) -> Deployment | None:
        """Return what the cloud has, from the cloud alone."""
        return self.read_all([identity])[0]

    def read_all(self, identities: Sequence[Identity]) -> Sequence[Deployment | None]:
        """Return what `read` gives for each; what can be listed is listed once for all."""
        raws = reading.raws_of(self._client, identities, self._uploads)
        return [translate.deployment(each, raw) if raw else None for each, raw in zip(identities, raws, strict=True)]

    def revisions(self, identity: Identity) -> Sequence[Revision]:
        """Return the revisions whose Models are kept, the newest first."""
        return reading.revisions_of(self._client, identity)

    def steps(self, asked: Deployment | None, seen: Deployment | None, rollout: RolloutWish) -> Steps:
        """Return the steps from `seen` to `asked`."""
        return translate.steps(asked, seen, rollout, self._uploads)

    def payloads(self) -> Any:
        """Return the union of this provider's payloads."""
        return Payload

    def perform(self, step: Step[object], progress: Progress) -> Outcome:
        """Carry out `step`; what is there already is left as it is."""
        payload = _payload(step)
        match payload:
            case Upload():
                self._upload(payload, progress)
            case AwaitReplicas() | AwaitOperation():
                return self.poll(step, "")
            case Bake():
                return self.poll(step, (self._clock.now() + payload.bake_time).isoformat())
            case Deploy():
                return DONE if self.is_done(step) else self._deployed_on(payload, 0)
            case Configure() | Resize():
                return self._configure(payload)
            case Watch():
                for call in self._uneven(payload):
                    self._client.change(call)
            case Shift():
                for call in self._unshifted(payload):
                    self._client.change(call)
            case RemoveUploads() | Discard():
                for place in self._places(payload):
                    self._client.delete(place)
            case Adopt():
                for call in reading.adoption_calls(self._client, payload.identity, payload.labels):
                    self._client.change(call)
            case MakeModel() | MakeEndpoint():
                return DONE if self.is_done(step) else self._made(payload)
            case Undeploy() | RemoveEndpoint() | RemoveModel():
                operation = "" if self.is_done(step) else self._client.remove(_call(payload))
                return Outcome(Work.RUNNING, operation) if operation else DONE
            case _:
                assert_never(payload)
        return DONE

    def is_done(self, step: Step[object]) -> bool:
        """Return whether nothing is left to do for `step`, by reading."""
        payload, client = _payload(step), self._client
        identity = payload.identity
        match payload:
            case Upload():
                return self._is_uploaded(payload)
            case MakeModel():
                return reading.model_calls(client, identity, payload.request) == ()
            case MakeEndpoint():
                return reading.has_endpoint(client, identity)
            case Deploy():
                return self._is_deployed(payload)
            case AwaitReplicas() | AwaitOperation():
                return self.poll(step, "").work is Work.DONE
            case Bake():
                return False
            case Shift():
                return not self._unshifted(payload)
            case Undeploy():
                return self._deployed(identity, payload.deployed_id) is None
            case Configure():
                return not self._settings(payload) and self._mutation(payload) is None
            case Resize():
                return self._mutation(payload) is None
            case Watch():
                return not self._uneven(payload)
            case RemoveEndpoint():
                return reading.endpoint_of(client, identity) is None
            case RemoveModel():
                return reading.model_of(client, identity, payload.model_id) is None
            case RemoveUploads() | Discard():
                return not self._places(payload)
            case Adopt():
                return not reading.adoption_calls(client, identity, payload.labels)
            case _:
                assert_never(payload)

    def poll(self, step: Step[object], operation: str) -> Outcome:
        """Return how far a step is; `operation` is the name of the cloud's own, or when a bake ends."""
        payload = _payload(step)
        match payload:
            case AwaitReplicas():
                return self._replicas(payload, operation)
            case AwaitOperation():
                is_over = all(reading.is_over(self._client, each) for each in payload.operations)
                return DONE if is_over else Outcome(Work.RUNNING, operation, "an operation goes on there")
            case Bake():
                return self._baked(payload, operation)
            case Deploy():
                return self._deploying(payload, operation)
            case MakeModel() | MakeEndpoint() if operation == APPEARS:
                return DONE if self.is_done(step) else self._made(payload)
            case _:
                found = self._client.operation(operation)
                if found.error is not None:
                    raise found.error
                return DONE if found.done else Outcome(Work.RUNNING, operation)

    def shares_that_hold(self, shares: Mapping[str, int]) -> Mapping[str, int]:
        """Return `shares` in whole percents, one at least for who gets anything."""
        return {key: share * WHOLE // 100 for key, share in requests.percents(shares).items()}

    def counts(
        self, identity: Identity, start: datetime, end: datetime, slow_over_ms: float | None
    ) -> Sequence[BadOfAll]:
        """Return what each deployed model answered: an error is a 5xx, and a time is all that Vertex AI took.

        How many took longer than a bound inside one of Google's buckets is by interpolation, as its percentiles are.
        """
        first, last = counting.minutes(start, end, self._clock.now())
        serving = reading.serving_of(self._client, identity) if first < last else {}
        if not serving:
            return ()
        asked = [counting.answered(identity, first, last)]
        if slow_over_ms is not None:
            asked.append(counting.timed(identity, first, last))
        answers, *times = together(*(partial(reading.series_of, self._client, each) for each in asked))
        return counting.rows(answers, [each for found in times for each in found], serving, slow_over_ms)

    def invoke(self, identity: Identity, body: bytes, content_type: str, accept: str) -> Answer:
        """Return the endpoint's answer."""
        del accept  # RawPredict passes the body's own type alone
        seen = self.read(identity)
        if seen is None or seen.stable is None:
            raise NotDeployed("nothing is deployed", why=str(identity), hint="mlscale deploy")
        host = urlsplit(seen.address or "").netloc if seen.settings.get("dedicated_endpoint") else ""
        found = self._client.invoke(requests.endpoint_of(identity), body, content_type, host)
        by = {each.metric_dimension: each.revision.id for each in seen.revisions}
        return Answer(found.status, found.content_type, found.body, by.get(found.deployed_model_id, ""))

    def logs(self, identity: Identity, query: LogQuery) -> Iterator[LogLine]:
        """Yield what the containers wrote, as Cloud Logging has it."""
        endpoint = reading.endpoint_of(self._client, identity)
        by = {each["id"]: reading.revision_of_deployed(identity, each) for each in reading.deployed_models(endpoint)}
        # A revision that is there has an id of its own where its service account was changed.
        own = next((key for key, revision in by.items() if revision == query.revision), "")
        return logs.lines(self._client, identity, query, lambda key, _: by.get(key, ""), self._clock, own)

    def list(self) -> Sequence[Identity]:
        """Return our endpoints in this project and region."""
        names = reading.our_endpoints(self._client, self._project, self._region)
        return tuple(Identity(self.name, each, self._project, self._region) for each in names)

    def doctor(self, asked: Deployment | None = None) -> Sequence[Check]:
        """Return what Google Cloud must have for `asked`."""
        return preflight.checks(self._client, asked, self._uploads)

    def adopt(self, identity: Identity, labels: Mapping[str, str]) -> Steps:
        """Return the step that makes an endpoint ours; none if it is."""
        if reading.endpoint_of(self._client, identity) is None:
            raise NotDeployed("there is nothing to import", why=f"no endpoint {identity.name}", hint="mlscale deploy")
        calls = reading.adoption_calls(self._client, identity, labels)
        return translate.adoption(identity, labels) if calls else ()

    def garbage(self, identity: Identity, keep: Sequence[str]) -> Steps:
        """Return steps that delete the Models and files that nothing uses."""
        return translate.garbage_steps(identity, *reading.unused(self._client, identity, keep, self._uploads))

    def policy(self, asked: Deployment, workspace: str) -> Mapping[str, Any]:
        """Return the roles that `asked` needs."""
        return permissions.policy(asked, self._uploads, workspace)

    def _image_refusals(self, content: Content) -> tuple[Refusal, ...]:
        if content.image is not None:
            return ()
        found = images.choose(content, self._region)
        return (found,) if isinstance(found, Refusal) else ()

    def _with_image(self, asked: Deployment) -> Content:
        content = asked.revisions[0].revision.content
        found = images.choose(content, self._region)
        if isinstance(found, Refusal):
            why = f"{found.path}: {found.why}"
            raise Unsupported("Vertex AI can't do what the spec asks", why=why, hint="mlscale validate")
        return replace(content, image=found.uri, runtime=None)

    def _upload(self, payload: Upload, progress: Progress) -> None:
        if self._is_uploaded(payload):
            return
        if payload.model is None:
            raise ProviderFailed(
                "the files of a revision are gone",
                why=f"{payload.place} is not there, and the files are not on this machine",
                hint="check the model's files out as they were, and: mlscale deploy",
            )
        source, content = Path(payload.model), payload.revision.content
        artifact.refuse_changed(source, content.artifact)
        with TemporaryDirectory(prefix="mlscale-") as folder:
            model = source if source.is_dir() else Path(folder) / "model"
            if not source.is_dir():
                artifact.copy(source, model)
            files = {file.relative_to(model).as_posix(): file for file in artifact.files(model)}
            missing = (
                images.missing_file(content.framework, list(files)) if images.is_prebuilt(str(content.image)) else None
            )
            if missing:
                raise Unsupported(
                    "the model's files are not as Vertex AI reads them", why=missing, hint="mlscale validate"
                )
            for name, file in files.items():
                self._client.upload(file, f"{payload.place}/{name}", progress)
            whole = Path(folder) / "whole"
            whole.write_text("\n".join(files))
            self._client.upload(whole, _whole(payload.place), progress)

    def _is_uploaded(self, payload: Upload) -> bool:
        return self._client.is_there(_whole(payload.place))

    def _is_deployed(self, payload: Deploy) -> bool:
        """Return whether the revision is on the endpoint.

        Raises:
            NotOurs: something else has the id that follows from it.
        """
        found = self._deployed(payload.identity, _deployed_id(payload))
        wanted = requests.model_id(payload.identity.name, payload.revision)
        if found is not None and found.get("display_name") != wanted:
            raise NotOurs(
                "another deployed model has our id",
                why=f"{found['id']} is {found.get('display_name') or 'nameless'}, and would be {wanted}",
                hint="undeploy it, or change the model's environment, which makes another revision",
            )
        return found is not None

    def _made(self, payload: MakeModel | MakeEndpoint) -> Outcome:
        """Begin to make something; where a run that was cut off has begun to, wait until it is there.

        A Model that is there, and of which somebody changed what may be changed, gets that again.

        While it is being made, Google says both that it is not there and that it can't be made again.
        """
        if isinstance(payload, MakeModel):
            mended = reading.model_calls(self._client, payload.identity, payload.request)
            if mended is not None:
                for call in mended:
                    self._client.change(call)
                return DONE
        operation = self._client.create(_call(payload))
        return Outcome(Work.RUNNING, operation or APPEARS, "" if operation else "another run has begun to make it")

    def _deployed_on(self, payload: Deploy, number: int) -> Outcome:
        """Begin to deploy on the machine of that number; its number stands before the operation's name."""
        begun = self._client.begin(Call("endpoint", "deploy_model", payload.requests[number]))
        return Outcome(Work.RUNNING, f"{number} {begun}", f"on {self._machine(payload, number)}")

    def _deploying(self, payload: Deploy, operation: str) -> Outcome:
        """Return how far the deployment is; where a machine has no capacity, it is begun on the next."""
        number, _, name = operation.partition(" ")
        found = self._client.operation(name)
        if not found.done:
            return Outcome(Work.RUNNING, operation, f"on {self._machine(payload, int(number))}")
        if found.error is None:
            return DONE
        if isinstance(found.error, NoCapacity) and int(number) + 1 < len(payload.requests):
            return self._deployed_on(payload, int(number) + 1)
        raise self._failure(payload, found.error)

    def _machine(self, payload: Deploy, number: int) -> str:
        return machines.text_of(payload.requests[number]["deployed_model"]["dedicated_resources"])

    def _failure(self, payload: Deploy, error: MlscaleError) -> MlscaleError:
        try:
            lines = logs.last_lines(self._client, payload.identity, LOG_LINES, _deployed_id(payload))
        except MlscaleError as unread:
            lines = f"its log can't be read: {unread}"
        return error.and_why(lines)

    def _replicas(self, payload: AwaitReplicas, operation: str) -> Outcome:
        found = self._deployed(payload.identity, payload.deployed_id)
        if found is None:
            raise ProviderFailed(
                "the revision is gone", why=f"{payload.revision} is not on the endpoint", hint="mlscale deploy"
            )
        available = translate.replicas_of(found)
        least = min(payload.least, int(found.get("dedicated_resources", {}).get("min_replica_count", 1)))
        if available is None or available >= least:
            return DONE
        return Outcome(Work.RUNNING, operation or "replicas", f"{available} of {least} replicas")

    def _baked(self, payload: Bake, operation: str) -> Outcome:
        endpoint = reading.endpoint_of(self._client, payload.identity) or {}
        found = reading.deployed(endpoint, payload.deployed_id)
        split = _split(endpoint)
        if found is None:
            wrong = "is not on the endpoint any more"
        elif translate.replicas_of(found) == 0:
            wrong = "has no replica any more"
        elif split != {payload.deployed_id: 100}:
            wrong = f"has {split.get(payload.deployed_id, 0)}% of the traffic, and had all: somebody else moved it"
        else:
            wrong = ""
        if wrong:
            why = f"revision {payload.revision} {wrong}"
            raise ProviderFailed("the revision failed while it was watched", why=why, hint="mlscale logs")
        left = datetime.fromisoformat(operation) - self._clock.now()
        if left <= timedelta(0):
            return Outcome(Work.DONE, operation)
        return Outcome(Work.RUNNING, operation, f"watched for {left.total_seconds():.0f} s more")

    def _unshifted(self, payload: Shift) -> Sequence[Call]:
        """Return the call that splits the traffic and tells of the candidate, both at once; none where it is so."""
        identity = payload.identity
        endpoint = reading.endpoint_of(self._client, identity) or {"name": requests.endpoint_of(identity)}
        split = _split(endpoint)
        labels = endpoint.get("labels", {})
        wanted = {key: value for key, value in labels.items() if key != requests.TRIED}
        if payload.tried:
            wanted[requests.TRIED] = payload.tried
        changed: dict[str, Any] = {}
        if split != payload.split:
            changed["traffic_split"] = dict(payload.split)
        if wanted != labels:
            changed["labels"] = wanted
        return [reading.update_endpoint(endpoint, **changed)] if changed else []

    def _deployed(self, identity: Identity, deployed_id: str) -> Mapping[str, Any] | None:
        return reading.deployed(reading.endpoint_of(self._client, identity), deployed_id)

    def _configure(self, payload: Configure | Resize) -> Outcome:
        for call in self._settings(payload) if isinstance(payload, Configure) else ():
            self._client.change(call)
        mutation = self._mutation(payload)
        return DONE if mutation is None else Outcome(Work.RUNNING, self._client.begin(mutation))

    def _settings(self, payload: Configure) -> Sequence[Call]:
        return reading.settings_calls(
            self._client, payload.identity, payload.labels, payload.request_logging, payload.models
        )

    def _mutation(self, payload: Configure | Resize) -> Call | None:
        """Return the call that gives a deployed model its bounds and targets; None where it has them."""
        found = self._deployed(payload.identity, payload.deployed_id)
        if found is None:
            return None
        changed = scaling.mutation(found["id"], payload.scaling, found.get("dedicated_resources", {}))
        if changed is None:
            return None
        model, paths = changed
        request = {
            "endpoint": requests.endpoint_of(payload.identity),
            "deployed_model": model,
            "update_mask": {"paths": paths},
        }
        return Call("endpoint", "mutate_deployed_model", request)

    def _uneven(self, payload: Watch) -> Sequence[Call]:
        identity = payload.identity
        policies, dashboards = reading.watching_of(self._client, identity)
        own = watching.dashboards_of(identity, dashboards)
        return watching.calls(identity, payload.auxiliaries, policies, own, payload.labels)

    def _places(self, payload: RemoveUploads | Discard) -> Sequence[str]:
        if isinstance(payload, Discard):
            return [payload.place] if self._client.is_there(payload.place) else []
        return reading.uploads_of(self._client, payload.identity, self._uploads)


def _split(endpoint: Mapping[str, Any]) -> dict[str, int]:
    """Return who gets how many percents of an endpoint's traffic; who gets none is left out."""
    return {key: int(share) for key, share in endpoint.get("traffic_split", {}).items() if int(share)}


def _whole(place: str) -> str:
    """Return the place of the mark that all files of a folder are there; it lists them."""
    return f"{place}.whole"


def _deployed_id(payload: Deploy) -> str:
    return str(payload.requests[0]["deployed_model"]["id"])


def _call(payload: MakeModel | MakeEndpoint | Undeploy | RemoveEndpoint | RemoveModel) -> Call:
    """Return the one call that begins to carry out `payload`."""
    identity = payload.identity
    match payload:
        case MakeModel():
            return Call("model", "upload_model", payload.request)
        case MakeEndpoint():
            return Call("endpoint", "create_endpoint", payload.request)
        case Undeploy():
            request = {"endpoint": requests.endpoint_of(identity), "deployed_model_id": payload.deployed_id}
            return Call("endpoint", "undeploy_model", request)
        case RemoveEndpoint():
            return Call("endpoint", "delete_endpoint", {"name": requests.endpoint_of(identity)})
        case RemoveModel():
            name = f"{requests.parent_of(identity)}/models/{payload.model_id}"
            return Call("model", "delete_model", {"name": name})
        case _:
            assert_never(payload)


def _payload(step: Step[object]) -> Payload:
    if not isinstance(step.payload, Payload):
        raise TypeError(f"{step.key} is no step of this provider")
    return step.payload
