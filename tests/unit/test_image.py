"""What goes into a serving image and what it is called, without Docker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from mlscale.cli.init import known_templates
from mlscale.deployment import Content, Health
from mlscale.errors import UsageError
from mlscale.providers import artifact, templates
from mlscale.providers.image import BASE, OURS, PARTS, labels_of, parts_of, tag_of, write_context
from mlscale.providers.local.environments import SERVER_PACKAGES

CONTENT = Content(artifact="a" * 16, framework="sklearn", requirements="b" * 16, handler="c" * 16, runtime="d" * 16)


def test_the_same_content_has_the_same_tag() -> None:
    """A tag is the name and twelve hex digits of what is inside."""
    tag = tag_of("iris-prod", CONTENT)

    assert re.fullmatch(r"mlscale/iris-prod:[0-9a-f]{12}", tag)
    assert tag_of("iris-prod", replace(CONTENT)) == tag


@pytest.mark.parametrize(
    "changed",
    [
        {"artifact": "0" * 16},
        {"handler": None},
        {"requirements": "0" * 16},
        {"runtime": "0" * 16},
        {"framework": "custom"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_each_part_of_an_image_is_in_its_tag(changed: Mapping[str, str | None]) -> None:
    """Another model, handler, requirements, serving code or framework is another image."""
    assert tag_of("iris", replace(CONTENT, **changed)) != tag_of("iris", CONTENT)  # type: ignore[arg-type]


def test_another_base_is_another_image() -> None:
    """The base is in the tag as well."""
    assert tag_of("iris", CONTENT, "python:3.12-slim-bookworm") != tag_of("iris", CONTENT, BASE)


def test_a_version_counts_where_there_are_no_requirements() -> None:
    """`framework_version` says what is installed only where no requirements do."""
    without = replace(CONTENT, requirements=None)

    assert tag_of("iris", replace(without, framework_version="1.4")) != tag_of("iris", without)
    assert tag_of("iris", replace(CONTENT, framework_version="1.4")) == tag_of("iris", CONTENT)


def test_what_is_given_at_run_time_is_not_in_the_tag() -> None:
    """Variables, health and machine change no image."""
    given = replace(CONTENT, environment={"A": "b"}, health=Health("/up"), machine=("ml.c6i.large",), image="x")

    assert tag_of("iris", given) == tag_of("iris", CONTENT)


def test_an_image_is_found_by_its_labels() -> None:
    """Name, hash and base are on the image itself."""
    assert labels_of("mlscale/iris:0123456789ab", "python:3") == {
        "mlscale.name": "iris",
        "mlscale.hash": "0123456789ab",
        "mlscale.base": "python:3",
    }


def a_model(folder: Path) -> tuple[Content, dict[str, str | None]]:
    """Return the content and the paths of a model with a handler and requirements, written into `folder`."""
    model = folder / "model"
    (model / "code").mkdir(parents=True)
    (model / "model.joblib").write_bytes(b"weights")
    (model / "code" / "inference.py").write_text("# came with the model\n")
    (folder / "inference.py").write_text("# the spec's\n")
    (folder / "requirements.txt").write_text("scikit-learn==1.9.1\n")
    paths = {"model": model, "handler": folder / "inference.py", "requirements": folder / "requirements.txt"}
    content = Content(
        artifact=artifact.digest(paths["model"]),
        framework="sklearn",
        handler=artifact.digest(paths["handler"]),
        requirements=artifact.digest(paths["requirements"]),
        runtime=artifact.runtime_digest(),
    )
    return content, {name: str(path) for name, path in paths.items()}


def written(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return the bytes, mode and time of each file in `folder`."""
    return {
        each.relative_to(folder).as_posix(): (
            each.read_bytes() if each.is_file() else b"",
            each.stat().st_mode & 0o777,
            int(each.stat().st_mtime),
        )
        for each in folder.rglob("*")
    }


