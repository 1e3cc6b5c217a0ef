"""Tutorial and guides, as they are printed: commands are run, and print on stdout what the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.documents import DOCS, Block, blocks, commands

CLIENTS = [block for block in blocks(DOCS / "guides" / "clients.md") if block.language == "python"]

VARIES = (
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://ADDRESS"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\b\d{8}T\d{6}-[0-9a-f]{6}\b"), "RUN"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "DIGEST"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{10}\b"), "REVISION"),
)
"""What is another at each run, and what it is compared as."""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """The environment of somebody who has just installed mlscale; what is deployed there is destroyed at the end."""
    programs = Path(sys.executable).parent
    kept = {name: os.environ[name] for name in os.environ if name.startswith(("UV_", "PIP_", "SSL_", "LANG", "TMPDIR"))}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = {**kept, "PATH": path, "HOME": str(tmp_path), "COLUMNS": "100", "CI": "1", "NO_COLOR": "1"}
    yield environment
    for spec in tmp_path.glob("*/spec.yaml"):
        subprocess.run(["mlscale", "destroy", str(spec), "--yes"], env=environment, check=False, capture_output=True)


def test_the_tutorial_prints_what_it_says(shell: Mapping[str, str], tmp_path: Path) -> None:
    """From `init` to `destroy`, the commands work in the order of the page."""
    folder = tmp_path
    for block in blocks(DOCS / "tutorial.md"):
        if block.saved_as:
            (folder / block.saved_as).write_text(block.text)
        elif block.language == "console":
            folder = _followed(block, folder, shell)

    assert folder == tmp_path / "iris"


def _followed(block: Block, folder: Path, environment: Mapping[str, str]) -> Path:
    """Return the folder after the commands of `block`, each of which printed what stands below it."""
    for command in commands(block):
        if command.words.startswith("cd "):
            folder /= command.words.removeprefix("cd ")
            continue
        done = subprocess.run(
            ["bash", "-c", command.words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}: {command.words}\n{done.stderr}"
        assert _fixed(done.stdout) == _fixed(command.output), f"{block}: {command.words}"
    return folder


def _fixed(text: str) -> str:
    for varies, fixed in VARIES:
        text = varies.sub(fixed, text)
    return text.strip()


@pytest.mark.parametrize("block", CLIENTS, ids=str)
def test_the_clients_in_the_guide_get_predictions(block: Block, custom: Cli) -> None:
    """Each example runs as it is printed, with nothing but the endpoint's address given to it."""
    if "google.cloud" in block.text:
        pytest.importorskip("google.cloud.aiplatform_v1", reason="it weighs 260 MB, so no group has it")
    assert custom.run("deploy", "--set", "name=iris").returncode == 0
    address = json.loads(custom.run("status", "--set", "name=iris", "--output", "json").stdout)["address"]
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}

    done = subprocess.run(
        [sys.executable, "-c", block.text],
        env=custom.environment({"ADDRESS": address, **keys}),
        capture_output=True,
        text=True,
        check=False,
    )

    assert custom.run("destroy", "--set", "name=iris", "--yes").returncode == 0
    assert (done.returncode, done.stderr) == (0, "")
    assert "setosa" in done.stdout
