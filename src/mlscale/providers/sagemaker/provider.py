"""Amazon SageMaker as a provider: endpoints, Application Auto Scaling, CloudWatch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, assert_never

from mlscale.clock import Clock
from mlscale.deployment import AT_ONCE, Content, Deployment, Identity, Revision, Role, RolloutWish, revision_of
from mlscale.errors import MlscaleError, NoCapacity, NotDeployed, ProviderFailed, RolledBack, Unsupported
from mlscale.plan.steps import Step
from mlscale.providers.contract import (
    DONE,
    Answer,
    BadOfAll,
    Check,
    LogLine,
    LogQuery,
    Outcome,
    Point,
    Progress,
    Refusal,
    Steps,
    Work,
)
from mlscale.providers.sagemaker import (
    counting,
    failures,
    image_table,
    images,
    invoking,
    logs,
    packaging,
    permissions,
    preflight,
    reading,
    requests,
    scaling,
    translate,
    watching,
)
from mlscale.providers.sagemaker.calls import Call
from mlscale.providers.sagemaker.client import Client
from mlscale.providers.sagemaker.payloads import (
    Adopt,
    AwaitEndpoint,
    AwaitGone,
    Configure,
    Discard,
    MakeConfig,
    MakeEndpoint,
    MakeModel,
    Payload,
    Release,
    RemoveArrangements,
    RemoveEndpoint,
    RemoveUploads,
    Scale,
    Shift,
    UpdateEndpoint,
    Upload,
    Watch,
)

LOG_LINES = 20
"""How many of a container's last lines stand in the error of a deployment that failed."""

ROUNDS = 4
"""How often what is there is compared again: an alarm can name its policy only after that is made."""


FREE, SENT = "weights wait", "weights"
"""What a shift of traffic goes on as: it waits for what else goes on there, or its weights are sent."""


