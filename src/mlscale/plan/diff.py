"""What differs between two deployments, field by field, in the spec's words."""

from __future__ import annotations

from collections.abc import Mapping

from mlscale.deployment import (
    WHOLE,
    Auxiliary,
    Content,
    Deployment,
    Kind,
    ScheduledBounds,
    StepPolicy,
    TargetPolicy,
)
from mlscale.plan.steps import Change
from mlscale.quantities import duration_text

CONTENT = (
    ("artifact", "model.source"),
    ("framework", "model.framework"),
    ("framework_version", "model.framework_version"),
    ("handler", "model.handler"),
    ("requirements", "model.requirements"),
    ("image", "model.image"),
    ("runtime", "runtime"),
)


def changes(asked: Deployment | None, seen: Deployment | None) -> tuple[Change, ...]:
    """Return the fields of `asked` that `seen` has otherwise, in a fixed order.

    Live counts, replicas, address, facts and phase are never a difference: they move by themselves.
    """
    before = fields(seen) if seen else {}
    after = fields(asked) if asked else {}
    paths = [*before, *(path for path in after if path not in before)]
    return tuple(
        Change(path, before.get(path), after.get(path)) for path in paths if before.get(path) != after.get(path)
    )


def fields(deployment: Deployment) -> Mapping[str, str]:
    """Return every field that can be asked for, as text, in the order a reader expects."""
    found: dict[str, str] = {"endpoint.kind": deployment.kind.value}
    for served in deployment.revisions:
        found[f"revision {served.revision.id}"] = f"{served.role.value} {share_text(served.share)}"
    if deployment.stable:
        found |= content_fields(deployment.stable.revision.content)
    scaling = deployment.scaling
    if deployment.kind is not Kind.SERVERLESS:  # that has workers, and no say in how many
        found["endpoint.replicas"] = bounds_text(scaling.min, scaling.max)
    found |= {f"endpoint.autoscaling.target[{_metric_text(each)}]": _target_text(each) for each in scaling.target}
    found |= {f"endpoint.autoscaling.steps[{n}]": _step_text(each) for n, each in enumerate(scaling.steps)}
    found |= {f"endpoint.autoscaling.schedule[{n}]": _schedule_text(each) for n, each in enumerate(scaling.schedule)}
    found |= {f"{each.kind}s.{each.key}": _content_text(each) for each in deployment.auxiliaries}
    found |= {f"labels.{key}": value for key, value in sorted(deployment.labels.items())}
    found |= {_setting_path(deployment, key): value for key, value in sorted(deployment.settings.items())}
    return found


def _setting_path(deployment: Deployment, key: str) -> str:
    """Return where the spec has a setting: in the provider's section, or under `endpoint` if it belongs to a kind."""
    return f"{'endpoint' if '.' in key else deployment.identity.provider}.{key}"


def content_fields(content: Content) -> dict[str, str]:
    """Return what a revision is made of, as text; what is not set is left out."""
    found = {path: str(getattr(content, name)) for name, path in CONTENT if getattr(content, name)}
    found |= {f"model.environment.{key}": value for key, value in sorted(content.environment.items())}
    if content.machine:
        found["endpoint.machine"] = ", ".join(content.machine)
    found["endpoint.health.path"] = content.health.path
    found["endpoint.health.startup_timeout"] = duration_text(content.health.startup_timeout)
    return found


def share_text(share: int) -> str:
    """Return a share of basis points as percent, without needless digits: 10000 → `100%`, 1250 → `12.5%`."""
    return f"{share * 100 / WHOLE:g}%"


def share_changes(asked: Deployment, seen: Deployment | None) -> tuple[Change, ...]:
    """Return the shares that shift; those that come last are new."""
    before, after = (_shares(each) if each else {} for each in (seen, asked))
    paths = [*before, *(each for each in after if each not in before)]
    return tuple(
        Change(f"revision {each}", share_text(before.get(each, 0)), share_text(after.get(each, 0)))
        for each in paths
        if before.get(each, 0) != after.get(each, 0)
    )


def _shares(deployment: Deployment) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in deployment.revisions:  # a revision may be there twice
        found[each.revision.id] = found.get(each.revision.id, 0) + each.share
    return found


def replicas_text(count: int) -> str:
    """Return a count of replicas in words: `1 replica`, `3 replicas`."""
    return "1 replica" if count == 1 else f"{count} replicas"


def bounds_text(least: int, most: int) -> str:
    """Return bounds of a count: `2` where it is fixed, else `2 to 10`."""
    return str(least) if least == most else f"{least} to {most}"


def value_text(value: str | None) -> str:
    """Return a field's value so that one that is empty can be told from one that is absent."""
    return "nothing" if value is None else value or '""'


def number_text(number: float) -> str:
    """Return a number with all of its digits, so that two that differ read differently: 4.0 → `4`."""
    return f"{number:.0f}" if number == int(number) else repr(number)


def _metric_text(policy: TargetPolicy) -> str:
    return f"{policy.custom.namespace} {policy.custom.name}" if policy.custom else policy.metric.value


def _target_text(policy: TargetPolicy) -> str:
    cooldowns = f"in {duration_text(policy.scale_in_cooldown)}, out {duration_text(policy.scale_out_cooldown)}"
    custom = policy.custom
    of = ", ".join(f"{key} {value}" for key, value in sorted(custom.dimensions.items())) if custom else ""
    metric = f"{custom.statistic} of {of or 'all'} at " if custom else ""
    return f"{metric}{number_text(policy.value)} (cooldown {cooldowns})"


def _content_text(auxiliary: Auxiliary) -> str:
    return ", ".join(f"{key} {value}" for key, value in auxiliary.content.items())


def _step_text(policy: StepPolicy) -> str:
    bounds = (("above", policy.above), ("below", policy.below))
    bound = " ".join(f"{word} {number_text(number)}" for word, number in bounds if number is not None)
    return f"{policy.metric} {bound}: {policy.add:+d} (cooldown {duration_text(policy.cooldown)})"


def _schedule_text(entry: ScheduledBounds) -> str:
    bounds = ", ".join(f"{word} {n}" for word, n in (("min", entry.min), ("max", entry.max)) if n is not None)
    return f"{entry.cron} {entry.timezone}: {bounds}"
