"""How an endpoint changes: what it is busy with, when that ends, and how."""

from __future__ import annotations

from tests.doubles.aws import logs
from tests.doubles.aws.fleet import without_capacity
from tests.doubles.aws.guardrails import alarm_that_fired
from tests.doubles.aws.world import IN_PROGRESS, Change, Endpoint, Json, Region, Script, Variant

STUCK_S = 86400.0
"""What a stuck change takes: nothing ends it but moving the clock by a day, or a script that says so."""

REASONS = {
    "ping": (
        "The primary container for production variant {variant} did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    ),
    "capacity": (
        "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
        "Please retry using a different ML instance type or after some time."
    ),
    "image": (
        "Please make sure all images included in the model for the production variant {variant} exist, and that the "
        "execution role used to create the model has permissions to access them."
    ),
}
"""Words of FailureReason by short name: # rule failure.ping, # rule failure.capacity, # rule failure.image."""

ALARM_REASON = "One or more alarms configured for the deployment went into alarm state: [{alarm}]"
STATUS_OF = {"create": "Creating", "update": "Updating", "weights": "Updating", "system": "SystemUpdating"}

STARTING = ("Starting the model server", "Loading the model", "Listening on port 8080")
FAILING = (
    "Starting the model server",
    "Loading the model",
    "Traceback (most recent call last):",
    "model failed to load",
)


def begin(
    region: Region,
    endpoint: Endpoint,
    kind: str,
    *,
    variants: list[Variant],
    config_name: str | None = None,
    config: Json | None = None,
    deployment: Json | None = None,
) -> None:
    """Start a change; how it ends may be scripted."""
    now = region.now()
    script = region.world.script(endpoint.name, kind) or Script(endpoint.name, kind, "done")
    if script.outcome == "done" and without_capacity(region, variants):
        # rule capacity.insufficient
        script = Script(endpoint.name, kind, "fail" if kind == "create" else "rollback", "capacity")
    delay = STUCK_S if script.outcome == "stuck" else region.world.settings.delay_s
    endpoint.change = Change(
        kind=kind,
        due=now + delay,
        started=now,
        config_name=config_name or endpoint.config_name,
        config=config or endpoint.config,
        variants=variants,
        outcome=script.outcome,
        reason=_reason(script, [each for each in variants if endpoint.variant(each.name) is None] or variants),
        deployment=deployment,
    )
    endpoint.status = STATUS_OF[kind]
    endpoint.modified = now
    if kind in {"create", "update"}:
        lines = script.lines or (STARTING if script.outcome in {"done", "stuck"} else FAILING)
        for variant in variants:
            logs.write_container(region, endpoint.name, variant.name, lines)


def _reason(script: Script, variants: list[Variant]) -> str:
    words = REASONS.get(script.reason or "ping", script.reason)
    return words.replace("{variant}", variants[0].name if variants else "")


def begin_delete(region: Region, endpoint: Endpoint) -> None:
    """Start to delete an endpoint."""
    now = region.now()
    due = now + region.world.settings.delay_s
    endpoint.change = Change("delete", due, now, endpoint.config_name, endpoint.config, endpoint.variants)
    endpoint.status = "Deleting"
    endpoint.modified = now


def settle(region: Region) -> None:
    """Let every change end whose time has come."""
    now = region.now()
    for endpoint in list(region.endpoints.values()):
        while endpoint.change is not None and endpoint.change.due <= now:
            _end(region, endpoint, endpoint.change)


def release(region: Region, endpoint: Endpoint) -> None:
    """Let a stuck change end now, as if nothing had been scripted."""
    if endpoint.change is not None:
        endpoint.change.outcome = "done"
        endpoint.change.due = region.now()


def _end(region: Region, endpoint: Endpoint, change: Change) -> None:
    endpoint.change = None
    endpoint.modified = change.due
    outcome = "done" if change.outcome == "stuck" else change.outcome
    alarm = alarm_that_fired(region, change.deployment) if change.kind == "update" and outcome == "done" else None
    if alarm is not None:
        # rule update.alarm-rollback
        outcome, change.reason = "rollback", ALARM_REASON.format(alarm=alarm)
    match change.kind, outcome:
        case "delete", _:
            del region.endpoints[endpoint.name.lower()]
            region.tags.pop(endpoint.arn, None)
        case "rollback", "rollback_failed":
            endpoint.status = "UpdateRollbackFailed"
        case (("rollback" | "system"), _):
            endpoint.status = "InService"
        case _, "done":
            _arrive(endpoint, change)
        case "create", _:
            # rule create.failed
            endpoint.status, endpoint.reason = "Failed", change.reason
        case _, "fail":
            # rule update.silent-failure
            endpoint.status, endpoint.reason = "InService", change.reason
        case _, _:
            # rule update.rollback
            endpoint.status, endpoint.reason = "RollingBack", change.reason
            due = change.due + region.world.settings.delay_s
            endpoint.change = Change(
                "rollback", due, change.due, endpoint.config_name, endpoint.config, endpoint.variants, outcome
            )


def _arrive(endpoint: Endpoint, change: Change) -> None:
    endpoint.status, endpoint.reason = "InService", ""
    endpoint.config_name, endpoint.config, endpoint.variants = change.config_name, change.config, change.variants
    if change.kind == "update":
        endpoint.deployment = change.deployment


def is_busy(endpoint: Endpoint) -> bool:
    """Return whether a change is under way."""
    return endpoint.status in IN_PROGRESS
