"""SIGKILL at four moments of every change that a command makes at Google: the same command again converges."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.sagemaker.conftest import POINTS, RECOVERED
from tests.e2e.sagemaker.test_kill import COMMANDS, MOMENTS, walk
from tests.e2e.vertex.project import Project

TAKES_TIME = ("UploadModel", "CreateEndpoint", "DeployModel", "UndeployModel", "MutateDeployedModel", "DeleteModel")


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
