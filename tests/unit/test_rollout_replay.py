"""Recorded evidence, replayed: what each rollout comes to, and which lines are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from mlscale.errors import UsageError
from mlscale.rollout.judge import Judge, MetricRule, Outcome
from mlscale.rollout.replay import Decision, Replayed, decisions, usual_rules

GOOD = {"requests": 540, "errors": 3, "slow": 3}, {"requests": 60, "errors": 0, "slow": 0}
BAD = {"requests": 540, "errors": 3, "slow": 3}, {"requests": 60, "errors": 5, "slow": 0}
UNDECIDED = {"requests": 9, "errors": 0}, {"requests": 1, "errors": 0}


def a_line(minute: int, counts: tuple[object, object] = GOOD, rollout: object = "r1", **more: object) -> bytes:
    """Return one window of a rollout."""
    at = f"2026-01-01T{minute // 60:02}:{minute % 60:02}:00Z"
    line = {"rollout": rollout, "at": at, "baseline": counts[0], "candidate": counts[1], **more}
    return json.dumps({key: value for key, value in line.items() if value is not ...}).encode() + b"\n"


def replayed(
    lines: Sequence[bytes], most: int | None = None, rules: Sequence[MetricRule] = (), own: Sequence[str] = ()
) -> Sequence[Replayed]:
    """Return what the rollouts of `lines` come to."""
    return list(decisions(lines, "windows.jsonl", lambda: Judge(rules or usual_rules(0.01)), own, most))


def told(lines: Sequence[bytes], most: int | None = None) -> Sequence[tuple[str, str, str, int]]:
    """Return of each rollout its name, decision, time and windows."""
    return [(each.rollout, each.decision.value, each.at, each.windows) for each in replayed(lines, most)]


def refused(*lines: bytes) -> str:
    """Return why lines are refused."""
    with pytest.raises(UsageError) as found:
        replayed(lines)
    return found.value.why


def test_each_rollout_is_decided_at_its_window() -> None:
    """Of three that are mixed: a bad one in its second minute, a good one soon after, a thin one at the end."""
    lines = [
        line
        for minute in range(1, 31)
        for line in (
            a_line(minute, GOOD, "good"),
            a_line(minute, BAD, "bad"),
            a_line(minute, UNDECIDED, "thin"),
        )
    ]

    assert told(lines) == [
        ("bad", "roll_back", "2026-01-01T00:02:00Z", 2),
        ("good", "promote", "2026-01-01T00:08:00Z", 8),
        ("thin", "inconclusive", "2026-01-01T00:30:00Z", 30),
    ]


def test_a_decision_has_its_verdict() -> None:
    """The metric that decided, with its numbers; of a promotion the one that came nearest to failing."""
    (found,) = replayed([a_line(minute, BAD) for minute in range(1, 3)])

    because = found.because
    assert (because.metric, because.outcome, because.n) == ("error_rate", Outcome.FAIL, 120)
    assert (because.candidate, because.baseline) == (10 / 120, 6 / 1080)


def test_slow_requests_count_as_well() -> None:
    """A candidate that answers, and too late, is rolled back for its latency."""
    slow = {"requests": 540, "errors": 0, "slow": 5}, {"requests": 60, "errors": 0, "slow": 9}

    (found,) = replayed([a_line(minute, slow) for minute in range(1, 9)])

    assert (found.decision, found.because.metric) == (Decision.ROLL_BACK, "latency")


def test_what_is_never_measured_is_not_asked_for() -> None:
    """A file without slow requests is judged by errors; one that has them once has to go on."""
    plain = {"requests": 540, "errors": 3}, {"requests": 60, "errors": 0}
    lines = [a_line(minute, plain) for minute in range(1, 31)]

    assert told(lines)[0][1] == "promote"
    assert told([a_line(0, GOOD), *lines])[0][1] == "inconclusive"


@pytest.mark.parametrize(
    "silent",
    [
        ({"requests": 540, "errors": 3}, {"requests": 0, "errors": 0}),
        ({"requests": 540, "errors": 3}, {"requests": 60, "errors": None}),
        ({"requests": 540, "errors": 3}, {"requests": None}),
        ({"requests": 540, "errors": 3}, None),
        ({"requests": 540, "errors": 3}, ...),
        (None, {"requests": 60, "errors": 0}),
    ],
)
def test_silence_is_never_promoted(silent: tuple[object, object]) -> None:
    """No requests, no counts, or no variant at all: for ten hours, and it is still not decided."""
    assert told([a_line(minute, silent) for minute in range(600)])[0][1] == "inconclusive"


def test_after_so_many_windows_it_is_inconclusive() -> None:
    """What comes after them is not looked at."""
    lines = [a_line(minute, UNDECIDED) for minute in range(1, 6)] + [a_line(minute, BAD) for minute in range(6, 9)]

    assert told(lines, most=5) == [("r1", "inconclusive", "2026-01-01T00:05:00Z", 5)]


def test_late_lines_count_and_repeated_ones_do_not() -> None:
    """The same window twice is one; one from before is looked at when it comes, and the time is the newest one's."""
    late = [a_line(2, BAD), a_line(2, BAD), a_line(1, BAD)]

    assert told(late) == [("r1", "roll_back", "2026-01-01T00:02:00Z", 2)]


