"""Rollouts on a cloud's double with the command line, judged by metrics that are put there: one suite for every cloud.

Waiting costs nothing: a command that is `timed` waits on the double's clock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mlscale.deployment import Role
from tests.doubles.warm import Ended
from tests.e2e.answered import Answered
from tests.e2e.sagemaker.account import KEPT_REVISIONS, Account

MARGINS = "error_rate: {no_worse_than_baseline: {margin: 4%}}, latency: {quantile: p95, max: 512ms}"
SPEC = "rollout={strategy: canary, steps: [10%, 50%], interval: 2m, deadline: 20m, analysis: {" + MARGINS + "}}"
RULES = ("--set", SPEC.replace("deadline", f"keep_revisions: {KEPT_REVISIONS}, deadline"))

BASELINE = Answered(1800, errors=9, slow=9)
GOOD, FAILING, SLOW = (
    Answered(200, errors=1, slow=1),
    Answered(200, errors=20, slow=1),
    Answered(200, errors=1, slow=60),
)
COUNTING = r"GetMetricData|ListTimeSeries"

FIRST_STEP_S = 60.0
OBEYED_WITHIN_S, ONE_CALL_S = 10.0, 5.0


class Rollouts:
    """What holds on every cloud; `cloud` has two revisions, the second serving, and a third in its folder."""

    def test_a_good_candidate_is_promoted(self, cloud: Account) -> None:
        """After all steps, with exit code 0; it serves alone, nothing is left to plan, and again it is done."""
        before, candidate = cloud.serving(), cloud.asked()
        cloud.will_answer(Role.STABLE, BASELINE)
        cloud.will_answer(Role.CANDIDATE, GOOD)

        ended = cloud.timed("rollout", "--auto", *RULES)

        found = rollout_of(cloud)
        assert (ended.code, found["phase"], found["outcome"]) == (0, "promoted", "pass"), ended.stderr
        assert shares_in(found) == [("began", 0), ("shifted", 1000), ("shifted", 5000), ("promoted", 10000)]
        assert len(before) == 1
        assert cloud.serving() == {candidate: 100}
        assert nothing_is_left(cloud)
        assert cloud.timed("rollout", "--auto", *RULES).code == 0

    @pytest.mark.parametrize(("answers", "metric"), [(FAILING, "error_rate"), (SLOW, "latency")])
    def test_a_worse_candidate_is_taken_back(self, cloud: Account, answers: Answered, metric: str) -> None:
        """With exit code 4 and the numbers; what is there is what there was before it came, to the last count."""
        before = cloud.table()
        cloud.will_answer(Role.STABLE, BASELINE)
        cloud.will_answer(Role.CANDIDATE, answers)

        ended = cloud.timed("rollout", "--auto", *RULES)

        found = rollout_of(cloud)
        assert (ended.code, found["phase"], found["outcome"]) == (4, "rolled_back", "fail"), ended.stderr
        verdict = next(each for each in found["verdicts"] if each["metric"] == metric)
        bad = {"error_rate": answers.errors, "latency": answers.slow}[metric] / answers.requests
        assert (verdict["outcome"], verdict["candidate"], verdict["baseline"]) == ("fail", bad, 0.005)
        assert f"{bad:.0%} of" in ended.stderr
        assert cloud.unlike(before) == []
        cloud.new_version(2)
        assert nothing_is_left(cloud)

    @pytest.mark.parametrize("baseline", [BASELINE, None], ids=["of the candidate", "at all"])
    def test_without_traffic_nothing_is_promoted(self, cloud: Account, baseline: Answered | None) -> None:
        """It holds at its first share when the deadline is over, with exit code 8; an abort leaves no trace of it."""
        before, (stable,), candidate = cloud.table(), cloud.serving(), cloud.asked()
        if baseline:
            cloud.will_answer(Role.STABLE, baseline)

        ended = cloud.timed("rollout", "--auto", *RULES)

        found = rollout_of(cloud)
        assert (ended.code, found["phase"], found["outcome"]) == (8, "holding", "no_data"), ended.stderr
        assert cloud.serving() == {stable: 90, candidate: 10}
        assert cloud.timed("rollout", "promote", *RULES).code == 8
        assert cloud.serving() == {stable: 90, candidate: 10}
        assert cloud.timed("rollout", "abort", *RULES).code == 0
        assert cloud.unlike(before) == []

    def test_metrics_that_can_not_be_read_promote_nothing(self, cloud: Account) -> None:
        """A query that fails is no success, however good the answers are."""
        cloud.will_answer(Role.STABLE, BASELINE)
        cloud.will_answer(Role.CANDIDATE, GOOD)
        cloud.double.post("faults", rules=[{"operation": COUNTING, "kind": "access_denied", "times": 10_000}])

        ended = cloud.timed("rollout", "--auto", *RULES)

        found = rollout_of(cloud)
        assert (ended.code, found["phase"], found["outcome"]) == (8, "holding", "error"), ended.stderr
        assert sorted(cloud.serving().values()) == [10, 90]

    def test_metrics_that_come_late_are_waited_for(self, cloud: Account) -> None:
        """As late as the cloud may be, each minute is counted whole when it is counted, and only then."""
        cloud.will_answer(Role.STABLE, BASELINE)
        cloud.will_answer(Role.CANDIDATE, GOOD)
        cloud.double.post("settings", metrics_lag_s=cloud.metrics_lag_s - 1)

        ended = cloud.timed("rollout", "--auto", *RULES)

        found = rollout_of(cloud)
        assert (ended.code, found["phase"]) == (0, "promoted"), ended.stderr
        assert requests_in(found) == {(BASELINE.requests, GOOD.requests)}

    def test_metrics_that_come_much_later_are_counted_then(self, cloud: Account) -> None:
        """What had no values at first is asked for again: whoever goes on finds them, and promotes nothing before."""
        cloud.will_answer(Role.STABLE, BASELINE)
        cloud.will_answer(Role.CANDIDATE, GOOD)
        cloud.double.post("settings", metrics_lag_s=3600)
        early = cloud.timed("rollout", "--auto", "--timeout", "12m", *RULES)
        before = rollout_of(cloud)
        cloud.double.post("settings", metrics_lag_s=0)

        ended = cloud.timed("rollout", "--auto", *RULES)

        found = rollout_of(cloud)
        assert (early.code, before["phase"], before["outcome"]) == (8, "progressing", "no_data"), early.stderr
        assert (ended.code, found["phase"], found["id"]) == (0, "promoted", before["id"]), ended.stderr
        assert requests_in(found) == {(BASELINE.requests, GOOD.requests)}

    def test_a_canary_by_hand_is_aborted(self, cloud: Account) -> None:
        """As the command is installed; nothing of the candidate is left."""
        before, (stable,), candidate = cloud.table(), cloud.serving(), cloud.asked()

        put = cloud.installed("rollout", "--canary", "10")
        held = cloud.serving()
        aborted = cloud.installed("rollout", "abort")

        assert (put.code, aborted.code) == (0, 0), put.stderr + aborted.stderr
        assert held == {stable: 90, candidate: 10}
        assert cloud.unlike(before) == []
        cloud.new_version(2)
        assert cloud.good("plan", "--detailed-exitcode").code == 0

    def test_a_canary_by_hand_is_promoted(self, cloud: Account) -> None:
        """In full it asks for no evidence."""
        candidate = cloud.asked()

        put = cloud.installed("rollout", "--canary", "10")
        promoted = cloud.installed("rollout", "promote", "--full")

        assert (put.code, promoted.code) == (0, 0), put.stderr + promoted.stderr
        assert cloud.serving() == {candidate: 100}
        assert cloud.good("plan", "--detailed-exitcode").code == 0

    def test_another_process_aborts_what_one_drives(self, cloud: Account) -> None:
        """Within ten seconds and a call, in real time; both say so, and nothing of the candidate is left."""
        before, (stable,), candidate = cloud.table(), cloud.serving(), cloud.asked()
        driver = cloud.begin("rollout", "--auto", *RULES)
        driver.go()
        limit = time.monotonic() + FIRST_STEP_S
        while cloud.serving() != {stable: 90, candidate: 10}:
            assert time.monotonic() < limit
            time.sleep(0.1)

        begun = time.monotonic()
        aborted = cloud.run("rollout", "abort", "--output", "json", *RULES)
        took = time.monotonic() - begun
        ended = driver.end()

        assert (aborted.code, ended.code) == (0, 4), aborted.stderr + ended.stderr
        assert rollout_in(aborted)["phase"] == "rolled_back"
        assert took < OBEYED_WITHIN_S + ONE_CALL_S
        assert cloud.unlike(before) == []

    def test_a_deploy_of_another_revision_replaces_the_candidate(self, cloud: Account) -> None:
        """The stable one is never touched; the first candidate ends as replaced, the second goes its steps."""
        (stable,) = cloud.serving()
        assert cloud.timed("rollout", "--canary", "10", *RULES).code == 0
        first = rollout_of(cloud)
        cloud.new_version(4)
        candidate = cloud.asked()

        assert cloud.timed("rollout", "--canary", "20", *RULES).code == 0
        held = cloud.serving()
        assert cloud.timed("rollout", "promote", "--full", *RULES).code == 0

        ended = cloud.timed("rollout", "report", "--id", first["id"], "--output", "json", *RULES)
        assert rollout_in(ended)["phase"] == "replaced"
        assert held == {stable: 80, candidate: 20}
        assert cloud.serving() == {candidate: 100}
        assert nothing_is_left(cloud)


def rollout_of(cloud: Account) -> Mapping[str, Any]:
    """Return the last rollout as the command line shows it."""
    return rollout_in(cloud.timed("rollout", "status", "--output", "json", *RULES))


def rollout_in(ended: Ended) -> Mapping[str, Any]:
    """Return the rollout that a command printed as JSON."""
    found: Mapping[str, Any] = json.loads(ended.stdout)["rollout"]
    return found


def shares_in(found: Mapping[str, Any]) -> Sequence[tuple[str, int]]:
    """Return what happened in a rollout, with the shares."""
    return [(each["what"], each["share"]) for each in found["history"]]


def requests_in(found: Mapping[str, Any]) -> set[tuple[int, ...]]:
    """Return what of the baseline and of the candidate was counted in a minute, each pair once."""
    both = ("baseline", "candidate")
    return {tuple(each[variant].get("error_rate", (0, 0))[1] for variant in both) for each in found["windows"]}


def nothing_is_left(cloud: Account) -> bool:
    """Return whether nothing is left to plan."""
    return cloud.timed("plan", "--detailed-exitcode", *RULES).code == 0
