"""The spec's language: what a user may write, each key with its meaning."""

# Without `from __future__ import annotations`: as texts, pydantic would read them one by one, a fiftieth of the time of
# `mlscale validate`.
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

from mlscale.spec.fields import (
    LEAST_CPUS,
    LONGEST_NAME,
    MOST_ACCELERATORS,
    MOST_CPUS,
    MOST_GPUS,
    MOST_REPLICAS,
    NAME,
    AcceleratorType,
    Account,
    Bound,
    BucketPlace,
    Capacity,
    Cron,
    Duration,
    EncryptionKey,
    Framework,
    GoogleKey,
    GoogleNetwork,
    GooglePlace,
    Host,
    Image,
    Kind,
    LabelKey,
    LabelValue,
    Lasting,
    Latency,
    Machines,
    Metric,
    Notified,
    Percentage,
    Region,
    RoleArn,
    SecurityGroup,
    ServiceAccount,
    Size,
    Source,
    Subnet,
    Table,
    TargetValue,
    Text,
    TimeZone,
    TopicArn,
    VariableName,
    VariableValue,
    Version,
    Word,
    Workspace,
)
from mlscale.spec.rollout import Rollout
from mlscale.spec.section import Misfit, Path, Section, refuse


class Replicas(Section):
    """A fixed count, or bounds of the replica count."""

    min: int = Field(
        1, ge=0, le=MOST_REPLICAS, description="Replicas that always run; 0 for an endpoint of kind async alone."
    )
    max: int = Field(
        1,
        ge=1,
        le=MOST_REPLICAS,
        description="Replicas that run at most, which caps what the endpoint may cost; the same as min if left out.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fixed(cls, value: object) -> object:
        if type(value) is int:
            if not 1 <= value <= MOST_REPLICAS:
                raise ValueError(f"it must be 1 to {MOST_REPLICAS}")
            return {"min": value, "max": value}
        if not isinstance(value, dict | Replicas):
            raise ValueError("a number is needed, or a mapping with min and max")  # noqa: TRY004, pydantic's way
        if isinstance(value, dict) and "max" not in value and type(least := value.get("min")) is int:
            return {**value, "max": max(1, min(least, MOST_REPLICAS))}
        return value

    @field_validator("max")
    @classmethod
    def _ordered(cls, value: int, info: ValidationInfo) -> int:
        return _not_below_min(value, info)


def _not_below_min(value: int, info: ValidationInfo) -> int:
    least = info.data.get("min")
    if least is not None and value < least:
        raise ValueError(f"max {value} is less than min {least}")
    return value


class CustomMetric(Section):
    """A metric of your own, as CloudWatch has it."""

    namespace: Word = Field(description="Its namespace, like CWAgent.")
    name: Word = Field(description="Its name, like QueueWait.")
    statistic: Literal["Average", "Minimum", "Maximum", "SampleCount", "Sum"] = Field(
        "Average", description="What is made of a minute's values."
    )
    dimensions: dict[Word, Word] = Field({}, max_length=30, description="The dimensions by which it is found.")


class Target(Section):
    """Keep a metric near a value by adding and removing replicas."""

    metric: Metric | None = Field(
        None,
        description="Measured: invocations_per_replica (requests a minute), concurrency (open requests), cpu, gpu, or "
        "queue_depth (waiting requests); left out where custom is there.",
    )
    custom: CustomMetric | None = Field(None, description="A metric of your own instead; for provider: sagemaker only.")
    value: TargetValue = Field(
        description="The value to stay near, for each replica; cpu and gpu as a percentage like 70%."
    )
    scale_in_cooldown: Duration = Field(
        timedelta(minutes=5), description="How long after any change of the count no replica is removed."
    )
    scale_out_cooldown: Duration = Field(
        timedelta(seconds=30), description="How long after replicas were added no more are added."
    )

    @model_validator(mode="after")
    def _one_metric(self) -> Self:
        if (self.metric is None) == (self.custom is None):
            raise ValueError("a target has either metric or custom")
        return self


class StepRule(Section):
    """Add or remove replicas while a metric is beyond a bound."""

    metric: Metric = Field(
        description="What is compared, for each replica: invocations_per_replica, concurrency, cpu, gpu or queue_depth."
    )
    above: Bound | None = Field(
        None, description="Act while the metric is above this; cpu and gpu as a percentage like 85%."
    )
    below: Bound | None = Field(
        None, description="Act while the metric is below this; a step has either above or below."
    )
    add: int = Field(
        ge=-MOST_REPLICAS, le=MOST_REPLICAS, description="How many replicas to add; a negative number removes."
    )
    cooldown: Duration = Field(timedelta(minutes=1), description="How long after acting the step does not act again.")

    @field_validator("add")
    @classmethod
    def _changes(cls, value: int) -> int:
        if value == 0:
            raise ValueError("add 0 changes nothing")
        return value

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("a step has either above or below")
        return self


class ScheduleEntry(Section):
    """Other bounds from a time on, until the next entry's time."""

    cron: Cron = Field(
        description="When it begins: minute, hour, day of month, month and day of week, like 0 8 * * MON-FRI."
    )
    timezone: TimeZone = Field("UTC", description="The time zone of that time, by its IANA name like Europe/Berlin.")
    min: int | None = Field(None, ge=0, le=MOST_REPLICAS, description="Replicas that always run from then on.")
    max: int | None = Field(None, ge=0, le=MOST_REPLICAS, description="Replicas that run at most from then on.")

    @field_validator("max")
    @classmethod
    def _ordered(cls, value: int | None, info: ValidationInfo) -> int | None:
        return None if value is None else _not_below_min(value, info)

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("an entry has min, max, or both")
        return self


class Autoscaling(Section):
    """What moves the replica count between its bounds."""

    target: tuple[Target, ...] = Field((), description="Targets to track; the one that wants most replicas wins.")
    steps: tuple[StepRule, ...] = Field((), description="Steps to take while a metric is beyond a bound.")
    schedule: tuple[ScheduleEntry, ...] = Field((), description="Bounds that change with the time of day or week.")

    @field_validator("target")
    @classmethod
    def _each_metric_once(cls, value: tuple[Target, ...]) -> tuple[Target, ...]:
        metrics = [each.metric or (each.custom and f"{each.custom.namespace} {each.custom.name}") for each in value]
        refuse(
            ((number, "custom" if value[number].custom else "metric"), f"two targets follow {metric}")
            for number, metric in enumerate(metrics)
            if metric in metrics[:number]
        )
        return value


class HealthCheck(Section):
    """How a replica shows that it can serve."""

    path: str = Field("/ping", pattern=r"^/[!-~]{0,200}$", description="Route that answers 200 when it can serve.")
    startup_timeout: Lasting = Field(
        timedelta(minutes=10), description="How long a replica may take from its start until it is healthy."
    )


class Model(Section):
    """What is served: a model that mlscale serves itself, or an image that does."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["source", "framework"]},
                {"required": ["image"], "properties": {"image": {"type": "string"}}},
            ]
        }
    )

    image: Image | None = Field(
        None,
        description="Container image that serves by itself, by SageMaker's or Vertex AI's contract; then source may be "
        "left out, and what else says how mlscale serves must be.",
    )
    source: Source | None = Field(
        None,
        validate_default=True,
        description="Folder, file or .tar.gz of the model, relative to the spec; needed unless there is an image, "
        "which has it in /opt/ml/model.",
    )
    framework: Framework | None = Field(
        None,
        validate_default=True,
        description="Who loads it: onnx, sklearn, xgboost, lightgbm, pytorch (TorchScript), tensorflow and "
        "huggingface (both for a cloud), or custom with a handler of your own; needed unless there is an image.",
    )
    framework_version: Text | None = Field(None, description='Version of the framework, in quotes: "1.10".')
    requirements: Text | None = Field(
        None,
        description="A requirements.txt, relative to the spec, for an environment of the model's own.",
    )
    handler: Text | None = Field(
        None,
        description="Python file, relative to the spec, with SageMaker's model_fn, input_fn, predict_fn and output_fn, "
        "or a Predictor class.",
    )
    environment: dict[VariableName, VariableValue] = Field({}, description="Environment variables of the replicas.")

    @field_validator("source", "framework")
    @classmethod
    def _needed(cls, value: object, info: ValidationInfo) -> object:
        if value is None and "image" in info.data and info.data["image"] is None:
            raise PydanticKnownError("missing")
        return value

    @field_validator("framework", "framework_version", "requirements", "handler")
    @classmethod
    def _not_the_images(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("image"):
            raise ValueError("an image brings its own: leave this out, or model.image")
        return value


class Accelerator(Section):
    """GPUs of each replica."""

    gpus: Literal["all"] | Annotated[int, Field(ge=1, le=MOST_GPUS)] | None = Field(
        None, description="How many of this machine's GPUs a replica sees, or all; for provider: local."
    )
    type: AcceleratorType | None = Field(
        None, description="Which GPUs a machine has, like nvidia-l4; for provider: vertex."
    )
    count: int = Field(1, ge=1, le=MOST_ACCELERATORS, description="How many GPUs of that type each replica has.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.gpus is None and self.type is None:
            raise ValueError("write gpus for this machine, or type and count for Vertex AI")
        return self


class Serverless(Section):
    """A serverless endpoint's size."""

    memory: Size = Field("2Gi", validate_default=True, description="Memory of each worker: 1Gi to 6Gi, whole Gi.")
    concurrency: int = Field(20, ge=1, le=200, description="Requests that are worked on at the same time, at most.")
    provisioned: int | None = Field(
        None, ge=1, le=200, description="Requests for which workers are kept warm, which bills by the hour."
    )


class AsyncInference(Section):
    """Where an async endpoint puts its answers, and whom it tells."""

    output: BucketPlace = Field(description="Place of the answers, like s3://bucket/answers.")
    failures: BucketPlace | None = Field(
        None, description="Place of what could not be answered; beside the answers if left out."
    )
    concurrency: int | None = Field(None, ge=1, le=1000, description="Requests that a replica gets at the same time.")
    notify_success: TopicArn | None = Field(None, description="SNS topic that is told of each answer.")
    notify_error: TopicArn | None = Field(None, description="SNS topic that is told of each failure.")


class Endpoint(Section):
    """How the model is served."""

    kind: Kind = Field(
        "realtime",
        description="How requests reach the model: realtime answers while one waits, serverless does so without "
        "machines of your own, async takes them from a queue.",
    )
    machine: Machines = Field(
        (), description="Machine type, or up to five in order of preference; for a cloud, which needs it."
    )
    capacity: Capacity = Field(
        "on_demand",
        description="How machines are had: on_demand, or spot, which costs less and may be taken away; for provider: "
        "vertex.",
    )
    serverless: Serverless | None = Field(None, description="Size of a serverless endpoint; for that kind only.")
    async_inference: AsyncInference | None = Field(
        None, description="Where an async endpoint puts its answers; needed for that kind, and for no other."
    )
    replicas: Replicas = Field(
        Replicas.model_construct(), description="How many copies of the model run: a fixed count, or min and max."
    )
    autoscaling: Autoscaling = Field(
        Autoscaling.model_construct(), description="What moves the replica count between min and max."
    )
    accelerator: Accelerator | None = Field(
        None, description="GPUs of each replica: {type, count} on Vertex AI, {gpus} here with runtime: docker."
    )
    health: HealthCheck = Field(HealthCheck.model_construct(), description="How a replica shows that it can serve.")

    @field_validator("autoscaling")
    @classmethod
    def _fits_replicas(cls, value: Autoscaling, info: ValidationInfo) -> Autoscaling:
        if replicas := info.data.get("replicas"):
            refuse(_misfits(value, replicas))
        return value

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        refuse(_other_kinds(self))
        return self


def _other_kinds(endpoint: Endpoint) -> Iterator[Misfit]:
    """Yield what is there and belongs to another kind of endpoint, or lacks and belongs to this one."""
    kind = endpoint.kind
    if kind != "serverless" and endpoint.serverless is not None:
        yield ("serverless",), f"it is for kind: serverless, and this is {kind}"
    if kind != "async" and endpoint.async_inference is not None:
        yield ("async_inference",), f"it is for kind: async, and this is {kind}"
    match kind:
        case "realtime":
            yield from _waiting(endpoint)
        case "serverless":
            for key in ("machine", "replicas", "autoscaling", "accelerator"):
                if getattr(endpoint, key) != Endpoint.model_fields[key].default:
                    yield (key,), "a serverless endpoint has none: serverless: {memory, concurrency} is its size"
        case "async":
            if endpoint.async_inference is None:
                yield ("async_inference",), "kind: async needs it, with output: s3://bucket/folder"
            if endpoint.replicas.min == 0 and endpoint.autoscaling == Autoscaling.model_construct():
                yield ("replicas", "min"), "no autoscaling would ever remove the last replica"


def _waiting(endpoint: Endpoint) -> Iterator[Misfit]:
    """Yield what is for requests that wait in a queue."""
    schedule = endpoint.autoscaling.schedule
    bounds: list[tuple[Path, int | None]] = [(("replicas", "min"), endpoint.replicas.min)]
    bounds += [(("autoscaling", "schedule", number, "min"), entry.min) for number, entry in enumerate(schedule)]
    bounds += [(("autoscaling", "schedule", number, "max"), entry.max) for number, entry in enumerate(schedule)]
    for path, bound in bounds:
        if bound == 0:
            yield path, "0 replicas answer nothing: that is for kind: async, where requests wait"
    for path, metric in followed(endpoint.autoscaling):
        if metric == "queue_depth":
            yield ("autoscaling", *path), "requests wait in a queue for kind: async only"


def followed(autoscaling: Autoscaling) -> Iterator[tuple[Path, str | None]]:
    """Yield the path of each metric below `autoscaling`, and its name; None for one of the user's own."""
    for number, target in enumerate(autoscaling.target):
        yield ("target", number, "custom" if target.custom else "metric"), target.metric
    for number, step in enumerate(autoscaling.steps):
        yield ("steps", number, "metric"), step.metric


def _misfits(autoscaling: Autoscaling, replicas: Replicas) -> Iterator[Misfit]:
    if replicas.min == replicas.max and not autoscaling.schedule:
        for key in ("target", "steps"):
            if getattr(autoscaling, key):
                yield (key,), f"it has no room: replicas.max must be more than replicas.min, both are {replicas.min}"
    for number, entry in enumerate(autoscaling.schedule):
        if entry.max is None and entry.min is not None and entry.min > replicas.max:
            yield (
                ("schedule", number, "min"),
                f"min {entry.min} is more than replicas.max {replicas.max}; write max too",
            )
        if entry.min is None and entry.max is not None and entry.max < replicas.min:
            yield (
                ("schedule", number, "max"),
                f"max {entry.max} is less than replicas.min {replicas.min}; write min too",
            )


class Resources(Section):
    """What a replica may use at most."""

    cpus: Annotated[int | float, Field(ge=LEAST_CPUS, le=MOST_CPUS)] | None = Field(
        None, allow_inf_nan=False, description="Processor cores, like 2 or 0.5."
    )
    memory: Size | None = Field(None, description="Memory, like 512Mi or 4Gi; more ends the replica.")


class LocalSettings(Section):
    """Settings of the local provider."""

    allow_remote: bool = Field(
        default=False, description="Allow a host that other machines can reach; nobody there needs to log in."
    )
    host: Host = Field("127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(
        0, ge=0, le=65535, description="Port that the gateway listens on; with 0 the system chooses one, and it stays."
    )
    runtime: Literal["process", "docker"] | None = Field(
        None,
        description="What a replica is: a process, or a container of a Docker engine; if left out a process, and a "
        "container where model.image is there.",
    )
    resources: Resources = Field(
        Resources.model_construct(), description="What a replica may use at most; for runtime: docker only."
    )

    @field_validator("host")
    @classmethod
    def _reachable(cls, value: str, info: ValidationInfo) -> str:
        if not info.data.get("allow_remote", True) and not _is_loopback(value):
            raise ValueError(f"{value} can be reached from other machines: that needs allow_remote: true")
        return value


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class DataCapture(Section):
    """Requests and answers that are kept, for monitoring."""

    share: Percentage = Field(description="How many of them, like 10%.")
    destination: BucketPlace = Field(description="Where they are kept, like s3://bucket/captured.")


class SageMakerSettings(Section):
    """Settings of the SageMaker provider."""

    role: RoleArn | None = Field(None, description="ARN of the role that the model runs as; needed.")
    uploads: BucketPlace | None = Field(
        None, description="Where model archives go; below the workspace if that is in S3 and this is left out."
    )
    subnets: tuple[Subnet, ...] = Field((), max_length=16, description="Subnets of your VPC for the model's traffic.")
    security_groups: tuple[SecurityGroup, ...] = Field(
        (), max_length=5, description="Security groups there; needed with subnets, and for nothing else."
    )
    network_isolation: bool = Field(default=False, description="Let the container call nothing outside.")
    kms_key: EncryptionKey | None = Field(
        None, description="Key that encrypts the machines' disks: its id, ARN or alias."
    )
    volume_size: Size | None = Field(None, description="Disk of each replica, in whole Gi like 50Gi.")
    data_capture: DataCapture | None = Field(None, description="Requests and answers that are kept.")
    dashboard: bool = Field(default=False, description="Make a CloudWatch dashboard, which may bill by the month.")


class RequestLogging(Section):
    """Requests and answers that are kept in a table."""

    share: Percentage = Field(description="How many of them, like 10%.")
    destination: Table = Field(description="The table of BigQuery, like bq://project.dataset.table.")


class VertexSettings(Section):
    """Settings of the Vertex AI provider."""

    service_account: ServiceAccount | None = Field(
        None, description="E-mail address of the service account that the model runs as; the project's own if left out."
    )
    uploads: GooglePlace | None = Field(
        None, description="Where model files go; below the workspace if that is in gs:// and this is left out."
    )
    network: GoogleNetwork | None = Field(
        None, description="Network that alone reaches the endpoint, like projects/NUMBER/global/networks/NAME."
    )
    encryption_key: GoogleKey | None = Field(None, description="Key of Cloud KMS that encrypts what is stored.")
    dedicated_endpoint: bool = Field(default=False, description="Give the endpoint a name of its own in the DNS.")
    request_logging: RequestLogging | None = Field(None, description="Requests and answers that are kept.")
    dashboard: bool = Field(default=False, description="Make a dashboard in Cloud Monitoring.")


class Alarms(Section):
    """What to be told of."""

    p99_latency: Latency | None = Field(
        None, description="Tell when one request of a hundred takes longer in the model, like 500ms."
    )
    error_rate: Percentage | None = Field(None, description="Tell when more requests than this share fail, like 1%.")
    no_invocations: Lasting | None = Field(None, description="Tell when no request came for this long, like 15m.")
    notify: tuple[Notified, ...] = Field(
        (), max_length=5, description="Who is told: topics of SNS, or notification channels of Cloud Monitoring."
    )


class Spec(Section):
    """One model in production."""

    version: Version = Field(description="Version of the spec language: 1.")
    name: str = Field(
        pattern=f"^{NAME}$",
        max_length=LONGEST_NAME,
        description="Name of the deployment; names of resources derive from it.",
    )
    provider: Literal["local", "sagemaker", "vertex"] = Field(
        description="Where it runs: local is this machine, sagemaker is Amazon SageMaker, vertex is Google Vertex AI."
    )
    region: Region | None = Field(None, description="Region of the cloud, like us-east-1 or us-central1; needed there.")
    account: Account | None = Field(
        None,
        description="AWS account, in quotes: nothing is changed if the credentials are for another; or the id of the "
        "Google Cloud project, which Vertex AI needs.",
    )
    workspace: Workspace | None = Field(
        None,
        description="Folder, s3:// or gs:// of lease, journal and revisions; .mlscale/ beside the spec if left out.",
    )
    labels: dict[LabelKey, LabelValue] = Field(
        {}, description="Labels on everything that is made, for cost allocation and ownership."
    )
    model: Model = Field(description="What is served.")
    endpoint: Endpoint = Field(Endpoint.model_construct(), description="How the model is served.")
    rollout: Rollout = Field(Rollout.model_construct(), description="How a new revision takes over.")
    alarms: Alarms = Field(Alarms.model_construct(), description="What to be told of; for a cloud.")
    sagemaker: SageMakerSettings = Field(
        SageMakerSettings.model_construct(), description="Settings of the SageMaker provider."
    )
    vertex: VertexSettings = Field(VertexSettings.model_construct(), description="Settings of the Vertex AI provider.")
    local: LocalSettings = Field(LocalSettings.model_construct(), description="Settings of the local provider.")

    @property
    def in_containers(self) -> bool:
        """Whether a replica is a container."""
        return self.local.runtime == "docker" or (self.local.runtime is None and self.model.image is not None)
