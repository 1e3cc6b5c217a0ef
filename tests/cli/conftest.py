"""The command line in this process, over a provider in memory and a clock that nobody waits for."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlscale.cli.app import main
from mlscale.engine.session import World
from mlscale.state.store import open_store
from tests.doubles.fake_provider import FakeProvider
from tests.doubles.moved_clock import MovedClock

SPEC = """\
version: 1
name: reviews
provider: local
model: {source: model.bin, framework: custom}
endpoint: {replicas: {min: 1, max: 4}}
"""

_CHANGING = re.compile(r"\b[0-9a-f]{10}(?:[0-9a-f]{6})?\b|\b\d{8}T\d{6}-[0-9a-f]{6}\b")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    @property
    def data(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[Any]:
        """The JSON documents on stdout, one a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def error(self) -> Any:
        """The error, as JSON has it: the last line of stderr."""
        return json.loads(self.stderr.splitlines()[-1])["error"]


@dataclass(slots=True)
class Shell:
    """Runs commands in `folder`; the provider and the clock are a test's to set."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    setenv: Callable[[str, str], None]
    setstdin: Callable[[io.TextIOWrapper], None]
    provider: FakeProvider = field(default_factory=FakeProvider)
    clock: MovedClock = field(default_factory=MovedClock)

    def run(self, *words: str, stdin: str = "") -> Ran:
        """Return what `mlscale WORDS` printed."""
        self.setstdin(io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self.capsys.readouterr()
        code = main(words, self.world())
        printed = self.capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    def good(self, *words: str, stdin: str = "") -> Ran:
        """Return what a command printed that must work."""
        ran = self.run(*words, stdin=stdin)
        assert ran.code == 0, ran.stderr
        return ran

    def complete(self, line: str, shell: str = "bash") -> list[str]:
        """Return what the shell is offered for the last word of `line`."""
        self.setenv("_MLSCALE_COMPLETE", f"complete_{shell}")
        self.setenv("COMP_WORDS", line)
        self.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        self.capsys.readouterr()
        with pytest.raises(SystemExit):
            main((), self.world())
        printed = self.capsys.readouterr()
        assert printed.err == ""
        return printed.out.split()

    def world(self) -> World:
        """Return the outside."""
        return World(
            provider=lambda site: self.provider,  # noqa: ARG005 - there is one, wherever it is asked for
            store=open_store,
            clock=self.clock,
            variables={},
        )

    def write(self, name: str, text: str) -> Path:
        """Write a file into the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def settings(self, text: str) -> Path:
        """Write the user's own settings."""
        return self.write("config/mlscale/config.yaml", text)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell in a folder with a spec and its model, with none of the settings of whoever runs the tests."""
    for name in os.environ:
        if name.startswith("MLSCALE_") or name in ("CI", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    for name, value in (("NO_COLOR", "1"), ("COLUMNS", "80"), ("XDG_CONFIG_HOME", str(tmp_path / "config"))):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    shell = Shell(
        tmp_path,
        capsys,
        setenv=monkeypatch.setenv,
        setstdin=lambda stream: monkeypatch.setattr("sys.stdin", stream),
    )
    shell.write("spec.yaml", SPEC)
    shell.write("model.bin", "one")
    return shell


def steady(text: str, folder: Path) -> str:
    """Return `text` with what differs from run to run made the same: ids are numbered as they come, width kept."""
    numbers: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        word = found[0]
        if word not in numbers:
            count = len(numbers) + 1
            numbers[word] = f"{word[:16]}{count:06}" if "T" in word else f"{count:0{len(word)}}"
        return numbers[word]

    return _CHANGING.sub(numbered, text.replace(str(folder), "/here"))
