"""The Vertex AI double's other services: jobs, Cloud Monitoring, Cloud Logging, Cloud Storage, projects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core import exceptions as gax
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as vx
from google.cloud import monitoring_dashboard_v1, monitoring_v3, resourcemanager_v3
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.storage import Client
from google.protobuf import json_format
from obstore.exceptions import AlreadyExistsError
from obstore.store import GCSStore

from tests.doubles.vertex import Double, serving
from tests.doubles.vertex.arranged import (
    BUCKET,
    DEPLOYED,
    ENDPOINT,
    MODEL,
    a_model,
    an_endpoint,
    deploy,
    serving_reviews,
)
from tests.doubles.vertex.serving import NUMBER, PARENT

PROJECT = "projects/acme-ml"
ONLINE = "aiplatform.googleapis.com/prediction/online"
ALIGNERS = monitoring_v3.Aggregation.Aligner
REDUCERS = monitoring_v3.Aggregation.Reducer


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    """One server for the module."""
    with serving() as double:
        yield double


@pytest.fixture
def double(running: Double) -> Double:
    """The server, empty."""
    running.post("reset")
    return running


def _batch(**asked: Any) -> dict[str, Any]:
    plain = {
        "display_name": "nightly",
        "model": MODEL,
        "input_config": {"instances_format": "jsonl", "gcs_source": {"uris": [f"gs://{BUCKET}/in/*.jsonl"]}},
        "output_config": {
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": f"gs://{BUCKET}/out"},
        },
        "dedicated_resources": {"machine_spec": {"machine_type": "n1-standard-4"}, "starting_replica_count": 2},
    }
    return {"parent": PARENT, "batch_prediction_job": plain | asked}


def test_a_batch_prediction_runs_and_writes(double: Double) -> None:
    """Its state moves on; a line of the output is there for each line of the input; only then it can be deleted."""
    a_model(double)
    double.put_object(f"gs://{BUCKET}/in/a.jsonl", b'{"x": 1}\n{"x": 2}\n')
    jobs = double.client(vx.JobServiceClient)
    double.post("settings", delay_s=60.0)
    made = jobs.create_batch_prediction_job(_batch())
    with pytest.raises(gax.FailedPrecondition):
        jobs.delete_batch_prediction_job(name=made.name)
    states = [made.state.name]
    for _ in range(2):
        double.post("advance", seconds=30)
        states.append(jobs.get_batch_prediction_job(name=made.name).state.name)
    ended = jobs.get_batch_prediction_job(name=made.name)
    key = f"{ended.output_info.gcs_output_directory}/prediction.results-00000-of-00001".removeprefix(f"gs://{BUCKET}/")
    written = bytes(_store(double).get(key).bytes()).decode().splitlines()
    listed = jobs.list_batch_prediction_jobs({"parent": PARENT, "filter": 'state="JOB_STATE_SUCCEEDED"'})

    assert states == ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]
    assert ended.completion_stats.successful_count == 2
    assert [json.loads(line)["instance"] for line in written] == [{"x": 1}, {"x": 2}]
    assert [each.name for each in listed] == [made.name]
    jobs.delete_batch_prediction_job(name=made.name)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"model": ""}, "exactly one of model"),
        ({"input_config": {"instances_format": "xml"}}, "instances_format"),
        ({"dedicated_resources": {}}, "machine_type"),
    ],
)
def test_a_wrong_batch_prediction_is_refused(double: Double, asked: dict[str, Any], words: str) -> None:
    """What it lacks is named."""
    a_model(double)

    with pytest.raises(gax.InvalidArgument, match=words):
        double.client(vx.JobServiceClient).create_batch_prediction_job(_batch(**asked))


def test_a_job_fails_and_is_cancelled(double: Double) -> None:
    """Without capacity it ends in an error; one that is cancelled ends so."""
    jobs = double.client(vx.JobServiceClient)
    pool = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1}
    request = {
        "parent": PARENT,
        "custom_job": {"display_name": "train", "job_spec": {"worker_pool_specs": [pool]}},
    }
    double.post("settings", delay_s=60.0, no_capacity=["n1-standard-4"])
    failing = jobs.create_custom_job(request)
    double.post("advance", seconds=60)
    failed = jobs.get_custom_job(name=failing.name)
    double.post("settings", no_capacity=[])
    cancelled = jobs.create_custom_job(request)
    jobs.cancel_custom_job(name=cancelled.name)
    double.post("advance", seconds=60)

    assert (failed.state.name, failed.error.code) == ("JOB_STATE_FAILED", 8)
    assert failed.error.message.startswith("Resources are insufficient in region: us-central1.")
    assert jobs.get_custom_job(name=cancelled.name).state.name == "JOB_STATE_CANCELLED"


def _predict(double: Double, times: int) -> None:
    client = double.client(vx.PredictionServiceClient)
    for _ in range(times):
        client.raw_predict(endpoint=ENDPOINT, http_body={"data": b"x"})


def _series(double: Double, name: str, aligner: Any = None, reducer: Any = None, **more: Any) -> list[Any]:
    """Return the series of an endpoint's metric over the last hour, in one period if an aligner is asked for."""
    now = int(double.post("advance", seconds=0)["now"]) + 1
    aggregation = {"alignment_period": {"seconds": 3600}, "per_series_aligner": aligner} if aligner else {}
    if reducer:
        aggregation |= {"cross_series_reducer": reducer, "group_by_fields": more.pop("fields", [])}
    request = {
        "name": PROJECT,
        "filter": f'metric.type = "{ONLINE}/{name}" AND resource.labels.endpoint_id = "reviews"',
        "interval": {"end_time": {"seconds": now}, "start_time": {"seconds": now - 3600}},
        "aggregation": aggregation,
        **more,
    }
    return list(double.client(monitoring_v3.MetricServiceClient).list_time_series(request))


