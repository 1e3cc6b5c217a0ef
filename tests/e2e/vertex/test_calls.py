"""What Google is asked to do over a deployment's life: every call that changes something, with its whole request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from google.cloud import monitoring_v3 as monitoring
from google.protobuf import json_format

from tests.conftest import GOLDEN, Golden
from tests.doubles.vertex import protos
from tests.doubles.vertex.call import STORAGE
from tests.e2e.vertex.project import BUCKET, Project

READS = frozenset({
    "AlertPolicyService.ListAlertPolicies",
    "DashboardsService.ListDashboards",
    "EndpointService.GetEndpoint",
    "ModelService.GetModel",
    "ModelService.ListModels",
    "NotificationChannelService.GetNotificationChannel",
    "Operations.GetOperation",
    "Operations.ListOperations",
    "storage.HeadObject",
    "storage.ListObjects",
})  # fmt: skip
"""All that deploying, changing and destroying reads."""

SIDE_BY_SIDE = ("storage.DeleteObject", "ModelService.DeleteModel")
SCALED = (
    *("--env", "bigger", "--set", "labels.team=ranking", "--set", "endpoint.replicas.max=8"),
    *("--set", "endpoint.replicas.min=5", "--set", "endpoint.autoscaling.target=[]"),
)
"""Words for other bounds, the usual target and another label."""

UNWATCHED = (
    *(*SCALED, "--set", "vertex.request_logging=null", "--set", "vertex.dashboard=false"),
    *("--set", "alarms.p99_latency=900ms", "--set", "alarms.no_invocations=null"),
)
"""The same without a log of requests and a dashboard, with other alarms."""

_SPEC_HASH = re.compile(r'("mlscale-spec-hash": ")[0-9a-f]{16}')
_ETAG = re.compile(r'("etag": ")[^"]+')


@pytest.fixture
def whole(project: Project) -> Project:
    """A project with the full spec as it stands, but for a channel that is there and a shorter bake."""
    channel = {"type_": "email", "labels": {"email_address": "oncall@example.com"}}
    request = {"name": "projects/acme-ml", "notification_channel": channel}
    made = project.by_hand(monitoring.NotificationChannelServiceClient).create_notification_channel(request)
    spec = (GOLDEN / "vertex.yaml").read_text()
    spec = spec.replace("projects/acme-ml/notificationChannels/1234567890123456789", made.name)
    (project.folder / "spec.yaml").write_text(spec.replace("bake_time: 5m", "bake_time: 1s"))
    return project


def test_the_full_spec_lives_as_it_was_read_and_found_good(whole: Project, golden: Golden) -> None:
    """Deploy, update, change machines, scale, roll back, destroy: these calls, each as Google's protos have it."""
    life = Life(whole, golden)

    life.calls("deploy", "deploy")
    whole.new_version(2)
    life.calls("update", "deploy")
    whole.new_version(3)
    life.calls("update_blue_green", "deploy", "--env", "blue")
    life.calls("update_machines", "deploy", "--env", "bigger")
    life.calls("scale", "deploy", *SCALED)
    life.calls("unwatch", "deploy", *UNWATCHED)
    life.calls("rollback", "rollback")
    life.calls("destroy", "destroy", "--yes")

    assert life.read == READS
    assert _left(whole) == {}


@pytest.mark.parametrize("kind", ["gpu", "own", "private"])
def test_other_endpoints_live_as_they_were_read_and_found_good(whole: Project, golden: Golden, kind: str) -> None:
    """One on spot GPUs, one of an own image, one in a network: made, updated and taken down by exactly these calls."""
    life = Life(whole, golden)

    life.calls(f"{kind}_deploy", "deploy", "--env", kind)
    whole.new_version(2)
    life.calls(f"{kind}_update", "deploy", "--env", kind, "--yes")
    life.calls(f"{kind}_destroy", "destroy", "--env", kind, "--yes")

    assert _left(whole) == {}


class Life:
    """A deployment's commands, each held to the calls that were read and found good; `read` is all that they read."""

    def __init__(self, project: Project, golden: Golden) -> None:
        self._project = project
        self._golden = golden
        self.read: set[str] = set()

    def calls(self, name: str, *words: str) -> None:
        """Run a command, and hold what it changes to the file of that name."""
        watching = self._project.double.get("resources")
        self._project.double.delete("journal")
        self._project.good(*words)
        done = [each for each in self._project.journal() if not each["workspace"]]
        self.read |= {_operation(each) for each in done if not each["mutating"]}
        text = _text([each for each in done if each["mutating"]])
        self._golden.check(f"vertex_calls/{name}.json", _named(text, watching))


def _left(project: Project) -> Mapping[str, Any]:
    """Return what is there, but for the bucket and what was made beforehand."""
    found = project.table()
    return {kind: things for kind, things in found.items() if things and kind not in {"buckets", "channels"}}


def _operation(call: Mapping[str, Any]) -> str:
    return f"{call['service']}.{call['operation']}"


def _text(calls: Sequence[Mapping[str, Any]]) -> str:
    """Return calls as they are kept: checked against Google's protos, those that go side by side in a fixed order."""
    kept = sorted(calls, key=_lane)
    for each in kept:
        _check(each)
    shown = [{"call": _operation(each), "request": each["request"]} for each in kept]
    text = json.dumps(shown, indent=2, sort_keys=True)
    return _ETAG.sub(r"\1<as it was read>", _SPEC_HASH.sub(r"\1<of the spec>", text)) + "\n"


def _lane(call: Mapping[str, Any]) -> tuple[int, str]:
    """Return what orders calls that steps make side by side; those of one step stay in their order."""
    operation = _operation(call)
    if operation in SIDE_BY_SIDE:
        return 3, f"{operation} {json.dumps(call['request'], sort_keys=True)}"
    lanes = {"AlertPolicyService": 2, "DashboardsService": 2, STORAGE: 0}
    return -1 if operation == "EndpointService.CreateEndpoint" else lanes.get(call["service"], 1), ""


def _check(call: Mapping[str, Any]) -> None:
    """Return if the request is one of the API's v1: each name and type as the official proto has it."""
    if call["service"] == STORAGE:
        assert call["request"]["bucket"] == BUCKET
        return
    assert call["version"] == "v1"
    json_format.ParseDict(call["request"], _requests()[_operation(call)]())


def _requests() -> Mapping[str, Any]:
    """Return the message of each method that Google's clients call."""
    return {
        f"{method.service}.{method.operation}": method.request
        for prefix in protos.CLIENTS
        for method in protos._methods(prefix).values()
    }


def _named(text: str, before: Mapping[str, Any]) -> str:
    """Return a text in which policies and dashboards have their own names, where Google gave them numbers."""
    for kind, word in (("alert_policies", "alertPolicies"), ("dashboards", "dashboards")):
        for number, each in before[kind].items():
            text = text.replace(f"{word}/{number.rpartition('/')[2]}", f"{word}/<{each['display_name']}>")
    return text
