"""What is shipped: the wheel that an install makes of this checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "src", "templates")
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


def test_the_wheel_has_the_templates_and_nothing_that_a_deploy_left_there(tmp_path: Path) -> None:
    """Each file of a template is in the wheel; a workspace, a cache and a schema written beside it are not."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in SOURCES:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, checkout / name)
    wanted = {_inside(each, checkout) for each in (checkout / "templates").rglob("*") if _is_shipped(each)}
    for leftover in (".mlscale/local/iris/desired.json", "__pycache__/train.cpython-311.pyc", "spec.schema.json"):
        path = checkout / "templates" / "sklearn" / leftover
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    names = set(ZipFile(tmp_path / _built(checkout, tmp_path)).namelist())

    assert {name for name in names if name.startswith("mlscale/templates/")} == wanted
    assert {"mlscale/py.typed", "mlscale/cli/app.py"} <= names
    assert {name.partition("/")[0] for name in names} == {"mlscale", f"mlscale-{version('mlscale')}.dist-info"}


def _built(checkout: Path, target: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(target)], cwd=checkout, capture_output=True, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1]


def _is_shipped(path: Path) -> bool:
    return path.is_file() and not {".mlscale", "__pycache__"} & set(path.parts) and path.name != "spec.schema.json"


def _inside(path: Path, checkout: Path) -> str:
    return f"mlscale/{path.relative_to(checkout).as_posix()}"


def test_all_is_every_extra_but_the_sagemaker_sdk() -> None:
    """`mlscale[all]` takes what each other extra takes, less the one that weighs a gigabyte."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    (everything,) = (Requirement(each) for each in extras["all"])

    assert everything.name == "mlscale"
    assert everything.extras == extras.keys() - {"all", "sagemaker-sdk"}
