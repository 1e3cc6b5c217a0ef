"""What tests share: commands run as a user runs them, and everything they started taken down."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
KEPT = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "DOCKER_HOST")
"""Variables of whoever runs the tests that a command gets."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites expected outputs, to be read like any other diff."""
    parser.addoption("--update-golden", action="store_true", help="Rewrite the outputs under tests/golden.")


@dataclass(frozen=True, slots=True)
class Golden:
    """Outputs that were read and found good, a file each under `tests/golden`."""

    update: bool

    def check(self, name: str, output: str) -> None:
        """Return if `output` is what the file `name` has; rewrite the file where that was asked for."""
        path = GOLDEN / name
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(output)
        assert output == (path.read_text() if path.exists() else f"no {path}: write it with --update-golden")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """The outputs that were read and found good."""
    return Golden(update=bool(request.config.getoption("--update-golden")))


@dataclass(frozen=True, slots=True)
class Cli:
    """`mlscale`, run in a folder of its own with nothing of the caller's settings."""

    folder: Path

    def run(self, *words: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Return what the command printed and its exit code; it may take a minute."""
        return subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *words: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Return the command while it runs."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *words: str) -> list[str]:
        """Return the words of the process."""
        return [sys.executable, "-c", "import sys; from mlscale.cli.start import main; sys.exit(main())", *words]

    def environment(self, more: dict[str, str] | None) -> dict[str, str]:
        """Return a small fixed environment: 80 columns, no color, no settings of whoever runs the tests."""
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        fixed = {"COLUMNS": "80", "NO_COLOR": "1", "HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        return {**kept, **fixed, **(more or {})}


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """The command line in an empty folder; deployments made there are destroyed at the end."""
    cli = Cli(tmp_path)
    yield cli
    for spec in tmp_path.glob("**/spec.yaml"):
        if (spec.parent / ".mlscale" / "local").is_dir():
            cli.run("destroy", str(spec), "--yes")


@pytest.fixture
def custom(cli: Cli) -> Cli:
    """The command line in a folder with the template `custom`, which needs no environment of its own."""
    shutil.copytree(
        ROOT / "templates" / "custom", cli.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".mlscale")
    )
    return cli
