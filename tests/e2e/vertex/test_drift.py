"""What others change at Google: what of it a plan shows, in the spec's words, and that a deploy puts it right."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import yaml
from google.cloud import aiplatform_v1 as vx
from google.cloud import monitoring_dashboard_v1 as dashboards
from google.cloud import monitoring_v3 as monitoring

from tests.doubles.vertex.serving import PARENT
from tests.e2e.vertex.project import BUCKET, Project

ENDPOINT = f"{PARENT}/endpoints/reviews"
ONLINE = "aiplatform.googleapis.com/prediction/online"
REVISION = "c15debc09f"
NOTES = ("team/revisions/", "team/journal/", "team/leases/", "team/rollouts/")
USUAL = ("--set", "endpoint.autoscaling.target=[]")
"""Words for an endpoint that scales as Vertex AI does where nothing is asked for."""


CHANNEL = "4000000000000007919"
"""The number that the double gives to the first thing that is made."""


@pytest.fixture
def deployed(project: Project) -> Project:
    """A project in which the full spec is deployed, with somebody to tell."""
    channel = {"type_": "email", "labels": {"email_address": "oncall@example.com"}}
    request = {"name": "projects/acme-ml", "notification_channel": channel}
    made = project.by_hand(monitoring.NotificationChannelServiceClient).create_notification_channel(request)
    spec = yaml.safe_load((project.folder / "spec.yaml").read_text())
    spec["alarms"]["notify"] = [made.name]
    (project.folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    project.good("deploy")
    return project


def plan(project: Project, *words: str) -> Sequence[str]:
    """Return what `mlscale plan` shows: a line a field, else its steps' keys; nothing where it has no step."""
    made = json.loads(project.good("plan", *words, "--output", "json").stdout)["plan"]
    lines = [f"{each['path']}: {each['before']} -> {each['after']}" for each in made["changes"]]
    return (lines or [each["key"] for each in made["steps"]]) if made["steps"] else []


def endpoints(project: Project) -> Any:
    """Return a client of EndpointService, somebody else's."""
    return project.by_hand(vx.EndpointServiceClient)


def the_endpoint(project: Project) -> Any:
    """Return the endpoint as Vertex AI gives it."""
    return endpoints(project).get_endpoint(name=ENDPOINT)


def _update(*paths: str, **fields: Any) -> Callable[[Project], None]:
    request = {"endpoint": {"name": ENDPOINT, **fields}, "update_mask": {"paths": list(paths or fields)}}
    return lambda project: endpoints(project).update_endpoint(request)


def _labels(**changed: str | None) -> Callable[[Project], None]:
    """Return what changes labels of the endpoint; None takes one away."""

    def change(project: Project) -> None:
        names = {key.replace("_", "-"): value for key, value in changed.items()}
        labels = {**dict(the_endpoint(project).labels), **names}
        _update(labels={key: value for key, value in labels.items() if value is not None})(project)

    return change


def _mutate(**resources: Any) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        (deployed,) = the_endpoint(project).deployed_models
        wanted = {"id": deployed.id, "dedicated_resources": resources}
        paths = [f"dedicated_resources.{each}" for each in resources]
        asked = {"endpoint": ENDPOINT, "deployed_model": wanted, "update_mask": {"paths": paths}}
        endpoints(project).mutate_deployed_model(asked).result(timeout=10)

    return change


def _spec(metric: str, target: int) -> Mapping[str, Any]:
    return {"metric_name": f"{ONLINE}/{metric}", "target": target}


def _policies(project: Project) -> Mapping[str, Any]:
    client = project.by_hand(monitoring.AlertPolicyServiceClient)
    found = client.list_alert_policies(name="projects/acme-ml")
    return {each.display_name.rpartition("/")[2]: each for each in found}


def _change_policy(key: str, change: Callable[[Any], None]) -> Callable[[Project], None]:
    def by_hand(project: Project) -> None:
        policy = _policies(project)[key]
        change(policy)
        project.by_hand(monitoring.AlertPolicyServiceClient).update_alert_policy(alert_policy=policy)

    return by_hand


