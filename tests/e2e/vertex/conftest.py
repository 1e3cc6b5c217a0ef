"""One double and one warm process for each process that runs tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.vertex import Double, serving
from tests.doubles.warm import Warm, warm
from tests.e2e.vertex.project import Project, arranged

MODULES = (
    "google.cloud.aiplatform_v1",
    "google.cloud.monitoring_v3",
    "google.cloud.monitoring_dashboard_v1",
    "google.cloud.logging_v2",
)


@pytest.fixture(scope="session")
def google() -> Iterator[Double]:
    """Google Cloud, as its double has it."""
    with serving() as double:
        yield double


@pytest.fixture(scope="session")
def loaded() -> Iterator[Warm]:
    """A process that runs commands without their start."""
    with warm(*MODULES) as process:
        yield process


@pytest.fixture
def project(google: Double, loaded: Warm, tmp_path: Path) -> Iterator[Project]:
    """A project and a folder; nothing is deployed. No call may have asked what the double does not have."""
    yield arranged(google, loaded, tmp_path)
    assert google.get("unimplemented") == []
