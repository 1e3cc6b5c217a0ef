"""`mlscale rollout`: words, exit codes and what is printed, over a provider that counts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mlscale.state import rollouts
from mlscale.state.store import open_store
from tests.cli.conftest import SPEC, Shell

CANARY = f"{SPEC}rollout: {{strategy: canary, steps: [10%, 50%], interval: 5m}}\n"


def artifact(word: str) -> str:
    """Return the digest of a model's files."""
    return hashlib.sha256(word.encode()).hexdigest()[:16]


@pytest.fixture
def ready(shell: Shell) -> Shell:
    """A shell whose first revision serves, with a second in the spec; one request of 200 fails with either."""
    shell.write("spec.yaml", CANARY)
    shell.good("deploy")
    shell.write("model.bin", "two")
    shell.provider.per_minute = 6000
    shell.provider.bad = {artifact("one"): 50, artifact("two"): 50}
    return shell


def shares(shell: Shell) -> list[tuple[str, int]]:
    """Return role and share of each revision that is there."""
    (seen,) = shell.provider.there.values()
    return [(each.role.value, each.share) for each in seen.revisions]


def test_a_canary_needs_no_more_words(ready: Shell) -> None:
    """In a folder with a spec; what holds, and how to go on, is printed within 80 columns."""
    ran = ready.good("rollout", "--canary", "10")

    assert shares(ready) == [("stable", 9000), ("candidate", 1000)]
    assert "canary, holding" in ran.stdout
    assert "mlscale rollout promote" in ran.stdout
    assert max(len(line) for line in ran.stdout.splitlines()) <= 80


@pytest.mark.parametrize("words", [("rollout", "spec.yaml", "--canary", "10%"), ("rollout", "run", "--canary", "10.0")])
def test_the_spec_may_be_named_and_the_share_be_written_as_one_likes(ready: Shell, words: tuple[str, ...]) -> None:
    """A word that is no command is the spec."""
    ready.good(*words)

    assert shares(ready) == [("stable", 9000), ("candidate", 1000)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rollout",), "what shall be done is not said"),
        (("rollout", "--canary", "0"), "--canary is not valid"),
        (("rollout", "--canary", "100"), "mlscale rollout promote --full"),
        (("rollout", "--canary", "much"), "--canary is not valid"),
        (("rollout", "--canary", "10", "--auto"), "--canary and --auto are both there"),
        (("rollout", "--watch"), "no rollout goes on"),
        (("rollout", "status"), "there is no such rollout"),
        (("rollout", "abort"), "no rollout goes on"),
        (("rollout", "retry"), "there is no such rollout"),
        (("rollout", "report", "--id", "20260101T000000-000000"), "there is no such rollout"),
    ],
)
def test_what_can_not_be_done_is_said(ready: Shell, words: tuple[str, ...], said: str) -> None:
    """With exit code 2, and nothing is changed."""
    ran = ready.run(*words)

    assert ran.code == 2
    assert said in ran.stderr
    assert shares(ready) == [("stable", 10000)]


def test_a_good_revision_is_promoted_with_exit_code_0(ready: Shell) -> None:
    """By --auto, and a report of it has everything."""
    ready.good("rollout", "--auto")
    facts = ready.good("rollout", "status", "--output", "json").data["rollout"]

    assert shares(ready) == [("stable", 10000)]
    assert (facts["phase"], facts["outcome"]) == ("promoted", "pass")
    assert "promoted" in ready.good("rollout", "report", "--markdown").stdout


def test_deploy_follows_the_rollout_of_the_spec(ready: Shell) -> None:
    """To the end; the same command once more has nothing to do."""
    first = ready.good("deploy")
    second = ready.good("deploy")

    assert "Deployed." in first.stdout
    assert "No changes" in second.stdout
    assert [each for each in ready.provider.calls if each.endswith("/share")] != []


