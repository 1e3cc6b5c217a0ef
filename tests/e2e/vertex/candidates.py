"""A deployment on the Vertex AI double at the provider's own level: what is asked, what is there, how it gets there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mlscale.deployment import AT_ONCE, WHOLE, Deployment, Phase, Role, RolloutWish, ServedRevision
from mlscale.plan import make
from mlscale.plan.steps import Plan, Step
from mlscale.providers import artifact
from mlscale.providers.contract import Work
from mlscale.providers.vertex import requests
from mlscale.providers.vertex.provider import Vertex
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of
from tests.conftest import GOLDEN
from tests.doubles.vertex import Double
from tests.doubles.vertex.serving import PARENT, PROJECT, REGION
from tests.e2e.sagemaker.candidates import LIMIT_S, Moved
from tests.e2e.vertex.project import BUCKET

ENDPOINT = f"{PARENT}/endpoints/reviews"
QUICK_S = 0.02


@dataclass(frozen=True, slots=True)
class Tried:
    """The full spec in a folder, and a provider for the double that the environment names."""

    double: Double
    folder: Path
    provider: Vertex
    clock: Moved
    versions: dict[int, Deployment] = field(default_factory=dict)

    def version(self, number: int) -> Deployment:
        """Return what the spec asks for, of one version of the model, alone."""
        if number not in self.versions:
            self.versions[number] = self._version(number)
        return self.versions[number]

    def _version(self, number: int) -> Deployment:
        model = self.folder / f"model-{number}"
        model.mkdir()
        (model / "model.joblib").write_text(f"version {number}")
        words = ("alarms.notify=[]",)
        spec = parse((GOLDEN / "vertex.yaml").read_bytes(), "spec.yaml", variables={}, overrides=words)
        digest = artifact.digest(model)
        found = Digests(digest, None, None, artifact.runtime_digest())
        return self.provider.pinned(deployment_of(spec, found, {digest: str(model)}), None)

    def beside(self, stable: int, candidate: int, share: int) -> Deployment:
        """Return what is asked for while `candidate` is tried with `share` basis points."""
        first, second = self.version(stable), self.version(candidate)
        served = (
            replace(first.revisions[0], share=WHOLE - share),
            ServedRevision(second.revisions[0].revision, Role.CANDIDATE, share),
        )
        return replace(first, revisions=served, sources={**first.sources, **second.sources})

    def deployed_id(self, number: int) -> str:
        """Return the id of the version's deployed model."""
        return requests.deployed_id(self.version(number).revisions[0].revision.id)

    def move_on(self, by: timedelta) -> datetime:
        """Move the clock of Google and of the provider by as much at least; the new time, half a minute past."""
        by += timedelta(seconds=(90 - self.clock.now().second) % 60)
        self.clock.by += by
        self.double.post("advance", seconds=by.total_seconds())
        return self.clock.now()

    def seen(self) -> Deployment:
        """Return what is there, when it has settled."""
        limit = time.monotonic() + LIMIT_S
        while True:
            seen = self.provider.read(self.version(1).identity)
            if seen is not None and seen.phase is Phase.STEADY:
                return seen
            assert time.monotonic() < limit, seen
            time.sleep(QUICK_S)

    def plan(self, asked: Deployment, rollout: RolloutWish = AT_ONCE) -> Plan:
        """Return the plan from what is there."""
        seen = self.provider.read(asked.identity)
        assert self.provider.abilities(asked, seen, rollout) == ()
        return make.plan(asked, seen, self.provider.steps(asked, seen, rollout), now=self.clock.now())

    def do(self, step: Step[object]) -> None:
        """Do a step to its end."""
        outcome, limit = self.provider.perform(step, lambda text: None), time.monotonic() + LIMIT_S  # noqa: ARG005
        while outcome.work is Work.RUNNING:
            assert time.monotonic() < limit, f"{step.key} does not end: {outcome.detail}"
            time.sleep(QUICK_S)
            outcome = self.provider.poll(step, outcome.operation or "")

    def converge(self, asked: Deployment, rollout: RolloutWish = AT_ONCE) -> list[str]:
        """Do every step to `asked`; their keys, after which nothing is left to do."""
        steps = self.plan(asked, rollout).steps
        for step in steps:
            self.do(step)
        assert [(each.key, each.payload) for each in self.plan(asked, rollout).steps] == []
        assert make.difference(asked, self.seen()) == ()
        return [self.named(each.key) for each in steps]

    def named(self, key: str) -> str:
        """Return a step's key with the version in place of its revision's id, or its deployed model's."""
        for number in range(1, 4):
            for found in (self.version(number).revisions[0].revision.id, self.deployed_id(number)):
                key = key.replace(found, f"v{number}")
        return key

    def roles(self) -> list[tuple[str, str, int]]:
        """Return each revision that is there: its version, role and share."""
        return [(self.named(each.revision.id), each.role.value, each.share) for each in self.seen().revisions]

    def bounds(self) -> Mapping[str, tuple[int, int]]:
        """Return how many replicas each revision has at least and at most."""
        return {self.named(key): (each["min"], each["max"]) for key, each in self.endpoint()["deployed_models"].items()}

    def endpoint(self) -> Mapping[str, Any]:
        """Return the endpoint as it is."""
        found: Mapping[str, Any] = self.double.get("resources")["endpoints"]["reviews"]
        return found

    def move(self, number: int, count: int) -> None:
        """Let a version have as many replicas, as autoscaling does."""
        self.double.post("move", endpoint="reviews", deployed_model=self.deployed_id(number), count=count)

    def calls(self, operation: str = "") -> Sequence[Mapping[str, Any]]:
        """Return the changes at Google since the journal was emptied, files apart; with an operation those alone."""
        return [
            each
            for each in self.double.get("journal")
            if each["mutating"] and each["service"] != "storage" and operation in ("", each["operation"])
        ]


def tried(double: Double, folder: Path) -> Tried:
    """Return the project, empty, and the folder."""
    double.post("reset")
    double.post("settings", delay_s=QUICK_S)
    double.make_bucket(BUCKET)
    clock = Moved()
    provider = Vertex(project=PROJECT, region=REGION, uploads=f"gs://{BUCKET}/team/uploads", clock=clock)
    return Tried(double, folder, provider, clock)