def _raise_threshold(policy: Any) -> None:
    policy.conditions[0].condition_threshold.threshold_value = 900_000.0


def _silence(policy: Any) -> None:
    policy.enabled = False


def _tell_nobody(policy: Any) -> None:
    del policy.notification_channels[:]


def _relabel(policy: Any) -> None:
    policy.user_labels["team"] = "other"


def _delete_policy(key: str) -> Callable[[Project], None]:
    return lambda project: project.by_hand(monitoring.AlertPolicyServiceClient).delete_alert_policy(
        name=_policies(project)[key].name
    )


def _dashboard(project: Project) -> Any:
    client = project.by_hand(dashboards.DashboardsServiceClient)
    (found,) = client.list_dashboards({"parent": "projects/acme-ml"})
    return found


def _delete_dashboard(project: Project) -> None:
    project.by_hand(dashboards.DashboardsServiceClient).delete_dashboard({"name": _dashboard(project).name})


def _empty_dashboard(project: Project) -> None:
    found = _dashboard(project)
    del found.mosaic_layout.tiles[:]
    project.by_hand(dashboards.DashboardsServiceClient).update_dashboard({"dashboard": found})


def _change_model(*paths: str, **fields: Any) -> Callable[[Project], None]:
    """Return what changes fields of the one Model; a path without a field empties it."""

    def by_hand(project: Project) -> None:
        client = project.by_hand(vx.ModelServiceClient)
        (model,) = client.list_models(parent=PARENT)
        wanted = {"model": {"name": model.name, **fields}, "update_mask": {"paths": list(paths or fields)}}
        client.update_model(wanted)

    return by_hand


def _another_machine(project: Project) -> None:
    """Deploy the same Model from another machine, give it the traffic, and take ours off."""
    (ours,) = the_endpoint(project).deployed_models
    resources = {"machine_spec": {"machine_type": "n1-highmem-4"}, "min_replica_count": 2, "max_replica_count": 10}
    theirs = {"id": "7", "model": ours.model, "display_name": "by-hand", "dedicated_resources": resources}
    asked = {"endpoint": ENDPOINT, "deployed_model": theirs, "traffic_split": {"0": 100, ours.id: 0}}
    endpoints(project).deploy_model(asked).result(timeout=10)
    endpoints(project).undeploy_model({"endpoint": ENDPOINT, "deployed_model_id": ours.id}).result(timeout=10)


def _another_model(project: Project) -> None:
    """Give half of the traffic to a Model of their own."""
    (ours,) = the_endpoint(project).deployed_models
    container = {"image_uri": "us-docker.pkg.dev/acme-ml/theirs/server:1"}
    model = {"display_name": "by-hand", "container_spec": container}
    asked = {"parent": PARENT, "model_id": "by-hand", "model": model}
    project.by_hand(vx.ModelServiceClient).upload_model(asked).result(timeout=10)
    resources = {"machine_spec": {"machine_type": "n1-standard-4"}, "min_replica_count": 1}
    theirs = {"id": "7", "model": f"{PARENT}/models/by-hand", "dedicated_resources": resources}
    split = {"0": 50, ours.id: 50}
    endpoints(project).deploy_model({"endpoint": ENDPOINT, "deployed_model": theirs, "traffic_split": split}).result(
        timeout=10
    )


def _undeploy(project: Project) -> None:
    for each in the_endpoint(project).deployed_models:
        endpoints(project).undeploy_model({"endpoint": ENDPOINT, "deployed_model_id": each.id}).result(timeout=10)


def _delete_endpoint(project: Project) -> None:
    _undeploy(project)
    endpoints(project).delete_endpoint(name=ENDPOINT).result(timeout=10)


