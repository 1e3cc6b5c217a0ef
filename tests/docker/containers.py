"""Containers as a cloud would start them, seen from outside."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LABEL = "mlscale.test"
"""Marks every container of these tests."""

READY_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Container:
    """A container that runs; `port` is where its server answers on this machine."""

    handle: Any
    port: int

    def get(self, path: str) -> int:
        """Return the status of a GET, 0 if nothing answers."""
        return self._asked("GET", path, None)[0]

    def post(self, path: str, body: object) -> Any:
        """Return the JSON that a POST is answered with.

        Raises:
            AssertionError: it is not answered with 200.
        """
        status, answer = self._asked("POST", path, json.dumps(body))
        assert status == 200, (answer, self.log())
        return json.loads(answer)

    def await_ready(self, path: str = "/ping") -> None:
        """Return when `path` answers 200.

        Raises:
            AssertionError: it does not in time, or the container ended; with its log.
        """
        await_that(lambda: self.get(path) == 200 or self.has_ended(), "no answer")
        assert not self.has_ended(), self.log()

    def has_ended(self) -> bool:
        """Return whether its process is gone."""
        self.handle.reload()
        return str(self.handle.status) == "exited"

    def health(self) -> str:
        """Return what the engine's own check says: starting, healthy or unhealthy."""
        self.handle.reload()
        return str(self.handle.attrs["State"]["Health"]["Status"])

    def log(self) -> str:
        """Return what it wrote."""
        return str(self.handle.logs().decode(errors="replace"))

    def _asked(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


def await_that(is_so: Callable[[], bool], otherwise: str) -> None:
    """Return when `is_so`.

    Raises:
        AssertionError: it is not within READY_WITHIN_S.
    """
    limit = time.monotonic() + READY_WITHIN_S
    while not is_so():
        assert time.monotonic() < limit, otherwise
        time.sleep(0.05)


@contextmanager
def running(
    client: Any,
    image: str,
    *,
    environment: Mapping[str, str] | None = None,
    port: int = 8080,
    command: list[str] | None = None,
    **how: Any,
) -> Iterator[Container]:
    """Run `image` with no right that it does not need; it is gone at the end.

    Args:
        client: the engine's.
        image: a tag or an id.
        environment: its variables.
        port: where its server listens inside.
        command: the words after the entry point.
        how: other arguments of the SDK's `containers.run`.
    """
    is_hosts = how.get("network_mode") == "host"
    published = {} if is_hosts else {"ports": {f"{port}/tcp": ("127.0.0.1", None)}}
    handle = client.containers.run(
        image,
        command,
        detach=True,
        environment=dict(environment or {}),
        labels={LABEL: "1"},
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        **published,
        **how,
    )
    try:
        handle.reload()
        outside = port if is_hosts else int(handle.ports[f"{port}/tcp"][0]["HostPort"])
        yield Container(handle, outside)
    finally:
        handle.remove(force=True)