def in_new_folder(folder: Path) -> Path:
    """Return `folder`, made."""
    folder.mkdir(parents=True)
    return folder


def test_the_same_content_gives_the_same_context(tmp_path: Path) -> None:
    """Bytes, modes and times are the same whenever it is written, so that each layer is found in the cache."""
    content, files = a_model(tmp_path / "spec")
    first, second = in_new_folder(tmp_path / "1"), in_new_folder(tmp_path / "2")

    write_context(first, content, files)
    (tmp_path / "spec" / "model" / "model.joblib").chmod(0o600)
    write_context(second, content, files)

    assert written(first) == written(second)


def test_the_context_has_what_the_dockerfile_copies(tmp_path: Path) -> None:
    """Model, handler, packages and serving code are there, each in the place of its layer."""
    content, files = a_model(tmp_path / "spec")
    folder = in_new_folder(tmp_path / "context")

    write_context(folder, content, files, "python:3.12-slim")

    names = {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}
    assert {name for name in names if not name.startswith("runtime/")} == {
        "Dockerfile",
        "install.py",
        "server.txt",
        "requirements.txt",
        "handler/code/inference.py",
        "model/model.joblib",
    }
    assert "runtime/mlscale/serving/server.py" in names
    dockerfile = (folder / "Dockerfile").read_text()
    assert "ARG BASE=python:3.12-slim\n" in dockerfile
    assert "ARG FRAMEWORK=sklearn\n" in dockerfile
    assert (folder / "requirements.txt").read_text() == "scikit-learn==1.9.1\n"
    assert (folder / "server.txt").read_text().splitlines() == [f"{name}=={version(name)}" for name in SERVER_PACKAGES]


def test_the_specs_handler_goes_before_one_that_came_with_the_model(tmp_path: Path) -> None:
    """The model is the last layer, so its own handler is left out where the spec names another."""
    content, files = a_model(tmp_path / "spec")
    folder = in_new_folder(tmp_path / "context")

    write_context(folder, content, files)

    assert (folder / "handler" / "code" / "inference.py").read_text() == "# the spec's\n"
    assert not (folder / "model" / "code" / "inference.py").exists()


@pytest.mark.parametrize(
    ("framework_version", "line"),
    [
        (None, f"scikit-learn=={version('scikit-learn')}"),
        ("1.4", "scikit-learn==1.4.*"),
        ("1.4.2", "scikit-learn==1.4.2"),
    ],
)
def test_without_requirements_the_framework_is_installed(
    framework_version: str | None, line: str, tmp_path: Path
) -> None:
    """It is the spec's version; else the one that is here, which made the model that was tried here."""
    content, files = a_model(tmp_path / "spec")
    content = replace(content, requirements=None, framework_version=framework_version)
    folder = in_new_folder(tmp_path / "context")

    write_context(folder, content, {**files, "requirements": None})

    assert (folder / "requirements.txt").read_text().splitlines() == [line, f"joblib=={version('joblib')}"]


def test_a_framework_for_cpus_alone_stays_one(tmp_path: Path) -> None:
    """XGBoost as it is installed here, without 300 MB of CUDA, is what the image has as well."""
    content, files = a_model(tmp_path / "spec")
    folder = in_new_folder(tmp_path / "context")

    write_context(folder, replace(content, requirements=None, framework="xgboost"), {**files, "requirements": None})

    assert (folder / "requirements.txt").read_text() == f"xgboost-cpu=={version('xgboost-cpu')}\n"


def test_pinned_serving_code_comes_from_its_folder(tmp_path: Path) -> None:
    """A deployment keeps the serving code that it has; without its folder another code is refused."""
    content, files = a_model(tmp_path / "spec")
    old = replace(content, runtime="0" * 16)
    package = tmp_path / "old" / "mlscale"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("# of an earlier mlscale\n")
    folder = in_new_folder(tmp_path / "context")

    write_context(folder, old, {**files, "runtime": str(tmp_path / "old")})

    assert (folder / "runtime" / "mlscale" / "__init__.py").read_text() == "# of an earlier mlscale\n"
    with pytest.raises(UsageError, match="the serving code of this revision is not here"):
        write_context(in_new_folder(tmp_path / "other"), old, files)


