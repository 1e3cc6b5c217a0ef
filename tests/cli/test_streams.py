"""Colors, encodings, stdin and stdout as they come."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path

import pytest

from mlscale.cli.console import has_color
from tests.cli.conftest import SPEC, Shell
from tests.conftest import Cli


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.mark.parametrize(
    ("stream", "no_color", "variables", "expected"),
    [
        (Tty(), False, {}, True),
        (io.StringIO(), False, {}, False),
        (Tty(), True, {"FORCE_COLOR": "1"}, False),
        (Tty(), False, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (Tty(), False, {"TERM": "dumb"}, False),
        (io.StringIO(), False, {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), False, {"FORCE_COLOR": "0"}, False),
    ],
)
def test_color_is_for_terminals_and_never_against_the_users_word(
    shell: Shell, *, stream: io.StringIO, no_color: bool, variables: dict[str, str], expected: bool
) -> None:
    """A terminal gets color unless somebody says no; a file gets none unless FORCE_COLOR says so."""
    for name, value in {"NO_COLOR": "", "TERM": "xterm", **variables}.items():
        shell.setenv(name, value)

    assert has_color(stream, no_color=no_color) is expected


def test_color_is_only_on_lines_that_have_a_mark(shell: Shell) -> None:
    """With FORCE_COLOR a step's line is colored whole; without its color it is the same text."""
    plain = shell.good("plan").stdout
    shell.setenv("NO_COLOR", "")
    shell.setenv("FORCE_COLOR", "1")

    colored = shell.good("plan").stdout

    assert colored.splitlines()[0] == f"\x1b[32m{plain.splitlines()[0]}\x1b[0m"
    assert colored.replace("\x1b[32m", "").replace("\x1b[33m", "").replace("\x1b[0m", "") == plain


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_marks_are_readable_in_every_encoding(custom: Cli, encoding: str) -> None:
    """A terminal that has no ✓ gets what is near to it, and no traceback."""
    ran = subprocess.run(
        custom.command("doctor"),
        cwd=custom.folder,
        env=custom.environment({"PYTHONIOENCODING": encoding}),
        capture_output=True,
        check=False,
    )

    assert ran.stderr == b""
    assert ran.stdout.decode(encoding).startswith("✓ spec" if encoding == "utf-8" else "ok spec")


def test_json_keeps_every_character_in_every_encoding(custom: Cli) -> None:
    """What a terminal can't show is escaped in JSON, never replaced."""
    ran = subprocess.run(
        custom.command("plan", "--set", "model.environment.ARROW=→", "--output", "json"),
        cwd=custom.folder,
        env=custom.environment({"PYTHONIOENCODING": "ascii"}),
        capture_output=True,
        check=False,
    )

    changes = {each["path"]: each["after"] for each in json.loads(ran.stdout)["plan"]["changes"]}
    assert changes["model.environment.ARROW"] == "→"


def test_a_path_that_is_no_text_is_shown_somehow(cli: Cli) -> None:
    """A file's name of bytes that are not UTF-8 is an error's place, not the end of the command."""
    ran = subprocess.run(
        [*(os.fsencode(word) for word in cli.command("validate")), b"\xff.yaml"],
        cwd=cli.folder,
        env=cli.environment(None),
        capture_output=True,
        check=False,
    )

    assert ran.returncode == 2
    assert ran.stderr.startswith(b"error: the spec can't be read\n  \\udcff.yaml: No such file")


def test_a_reader_that_ends_early_is_no_error(cli: Cli) -> None:
    """`mlscale schema | head -1` prints a line and no complaint."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        cli.command("schema"), cwd=cli.folder, env=cli.environment(None), stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    os.close(reader)

    _, stderr = process.communicate(timeout=60)

    assert stderr == b""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["schema"],
        ["validate"],
        ["validate", "--set", "name=other"],
    ],
    ids=" ".join,
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file on a full disk, which Linux has")
def test_output_that_does_not_fit_is_an_error(cli: Cli, words: list[str]) -> None:
    """With a full disk under stdout the command fails, says why, and shows no traceback."""
    (cli.folder / "spec.yaml").write_text(SPEC)

    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            cli.command(*words),
            cwd=cli.folder,
            env=cli.environment(None),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert (ran.returncode, ran.stderr) == (1, b"error: the disk is full\n  the output is cut off\n")


def test_a_spec_comes_from_stdin(shell: Shell) -> None:
    """`-` reads the spec from stdin for validate, plan and deploy; its paths count from here."""
    assert shell.good("validate", "-", stdin=SPEC).stdout == "-: valid, reviews on local\n"
    assert "To make them: mlscale deploy -\n" in shell.good("plan", "-", stdin=SPEC).stdout
    assert shell.good("deploy", "-", "-ojson", stdin=SPEC).data["outcome"] == "done"
    assert shell.good("deploy", "spec.yaml", "-ojson").data["outcome"] == "unchanged"


def test_a_problem_of_a_spec_from_stdin_has_its_place(shell: Shell) -> None:
    """Line and column count in what was read."""
    refused = shell.run("validate", "-", stdin="version: 1\nname: reviews\nprovider: lokal\n")

    assert "-:3:11: provider is not valid" in refused.stderr


def test_a_plan_for_stdin_is_not_saved(shell: Shell) -> None:
    """A saved plan names its spec, and stdin can't be read again."""
    refused = shell.run("plan", "-", "--out", "saved.json", stdin=SPEC)

    assert refused.code == 2
    assert not (shell.folder / "saved.json").exists()