def test_predictions_are_counted(double: Double) -> None:
    """By response code and deployed model, with the resource that the service gives them."""
    serving_reviews(double)
    _predict(double, 3)
    double.post("answers", endpoint="reviews", status=500)
    with pytest.raises(gax.InternalServerError):
        _predict(double, 1)

    found = _series(double, "response_count", ALIGNERS.ALIGN_SUM)
    assert {
        (each.metric.labels["response_code"], each.metric.labels["deployed_model_id"]): each.points[0].value.int64_value
        for each in found
    } == {("200", DEPLOYED): 3, ("500", DEPLOYED): 1}
    assert dict(found[0].resource.labels) == {
        "resource_container": NUMBER,
        "location": "us-central1",
        "endpoint_id": "reviews",
    }


def test_latencies_are_distributions_with_percentiles(double: Double) -> None:
    """As they are they have a count and a mean; an aligner makes one number of them, a reducer one series."""
    serving_reviews(double)
    values = {"prediction_latencies": [10, 20, 400]}
    double.post("metrics", endpoint="reviews", deployed_model=DEPLOYED, values=values, labels={"latency_type": "total"})
    spread = _series(double, "prediction_latencies", ALIGNERS.ALIGN_DELTA)[0].points[0].value.distribution_value
    highest = _series(double, "prediction_latencies", ALIGNERS.ALIGN_PERCENTILE_99)[0].points[0].value.double_value
    reduced = _series(
        double,
        "prediction_latencies",
        ALIGNERS.ALIGN_DELTA,
        REDUCERS.REDUCE_PERCENTILE_50,
        fields=["metric.labels.deployed_model_id"],
    )

    assert (spread.count, round(spread.mean, 2)) == (3, 143.33)
    assert highest == 400
    assert [(dict(each.metric.labels), each.points[0].value.double_value) for each in reduced] == [
        ({"deployed_model_id": DEPLOYED}, 20)
    ]


