"""The spec's language: what a user may write, each key with its meaning."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from mlscale.deployment import Kind, Metric
from mlscale.quantities import duration_of, duration_text, percent_of

NAME = r"[a-z](-?[a-z0-9]){0,39}"
LONGEST_NAME = 40
FRAMEWORKS = ("onnx", "sklearn", "xgboost", "lightgbm", "custom")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LONGEST_LABEL = 63


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return duration_of(value)
    raise ValueError(f"{value!r} is not a duration: write it like 30s, 10m or 1h30m")


def _bound(value: object) -> object:
    if isinstance(value, str) and value.endswith("%"):
        return percent_of(value)
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration, json_schema_input_type=str),
    PlainSerializer(duration_text, return_type=str),
]
Bound = Annotated[float, BeforeValidator(_bound, json_schema_input_type=float | str), Field(allow_inf_nan=False)]


class _Section(BaseModel):
    """A mapping of the spec: frozen, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)


class Replicas(_Section):
    """Bounds of the replica count."""

    min: int = Field(1, ge=1, le=1000, description="Replicas that always run.")
    max: int = Field(1, ge=1, le=1000, description="Replicas that run at most; it caps what the endpoint may cost.")

    @model_validator(mode="after")
    def _ordered(self) -> Replicas:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self


class Target(_Section):
    """Keep a metric near a value by adding and removing replicas."""

    metric: Metric = Field(
        description="invocations_per_replica (requests a minute), concurrency (open requests) or cpu.", strict=False
    )
    value: Bound = Field(gt=0, description="The value to stay near, for each replica; cpu as a percentage like 70%.")
    scale_in_cooldown: Duration = Field(
        timedelta(minutes=5), description="How long after any change no replica is removed."
    )
    scale_out_cooldown: Duration = Field(
        timedelta(seconds=30), description="How long after adding replicas no more are added."
    )


class StepRule(_Section):
    """Add or remove replicas while a metric is beyond a bound."""

    metric: Metric = Field(description="The metric that is compared, for each replica.", strict=False)
    above: Bound | None = Field(None, description="Act while the metric is above this; cpu as a percentage like 85%.")
    below: Bound | None = Field(None, description="Act while the metric is below this.")
    add: int = Field(ge=-1000, le=1000, description="How many replicas to add; a negative number removes.")
    cooldown: Duration = Field(timedelta(minutes=1), description="How long after acting it does not act again.")

    @model_validator(mode="after")
    def _one_bound(self) -> StepRule:
        if (self.above is None) == (self.below is None):
            raise ValueError("write either above or below")
        if self.add == 0:
            raise ValueError("add 0 changes nothing")
        return self


class ScheduleEntry(_Section):
    """Other bounds from a time on."""

    cron: str = Field(description="When it begins: minute, hour, day of month, month, day of week.")
    timezone: str = Field("UTC", description="The time zone of the times, by its IANA name.")
    min: int | None = Field(None, ge=1, le=1000, description="Replicas that always run from then on.")
    max: int | None = Field(None, ge=1, le=1000, description="Replicas that run at most from then on.")

    @model_validator(mode="after")
    def _means_something(self) -> ScheduleEntry:
        from zoneinfo import ZoneInfo

        from croniter import croniter

        if self.min is None and self.max is None:
            raise ValueError("write min, max, or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        if len(self.cron.split()) != len(("minute", "hour", "day", "month", "weekday")) or not _is_cron(
            croniter, self.cron
        ):
            raise ValueError(f"{self.cron!r} is not a cron time: five fields, like 0 8 * * MON-FRI")
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{self.timezone!r} is no time zone: use a name like Europe/Berlin") from None
        return self


def _is_cron(croniter: Any, text: str) -> bool:
    try:
        return bool(croniter.is_valid(text))
    except (ValueError, KeyError, IndexError, OverflowError, AttributeError, TypeError):
        return False


class Autoscaling(_Section):
    """What moves the replica count between its bounds."""

    target: tuple[Target, ...] = Field((), description="Targets to track; the one that wants most replicas wins.")
    steps: tuple[StepRule, ...] = Field((), description="Steps to take beyond a bound.")
    schedule: tuple[ScheduleEntry, ...] = Field((), description="Bounds that change with the time.")


class HealthCheck(_Section):
    """How a replica shows that it can serve."""

    path: str = Field("/ping", pattern=r"^/[!-~]{0,200}$", description="Route that answers 200 when it can serve.")
    startup_timeout: Duration = Field(
        timedelta(minutes=10), description="How long a replica may take until it is healthy."
    )


