"""Autoscaling by the spec's policy, on real processes under a real load."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Cli
from tests.e2e.deployed import change_spec, exchange, home, load, new_version, observed, replicas, status, until

QUICK = {"scale_in_cooldown": "1s", "scale_out_cooldown": "1s"}


@pytest.fixture
def slow(custom: Cli) -> Cli:
    """The template `custom`, each prediction of which takes 0.2 s."""
    handler = custom.folder / "inference.py"
    pause = "def predict_fn(flowers, centroids):\n    import time; time.sleep(0.2)"
    handler.write_text(handler.read_text().replace("def predict_fn(flowers, centroids):", pause))
    return custom


def _scaled(cli: Cli, autoscaling: dict[str, Any], least: int = 1, most: int = 3) -> str:
    """Deploy with this policy and return the address."""
    change_spec(cli, {"endpoint.replicas": {"min": least, "max": most}, "endpoint.autoscaling": autoscaling})
    deployed = cli.run("deploy")
    assert deployed.returncode == 0, deployed.stderr
    return str(status(cli)["address"])


def _wanted(cli: Cli) -> int:
    return observed(cli).revisions[0].wanted


def _healthy(cli: Cli) -> int:
    return sum(each.health == "healthy" for each in replicas(cli))


def test_open_requests_bring_replicas_and_silence_removes_them(slow: Cli) -> None:
    """Eight open requests at two a replica want the maximum of three; without load one stays; no request fails."""
    address = _scaled(slow, {"target": [{"metric": "concurrency", "value": 2, **QUICK}]})

    with load(address, per_second=200, threads=8) as answers:
        until(lambda: _healthy(slow) == 3, within_s=40)
    until(lambda: len(replicas(slow)) == 1, within_s=40)

    assert answers.failures == []
    assert "replicas (concurrency" in (home(slow) / "supervisor.log").read_text()


def test_live_counts_outlive_a_label_a_revision_and_the_supervisor(slow: Cli) -> None:
    """What autoscaling has set is kept by a label change, by a new revision, and by a supervisor that takes over."""
    target = {"metric": "concurrency", "value": 2, "scale_out_cooldown": "1s", "scale_in_cooldown": "10m"}
    address = _scaled(slow, {"target": [target]})
    with load(address, per_second=200, threads=8):
        until(lambda: _healthy(slow) == 3, within_s=40)

    change_spec(slow, {"labels": {"team": "search"}})
    assert slow.run("deploy").returncode == 0
    assert (_wanted(slow), _healthy(slow)) == (3, 3)

    new_version(slow, "SETOSA")
    assert slow.run("deploy").returncode == 0
    assert [each["live"]["desired"] for each in status(slow)["revisions"]] == [3]
    time.sleep(12)
    assert _wanted(slow) == 3, "a whole window without a request, and yet the cooldown holds"

    os.kill(observed(slow).pid, signal.SIGKILL)
    assert slow.run("deploy").returncode == 0
    assert (_wanted(slow), _healthy(slow)) == (3, 3)


def test_requests_a_minute_bring_replicas(custom: Cli) -> None:
    """Over 60 requests a minute at 20 a replica want the maximum of three."""
    address = _scaled(custom, {"target": [{"metric": "invocations_per_replica", "value": 20, **QUICK}]})

    with load(address, per_second=20) as answers:
        until(lambda: _healthy(custom) == 3, within_s=40)

    assert answers.failures == []


def test_a_busy_processor_takes_steps(custom: Cli) -> None:
    """A step on cpu adds replicas while the model computes, and another one removes them when it rests."""
    handler = custom.folder / "inference.py"
    busy = "def predict_fn(flowers, centroids):\n    sum(range(3_000_000))"
    handler.write_text(handler.read_text().replace("def predict_fn(flowers, centroids):", busy))
    steps = [
        {"metric": "cpu", "above": "30%", "add": 1, "cooldown": "1s"},
        {"metric": "cpu", "below": "5%", "add": -1, "cooldown": "1s"},
    ]
    address = _scaled(custom, {"steps": steps}, most=2)

    with load(address, per_second=10, threads=2) as answers:
        until(lambda: _healthy(custom) == 2, within_s=40)
    until(lambda: len(replicas(custom)) == 1, within_s=40)

    assert answers.failures == []
    assert "(cpu above 30: +1)" in (home(custom) / "supervisor.log").read_text()


def test_scaling_in_takes_what_does_not_serve(custom: Cli) -> None:
    """Of two replicas the one that crashes again and again goes, though it is the older one."""
    handler = custom.folder / "inference.py"
    marker = custom.folder / "crash"
    handler.write_text(
        handler.read_text() + f"\nif __import__('os').path.exists({str(marker)!r}):\n    raise SystemExit(1)\n"
    )
    _scaled(custom, {}, least=2, most=2)
    older, newer = replicas(custom)
    marker.touch()
    os.kill(older.pid, signal.SIGKILL)
    until(lambda: replicas(custom)[0].health == "backing_off")

    _scaled(custom, {}, least=1, most=1)

    assert [(each.name, each.pid) for each in replicas(custom)] == [(newer.name, newer.pid)]
    assert custom.run("invoke", "--file", "request.json").returncode == 0


def test_a_schedule_sets_the_bounds(custom: Cli) -> None:
    """An entry that fired a minute ago holds from the start; another minimum in the spec comes at once."""
    fired = datetime.now(UTC) - timedelta(minutes=2)
    schedule = [{"cron": f"{fired.minute} {fired.hour} * * *", "min": 2}]
    _scaled(custom, {"schedule": schedule})

    until(lambda: _healthy(custom) == 2)

    change_spec(custom, {"endpoint.autoscaling": {}, "endpoint.replicas": 1})
    assert custom.run("deploy").returncode == 0
    assert len(replicas(custom)) == 1


def test_metrics_are_prometheus_text(custom: Cli) -> None:
    """`/metrics` parses: requests and durations by revision, replicas wanted and running."""
    address = _scaled(custom, {}, least=2, most=2)
    revision = status(custom)["revisions"][0]["revision"]["id"]
    for _ in range(5):
        assert custom.run("invoke", "--file", "request.json").returncode == 0

    text = exchange(address, "/metrics")[1].decode()
    families = {each.name: each for each in text_string_to_metric_families(text)}

    def values(name: str) -> dict[tuple[str, ...], float]:
        family = families[name]
        return {
            (each.name, *sorted(f"{key}={value}" for key, value in each.labels.items() if key != "le")): each.value
            for each in family.samples
        }

    assert values("mlscale_requests") == {("mlscale_requests_total", "code=200", f"revision={revision}"): 5.0}
    assert (
        values("mlscale_request_duration_seconds")["mlscale_request_duration_seconds_count", f"revision={revision}"]
        == 5.0
    )
    assert values("mlscale_replicas_wanted") == {("mlscale_replicas_wanted", f"revision={revision}"): 2.0}
    assert values("mlscale_replicas") == {("mlscale_replicas", "health=healthy", f"revision={revision}"): 2.0}


def test_logs_are_bounded(custom: Cli) -> None:
    """A replica that writes without end fills one file of ten megabytes and its predecessor, and no more."""
    handler = custom.folder / "inference.py"
    chatty = 'def predict_fn(flowers, centroids):\n    print("x" * 6_000_000, flush=True)'
    handler.write_text(handler.read_text().replace("def predict_fn(flowers, centroids):", chatty))
    _scaled(custom, {})
    logs = home(custom) / "logs"

    for _ in range(4):
        assert custom.run("invoke", "--file", "request.json").returncode == 0
        time.sleep(1.2)

    kept = {each.suffix: each.stat().st_size for each in logs.iterdir()}
    assert set(kept) == {".log", ".1"}
    assert sum(kept.values()) < 20_000_000
    assert custom.run("logs", "--tail", "1").returncode == 0