def test_replicas_and_quotas_are_series(double: Double) -> None:
    """What runs now and what may run is read as metrics."""
    serving_reviews(double)
    double.post("quotas", custom_model_serving_cpus=64)
    replicas = _series(double, "replicas")
    now = int(double.post("advance", seconds=0)["now"])
    client = double.client(monitoring_v3.MetricServiceClient)
    request = {"name": PROJECT, "interval": {"end_time": {"seconds": now}, "start_time": {"seconds": now - 60}}}

    def quota(name: str) -> dict[str, int]:
        kind = f'metric.type="serviceruntime.googleapis.com/quota/{name}" AND resource.type="consumer_quota"'
        found = client.list_time_series(request | {"filter": kind})
        return {each.metric.labels["quota_metric"]: each.points[0].value.int64_value for each in found}

    assert [each.points[0].value.int64_value for each in replicas] == [2]
    assert quota("limit") == {"aiplatform.googleapis.com/custom_model_serving_cpus": 64}
    assert quota("allocation/usage") == {"aiplatform.googleapis.com/custom_model_serving_cpus": 8}


INTERVAL = {"end_time": {"seconds": 100}, "start_time": {"seconds": 0}}
REPLICAS = f'metric.type="{ONLINE}/replicas"'
WRONG_QUERIES: dict[str, dict[str, Any]] = {
    "no metric": {"filter": 'resource.labels.endpoint_id="x"', "interval": INTERVAL},
    "two metrics": {"filter": f'{REPLICAS} OR metric.type = "{ONLINE}/error_count"', "interval": INTERVAL},
    "no interval": {"filter": REPLICAS, "interval": {}},
    "no start": {"filter": REPLICAS, "interval": {"end_time": {"seconds": 100}}},
    "no time": {"filter": REPLICAS, "interval": {"end_time": {"seconds": 100}, "start_time": {"seconds": 100}}},
    "no period": {
        "filter": REPLICAS,
        "interval": INTERVAL,
        "aggregation": {"per_series_aligner": ALIGNERS.ALIGN_MEAN},
    },
    "too short a period": {
        "filter": REPLICAS,
        "interval": INTERVAL,
        "aggregation": {"per_series_aligner": ALIGNERS.ALIGN_MEAN, "alignment_period": {"seconds": 59}},
    },
    "a reducer without an aligner": {
        "filter": REPLICAS,
        "interval": INTERVAL,
        "aggregation": {"cross_series_reducer": REDUCERS.REDUCE_SUM},
    },
}


@pytest.mark.parametrize("case", WRONG_QUERIES)
def test_a_query_has_one_metric_an_interval_and_a_period(double: Double, case: str) -> None:
    """Without them it is refused."""
    client = double.client(monitoring_v3.MetricServiceClient)

    with pytest.raises(gax.InvalidArgument):
        client.list_time_series({"name": PROJECT, **WRONG_QUERIES[case]})


@pytest.mark.parametrize(
    ("name", "aligner"),
    [
        ("replicas", ALIGNERS.ALIGN_DELTA),
        ("response_count", ALIGNERS.ALIGN_INTERPOLATE),
        ("response_count", ALIGNERS.ALIGN_PERCENTILE_99),
        ("prediction_latencies", ALIGNERS.ALIGN_MEAN),
    ],
)
def test_an_aligner_is_for_some_metrics(double: Double, name: str, aligner: Any) -> None:
    """What counts what comes, what shows what is, and what has distributions are aligned each by others."""
    serving_reviews(double)
    _predict(double, 1)

    with pytest.raises(gax.InvalidArgument, match="can't be applied"):
        _series(double, name, aligner)


def _count(double: Double, count: int, ago_s: float) -> None:
    """Put a count of good answers into the metrics."""
    words = {"endpoint": "reviews", "deployed_model": DEPLOYED, "labels": {"response_code": "200"}}
    double.post("metrics", values={"response_count": [count]}, ago_s=ago_s, **words)


