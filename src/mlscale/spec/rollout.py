"""The spec's language of rollouts: strategy, analysis, gates."""

# Without `from __future__ import annotations`: as texts, pydantic would read them one by one, a fiftieth of the time of
# `mlscale validate`.
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Literal, Self, TypeAlias

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mlscale.quantities import percent_text
from mlscale.spec.fields import (
    WHOLE_PERCENT,
    CloudWatchExpression,
    Duration,
    Lasting,
    Latency,
    Percentage,
    PromQl,
    Server,
    Token,
    Told,
    WebHook,
    Word,
)
from mlscale.spec.section import Misfit, Section, refuse


class Comparison(Section):
    """How a new revision is compared with the old one beside it."""

    margin: Percentage = Field(
        1.0,
        description="How much larger the new revision's share of bad requests may be for a promotion, in percentage "
        "points; it is stopped for being worse at all.",
    )


Compared: TypeAlias = bool | Comparison


class ErrorRate(Section):
    """Requests that fail."""

    max: Percentage | None = Field(None, description="How many may fail at most, whatever the old revision does.")
    no_worse_than_baseline: Compared = Field(
        default=True, description="Compare with the old revision: true, false, or {margin: 1%}."
    )


class SlowRequests(Section):
    """Requests that take long."""

    quantile: Literal["p50", "p90", "p95", "p99", "p99.9"] = Field(
        "p99", description="How many are to be faster than max: p99 lets one in a hundred be slower."
    )
    max: Latency = Field(description="What is slow: a request that takes longer, like 500ms.")
    no_worse_than_baseline: Compared = Field(
        default=True, description="Compare with the old revision: true, false, or {margin: 1%}."
    )


class PromQuery(Section):
    """What counts by PromQL, asked of a server with Prometheus's HTTP API."""

    server: Server = Field(
        repr=False, description="Its address, to which /api/v1/query_range is added, or env:NAME where it is secret."
    )
    token: Token | None = Field(None, description="env:NAME, the variable that has a bearer token for it.")
    bad: PromQl = Field(
        description="How many were bad in the minute before; $revision is the revision's id, $window is 1m."
    )
    all: PromQl = Field(description="Of how many.")


class CloudWatchQuery(Section):
    """What counts by CloudWatch's metric math, asked for as the endpoint's other metrics are."""

    bad: CloudWatchExpression = Field(
        description="How many were bad, by the minute; $variant is the revision's variant, $endpoint the endpoint."
    )
    all: CloudWatchExpression = Field(description="Of how many.")