def test_a_repeated_line_may_be_written_otherwise() -> None:
    """Neither the order of keys nor the time's zone make it another window."""
    other = {"errors": 5, "slow": 0, "requests": 60}
    again = a_line(1, (BAD[0], other), at="2026-01-01T01:01:00+01:00")

    assert told([a_line(1, BAD), again])[0][3] == 1


def test_empty_lines_and_what_is_the_writers_own_are_passed_over() -> None:
    """Blank lines, and keys beside ours that are not near to one of them."""
    assert told([b"\n", a_line(1, BAD, truth="bad"), b"  \r\n", a_line(2, BAD, note=None)])[0][3] == 2
    assert told([]) == []


def test_metrics_of_ones_own_are_counted_by_their_names() -> None:
    """Where the rules name them; and they are judged as errors are."""
    counts = {"requests": 540, "errors": 0, "empty": 3}, {"requests": 60, "errors": 0, "empty": 9}
    lines = [a_line(minute, counts) for minute in range(1, 4)]

    (found,) = replayed(lines, rules=(MetricRule("error_rate"), MetricRule("empty")), own=("error_rate", "empty"))

    assert (found.decision, found.because.metric) == (Decision.ROLL_BACK, "empty")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "this is not JSON: "),
        (b"[]", "it is no object"),
        (a_line(1, rollout=7), "rollout must be the rollout's name"),
        (a_line(1, rollout=""), "rollout must be the rollout's name"),
        (a_line(1, at="noon"), "at must be a time with its zone, like 2026-01-01T00:01:00Z, and is 'noon'"),
        (a_line(1, at="2026-01-01T00:01:00"), "at must be a time with its zone"),
        (a_line(1, at=5), "at must be a time with its zone"),
        (a_line(1, (5, GOOD[1])), "baseline must be an object with requests, and is 5"),
        (a_line(1, (GOOD[0], {"errors": 1})), "candidate has no requests"),
        (a_line(1, (GOOD[0], {"requests": 5, "errors": 6})), "candidate has 6 errors of 5 requests"),
        (a_line(1, (GOOD[0], {"requests": -1, "errors": 0})), "candidate.requests must be a whole number, 0 or more"),
        (a_line(1, (GOOD[0], {"requests": 5, "errors": 0.5})), "candidate.errors must be a whole number, 0 or more"),
        (a_line(1, (GOOD[0], {"requests": True, "errors": 0})), "candidate.requests must be a whole number"),
        (a_line(1, (GOOD[0], {"requests": "5", "errors": 0})), "candidate.requests must be a whole number"),
        (a_line(1, (GOOD[0], {"requests": 5, "error": 0})), "candidate has 'error'; did you mean errors?"),
        (a_line(1, (GOOD[0], {"requests": 5, "p99": 0})), "candidate has 'p99': requests, errors, slow can be judged"),
        (a_line(1, candidates=GOOD[1], extra=1), "there is no 'candidates'; did you mean candidate?"),
    ],
)
def test_a_line_that_is_no_evidence_is_refused(line: bytes, why: str) -> None:
    """With its place in the file, and what is wrong with it."""
    assert refused(a_line(0), b"\n", line).startswith(f"windows.jsonl:3: {why}")


def test_a_window_that_is_counted_twice_is_refused() -> None:
    """Two different counts of the same minute can't both be true."""
    assert refused(a_line(1, GOOD), a_line(1, BAD)) == (
        "windows.jsonl:2: r1 at 2026-01-01T00:01:00Z was counted otherwise in a line before"
    )


def test_whole_numbers_may_be_written_as_floats() -> None:
    """As CloudWatch has its sums."""
    floats = {"requests": 540.0, "errors": 3.0}, {"requests": 60.0, "errors": 5.0}

    assert told([a_line(minute, floats) for minute in range(1, 3)])[0][1] == "roll_back"