def _minutes(double: Double, end: int, kind: str = f"{ONLINE}/response_count") -> list[tuple[int, float]]:
    """Return each minute of the five before `end`, by its end counted from that, and the sum of its values."""
    request = {
        "name": PROJECT,
        "filter": f'metric.type="{kind}"',
        "interval": {"end_time": {"seconds": end}, "start_time": {"seconds": end - 300}},
        "aggregation": {"alignment_period": {"seconds": 60}, "per_series_aligner": ALIGNERS.ALIGN_SUM},
    }
    found = double.client(monitoring_v3.MetricServiceClient).list_time_series(request)
    return [
        (round(point.interval.end_time.timestamp()) - end, point.value.int64_value or point.value.double_value)
        for series in found
        for point in series.points
    ]


def test_a_minute_has_its_end_and_not_its_start(double: Double) -> None:
    """What is of the very start of an interval is of the one before; a minute without a value has no point."""
    client, kind = double.client(monitoring_v3.MetricServiceClient), "custom.googleapis.com/made"
    for value, seconds in ((1, 300), (2, 301), (4, 360), (8, 361), (16, 600), (32, 601)):
        point = {"interval": {"end_time": {"seconds": seconds}}, "value": {"double_value": value}}
        series = {"metric": {"type": kind}, "resource": {"type": "global"}, "points": [point]}
        client.create_time_series(name=PROJECT, time_series=[series])

    assert _minutes(double, 600, kind) == [(0, 16), (-180, 8), (-240, 6)]


def test_what_was_counted_is_of_the_minute_before(double: Double) -> None:
    """A point of counts lasts as long as its period."""
    serving_reviews(double)
    _predict(double, 1)

    (series,) = _series(double, "response_count", ALIGNERS.ALIGN_SUM)
    interval = series.points[0].interval
    assert (interval.end_time - interval.start_time).total_seconds() == 3600


def test_values_are_seen_late_and_page_by_page(double: Double) -> None:
    """A setting says how late, and how many points come at a time: a series goes on on the next page."""
    serving_reviews(double)
    now = double.post("advance", seconds=0)["now"]
    for minutes in range(1, 5):
        _count(double, minutes, ago_s=minutes * 60 - 1)
    end = int(now) + 2
    whole = _minutes(double, end)

    double.post("settings", metrics_page=3)
    paged = _minutes(double, end)
    double.post("settings", metrics_lag_s=150)

    assert [count for _, count in whole] == [1, 2, 3, 4]
    assert paged == whole
    assert [count for _, count in _minutes(double, end)] == [3, 4]


def test_what_may_not_be_all_is_said_to_be_so(double: Double) -> None:
    """Errors come beside what was found."""
    double.post("settings", metrics_errors=["the query took too long"])
    request = {"name": PROJECT, "filter": REPLICAS, "interval": INTERVAL}

    (page,) = double.client(monitoring_v3.MetricServiceClient).list_time_series(request).pages

    assert [each.message for each in page.execution_errors] == ["the query took too long"]


def _policy(name: str, **asked: Any) -> dict[str, Any]:
    threshold = {"filter": f'metric.type="{ONLINE}/error_count"', "comparison": "COMPARISON_GT", "threshold_value": 1.0}
    condition = {"display_name": "errors", "condition_threshold": threshold | {"duration": {"seconds": 60}}}
    plain = {"display_name": name, "conditions": [condition], "combiner": "OR", "user_labels": {"mlscale-name": name}}
    return plain | asked


def test_alert_policies_are_kept_found_and_changed(double: Double) -> None:
    """Two may have one name; a filter finds by label; a mask changes what it names."""
    client = double.client(monitoring_v3.AlertPolicyServiceClient)
    made = [client.create_alert_policy(name=PROJECT, alert_policy=_policy(name)) for name in ("a", "a", "b")]
    found = list(client.list_alert_policies({"name": PROJECT, "filter": 'user_labels.mlscale-name="a"'}))
    change = {"name": made[2].name, "display_name": "c", "combiner": "AND"}
    changed = client.update_alert_policy({"alert_policy": change, "update_mask": {"paths": ["display_name"]}})
    client.delete_alert_policy(name=made[0].name)

    assert [each.name for each in found] == [made[0].name, made[1].name]
    assert (changed.display_name, changed.combiner.name, len(changed.conditions)) == ("c", "OR", 1)
    assert made[0].enabled
    assert len(double.get("resources")["alert_policies"]) == 2
    with pytest.raises(gax.NotFound):
        client.get_alert_policy(name=made[0].name)


