"""`mlscale rollout replay`: recorded evidence in, decisions out."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import SPEC, Shell

ANALYSIS = """\
rollout:
  strategy: canary
  analysis:
    error_rate: {max: 50%, no_worse_than_baseline: {margin: 5%}}
    min_requests: 60
environments:
  strict:
    rollout: {analysis: {min_requests: 100000}}
"""


def lines(minutes: int, *, good: str = "good", bad: str = "bad") -> str:
    """Return the windows of a good rollout and of a bad one, mixed."""
    return "".join(
        json.dumps(
            {
                "rollout": name,
                "at": f"2026-01-01T00:{minute:02}:00Z",
                "baseline": {"requests": 540, "errors": 3, "slow": 3},
                "candidate": {"requests": 60, "errors": errors, "slow": 0},
            }
        )
        + "\n"
        for minute in range(1, minutes + 1)
        for name, errors in ((good, 0), (bad, 5))
    )


def test_replay_prints_a_line_for_each_rollout(shell: Shell) -> None:
    """As JSON lines: what was decided, when, after how many windows, and what it rests on."""
    shell.write("windows.jsonl", lines(10))

    ran = shell.good("rollout", "replay", "windows.jsonl", "--output", "jsonl")

    bad, good = ran.lines
    assert (bad["rollout"], bad["decision"], bad["at"], bad["windows"]) == (
        "bad",
        "roll_back",
        "2026-01-01T00:02:00Z",
        2,
    )
    because = bad["because"]
    assert (because["metric"], because["candidate"], because["n"]) == ("error_rate", 0.0833333, 120)
    assert 0 < because["bound"] < because["candidate"] - because["baseline"]
    assert (good["rollout"], good["decision"], good["because"]["outcome"]) == ("good", "promote", "pass")
    assert good["because"]["bound"] <= 0.01


def test_replay_reads_stdin_and_tells_people(shell: Shell) -> None:
    """As text: two lines a rollout, and a sum at the end."""
    ran = shell.good("rollout", "replay", "-", "--windows", "3", stdin=lines(10))

    assert ran.stdout.splitlines()[0] == "- bad: rolled back at 2026-01-01T00:02:00Z after 2 windows"
    assert ran.stdout.splitlines()[1].startswith("    error_rate: 8.33% of 120, baseline 0.556% of 1,080: worse, by ")
    assert ran.stdout.splitlines()[2] == "~ good: inconclusive at 2026-01-01T00:03:00Z after 3 windows"
    assert ran.stdout.splitlines()[-1] == "2 rollouts: 1 rolled back, 1 inconclusive"


def test_replay_prints_one_document(shell: Shell) -> None:
    """As JSON all rollouts are in one list, in the order of their decisions."""
    ran = shell.good("rollout", "replay", "-", "--output", "json", stdin=lines(10))

    assert [each["rollout"] for each in ran.data["rollouts"]] == ["bad", "good"]
    assert shell.good("rollout", "replay", "-", "-o", "json", stdin="").data == {"schema_version": 1, "rollouts": []}


def test_a_wider_margin_promotes_sooner(shell: Shell) -> None:
    """--margin says how much worse is good enough."""

    def windows(*words: str) -> int:
        ran = shell.good("rollout", "replay", "-", "--output", "jsonl", *words, stdin=lines(40))
        return next(int(each["windows"]) for each in ran.lines if each["rollout"] == "good")

    assert windows("--margin", "5%") < windows() < windows("--margin", "0.7%")


def test_a_lower_false_alarm_stops_later(shell: Shell) -> None:
    """--false-alarm says how sure a stop is."""

    def windows(*words: str) -> int:
        ran = shell.good("rollout", "replay", "-", "--output", "jsonl", *words, stdin=lines(40))
        return next(int(each["windows"]) for each in ran.lines if each["rollout"] == "bad")

    assert windows("--false-alarm", "0.0001%") > windows() >= windows("--false-alarm", "20%")


def test_a_spec_says_what_is_judged(shell: Shell) -> None:
    """Its metrics, margins and limits; --env and flags are laid over."""
    shell.write("canary.yaml", SPEC + ANALYSIS)

    def decided(*words: str) -> dict[str, str]:
        ran = shell.good("rollout", "replay", "-", "--spec", "canary.yaml", "--output", "jsonl", *words, stdin=lines(9))
        return {each["rollout"]: each["decision"] for each in ran.lines}

    assert decided() == {"good": "promote", "bad": "roll_back"}
    assert decided("--env", "strict")["good"] == "inconclusive"
    assert decided("--margin", "0.1%")["good"] == "inconclusive"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["-", "--false-alarm", "0.01"], "--false-alarm is not valid"),
        (["-", "--false-alarm", "0%"], "--false-alarm is not valid"),
        (["-", "--margin", "100%"], "--margin is not valid"),
        (["-", "--env", "prod"], "there is no spec to lay anything over"),
        (["missing.jsonl"], "the evidence can't be read"),
        (["-", "--spec", "missing.yaml"], "the spec can't be read"),
    ],
)
def test_what_cannot_be_replayed_is_refused(shell: Shell, words: list[str], what: str) -> None:
    """With exit code 2, before anything is judged."""
    ran = shell.run("rollout", "replay", *words, "--output", "json", stdin=lines(3))

    assert (ran.code, ran.error["what"], ran.stdout) == (2, what, "")


def test_a_bad_line_is_told_with_its_place(shell: Shell) -> None:
    """What was decided before it is printed all the same."""
    ran = shell.run("rollout", "replay", "-", "--output", "jsonl", stdin=f"{lines(2)}\nnonsense\n")

    assert (ran.code, [each["rollout"] for each in ran.lines]) == (2, ["bad"])
    assert ran.error["why"].startswith("-:6: this is not JSON")