class SageMaker:
    """The contract, on Amazon SageMaker in one account and region; `uploads` is the place of archives."""

    name = "sagemaker"
    slowest_poll_s = 10.0
    settles_within_s = 30.0
    lag = counting.LAG

    def __init__(self, *, account: str | None, region: str, uploads: str, clock: Clock) -> None:
        self._client = Client(account, region, clock)
        self._region = region
        self._uploads = uploads
        self._clock = clock

    def abilities(
        self, asked: Deployment, seen: Deployment | None, rollout: RolloutWish = AT_ONCE
    ) -> tuple[Refusal, ...]:
        """Return what SageMaker can't do of `asked`, and what it would do otherwise without a word."""
        return (
            *requests.refusals(asked, seen, rollout, self._uploads),
            *scaling.refusals(asked.scaling, asked.kind, asked.stable.revision.content.machine if asked.stable else ()),
            *watching.refusals(asked.auxiliaries, asked.kind),
            *self._image_refusals(asked),
        )

    def preflight(self, asked: Deployment, seen: Deployment | None) -> None:
        """Return if nothing is known that would stop a new revision."""
        preflight.refuse_unready(self._client, asked, seen, self._uploads)

    def pinned(self, asked: Deployment, seen: Deployment | None) -> Deployment:
        """Return `asked` as the cloud will hold it: its image chosen, its scaling in the cloud's words.

        The image of the same content stays: a newer table of images is no new revision.
        """
        asked = replace(
            asked,
            scaling=scaling.canonical(asked.scaling),
            auxiliaries=watching.canonical(asked.auxiliaries),
        )
        served = tuple(
            replace(each, revision=revision_of(self._pinned(asked, each.revision.content, seen)))
            for each in asked.revisions
        )
        return replace(asked, revisions=served)

    def _pinned(self, asked: Deployment, content: Content, seen: Deployment | None) -> Content:
        if content.image is not None:
            return replace(content, image=preflight.pinned_image(self._client, content.image))
        bare = replace(content, image=None, runtime=None)
        # The stable one is the first: of two that differ in the image alone it is the one that stays.
        there = sorted(seen.revisions if seen else (), key=lambda each: each.role is not Role.STABLE)
        for before in (each.revision.content for each in there):
            if replace(before, image=None, runtime=None) == bare:
                return replace(content, image=before.image, runtime=before.runtime)
        return self._with_image(asked, content)

    def read(self, identity: Identity) -> Deployment | None:
        """Return what the cloud has, from the cloud alone."""
        raw = reading.raw_of(self._client, identity.name, self._uploads)
        return translate.deployment(identity, raw) if raw else None

    def read_all(self, identities: Sequence[Identity]) -> Sequence[Deployment | None]:
        """Return what `read` gives for each; what can be listed is listed once for all."""
        if len(identities) < reading.WORTH_LISTING:
            return [self.read(each) for each in identities]
        return reading.deployments_of(self._client, identities, self._uploads)

    def revisions(self, identity: Identity) -> Sequence[Revision]:
        """Return the revisions whose Models are kept, the newest first."""
        return reading.revisions_of(self._client, identity.name)

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
            case AwaitEndpoint() | AwaitGone():
                return self.poll(step, "endpoint")
            case Configure() | Scale():
                self._configure(payload)
                return self.poll(step, "count")
            case Shift():
                return self.poll(step, FREE)
            case Watch() | Release():
                self._make_even(payload)
            case RemoveUploads() | RemoveArrangements():
                for call in self._removals(payload):
                    self._client.remove(call)
            case Discard(kind="upload"):
                self._client.delete(payload.what)
            case Adopt():
                for call in reading.adoption_calls(self._client, payload.name, payload.labels):
                    self._client.change(call)
            case RemoveEndpoint() | Discard():
                if not self.is_done(step):
                    self._client.remove(_call(payload))
            case MakeModel():
                for call in reading.model_calls(self._client, payload.name, payload.request):
                    self._client.create(call)
            case MakeConfig() | MakeEndpoint():
                if not self.is_done(step):
                    self._client.create(_call(payload))
            case UpdateEndpoint():
                if not self.is_done(step):
                    self._client.change(_call(payload))
            case _:
                assert_never(payload)
        return DONE

    def is_done(self, step: Step[object]) -> bool:
        """Return whether nothing is left to do for `step`, by reading."""
        payload, client = _payload(step), self._client
        match payload:
            case Upload():
                return client.is_there(payload.place)
            case MakeModel():
                return not reading.model_calls(client, payload.name, payload.request)
            case MakeConfig():
                return reading.has_ours(
                    client, "endpoint-config", str(payload.request["EndpointConfigName"]), payload.name
                )
            case MakeEndpoint():
                return reading.has_ours(client, "endpoint", payload.name, payload.name)
            case UpdateEndpoint():
                return reading.is_on_its_way(client, payload.name, str(payload.request["EndpointConfigName"]))
            case AwaitEndpoint() | AwaitGone():
                return self.poll(step, "endpoint").work is Work.DONE
            case Configure() | Scale():
                return not self._settings_left(payload) and self._count_call(payload) is None
            case Shift():
                endpoint = reading.described(client, "endpoint", payload.name)
                return endpoint is not None and reading.has_shares(endpoint, payload.shares)
            case Watch() | Release():
                return not self._uneven(payload)
            case RemoveEndpoint():
                return reading.status_of(client, payload.name) in (None, "Deleting")
            case RemoveUploads() | RemoveArrangements():
                return not self._removals(payload)
            case Discard(kind="upload"):
                return not client.is_there(payload.what)
            case Discard():
                return reading.described(client, payload.kind, payload.what) is None
            case Adopt():
                return not reading.adoption_calls(client, payload.name, payload.labels)
            case _:
                assert_never(payload)

    def poll(self, step: Step[object], operation: str) -> Outcome:
        """Return how far the endpoint is."""
        payload = _payload(step)
        endpoint = reading.described(self._client, "endpoint", payload.name)
        if isinstance(payload, AwaitGone):
            return DONE if endpoint is None else Outcome(Work.RUNNING, operation, "Deleting")
        if endpoint is None:
            raise ProviderFailed(
                "the endpoint is gone", why=f"{payload.name} was deleted by somebody", hint="mlscale deploy"
            )
        if endpoint["EndpointStatus"] in translate.BUSY:
            return Outcome(Work.RUNNING, operation, translate.progress_text(endpoint))
        if isinstance(payload, AwaitEndpoint):
            return self._settled(payload, endpoint)
        if isinstance(payload, Shift):
            return self._shifted(payload, endpoint, operation)
        if isinstance(payload, Configure | Scale) and (call := self._count_call(payload)):
            self._client.change(call)
            return Outcome(Work.RUNNING, operation, "changing the number of instances")
        return DONE

    def invoke(self, identity: Identity, body: bytes, content_type: str, accept: str) -> Answer:
        """Return the endpoint's answer; an async endpoint's is waited for."""
        seen = self.read(identity)
        if seen is None or not seen.facts.get("status"):
            raise NotDeployed("nothing is deployed", why=str(identity), hint="mlscale deploy")
        request = invoking.Request(body, content_type, accept)
        return invoking.answer(self._client, seen, request, self._uploads, self._clock)

    def logs(self, identity: Identity, query: LogQuery) -> Iterator[LogLine]:
        """Yield what the containers wrote, as CloudWatch Logs has it."""
        return logs.lines(
            self._client, identity.name, query, reading.revision_at(self._client, identity.name), self._clock
        )

    def list(self) -> Sequence[Identity]:
        """Return our endpoints in this account and region."""
        account = self._client.account()
        return tuple(Identity(self.name, name, account, self._region) for name in reading.our_endpoints(self._client))

    def doctor(self, asked: Deployment | None = None) -> Sequence[Check]:
        """Return what AWS must have for `asked`."""
        return preflight.checks(self._client, asked, self._uploads)

    def adopt(self, identity: Identity, labels: Mapping[str, str]) -> Steps:
        """Return the step that makes an endpoint ours; none if it is."""
        if reading.described(self._client, "endpoint", identity.name) is None:
            raise NotDeployed("there is nothing to import", why=f"no endpoint {identity.name}", hint="mlscale deploy")
        calls = reading.adoption_calls(self._client, identity.name, labels)
        return translate.adoption(identity, labels) if calls else ()

    def garbage(self, identity: Identity, keep: Sequence[str]) -> Steps:
        """Return steps that delete the Models, EndpointConfigs and archives that nothing uses."""
        return translate.garbage_steps(identity.name, reading.unused(self._client, identity.name, keep, self._uploads))

    def shares_that_hold(self, shares: Mapping[str, int]) -> Mapping[str, int]:
        """Return `shares`: a 32-bit weight holds every basis point."""
        return dict(shares)

    def counts(
        self, identity: Identity, start: datetime, end: datetime, slow_over_ms: float | None
    ) -> Sequence[BadOfAll]:
        """Return what each variant answered, by what it serves now; slow is what took longer in the model.

        Before the present arrangement a variant may have served something else: there are no rows from then.
        """
        serving = reading.serving_of(self._client, identity.name)
        if serving is None:
            return ()
        queries = counting.metric_queries(identity.name, list(serving.revisions), serving.kind, slow_over_ms)
        results = self._metric_data(queries, serving, start, end)
        return tuple(counting.rows(results, list(serving.revisions.values())))

    def points(self, identity: Identity, expressions: Sequence[str], start: datetime, end: datetime) -> Sequence[Point]:
        """Return what expressions of metric math give for each variant, by what it serves now."""
        serving = reading.serving_of(self._client, identity.name)
        if serving is None:
            return ()
        queries = counting.expression_queries(identity.name, list(serving.revisions), expressions)
        results = self._metric_data(queries, serving, start, end)
        return tuple(counting.points(results, list(serving.revisions.values()), expressions))

    def _metric_data(
        self, queries: Sequence[Mapping[str, Any]], serving: reading.Served, start: datetime, end: datetime
    ) -> Sequence[Mapping[str, Any]]:
        """Return the results of `queries` for the minutes that are counted to their end under this arrangement."""
        first, last = counting.minutes(max(start, serving.since), end, self._clock.now())
        if first >= last:
            return ()
        return self._client.pages(
            "cloudwatch",
            "get_metric_data",
            "MetricDataResults",
            MetricDataQueries=queries,
            StartTime=first,
            EndTime=last,
            ScanBy="TimestampAscending",
        )

    def policy(self, asked: Deployment, workspace: str) -> Mapping[str, Any]:
        """Return the IAM policy that `asked` needs."""
        return permissions.policy(asked, self._uploads, workspace)

    def _image_refusals(self, asked: Deployment) -> tuple[Refusal, ...]:
        unknown = [each.revision.content for each in asked.revisions if each.revision.content.image is None]
        found = (self._choice(asked, content) for content in unknown)
        return tuple(each for each in found if isinstance(each, Refusal))

    def _choice(self, asked: Deployment, content: Content) -> images.Choice | Refusal:
        handler = packaging.handler_of(_files(content, asked.sources))
        return images.choose(content, handler, self._region, image_table.newest_table())

    def _with_image(self, asked: Deployment, content: Content) -> Content:
        found = self._choice(asked, content)
        if isinstance(found, Refusal):
            why = f"{found.path}: {found.why}"
            raise Unsupported("SageMaker can't do what the spec asks", why=why, hint="mlscale validate")
        return replace(content, image=found.uri, runtime=content.runtime if found.way is images.Way.HOST else None)

    def _upload(self, payload: Upload, progress: Progress) -> None:
        if self._client.is_there(payload.place):
            return
        content = payload.revision.content
        if payload.model is None:
            raise ProviderFailed(
                "the files of a revision are gone",
                why=f"{payload.place} is not there, and the files are not on this machine",
                hint="check the model's files out as they were, and: mlscale deploy",
            )
        paths = (payload.model, payload.handler, payload.requirements)
        files = packaging.Files(*(Path(path) if path else None for path in paths))
        with TemporaryDirectory(prefix="mlscale-") as folder:
            archive = Path(folder) / "model.tar.gz"
            packaging.pack(content, files, archive, progress)
            self._client.upload(archive, payload.place, progress)

    def _shifted(self, payload: Shift, endpoint: Mapping[str, Any], operation: str) -> Outcome:
        """Return that the weights are as wanted, or that they change, which is begun where nothing else goes on.

        Raises:
            ProviderFailed: SageMaker took the weights, and did not keep them.
        """
        if reading.has_shares(endpoint, payload.shares):
            return DONE
        if operation == SENT:
            raise ProviderFailed(
                "SageMaker did not shift the traffic",
                why=str(endpoint.get("FailureReason") or f"the weights of {payload.name} are as before"),
                hint="mlscale status",
            )
        there = reading.shares_there(endpoint, payload.shares)
        self._client.change(requests.weights(payload.name, there))
        return Outcome(Work.RUNNING, SENT, "shifting traffic")

    def _configure(self, payload: Configure | Scale) -> None:
        """Make bounds, policies and schedule as they are asked, and tags where the endpoint is about to be marked."""
        for _ in range(ROUNDS):
            calls = self._settings_left(payload)
            if not calls:
                return
            for call in calls:
                self._client.change(call)

    def _settings_left(self, payload: Configure | Scale) -> Sequence[Call]:
        client, name = self._client, payload.name
        seen = reading.scaling_of(client, name, payload.slot)
        left = scaling.calls(name, payload.slot, payload.kind, payload.scaling, seen, self._clock.now())
        if isinstance(payload, Scale):
            return left
        return (*left, *reading.tag_calls(client, name, payload.tags, payload.shared))

    def _count_call(self, payload: Configure | Scale) -> Call | None:
        """Return the call that brings the count into its bounds; None where it is."""
        seen = reading.scaling_of(self._client, payload.name, payload.slot)
        return requests.count(payload.name, payload.slot, payload.scaling, seen.count, self._clock.now())

    def _make_even(self, payload: Watch | Release) -> None:
        for _ in range(ROUNDS):
            calls = self._uneven(payload)
            if not calls:
                return
            for call in calls:
                self._client.change(call)

    def _uneven(self, payload: Watch | Release) -> Sequence[Call]:
        client, name, slot = self._client, payload.name, payload.slot
        if isinstance(payload, Release):
            return scaling.release_calls(name, slot, reading.scaling_of(client, name, slot))
        alarms, dashboard = reading.watching_of(client, name)
        return watching.calls(
            name, slot, payload.kind, payload.auxiliaries, alarms, dashboard, payload.shared, self._region
        )

    def _removals(self, payload: RemoveUploads | RemoveArrangements) -> Sequence[Call]:
        if isinstance(payload, RemoveUploads):
            return reading.upload_removals(self._client, payload.name, self._uploads)
        return reading.arrangement_removals(self._client, payload.name)

    def _settled(self, payload: AwaitEndpoint, endpoint: Mapping[str, Any]) -> Outcome:
        """Return that the endpoint serves what was wanted.

        Raises:
            RolledBack: it serves something else, by SageMaker's own doing.
            NoCapacity: there were no machines.
            ProviderFailed: it failed otherwise.
        """
        status, reason = endpoint["EndpointStatus"], str(endpoint.get("FailureReason", ""))
        if status == "InService" and payload.config in (None, endpoint["EndpointConfigName"]):
            return DONE
        if payload.config is None:
            return Outcome(Work.DONE, None, status)
        failure = self._failure(payload.name, payload.config, status, reason)
        if status == "InService":
            raise RolledBack(failure.what, why=failure.why, hint=failure.hint)
        raise failure

    def _failure(self, name: str, config: str, status: str, reason: str) -> MlscaleError:
        """Return the error for the reason, with the last words of a container that ran under `config`."""
        failure = failures.reason_of_failure(
            reason or f"the endpoint is {status}, and SageMaker gives no reason", self._region
        )
        if isinstance(failure, NoCapacity):
            return failure  # no container ran
        try:
            tried = reading.described(self._client, "endpoint-config", config)
            since = tried["CreationTime"] if tried else None
            variants = [str(each["VariantName"]) for each in reading.variants_in(tried)]
            about = failures.variant_in(reason, variants)
            lines = logs.last_lines(self._client, name, LOG_LINES, since=since, variant=about)
        except MlscaleError as error:
            lines = f"its log can't be read: {error}"
        return failure.and_why(lines)


def _files(content: Content, sources: Mapping[str, str]) -> packaging.Files:
    digests = (content.artifact, content.handler, content.requirements)
    return packaging.Files(*(Path(sources[digest]) if digest else None for digest in digests))


def _call(payload: MakeConfig | MakeEndpoint | UpdateEndpoint | RemoveEndpoint | Discard) -> Call:
    """Return the one call that carries out `payload`."""
    match payload:
        case MakeConfig():
            return Call("sagemaker", "create_endpoint_config", payload.request)
        case MakeEndpoint():
            return Call("sagemaker", "create_endpoint", payload.request)
        case UpdateEndpoint():
            return Call("sagemaker", "update_endpoint", payload.request)
        case RemoveEndpoint():
            return Call("sagemaker", "delete_endpoint", {"EndpointName": payload.name})
        case Discard():
            return reading.deletion(payload.kind, payload.what)
        case _:
            assert_never(payload)


def _payload(step: Step[object]) -> Payload:
    if not isinstance(step.payload, Payload):
        raise TypeError(f"{step.key} is no step of this provider")
    return step.payload
