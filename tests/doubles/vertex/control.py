"""The control API under /double/: what tests script, and what they look at. README.md has it in JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tests.doubles.aws.faults import Fault
from tests.doubles.vertex import deployments, endpoints, logs, metrics, saved
from tests.doubles.vertex.call import Kill
from tests.doubles.vertex.deployments import plain
from tests.doubles.vertex.world import Answer, Json, Region, Script, stamp

if TYPE_CHECKING:
    from tests.doubles.vertex.application import Application

OUTCOMES = frozenset({"done", "fail", "stuck", "ineffective"})
MOMENTS = frozenset({"create", "deploy", "undeploy", "mutate", "upload", "batch", "custom", "now"})
TARGETS = ("endpoint", "model", "job")


class Unknown(Exception):
    """There is no such thing to control."""


def answer(application: Application, method: str, target: str, asked: Json) -> Any:
    """Return what the control API says.

    Raises:
        Unknown: it has no such word.
    """
    path, _, query = target.partition("?")
    word = path.removeprefix("/double/").strip("/")
    words = {name: values[0] for name, values in parse_qs(query).items()}
    found = CONTROLS.get((method, word))
    if found is None:
        raise Unknown(f"{method} {path}")
    return found(application, words | asked)


def _region(application: Application, asked: Json) -> Region:
    region: str = asked.pop("region", "us-central1")
    return application.world.region(asked.pop("project", "acme-ml"), region)


def _endpoint(application: Application, asked: Json) -> tuple[Region, Any]:
    region = _region(application, asked)
    return endpoints.found(application.world, f"{region.place}/endpoints/{asked['endpoint']}")


def _reset(application: Application, _asked: Json) -> Json:
    application.reset()
    return {}


def _advance(application: Application, asked: Json) -> Json:
    application.world.clock.added_s += asked["seconds"]
    application.world.settle()
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
    target = next((asked.pop(name) for name in TARGETS if name in asked), "")
    script = Script(target, **asked)
    if script.on not in MOMENTS:
        raise ValueError(f"{script.on} is not one of {', '.join(sorted(MOMENTS))}")
    if script.on == "now":
        _release(application, script)
        return {}
    if script.outcome not in OUTCOMES:
        raise ValueError(f"{script.outcome} is not one of {', '.join(sorted(OUTCOMES))}")
    application.world.scripts.append(script)
    return {}


def _release(application: Application, script: Script) -> None:
    """Let what is under way at a resource end now, as if nothing had been scripted."""
    if script.outcome != "release":
        raise ValueError(f"{script.outcome} can't happen now: release")
    now = application.world.clock.now()
    for operation in application.world.operations.values():
        if not operation.done and operation.target.rpartition("/")[2] == script.target:
            operation.fails, operation.due = None, now
    application.world.settle()


def _answers(application: Application, asked: Json) -> Json:
    key = (asked.pop("endpoint"), asked.pop("deployed_model", ""))
    application.world.answers[key] = Answer(**asked)
    return {}


def _set_faults(application: Application, asked: Json) -> list[Json]:
    application.faults.rules = [Fault(**rule) for rule in asked["rules"]]
    return _faults(application, {})


def _faults(application: Application, _asked: Json) -> list[Json]:
    return [dataclasses.asdict(rule) for rule in application.faults.rules]


def _journal(application: Application, _asked: Json) -> list[Json]:
    return application.shown_journal()


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
    """Change a live deployed model as autoscaling does."""
    region, endpoint = _endpoint(application, asked)
    deployed = deployments.of(endpoint, asked["deployed_model"])
    if deployed is None:
        raise ValueError(f"{asked['endpoint']} has no deployed model {asked['deployed_model']}")
    deployed.status.available_replica_count = asked["count"]
    deployed.status.message = asked.get("message", deployed.status.message)
    stamp(deployed.status.last_update_time, region.now())
    return {"count": deployed.status.available_replica_count}


def _metrics(application: Application, asked: Json) -> Json:
    region, endpoint = _endpoint(application, asked)
    deployed = deployments.of(endpoint, asked["deployed_model"])
    deployed_id = deployed.id if deployed is not None else asked["deployed_model"]
    at = region.now() - asked.get("ago_s", 0.0)
    for name, values in asked["values"].items():
        spread = name.endswith("latencies")
        for each in [values] if spread else [[value] for value in values]:
            metrics.put_online(region, asked["endpoint"], deployed_id, name, each, at, more=asked.get("labels", {}))
    return {}


def _log(application: Application, asked: Json) -> Json:
    """Let a container print."""
    region, endpoint = _endpoint(application, asked)
    deployed = deployments.of(endpoint, asked["deployed_model"])
    logs.write_container(region, endpoint, deployed, asked["lines"], severity=asked.get("severity", "INFO"))
    return {}


def _objects(application: Application, asked: Json) -> Json:
    """Write an object without a call."""
    bucket, _, key = asked["uri"].removeprefix("gs://").partition("/")
    application.world.buckets.by_name[bucket].put(key, asked["data"].encode("latin-1"))
    return {}


def _resources(application: Application, asked: Json) -> Json:
    """Return all that exists and bills or could be left behind."""
    region = _region(application, asked)
    project = region.project
    table: Json = {
        "models": {name: plain(each) for name, each in region.models.items()},
        "endpoints": {name: _shown(each) for name, each in region.endpoints.items()},
        "operations": {
            each.name: {"method": each.method, "done": each.done, "error": each.error}
            for each in application.world.operations.values()
            if each.name.startswith(f"{region.place}/")
        },
        "batch_jobs": {name: plain(each) for name, each in region.batch_jobs.items()},
        "custom_jobs": {name: plain(each) for name, each in region.custom_jobs.items()},
        "alert_policies": {name: plain(each) for name, each in project.policies.items()},
        "channels": {name: plain(each) for name, each in project.channels.items()},
        "dashboards": {name: plain(each) for name, each in project.dashboards.items()},
        "buckets": sorted(application.world.buckets.by_name),
    }
    if "bucket" in asked:
        bucket = application.world.buckets.by_name.get(asked["bucket"])
        keys = bucket.objects if bucket is not None else {}
        table["objects"] = {key: len(keys[key][1]) for key in sorted(keys) if key.startswith(asked.get("prefix", ""))}
    return table


def _shown(endpoint: Any) -> Json:
    """Return an endpoint with what tests look at first."""
    return {
        "display_name": endpoint.display_name,
        "labels": dict(endpoint.labels),
        "traffic_split": dict(endpoint.traffic_split),
        "etag": endpoint.etag,
        "deployed_models": {
            each.id: {
                "display_name": each.display_name,
                "model": each.model.rpartition("/")[2],
                "machine": each.dedicated_resources.machine_spec.machine_type,
                "accelerators": each.dedicated_resources.machine_spec.accelerator_count,
                "min": each.dedicated_resources.min_replica_count,
                "max": each.dedicated_resources.max_replica_count,
                "available": each.status.available_replica_count,
                "spot": each.dedicated_resources.spot,
            }
            for each in endpoint.deployed_models
        },
    }


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
    ("POST", "log"): _log,
    ("POST", "objects"): _objects,
    ("GET", "resources"): _resources,
}