COOLDOWNS = "(cooldown in 5m, out 30s)"
CPU = f"endpoint.autoscaling.target[cpu]: None -> 70 {COOLDOWNS}"
REQUESTS = f"endpoint.autoscaling.target[invocations_per_replica]: None -> 600 {COOLDOWNS}"
SHOWN = "dashboards.endpoint: None -> shows requests, latency, machines"
ALARMS = [
    f"alarms.p99_latency: None -> above 500ms, notify {CHANNEL}",
    f"alarms.error_rate: None -> above 1%, notify {CHANNEL}",
    f"alarms.no_invocations: None -> for 15m, notify {CHANNEL}",
]
LOST = f"revision {REVISION}: None -> stable 100%"

BY_HAND: dict[str, tuple[Callable[[Project], None], Sequence[str]]] = {
    "the traffic is taken away": (
        _update(traffic_split={}),
        [f"revision {REVISION}: stable 0% -> stable 100%"],
    ),
    "a label is changed": (_labels(team="other"), ["labels.team: other -> search"]),
    "a label is taken away": (_labels(team=None), ["labels.team: None -> search"]),
    "the list of labels is lost": (
        _update(description=""),
        ["labels.project: None -> reviews-2", "labels.team: None -> search"],
    ),
    "the revision's label is taken away": (_labels(mlscale_revision=None), ["endpoint/configure"]),
    "the mark of alarms is taken away": (_labels(mlscale_watched=None), [*ALARMS, SHOWN]),
    "the least count is changed": (_mutate(min_replica_count=1), ["endpoint.replicas: 1 to 10 -> 2 to 10"]),
    "the most is changed": (_mutate(max_replica_count=3), ["endpoint.replicas: 2 to 3 -> 2 to 10"]),
    "a target is changed": (
        _mutate(autoscaling_metric_specs=[_spec("cpu/utilization", 30), _spec("request_count", 600)]),
        [CPU.replace("None", f"30 {COOLDOWNS}")],
    ),
    "a target is taken away": (_mutate(autoscaling_metric_specs=[_spec("request_count", 600)]), [CPU]),
    "all targets are taken away": (_mutate(autoscaling_metric_specs=[]), [CPU, REQUESTS]),
    "an alarm is changed": (_change_policy("p99_latency", _raise_threshold), ALARMS[:1]),
    "an alarm is silenced": (_change_policy("error_rate", _silence), ALARMS[1:2]),
    "an alarm tells nobody": (
        _change_policy("error_rate", _tell_nobody),
        [f"alarms.error_rate: above 1% -> above 1%, notify {CHANNEL}"],
    ),
    "an alarm's label is changed": (_change_policy("error_rate", _relabel), ["endpoint/watch"]),
    "an alarm is deleted": (_delete_policy("no_invocations"), ALARMS[2:]),
    "the dashboard is deleted": (_delete_dashboard, [SHOWN]),
    "the dashboard is emptied": (_empty_dashboard, [SHOWN]),
    "request logging is switched off": (
        _update(predict_request_response_logging_config={}),
        ["vertex.request_logging: None -> 10% to bq://acme-ml.serving.requests"],
    ),
    "a Model's label is changed": (
        _change_model(labels={"mlscale-name": "reviews", "team": "other"}),
        ["endpoint/configure"],
    ),
    "a Model's labels are taken away": (_change_model("labels"), ["endpoint/configure"]),
    "another model beside it": (
        _another_model,
        [f"revision {REVISION}: stable 50% -> stable 100%", "revision 14cbcbd3a8: candidate 50% -> None"],
    ),
}
"""What somebody does, and what a plan then shows."""


@pytest.mark.parametrize("case", BY_HAND)
def test_what_others_change_is_shown_and_put_right(deployed: Project, case: str) -> None:
    """A plan shows each change in the spec's words; a deploy undoes it, and then all is there as it was."""
    by_hand, shown = BY_HAND[case]
    before = deployed.table()
    assert plan(deployed) == []

    by_hand(deployed)

    assert plan(deployed) == shown
    deployed.good("deploy")
    assert plan(deployed) == []
    assert [each for each in deployed.unlike(before) if '"by-hand"' not in each] == []