def test_spec_and_request_do_not_share_stdin(shell: Shell) -> None:
    """One of them must come from elsewhere."""
    shell.good("deploy")

    assert shell.run("invoke", "-", stdin=SPEC).code == 2
    assert shell.good("invoke", "-", "--data", "[1]", stdin=SPEC).stdout == "[1]\n"


@pytest.mark.parametrize(
    ("content_type", "body", "facts"),
    [
        ("application/json", '{"a": [1, 2.5]}', {"body": {"a": [1, 2.5]}}),
        ("application/json", "NaN", {"body": "NaN"}),
        ("application/json", "no json", {"body": "no json"}),
        ("text/csv", "1,2\n", {"body": "1,2\n"}),
    ],
)
def test_an_answer_as_json(shell: Shell, content_type: str, body: str, facts: dict[str, object]) -> None:
    """The body is a value if it is JSON, else the text that it is."""
    deployed = shell.good("deploy", "-ojson").data["deployment"]

    answer = shell.good("invoke", "--data", body, "--content-type", content_type, "-ojson")

    revision = deployed["revisions"][0]["revision"]["id"]
    expected = {"schema_version": 1, "status": 200, "content_type": content_type, "revision": revision}
    assert answer.data == {**expected, **facts}


def test_a_body_that_is_no_text_is_in_base64(shell: Shell) -> None:
    """Bytes come under a name of their own."""
    shell.good("deploy")
    request = Path("request.npy")
    request.write_bytes(b"\x93NUMPY")

    answer = shell.good("invoke", "--file", "request.npy", "--content-type", "application/x-npy", "-ojson")

    assert answer.data["body_base64"] == "k05VTVBZ"


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "--bogus", "--output", "json"),
        ("plan", "--bogus", "--output=json"),
        ("plan", "--bogus", "-o", "json"),
        ("plan", "-ojson", "--bogus"),
        ("logs", "--bogus", "-fojson"),
        ("plan", "--output", "text", "--bogus", "--output", "jsonl"),
        ("plam", "-ojson"),
    ],
)
def test_usage_errors_are_json_when_asked(shell: Shell, words: tuple[str, ...]) -> None:
    """However --output is written, the last one counts, also for what can't be parsed."""
    assert shell.run(*words).error["cause"] == "usage"


def test_usage_errors_are_json_when_the_environment_asks(shell: Shell) -> None:
    """MLSCALE_OUTPUT holds where no flag says otherwise; behind -- nothing is a flag."""
    shell.setenv("MLSCALE_OUTPUT", "json")
    assert shell.run("plan", "--bogus").error["cause"] == "usage"
    assert shell.run("plan", "--bogus", "--", "--output", "text").error["cause"] == "usage"
    assert shell.run("plan", "--bogus", "--output", "text").stderr.startswith("error: ")


def test_a_body_is_written_as_it_came(shell: Shell) -> None:
    """Nothing is added to an answer that is no JSON, not even a new line."""
    shell.good("deploy")

    assert shell.good("invoke", "--data", "äö", "--content-type", "text/plain").stdout == "äö"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_ends_nothing(cli: Cli, closed: str) -> None:
    """What was started without stdin, stdout or stderr does its work."""
    (cli.folder / "spec.yaml").write_text(SPEC)

    ran = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *cli.command("status")],
        cwd=cli.folder,
        env=cli.environment(None),
        capture_output=True,
        check=False,
    )

    assert ran.returncode == 1
    assert b"Traceback" not in ran.stderr


def test_a_folder_stands_for_its_spec(shell: Shell) -> None:
    """Where a spec is wanted its folder does, and an empty one says what was looked for."""
    shell.write("models/mlscale.yaml", SPEC)
    (shell.folder / "empty").mkdir()

    assert shell.good("validate", "models").stdout == "models/mlscale.yaml: valid, reviews on local\n"
    refused = shell.run("validate", "empty")
    assert refused.stderr.startswith(
        "error: there is no spec here\n  looked for empty/spec.yaml and empty/mlscale.yaml\n"
    )


def test_no_lines_are_said(shell: Shell) -> None:
    """A log without lines says so on stderr, so that nobody waits for them."""
    shell.good("deploy")

    ran = shell.good("logs", "--revision", "0123456789")

    assert (ran.stdout, ran.stderr) == ("", "no lines\n")
