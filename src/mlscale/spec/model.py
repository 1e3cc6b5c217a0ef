"""The spec's language: what a user may write, each key with its meaning."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from mlscale.quantities import (
    DURATION_PATTERN,
    PERCENT_PATTERN,
    SIZE_PATTERN,
    duration_of,
    duration_text,
    percent_of,
    size_of,
    size_text,
)

NAME = r"[a-z](-?[a-z0-9]){0,39}"
LONGEST_NAME = 40
LONGEST_LABEL = 63
LONGEST_DURATION = timedelta(days=366)
MOST_REPLICAS = 1000
LARGEST_BOUND = 1_000_000_000
SMALLEST_TARGET = 0.001
LEAST_CPUS, MOST_CPUS = 0.01, 4096
LEAST_MEMORY, MOST_MEMORY = 2**24, 2**46
MOST_GPUS = 64
PROVIDERS_TO_COME = frozenset({"sagemaker", "vertex"})
PLACED = "placed"
"""The type of a pydantic error whose context has `problems`: a path below the error's own, and why, for each."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OUR_VARIABLES = ("MLSCALE_", "AIP_", "SAGEMAKER_")
_SECRETS = ("env:", "aws-sm:", "gcp-sm:")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[\w .:/=+@-]*")
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}|::[0-9a-f:]*")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://|(registry):")
_CRON_FIELDS = 5
_FIVE_FIELDS = re.compile(r" *[^ ]+( +[^ ]+){4} *")
_CRON_WORDS = re.compile(r"(?i)\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat|l)\b")
_CRON = re.compile(r"[0-9*/,#? -]{9,100}")


def _version(value: object) -> object:
    if value in ("1", 1) and type(value) is not int:
        raise ValueError("the number 1 is needed, without quotes")
    return value


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("a duration has a unit: write it like 30s, 10m or 1h30m")  # noqa: TRY004, pydantic's way
    duration = duration_of(value)
    if duration > LONGEST_DURATION:
        raise ValueError(f"{value} is too long: {LONGEST_DURATION.days} days at most")
    return duration


