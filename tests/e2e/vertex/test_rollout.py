"""Rollouts on Vertex AI with the command line, judged by what is in Cloud Monitoring."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.rolling import Rollouts
from tests.e2e.vertex.project import Project


@pytest.fixture
def cloud(project: Project) -> Iterator[Project]:
    """Two revisions, the second serving, and a third in the folder."""
    project.serve_two()
    project.new_version(3)
    yield project
    project.double.post("settings", metrics_lag_s=0)


class TestRollouts(Rollouts):
    """On Vertex AI."""
