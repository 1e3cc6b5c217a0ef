"""`mlscale image` where there is no engine, and where its words are wrong."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Ran, Shell

NO_ENGINE = """\
error: no Docker engine answers
  tcp://127.0.0.1:1: connection refused

hint: install Docker (https://docs.docker.com/engine/install/) and start it; a model that mlscale can serve \
itself needs none: leave out model.image and --runtime docker
"""


@pytest.mark.parametrize(
    "words",
    [
        ("build",),
        ("push", "registry.example.com/reviews"),
        ("inspect",),
        ("inspect", "python:3"),
    ],
    ids=" ".join,
)
def test_without_an_engine_it_says_what_to_install(words: tuple[str, ...], shell: Shell) -> None:
    """The error names the address, what to install, and the way that needs no engine."""
    shell.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")

    assert shell.run("image", *words) == Ran(1, "", NO_ENGINE)


@pytest.mark.parametrize("word", ["registry.example.com/iris:1", "registry.example.com/iris@sha256:0", "iris:1"])
@pytest.mark.parametrize("words", [("push",), ("build", "--push")], ids=" ".join)
def test_a_repository_has_no_tag(words: tuple[str, ...], word: str, shell: Shell) -> None:
    """The tag is made from what is in the image; a port is none."""
    ran = shell.run("image", *words, word)

    assert (ran.code, ran.stderr.splitlines()[0]) == (2, "error: a repository has no tag")


def test_push_takes_two_words_at_most(shell: Shell) -> None:
    """A third is a mistake, and nothing is pushed."""
    ran = shell.run("image", "push", "spec.yaml", "a", "b", "--output", "json")

    assert (ran.code, ran.error["what"]) == (2, "there are too many words")


def test_a_spec_with_problems_comes_before_the_engine(shell: Shell) -> None:
    """What is wrong in the spec is told first."""
    shell.write("spec.yaml", "version: 1\n")

    for words in (("build",), ("push", "registry.example.com/iris"), ("inspect", "spec.yaml")):
        assert shell.run("image", *words).code == 2
