"""The project's own checks: what the README says is run is run, and nothing of one machine is in the tree."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.documents import DOCS, README, ROOT, blocks

TEST_COMMAND = 'PATH="$PWD/.venv/bin:$PATH" .venv/bin/nox'
FOLDERS = (".ci", "benchmarks", "docs", "src", "templates", "tests")
TEXT = frozenset({".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".json", ""})
OF_ONE_MACHINE = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)/|(?i:\b(?:todo|fixme|xxx)\b)")
"""Paths that only the author has, and marks of work that is not done."""


def test_the_readme_has_two_commands_and_ci_runs_the_second() -> None:
    """One command installs, deploys and predicts; one runs the checks, and it is what `.ci/run` ends with."""
    first, second = (each.text.strip() for each in blocks(README) if each.language == "console")

    programs = [shlex.split(part)[0] for part in first.split("&&")]
    assert programs == ["python3", ".venv/bin/pip", ".venv/bin/mlscale", ".venv/bin/mlscale"]
    assert second.endswith(TEST_COMMAND)
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith(second)


def test_ci_is_a_shell_script_that_can_be_run() -> None:
    """Bash takes it, and its file may be executed."""
    script = ROOT / ".ci" / "run"

    assert subprocess.run(["bash", "-n", str(script)], check=False, capture_output=True).stderr == b""
    assert script.stat().st_mode & 0o111


def test_nox_alone_runs_every_check_but_the_benchmarks() -> None:
    """A session that nobody names is still run; benchmarks take their time, and are asked for."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    (chosen,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "nox.options.sessions"
    )
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}

    assert {*chosen} == sessions - {"bench"}


def test_every_folder_of_tests_is_run() -> None:
    """A new folder under `tests/` belongs to a session."""
    text = (ROOT / "noxfile.py").read_text()
    folders = {each.parent.name for each in (ROOT / "tests").glob("*/test_*.py")}

    assert {name for name in folders if f'"{name}"' not in text and f"tests/{name}" not in text} == set()


def test_hooks_download_nothing() -> None:
    """Each hook runs what is installed here: a commit needs no network, and no second list of versions."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())

    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    assert {hook["language"] for repository in config["repos"] for hook in repository["hooks"]} == {"system"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_of_one_machine_is_in_the_tree(folder: str) -> None:
    """No path that only its author has, and no mark of work that is left."""
    files = [each for each in sorted((ROOT / folder).rglob("*")) if _is_ours(each)]

    assert [str(each.relative_to(ROOT)) for each in files if OF_ONE_MACHINE.search(each.read_text())] == []


def _is_ours(path: Path) -> bool:
    made = {"__pycache__", ".mlscale"} & set(path.parts)
    return path.is_file() and not made and path.suffix in TEXT and path != Path(__file__)


def test_every_source_of_the_site_is_shipped() -> None:
    """The source distribution has the tests, the docs, and what builds them."""
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]

    assert {"src", "templates", "tests", "docs", "benchmarks", "noxfile.py", "properdocs.yml"} <= {*include["include"]}
    assert DOCS.is_dir()
