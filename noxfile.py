"""What is checked before a change lands; `nox` alone runs all but the benchmarks."""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "docs", "tests", "e2e", "kill", "docker"]

KILLS = ("tests/e2e/test_kill.py", "tests/e2e/sagemaker/test_kill.py", "tests/e2e/vertex/test_kill.py")
SIDE_BY_SIDE = ("-n", "4")
"""Real servers and clouds that take their time are waited for most of it."""

PROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str, project: bool = False) -> None:
    """Install dependency groups of pyproject.toml, and the project itself where it is run."""
    session.install(*nox.project.dependency_groups(PROJECT, *groups))
    if project:
        session.install("-e", ".")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and its format."""
    install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict, tests included."""
    install(session, "types", project=True)
    session.install("nox")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The site, with every link and anchor followed; `nox -s docs -- write` writes the reference pages first."""
    install(session, "docs", project=True)
    session.run("python", "docs/reference.py", *(() if "write" in session.posargs else ("--check",)))
    session.run("properdocs", "build", "--strict", "--quiet")


@nox.session
def tests(session: nox.Session) -> None:
    """Everything that is quick: pure parts, contracts, the engine, the command line, the project itself."""
    install(session, "test", project=True)
    folders = ("unit", "contract", "engine", "cli", "project")
    session.run("pytest", "-n", "2", "-m", "not docker", *(f"tests/{each}" for each in folders), *session.posargs)


@nox.session
def e2e(session: nox.Session) -> None:
    """Real servers, real processes, real traffic, and everything that can go wrong with a cloud's calls."""
    install(session, "e2e", project=True)
    ignored = [f"--ignore={each}" for each in KILLS]
    session.run("pytest", *SIDE_BY_SIDE, "-m", "not docker", "tests/e2e", *ignored, *session.posargs)


@nox.session
def kill(session: nox.Session) -> None:
    """SIGKILL at each change that a command makes."""
    install(session, "e2e", project=True)
    session.run("pytest", *SIDE_BY_SIDE, *KILLS, *session.posargs)


@nox.session
def docker(session: nox.Session) -> None:
    """Images and containers of a Docker engine; without one each test is skipped, and says so."""
    install(session, "e2e", project=True)
    session.run("pytest", "-m", "docker", "tests/docker", "tests/contract", "tests/e2e", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Each benchmark against its named peers; `nox -s bench -- startup` runs one of them."""
    install(session, "test", project=True)
    found = {file.stem: file for file in sorted(Path("benchmarks").glob("*.py"))}
    for name in session.posargs or found:
        session.run("python", str(found[name]))