def _lasting(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("it must be more than 0s")
    return value


def _bound(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str) and value.endswith("%"):
        if (metric := info.data.get("metric", "cpu")) != "cpu":
            raise ValueError(f"{value} is a percentage, and {metric} is a number")
        return percent_of(value)
    return value


def _in_range(value: float) -> float:
    if not 0 <= value <= LARGEST_BOUND:
        raise ValueError(f"it must be 0 to {LARGEST_BOUND:,}")
    return value


def _reachable_target(value: float) -> float:
    if value < SMALLEST_TARGET:
        raise ValueError(f"it must be {SMALLEST_TARGET} at least")
    return value


def _variable_name(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("a variable's name has letters, digits and _, and does not begin with a digit")
    if name.startswith(_OUR_VARIABLES):
        raise ValueError(f"{name} is set by mlscale; choose another name")
    return name


def _variable_value(value: str) -> str:
    if value.startswith(_SECRETS):
        raise ValueError("a reference to a secret is not available in this version")
    return value


def _label_key(key: str) -> str:
    if not _LABEL_KEY.fullmatch(key):
        raise ValueError(f"lower-case letters, digits, _ and -, a letter first, {LONGEST_LABEL} characters at most")
    return key


def _label_value(value: str) -> str:
    if len(value) > LONGEST_LABEL:
        raise ValueError(f"it has {len(value)} characters, {LONGEST_LABEL} at most")
    if not _LABEL_VALUE.fullmatch(value):
        raise ValueError("letters, digits, spaces and _ . : / = + - @ only")
    return value


def _source(value: str) -> str:
    if found := _SCHEME.match(value):
        raise ValueError(
            f"a source from {found[1] or found[2]} is not available in this version; name a file or folder"
        )
    return value


def _image(value: str) -> str:
    if not _REFERENCE.fullmatch(value):
        raise ValueError(f"{value[:60]!r} is no image: write it like registry.example.com/ml/iris:1.2")
    return value


def _size(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError("a size has a unit: write it like 512Mi or 4Gi")  # noqa: TRY004, pydantic's way
    return size_of(value) if isinstance(value, str) else value


def _memory(value: int) -> int:
    if not LEAST_MEMORY <= value <= MOST_MEMORY:
        raise ValueError(f"it must be {size_text(LEAST_MEMORY)} to {size_text(MOST_MEMORY)}")
    return value


def _workspace(value: str) -> str:
    found = _SCHEME.match(value)
    if found and found[1] not in ("s3", "gs"):
        raise ValueError("a workspace is a folder, s3:// or gs://")
    return value


def _cron(value: str) -> str:
    if not is_cron(value):
        raise ValueError(f"{value[:60]!r} is not a time of cron: five fields, like 0 8 * * MON-FRI")
    if not _comes(value):
        raise ValueError(f"{value!r} never comes")
    return value


def is_cron(text: str) -> bool:
    """Return whether `text` is a time in cron's five fields, without extensions that are random or hashed."""
    from croniter import croniter

    if len(text.split()) != _CRON_FIELDS or not _CRON.fullmatch(_CRON_WORDS.sub("0", text)):
        return False
    try:
        return bool(croniter.is_valid(text))
    except (ValueError, LookupError, ArithmeticError, AttributeError, TypeError):
        # croniter's own check lets the exceptions of its parser through for some texts.
        return False


def _comes(cron: str) -> bool:
    from datetime import UTC, datetime

    from croniter import CroniterBadDateError, croniter

    try:
        croniter(cron, datetime(2024, 1, 1, tzinfo=UTC)).get_next(datetime)
    except CroniterBadDateError:
        return False
    return True


def _timezone(value: str) -> str:
    from zoneinfo import ZoneInfo

    if value == "UTC":
        return value
    try:
        ZoneInfo(value)
    except (LookupError, ValueError, OSError):
        raise ValueError(f"{value[:60]!r} is no time zone: use a name like Europe/Berlin") from None
    return value


def _pattern(pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$"})


# The words of deployment.Kind and deployment.Metric; a test holds that. Nothing else of that module is needed here, and
# making its dataclasses takes a twentieth of the time of `mlscale validate`.
Kind: TypeAlias = Literal["realtime"]
Metric: TypeAlias = Literal["invocations_per_replica", "concurrency", "cpu"]

Text = Annotated[str, Field(min_length=1, max_length=4096)]
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(duration_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^(?=.){DURATION_PATTERN}$"}),
]
Lasting = Annotated[Duration, AfterValidator(_lasting)]
Bound = Annotated[
    float,
    BeforeValidator(_bound),
    Field(allow_inf_nan=False),
    AfterValidator(_in_range),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": LARGEST_BOUND},
                {"type": "string", "pattern": f"^{PERCENT_PATTERN}$"},
            ]
        }
    ),
]
Size = Annotated[
    int,
    BeforeValidator(_size),
    AfterValidator(_memory),
    PlainSerializer(size_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{SIZE_PATTERN}$"}),
]
VariableName = Annotated[str, AfterValidator(_variable_name), _pattern(_VARIABLE)]
VariableValue = Annotated[str, AfterValidator(_variable_value)]
LabelKey = Annotated[str, AfterValidator(_label_key), _pattern(_LABEL_KEY)]
LabelValue = Annotated[
    str, AfterValidator(_label_value), WithJsonSchema({"type": "string", "maxLength": LONGEST_LABEL})
]


class _Section(BaseModel):
    """A mapping of the spec: frozen, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)


class Replicas(_Section):
    """A fixed count, or bounds of the replica count."""

    min: int = Field(1, ge=1, le=MOST_REPLICAS, description="Replicas that always run.")
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


class Target(_Section):
    """Keep a metric near a value by adding and removing replicas."""

    metric: Metric = Field(
        description="Measured: invocations_per_replica (requests a minute), concurrency (open requests) or cpu."
    )
    value: Annotated[Bound, AfterValidator(_reachable_target)] = Field(
        description="The value to stay near, for each replica; cpu as a percentage like 70%."
    )
    scale_in_cooldown: Duration = Field(
        timedelta(minutes=5), description="How long after any change of the count no replica is removed."
    )
    scale_out_cooldown: Duration = Field(
        timedelta(seconds=30), description="How long after replicas were added no more are added."
    )


class StepRule(_Section):
    """Add or remove replicas while a metric is beyond a bound."""

    metric: Metric = Field(
        description="What is compared, for each replica: invocations_per_replica, concurrency or cpu."
    )
    above: Bound | None = Field(None, description="Act while the metric is above this; cpu as a percentage like 85%.")
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
    def _one_bound(self) -> StepRule:
        if (self.above is None) == (self.below is None):
            raise ValueError("a step has either above or below")
        return self


class ScheduleEntry(_Section):
    """Other bounds from a time on, until the next entry's time."""

    cron: Annotated[str, AfterValidator(_cron), _pattern(_FIVE_FIELDS)] = Field(
        description="When it begins: minute, hour, day of month, month and day of week, like 0 8 * * MON-FRI."
    )
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        "UTC", description="The time zone of that time, by its IANA name like Europe/Berlin."
    )
    min: int | None = Field(None, ge=1, le=MOST_REPLICAS, description="Replicas that always run from then on.")
    max: int | None = Field(None, ge=1, le=MOST_REPLICAS, description="Replicas that run at most from then on.")

    @field_validator("max")
    @classmethod
    def _ordered(cls, value: int | None, info: ValidationInfo) -> int | None:
        return None if value is None else _not_below_min(value, info)

    @model_validator(mode="after")
    def _bounds_something(self) -> ScheduleEntry:
        if self.min is None and self.max is None:
            raise ValueError("an entry has min, max, or both")
        return self


class Autoscaling(_Section):
    """What moves the replica count between its bounds."""

    target: tuple[Target, ...] = Field((), description="Targets to track; the one that wants most replicas wins.")
    steps: tuple[StepRule, ...] = Field((), description="Steps to take while a metric is beyond a bound.")
    schedule: tuple[ScheduleEntry, ...] = Field((), description="Bounds that change with the time of day or week.")

    @field_validator("target")
    @classmethod
    def _each_metric_once(cls, value: tuple[Target, ...]) -> tuple[Target, ...]:
        metrics = [each.metric for each in value]
        _refuse(
            ((number, "metric"), f"two targets follow {metric}")
            for number, metric in enumerate(metrics)
            if metric in metrics[:number]
        )
        return value


class HealthCheck(_Section):
    """How a replica shows that it can serve."""

    path: str = Field("/ping", pattern=r"^/[!-~]{0,200}$", description="Route that answers 200 when it can serve.")
    startup_timeout: Lasting = Field(
        timedelta(minutes=10), description="How long a replica may take from its start until it is healthy."
    )


class Model(_Section):
    """What is served: a model that mlscale serves itself, or an image that does."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["source", "framework"]},
                {"required": ["image"], "properties": {"image": {"type": "string"}}},
            ]
        }
    )

    image: Annotated[Text, AfterValidator(_image), _pattern(_REFERENCE)] | None = Field(
        None,
        description="Container image that serves by itself, by SageMaker's or Vertex AI's contract; then source may be "
        "left out, and what else says how mlscale serves must be.",
    )
    source: Annotated[Text, AfterValidator(_source)] | None = Field(
        None,
        validate_default=True,
        description="Folder, file or .tar.gz of the model, relative to the spec; needed unless there is an image, "
        "which has it in /opt/ml/model.",
    )
    framework: Literal["onnx", "sklearn", "xgboost", "lightgbm", "pytorch", "custom"] | None = Field(
        None,
        validate_default=True,
        description="Who loads it: onnx, sklearn, xgboost, lightgbm, pytorch (TorchScript), or custom with a handler "
        "of your own; needed unless there is an image.",
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


class Accelerator(_Section):
    """GPUs of each replica."""

    gpus: Literal["all"] | Annotated[int, Field(ge=1, le=MOST_GPUS)] = Field(
        description="How many of this machine's GPUs a replica sees, or all."
    )


class Endpoint(_Section):
    """How the model is served."""

    kind: Kind = Field("realtime", description="How requests reach the model; realtime answers while one waits.")
    replicas: Replicas = Field(
        Replicas.model_construct(), description="How many copies of the model run: a fixed count, or min and max."
    )
    autoscaling: Autoscaling = Field(
        Autoscaling.model_construct(), description="What moves the replica count between min and max."
    )
    accelerator: Accelerator | None = Field(None, description="GPUs of each replica; for runtime: docker only.")
    health: HealthCheck = Field(HealthCheck.model_construct(), description="How a replica shows that it can serve.")

    @field_validator("kind", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        if value in ("serverless", "async"):
            raise ValueError(f"{value} is not available in this version; use realtime")
        return value

    @field_validator("autoscaling")
    @classmethod
    def _fits_replicas(cls, value: Autoscaling, info: ValidationInfo) -> Autoscaling:
        if replicas := info.data.get("replicas"):
            _refuse(_misfits(value, replicas))
        return value


def _misfits(autoscaling: Autoscaling, replicas: Replicas) -> Iterator[tuple[tuple[str | int, ...], str]]:
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


def _refuse(problems: Iterator[tuple[tuple[str | int, ...], str]]) -> None:
    found = tuple(problems)
    if found:
        raise PydanticCustomError(PLACED, "it does not fit the rest", {"problems": found})


class Rollout(_Section):
    """How a new revision takes over."""

    strategy: Literal["all_at_once", "blue_green"] = Field(
        "all_at_once",
        description="all_at_once, or blue_green: the old revision stays for bake_time, ready to take over again.",
    )
    bake_time: Duration = Field(
        timedelta(0), description="How long the old revision stays after the switch; for blue_green only."
    )
    keep_revisions: int = Field(
        5, ge=1, le=1000, description="How many revisions are kept to roll back to; older ones are deleted."
    )

    @field_validator("bake_time")
    @classmethod
    def _baked(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value and info.data.get("strategy", "blue_green") != "blue_green":
            raise ValueError("bake_time needs strategy: blue_green")
        return value


class Resources(_Section):
    """What a replica may use at most."""

    cpus: Annotated[int | float, Field(ge=LEAST_CPUS, le=MOST_CPUS)] | None = Field(
        None, allow_inf_nan=False, description="Processor cores, like 2 or 0.5."
    )
    memory: Size | None = Field(None, description="Memory, like 512Mi or 4Gi; more ends the replica.")


class LocalSettings(_Section):
    """Settings of the local provider."""

    allow_remote: bool = Field(
        default=False, description="Allow a host that other machines can reach; nobody there needs to log in."
    )
    host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
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
        if not _ADDRESS.fullmatch(value):
            raise ValueError(f"{value[:60]!r} is no address")
        if not info.data.get("allow_remote", True) and not _is_loopback(value):
            raise ValueError(f"{value} can be reached from other machines: that needs allow_remote: true")
        return value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Spec(_Section):
    """One model in production."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(description="Version of the spec language: 1.")
    name: str = Field(
        pattern=f"^{NAME}$",
        max_length=LONGEST_NAME,
        description="Name of the deployment; names of resources derive from it.",
    )
    provider: Literal["local"] = Field(description="Where it runs: local is this machine.")
    workspace: Annotated[Text, AfterValidator(_workspace)] | None = Field(
        None,
        description="Folder, s3:// or gs:// of lease, journal and revisions; .mlscale/ beside the spec if left out.",
    )
    labels: dict[LabelKey, LabelValue] = Field(
        {}, description="Labels on everything that is made, for cost allocation and ownership."
    )
    model: Model = Field(description="What is served.")
    endpoint: Endpoint = Field(Endpoint.model_construct(), description="How the model is served.")
    rollout: Rollout = Field(Rollout.model_construct(), description="How a new revision takes over.")
    local: LocalSettings = Field(LocalSettings.model_construct(), description="Settings of the local provider.")

    @property
    def in_containers(self) -> bool:
        """Whether a replica is a container."""
        return self.local.runtime == "docker" or (self.local.runtime is None and self.model.image is not None)

    @model_validator(mode="after")
    def _fits_runtime(self) -> Spec:
        if not self.in_containers:
            _refuse(_needs_containers(self))
        return self

    @field_validator("provider", mode="before")
    @classmethod
    def _here(cls, value: Any) -> Any:
        if isinstance(value, str) and value in PROVIDERS_TO_COME:
            raise ValueError(f"provider {value} is not available in this version; use local")
        return value


def _needs_containers(spec: Spec) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if spec.model.image is not None:
        yield ("local", "runtime"), "an image runs as a container: write docker, or leave it out"
    if spec.endpoint.accelerator is not None:
        yield (
            ("endpoint", "accelerator"),
            "a process sees every GPU of this machine; to give it some, write local: {runtime: docker}",
        )
    for key in ("cpus", "memory"):
        if getattr(spec.local.resources, key) is not None:
            yield (
                ("local", "resources", key),
                "a process has no limits of its own; to give it some, write local: {runtime: docker}",
            )
