"""Who must say yes to what, and how they are asked."""

from __future__ import annotations

import os
import pty
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cli.conftest import Shell


class Terminal:
    """A terminal of its own, where somebody types."""

    def __init__(self) -> None:
        self.master, self._slave = pty.openpty()
        attributes = termios.tcgetattr(self._slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
        self.stdin = os.fdopen(os.dup(self._slave), "r")
        self.stderr = os.fdopen(os.dup(self._slave), "w")

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self.master, f"{text}\n".encode())

    def shown(self) -> str:
        """Return what was printed on it, up to a mark that is printed last: the kernel hands it on when it likes."""
        self.stderr.write("\0")
        self.stderr.flush()
        found = b""
        while not found.endswith(b"\0"):
            found += os.read(self.master, 65536)
        return found[:-1].decode().replace("\r\n", "\n")

    def close(self) -> None:
        """Close all of it."""
        self.stdin.close()
        self.stderr.close()
        os.close(self._slave)
        os.close(self.master)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal."""
    terminal = Terminal()
    yield terminal
    terminal.close()


@contextmanager
def at(terminal: Terminal, shell: Shell) -> Iterator[None]:
    """Run commands at `terminal`, their stdin and stderr."""
    before = shell.setstdin, sys.stderr
    shell.setstdin = lambda stream: None  # noqa: ARG005 - the terminal is stdin
    sys.stdin, sys.stderr = terminal.stdin, terminal.stderr
    try:
        yield
    finally:
        shell.setstdin, sys.stderr = before


def test_destroy_asks_for_the_name(shell: Shell, terminal: Terminal) -> None:
    """On a terminal the plan is shown and the deployment's name is asked for; typed, all is taken down."""
    shell.good("deploy")
    terminal.type("reviews")

    with at(terminal, shell):
        destroyed = shell.run("destroy")

    assert destroyed.code == 0
    assert destroyed.stdout == "Destroyed local/reviews\n"
    assert "it destroys destroy. Type reviews to go on: " in terminal.shown()
    assert shell.provider.there == {}


@pytest.mark.parametrize("answer", ["y", "yes", "", "review"])
def test_another_answer_changes_nothing(shell: Shell, terminal: Terminal, answer: str) -> None:
    """What is not the name is no consent: exit code 2, and everything is still there."""
    shell.good("deploy")
    terminal.type(answer)

    with at(terminal, shell):
        refused = shell.run("destroy")

    assert (refused.code, refused.stdout) == (2, "")
    assert terminal.shown().endswith(
        "error: no consent was given\n  the answer was another\n\nhint: nothing was changed\n"
    )
    assert len(shell.provider.there) == 1


def test_the_plan_is_shown_to_whom_is_asked_in_every_output(shell: Shell, terminal: Terminal) -> None:
    """With --output json the question comes with the plan, on stderr, and stdout has one document."""
    shell.good("deploy")
    terminal.type("reviews")

    with at(terminal, shell):
        destroyed = shell.run("destroy", "--output", "json")

    assert destroyed.data["outcome"] == "done"
    assert "- destroy   destroy  (destroys)" in terminal.shown()


def test_confirm_asks_for_what_needs_no_consent(shell: Shell, terminal: Terminal) -> None:
    """A first deploy needs no consent; --confirm asks anyway."""
    terminal.type("y")

    with at(terminal, shell):
        deployed = shell.run("deploy", "--confirm")

    assert deployed.code == 0
    assert "--confirm was given. Type y to go on: " in terminal.shown()


@pytest.mark.parametrize(
    ("words", "variable"), [(("--no-input",), ""), ((), "CI"), ((), "MLSCALE_NO_INPUT")], ids=["flag", "CI", "variable"]
)
def test_nobody_is_asked_against_the_users_word(
    shell: Shell, terminal: Terminal, words: tuple[str, ...], variable: str
) -> None:
    """--no-input, MLSCALE_NO_INPUT and CI mean that a terminal is no person: exit code 2 names the flag."""
    shell.good("deploy")
    if variable:
        shell.setenv(variable, "true")

    with at(terminal, shell):
        refused = shell.run("destroy", *words)

    assert refused.code == 2
    assert terminal.shown().endswith("error: this needs consent\n  it destroys destroy\n\nhint: add --yes\n")


def test_elsewhere_the_flag_is_named(shell: Shell) -> None:
    """Without a terminal nobody is asked, whatever stands on stdin."""
    shell.good("deploy")

    refused = shell.run("destroy", "--output", "json", stdin="reviews\n")

    assert refused.code == 2
    assert refused.error == {
        "what": "this needs consent",
        "why": "it destroys destroy",
        "hint": "add --yes",
        "cause": "consent_missing",
        "exit_code": 2,
    }


def test_consent_for_several_comes_before_the_first_is_begun(shell: Shell) -> None:
    """One of several that needs consent keeps all of them from being begun."""
    shell.write("other.yaml", (shell.folder / "spec.yaml").read_text().replace("reviews", "other"))

    refused = shell.run("deploy", "spec.yaml", "other.yaml", "--confirm")

    assert refused.code == 2
    assert shell.provider.there == {}


def test_a_saved_destroy_needs_consent_too(shell: Shell) -> None:
    """A plan that destroys is no less so from a file."""
    shell.good("deploy")
    shell.good("plan", "--destroy", "--out", "saved.json")

    assert shell.run("deploy", "--plan", "saved.json").code == 2
    assert shell.good("deploy", "--plan", "saved.json", "--yes").stdout == "Destroyed local/reviews\n"
