"""SIGKILL at four moments of every change that a command makes at Google: the same command again converges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.e2e.sagemaker.account import Account
from tests.e2e.sagemaker.conftest import POINTS, RECOVERED
from tests.e2e.sagemaker.test_kill import (
    COMMANDS,
    DESTROY,
    MOMENTS,
    ROLLOUTS,
    Command,
    aborted_after_kills,
    changed,
    walk,
)
from tests.e2e.vertex.project import Project

TAKES_TIME = ("UploadModel", "CreateEndpoint", "DeployModel", "UndeployModel", "MutateDeployedModel", "DeleteModel")
SHORT_S = 0.4
"""How long Google takes: the next command comes upon it, and waits for no long time."""


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_killed_at_any_change_converges(
    project: Project, name: str, moment: str, record_property: Callable[[str, object], None]
) -> None:
    """Exit code 0, the table of a run that nobody disturbed, and nothing left to plan; operations go on meanwhile."""
    calls, lost = walk(project, COMMANDS[name], moment, TAKES_TIME)

    record_property(f"{POINTS} {name} on Vertex AI", len(calls))
    record_property(f"{RECOVERED} {name} on Vertex AI", len(calls) - len(lost))
    assert not lost, "\n\n".join(lost)


def halved(account: Account) -> None:
    """Have the third version beside the second, with half of the traffic."""
    changed(account)
    account.good("rollout", "--canary", "50")


TRIALS: Mapping[str, Command] = {
    **ROLLOUTS,
    "smaller share": Command(("rollout", "--canary", "10"), halved),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", TRIALS)
def test_a_rollout_killed_at_any_change_converges(
    project: Project, name: str, moment: str, record_property: Callable[[str, object], None]
) -> None:
    """A candidate tried, given more or less, promoted or given up: as every other command."""
    calls, lost = walk(project, TRIALS[name], moment, TAKES_TIME)

    record_property(f"{POINTS} {name} on Vertex AI", len(calls))
    record_property(f"{RECOVERED} {name} on Vertex AI", len(calls) - len(lost))
    assert not lost, "\n\n".join(lost)


@pytest.mark.parametrize("name", ["deploy", "update"])
def test_a_destroy_after_a_kill_leaves_nothing(project: Project, name: str) -> None:
    """Not what had been made when the command was killed, and not what was being made, which is seen nowhere yet."""
    command = COMMANDS[name]
    command.before(project)
    project.double.post("save")

    for nth in range(1, len(project.changes(*command.words)) + 1):
        project.double.post("restore")
        project.double.post("settings", delay_s=SHORT_S)
        project.killed("committed", nth, *command.words)
        destroyed = project.run(*DESTROY)

        left = {kind for kind, things in project.table().items() if things} - {"buckets"}
        assert (destroyed.code, left) == (0, set()), f"killed at change {nth}: {destroyed.stderr}"


def test_a_rollback_after_a_kill_goes_back_to_what_served(project: Project) -> None:
    """With the replicas that it had, alone, and with nothing left to plan."""
    command = COMMANDS["update"]
    command.before(project)
    served = project.endpoint()["deployed_models"]
    project.double.post("save")

    for nth in range(1, len(project.changes(*command.words)) + 1):
        project.double.post("restore")
        project.double.post("settings", delay_s=SHORT_S)
        project.new_version(3)
        project.killed("committed", nth, *command.words)
        back = project.run("rollback")

        assert back.code == 0, f"killed at change {nth}: {back.stderr}"
        found = project.endpoint()["deployed_models"]
        assert _counts(found) == _counts(served), f"killed at change {nth}"
        project.new_version(2)
        plan = project.run("plan", "--detailed-exitcode")
        assert plan.code == 0, f"killed at change {nth}: {plan.stdout}"


def _counts(deployed: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [tuple(each[key] for key in ("display_name", "min", "max", "available")) for each in deployed.values()]


@pytest.mark.parametrize("name", ["canary", "promote"])
def test_an_abort_after_a_kill_leaves_no_trace(project: Project, name: str) -> None:
    """Of a candidate, at each second change; or all of it, where it was the stable revision already."""
    assert aborted_after_kills(project, ROLLOUTS[name]) == []