class OwnMetric(Section):
    """A metric of your own: how many were bad, of how many, of each revision; by command, promql or cloudwatch."""

    name: Word = Field(description="What it is called in verdicts.")
    command: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Shell command that prints a line of JSON for the minute that MLSCALE_START and MLSCALE_END name: "
        '{"baseline": {"bad": 3, "of": 540}, "candidate": {"bad": 0, "of": 60}}.',
    )
    promql: PromQuery | None = Field(None, description="Queries of a server with Prometheus's HTTP API instead.")
    cloudwatch: CloudWatchQuery | None = Field(
        None, description="Expressions of CloudWatch instead; for provider: sagemaker only."
    )
    max: Percentage | None = Field(None, description="How many may be bad at most, whatever the old revision does.")
    no_worse_than_baseline: Compared = Field(
        default=True, description="Compare with the old revision: true, false, or {margin: 1%}."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [key for key in ("command", "promql", "cloudwatch") if getattr(self, key) is not None]
        if not ways:
            raise ValueError("a metric has command, promql or cloudwatch")
        refuse(((key,), f"a metric counts in one way, and has {ways[0]} already") for key in ways[1:])
        return self


class Analysis(Section):
    """What a new revision is judged by while it has a share of the traffic."""

    error_rate: ErrorRate | None = Field(
        ErrorRate.model_construct(), description="Requests that fail; null looks at none."
    )
    latency: SlowRequests | None = Field(None, description="Requests that take longer than a bound.")
    custom: tuple[OwnMetric, ...] = Field((), max_length=10, description="Metrics of your own.")
    false_alarm: Percentage = Field(
        1.0, description="The chance, at most, that a revision is stopped which is as good; all metrics together."
    )
    min_requests: int = Field(
        200, ge=0, le=1_000_000_000, description="Requests of the new revision that a promotion takes; none for a stop."
    )
    on_inconclusive: Literal["hold", "roll_back"] = Field(
        "hold", description="What to do when the deadline comes before a verdict."
    )

    @model_validator(mode="after")
    def _some(self) -> Self:
        refuse(_unjudged(self))
        return self


def _unjudged(analysis: Analysis) -> Iterator[Misfit]:
    """Yield what would be judged by nothing, or by two of one name."""
    if analysis.error_rate is None and analysis.latency is None and not analysis.custom:
        yield ("error_rate",), "there must be something to judge by: error_rate, latency or custom"
    if analysis.error_rate and analysis.error_rate.max is None and not analysis.error_rate.no_worse_than_baseline:
        yield ("error_rate",), "it is judged by nothing: write max, or no_worse_than_baseline: true"
    names = ["error_rate", "latency", *(each.name for each in analysis.custom)]
    for number, each in enumerate(analysis.custom):
        if each.name in names[: number + 2]:
            yield ("custom", number, "name"), f"{each.name} is there twice"
        if each.max is None and not each.no_worse_than_baseline:
            yield ("custom", number), "it is judged by nothing: write max, or no_worse_than_baseline: true"


class Gate(Section):
    """Somebody who is asked, or told: a command or an address."""

    command: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Shell command, run where the spec is: exit code 0 opens, 75 says not yet, any other refuses.",
    )
    url: WebHook | None = Field(
        None,
        repr=False,
        description="Address that gets a POST, or env:NAME where it is secret: a status of 200 to 299 opens, 409, 425, "
        "429 and 503 say not yet, any other refuses.",
    )
    timeout: Lasting = Field(timedelta(seconds=30), description="How long an answer may take; later it is a refusal.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("a gate has either command or url")
        return self


class Gates(Section):
    """Who is asked before a rollout goes on; all of a list have to open."""

    before: tuple[Gate, ...] = Field((), max_length=10, description="Asked before anything is done.")
    before_step: tuple[Gate, ...] = Field((), max_length=10, description="Asked before each share.")
    during: tuple[Gate, ...] = Field(
        (), max_length=10, description="Asked again and again while a share is watched; a refusal takes it back."
    )
    after_step: tuple[Gate, ...] = Field(
        (),
        max_length=10,
        description="Asked when a share has been watched for its interval, and the verdict is a pass.",
    )
    before_promotion: tuple[Gate, ...] = Field(
        (), max_length=10, description="Asked before the new revision gets all traffic."
    )
    after_promotion: tuple[Gate, ...] = Field((), max_length=10, description="Told that it has it; nothing is undone.")
    on_rollback: tuple[Gate, ...] = Field(
        (), max_length=10, description="Told that the old revision has all traffic again."
    )
    on_change: tuple[Gate, ...] = Field((), max_length=10, description="Told whatever happens in a rollout.")


class Rollout(Section):
    """How a new revision takes over."""

    strategy: Literal["all_at_once", "blue_green", "canary", "linear", "rolling", "shadow"] = Field(
        "all_at_once",
        description="all_at_once; blue_green: the old revision stays for bake_time, ready to take over again; canary: "
        "the new one gets the shares of steps, one after the other; linear: it gets step more each time; rolling: its "
        "replicas replace the old ones step by step; shadow: it gets copies of requests, and answers nobody.",
    )
    bake_time: Duration = Field(
        timedelta(0), description="How long the old revision stays after the switch; for blue_green only."
    )
    driver: Literal["auto", "weights", "native"] = Field(
        "auto",
        description="Who goes the steps of canary or linear: weights is mlscale, which compares the two revisions; "
        "native is the provider, which watches alarms; auto is weights where that can be.",
    )
    steps: tuple[Percentage, ...] = Field(
        (10.0, 50.0), min_length=1, max_length=20, description="Shares of the new revision; for canary only."
    )
    step: Percentage = Field(20.0, description="How much more it gets each time; for linear and rolling only.")
    mirror: Percentage = Field(100.0, description="How many requests are copied to it; for shadow only.")
    interval: Lasting = Field(timedelta(minutes=10), description="How long each share is watched, at least.")
    deadline: Lasting = Field(
        timedelta(hours=2), description="When a rollout without a verdict ends, as analysis.on_inconclusive says."
    )
    analysis: Analysis = Field(
        Analysis.model_construct(), description="What it is judged by; for a rollout whose steps mlscale goes."
    )
    gates: Gates = Field(Gates.model_construct(), description="Who is asked before a rollout goes on.")
    notify: tuple[Told, ...] = Field(
        (),
        max_length=5,
        repr=False,
        description="Who is told how it goes: topics of SNS, and addresses that get a POST which Slack understands, "
        "env:NAME for secret ones.",
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

    @field_validator("steps")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        refuse(
            ((number,), f"{percent_text(share)} is not more than the step before")
            for number, share in enumerate(value)
            if number and share <= value[number - 1]
        )
        refuse(
            ((number,), "it must be less than 100%, which is what a promotion gives")
            for number, share in enumerate(value)
            if share == WHOLE_PERCENT
        )
        return value

    @model_validator(mode="after")
    def _fits_strategy(self) -> Self:
        refuse(_other_strategies(self))
        return self


FOR_STRATEGY: Mapping[str, tuple[str, ...]] = {
    "driver": ("canary", "linear"),
    "steps": ("canary",),
    "step": ("linear", "rolling"),
    "mirror": ("shadow",),
    "interval": ("canary", "linear", "rolling", "shadow"),
    "deadline": ("canary", "linear", "shadow"),
    "analysis": ("canary", "linear", "shadow"),
    "gates": ("canary", "linear", "shadow"),
    "notify": ("canary", "linear", "shadow"),
}
"""Keys of `rollout` that mean something with some strategies only."""


def _other_strategies(rollout: Rollout) -> Iterator[Misfit]:
    """Yield what is there and belongs to another strategy."""
    for key, strategies in FOR_STRATEGY.items():
        default = Rollout.model_fields[key].default
        if rollout.strategy not in strategies and getattr(rollout, key) != default:
            yield (key,), f"it is for strategy: {' or '.join(strategies)}, and this is {rollout.strategy}"
        elif rollout.driver == "native" and key in ("gates", "notify") and getattr(rollout, key) != default:
            yield (key,), "with driver: native the provider goes the steps, and asks or tells nobody"
    if rollout.step == WHOLE_PERCENT:
        yield ("step",), "it must be less than 100%, or nothing is done step by step"
