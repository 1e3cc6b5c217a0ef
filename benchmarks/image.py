"""How large the serving image is, and how long it takes to build and to answer.

Each template is built with nothing of ours in the engine's cache, then with no change, with another handler or serving
code, and with another model, which is what happens most often. The first downloads packages from the index, so its time
is the network's as much as ours.

    python benchmarks/image.py [--rounds 3]

Exits 1 if a changed model takes ten seconds or more in any round.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml

from mlscale.deployment import Content
from mlscale.providers import artifact, docker_engine, image

ROOT = Path(__file__).parents[1]
TEMPLATES = ("custom", "onnx", "sklearn")
MOST_S = 10.0
TAG = "mlscale/benchmark"


def main() -> int:
    """Print the tables; 1 if a changed model took too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    head = f"seconds, medians of {rounds}"
    print(f"{head:<26}{'cold':>8}{'unchanged':>11}{'code':>8}{'model':>8}{'first answer':>14}")
    sizes: dict[str, docker_engine.Image] = {}
    slowest = 0.0
    for template in TEMPLATES:
        times = [_times(template, sizes) for _ in range(rounds)]
        slowest = max(slowest, *(each[3] for each in times))
        cold, unchanged, code, model, answer = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{template:<26}{cold:>8.1f}{unchanged:>11.2f}{code:>8.2f}{model:>8.2f}{answer:>14.2f}")
    print(f"\n{'MB':<26}" + "".join(f"{template:>10}" for template in TEMPLATES))
    for number, part in enumerate(("base", *(part for _, part in image.PARTS))):
        row = (sizes[template].layers[number].size for template in TEMPLATES)
        print(f"{part:<26}" + "".join(f"{size / 1e6:>10.1f}" for size in row))
    print(f"{'all':<26}" + "".join(f"{sizes[template].size / 1e6:>10.1f}" for template in TEMPLATES))
    return 1 if slowest >= MOST_S else 0


def _times(template: str, sizes: dict[str, docker_engine.Image]) -> tuple[float, float, float, float, float]:
    """Return the seconds of each kind of build, and from a container's start to its first answer."""
    tags = [f"{TAG}:{template}-{kind}" for kind in ("cold", "unchanged", "code", "model")]
    with _context(template) as folder:
        try:
            cold = _build(folder, tags[0])
            unchanged = _build(folder, tags[1])
            (folder / "runtime" / "mlscale" / "changed.py").write_text("")
            code = _build(folder, tags[2])
            (folder / "model" / "changed.txt").write_text("another")
            model = _build(folder, tags[3])
            found = docker_engine.inspect(tags[3])
            assert found is not None
            sizes[template] = found
            answer = _first_answer(tags[3])
        finally:
            for tag in tags:
                docker_engine.remove(tag)
    return cold, unchanged, code, model, answer


@contextmanager
def _context(template: str) -> Iterator[Path]:
    """Yield what a template's image is built from, with a line that no build had before."""
    source = ROOT / "templates" / template
    spec = yaml.safe_load((source / "spec.yaml").read_text())["model"]
    files = {"model": str(source / "model"), "handler": None, "requirements": None}
    files |= {name: str(source / spec[name]) for name in ("handler", "requirements") if name in spec}
    digests = {name: artifact.digest(Path(path)) for name, path in files.items() if path}
    content = Content(
        artifact=digests["model"],
        framework=spec["framework"],
        handler=digests.get("handler"),
        requirements=digests.get("requirements"),
        runtime=artifact.runtime_digest(),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image.write_context(folder, content, files)
        with (folder / "server.txt").open("a") as file:
            file.write(f"# {os.urandom(8).hex()}\n")
        yield folder


def _build(folder: Path, tag: str) -> float:
    begun = time.monotonic()
    docker_engine.build(folder, tag, {}, _nobody)
    return time.monotonic() - begun


def _nobody(text: str) -> None:
    del text


def _first_answer(tag: str) -> float:
    with closing(docker_engine.connected()) as client:
        begun = time.monotonic()
        container = client.containers.run(tag, ["serve"], detach=True, ports={"8080/tcp": ("127.0.0.1", None)})
        try:
            container.reload()
            port = int(container.ports["8080/tcp"][0]["HostPort"])
            while not _answers(port):
                assert time.monotonic() - begun < 60, container.logs().decode()
                time.sleep(0.01)
            return time.monotonic() - begun
        finally:
            container.remove(force=True)


def _answers(port: int) -> bool:
    connection: Any = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return bool(connection.getresponse().status == http.client.OK)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
