"""Commands on the AWS double, in this process, and what they did there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlscale.cli.app import main
from mlscale.clock import SystemClock
from mlscale.engine.session import World
from mlscale.providers.registry import provider_of
from mlscale.state.store import open_store
from tests.cli.conftest import Ran
from tests.conftest import GOLDEN
from tests.doubles.aws import Double

BUCKET = "mlscale-workspace"
UPLOADS = "team/uploads/"
FIXED = (
    *(word for key in ("target", "steps", "schedule") for word in ("--set", f"endpoint.autoscaling.{key}=[]")),
    *("--set", "endpoint.replicas.min=6", "--set", "endpoint.replicas.max=6"),
)
"""Words for an endpoint whose count nothing moves."""

HANDLER = """\
VERSION = 1


def model_fn(model_dir):
    return VERSION


def input_fn(body, content_type):
    return body


def predict_fn(data, model):
    return model


def output_fn(prediction, accept):
    return str(prediction)
"""


class FromNoon(SystemClock):
    """This machine's clock, set to noon of a Friday: a schedule's bounds are the same whenever a test runs."""

    def __init__(self) -> None:
        self._started = self.monotonic()

    def now(self) -> datetime:
        """Return noon, and what has passed since the clock was made."""
        return datetime(2026, 5, 1, 12, 0, tzinfo=UTC) + timedelta(seconds=self.monotonic() - self._started)


@dataclass(frozen=True, slots=True)
class OnSageMaker:
    """A folder with the full spec and its files, and an account with what that needs and nothing else."""

    double: Double
    folder: Path
    capsys: pytest.CaptureFixture[str]
    clock: FromNoon = field(default_factory=FromNoon)

    @property
    def world(self) -> World:
        """Return the outside that commands get."""
        return World(
            provider=lambda site: provider_of(site, self.clock),
            store=open_store,
            clock=self.clock,
            variables={"STAGE": "test"},
        )

    def run(self, *words: str) -> Ran:
        """Return what `mlscale WORDS` printed; the double's journal then has what it called."""
        self.double.delete("journal")
        self.capsys.readouterr()
        code = main(words, self.world)
        printed = self.capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    def good(self, *words: str) -> Ran:
        """Return what a command printed that must work."""
        ran = self.run(*words)
        assert ran.code == 0, ran.stderr
        return ran

    def plan(self, *words: str) -> Sequence[str]:
        """Return what `mlscale plan` shows: a line a field, else its steps' keys; nothing where it has no step."""
        made = self.good("plan", *words, "--output", "json").data["plan"]
        lines = [f"{each['path']}: {each['before']} -> {each['after']}" for each in made["changes"]]
        return (lines or [each["key"] for each in made["steps"]]) if made["steps"] else []

    def journal(self) -> Sequence[Mapping[str, Any]]:
        """Return the last command's calls, those for the workspace's own records left out."""
        return [each for each in self.double.get("journal") if not each["workspace"]]

    def changed(self) -> Sequence[Mapping[str, Any]]:
        """Return the last command's calls that change something."""
        return [each for each in self.journal() if each["mutating"]]

    def resources(self) -> Any:
        """Return all that exists, by the double's own table."""
        return self.double.get(f"resources?bucket={BUCKET}&prefix={UPLOADS}")

    def new_handler(self, version: int) -> None:
        """Write another handler, which makes another revision."""
        (self.folder / "inference.py").write_text(HANDLER.replace("VERSION = 1", f"VERSION = {version}"))


def arranged(
    double: Double, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> OnSageMaker:
    """Return the folder, in which we are then, and the account; the double is emptied."""
    double.post("reset")
    double.post("settings", delay_s=0.05)
    double.make_bucket(BUCKET)
    double.make_role()
    for topic in ("ml-oncall", "answers", "failures"):
        double.client("sns").create_topic(Name=topic)
    return in_folder(double, folder, capsys, monkeypatch)


def in_folder(
    double: Double, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> OnSageMaker:
    """Return the folder, in which we are then, and the account as it is."""
    for name, value in {**double.environment, "NO_COLOR": "1", "COLUMNS": "80", "XDG_CONFIG_HOME": str(folder)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    shutil.copy(GOLDEN / "sagemaker.yaml", folder / "spec.yaml")
    (folder / "model").mkdir()
    (folder / "model" / "weights.bin").write_bytes(b"weights")
    (folder / "requirements.txt").write_text("numpy\n")
    found = OnSageMaker(double, folder, capsys)
    found.new_handler(1)
    return found
