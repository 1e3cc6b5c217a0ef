"""Where a setting comes from: flag, environment, spec, the user's file, default."""

from __future__ import annotations

import pytest

from tests.cli.conftest import SPEC, Shell

FILE = """\
spec: other.yaml
env: prod
workspace: /srv/users
output: json
timeout: 10m
lease-timeout: 75s
yes: true
no-input: true
no-color: true
"""
OTHER = f"{SPEC}environments: {{prod: {{}}, staging: {{}}}}\n"


def origins(shell: Shell, *words: str) -> dict[str, tuple[str, str]]:
    """Return value and origin of each setting, by its name."""
    rows = shell.good("config", "show", *words, "--output", "json").data["settings"]
    return {row["name"]: (row["value"], row["origin"]) for row in rows}


def test_without_any_setting_the_defaults_hold(shell: Shell) -> None:
    """No flag, variable or file: the defaults, and they are called that."""
    assert origins(shell) == {
        "spec": ("spec.yaml", "default"),
        "env": ("none", "default"),
        "workspace": (str(shell.folder / ".mlscale"), "default"),
        "output": ("json", "--output"),
        "timeout": ("none", "default"),
        "lease-timeout": ("0s", "default"),
        "yes": ("no", "default"),
        "no-input": ("no", "default"),
        "no-color": ("yes", "NO_COLOR"),
    }


def test_the_users_file_goes_before_the_defaults(shell: Shell) -> None:
    """Every setting of the file holds, and its line is named."""
    file = shell.settings(FILE)
    shell.write("other.yaml", OTHER)

    shown = shell.good("config", "show").data["settings"]

    assert {row["name"]: (row["value"], row["origin"]) for row in shown} == {
        "spec": ("other.yaml", f"{file}:1"),
        "env": ("prod", f"{file}:2"),
        "workspace": ("/srv/users", f"{file}:3"),
        "output": ("json", f"{file}:4"),
        "timeout": ("10m", f"{file}:5"),
        "lease-timeout": ("75s", f"{file}:6"),
        "yes": ("yes", f"{file}:7"),
        "no-input": ("yes", f"{file}:8"),
        "no-color": ("yes", f"{file}:9"),
    }


def test_the_spec_goes_before_the_users_file(shell: Shell) -> None:
    """A workspace in the spec is used, whatever the user's file says."""
    shell.settings("workspace: /srv/users\n")
    shell.write("spec.yaml", f"{SPEC}workspace: team\n")

    assert origins(shell)["workspace"] == (str(shell.folder / "team"), "spec.yaml")
    shell.good("deploy")

    assert (shell.folder / "team" / "journal" / "reviews").is_dir()


def test_the_environment_goes_before_spec_and_file(shell: Shell) -> None:
    """Each variable holds against the spec and the user's file."""
    shell.settings(FILE)
    shell.write("spec.yaml", f"{OTHER}workspace: team\n")
    for name, value in (
        ("SPEC", "spec.yaml"),
        ("ENV", "staging"),
        ("WORKSPACE", "mine"),
        ("TIMEOUT", "1m"),
        ("LEASE_TIMEOUT", "5s"),
        ("YES", "0"),
        ("NO_INPUT", "0"),
        ("NO_COLOR", "0"),
    ):
        shell.setenv(f"MLSCALE_{name}", value)
    shell.setenv("NO_COLOR", "")

    assert origins(shell) == {
        "spec": ("spec.yaml", "MLSCALE_SPEC"),
        "env": ("staging", "MLSCALE_ENV"),
        "workspace": (str(shell.folder / "mine"), "MLSCALE_WORKSPACE"),
        "output": ("json", "--output"),
        "timeout": ("1m", "MLSCALE_TIMEOUT"),
        "lease-timeout": ("5s", "MLSCALE_LEASE_TIMEOUT"),
        "yes": ("no", "MLSCALE_YES"),
        "no-input": ("no", "MLSCALE_NO_INPUT"),
        "no-color": ("no", "MLSCALE_NO_COLOR"),
    }


def test_a_flag_goes_before_all(shell: Shell) -> None:
    """Each flag holds against environment, spec and the user's file."""
    shell.settings(FILE)
    shell.write("spec.yaml", f"{OTHER}workspace: team\n")
    for name in ("SPEC", "ENV", "WORKSPACE", "TIMEOUT", "LEASE_TIMEOUT"):
        shell.setenv(f"MLSCALE_{name}", "9s")

    flags = ["--spec", "spec.yaml", "--env", "staging", "--workspace", "mine", "--timeout", "1m"]
    shown = origins(shell, *flags, "--lease-timeout", "5s", "--yes", "--no-input", "--no-color")

    assert shown == {
        "spec": ("spec.yaml", "--spec"),
        "env": ("staging", "--env"),
        "workspace": (str(shell.folder / "mine"), "--workspace"),
        "output": ("json", "--output"),
        "timeout": ("1m", "--timeout"),
        "lease-timeout": ("5s", "--lease-timeout"),
        "yes": ("yes", "--yes"),
        "no-input": ("yes", "--no-input"),
        "no-color": ("yes", "--no-color"),
    }