@pytest.mark.parametrize(
    ("by_hand", "shown"),
    [
        (_change_model("description"), ["model.framework: custom -> sklearn"]),
        (_another_machine, ["endpoint.machine: n1-highmem-4 -> n1-standard-4, n2-standard-4", CPU]),
        (_undeploy, ["endpoint.replicas: 0 -> 2 to 10", "model.framework: None -> sklearn"]),
        (_delete_endpoint, ["labels.team: None -> search", *ALARMS, SHOWN]),
    ],
    ids=["a Model's description", "another machine", "no model", "no endpoint"],
)
def test_what_serves_is_put_right(deployed: Project, by_hand: Callable[[Project], None], shown: Sequence[str]) -> None:
    """A Model without its facts, another deployment of it, or one of which a part is gone: what was asked serves again.

    A plan shows what is otherwise.
    """
    before = deployed.table()
    by_hand(deployed)

    found = plan(deployed)
    deployed.good("deploy")

    assert set(found) >= {*shown, LOST}
    assert plan(deployed) == []
    assert [each for each in deployed.unlike(before) if "left of objects" not in each] == []  # a note on what was there


@pytest.mark.parametrize("count", [1, 9])
def test_replicas_that_autoscaling_moves_are_no_difference(deployed: Project, count: int) -> None:
    """More than are asked for at least, or one that is being replaced, leave a plan empty."""
    deployed.double.post("move", endpoint="reviews", deployed_model=f"reviews-{REVISION}", count=count)

    assert plan(deployed) == []
    assert deployed.good("plan").stdout.startswith("No changes")


@pytest.mark.parametrize(
    "specs", [[], [_spec("cpu/utilization", 60)], [_spec("cpu/utilization", 0)]], ids=["none", "written out", "as 0"]
)
def test_the_usual_values_are_no_difference(deployed: Project, specs: Sequence[Mapping[str, Any]]) -> None:
    """A server that writes out what it does anyway has changed nothing."""
    deployed.good("deploy", *USUAL)

    _mutate(autoscaling_metric_specs=specs)(deployed)

    assert plan(deployed, *USUAL) == []


def test_a_count_that_nothing_moves_is_put_right(deployed: Project) -> None:
    """An endpoint of a fixed count has its bounds again after a deploy."""
    fixed = ("--set", "endpoint.replicas=3", *USUAL)
    deployed.good("deploy", *fixed)

    _mutate(max_replica_count=6)(deployed)

    assert plan(deployed, *fixed) == ["endpoint.replicas: 3 to 6 -> 3"]
    deployed.good("deploy", *fixed)
    assert plan(deployed, *fixed) == []


def test_another_workspace_sees_the_same(deployed: Project) -> None:
    """What is there is read from the cloud, whoever asks: a plan with an empty workspace is empty, too."""
    uploads = ("--set", f"vertex.uploads=gs://{BUCKET}/team/uploads")

    assert plan(deployed, "--workspace", f"gs://{BUCKET}/another", *uploads) == []


def test_a_lost_workspace_loses_nothing_else(deployed: Project) -> None:
    """Without a record of ours a deployment is planned, shown, changed, rolled back, tidied and taken down."""
    first = _served(deployed)

    _lose_notes(deployed)
    assert plan(deployed) == []
    assert _served(deployed) == first
    _lose_notes(deployed)
    deployed.new_version(2)
    deployed.good("deploy")
    _lose_notes(deployed)
    deployed.good("rollback")
    assert _served(deployed) == first
    _lose_notes(deployed)
    deployed.good("gc")
    assert len(deployed.table()["models"]) == 1
    _lose_notes(deployed)
    deployed.good("destroy", "--yes")
    assert {kind for kind, things in deployed.table().items() if things} == {"buckets", "channels"}


def _served(project: Project) -> Any:
    (served,) = json.loads(project.good("status", "--output", "json").stdout)["revisions"]
    return served["revision"]


