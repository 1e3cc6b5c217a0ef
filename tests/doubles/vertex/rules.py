"""Every behaviour that the double imitates: what is asked, when, what is answered, and how that is known.

`python -m tests.doubles.vertex.rules` prints how many there are, and the share of guesses. The code names each
rule where it applies it.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Literal

Mark = Literal["documented", "observed", "guessed"]

PROTO = "https://github.com/googleapis/googleapis/blob/master/google/"
VX = f"{PROTO}cloud/aiplatform/v1/"
REST = "https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations."
DOCS = "https://cloud.google.com/vertex-ai/docs/"
COMPUTE = f"{DOCS}predictions/configure-compute"
GITHUB = "https://github.com/"
SDK = f"{GITHUB}googleapis/python-aiplatform/issues/"
SAMPLES = f"{GITHUB}GoogleCloudPlatform/vertex-ai-samples/issues/"
MONITORING = "https://cloud.google.com/monitoring/api/"
METRICS = f"{MONITORING}metrics_gcp_a_b#gcp-aiplatform"
LABELS = "https://cloud.google.com/resource-manager/docs/creating-managing-labels"
ERRORS = "https://cloud.google.com/apis/design/errors"

UNSURE = "INVALID_ARGUMENT; its words are a guess"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: `asked` is the call, `when` the condition, `answer` what comes of it."""

    id: str
    asked: str
    when: str
    answer: str
    mark: Mark
    source: str = ""


def _documented(id: str, asked: str, when: str, answer: str, source: str) -> Rule:  # noqa: A002 - the column's name
    return Rule(id, asked, when, answer, "documented", source)


def _observed(id: str, asked: str, when: str, answer: str, source: str) -> Rule:  # noqa: A002 - the column's name
    return Rule(id, asked, when, answer, "observed", source)


def _guessed(id: str, asked: str, when: str, answer: str) -> Rule:  # noqa: A002 - the column's name
    return Rule(id, asked, when, answer, "guessed")


