"""The roles of a deployment on Vertex AI: what it needs, of what is its own, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlscale.deployment import Deployment
from mlscale.providers.vertex.permissions import TABLE, Grant, in_project, needed, policy
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of
from tests.conftest import GOLDEN, Golden

UPLOADS = "gs://mlscale-workspace/team/uploads"
WORKSPACE = "gs://mlscale-workspace/team"

SMALL = """\
version: 1
name: small-one
provider: vertex
region: us-central1
account: acme-ml
workspace: gs://mlscale-workspace/team
model: {source: ./model, framework: sklearn}
endpoint: {machine: n1-standard-4}
"""


def asked(text: str | bytes = SMALL, env: str | None = None, *, artifact: str = "0" * 64) -> Deployment:
    """Return what a spec asks for; it has a model unless `artifact` is empty."""
    spec = parse(text if isinstance(text, bytes) else text.encode(), "spec.yaml", variables={}, env=env)
    return deployment_of(spec, Digests(artifact, None, None, None), {})


def whole() -> Deployment:
    """Return what the spec with every key asks for."""
    return asked((GOLDEN / "vertex.yaml").read_bytes())


def allowed(made: dict[str, Any]) -> set[str]:
    """Return all permissions of the roles."""
    return {each for role in made["roles"].values() for each in role["includedPermissions"]}


def test_the_roles_of_a_whole_spec(golden: Golden) -> None:
    """Each role is a file as gcloud takes it, and each binding says on what it is granted."""
    golden.check("vertex/policy.json", json.dumps(policy(whole(), UPLOADS, WORKSPACE), indent=2) + "\n")


def test_what_a_spec_has_not_is_not_in_its_roles() -> None:
    """Nobody is told, nothing is shown, no account is named: nothing of these may be seen or changed."""
    made = policy(asked(), UPLOADS, WORKSPACE)

    assert set(made["roles"]) == {"mlscale_small_one", "mlscale_small_one_files", "mlscale_small_one_names"}
    assert {each.partition(".")[0] for each in allowed(made)} == {"aiplatform", "logging", "monitoring", "storage"}


def test_without_a_bucket_there_is_one_role() -> None:
    """A model inside its image, and a workspace on this machine: nothing in Cloud Storage is asked for."""
    made = policy(asked(artifact=""), "", "/here/.mlscale")

    assert made["bindings"] == [{"role": "mlscale_small_one", "resource": "projects/acme-ml"}]
    assert list(made["roles"]) == ["mlscale_small_one"]


def test_another_deployments_objects_are_not_allowed() -> None:
    """What is below `small-one/` is no longer name's, and the lease is one object by its whole name."""
    files = next(each for each in policy(asked(), UPLOADS, WORKSPACE)["bindings"] if each["role"].endswith("_files"))

    below = "projects/_/buckets/mlscale-workspace/objects/team"
    assert files["condition"]["expression"].split(" || ") == [
        f'resource.name.startsWith("{below}/uploads/small-one/")',
        f'resource.name == "{below}/leases/small-one.json"',
        f'resource.name == "{below}/leases/.check"',
        f'resource.name.startsWith("{below}/journal/small-one/")',
        f'resource.name.startsWith("{below}/revisions/small-one/")',
        f'resource.name.startsWith("{below}/rollouts/small-one/")',
    ]


def test_uploads_elsewhere_are_a_binding_of_their_own() -> None:
    """Each bucket has a condition for what is used of it."""
    made = policy(asked(), "gs://models/", WORKSPACE)

    conditions = {each["resource"]: each["condition"]["expression"] for each in made["bindings"] if "condition" in each}
    assert set(conditions) == {"gs://models", "gs://mlscale-workspace"}
    assert conditions["gs://models"] == 'resource.name.startsWith("projects/_/buckets/models/objects/small-one/")'


def test_what_operations_need_is_what_the_roles_allow() -> None:
    """Every operation of the table together needs exactly the roles' permissions: neither is made by hand."""
    operations = {each for row in TABLE for each in row.operations}

    for deployment in (asked(), whole()):
        assert needed(deployment, operations) == allowed(policy(deployment, UPLOADS, WORKSPACE))


def test_an_operation_that_nobody_allowed_for_is_found() -> None:
    """A call that the table does not have is no call that needs nothing."""
    assert needed(whole(), ["EndpointService.DeployModel", "Operations.GetOperation"]) == {
        "aiplatform.endpoints.deploy",
        "iam.serviceAccounts.actAs",
    }
    with pytest.raises(LookupError, match=r"JobService\.CreateCustomJob"):
        needed(asked(), ["JobService.CreateCustomJob"])


def test_no_row_is_there_twice() -> None:
    """A permission stands in a role once."""
    rows = [(row.grant, row.name) for row in TABLE]

    assert sorted(set(rows)) == sorted(rows)


def test_what_is_asked_of_the_project_is_the_projects_role() -> None:
    """What can be tested there is what is granted there; a bucket's and an account's permissions are not."""
    made = policy(whole(), UPLOADS, WORKSPACE)

    assert in_project(whole()) == made["roles"]["mlscale_reviews"]["includedPermissions"]
    assert {row.name for row in TABLE if row.grant is Grant.FILES}.isdisjoint(in_project(whole()))
