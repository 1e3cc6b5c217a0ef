"""Who may import whom, what stays pure, and what a command may load before it answers."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from mlscale.cli.app import COMMANDS, module_of
from tests.documents import ROOT
from tests.doubles.aws import serving

SOURCE = ROOT / "src" / "mlscale"
FILES = sorted(SOURCE.rglob("*.py"))

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"cli"}),
    frozenset({"engine", "report"}),
    frozenset({"providers", "state"}),
    frozenset({"plan", "autoscaling", "rollout"}),
    frozenset({"spec"}),
    frozenset({"deployment", "quantities", "errors", "clock", "serving"}),
)
"""From words to values: a package imports from layers below its own, and from itself.

serving is at the bottom because it runs without the rest: its files are copied next to a model.
"""

PURE = ("spec", "plan", "autoscaling", "rollout", "report", "deployment", "quantities", "errors")
OUTSIDE = frozenset({
    "asyncio", "fcntl", "glob", "http", "io", "multiprocessing", "os", "pathlib", "platform", "random", "secrets",
    "shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid",
    "boto3", "httptools", "numpy", "obstore", "uvloop",
})  # fmt: skip
"""Modules by which a file, a process, the network, the clock or chance would come in."""

CLOCK_CALLS = frozenset({"now", "utcnow", "today", "fromtimestamp"})

LOADED = """
import json, sys
services = set()
def look(event, words):
    if event == "open" and "/botocore/data/" in str(words[0]):
        service, _, rest = words[0].partition("/botocore/data/")[2].partition("/")
        services.update([service] if rest else [])