@pytest.mark.parametrize("name", ["model", "handler", "requirements"])
def test_changed_files_are_refused(name: str, tmp_path: Path) -> None:
    """A tag never names other content than it says."""
    content, files = a_model(tmp_path / "spec")
    path = Path(str(files[name]))
    (path / "more.bin" if path.is_dir() else path).write_text("something else\n")

    with pytest.raises(UsageError, match="the files changed after the plan was made"):
        write_context(in_new_folder(tmp_path / "context"), content, files)


def test_requirements_that_name_a_file_are_refused(tmp_path: Path) -> None:
    """A file beside the requirements is not in the image."""
    content, files = a_model(tmp_path / "spec")
    requirements = Path(str(files["requirements"]))
    requirements.write_text("-r more.txt\n")
    content = replace(content, requirements=artifact.digest(requirements))

    with pytest.raises(UsageError) as raised:
        write_context(in_new_folder(tmp_path / "context"), content, files)

    assert raised.value.what == "the requirements name a file that the image does not have"
    assert raised.value.why == "-r more.txt"


@pytest.mark.parametrize("base", ["", "python:3\nRUN rm -rf /", "a b", "-x", "$(id)"])
def test_a_base_is_an_images_name(base: str, tmp_path: Path) -> None:
    """Nothing else gets into the Dockerfile."""
    content, files = a_model(tmp_path / "spec")

    with pytest.raises(UsageError, match="the base is no image's name"):
        write_context(in_new_folder(tmp_path / "context"), content, files, base)


def test_every_part_is_in_the_dockerfile_in_its_order() -> None:
    """What `image inspect` looks for is what the Dockerfile does, from seldom to often changing."""
    text = (templates.folder() / "docker" / "Dockerfile").read_text()

    places = [text.index(word) for word, _ in PARTS]

    assert places == sorted(places)
    assert text.rstrip().endswith(f"COPY model/ {OURS}/model/")


def test_nothing_in_the_image_is_run_by_a_shell() -> None:
    """RUN, CMD, ENTRYPOINT and the health check have the form that names a program and its words."""
    text = (templates.folder() / "docker" / "Dockerfile").read_text().replace("\\\n", " ")

    runs = re.findall(r"(?m)^(?:RUN|CMD|ENTRYPOINT|HEALTHCHECK .*CMD) +(\S)", text)

    assert runs == ["["] * 5


def test_the_images_files_are_no_template_of_a_spec() -> None:
    """`mlscale init` does not offer them."""
    assert "docker" not in known_templates()


def test_parts_add_up() -> None:
    """What lies before ours is the base, and what is copied for an instruction belongs to its part."""
    rows = [
        ("imported", 200),
        ("ENV A=b", 0),
        (f"COPY multi:1 in {OURS}/", 2),
        (f"python3 {OURS}/install.py {OURS}/server.txt", 90),
        (f"COPY file:2 in {OURS}/", 1),
        (f"python3 {OURS}/install.py {OURS}/requirements.txt", 150),
        (f"COPY dir:3 in {OURS}/runtime/", 6),
        ("USER 10001", 0),
        (f"COPY dir:4 in {OURS}/model/", 3),
        (f"COPY dir:5 in {OURS}/model/", 4),
    ]

    assert parts_of(rows) == [
        ("base", 200),
        ("server packages", 92),
        ("model packages", 151),
        ("serving code", 6),
        ("model and handler", 7),
    ]


def test_an_image_of_others_is_shown_by_its_instructions() -> None:
    """Those that added something, as they were."""
    assert parts_of([("ADD rootfs.tar /", 80), ("CMD bash", 0)]) == [("ADD rootfs.tar /", 80)]