RULES: tuple[Rule, ...] = (
    # every call
    _guessed("double.not-implemented", "any", "the double does not have it", "UNIMPLEMENTED with the method's name"),
    _observed(
        "names.number",
        "any",
        "a name is answered",
        "it has the project's number",
        f"{GITHUB}GoogleCloudPlatform/data-science-on-gcp/issues/154",
    ),
    _guessed("names.form", "any", "a resource name is of no known form", UNSURE),
    _documented(
        "error.fields",
        "any",
        "a field is wrong",
        "INVALID_ARGUMENT with a BadRequest; its words are: List of found errors: 1.Field: x; Message: y",
        "https://google.aip.dev/193",
    ),
    _documented(
        "beta.same-wire",
        "any of v1beta1",
        "a field is v1beta1's alone",
        "it is kept; operations hold v1beta1's messages",
        f"{PROTO}cloud/aiplatform/v1beta1/endpoint.proto",
    ),
    _documented(
        "etag.changes",
        "GetEndpoint, GetModel",
        "it was changed",
        "another etag",
        f"{VX}endpoint.proto",
    ),
    _documented(
        "etag.mismatch",
        "UpdateEndpoint, UpdateModel",
        "the etag is not the present one",
        "ABORTED; without an etag it is overwritten",
        "https://google.aip.dev/154",
    ),
    _documented(
        "labels.form",
        "any with labels",
        "a key or a value has other characters or is above 63, or a key begins with no letter",
        UNSURE,
        LABELS,
    ),
    _documented("labels.many", "any with labels", "more than 64", UNSURE, LABELS),
    _documented(
        "list.filter",
        "any list",
        "a filter",
        "what passes it: =, !=, :, comparisons, AND, OR, NOT, brackets, one_of and starts_with",
        f"{VX}endpoint_service.proto",
    ),
    _guessed("list.filter-form", "any list", "a filter can't be read", UNSURE),
    _guessed("list.filter-field", "any list", "a filter names an unknown field", UNSURE),
    _documented(
        "list.order",
        "any list",
        "order_by names another field than display_name, create_time, update_time",
        UNSURE,
        f"{VX}endpoint_service.proto",
    ),
    _documented(
        "list.pages", "any list", "there is more than a page", "next_page_token", f"{VX}endpoint_service.proto"
    ),
    _guessed("list.token", "any list", "the token is none of ours", UNSURE),
    _guessed("location.missing", "GetLocation", "there is no such location", "NOT_FOUND"),
    _documented(
        "iam.permission",
        "any",
        "a permission is looked at",
        "the one that the method's page names",
        f"{DOCS}general/iam-permissions",
    ),
    _observed(
        "iam.denied",
        "any",
        "a setting took the permission away",
        "PERMISSION_DENIED: Permission '...' denied on resource ...",
        f"{GITHUB}rpurinton/gemini-php/issues/4",
    ),
    _documented(
        "iam.test",
        "TestIamPermissions",
        "permissions are missing",
        "those that are there",
        "https://cloud.google.com/iam/docs/testing-permissions",
    ),
    # operations
    _observed(
        "operation.name",
        "any that takes time",
        "it begins",
        "RESOURCE/operations/NUMBER",
        f"{GITHUB}ageron/handson-ml3/issues/135",
    ),
    _documented(
        "operation.stage",
        "DeployModel",
        "it goes on",
        "metadata.deployment_stage moves from one to the next",
        f"{VX}deployment_stage.proto",
    ),
    _guessed("operation.missing", "any on an operation", "there is none of that name", "NOT_FOUND"),
    _guessed("operation.cancel", "CancelOperation", "it is not done", "it ends with CANCELLED and had no effect"),
    # models
    _documented("model.id", "UploadModel", "model_id is none", UNSURE, f"{VX}model_service.proto"),
    _guessed("model.duplicate", "UploadModel", "there is a model of that ID or one on its way", "ALREADY_EXISTS"),
    _guessed("model.versions", "UploadModel", "parent_model is set", "not imitated: UNIMPLEMENTED"),
    _documented("model.display-name", "UploadModel", "it is empty or above 128 characters", UNSURE, f"{VX}model.proto"),
    _documented("model.image", "UploadModel", "no container_spec.image_uri", UNSURE, f"{VX}model.proto"),
    _guessed("model.artifact-uri", "UploadModel", "artifact_uri is not in Cloud Storage", UNSURE),
    _guessed(
        "model.no-files",
        "UploadModel",
        "there is nothing under artifact_uri",
        'FAILED_PRECONDITION: There are no files under "gs://..." to copy.',
    ),
    _documented(
        "model.files",
        "UploadModel",
        "a prebuilt image, and none or several of the files that it reads",
        "FAILED_PRECONDITION: Model directory gs://... is expected to contain exactly one of: [...].",
        f"{DOCS}training/exporting-model-artifacts",
    ),
    _guessed("model.in-flight", "GetModel", "it is still being uploaded", "NOT_FOUND; its ID is taken"),
    _documented("model.output", "GetModel", "always", "version 1, default alias, what it supports", f"{VX}model.proto"),
    _guessed("model.missing", "any on a model", "there is none", "NOT_FOUND: The Model does not exist."),
    _documented("model.mask", "UpdateModel", "a field can't be changed", UNSURE, f"{VX}model_service.proto"),
    _documented(
        "model.deployed",
        "DeleteModel",
        "it is deployed or being deployed",
        "FAILED_PRECONDITION: The Model is deployed or being deployed at the following Endpoint(s): ...",
        f"{VX}model_service.proto",
    ),
    # endpoints
    _documented("endpoint.id", "CreateEndpoint", "endpoint_id is none", UNSURE, f"{VX}endpoint_service.proto"),
    _guessed("endpoint.duplicate", "CreateEndpoint", "there is one of that ID or one on its way", "ALREADY_EXISTS"),
    _documented(
        "endpoint.display-name", "CreateEndpoint", "it is empty or above 128 characters", UNSURE, f"{VX}endpoint.proto"
    ),
    _documented(
        "endpoint.network",
        "CreateEndpoint",
        "network and private_service_connect_config",
        UNSURE,
        f"{VX}endpoint.proto",
    ),
    _documented(
        "endpoint.sampling",
        "CreateEndpoint, UpdateEndpoint",
        "request logging with a rate that is not in (0, 1]",
        UNSURE,
        f"{VX}endpoint.proto",
    ),
    _documented(
        "endpoint.dedicated",
        "CreateEndpoint",
        "dedicated_endpoint_enabled",
        "a DNS name; that predictions work only there is not imitated",
        f"{VX}endpoint.proto",
    ),
    _guessed("endpoint.in-flight", "GetEndpoint", "it is still being made", "NOT_FOUND; its ID is taken"),
    _guessed("endpoint.missing", "any on an endpoint", "there is none", "NOT_FOUND: The Endpoint does not exist."),
    _documented("endpoint.mask", "UpdateEndpoint", "a field can't be changed", UNSURE, f"{VX}endpoint_service.proto"),
    _guessed(
        "endpoint.busy",
        "DeployModel, UndeployModel, MutateDeployedModel, DeleteEndpoint",
        "an operation goes on at the endpoint",
        "FAILED_PRECONDITION: There are other operations running on the Endpoint ...",
    ),
    _guessed("endpoint.update-busy", "UpdateEndpoint", "an operation goes on at the endpoint", "as endpoint.busy"),
    _observed(
        "endpoint.not-empty",
        "DeleteEndpoint",
        "a model is deployed or being deployed",
        "FAILED_PRECONDITION: Endpoint ... has deployed or being-deployed DeployedModel(s): ...",
        f"{SDK}1441",
    ),
    _observed(
        "traffic.missing",
        "DeployModel, UndeployModel, UpdateEndpoint",
        "the split names what is not deployed",
        "INVALID_ARGUMENT: The following DeployedModel ID(s) [...] do not exist.",
        f"{GITHUB}GoogleCloudPlatform/java-docs-samples/pull/8475",
    ),
    _documented(
        "traffic.sum",
        "DeployModel, UndeployModel, UpdateEndpoint",
        "the shares do not add up to 100, and there are some",
        UNSURE,
        f"{VX}endpoint.proto",
    ),
    _guessed("traffic.share", "as traffic.sum", "a share is below 0 or above 100", UNSURE),
    # deployments
    _documented("deploy.model", "DeployModel", "no model", UNSURE, f"{VX}endpoint.proto"),
    _documented("deploy.id", "DeployModel", "the ID is not 1 to 10 digits", UNSURE, f"{VX}endpoint.proto"),
    _guessed("deploy.duplicate", "DeployModel", "the ID is deployed there", "ALREADY_EXISTS"),
    _documented(
        "deploy.resources", "DeployModel", "neither dedicated nor other resources", UNSURE, f"{VX}endpoint.proto"
    ),
    _observed(
        "deploy.automatic",
        "DeployModel",
        "automatic_resources",
        "INVALID_ARGUMENT: 'automatic_resources' is not supported for Model ...",
        f"{SDK}773",
    ),
    _guessed("deploy.shared", "DeployModel", "shared_resources", "not imitated: UNIMPLEMENTED"),
    _documented("deploy.min", "DeployModel", "min_replica_count is 0 in v1", UNSURE, f"{VX}machine_resources.proto"),
    _documented(
        "deploy.scale-to-zero",
        "DeployModel of v1beta1",
        "min_replica_count is 0",
        "it is taken",
        f"{PROTO}cloud/aiplatform/v1beta1/machine_resources.proto",
    ),
    _documented(
        "deploy.max-default",
        "DeployModel",
        "no max_replica_count",
        "min_replica_count is it",
        f"{VX}machine_resources.proto",
    ),
    _documented("deploy.max", "DeployModel", "max is below min", UNSURE, f"{VX}machine_resources.proto"),
    _documented(
        "deploy.required",
        "DeployModel",
        "required_replica_count is above min",
        UNSURE,
        f"{VX}machine_resources.proto",
    ),
    _documented(
        "deploy.metric",
        "DeployModel, MutateDeployedModel",
        "no replica is moved by that metric",
        UNSURE,
        f"{VX}machine_resources.proto",
    ),
    _documented(
        "deploy.metric-twice",
        "DeployModel, MutateDeployedModel",
        "two specs of one metric",
        UNSURE,
        f"{VX}machine_resources.proto",
    ),
    _documented(
        "deploy.target",
        "DeployModel, MutateDeployedModel",
        "a percent is above 100; left out it is 60",
        UNSURE,
        f"{VX}machine_resources.proto",
    ),
    _documented(
        "deploy.private",
        "DeployModel",
        "a second model on an endpoint with a network",
        "FAILED_PRECONDITION",
        f"{DOCS}predictions/using-private-endpoints",
    ),
    _documented(
        "deploy.output",
        "DeployModel",
        "no ID, name or machine",
        "an ID is made; the name is the model's; the machine is n1-standard-2",
        f"{VX}endpoint.proto",
    ),
    _documented(
        "deploy.partial",
        "DeployModel",
        "required_replica_count is set",
        "it ends with so many available, the others come later; else with min available",
        f"{VX}machine_resources.proto",
    ),
    _documented(
        "deploy.new-is-zero",
        "DeployModel",
        'the split has "0"',
        "the new ID stands in its place",
        f"{VX}endpoint_service.proto",
    ),
    _documented(
        "deploy.no-split",
        "DeployModel",
        "no split",
        "the endpoint's stays; the first model gets no traffic",
        f"{VX}endpoint_service.proto",
    ),
    _observed(
        "failure.server",
        "DeployModel's operation",
        "the model server ends",
        "FAILED_PRECONDITION: Model server exited unexpectedly. Model server logs can be found at ...",
        f"{SDK}4559",
    ),
    _observed(
        "failure.terminated",
        "DeployModel's operation",
        "the container ends",
        "FAILED_PRECONDITION: Model server terminated: model server container terminated ...",
        f"{SAMPLES}2254",
    ),
    _observed(
        "failure.health",
        "DeployModel's operation",
        "it never answers the health check",
        "FAILED_PRECONDITION: Model server never became ready. ...",
        f"{SAMPLES}3485",
    ),
    _guessed("failure.image", "DeployModel's operation", "the image can't be had", "INVALID_ARGUMENT"),
    _observed(
        "failure.capacity",
        "DeployModel's operation, jobs",
        "no machines are left",
        "RESOURCE_EXHAUSTED: Resources are insufficient in region: .... Please try a different region ...",
        f"{GITHUB}openreview/openreview-expertise/issues/401",
    ),
    _observed(
        "failure.internal",
        "DeployModel's operation",
        "something in the service",
        "INTERNAL",
        f"{GITHUB}lornu-ai/liteworks.cwd/issues/17",
    ),
    _guessed(
        "capacity.insufficient", "DeployModel, jobs", "a setting says that a machine is out", "as failure.capacity"
    ),
    _documented(
        "undeploy.traffic",
        "UndeployModel",
        "the model has traffic, and is not the last",
        "FAILED_PRECONDITION; its words are a guess",
        f"{REST}endpoints/undeployModel",
    ),
    _documented(
        "undeploy.split", "UndeployModel", "a split", "it becomes the endpoint's", f"{REST}endpoints/undeployModel"
    ),
    _documented(
        "undeploy.last", "UndeployModel", "it is the last", "no traffic split is left", f"{REST}endpoints/undeployModel"
    ),
    _guessed("undeploy.missing", "UndeployModel, MutateDeployedModel", "it is not deployed there", "NOT_FOUND"),
    _documented(
        "mutate.mask",
        "MutateDeployedModel",
        "the mask names what can't be mutated",
        UNSURE,
        f"{REST}endpoints/mutateDeployedModel",
    ),
    _guessed("mutate.replicas", "MutateDeployedModel", "the bounds move past what is available", "the nearest bound"),
    # machines and quotas
    _guessed("machine.unknown", "DeployModel, jobs", "there is no such machine type", UNSURE),
    _guessed("machine.count-alone", "DeployModel, jobs", "an accelerator without a count, or the other way", UNSURE),
    _observed(
        "machine.accelerator",
        "DeployModel, jobs",
        "the machine does not take the accelerator",
        'INVALID_ARGUMENT: Accelerator "X" is not supported for machine type "Y"',
        f"{SAMPLES}213",
    ),
    _documented("machine.count", "DeployModel, jobs", "it takes another number of them", UNSURE, COMPUTE),
    _documented("machine.n1", "DeployModel, jobs", "an N1", "T4, P4, P100, V100, by its size", COMPUTE),
    _documented("machine.built-in", "DeployModel, jobs", "A2, A3, A4, G2, G4", "1 up to what is built in", COMPUTE),
    _observed(
        "quota.exceeded",
        "DeployModel, MutateDeployedModel, jobs",
        "there would be more than a quota allows",
        "RESOURCE_EXHAUSTED: The following quota metrics exceed quota limits: ...",
        f"{SAMPLES}700",
    ),
    _documented(
        "quota.metrics",
        "as quota.exceeded",
        "always",
        "vCPUs and accelerators, spot's of their own: custom_model_serving_preemptible_cpus",
        "https://cloud.google.com/vertex-ai/quotas",
    ),
    # predictions
    _observed(
        "predict.no-split",
        "Predict, RawPredict",
        "no model has traffic",
        "FAILED_PRECONDITION: Endpoint ... doesn't have traffic_split.",
        f"{GITHUB}GoogleCloudPlatform/explainable_ai_sdk/issues/3",
    ),
    _documented(
        "predict.shares", "Predict, RawPredict", "several have traffic", "each by its share", f"{VX}endpoint.proto"
    ),
    _documented(
        "predict.who", "Predict", "always", "deployed_model_id, model and its name", f"{VX}prediction_service.proto"
    ),
    _documented(
        "predict.header",
        "RawPredict",
        "always",
        "x-vertex-ai-endpoint-id, x-vertex-ai-deployed-model-id before the answer",
        f"{REST}endpoints/rawPredict",
    ),
    _documented(
        "predict.large",
        "Predict, RawPredict",
        "above 1.5 MB",
        "FAILED_PRECONDITION: ... exceeds ...MB limit",
        "https://cloud.google.com/vertex-ai/quotas",
    ),
    _documented(
        "predict.asleep",
        "Predict, RawPredict",
        "no replica is available",
        "RESOURCE_EXHAUSTED: Model is not yet ready for inference. ...",
        f"{DOCS}predictions/scale-to-zero",
    ),
    _guessed(
        "predict.model-error",
        "Predict, RawPredict",
        "the model answers with an HTTP status from 400",
        "the code that the status stands for, with its body as the words",
    ),
    # jobs
    _documented("job.states", "jobs", "time passes", "PENDING, RUNNING, then an end", f"{VX}job_state.proto"),
    _guessed("job.missing", "any on a job", "there is none", "NOT_FOUND"),
    _documented(
        "job.display-name", "CreateBatchPredictionJob, CreateCustomJob", "none", UNSURE, f"{VX}custom_job.proto"
    ),
    _guessed("job.cancel-done", "CancelBatchPredictionJob, CancelCustomJob", "it has ended", "FAILED_PRECONDITION"),
    _documented(
        "job.delete-running",
        "DeleteBatchPredictionJob, DeleteCustomJob",
        "it has not ended",
        "FAILED_PRECONDITION",
        f"{VX}job_service.proto",
    ),
    _documented(
        "batch.model",
        "CreateBatchPredictionJob",
        "not exactly one of model and unmanaged_container_model",
        UNSURE,
        f"{VX}batch_prediction_job.proto",
    ),
    _documented(
        "batch.input",
        "CreateBatchPredictionJob",
        "instances_format is none",
        UNSURE,
        f"{VX}batch_prediction_job.proto",
    ),
    _documented(
        "batch.output",
        "CreateBatchPredictionJob",
        "predictions_format is none",
        UNSURE,
        f"{VX}batch_prediction_job.proto",
    ),
    _documented("batch.machine", "CreateBatchPredictionJob", "no machine type", UNSURE, f"{VX}machine_resources.proto"),
    _guessed("batch.no-input", "CreateBatchPredictionJob", "a source is not there", "FAILED_PRECONDITION"),
    _documented(
        "batch.results",
        "CreateBatchPredictionJob",
        "it succeeds",
        "prediction-NAME-TIME/prediction.results-..., one line an instance; the time's form is a guess",
        f"{VX}batch_prediction_job.proto",
    ),
    _documented("custom.pools", "CreateCustomJob", "no worker pool", UNSURE, f"{VX}custom_job.proto"),
    _documented("custom.machine", "CreateCustomJob", "no machine type", UNSURE, f"{VX}machine_resources.proto"),
    # monitoring
    _documented(
        "metrics.type",
        "ListTimeSeries",
        "the filter names no metric type, or several",
        "INVALID_ARGUMENT",
        f"{PROTO}monitoring/v3/metric_service.proto",
    ),
    _documented(
        "metrics.interval",
        "ListTimeSeries",
        "the interval has no start, or no end after it",
        "INVALID_ARGUMENT",
        f"{PROTO}monitoring/v3/common.proto",
    ),
    _documented(
        "metrics.period",
        "ListTimeSeries",
        "an aligner without a period of 60 s at least",
        "INVALID_ARGUMENT",
        f"{PROTO}monitoring/v3/common.proto",
    ),
    _documented(
        "metrics.reducer",
        "ListTimeSeries",
        "a reducer without an aligner",
        "INVALID_ARGUMENT",
        f"{PROTO}monitoring/v3/common.proto",
    ),
    _documented(
        "metrics.aligner",
        "ListTimeSeries",
        "an aligner that is not for a metric of that kind and type",
        UNSURE,
        f"{PROTO}monitoring/v3/common.proto",
    ),
    _documented(
        "metrics.half-open",
        "ListTimeSeries",
        "an interval",
        "points from after its start up to its end",
        f"{PROTO}monitoring/v3/common.proto",
    ),
    _documented(
        "metrics.late",
        "ListTimeSeries",
        "a value was just measured",
        "it is not seen yet: minutes, which a setting says; until then at once",
        f"{MONITORING}v3/latency-n-retention",
    ),
    _documented(
        "metrics.pages",
        "ListTimeSeries",
        "there are more points than a page has",
        "next_page_token; a series may go on on the next page",
        f"{PROTO}monitoring/v3/metric_service.proto",
    ),
    _documented(
        "metrics.errors",
        "ListTimeSeries",
        "a setting says so",
        "execution_errors beside what was found, which may not be all",
        f"{PROTO}monitoring/v3/metric_service.proto",
    ),
    _guessed("metrics.buckets", "ListTimeSeries", "a distribution", "a bucket for each power of two"),
    _documented(
        "metrics.periods",
        "ListTimeSeries",
        "an aligner",
        "one value a period, counted back from the interval's end",
        f"{PROTO}monitoring/v3/common.proto",
    ),
    _guessed("metrics.percentile", "ListTimeSeries", "a percentile", "by nearest rank; the service goes by buckets"),
    _guessed("metrics.aggregation", "ListTimeSeries", "another aligner or reducer", "not imitated: INVALID_ARGUMENT"),
    _documented(
        "metrics.resource",
        "ListTimeSeries",
        "a metric of online prediction",
        "resource aiplatform.googleapis.com/Endpoint with resource_container, location, endpoint_id",
        f"{MONITORING}resources#tag_aiplatform.googleapis.com/Endpoint",
    ),
    _documented(
        "metrics.online",
        "ListTimeSeries",
        "predictions were made",
        "prediction_count, response_count by response_code, error_count, prediction_latencies by latency_type, at once",
        METRICS,
    ),
    _documented(
        "metrics.replicas", "ListTimeSeries", "models are deployed", "replicas and target_replicas, as now", METRICS
    ),
    _documented(
        "metrics.quotas",
        "ListTimeSeries",
        "quotas are in use or set",
        "serviceruntime.googleapis.com/quota/limit and quota/allocation/usage of consumer_quota, as now",
        "https://cloud.google.com/docs/quotas/view-manage",
    ),
    _documented("alert.display-name", "CreateAlertPolicy", "none", UNSURE, f"{PROTO}monitoring/v3/alert.proto"),
    _documented("alert.conditions", "CreateAlertPolicy", "none", UNSURE, f"{PROTO}monitoring/v3/alert.proto"),
    _documented(
        "alert.combiner",
        "CreateAlertPolicy",
        "several conditions without it",
        UNSURE,
        f"{PROTO}monitoring/v3/alert.proto",
    ),
    _guessed("alert.channel", "CreateAlertPolicy, UpdateAlertPolicy", "a channel is not there", "NOT_FOUND"),
    _guessed(
        "alert.name", "CreateAlertPolicy", "always", "projects/ID/alertPolicies/NUMBER, two of one display name too"
    ),
    _documented(
        "alert.mask",
        "UpdateAlertPolicy",
        "a mask",
        "what it names; without one all",
        f"{PROTO}monitoring/v3/alert_service.proto",
    ),
    _documented(
        "channel.type", "CreateNotificationChannel", "none", UNSURE, f"{PROTO}monitoring/v3/notification.proto"
    ),
    _documented(
        "channel.mask",
        "UpdateNotificationChannel",
        "a mask",
        "what it names; without one all",
        f"{PROTO}monitoring/v3/notification_service.proto",
    ),
    _documented(
        "channel.used",
        "DeleteNotificationChannel",
        "a policy names it",
        "FAILED_PRECONDITION; with force it is taken off",
        f"{PROTO}monitoring/v3/notification_service.proto",
    ),
    _guessed("watch.missing", "any on a policy, channel or dashboard", "there is none", "NOT_FOUND"),
    _documented(
        "dashboard.display-name", "CreateDashboard", "none", UNSURE, f"{PROTO}monitoring/dashboard/v1/dashboard.proto"
    ),
    _guessed("dashboard.duplicate", "CreateDashboard", "the asked name is taken", "ALREADY_EXISTS"),
    _documented(
        "dashboard.name",
        "CreateDashboard",
        "always",
        "projects/NUMBER/dashboards/ID, the ID as asked or made",
        f"{PROTO}monitoring/dashboard/v1/dashboard.proto",
    ),
    _documented(
        "dashboard.etag",
        "UpdateDashboard",
        "the etag is not the present one",
        "ABORTED",
        f"{PROTO}monitoring/dashboard/v1/dashboard.proto",
    ),
    # logging
    _documented(
        "logs.container",
        "ListLogEntries",
        "a container printed",
        "log prediction_container, jsonPayload.message, labels deployed_model_id and replica_id",
        f"{DOCS}predictions/online-prediction-logging",
    ),
    _documented(
        "logs.access",
        "ListLogEntries",
        "enable_access_logging",
        "log prediction_access, an entry a request; its payload is a guess",
        f"{DOCS}predictions/online-prediction-logging",
    ),
    _documented(
        "logs.filter",
        "ListLogEntries",
        "a filter",
        "comparisons over an entry's fields, words over all of them",
        "https://cloud.google.com/logging/docs/view/logging-query-language",
    ),
    _documented(
        "logs.names", "ListLogEntries", "no resource name", "INVALID_ARGUMENT", f"{PROTO}logging/v2/logging.proto"
    ),
    _documented(
        "logs.order",
        "ListLogEntries",
        "order_by is not timestamp asc or desc",
        "INVALID_ARGUMENT",
        f"{PROTO}logging/v2/logging.proto",
    ),
    _documented(
        "logs.log-name",
        "WriteLogEntries",
        "an entry has no log",
        "INVALID_ARGUMENT",
        f"{PROTO}logging/v2/logging.proto",
    ),
    # errors of every service
    _documented("fault.throttle", "any", "a throttle was scripted", "RESOURCE_EXHAUSTED; Cloud Storage 429", ERRORS),
    _documented("fault.internal", "any", "500 was scripted", "INTERNAL", ERRORS),
    _documented("fault.unavailable", "any", "503 was scripted", "UNAVAILABLE", ERRORS),
    _observed(
        "fault.unauthenticated",
        "any",
        "expired credentials were scripted",
        "UNAUTHENTICATED: Request had invalid authentication credentials. ...",
        f"{GITHUB}googleapis/google-auth-library-nodejs/issues/633",
    ),
    _observed(
        "fault.denied", "any", "a refusal was scripted", "as iam.denied", f"{GITHUB}rpurinton/gemini-php/issues/4"
    ),
    _observed(
        "fault.storage",
        "storage",
        "expired credentials or a refusal were scripted",
        "401 AuthenticationRequired; 403 AccessDenied",
        "https://stackoverflow.com/q/63222450",
    ),
    _observed(
        "fault.dropped",
        "any",
        "a dropped connection was scripted",
        "UNAVAILABLE: Socket closed, which is what gRPC's client makes of it",
        f"{GITHUB}grpc/grpc/issues/20360",
    ),
)


def main() -> int:
    """Print how many rules there are and how they are known."""
    marks = Counter(rule.mark for rule in RULES)
    shares = ", ".join(f"{marks[mark]} {mark}" for mark in ("documented", "observed", "guessed"))
    sys.stdout.write(f"{len(RULES)} rules: {shares}; {100 * marks['guessed'] / len(RULES):.0f} % guessed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
