"""Replicas as containers of a Docker engine, on a private network of their deployment."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from mlscale.deployment import Content
from mlscale.errors import MlscaleError
from mlscale.providers import docker_engine
from mlscale.providers.contract import Progress, Refusal
from mlscale.providers.local.records import RevisionFile
from mlscale.providers.local.running import Launch, Running, end_text
from mlscale.quantities import size_of, size_text

HOME_LABEL, NAME_LABEL, REVISION_LABEL = "mlscale.home", "mlscale.name", "mlscale.revision"
PORT = 8080
MODEL = "/opt/ml/model"
"""Where SageMaker puts a model, and so where an image of others finds it."""

_NO_SERVE = re.compile(r"""exec: "serve": executable file not found|executable file [`']serve[`'] not found""")
"""What runc and crun say of an image that has no command `serve`, with which SageMaker starts one: Vertex AI starts it
as it is."""

LARGEST_LOG = "10m"
LONGEST_DRAIN_S = 40.0
"""What the supervisor gives a replica that is not wanted any more for its open requests and its end, and a little."""

TOOLKIT = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
LINK_TO_CONTAINERS = "https://docs.docker.com/engine/containers/resource_constraints/"


def limits(machine: Sequence[str]) -> Mapping[str, Any]:
    """Return what a container gets at most, as a revision's file has it, from a content's `machine`."""
    found: dict[str, Any] = dict(each.split("=", 1) for each in machine)
    if "cpus" in found:
        found["cpus"] = float(found["cpus"])
    if "memory" in found:
        found["memory"] = size_of(found["memory"])
    return found


def refusals(content: Content, info: Mapping[str, Any], *, has_hook: bool) -> tuple[Refusal, ...]:
    """Return what the engine that says `info` of itself can't do for `content`, each with its reason.

    Args:
        content: what shall run.
        info: the engine's own description, as `docker info` shows it.
        has_hook: whether NVIDIA's runtime hook is a command of this machine: the engine finds it unasked.
    """
    asked = limits(content.machine)
    found: list[Refusal] = []
    if asked.get("cpus", 0) > info["NCPU"]:
        found.append(Refusal("local.resources.cpus", f"the engine has {info['NCPU']} cores", LINK_TO_CONTAINERS))
    if asked.get("memory", 0) > info["MemTotal"]:
        has = size_text(info["MemTotal"] // 2**20 * 2**20)
        found.append(Refusal("local.resources.memory", f"the engine has {has}", LINK_TO_CONTAINERS))
    if "gpus" in asked and not (has_hook or has_nvidia(info)):
        runtimes = ", ".join(sorted(info.get("Runtimes") or ())) or "none"
        found.append(
            Refusal(
                "endpoint.accelerator",
                f"the Docker engine can't give GPUs to a container: of NVIDIA's runtime and devices it knows neither "
                f"(its runtimes: {runtimes}); install the NVIDIA Container Toolkit:",
                TOOLKIT,
            )
        )
    return tuple(found)


def has_nvidia(info: Mapping[str, Any]) -> bool:
    """Return whether an engine says that it knows NVIDIA's runtime, or NVIDIA's devices by CDI."""
    devices = [str(each.get("ID", "")) for each in info.get("DiscoveredDevices") or ()]
    return "nvidia" in (info.get("Runtimes") or {}) or any(each.startswith("nvidia.com/gpu") for each in devices)


def has_route(info: Mapping[str, Any], platform: str) -> bool:
    """Return whether this machine reaches the addresses of containers: not where the engine is in a machine of its own.

    Source: Docker Desktop's manual on networking; a rootless engine has its bridges in a namespace of its own.
    """
    is_rootless = any("rootless" in each for each in info.get("SecurityOptions") or ())
    return platform == "linux" and info.get("OperatingSystem") != "Docker Desktop" and not is_rootless


def arguments(how: RevisionFile, folder: Path, *, published: bool) -> dict[str, Any]:
    """Return how a container is made, in the words of the SDK's `containers.create`.

    Args:
        how: what of the revision matters.
        folder: the revision's.
        published: whether its port shall be one of this machine's loopback.
    """
    contract = {
        "AIP_HTTP_PORT": str(PORT),
        "AIP_HEALTH_ROUTE": how.health_path,
        "AIP_PREDICT_ROUTE": "/invocations",
        "SAGEMAKER_BIND_TO_PORT": str(PORT),
    }
    made: dict[str, Any] = {
        "command": ["serve"],
        "environment": {"HOME": "/tmp", **how.environment, **contract},  # noqa: S108 - the container's own
        "read_only": True,
        # Models that compile for the machine they are on load what they wrote there.
        "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # noqa: S108
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "healthcheck": {"test": ["NONE"]},  # the supervisor's checks are the ones that count
        "log_config": {"type": "json-file", "config": {"max-size": LARGEST_LOG, "max-file": "2"}},
        "use_config_proxy": False,
    }
    if (folder / "model").is_dir() and not how.is_built:
        made["volumes"] = {str(folder / "model"): {"bind": MODEL, "mode": "ro"}}
    if published:
        made["ports"] = {f"{PORT}/tcp": ("127.0.0.1", None)}
    if how.cpus is not None:
        made["nano_cpus"] = round(how.cpus * 10**9)
    if how.memory is not None:
        made["mem_limit"] = made["memswap_limit"] = how.memory
    if how.gpus is not None:
        count = -1 if how.gpus == "all" else int(how.gpus)
        made["device_requests"] = [{"count": count, "capabilities": [["gpu"]]}]
    return made


def remove_all(home: Path) -> None:
    """Remove every container of the deployment in `home`, whoever started it; none there is no error.

    Raises:
        ProviderFailed: the engine does not answer.
    """
    with closing(docker_engine.connected()) as client, docker_engine.errors_of("removing containers"):
        _remove_all(client, home)


def await_gone(home: Path, revision: str, tell: Progress) -> None:
    """Return when no container of `revision` is left in `home`, or when the longest drain is over.

    Raises:
        ProviderFailed: the engine does not answer.
        MlscaleError: what `tell` raises.
    """
    labels = [f"{HOME_LABEL}={home}", f"{REVISION_LABEL}={revision}"]
    begun = told = time.monotonic()
    with closing(docker_engine.connected()) as client, docker_engine.errors_of("looking for containers"):
        while client.api.containers(all=True, quiet=True, filters={"label": labels}):
            now = time.monotonic()
            if now > begun + LONGEST_DRAIN_S:
                return
            if now > told + 1.0:
                told = now
                tell(f"open requests of revision {revision} end ({now - begun:.0f} s)")
            time.sleep(0.1)


def _remove_all(client: Any, home: Path) -> None:
    from docker.errors import APIError, NotFound

    for each in client.api.containers(all=True, quiet=True, filters={"label": f"{HOME_LABEL}={home}"}):
        try:
            client.api.remove_container(each["Id"], force=True, v=True)
        except NotFound:
            continue
        except APIError as error:
            if error.status_code != docker_engine.CONFLICT:  # somebody else is removing it
                raise


def remove_network(home: Path) -> None:
    """Remove the network of the deployment in `home`, and what is left on it; none there is no error.

    Raises:
        ProviderFailed: the engine does not answer.
    """
    with closing(docker_engine.connected()) as client, docker_engine.errors_of("removing the network"):
        _remove_all(client, home)
        for each in _networks(client, home):
            client.api.remove_network(each)


def _networks(client: Any, home: Path) -> Sequence[str]:
    found = client.api.networks(filters={"label": f"{HOME_LABEL}={home}"})
    return [str(each["Id"]) for each in found]


class Containers:
    """Starts replicas as containers. The engine is asked for nothing before the first is wanted."""

    def __init__(self, home: Path, name: str) -> None:
        self._home = home
        self._name = name
        self._prefix = f"mlscale-{name}-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"
        self._has_route: bool | None = None
        self._lock = threading.Lock()

    async def start(self, launch: Launch) -> Running:
        """Return a container of the revision's image."""
        client, handle = await asyncio.to_thread(self._started, launch)
        return _Container(client, handle, launch, asyncio.get_running_loop(), has_route=bool(self._has_route))

    def _started(self, launch: Launch) -> tuple[Any, Any]:
        client = docker_engine.connected()
        try:
            with docker_engine.errors_of(f"starting a container of {launch.how.image}"):
                network = self._network(client)
                return client, self._run(client, network, launch)
        except BaseException:
            client.close()
            raise

    def _network(self, client: Any) -> str:
        """Return the deployment's network, made if it is not there."""
        with self._lock:
            if self._has_route is None:
                # What a supervisor before this one started and could not end any more.
                _remove_all(client, self._home)
                self._has_route = has_route(client.api.info(), sys.platform)
            found = _networks(client, self._home)
            if found:
                return found[0]
            made = client.api.create_network(
                self._prefix,
                driver="bridge",
                internal=self._has_route,
                labels={HOME_LABEL: str(self._home), NAME_LABEL: self._name},
                check_duplicate=True,
            )
            return str(made["Id"])

    def _run(self, client: Any, network: str, launch: Launch) -> Any:
        from docker.errors import APIError, ImageNotFound, NotFound

        name = f"{self._prefix}-{launch.name}"
        with suppress(NotFound):
            client.api.remove_container(name, force=True, v=True)
        labels = {HOME_LABEL: str(self._home), NAME_LABEL: self._name, REVISION_LABEL: launch.folder.name}
        made = arguments(launch.how, launch.folder, published=not self._has_route)
        made |= {"image": launch.how.image, "name": name, "network": network, "labels": labels}
        try:
            return _begun(client, made)
        except ImageNotFound as error:
            raise FileNotFoundError(errno.ENOENT, "the engine does not have it", launch.how.image) from error
        except APIError as error:
            if not _NO_SERVE.search(str(error.explanation)):
                raise
            return _begun(client, {**made, "command": None})


def _begun(client: Any, made: Mapping[str, Any]) -> Any:
    """Return a container that was started; one that does not start leaves nothing."""
    handle = client.containers.create(**made)
    try:
        handle.start()
        handle.reload()
    except BaseException:
        handle.remove(force=True, v=True)
        raise
    return handle


class _Container:
    """One container, and the threads that wait for it: the SDK knows no other way."""

    def __init__(
        self, client: Any, handle: Any, launch: Launch, loop: asyncio.AbstractEventLoop, *, has_route: bool
    ) -> None:
        self._client = client
        self._handle = handle
        self._launch = launch
        self._loop = loop
        self._ended: asyncio.Future[str] = loop.create_future()
        self.pid = _process_of(handle)
        self.host, self.port = _address(handle.attrs["NetworkSettings"], has_route=has_route)
        threading.Thread(target=self._follow, name=f"log of {launch.name}", daemon=True).start()

    async def ended(self) -> str:
        return await asyncio.shield(self._ended)

    async def end(self, timeout_s: float) -> None:
        await asyncio.to_thread(self._remove, timeout_s)

    def _follow(self) -> None:
        """Write what the container says into the replica's log until it has ended, and tell how."""
        from urllib3.exceptions import HTTPError

        try:
            with docker_engine.errors_of("following a container"), self._launch.log.open("ab", buffering=0) as log:
                for said in self._handle.logs(stream=True, follow=True):
                    with suppress(OSError):  # a full disk; the model still serves
                        log.write(said)
                self._handle.wait()
                self._handle.reload()
                how = _end_of(self._handle.attrs["State"], self._launch.how.memory)
        except (MlscaleError, HTTPError, OSError) as error:
            how = f"it is not seen any more: {error}"
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._tell, end_text(how, self._launch.log))

    def _tell(self, how: str) -> None:
        if not self._ended.done():
            self._ended.set_result(how)

    def _remove(self, timeout_s: float) -> None:
        from docker.errors import NotFound

        # What can't be removed now is removed before the next one of its name is made, or with the deployment.
        with suppress(MlscaleError), docker_engine.errors_of("ending a container"), suppress(NotFound):
            self._handle.stop(timeout=max(1, round(timeout_s)))
            self._handle.remove(force=True, v=True)
        self._client.close()


def _process_of(handle: Any) -> int:
    """Return the container's process as this system counts it, 0 if the engine is not of this system."""
    pid = int(handle.attrs["State"].get("Pid") or 0)
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return 0
    return pid if handle.id in groups else 0


def _address(settings: Mapping[str, Any], *, has_route: bool) -> tuple[str, int]:
    """Return where a container answers, an empty host if it has ended already."""
    if has_route:
        return next((str(each.get("IPAddress") or "") for each in settings["Networks"].values()), ""), PORT
    published = (settings.get("Ports") or {}).get(f"{PORT}/tcp")
    return ("127.0.0.1", int(published[0]["HostPort"])) if published else ("", PORT)


def _end_of(state: Mapping[str, Any], memory: int | None) -> str:
    code = int(state["ExitCode"])
    if state.get("OOMKilled"):
        return f"out of memory, its limit is {size_text(memory) if memory else 'the machine'}"
    by_signal = code - 128
    if by_signal in signal.Signals._value2member_map_:
        return f"ended by {signal.Signals(by_signal).name}"
    return f"ended with exit code {code}"
