"""The control API under /double/: what tests script, and what they look at. README.md has it in JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tests.doubles.aws import lifecycle, metrics, saved, scaling, surroundings, watching
from tests.doubles.aws.faults import Fault
from tests.doubles.aws.fleet import placed
from tests.doubles.aws.kill import Kill
from tests.doubles.aws.world import Answer, Json, Region, Script, float32

if TYPE_CHECKING:
    from tests.doubles.aws.application import Application

DEFAULT_ACCOUNT = "123456789012"
OUTCOMES = frozenset({"done", "rollback", "fail", "stuck", "rollback_failed"})
MOMENTS = frozenset({"create", "update", "weights", "now"})


class Unknown(Exception):
    """There is no such thing to control."""


def answer(application: Application, method: str, path: str, query: str, asked: Json) -> Any:
    """Return what the control API says.

    Raises:
        Unknown: it has no such word.
    """
    word = path.removeprefix("/double/").strip("/")
    words = {name: values[0] for name, values in parse_qs(query).items()}
    found = CONTROLS.get((method, word))
    if found is None:
        raise Unknown(f"{method} {path}")
    return found(application, words | asked)


def _region(application: Application, asked: Json) -> Region:
    region: str = asked.pop("region", "us-east-1")
    return application.world.region(asked.pop("account", DEFAULT_ACCOUNT), region)


def _reset(application: Application, _asked: Json) -> Json:
    application.reset()
    return {}


def _advance(application: Application, asked: Json) -> Json:
    application.world.clock.added_s += asked["seconds"]
    application.settle()
    return {"now": application.world.clock.now()}


def _save(application: Application, _asked: Json) -> Json:
    application.saved = saved.saved(application.world)
    return {}


def _restore(application: Application, _asked: Json) -> Json:
    application.restore()
    return {}


def _settings(application: Application, asked: Json) -> Json:
    settings = application.world.settings
    for name, value in asked.items():
        if name not in {field.name for field in dataclasses.fields(settings)}:
            raise ValueError(f"{name} is no setting")
        setattr(settings, name, value)
    return dataclasses.asdict(settings)


def _script(application: Application, asked: Json) -> Json:
    region = _region(application, asked)
    script = Script(**asked)
    if script.on not in MOMENTS:
        raise ValueError(f"{script.on} is not one of {', '.join(sorted(MOMENTS))}")
    if script.on == "now":
        _at_once(region, script)
        return {}
    if script.outcome not in OUTCOMES:
        raise ValueError(f"{script.outcome} is not one of {', '.join(sorted(OUTCOMES))}")
    application.world.scripts.append(script)
    return {}


def _at_once(region: Region, script: Script) -> None:
    """Do to an endpoint what happens to it without anybody asking."""
    endpoint = region.endpoints[script.endpoint.lower()]
    match script.outcome:
        case "release":
            lifecycle.release(region, endpoint)
        case "system_updating":
            lifecycle.begin(region, endpoint, "system", variants=endpoint.variants)
        case _:
            raise ValueError(f"{script.outcome} can't happen now: release or system_updating")


def _answers(application: Application, asked: Json) -> Json:
    key = (asked.pop("endpoint"), asked.pop("variant", ""))
    application.world.answers[key] = Answer(**asked)
    return {}


def _set_faults(application: Application, asked: Json) -> list[Json]:
    application.faults.rules = [Fault(**rule) for rule in asked["rules"]]
    return _faults(application, {})


def _faults(application: Application, _asked: Json) -> list[Json]:
    return [dataclasses.asdict(rule) for rule in application.faults.rules]


def _journal(application: Application, _asked: Json) -> list[Json]:
    return application.journal


def _forget_journal(application: Application, _asked: Json) -> Json:
    application.journal.clear()
    return {}


def _unimplemented(application: Application, _asked: Json) -> list[str]:
    return sorted(application.unimplemented)


def _quotas(application: Application, asked: Json) -> Json:
    region = _region(application, asked)
    region.quotas.update(asked)
    return region.quotas


def _set_kill(application: Application, asked: Json) -> Json:
    application.kill = Kill(**asked)
    return application.kill.shown()


def _kill(application: Application, _asked: Json) -> Json:
    return application.kill.shown() if application.kill is not None else {}


def _move(application: Application, asked: Json) -> Json:
    """Change a live variant as autoscaling does."""
    region = _region(application, asked)
    endpoint = region.endpoints[asked["endpoint"].lower()]
    variant = endpoint.variant(asked["variant"])
    if variant is None:
        raise ValueError(f"{asked['endpoint']} has no variant {asked['variant']}")
    if "count" in asked:
        before, variant.count = variant.count, asked["count"]
        variant.pools = asked.get("pools") or placed(region, variant).pools
        resource = f"endpoint/{endpoint.name}/variant/{variant.name}"
        scaling.note_activity(region, resource, asked.get("cause", "moved by hand"), before, variant.count)
    if "weight" in asked:
        variant.weight = float32(asked["weight"])
    variant.serverless.update(asked.get("serverless", {}))
    return {"count": variant.count, "weight": variant.weight, "pools": variant.pools, "serverless": variant.serverless}


def _metrics(application: Application, asked: Json) -> Json:
    region = _region(application, asked)
    dimensions = {"EndpointName": asked["endpoint"], "VariantName": asked["variant"]}
    at = region.now() - asked.get("ago_s", 0.0)
    for name, values in asked["values"].items():
        metrics.put(region, asked.get("namespace", "AWS/SageMaker"), name, dimensions, values, at)
    return {}


def _expression(application: Application, asked: Json) -> Json:
    """Have an expression of metric math give these series, each of pairs of an age in seconds and a value."""
    region = _region(application, asked)
    series = [[((region.now() - ago) // 60 * 60, value) for ago, value in each] for each in asked["series"]]
    region.expressions[asked["expression"]] = series
    return {}


def _alarm(application: Application, asked: Json) -> Json:
    region = _region(application, asked)
    watching.set_state(region, region.alarms[asked["name"]], asked["state"], asked.get("reason", "set by hand"))
    return {}


def _resources(application: Application, asked: Json) -> Json:
    """Return all that exists and bills or could be left behind."""
    region = _region(application, asked)
    table: Json = {
        "models": {each.name: each.asked for each in region.models.values()},
        "endpoint_configs": {each.name: each.asked for each in region.configs.values()},
        "endpoints": {
            each.name: {
                "config": each.config_name,
                "status": each.status,
                "reason": each.reason,
                "variants": {
                    variant.name: {
                        "count": variant.count,
                        "weight": variant.weight,
                        "model": variant.asked.get("ModelName"),
                        "pools": variant.pools,
                        "serverless": variant.serverless,
                        **({"shadow": True} if variant.is_shadow else {}),
                    }
                    for variant in each.variants
                },
                "tags": region.tags.get(each.arn, {}),
            }
            for each in region.endpoints.values()
        },
        "scalable_targets": list(region.targets.values()),
        "scaling_policies": list(region.policies.values()),
        "scheduled_actions": list(region.actions.values()),
        "alarms": region.alarms,
        "dashboards": {name: each["DashboardBody"] for name, each in region.dashboards.items()},
        "log_groups": sorted(region.log_groups),
    }
    if "bucket" in asked:
        table["objects"] = surroundings.objects(region, asked["bucket"], asked.get("prefix", ""))
    return table


CONTROLS: dict[tuple[str, str], Callable[[Application, Json], Any]] = {
    ("POST", "reset"): _reset,
    ("POST", "save"): _save,
    ("POST", "restore"): _restore,
    ("POST", "advance"): _advance,
    ("POST", "settings"): _settings,
    ("POST", "script"): _script,
    ("POST", "answers"): _answers,
    ("POST", "faults"): _set_faults,
    ("GET", "faults"): _faults,
    ("GET", "journal"): _journal,
    ("DELETE", "journal"): _forget_journal,
    ("GET", "unimplemented"): _unimplemented,
    ("POST", "quotas"): _quotas,
    ("POST", "kill"): _set_kill,
    ("GET", "kill"): _kill,
    ("POST", "move"): _move,
    ("POST", "metrics"): _metrics,
    ("POST", "expression"): _expression,
    ("POST", "alarm"): _alarm,
    ("GET", "resources"): _resources,
}
