"""How a container is made, and what an engine can't do, as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlscale.deployment import Content
from mlscale.providers.local.containers import arguments, has_nvidia, has_route, limits, refusals
from mlscale.providers.local.records import RevisionFile

BUILT = RevisionFile(python="", framework="custom", image="mlscale/a:1", is_built=True)
ENGINE: dict[str, Any] = {"NCPU": 4, "MemTotal": 2**33 + 5, "Runtimes": {"runc": {}}}
NVIDIA = ENGINE | {"Runtimes": {"runc": {}, "nvidia": {}}}
DEVICES = ENGINE | {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]}


def content(*machine: str) -> Content:
    """Return what runs in a container with these limits."""
    return Content("a1", "custom", image="mlscale/a:1", runtime="r1", machine=machine)


def test_a_container_has_no_right_that_it_does_not_need(tmp_path: Path) -> None:
    """All that it is made with, the contracts of both clouds included; what the spec does not limit has no limit."""
    how = BUILT.model_copy(update={"environment": {"A": "b", "AIP_HTTP_PORT": "1"}, "health_path": "/up"})

    assert arguments(how, tmp_path, published=False) == {
        "command": ["serve"],
        "environment": {
            "HOME": "/tmp",  # noqa: S108 - the container's own
            "A": "b",
            "AIP_HTTP_PORT": "8080",
            "AIP_HEALTH_ROUTE": "/up",
            "AIP_PREDICT_ROUTE": "/invocations",
            "SAGEMAKER_BIND_TO_PORT": "8080",
        },
        "read_only": True,
        "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # noqa: S108
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "healthcheck": {"test": ["NONE"]},
        "log_config": {"type": "json-file", "config": {"max-size": "10m", "max-file": "2"}},
        "use_config_proxy": False,
    }


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (("cpus=1.5",), {"nano_cpus": 1_500_000_000}),
        (("memory=2Gi",), {"mem_limit": 2**31, "memswap_limit": 2**31}),
        (("gpus=all",), {"device_requests": [{"count": -1, "capabilities": [["gpu"]]}]}),
        (("gpus=2",), {"device_requests": [{"count": 2, "capabilities": [["gpu"]]}]}),
    ],
)
def test_limits_and_gpus_are_asked_of_the_engine(
    machine: tuple[str, ...], expected: dict[str, Any], tmp_path: Path
) -> None:
    """What a content says of the machine, in the engine's units; memory without swap, GPUs as device requests."""
    plain = arguments(BUILT, tmp_path, published=False)

    made = arguments(BUILT.model_copy(update=limits(machine)), tmp_path, published=False)

    assert made == {**plain, **expected}


def test_an_image_of_others_finds_the_model_where_sagemaker_puts_it(tmp_path: Path) -> None:
    """The spec's model lies in /opt/ml/model, not to be written; an image of ours has it inside."""
    (tmp_path / "model").mkdir()
    others = BUILT.model_copy(update={"is_built": False})

    assert arguments(others, tmp_path, published=False)["volumes"] == {
        str(tmp_path / "model"): {"bind": "/opt/ml/model", "mode": "ro"}
    }
    assert "volumes" not in arguments(BUILT, tmp_path, published=False)


def test_where_there_is_no_way_to_a_container_its_port_is_on_loopback(tmp_path: Path) -> None:
    """A port that the system chooses, and no other address of the machine."""
    assert arguments(BUILT, tmp_path, published=True)["ports"] == {"8080/tcp": ("127.0.0.1", None)}


@pytest.mark.parametrize(
    ("info", "platform", "expected"),
    [
        ({"OperatingSystem": "Debian GNU/Linux 12"}, "linux", True),
        ({"OperatingSystem": "Debian GNU/Linux 12"}, "darwin", False),
        ({"OperatingSystem": "Docker Desktop"}, "linux", False),
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, "linux", False),
    ],
)
def test_an_engine_in_a_machine_of_its_own_has_no_way_to_its_containers(
    info: dict[str, Any], platform: str, *, expected: bool
) -> None:
    """Docker Desktop, a rootless engine, and any engine from another system than Linux."""
    assert has_route(info, platform) is expected


@pytest.mark.parametrize(
    ("info", "machine", "hook", "expected"),
    [
        (ENGINE, (), False, []),
        (ENGINE, ("cpus=4", "memory=8Gi"), False, []),
        (ENGINE, ("cpus=4.5", "memory=9Gi"), False, ["local.resources.cpus", "local.resources.memory"]),
        (ENGINE, ("gpus=all",), False, ["endpoint.accelerator"]),
        (ENGINE, ("gpus=all",), True, []),
        (NVIDIA, ("gpus=1",), False, []),
        (DEVICES, ("gpus=1",), False, []),
    ],
)
def test_what_the_engine_has_not_is_refused(
    info: dict[str, Any], machine: tuple[str, ...], expected: list[str], *, hook: bool
) -> None:
    """More cores or memory than it has, and GPUs where it knows neither NVIDIA's runtime, hook nor devices."""
    found = refusals(content(*machine), info, has_hook=hook)

    assert [each.path for each in found] == expected
    assert all(each.why and each.link for each in found)


def test_an_engine_that_says_nothing_of_gpus_has_none() -> None:
    """Older engines leave out what they do not know."""
    assert not has_nvidia({"Runtimes": None})
    assert has_nvidia(NVIDIA)
