"""An account in the double and a folder with the full spec; commands on them, and what is there afterwards."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlscale.deployment import Role
from mlscale.providers.sagemaker import counting as sagemaker
from tests.conftest import GOLDEN
from tests.doubles.aws import Double
from tests.doubles.warm import Begun, Ended, Warm
from tests.e2e.answered import MINUTES, Answered

BUCKET = "mlscale-workspace"
NOTES = ("team/journal/", "team/leases/", "team/rollouts/")
"""What a run writes down about itself, which stays."""

KEPT_REVISIONS = 2
QUICK_S, SLOW_S = 0.05, 1.0
"""How long the cloud takes for a change: a moment, and long enough for the next command to come upon it."""

SAME_BOUNDS_ALL_YEAR = [
    {"cron": "0 8 1 1 *", "timezone": "Europe/Berlin", "min": 4, "max": 12},
    {"cron": "0 20 1 1 *", "timezone": "Europe/Berlin", "min": 2, "max": 10},
]
HANDLER = """\
VERSION = {version}


def model_fn(model_dir):
    return VERSION


def predict_fn(data, model):
    return model
"""
TIMES = re.compile(r"Time(stamp)?$|^State")
IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Account:
    """An account with what the full spec needs, and a folder with that spec."""

    double: Double
    warm: Warm
    folder: Path

    @property
    def metrics_lag_s(self) -> float:
        """Return how late metrics may be."""
        return sagemaker.LAG.total_seconds()

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the whole environment of a command."""
        mine = {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder), "NO_COLOR": "1", "COLUMNS": "80"}
        return {**mine, **self.double.environment}

    def begin(self, *words: str, **variables: str) -> Begun:
        """Return a command that waits to be let go."""
        return self.warm.begin(words, self.folder, {**self.environment, **variables})

    def run(self, *words: str, **variables: str) -> Ended:
        """Return what came of a command."""
        begun = self.begin(*words, **variables)
        begun.go()
        return begun.end()

    def timed(self, *words: str) -> Ended:
        """Return what came of a command on the double's clock, which its waiting moves on."""
        begun = self.warm.begin(words, self.folder, self.environment, clock=self.double.control)
        begun.go()
        return begun.end()

    def good(self, *words: str, **variables: str) -> Ended:
        """Return what came of a command that must work."""
        ended = self.run(*words, **variables)
        assert ended.code == 0, ended.stderr
        return ended

    def changes(self, *words: str) -> Sequence[str]:
        """Run a command that must work, and return its calls that change something, notes of the workspace left out."""
        self.double.post("kill", pid=0, nth=0, point="before")
        self.good(*words)
        calls: list[str] = self.double.get("kill")["calls"]
        return calls

    def killed(self, point: str, nth: int, *words: str) -> Ended:
        """Return what came of a command that is killed at a point of its nth change."""
        begun = self.begin(*words)
        self.double.post("kill", pid=begun.pid, nth=nth, point=point)
        begun.go()
        return begun.end()

    def installed(self, *words: str, killed_at: tuple[int, str] = (0, "before")) -> Ended:
        """Return what came of the command as it is installed, killed at a point of its nth change; never at the 0th."""
        command = [str(Path(sys.executable).with_name("mlscale")), *words]
        process = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; exec "$@"', "sh", *command],  # it begins when the double knows its id
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.double.post("kill", pid=process.pid, nth=killed_at[0], point=killed_at[1])
        stdout, stderr = process.communicate("go\n", timeout=60)
        return Ended(process.returncode, stdout, stderr)

    def serve_two(self) -> None:
        """Have two revisions, the second serving with as many instances as autoscaling has wanted."""
        self.good("deploy")
        self.new_version(2)
        self.good("deploy")
        self.double.post("move", endpoint="reviews", variant="a", count=5)

    def new_version(self, version: int) -> None:
        """Write another handler, which makes another revision."""
        (self.folder / "inference.py").write_text(HANDLER.format(version=version))

    def journal(self) -> Sequence[Mapping[str, Any]]:
        """Return the calls since the journal was emptied."""
        found: Sequence[Mapping[str, Any]] = self.double.get("journal")
        return found

    def endpoint(self) -> Mapping[str, Any]:
        """Return the endpoint as it is."""
        found: Mapping[str, Any] = self.double.get("resources")["endpoints"]["reviews"]
        return found

    def serving(self) -> Mapping[str, int]:
        """Return how many percent of the traffic each revision gets."""
        variants = self.endpoint()["variants"].values()
        whole = sum(each["weight"] for each in variants)
        return {each["model"].split("-")[1]: round(100 * each["weight"] / whole) for each in variants}

    def asked(self) -> str:
        """Return the revision that the folder asks for, which is new."""
        steps = json.loads(self.good("plan", "--output", "json").stdout)["plan"]["steps"]
        (upload,) = (each["key"] for each in steps if each["key"].endswith("/upload"))
        return str(upload.partition("/")[0])

    def will_answer(self, role: Role, each: Answered) -> None:
        """Have the stable revision, or the first candidate beside it, answer so for the next minutes."""
        failed = [1.0] * each.errors + [0.0] * (each.requests - each.errors)
        values = {
            "Invocations": [1.0] * each.requests,
            "Invocation5XXErrors": failed,
            "InvocationModelErrors": failed,
            "Invocation4XXErrors": [0.0] * each.requests,
            "ModelLatency": [1000 * ms for ms in each.times_ms],
        }
        variant = "a" if role is Role.STABLE else "b"
        for minute in range(MINUTES):
            self.double.post("metrics", endpoint="reviews", variant=variant, values=values, ago_s=-60.0 * minute)

    def table(self) -> dict[str, list[str]]:
        """Return all that is there but the notes of runs: each kind, and each thing of it in one text.

        Ids that the cloud gives and times are the same word everywhere; a policy's ARN is its name.
        """
        found = self.double.get(f"resources?bucket={BUCKET}")
        found["objects"] = [each for each in found["objects"] if not each.startswith(NOTES)]
        text = json.dumps(found)
        for policy in found["scaling_policies"]:
            text = text.replace(policy["PolicyARN"], f"the policy {policy['PolicyName']}")
        return {kind: _texts(things) for kind, things in json.loads(text).items()}

    def unlike(self, wanted: Mapping[str, Sequence[str]]) -> list[str]:
        """Return what is not there of a table, and what is there besides."""
        found = self.table()
        missing = [f"missing of {kind}: {each}" for kind in wanted for each in wanted[kind] if each not in found[kind]]
        return missing + [
            f"left of {kind}: {each}" for kind in wanted for each in found[kind] if each not in wanted[kind]
        ]


def arranged(double: Double, warm: Warm, folder: Path) -> Account:
    """Return the account, empty, and the folder."""
    double.post("reset")
    double.post("settings", delay_s=QUICK_S)
    double.make_bucket(BUCKET)
    double.make_role()
    spec = yaml.safe_load((GOLDEN / "sagemaker.yaml").read_text())
    spec["endpoint"]["autoscaling"]["schedule"] = SAME_BOUNDS_ALL_YEAR
    spec["rollout"]["keep_revisions"] = KEPT_REVISIONS
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    (folder / "model").mkdir()
    (folder / "model" / "weights.bin").write_bytes(b"weights")
    (folder / "requirements.txt").write_text("numpy\n")
    made = Account(double, warm, folder)
    made.new_version(1)
    return made


def _texts(things: Any) -> list[str]:
    each = map(list, things.items()) if isinstance(things, dict) else things
    return sorted(IDS.sub("id", json.dumps(_timeless(thing), sort_keys=True)) for thing in each)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if not TIMES.search(key)}
    return [_timeless(each) for each in value] if isinstance(value, list) else value
