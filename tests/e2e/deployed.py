"""What is deployed in a test's folder, seen from outside; and a load on it that stops at nothing."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from mlscale.providers.local import records
from mlscale.providers.local.records import Observed, ObservedReplica
from tests.conftest import Cli

BODY = b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}'


def home(cli: Cli, name: str = "centroids") -> Path:
    """Return the folder of a deployment."""
    return cli.folder / ".mlscale" / "local" / name


def observed(cli: Cli, name: str = "centroids") -> Observed:
    """Return what the supervisor last saw."""
    found = records.read_observed(home(cli, name))
    assert found is not None
    return found


def replicas(cli: Cli) -> tuple[ObservedReplica, ...]:
    """Return the replicas of all revisions."""
    return tuple(replica for each in observed(cli).revisions for replica in each.replicas)


def status(cli: Cli, spec: str = "spec.yaml") -> dict[str, Any]:
    """Return what `mlscale status` says."""
    found: dict[str, Any] = json.loads(cli.run("status", spec, "--output", "json").stdout)
    return found


def change_spec(cli: Cli, changes: Mapping[str, Any]) -> None:
    """Change keys of the spec, each named by its path: `endpoint.replicas`."""
    path = cli.folder / "spec.yaml"
    spec = yaml.safe_load(path.read_text())
    for place, value in changes.items():
        *parents, last = place.split(".")
        section = spec
        for each in parents:
            section = section.setdefault(each, {})
        section[last] = value
    path.write_text(yaml.safe_dump(spec, sort_keys=False))


def new_version(cli: Cli, word: str) -> None:
    """Make the handler say `word` for setosa, which is another revision."""
    handler = cli.folder / "inference.py"
    lines = handler.read_text().splitlines()
    changed = [f'SPECIES = ("{word}", "versicolor", "virginica")' if "SPECIES =" in line else line for line in lines]
    handler.write_text("\n".join(changed) + "\n")


def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    """Return when `holds` is true; fail when it is not in time."""
    limit = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < limit, f"not within {within_s:g} s: {holds.__doc__ or holds}"
        time.sleep(0.05)


def exchange(address: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Return status and body of one GET, or of one POST of `body` as JSON."""
    place = urlsplit(address)
    with closing(http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)) as connection:
        connection.request("GET" if body is None else "POST", path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


@dataclass(slots=True)
class Answers:
    """What came back: how often each status (0 for none) by revision, the first failures, the slowest answer."""

    counts: dict[tuple[int, str], int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    begun: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return sum(self.counts.values()) / (self.ended - self.begun)

    @property
    def revisions(self) -> set[str]:
        """The revisions that answered."""
        return {revision for _, revision in self.counts if revision}


@contextmanager
def load(address: str, *, per_second: float, threads: int = 4) -> Iterator[Answers]:
    """Send requests at a steady rate until the block ends, and collect what came back."""
    answers, ending, lock = Answers(), threading.Event(), threading.Lock()
    place = urlsplit(address)

    def send() -> None:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        due = time.monotonic()
        while not ending.is_set():
            due += threads / per_second
            begun = time.monotonic()
            try:
                connection.request("POST", "/invocations", BODY, {"content-type": "application/json"})
                response = connection.getresponse()
                body, code = response.read(), response.status
                revision = response.getheader("x-mlscale-revision", "")
            except (OSError, http.client.HTTPException) as error:
                body, code, revision = repr(error).encode(), 0, ""
                connection.close()
            with lock:
                answers.counts[code, revision] = answers.counts.get((code, revision), 0) + 1
                answers.slowest_s = max(answers.slowest_s, time.monotonic() - begun)
                if code != http.HTTPStatus.OK and len(answers.failures) < 10:
                    answers.failures.append(f"{code}: {body[:200]!r}")
            ending.wait(max(0.0, due - time.monotonic()))
        connection.close()

    workers = [threading.Thread(target=send) for _ in range(threads)]
    for each in workers:
        each.start()
    try:
        yield answers
    finally:
        ending.set()
        for each in workers:
            each.join()
        answers.ended = time.monotonic()
