"""The main job, as a user does it, on real processes."""

from __future__ import annotations

import json
import os
import socket
from urllib.parse import urlsplit

from mlscale.providers.local.processes import process_started
from tests.conftest import Cli


def test_deploy_invoke_status_destroy(custom: Cli) -> None:
    """A template is deployed, answers, is shown, and leaves no process and no port when it is destroyed."""
    deployed = custom.run("deploy", "--output", "json")
    assert deployed.returncode == 0, deployed.stderr

    answer = custom.run("invoke", "--file", "request.json")
    assert [each["species"] for each in json.loads(answer.stdout)["predictions"]] == ["setosa", "virginica"]

    status = json.loads(custom.run("status", "--output", "json").stdout)
    assert status["phase"] == "steady"
    assert [(each["role"], each["share"]) for each in status["revisions"]] == [("stable", 10_000)]
    assert [each["health"] for each in status["revisions"][0]["replicas"]] == ["healthy"]

    observed = json.loads(next(custom.folder.glob(".mlscale/local/*/observed.json")).read_text())
    assert custom.run("destroy", "--yes").returncode == 0
    for pid in (observed["pid"], observed["revisions"][0]["replicas"][0]["pid"]):
        assert not process_started(pid)
    assert not _answers(f"{status['address']}/ping")


def test_deploy_again_changes_nothing(custom: Cli) -> None:
    """The same spec again has no step, and `plan --detailed-exitcode` says so."""
    assert custom.run("plan", "--detailed-exitcode").returncode == 3
    assert custom.run("deploy").returncode == 0

    again = json.loads(custom.run("deploy", "--output", "json").stdout)

    assert again["outcome"] == "unchanged"
    assert custom.run("plan", "--detailed-exitcode").returncode == 0


def test_a_model_that_does_not_load_leaves_the_old_one_serving(custom: Cli) -> None:
    """A handler that raises at load gives exit code 4 with its last log lines, and the old revision answers on."""
    assert custom.run("deploy").returncode == 0
    handler = custom.folder / "inference.py"
    handler.write_text(handler.read_text() + "\nraise RuntimeError('no weights here')\n")

    failed = custom.run("deploy")

    assert failed.returncode == 4
    assert "no weights here" in failed.stderr
    answer = custom.run("invoke", "--file", "request.json")
    assert answer.returncode == 0, answer.stderr
    status = json.loads(custom.run("status", "--output", "json").stdout)
    assert [(each["role"], each["share"]) for each in status["revisions"]] == [("stable", 10_000)]


def test_a_supervisor_that_was_killed_is_told_and_healed(custom: Cli) -> None:
    """After SIGKILL of the supervisor `status` says so, and `deploy` brings it back on the same port."""
    assert custom.run("deploy").returncode == 0
    before = json.loads(custom.run("status", "--output", "json").stdout)
    observed = json.loads(next(custom.folder.glob(".mlscale/local/*/observed.json")).read_text())
    os.kill(observed["pid"], 9)

    told = custom.run("status")
    assert told.returncode == 1
    assert "the supervisor is gone" in told.stdout

    assert custom.run("deploy").returncode == 0
    after = json.loads(custom.run("status", "--output", "json").stdout)
    assert after["address"] == before["address"]
    assert after["phase"] == "steady"


def test_rollback_goes_to_the_revision_before(custom: Cli) -> None:
    """`rollback` makes the earlier revision serve again, from its own files."""
    assert custom.run("deploy").returncode == 0
    first = json.loads(custom.run("status", "--output", "json").stdout)["revisions"][0]["revision"]["id"]
    handler = custom.folder / "inference.py"
    handler.write_text(handler.read_text().replace('"setosa"', '"SETOSA"'))
    assert custom.run("deploy").returncode == 0
    assert "SETOSA" in custom.run("invoke", "--file", "request.json").stdout

    assert custom.run("rollback").returncode == 0

    assert "SETOSA" not in custom.run("invoke", "--file", "request.json").stdout
    assert json.loads(custom.run("status", "--output", "json").stdout)["revisions"][0]["revision"]["id"] == first


def _answers(url: str) -> bool:
    place = urlsplit(url)
    try:
        with socket.create_connection((place.hostname or "", place.port or 0), timeout=2):
            return True
    except OSError:
        return False