def test_the_users_settings_are_used(shell: Shell) -> None:
    """What `config show` says is what a deploy does: spec, overlay, workspace, output, consent."""
    shell.settings(f"spec: other.yaml\nenv: prod\nworkspace: {shell.folder}/users\noutput: json\nyes: true\n")
    shell.write("other.yaml", OTHER)

    deployed = shell.good("deploy")

    assert deployed.data["deployment"]["identity"]["name"] == "reviews-prod"
    assert (shell.folder / "users" / "journal" / "reviews-prod").is_dir()
    assert shell.good("destroy").data["name"] == "reviews-prod"


def test_the_users_output_holds_for_errors_too(shell: Shell) -> None:
    """With `output: json` in the file an error is JSON."""
    shell.settings("output: json\n")

    assert shell.run("status").error["cause"] == "not_deployed"


def test_ci_is_told_as_the_reason_for_not_asking(shell: Shell) -> None:
    """CI in the environment means --no-input, and `config show` says so; CI=false means nothing."""
    shell.setenv("CI", "true")
    assert origins(shell)["no-input"] == ("yes", "CI")

    shell.setenv("CI", "false")
    assert origins(shell)["no-input"] == ("no", "default")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("colour: no\n", "FILE:1:1: there is no setting colour (did you mean no-color?)"),
        ("output: json\ntimeout: soon\n", "FILE:2:10: timeout is not valid: 'soon' is not a duration: "),
        ("output: xml\n", "FILE:1:9: output is not valid: it must be one of text, json, jsonl"),
        ("yes: maybe\n", "FILE:1:6: yes is not valid: it must be true or false"),
        ("env: [prod]\n", "FILE:1:6: env is not valid: it must be a text"),
        ("- output\n", "FILE:1:1: this is not a mapping (write it like output: json)"),
        ("env: a\nenv: b\n", "FILE:2:1: env is written twice: first in line 1 (keep one of them)"),
        ("env: [\n", "FILE:2:1: this is not YAML: "),
        ("env: b\xff\n", "FILE:1:1: the file is not UTF-8 (save it as UTF-8)"),
    ],
)
def test_a_problem_in_the_users_file_has_its_place(shell: Shell, text: str, why: str) -> None:
    """Every bad file is refused with exit code 2, the place and what to write instead."""
    file = shell.settings("")
    file.write_bytes(text.encode("latin-1"))

    refused = shell.run("status")

    assert refused.code == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"error: the user's settings are not valid\n  {why.replace('FILE', str(file))}")
    assert f"hint: edit {file}" in refused.stderr


def test_all_problems_of_the_users_file_come_together(shell: Shell) -> None:
    """Two problems are two lines."""
    file = shell.settings("outptu: json\nyes: 1\n")

    assert shell.run("status", "--output", "json").error["why"].splitlines() == [
        f"{file}:1:1: there is no setting outptu (did you mean output?)",
        f"{file}:2:6: yes is not valid: it must be true or false",
    ]


def test_help_is_there_with_a_bad_file(shell: Shell) -> None:
    """A file that is not valid keeps nobody from reading how to write it."""
    shell.settings("outptu: json\n")

    assert shell.run("--help").code == 0
    assert shell.run("config", "show", "--help").code == 0


def test_an_empty_file_says_nothing(shell: Shell) -> None:
    """A file with nothing in it, or with comments only, is as none."""
    for text in ("", "\n", "# output: json\n"):
        shell.settings(text)
        assert origins(shell)["timeout"] == ("none", "default")


def test_two_specs_where_one_is_meant_are_refused(shell: Shell) -> None:
    """A word and --spec at once: neither is guessed."""
    refused = shell.run("plan", "spec.yaml", "--spec", "other.yaml")

    assert refused.code == 2
    assert refused.stderr == (
        "error: two specs are given\n  spec.yaml and --spec other.yaml\n\nhint: keep one of them\n"
    )


def test_a_word_goes_before_a_spec_from_the_environment(shell: Shell) -> None:
    """MLSCALE_SPEC is for where no spec is named."""
    shell.setenv("MLSCALE_SPEC", "nowhere.yaml")

    assert shell.good("validate", "spec.yaml").stdout == "spec.yaml: valid, reviews on local\n"
    assert shell.run("validate").code == 2