def test_a_policy_needs_its_parts(double: Double) -> None:
    """A name, a condition, a combiner for several, and channels that are there."""
    client = double.client(monitoring_v3.AlertPolicyServiceClient)
    several = _policy("a")["conditions"] * 2
    channel = [f"{PROJECT}/notificationChannels/1"]
    for asked, error in (
        ({"display_name": ""}, gax.InvalidArgument),
        ({"conditions": []}, gax.InvalidArgument),
        ({"conditions": several, "combiner": 0}, gax.InvalidArgument),
        ({"notification_channels": channel}, gax.NotFound),
    ):
        with pytest.raises(error):
            client.create_alert_policy(name=PROJECT, alert_policy=_policy("a", **asked))


def test_a_channel_stays_while_a_policy_names_it(double: Double) -> None:
    """With force it goes, and the policy without it."""
    channels = double.client(monitoring_v3.NotificationChannelServiceClient)
    policies = double.client(monitoring_v3.AlertPolicyServiceClient)
    email = {"type": "email", "display_name": "team", "labels": {"email_address": "team@example.com"}}
    channel = channels.create_notification_channel(name=PROJECT, notification_channel=email)
    policy = policies.create_alert_policy(name=PROJECT, alert_policy=_policy("a", notification_channels=[channel.name]))
    with pytest.raises(gax.FailedPrecondition):
        channels.delete_notification_channel(name=channel.name)
    channels.delete_notification_channel(name=channel.name, force=True)

    assert list(channels.list_notification_channels(name=PROJECT)) == []
    assert list(policies.get_alert_policy(name=policy.name).notification_channels) == []


def test_dashboards_are_kept_under_their_name(double: Double) -> None:
    """One that was read is replaced; with an old etag it is not; a name is taken once."""
    client = double.client(monitoring_dashboard_v1.DashboardsServiceClient)
    asked = {"name": f"{PROJECT}/dashboards/mlscale-reviews", "display_name": "reviews", "grid_layout": {"columns": 2}}
    made = client.create_dashboard({"parent": PROJECT, "dashboard": asked})
    with pytest.raises(gax.AlreadyExists):
        client.create_dashboard({"parent": PROJECT, "dashboard": asked})
    changed = client.update_dashboard({"dashboard": asked | {"etag": made.etag, "display_name": "other"}})
    with pytest.raises(gax.Aborted):
        client.update_dashboard({"dashboard": asked | {"etag": made.etag}})
    listed = [each.display_name for each in client.list_dashboards(parent=PROJECT)]
    client.delete_dashboard(name=made.name)

    assert made.name == f"projects/{NUMBER}/dashboards/mlscale-reviews"
    assert (changed.display_name, listed) == ("other", ["other"])
    assert list(client.list_dashboards(parent=PROJECT)) == []


def _logged(double: Double, text: str, **asked: Any) -> list[Any]:
    client = double.client(LoggingServiceV2Client)
    request = {"resource_names": [PROJECT], "filter": text, **asked}
    return list(client.list_log_entries(request))


