"""A rollout on this machine, with real traffic: what is good is promoted, what is slow or fails is taken back."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.conftest import Cli
from tests.e2e.deployed import Answers, load, until

PER_SECOND = 25
LONGEST_S = 15 * 60
ANALYSIS = (
    "{error_rate: {no_worse_than_baseline: {margin: 4%}}, latency: {quantile: p95, max: 250ms}, min_requests: 50}"
)
RULES = "rollout={strategy: canary, steps: [20%, 50%], interval: 1s, deadline: 15m, analysis: " + ANALYSIS + "}"


@dataclass(frozen=True, slots=True)
class Rolled:
    """What a rollout came to: exit code, facts, the answers meanwhile, and the revision that was stable before."""

    code: int
    facts: dict[str, object]
    answers: Answers
    stable: str
    stderr: str


def words(*more: str) -> list[str]:
    """Return a command's words, with the rules of these tests."""
    return [*more, "--set", RULES, "--set", "endpoint.replicas=1", "--set", "endpoint.autoscaling.target=[]"]


def rolled(custom: Cli, change: Callable[[str], str], *, per_second: float = PER_SECOND) -> Rolled:
    """Deploy, change the handler, and go all steps with requests coming at a steady rate."""
    first = custom.run("deploy", *words())
    assert first.returncode == 0, first.stderr
    seen = json.loads(custom.run("status", "--output", "json", *words()).stdout)
    handler = custom.folder / "inference.py"
    handler.write_text(change(handler.read_text()))
    with load(seen["address"], per_second=per_second) as answers:
        driver = custom.start("rollout", "--auto", "--output", "json", *words())
        _, stderr = driver.communicate(timeout=LONGEST_S)
    facts = json.loads(custom.run("rollout", "status", "--output", "json", *words()).stdout)["rollout"]
    return Rolled(driver.returncode, facts, answers, seen["revisions"][0]["revision"]["id"], stderr)


def in_prediction(line: str) -> Callable[[str], str]:
    """Return a change of the handler: `line` comes first in each prediction."""
    named = "def predict_fn(flowers, centroids):\n"
    return lambda text: text.replace(named, f"{named}    {line}\n")


def test_a_good_revision_is_promoted(custom: Cli) -> None:
    """With exit code 0, and nobody got an error meanwhile."""
    found = rolled(custom, in_prediction("pass"))

    assert (found.code, found.facts["phase"], found.facts["outcome"]) == (0, "promoted", "pass"), found.stderr
    assert found.answers.failures == []
    assert len({revision for _, revision in found.answers.counts}) == 2


@pytest.mark.parametrize(
    ("line", "metric"),
    [
        ("import random; assert random.random() > 0.5, 'half of them fail'", "error_rate"),
        ("import time; time.sleep(0.4)", "latency"),
    ],
    ids=["failing", "slow"],
)
def test_a_worse_revision_is_taken_back(custom: Cli, line: str, metric: str) -> None:
    """With exit code 4 and the numbers; no request of the stable revision failed, and it serves alone again."""
    found = rolled(custom, in_prediction(line))

    assert (found.code, found.facts["phase"], found.facts["outcome"]) == (4, "rolled_back", "fail"), found.stderr
    verdicts = {each["metric"]: each for each in found.facts["verdicts"]}  # type: ignore[attr-defined]
    assert verdicts[metric]["outcome"] == "fail"
    assert verdicts[metric]["candidate"] > verdicts[metric]["baseline"]
    assert [key for key in found.answers.counts if key[0] != 200 and key[1] in ("", found.stable)] == []
    seen = json.loads(custom.run("status", "--output", "json", *words()).stdout)
    assert [(each["revision"]["id"], each["share"]) for each in seen["revisions"]] == [(found.stable, 10000)]


def test_an_abort_from_elsewhere_stops_who_drives(custom: Cli) -> None:
    """Within ten seconds, and both commands say what became of it."""
    assert custom.run("deploy", *words()).returncode == 0
    handler = custom.folder / "inference.py"
    handler.write_text(in_prediction("pass")(handler.read_text()))
    driver = custom.start("rollout", "--auto", *words())
    until(lambda: _share(custom) == 2000, within_s=60)

    begun = time.monotonic()
    aborted = custom.run("rollout", "abort", "--output", "json", *words())
    took = time.monotonic() - begun

    assert aborted.returncode == 0, aborted.stderr
    assert json.loads(aborted.stdout)["rollout"]["phase"] == "rolled_back"
    assert _ended(driver) == 4
    assert took < 15


def _share(custom: Cli) -> object:
    found = custom.run("rollout", "status", "--output", "json", *words())
    return json.loads(found.stdout)["rollout"]["share"] if found.returncode == 0 else None


def _ended(driver: subprocess.Popen[str]) -> int:
    driver.communicate(timeout=30)
    return driver.returncode


def test_a_plain_deploy_takes_the_place_of_a_rollout_that_somebody_drives(custom: Cli) -> None:
    """Who drives lets go with exit code 10, and what was deployed serves alone."""
    assert custom.run("deploy", *words()).returncode == 0
    handler = custom.folder / "inference.py"
    text = handler.read_text()
    handler.write_text(in_prediction("pass")(text))
    driver = custom.start("rollout", "--auto", *words())
    until(lambda: _share(custom) == 2000, within_s=60)
    handler.write_text(in_prediction("return [{'species': 'other'}]")(text))

    deployed = custom.run("deploy", *words()[2:])

    assert deployed.returncode == 0, deployed.stderr
    assert _ended(driver) == 10
    seen = json.loads(custom.run("status", "--output", "json", *words()).stdout)
    assert [each["share"] for each in seen["revisions"]] == [10000]
