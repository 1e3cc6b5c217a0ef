"""Whether the roles that mlscale prints allow what mlscale calls, and nothing that it never calls."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.e2e.vertex.project import Project

UNSEEN = {
    "aiplatform.models.update": "a label changes",
    "aiplatform.operations.list": "the double asks for no permission where Google asks for this one",
    "iam.serviceAccounts.actAs": "IAM asks for it when DeployModel names a service account",
    "monitoring.alertPolicies.update": "an alarm changes",
    "monitoring.dashboards.update": "somebody else has changed the dashboard",
    "monitoring.timeSeries.list": "a rollout is judged by what each revision answered",
    "storage.multipartUploads.abort": "a file went up in parts, and not to its end",
    "storage.multipartUploads.create": "a file goes up in parts",
}
"""What this life of a deployment has no use for, and when it is needed."""


def test_the_roles_allow_all_that_is_called_and_nothing_else(project: Project) -> None:
    """Each call of a deployment's life is allowed, on its own objects; each permission is used, or stands in a list."""
    made = json.loads(project.good("iam", "policy").stdout)
    (project.folder / "request.json").write_text('{"instances": [[1]]}')
    project.double.delete("journal")

    for words in (
        ["doctor"],
        ["deploy"],
        ["plan"],
        ["status"],
        ["list"],
        ["invoke", "--file", "request.json"],
        ["logs"],
    ):
        project.good(*words)
    project.new_version(2)
    for words in (["deploy"], ["rollback"], ["gc"], ["destroy", "--yes"]):
        project.good(*words)

    calls = project.double.get("journal")
    used = {each["permission"] for each in calls} - {""}
    allowed = {each for role in made["roles"].values() for each in role["includedPermissions"]}
    assert used - allowed == set()
    assert allowed - used == set(UNSEEN)
    conditions = [each["condition"]["expression"] for each in made["bindings"] if "condition" in each]
    assert [call["request"] for call in calls if _is_about_an_object(call) and not _is_ours(call, conditions)] == []


def _is_about_an_object(call: Mapping[str, Any]) -> bool:
    return bool(call["service"] == "storage" and call["operation"] != "ListObjects")


def _is_ours(call: Mapping[str, Any], conditions: list[str]) -> bool:
    """Return whether a condition holds for the object that a call is about."""
    name = f"projects/_/buckets/{call['request']['bucket']}/objects/{call['request']['object']}"
    tests = [
        re.fullmatch(r'resource\.name(\.startsWith\(| == )"(.+?)"\)?', each)
        for each in " || ".join(conditions).split(" || ")
    ]
    assert all(tests)
    return any(each and (name.startswith(each[2]) if "(" in each[1] else name == each[2]) for each in tests)
