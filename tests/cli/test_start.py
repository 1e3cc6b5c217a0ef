"""A plain `validate`, which does without Typer: the same to its user as through Typer."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest

from mlscale.cli.app import main as through_typer
from mlscale.cli.start import plain_check, run
from tests.cli.conftest import SPEC, Ran, Shell
from tests.conftest import Cli

TYPERS = "import sys; from mlscale.cli import app, outcome; outcome.set_up_process(); sys.exit(app.main(sys.argv[1:]))"
BAD = "version: 1\nname: Reviews\nprovider: lokal\nmodel: {source: model.bin, framwork: custom}\n"

PLAIN = [
    ["validate"],
    ["validate", "spec.yaml"],
    ["validate", "./models/../spec.yaml"],
    ["validate", "models"],
    ["validate", "models/"],
    ["validate", "empty"],
    ["validate", "closed.yaml"],
    ["validate", "bad.yaml"],
    ["validate", "bad.yaml", "--output", "json"],
    ["validate", "missing.yaml"],
    ["validate", "missing.yaml", "-o", "jsonl"],
    ["validate", "spec.yaml/spec.yaml"],
    ["validate", "a" * 300],
    ["validate", "ä→.yaml"],
    ["validate", "-"],
    ["validate", "-", "-o", "json"],
    ["validate", "variable.yaml"],
    ["validate", "--env", "prod"],
    ["validate", "--env", "prod", "models/mlscale.yaml"],
    ["validate", "models", "--env", "prod", "--output", "json"],
    ["validate", "models", "--env", "nowhere", "-o", "text"],
    ["validate", "-o", "jsonl", "models"],
]
TYPER = [
    [],
    ["--help"],
    ["--version"],
    ["plan"],
    ["valid"],
    ["validate", "--help"],
    ["validate", ""],
    ["validate", "--"],
    ["validate", "--", "spec.yaml"],
    ["validate", "spec.yaml", "spec.yaml"],
    ["validate", "-ojson"],
    ["validate", "--output=json"],
    ["validate", "--output", "xml"],
    ["validate", "--output", "JSON"],
    ["validate", "-o"],
    ["validate", "-o", "text", "--output", "json"],
    ["validate", "--env"],
    ["validate", "--env", ""],
    ["validate", "--env", "-o"],
    ["validate", "--env", "-"],
    ["validate", "--env", "prod", "--env", "prod"],
    ["validate", "--set", "name=other"],
    ["validate", "--spec", "spec.yaml"],
    ["validate", "--bogus"],
]


@pytest.fixture
def folder(shell: Shell) -> Shell:
    """A shell in a folder with specs of every kind."""
    shell.write("bad.yaml", BAD)
    shell.write("models/mlscale.yaml", f"{SPEC}environments: {{prod: {{}}}}\n")
    shell.write("closed.yaml", SPEC).chmod(0)
    shell.write("variable.yaml", SPEC.replace("reviews", "${CLI_TEST_NAME}"))
    (shell.folder / "empty").mkdir()
    shell.setenv("CLI_TEST_NAME", "filled")
    return shell


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_a_plain_validate_is_what_it_is_through_typer(folder: Shell, words: list[str]) -> None:
    """Output, errors and exit code are the same to the last character."""
    assert plain_check(words) is not None

    assert ran(folder, words) == ran(folder, words, typer=True)


@pytest.mark.parametrize("words", TYPER, ids=" ".join)
def test_all_else_goes_through_typer(folder: Shell, words: list[str]) -> None:
    """Another command, another option, or one that is written in another way is Typer's to read."""
    assert plain_check(words) is None

    assert ran(folder, words) == ran(folder, words, typer=True)


@pytest.mark.parametrize("name", ["MLSCALE_SPEC", "MLSCALE_ENV", "MLSCALE_OUTPUT", "_MLSCALE_COMPLETE"])
def test_a_variable_of_ours_leaves_it_to_typer(folder: Shell, name: str) -> None:
    """What is set in the environment is found out in one place."""
    folder.setenv(name, "prod")

    assert plain_check(["validate"]) is None


@pytest.mark.parametrize("text", ["output: json\n", "env: prod\n", "colour: blue\n", "- output\n"])
def test_the_users_settings_leave_it_to_typer(folder: Shell, text: str) -> None:
    """They hold, and what is wrong with them is told, as for every command."""
    folder.settings(text)

    assert plain_check(["validate"]) is None
    assert ran(folder, ["validate"]) == ran(folder, ["validate"], typer=True)


def test_an_empty_file_of_settings_changes_nothing(folder: Shell) -> None:
    """A file that says nothing is as none."""
    folder.settings("# output: json\n")

    assert plain_check(["validate"]) == {}


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", ">/dev/full"])
def test_streams_are_the_same_both_ways(cli: Cli, encoding: str, closed: str) -> None:
    """A terminal without a character, a closed stream and a full disk are met by the same code."""
    (cli.folder / "spec.yaml").write_text(SPEC)

    def process(command: list[str]) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *command],
            cwd=cli.folder,
            env=cli.environment({"PYTHONIOENCODING": encoding}),
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    words = ["validate", "→.yaml" if closed == "" else "spec.yaml"]
    assert process(cli.command(*words)) == process([sys.executable, "-c", TYPERS, *words])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_without_a_word(cli: Cli, number: int, code: int) -> None:
    """Ctrl-C and SIGTERM while a spec is read: the exit code says so, and nothing else."""
    fifo = cli.folder / "spec.yaml"
    os.mkfifo(fifo)
    for command in (cli.command("validate", "spec.yaml"), [sys.executable, "-c", TYPERS, "validate", "spec.yaml"]):
        process = subprocess.Popen(
            command, cwd=cli.folder, env=cli.environment(None), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with fifo.open("w"):  # opens once the command reads
            process.send_signal(number)
            assert (process.wait(60), *process.communicate()) == (code, b"", b"")


def ran(shell: Shell, words: list[str], *, typer: bool = False) -> Ran:
    """Return what the words print when they are run as they come, or through Typer."""
    shell.setstdin(io.TextIOWrapper(io.BytesIO(SPEC.encode())))
    shell.capsys.readouterr()
    code = through_typer(words) if typer else run(words)
    printed = shell.capsys.readouterr()
    return Ran(code, printed.out, printed.err)
