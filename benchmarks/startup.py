"""How long the command line takes to start, against named peers in the same run.

`mlscale --help` against a bare Typer app with two commands and its default help, `mlscale validate` against importing
what any such tool imports, and what a command for Vertex AI imports against Google's high-level package for it. Rounds
are interleaved and a ratio is taken within each round, so that a machine that is busy for a while slows both sides.

    python benchmarks/startup.py [--rounds 20]

Exits 1 if a median ratio is above its target.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("MLSCALE_", "PYTHON"))}
"""Without PYTHONDONTWRITEBYTECODE: with it, a checkout that was edited is compiled anew at every start."""

BARE_APP = '''\
import typer

app = typer.Typer()


@app.command()
def hello(name: str) -> None:
    """Say hello."""
    print(name)


@app.command()
def goodbye(name: str, formal: bool = False) -> None:
    """Say goodbye."""
    print(name, formal)


app()
'''

VERTEX = """
import google.cloud.aiplatform_v1, google.cloud.monitoring_dashboard_v1, google.cloud.monitoring_v3, grpc, obstore.store
import mlscale.cli.app, mlscale.engine.apply, mlscale.providers.vertex.client
"""
"""What `mlscale deploy` loads where the provider is vertex, `logs` and `doctor` apart."""


@dataclass(frozen=True)
class Comparison:
    """Two command lines, and how much longer than the peer ours may take."""

    name: str
    ours: Sequence[str]
    peer_name: str
    peer: Sequence[str]
    target: float


@dataclass(frozen=True)
class Result:
    """Medians over the rounds: milliseconds a side, and the ratio within a round."""

    comparison: Comparison
    ours_ms: float
    peer_ms: float
    ratio: float


def comparisons(folder: Path) -> Sequence[Comparison]:
    """Return what is compared; the peer app is written into `folder`."""
    bare = folder / "bare.py"
    bare.write_text(BARE_APP)
    mlscale = shutil.which("mlscale", path=str(Path(sys.executable).parent)) or "mlscale"
    return (
        Comparison(
            "mlscale --help", (mlscale, "--help"), "bare Typer app --help", (sys.executable, str(bare), "--help"), 1.0
        ),
        Comparison(
            "mlscale validate",
            (mlscale, "validate", str(ROOT / "templates" / "sklearn" / "spec.yaml")),
            "import typer, yaml, pydantic",
            (sys.executable, "-c", "import typer, yaml, pydantic"),
            1.5,
        ),
        Comparison(
            "imports for vertex",
            (sys.executable, "-c", VERTEX),
            "import google.cloud.aiplatform",
            (sys.executable, "-c", "import google.cloud.aiplatform"),
            0.75,
        ),
    )


def milliseconds(command: Sequence[str]) -> float:
    """Return how long `command` takes, from start to exit.

    Raises:
        CalledProcessError: it did not exit with 0, so its time means nothing.
    """
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return (time.perf_counter() - start) * 1000


def measured(comparison: Comparison, rounds: int) -> Result:
    """Return the medians of `rounds` rounds, each side first in every other one; one round before is not counted."""
    pairs: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        if number % 2:
            ours, peer = milliseconds(comparison.ours), milliseconds(comparison.peer)
        else:
            peer, ours = milliseconds(comparison.peer), milliseconds(comparison.ours)
        pairs.append((ours, peer))
    counted = pairs[1:]
    return Result(
        comparison,
        ours_ms=statistics.median(ours for ours, _ in counted),
        peer_ms=statistics.median(peer for _, peer in counted),
        ratio=statistics.median(ours / peer for ours, peer in counted),
    )


def main() -> int:
    """Print a row per comparison; return 1 if one is slower than its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20, help="how often each side is started")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        results = [measured(each, rounds) for each in comparisons(Path(folder))]
    print(f"{'ours':<18} {'ms':>6}  {'peer':<30} {'ms':>6}  {'ratio':>5}  {'target':>6}")
    for each in results:
        verdict = "ok" if each.ratio <= each.comparison.target else "too slow"
        print(
            f"{each.comparison.name:<18} {each.ours_ms:>6.0f}  {each.comparison.peer_name:<30} {each.peer_ms:>6.0f}  "
            f"{each.ratio:>5.2f}  {each.comparison.target:>6.2f}  {verdict}"
        )
    return int(any(each.ratio > each.comparison.target for each in results))


if __name__ == "__main__":
    sys.exit(main())