sys.addaudithook(look)
before = set(sys.modules)
from mlscale.cli.start import main
sys.argv[1:] = json.loads(sys.argv[1])
code = main()
sys.stdout.flush()
sys.stderr.write("\\n" + json.dumps([code, sorted(set(sys.modules) - before), sorted(services)]))
"""
"""Runs a command, and then tells its exit code, the modules it imported, and the services whose models it read."""

TYPER = frozenset({"typer", "annotated_doc", "shellingham", "typing_extensions"})
SPEC = frozenset({
    "pydantic", "pydantic_core", "annotated_types", "typing_inspection", "typing_extensions", "yaml", "cython_runtime",
})  # fmt: skip
CRON = frozenset({"croniter", "dateutil", "pytz", "six"})
AWS = frozenset({"certifi", "boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3"})
"""boto3 and what it needs, or takes where it is installed."""

ANYWHERE = SPEC | TYPER | CRON | {"obstore"}


def test_imports_point_down() -> None:
    """No package imports from its own layer or one above, at the top of a module or inside a function."""
    depth = {name: number for number, layer in enumerate(LAYERS) for name in layer}

    wrong = [
        f"{file.relative_to(SOURCE)}: {imported}"
        for file in FILES
        for imported in _ours(file)
        if _package(file) in depth
        and imported not in (_package(file), "__version__")
        and depth[imported] <= depth[_package(file)]
    ]

    assert wrong == []


def test_every_package_has_a_layer() -> None:
    """A new package says where it stands."""
    assert {_package(file) for file in FILES} - {"__init__"} == set().union(*LAYERS)


@pytest.mark.parametrize("package", PURE)
def test_decisions_are_pure(package: str) -> None:
    """What only thinks imports nothing by which the outside comes in, and never asks what time it is.

    croniter and zoneinfo are allowed: they read the system's time zones, which are the same for everybody.
    """
    files = [file for file in FILES if _package(file) == package]

    assert files
    assert [f"{file.name}: {name}" for file in files for name in _imported(file) if _top(name) in OUTSIDE] == []
    assert [f"{file.name}:{line}" for file in files for line in _clock_calls(file)] == []


def test_serving_needs_nothing_else_of_ours() -> None:
    """The serving code runs alone next to a model: it imports no other package of mlscale."""
    files = [file for file in FILES if _package(file) == "serving"]

    assert {name for file in files for name in _ours(file)} <= {"serving"}


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["--help"], TYPER),
        (["--version"], TYPER),
        (["deploy", "--help"], TYPER),
        (["status", "--help"], TYPER),
        (["validate", "templates/sklearn/spec.yaml"], SPEC),
        (["validate", "templates/sklearn/spec.yaml", "-o", "json"], SPEC),
        (["validate", "templates/sklearn/spec.yaml", "--set", "name=other"], SPEC | TYPER),
        (["validate", "tests/golden/sagemaker.yaml"], SPEC | CRON),
    ],
    ids=[
        "help",
        "version",
        "help of deploy",
        "help of status",
        "validate",
        "validate as JSON",
        "validate with --set",
        "validate for SageMaker",
    ],
)
def test_a_command_loads_only_what_it_needs(words: Sequence[str], allowed: frozenset[str]) -> None:
    """Help needs Typer alone, and a plain `validate` what reads a spec: no SDK, no rich, no NumPy, no provider."""
    code, loaded = _loaded(words)

    assert code == 0
    foreign = {_top(name) for name in loaded if not name.startswith("_")} - sys.stdlib_module_names
    assert foreign - allowed == {"mlscale"}
    assert [
        name for name in loaded if name.startswith(("mlscale.providers", "mlscale.engine", "mlscale.serving"))
    ] == []


def test_help_loads_no_command() -> None:
    """The list of commands is a table: showing it imports none of them."""
    _, loaded = _loaded(["--help"])

    ours = {name for name in loaded if name.startswith("mlscale.")}
    assert {module_of(name) for group in COMMANDS.values() for name in group} & ours == set()
    assert {name.split(".")[1] for name in ours} == {"cli", "errors"}


def test_validate_loads_of_ours_what_reads_a_spec() -> None:
    """Neither the commands and their options nor the nouns of later stages, which take a good part of its time."""
    _, loaded = _loaded(["validate", "templates/sklearn/spec.yaml"])

    wanted = {
        "cli": {"checking", "console", "outcome", "start", "user_config"},
        "spec": {"fields", "fit", "model", "nodes", "parse", "rollout", "section"},
    }
    inside = {f"mlscale.{package}.{name}" for package, names in wanted.items() for name in names}
    assert {name for name in loaded if name.startswith("mlscale.")} == {
        *inside,
        *(f"mlscale.{name}" for name in (*wanted, "errors", "quantities")),
    }


@pytest.mark.parametrize(
    ("words", "services"),
    [
        (["status"], {"sts", "sagemaker", "cloudwatch", "s3"}),
        (["plan"], {"sts", "sagemaker", "cloudwatch", "iam", "s3", "service-quotas"}),
    ],
    ids=["status", "plan"],
)
def test_a_command_for_sagemaker_loads_the_clients_it_calls(
    words: Sequence[str], services: set[str], tmp_path: Path
) -> None:
    """Of foreign packages boto3 and what any command needs; of AWS's hundreds of services those that are asked."""
    shutil.copy(ROOT / "tests" / "golden" / "sagemaker.yaml", tmp_path / "spec.yaml")
    shutil.copy(ROOT / "templates" / "custom" / "inference.py", tmp_path)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "model").mkdir()
    with serving() as double:
        double.make_bucket("mlscale-workspace")
        double.make_role()
        _, loaded, read = _ran(words, tmp_path, double.environment)

    foreign = {_top(name) for name in loaded if not name.startswith("_")} - sys.stdlib_module_names
    assert foreign - ANYWHERE - AWS == {"mlscale"}
    assert set(read) == services


def _loaded(words: Sequence[str]) -> tuple[int, list[str]]:
    """Return a command's exit code and the modules that were imported until its end, in a process of its own."""
    code, loaded, _ = _ran(words, ROOT, {})
    return code, loaded


def _ran(words: Sequence[str], folder: Path, more: Mapping[str, str]) -> tuple[int, list[str], list[str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLSCALE_", "PYTHON", "AWS_"))}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(words)],
        cwd=folder,
        env={**kept, **more},
        capture_output=True,
        text=True,
        check=True,
    )
    code, loaded, read = json.loads(done.stderr.splitlines()[-1])
    return int(code), [str(name) for name in loaded], [str(name) for name in read]


def _package(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def _top(name: str) -> str:
    return name.partition(".")[0]


def _ours(file: Path) -> Iterator[str]:
    """Yield the packages of ours that `file` imports from."""
    for name in _imported(file):
        parts = name.split(".")
        if parts[0] == "mlscale" and len(parts) > 1:
            yield parts[1]


def _imported(file: Path) -> Iterator[str]:
    """Yield the full names of what `file` imports anywhere, `from mlscale import x` as `mlscale.x`."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module="mlscale", names=names):
                yield from (f"mlscale.{each.name}" for each in names)
            case ast.ImportFrom(module=str(module)):
                yield module


def _clock_calls(file: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=name)) if name in CLOCK_CALLS:
                yield node.lineno
