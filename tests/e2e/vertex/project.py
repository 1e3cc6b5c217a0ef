"""A project in the double and a folder with the full spec; commands on them, and what is there afterwards."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlscale.deployment import Role
from mlscale.providers.vertex import counting, requests
from tests.conftest import GOLDEN
from tests.doubles.vertex import Double
from tests.doubles.warm import Warm
from tests.e2e.answered import MINUTES, Answered
from tests.e2e.sagemaker.account import KEPT_REVISIONS, QUICK_S, Account

BUCKET = "mlscale-workspace"
NOTES = ("team/journal/", "team/leases/", "team/rollouts/")
"""What a run writes down about itself, which stays."""

TIMES = re.compile(r"_time$|^etag$|^name$")
"""What differs from run to run: times, and the numbers that the cloud gives."""


@dataclass(frozen=True, slots=True)
class Project(Account):
    """A project with what the full spec needs, and a folder with that spec."""

    @property
    def metrics_lag_s(self) -> float:
        """Return how late metrics may be."""
        return counting.LAG.total_seconds()

    def by_hand(self, kind: Any) -> Any:
        """Return one of Google's clients, as somebody else has it who works on the same project."""
        return self.double.client(kind)

    def delete_object(self, key: str) -> None:
        """Delete an object of the workspace's bucket, as somebody else."""
        place = f"{self.double.storage}/{BUCKET}/{key}"  # type: ignore[attr-defined] # Google's double has it
        with urllib.request.urlopen(urllib.request.Request(place, method="DELETE")):  # noqa: S310 - loopback
            pass

    def serve_two(self) -> None:
        """Have two revisions, the second serving with as many replicas as autoscaling has wanted."""
        self.good("deploy")
        self.new_version(2)
        self.good("deploy")
        revision = self.endpoint()["deployed_models"]
        self.double.post("move", endpoint="reviews", deployed_model=next(iter(revision)), count=5)

    def new_version(self, version: int) -> None:
        """Write another model, which makes another revision."""
        (self.folder / "model" / "model.joblib").write_text(f"version {version}")

    def serving(self) -> Mapping[str, int]:
        """Return how many percent of the traffic each revision gets."""
        endpoint = self.endpoint()
        models = {key: each["model"].rpartition("-")[2] for key, each in endpoint["deployed_models"].items()}
        return {revision: endpoint["traffic_split"].get(key, 0) for key, revision in models.items()}

    def will_answer(self, role: Role, each: Answered) -> None:
        """Have the stable revision, or the candidate that is asked for, answer so for the next minutes."""
        (stable,) = self.endpoint()["deployed_models"]
        deployed = stable if role is Role.STABLE else requests.deployed_id(self.asked())
        words = {"endpoint": "reviews", "deployed_model": deployed}
        codes = (("200", each.requests - each.errors), ("500", each.errors))
        for minute in range(MINUTES):
            for code, count in codes:
                values = {"response_count": [count]}
                labels = {"response_code": code}
                self.double.post("metrics", values=values, labels=labels, ago_s=-60.0 * minute, **words)
            times = {"prediction_latencies": each.times_ms}
            self.double.post("metrics", values=times, labels={"latency_type": "total"}, ago_s=-60.0 * minute, **words)

    def table(self) -> dict[str, list[str]]:
        """Return all that is there but operations and the notes of runs: each kind, each thing of it in one text."""
        found = self.double.get(f"resources?bucket={BUCKET}")
        found["objects"] = [each for each in found["objects"] if not str(each).startswith(NOTES)]
        return {kind: _texts(things) for kind, things in found.items() if kind != "operations"}


def arranged(double: Double, warm: Warm, folder: Path) -> Project:
    """Return the project, empty, and the folder."""
    double.post("reset")
    double.post("settings", delay_s=QUICK_S)
    double.make_bucket(BUCKET)
    spec = yaml.safe_load((GOLDEN / "vertex.yaml").read_text())
    spec["rollout"]["keep_revisions"] = KEPT_REVISIONS
    spec["alarms"]["notify"] = []
    spec["environments"]["blue"]["rollout"]["bake_time"] = "1s"
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    (folder / "model").mkdir()
    made = Project(double, warm, folder)  # type: ignore[arg-type] # both doubles have the same words
    made.new_version(1)
    return made


def _texts(things: Any) -> list[str]:
    each = things.values() if isinstance(things, dict) else things
    return sorted(json.dumps(_timeless(thing), sort_keys=True) for thing in each)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if not TIMES.search(key)}
    return [_timeless(each) for each in value] if isinstance(value, list) else value