def test_what_a_container_prints_is_in_the_log(double: Double) -> None:
    """Under the endpoint's resource, with who printed it, oldest first or newest."""
    serving_reviews(double)
    double.post("log", endpoint="reviews", deployed_model=DEPLOYED, lines=["oh no"], severity="ERROR")
    resource = 'resource.type="aiplatform.googleapis.com/Endpoint" AND resource.labels.endpoint_id="reviews"'
    every = _logged(double, resource)
    newest = _logged(double, resource, order_by="timestamp desc")
    bad = _logged(double, f'{resource} severity>=ERROR labels.deployed_model_id="{DEPLOYED}"')
    worded = _logged(double, f'{resource} AND "OH NO"')
    later = _logged(double, f'{resource} timestamp>"2100-01-01T00:00:00Z"')
    named = _logged(
        double, 'logName="projects/acme-ml/logs/aiplatform.googleapis.com%2Fprediction_container"', page_size=2
    )

    lines = [each.json_payload["message"] for each in every]
    assert lines == ["Starting the model server", "Loading the model", "Listening on port 8080", "oh no"]
    assert [each.json_payload["message"] for each in newest] == lines[::-1]
    assert [each.json_payload["message"] for each in bad] == ["oh no"]
    assert [each.json_payload["message"] for each in worded] == ["oh no"]
    assert (later, len(named)) == ([], 4)


def test_a_failed_deployment_leaves_its_lines(double: Double) -> None:
    """What the container printed before it ended is there, as an error."""
    a_model(double)
    an_endpoint(double)
    double.post("script", endpoint="reviews", on="deploy", outcome="fail", reason="server", lines=["no module x"])
    deploy(double)

    assert [(each.json_payload["message"], each.severity) for each in _logged(double, "")] == [("no module x", 500)]


def _store(double: Double) -> GCSStore:
    config = {"base_url": double.storage, "bearer_token": "x"}
    return GCSStore(BUCKET, config=config, client_options={"allow_http": True}, retry_config={"max_retries": 0})  # type: ignore[arg-type]


def test_objects_through_obstore(double: Double) -> None:
    """Whole, in parts, in ranges and copied; one that is there is not made twice; folders are told apart."""
    double.make_bucket(BUCKET)
    store = _store(double)
    store.put("a/b", b"0123456789")
    with pytest.raises(AlreadyExistsError):
        store.put("a/b", b"", mode="create")
    store.copy("a/b", "a/c")
    store.put("big", b"x" * (11 << 20), use_multipart=True, chunk_size=5 << 20)
    page = store.list_with_delimiter()
    store.delete(["a/b"])
    with pytest.raises(FileNotFoundError):
        store.get("a/b")

    assert bytes(store.get_range("a/c", start=2, end=5)) == b"234"
    assert store.head("big")["size"] == 11 << 20
    assert (page["common_prefixes"], [each["path"] for each in page["objects"]]) == (["a"], ["big"])


def test_objects_through_googles_client(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets and objects are made, conditions are obeyed, and what is missing is not there."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", double.storage)
    client = Client(project="acme-ml", credentials=AnonymousCredentials())
    bucket = client.create_bucket("models", location="us-central1")
    blob = bucket.blob("m/model.pkl")
    blob.upload_from_string(b"x\r\n1")
    with pytest.raises(gax.PreconditionFailed):
        blob.upload_from_string(b"y", if_generation_match=0)

    assert (client.get_bucket("models").location, blob.download_as_bytes()) == ("US-CENTRAL1", b"x\r\n1")
    assert [each.name for each in client.list_blobs("models", prefix="m/")] == ["m/model.pkl"]
    blob.delete()
    assert not blob.exists()
    with pytest.raises(gax.NotFound):
        client.get_bucket("other")


def test_projects_and_locations(double: Double) -> None:
    """A project has its number, and a location that is none is not there."""
    projects = double.client(resourcemanager_v3.ProjectsClient)
    endpoints = double.client(vx.EndpointServiceClient)

    found = projects.get_project(name=PROJECT)
    assert (found.name, found.project_id, found.state.name) == (f"projects/{NUMBER}", "acme-ml", "ACTIVE")
    location = endpoints.get_location({"name": PARENT})
    assert json_format.MessageToDict(location)["locationId"] == "us-central1"
    with pytest.raises(gax.NotFound):
        endpoints.get_location({"name": f"{PROJECT}/locations/moon-dark1"})