def _lose_notes(project: Project) -> None:
    for each in project.double.get(f"resources?bucket={BUCKET}")["objects"]:
        if each.startswith(NOTES):
            project.delete_object(each)


def test_what_others_add_is_left_alone(deployed: Project) -> None:
    """A label, an alarm, a dashboard, a Model, an endpoint that are not ours outlive deploy, gc and destroy."""
    _labels(cost_center="7")(deployed)
    policy = _policies(deployed)["p99_latency"]
    policy.name, policy.user_labels = "", {"mlscale-name": "reviews-prod", "mlscale-key": "p99_latency"}
    deployed.by_hand(monitoring.AlertPolicyServiceClient).create_alert_policy(
        name="projects/acme-ml", alert_policy=policy
    )
    board = _dashboard(deployed)
    board.name, board.etag, board.display_name = "", "", "mlscale-reviews-prod"
    deployed.by_hand(dashboards.DashboardsServiceClient).create_dashboard(
        {"parent": "projects/acme-ml", "dashboard": board}
    )
    container = {"image_uri": "us-docker.pkg.dev/acme-ml/theirs/server:1"}
    for name in ("theirs", "reviews-prod-0123456789"):
        asked = {
            "parent": PARENT, "model_id": name, "model": {"display_name": name, "container_spec": container}
        }  # fmt: skip
        deployed.by_hand(vx.ModelServiceClient).upload_model(asked).result(timeout=10)
    endpoints(deployed).create_endpoint(
        parent=PARENT, endpoint_id="reviews-prod", endpoint={"display_name": "reviews"}
    ).result(timeout=10)

    assert plan(deployed) == []
    deployed.new_version(2)
    deployed.good("deploy")
    deployed.good("gc")
    labels = the_endpoint(deployed).labels
    deployed.good("destroy", "--yes")

    assert labels["cost-center"] == "7"
    left = deployed.double.get("resources")
    assert {kind: len(things) for kind, things in left.items() if kind != "operations" and things} == {
        "models": 2, "endpoints": 1, "alert_policies": 1, "dashboards": 1, "channels": 1, "buckets": 1
    }  # fmt: skip


def test_an_endpoint_that_somebody_made_is_taken_over(project: Project) -> None:
    """It is not touched before `import`; after that a deploy makes of it what the spec asks for."""
    container = {"image_uri": "us-docker.pkg.dev/acme-ml/theirs/server:1"}
    model = {"display_name": "by-hand", "container_spec": container}
    asked = {"parent": PARENT, "model_id": "by-hand", "model": model}
    project.by_hand(vx.ModelServiceClient).upload_model(asked).result(timeout=10)
    key = "projects/acme-ml/locations/us-central1/keyRings/ml/cryptoKeys/serving"
    made = {"display_name": "theirs", "encryption_spec": {"kms_key_name": key}, "dedicated_endpoint_enabled": True}
    endpoints(project).create_endpoint(parent=PARENT, endpoint_id="reviews", endpoint=made).result(timeout=10)
    resources = {"machine_spec": {"machine_type": "n1-highmem-2"}, "min_replica_count": 3, "max_replica_count": 3}
    theirs = {"id": "7", "model": f"{PARENT}/models/by-hand", "dedicated_resources": resources}
    request = {"endpoint": ENDPOINT, "deployed_model": theirs, "traffic_split": {"0": 100}}
    endpoints(project).deploy_model(request).result(timeout=10)

    refused = project.run("plan")
    project.good("import")
    shown = plan(project)
    project.good("deploy")

    assert (refused.code, "mlscale import" in refused.stderr) == (1, True)
    assert "endpoint.machine: n1-highmem-2 -> n1-standard-4, n2-standard-4" in shown
    assert plan(project) == []
    (deployed,) = the_endpoint(project).deployed_models
    assert (deployed.display_name, deployed.dedicated_resources.min_replica_count) == (f"reviews-{REVISION}", 2)
    assert "by-hand" in project.double.get("resources")["models"]
