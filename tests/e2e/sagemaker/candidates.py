"""A deployment on the AWS double at the provider's own level: what is asked, what is there, and how it gets there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mlscale.clock import SystemClock
from mlscale.deployment import AT_ONCE, WHOLE, Deployment, Phase, Role, RolloutWish, ServedRevision
from mlscale.plan import make
from mlscale.plan.steps import Step
from mlscale.providers import artifact
from mlscale.providers.contract import Work
from mlscale.providers.sagemaker.provider import SageMaker
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of
from tests.conftest import GOLDEN
from tests.doubles.aws import Double
from tests.doubles.aws.serving import ACCOUNT, REGION
from tests.e2e.sagemaker.account import BUCKET, SAME_BOUNDS_ALL_YEAR

LIMIT_S = 20.0
HANDLER = "VERSION = {version}\n"


class Moved(SystemClock):
    """This machine's clock, moved on as far as a test says."""

    def __init__(self) -> None:
        self.by = timedelta(0)

    def now(self) -> datetime:
        """Return the time of day, moved."""
        return super().now() + self.by


@dataclass(frozen=True, slots=True)
class Tried:
    """The full spec in a folder, and a provider for the double that the environment names."""

    double: Double
    folder: Path
    provider: SageMaker
    clock: Moved
    overrides: tuple[str, ...] = ()
    env: str | None = None
    versions: dict[int, Deployment] = field(default_factory=dict)

    def version(self, number: int) -> Deployment:
        """Return what the spec asks for, of one version of the model, alone."""
        if number not in self.versions:
            self.versions[number] = self._version(number)
        return self.versions[number]

    def _version(self, number: int) -> Deployment:
        handler = self.folder / f"inference-{number}.py"
        handler.write_text(HANDLER.format(version=number))
        paths = {"artifact": self.folder / "model", "handler": handler, "requirements": self.folder / "needs.txt"}
        digests = {name: artifact.digest(path) for name, path in paths.items()}
        spec = parse(
            (GOLDEN / "sagemaker.yaml").read_bytes(), "spec.yaml", variables={}, env=self.env, overrides=self.overrides
        )
        found = Digests(digests["artifact"], digests["handler"], digests["requirements"], artifact.runtime_digest())
        asked = deployment_of(spec, found, {digests[name]: str(path) for name, path in paths.items()})
        return self.provider.pinned(asked, None)

    def beside(self, stable: int, candidate: int, share: int, role: Role = Role.CANDIDATE) -> Deployment:
        """Return what is asked for while `candidate` is tried with `share` basis points."""
        first, second = self.version(stable), self.version(candidate)
        rest = WHOLE if role is Role.SHADOW else WHOLE - share
        served = (
            replace(first.revisions[0], share=rest),
            ServedRevision(second.revisions[0].revision, role, share),
        )
        return replace(first, revisions=served, sources={**first.sources, **second.sources})

    def move_on(self, by: timedelta) -> datetime:
        """Move the clock of AWS and of the provider by as much at least; the new time, half a minute past."""
        by += timedelta(seconds=(90 - self.clock.now().second) % 60)
        self.clock.by += by
        self.double.post("advance", seconds=by.total_seconds())
        return self.clock.now()

    def seen(self) -> Deployment:
        """Return what is there, when it has settled."""
        limit = time.monotonic() + LIMIT_S
        while True:
            seen = self.provider.read(self.version(1).identity)
            if seen is not None and seen.phase is not Phase.CHANGING and seen.facts["status"] == "InService":
                return seen
            assert time.monotonic() < limit, seen
            time.sleep(0.02)

    def steps(self, asked: Deployment, rollout: RolloutWish = AT_ONCE) -> Sequence[Step[object]]:
        """Return the plan's steps from what is there."""
        seen = self.provider.read(asked.identity)
        assert self.provider.abilities(asked, seen, rollout) == ()
        return make.plan(asked, seen, self.provider.steps(asked, seen, rollout), now=self.clock.now()).steps

    def do(self, step: Step[object]) -> None:
        """Do a step to its end."""
        outcome, limit = self.provider.perform(step, lambda text: None), time.monotonic() + LIMIT_S  # noqa: ARG005
        while outcome.work is Work.RUNNING:
            assert time.monotonic() < limit, f"{step.key} does not end: {outcome.detail}"
            time.sleep(0.02)
            outcome = self.provider.poll(step, outcome.operation or "")

    def converge(self, asked: Deployment, rollout: RolloutWish = AT_ONCE) -> list[str]:
        """Do every step to `asked`; their keys, after which nothing is left to do."""
        steps = self.steps(asked, rollout)
        for step in steps:
            self.do(step)
        assert [(each.key, each.payload) for each in self.steps(asked, rollout)] == []
        assert make.difference(asked, self.seen()) == ()
        return [self.named(each.key) for each in steps]

    def named(self, key: str) -> str:
        """Return a step's key with the version in place of its revision's id."""
        for number in range(1, 5):
            key = key.replace(self.version(number).revisions[0].revision.id, f"v{number}")
        return key

    def roles(self) -> list[tuple[str, str, int, str]]:
        """Return each revision that is there: its version, role, share and variant."""
        return [
            (self.named(each.revision.id), each.role.value, each.share, each.metric_dimension)
            for each in self.seen().revisions
        ]

    def counts(self) -> Mapping[str, int]:
        """Return how many instances each variant has."""
        variants = self.double.get("resources")["endpoints"]["reviews"]["variants"]
        return {name: each["count"] for name, each in variants.items()}

    def bounds(self) -> Mapping[str, tuple[int, int]]:
        """Return the bounds of each variant that is autoscaled."""
        return {
            each["ResourceId"].rpartition("/")[2]: (each["MinCapacity"], each["MaxCapacity"])
            for each in self.double.get("resources")["scalable_targets"]
        }

    def alarms(self) -> list[str]:
        """Return the names of our alarms, without the endpoint's."""
        found = self.double.get("resources")["alarms"]
        return sorted(each.removeprefix("mlscale/reviews/") for each in found if each.startswith("mlscale/"))

    def calls(self) -> list[str]:
        """Return the changes since the journal was emptied."""
        return [
            f"{each['operation']}" for each in self.double.get("journal") if each["mutating"] and not each["workspace"]
        ]

    def tags(self) -> Mapping[str, Any]:
        """Return the endpoint's tags."""
        found: Mapping[str, Any] = self.double.get("resources")["endpoints"]["reviews"]["tags"]
        return found


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that happens over there."""
    limit = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < limit, "it does not happen"
        time.sleep(0.02)


def tried(double: Double, folder: Path, *overrides: str, env: str | None = None) -> Tried:
    """Return the account, empty, and the folder."""
    double.post("reset")
    double.post("settings", delay_s=0.02)
    double.make_bucket(BUCKET)
    double.make_role()
    (folder / "model").mkdir()
    (folder / "model" / "weights.bin").write_bytes(b"weights")
    (folder / "needs.txt").write_text("numpy\n")
    entries = json.dumps(SAME_BOUNDS_ALL_YEAR)
    clock = Moved()
    provider = SageMaker(account=ACCOUNT, region=REGION, uploads=f"s3://{BUCKET}/team/uploads", clock=clock)
    return Tried(double, folder, provider, clock, (f"endpoint.autoscaling.schedule={entries}", *overrides), env)
