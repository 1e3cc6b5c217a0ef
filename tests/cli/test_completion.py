"""What the shell is offered while a command is typed."""

from __future__ import annotations

import pytest

from mlscale.cli.app import COMMANDS
from tests.cli.conftest import SPEC, Shell


def test_commands_are_completed(shell: Shell) -> None:
    """All commands for no letter, those that fit for some, and none of them is imported for it."""
    assert shell.complete("mlscale ") == [name for group in COMMANDS.values() for name in group]
    assert shell.complete("mlscale de") == ["deploy", "destroy"]
    assert shell.complete("mlscale --v") == ["--version"]


def test_options_are_completed(shell: Shell) -> None:
    """The options of the command that stands there."""
    assert shell.complete("mlscale deploy --no-") == ["--no-input", "--no-wait", "--no-color"]
    assert shell.complete("mlscale plan --output ") == ["text", "json", "jsonl", "markdown"]


def test_specs_are_completed(shell: Shell) -> None:
    """YAML files, and folders that may hold some; nothing hidden and no other file."""
    for name in ("models/churn/spec.yaml", "models/other.yml", "notes.txt", ".hidden/spec.yaml"):
        shell.write(name, SPEC)

    assert shell.complete("mlscale plan ") == ["models/", "spec.yaml"]
    assert shell.complete("mlscale deploy spec.yaml models/") == ["models/churn/", "models/other.yml"]
    assert shell.complete("mlscale deploy ./sp") == ["./spec.yaml"]
    assert shell.complete("mlscale status --spec models/churn/s") == ["models/churn/spec.yaml"]


def test_environments_are_completed_from_the_spec(shell: Shell) -> None:
    """The overlays of the spec that is named, or of the usual one."""
    shell.write("spec.yaml", f"{SPEC}environments: {{prod: {{}}, preview: {{}}, staging: {{}}}}\n")
    shell.write("other.yaml", f"{SPEC}environments: {{canary: {{}}}}\n")

    assert shell.complete("mlscale plan --env pr") == ["prod", "preview"]
    assert shell.complete("mlscale plan other.yaml --env ") == ["canary"]


def test_revisions_are_completed_newest_first(shell: Shell) -> None:
    """What `rollback --to` can go back to."""
    ids = []
    for model in ("one", "two"):
        shell.write("model.bin", model)
        deployed = shell.good("deploy", "--output", "json").data["deployment"]
        ids.append(deployed["revisions"][0]["revision"]["id"])
        shell.clock.move(60)

    assert shell.complete("mlscale rollback --to ") == ids[::-1]
    assert shell.complete(f"mlscale rollback --to {ids[0][:4]}") == ids[:1]


def test_runs_are_completed_newest_first(shell: Shell) -> None:
    """What `events --run` can show."""
    first = shell.good("deploy", "--output", "json").data["run_id"]
    shell.clock.move(60)
    shell.write("model.bin", "two")
    second = shell.good("deploy", "--output", "json").data["run_id"]

    assert shell.complete("mlscale events --run ") == [second, first]


def test_templates_are_completed(shell: Shell) -> None:
    """What `init` can copy."""
    assert shell.complete("mlscale init ") == ["custom", "onnx", "sagemaker", "sklearn", "vertex"]
    assert shell.complete("mlscale init sk") == ["sklearn"]


@pytest.mark.parametrize("line", ["rollback --to ", "events --run ", "plan --env "])
@pytest.mark.parametrize("spec", ["name: [", "version: 1\nname: ${NOT_SET}\n", None])
def test_what_is_not_there_completes_to_nothing(shell: Shell, line: str, spec: str | None) -> None:
    """A spec that is broken or missing is no traceback in the middle of a command line."""
    (shell.folder / "spec.yaml").unlink()
    if spec is not None:
        shell.write("spec.yaml", spec)

    assert shell.complete(f"mlscale {line}") == []


def test_a_broken_settings_file_keeps_completion_working(shell: Shell) -> None:
    """The file's problem is told by commands, not while one is typed."""
    shell.settings("outptu: json\n")

    assert shell.complete("mlscale init sk") == ["sklearn"]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_for_the_shell_is_shown(shell: Shell, name: str) -> None:
    """`_MLSCALE_COMPLETE=source_SHELL` prints what makes the shell ask us."""
    shell.setenv("_MLSCALE_COMPLETE", f"source_{name}")

    with pytest.raises(SystemExit) as ended:
        shell.run()

    assert ended.value.code == 0
    assert "_MLSCALE_COMPLETE" in shell.capsys.readouterr().out