class Model(_Section):
    """What is served."""

    source: str = Field(min_length=1, description="Folder, file or .tar.gz of the model, relative to the spec.")
    framework: Literal["onnx", "sklearn", "xgboost", "lightgbm", "custom"] = Field(
        description="Who loads it: onnx, sklearn, xgboost, lightgbm, or custom with a handler of your own."
    )
    framework_version: str | None = Field(None, description="Version of the framework, in quotes.")
    requirements: str | None = Field(
        None, description="requirements.txt for an environment of the model's own, made once per content."
    )
    handler: str | None = Field(
        None,
        description="Python file with SageMaker's model_fn, input_fn, predict_fn, output_fn, or a Predictor class.",
    )
    environment: dict[str, str] = Field({}, description="Environment variables of the replicas.")

    @model_validator(mode="after")
    def _variables(self) -> Model:
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is no name for an environment variable")
            if name.startswith(("MLSCALE_", "AIP_", "SAGEMAKER_")):
                raise ValueError(f"{name} is set by mlscale")
        return self


class Endpoint(_Section):
    """How it is served."""

    kind: Kind = Field(Kind.REALTIME, description="realtime: replicas that always run.", strict=False)
    replicas: Replicas = Field(Replicas(), description="A fixed count, or min and max.")
    autoscaling: Autoscaling = Field(Autoscaling(), description="What moves the count between min and max.")
    health: HealthCheck = Field(HealthCheck(), description="The health check of a replica.")

    @model_validator(mode="before")
    @classmethod
    def _fixed(cls, value: object) -> object:
        if isinstance(value, dict) and type(count := value.get("replicas")) is int:
            return {**value, "replicas": {"min": count, "max": count}}
        return value

    @model_validator(mode="after")
    def _room(self) -> Endpoint:
        scales = self.autoscaling.target or self.autoscaling.steps
        if scales and self.replicas.min == self.replicas.max and not self.autoscaling.schedule:
            raise ValueError("autoscaling has no room: replicas.max must be more than replicas.min")
        return self


class Rollout(_Section):
    """How a new revision takes over."""

    strategy: Literal["all_at_once", "blue_green"] = Field(
        "all_at_once", description="all_at_once, or blue_green: the old revision stays for the bake time."
    )
    bake_time: Duration = Field(
        timedelta(0), description="How long the old revision is kept, ready to take over again (blue_green)."
    )
    keep_revisions: int = Field(5, ge=1, le=1000, description="How many revisions can be rolled back to.")

    @model_validator(mode="after")
    def _baked(self) -> Rollout:
        if self.bake_time and self.strategy != "blue_green":
            raise ValueError("bake_time needs strategy: blue_green")
        return self


class LocalSettings(_Section):
    """Settings of the local provider."""

    host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(0, ge=0, le=65535, description="Port of the gateway; 0 lets the system choose one and keep it.")
    allow_remote: bool = Field(default=False, description="Allow an address that other machines can reach.")

    @model_validator(mode="after")
    def _reachable(self) -> LocalSettings:
        if not self.allow_remote and not _is_loopback(self.host):
            raise ValueError(f"{self.host} can be reached from other machines: that needs allow_remote: true")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Spec(_Section):
    """One model in production."""

    version: Literal[1] = Field(description="Version of the spec language: 1.")
    name: str = Field(pattern=f"^{NAME}$", description="Name of the deployment; names of resources derive from it.")
    provider: Literal["local"] = Field(description="Where it runs: local is this machine.")
    workspace: str | None = Field(
        None, description="Folder or s3:// or gs:// address of lease, journal and revisions; .mlscale/ beside the spec."
    )
    labels: dict[str, str] = Field({}, description="Labels on everything that is made: cost allocation, ownership.")
    model: Model = Field(description="What is served.")
    endpoint: Endpoint = Field(Endpoint(), description="How it is served.")
    rollout: Rollout = Field(Rollout(), description="How a new revision takes over.")
    local: LocalSettings = Field(LocalSettings(), description="Settings of the local provider.")

    @model_validator(mode="after")
    def _labelled(self) -> Spec:
        for key, value in self.labels.items():
            if not _LABEL.fullmatch(key):
                raise ValueError(f"label {key!r}: lower-case letters, digits, _ and -, beginning with a letter")
            if len(value) > LONGEST_LABEL:
                raise ValueError(f"label {key}: a value has {LONGEST_LABEL} characters at most")
        if len(self.name) > LONGEST_NAME:
            raise ValueError(f"name {self.name}: {LONGEST_NAME} characters at most, the environment included")
        return self


PROVIDERS_TO_COME = frozenset({"sagemaker", "vertex"})