def test_a_worse_revision_is_taken_back_with_exit_code_4(ready: Shell) -> None:
    """The numbers are in the error, and in the status."""
    ready.provider.bad[artifact("two")] = 900

    ran = ready.run("rollout", "--auto", "--output", "json")

    assert ran.code == 4
    assert "9% of" in ran.error["why"]
    assert shares(ready) == [("stable", 10000)]
    assert ready.good("rollout", "status", "--output", "json").data["rollout"]["phase"] == "rolled_back"


def test_retry_tries_what_was_taken_back(ready: Shell) -> None:
    """When what was wrong around it is mended."""
    ready.provider.bad[artifact("two")] = 900
    assert ready.run("rollout", "--auto").code == 4
    ready.clock.move(3600)
    ready.provider.bad[artifact("two")] = 50

    ready.good("rollout", "retry")

    assert shares(ready) == [("stable", 10000)]
    assert ready.run("rollout", "retry").code == 2


def test_without_data_a_promotion_has_exit_code_8(ready: Shell) -> None:
    """With --full it needs none."""
    ready.provider.silent = True
    ready.good("rollout", "--canary", "10")

    early = ready.run("rollout", "promote")
    ready.good("rollout", "promote", "--full")

    assert early.code == 8
    assert "no evidence" in early.stderr
    assert shares(ready) == [("stable", 10000)]


@pytest.mark.parametrize("words", [("rollout", "abort"), ("rollback",)])
def test_an_abort_and_a_rollback_give_all_traffic_back(ready: Shell, words: tuple[str, ...]) -> None:
    """To the stable revision, not to the one before it."""
    ready.good("rollout", "--canary", "10")

    ready.good(*words)

    assert shares(ready) == [("stable", 10000)]
    (seen,) = ready.provider.there.values()
    assert seen.stable is not None
    assert seen.stable.revision.content.artifact == artifact("one")


def test_pause_and_resume_are_written_down(ready: Shell) -> None:
    """What holds goes on to hold."""
    ready.good("rollout", "--canary", "10")

    paused = ready.good("rollout", "pause", "--output", "json").data["rollout"]["phase"]
    resumed = ready.good("rollout", "resume", "--output", "json").data["rollout"]["phase"]

    assert (paused, resumed) == ("paused", "holding")


def test_a_plan_says_what_a_rollout_will_do(ready: Shell) -> None:
    """The next share as steps, the rest in words, and what it costs."""
    words = ready.good("plan").stdout
    facts = ready.good("plan", "--output", "json").data["plan"]

    assert "rollout   10% for 5m at least, 50% for 5m at least" in words
    assert "no price" in words
    assert list(facts["notes"]) == ["rollout"]


def test_events_of_a_rollout_come_line_by_line(ready: Shell) -> None:
    """For programs."""
    lines = ready.good("rollout", "--auto", "--output", "jsonl").lines

    looks = [each["event"]["text"] for each in lines if each.get("event", {}).get("key") == "rollout"]
    assert any("0.5% of" in each for each in looks)
    assert lines[-1]["rollout"]["phase"] == "promoted"


def test_a_page_is_written(ready: Shell, tmp_path: Path) -> None:
    """It needs no network; where it can't be written, that is said."""
    ready.good("rollout", "--auto")

    ready.good("rollout", "report", "--html", "page.html")
    refused = ready.run("rollout", "report", "--html", str(tmp_path / "no" / "page.html"))

    page = (ready.folder / "page.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert refused.code == 2


def test_a_record_of_another_version_is_named(ready: Shell) -> None:
    """It is not read as something else."""
    ready.good("rollout", "--canary", "10")
    store = open_store(str(ready.folder / ".mlscale"))
    found = rollouts.current(store, "reviews")
    assert found is not None
    store.put("rollouts/reviews/current.json", json.dumps({"version": 2}).encode())

    ran = ready.run("rollout", "status")

    assert ran.code == 1
    assert "use the mlscale that wrote it" in ran.stderr
