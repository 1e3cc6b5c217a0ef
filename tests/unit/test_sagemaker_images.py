"""Which image serves a content on SageMaker."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlscale.deployment import Content
from mlscale.providers.contract import Refusal
from mlscale.providers.sagemaker.image_table import (
    ANY,
    FILE,
    SDK_FOLDER,
    is_sagemakers,
    newest_table,
    packaged,
    sdk_images,
    stored,
)
from mlscale.providers.sagemaker.images import Choice, Handler, Way, choose, way_of

SDK_SAYS: dict[str, str] = json.loads((Path(__file__).parents[1] / "golden" / "sagemaker_images.json").read_text())
"""What `image_uris.retrieve` of sagemaker-core 2.27.0 gave for each; all 6123 of the table were compared once."""

REGISTRY = "683313688378.dkr.ecr.us-east-1.amazonaws.com"
LEARNED = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
TABLE = packaged()


def chosen(framework: str, handler: Handler = Handler.NONE, region: str = "us-east-1", **fields: Any) -> Choice:
    """Return the image for a content that has one."""
    found = choose(a_content(framework, **fields), handler, region, TABLE)
    assert isinstance(found, Choice), found
    return found


def refused(framework: str, handler: Handler = Handler.NONE, region: str = "us-east-1", **fields: Any) -> Refusal:
    """Return why a content has no image."""
    found = choose(a_content(framework, **fields), handler, region, TABLE)
    assert isinstance(found, Refusal), found
    return found


def a_content(framework: str, **fields: Any) -> Content:
    """Return a content with our serving code, on one CPU machine."""
    known = {"artifact": "a" * 16, "runtime": "b" * 16, "machine": ("ml.c6i.xlarge",)}
    return Content(framework=framework, **{**known, **fields})


def test_every_image_is_named_as_the_sdk_names_it() -> None:
    """Each image in us-east-1, and two in every region, has the name that SageMaker's own SDK gives."""
    ours = {
        f"{image.framework} {image.version} {image.architecture} {region} {processor or 'any'}": TABLE.uri(
            image, region, processor
        )
        for image in TABLE.images
        for region in image.registries
        for processor in image.tags
    }

    assert {asked: ours[asked] for asked in SDK_SAYS} == SDK_SAYS
    assert {asked for asked in ours if " us-east-1 " in asked} <= SDK_SAYS.keys()


@pytest.mark.parametrize(
    ("framework", "handler", "way", "image"),
    [
        ("sklearn", Handler.NONE, Way.HOST, f"{REGISTRY}/sagemaker-scikit-learn:1.9-0-cpu-py3"),
        ("sklearn", Handler.COMPLETE, Way.PREBUILT, f"{REGISTRY}/sagemaker-scikit-learn:1.9-0-cpu-py3"),
        ("sklearn", Handler.PARTIAL, Way.HOST, f"{REGISTRY}/sagemaker-scikit-learn:1.9-0-cpu-py3"),
        ("sklearn", Handler.PREDICTOR, Way.HOST, f"{REGISTRY}/sagemaker-scikit-learn:1.9-0-cpu-py3"),
        ("xgboost", Handler.NONE, Way.HOST, f"{REGISTRY}/sagemaker-xgboost:3.2-0"),
        ("xgboost", Handler.COMPLETE, Way.PREBUILT, f"{REGISTRY}/sagemaker-xgboost:3.2-0"),
        ("pytorch", Handler.NONE, Way.HOST, f"{LEARNED}/pytorch-inference:2.6.0-cpu-py312"),
        ("pytorch", Handler.COMPLETE, Way.PREBUILT, f"{LEARNED}/pytorch-inference:2.6.0-cpu-py312"),
        ("tensorflow", Handler.NONE, Way.PREBUILT, f"{LEARNED}/tensorflow-inference:2.20.0-cpu-py312"),
        ("tensorflow", Handler.TENSORFLOW, Way.PREBUILT, f"{LEARNED}/tensorflow-inference:2.20.0-cpu-py312"),
        (
            "huggingface",
            Handler.NONE,
            Way.PREBUILT,
            f"{LEARNED}/huggingface-pytorch-inference:2.6.0-transformers5.5.3-cpu-py312-ubuntu22.04",
        ),
        (
            "huggingface",
            Handler.PARTIAL,
            Way.PREBUILT,
            f"{LEARNED}/huggingface-pytorch-inference:2.6.0-transformers5.5.3-cpu-py312-ubuntu22.04",
        ),
        (
            "huggingface",
            Handler.PREDICTOR,
            Way.HOST,
            f"{LEARNED}/huggingface-pytorch-inference:2.6.0-transformers5.5.3-cpu-py312-ubuntu22.04",
        ),
        ("onnx", Handler.NONE, Way.HOST, f"{REGISTRY}/sagemaker-scikit-learn:1.9-0-cpu-py3"),
        ("lightgbm", Handler.COMPLETE, Way.HOST, f"{REGISTRY}/sagemaker-scikit-learn:1.9-0-cpu-py3"),
        ("custom", Handler.COMPLETE, Way.HOST, f"{REGISTRY}/sagemaker-scikit-learn:1.9-0-cpu-py3"),
    ],
)
def test_framework_and_handler_decide_the_image(framework: str, handler: Handler, way: Way, image: str) -> None:
    """Where the framework's container can't load a model by itself or by the handler, our serving code does."""
    found = chosen(framework, handler)

    assert (found.way, found.uri) == (way, image)


@pytest.mark.parametrize(
    ("framework", "asked", "tag"),
    [
        ("sklearn", "1.4", "1.4-2-py312-cpu-py3"),
        ("sklearn", "1.4-2", "1.4-2-py312-cpu-py3"),
        ("sklearn", "1.4.2", "1.4-2-py312-cpu-py3"),
        ("sklearn", "1.2-1", "1.2-1-cpu-py3"),
        ("sklearn", "1", "1.9-0-cpu-py3"),
        ("xgboost", "1.7", "1.7-1"),
        ("pytorch", "2", "2.6.0-cpu-py312"),
        ("pytorch", "1.10", "1.10.2-cpu-py38"),
        ("tensorflow", "2.19", "2.19.0-cpu"),
    ],
)
def test_a_version_means_the_newest_image_of_it(framework: str, asked: str, tag: str) -> None:
    """`1.4` is 1.4-2; 1.10 is newer than 1.9, and is not 1.1."""
    handler = Handler.NONE if framework == "tensorflow" else Handler.COMPLETE

    assert chosen(framework, handler, framework_version=asked).uri.rpartition(":")[2] == tag


def test_the_version_that_is_used_is_told() -> None:
    """The image's own, or that of the package that is installed; what requirements decide nobody knows here."""
    assert chosen("sklearn", framework_version="1.4").framework_version == "1.4-2-py312"
    assert chosen("onnx").framework_version == "1.32.0"
    assert chosen("onnx", framework_version="1.30").framework_version == "1.30"
    assert chosen("onnx", requirements="c" * 16).framework_version == ""
    assert chosen("custom").framework_version == ""


@pytest.mark.parametrize(
    ("framework", "machine", "tag"),
    [
        ("pytorch", "ml.g5.xlarge", "2.6.0-gpu-py312"),
        ("pytorch", "ml.p4d.24xlarge", "2.6.0-gpu-py312"),
        ("pytorch", "ml.g4dn.xlarge", "2.6.0-gpu-py312"),
        ("pytorch", "ml.g6e.xlarge", "2.6.0-gpu-py312"),
        ("pytorch", "ml.c7g.large", "2.6.0-cpu-py312-ubuntu22.04-sagemaker"),
        ("pytorch", "ml.r8g.large", "2.6.0-cpu-py312-ubuntu22.04-sagemaker"),
        ("xgboost", "ml.g5.xlarge", "3.2-0"),
        ("xgboost", "ml.m6gd.large", "1.5-1-arm64"),
        ("sklearn", "ml.c6g.large", "1.0-1-arm64-cpu-py3"),
        ("huggingface", "ml.g5.xlarge", "2.6.0-transformers5.5.3-gpu-py312-cu124-ubuntu22.04"),
    ],
)
def test_the_machine_decides_the_build(framework: str, machine: str, tag: str) -> None:
    """GPUs and Graviton processors have images of their own, of other versions at times."""
    assert chosen(framework, Handler.COMPLETE, machine=(machine,)).uri.rpartition(":")[2] == tag


def test_serverless_is_on_cpus() -> None:
    """Without a machine the image is the one for CPUs."""
    assert chosen("pytorch", machine=()) == chosen("pytorch")


@pytest.mark.parametrize(
    ("framework", "handler", "fields", "path", "words"),
    [
        (
            "sklearn",
            Handler.NONE,
            {"framework_version": "1.3"},
            "model.framework_version",
            "has no image of sklearn 1.3",
        ),
        (
            "sklearn",
            Handler.COMPLETE,
            {"machine": ("ml.g5.xlarge",)},
            "endpoint.machine",
            "no image for sklearn on GPUs",
        ),
        ("onnx", Handler.NONE, {"machine": ("ml.g5.xlarge",)}, "endpoint.machine", "no image for onnx on GPUs"),
        ("huggingface", Handler.NONE, {"machine": ("ml.c7g.large",)}, "endpoint.machine", "on Graviton processors"),
        ("pytorch", Handler.COMPLETE, {"machine": ("ml.inf2.xlarge",)}, "endpoint.machine", "ml.inf2.xlarge"),
        ("pytorch", Handler.COMPLETE, {"machine": ("ml.trn1.2xlarge",)}, "endpoint.machine", "ml.trn1.2xlarge"),
        ("pytorch", Handler.COMPLETE, {"machine": ("ml.g5g.xlarge",)}, "endpoint.machine", "ml.g5g.xlarge"),
        ("sklearn", Handler.NONE, {"framework_version": "1.2"}, "model.framework_version", "Python 3.10"),
        ("onnx", Handler.NONE, {"machine": ("ml.c6g.large",)}, "endpoint.machine", "Python 3.10"),
        ("pytorch", Handler.PREDICTOR, {"framework_version": "1.13"}, "model.framework_version", "a Predictor class"),
        ("tensorflow", Handler.COMPLETE, {}, "model.handler", "input_handler"),
    ],
)
def test_what_no_image_serves_is_refused(
    framework: str, handler: Handler, fields: dict[str, Any], path: str, words: str
) -> None:
    """The reason names the part of the spec, and the way out that always works."""
    found = refused(framework, handler, **fields)

    assert (found.path, words in found.why) == (path, True)
    assert "name an image of your own in model.image; `mlscale image build` makes one" in found.why
    assert found.link.startswith("https://")


def test_a_region_without_the_image_is_refused() -> None:
    """The reason names the image and the region."""
    found = refused("sklearn", region="mars-north-1")

    assert found.path == "region"
    assert "sklearn 0.20.0, 0.23-1, 1.0-1, 1.2-1, 1.4-2-py312, 1.9-0 nowhere in mars-north-1" in found.why


@pytest.mark.parametrize(
    ("machines", "words"),
    [
        (("ml.c6i.large", "ml.g5.xlarge"), "ml.c6i.large: CPUs, ml.g5.xlarge: GPUs"),
        (("ml.c6i.large", "ml.c7g.large"), "ml.c6i.large: CPUs, ml.c7g.large: Graviton processors"),
        (("n1-standard-4",), "n1-standard-4 is no instance type of SageMaker"),
    ],
)
def test_machines_that_one_image_does_not_fit_are_refused(machines: tuple[str, ...], words: str) -> None:
    """Every machine of an endpoint runs the same image."""
    found = refused("pytorch", machine=machines)

    assert (found.path, words in found.why) == ("endpoint.machine", True)


def test_an_old_image_runs_part_of_a_handler_with_its_own_defaults() -> None:
    """Our serving code can't run there, but the container can take what is in the handler."""
    found = chosen("sklearn", Handler.PARTIAL, framework_version="1.2")

    assert (found.way, found.why) == (
        Way.PREBUILT,
        "the image of sklearn 1.2-1 runs the handler, with its own defaults for what is not in it",
    )


def test_the_newest_image_that_can_run_our_code_is_taken() -> None:
    """Of several versions that are meant, an old one is not refused for its Python when a newer one fits."""
    assert chosen("xgboost", framework_version="3").uri.rpartition(":")[2] == "3.2-0"
    assert chosen("pytorch", framework_version="2").way is Way.HOST


def test_an_own_image_is_taken_as_it_is() -> None:
    """What model.image names is not looked up."""
    assert chosen("onnx", image="me/mine:1", machine=("ml.inf2.xlarge",)) == Choice(
        "me/mine:1", Way.OWN, "", "model.image names it", "the spec"
    )


@pytest.mark.parametrize(
    ("framework", "handler", "way"),
    [
        ("sklearn", Handler.COMPLETE, Way.PREBUILT),
        ("sklearn", Handler.NONE, Way.HOST),
        ("tensorflow", Handler.NONE, Way.PREBUILT),
    ],
)
def test_a_pinned_content_tells_its_way(framework: str, handler: Handler, way: Way) -> None:
    """The image and whether our code is in it say how it is served: all of that is read from the cloud again."""
    found = chosen(framework, handler)

    pinned = found.pinned(a_content(framework))

    assert pinned.image == found.uri
    assert (way_of(pinned), pinned.runtime) == (way, "b" * 16 if way is Way.HOST else None)


def test_an_own_image_is_told_from_sagemakers() -> None:
    """A copy of an image in one's own account is one's own."""
    own = replace(
        a_content("pytorch"), image="123456789012.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2", runtime=None
    )

    assert way_of(own) is Way.OWN
    assert is_sagemakers(f"{LEARNED}/pytorch-inference:2.6.0-cpu-py312")
    assert not is_sagemakers("python:3.12")


def test_china_has_a_domain_of_its_own() -> None:
    """A registry's address is that of its partition."""
    found = chosen("sklearn", region="cn-north-1")

    assert found.uri == "450853457545.dkr.ecr.cn-north-1.amazonaws.com.cn/sagemaker-scikit-learn:1.9-0-cpu-py3"


def an_sdk(folder: Path, version: str) -> Path:
    """Return a folder of packages with what we use of the SDK: its list of images, one newer than ours."""
    config = {
        "inference": {"versions": {"9.9-1": a_row("sagemaker-scikit-learn", processors=["cpu"], py_versions=["py3"])}}
    }
    lists = folder / SDK_FOLDER
    lists.mkdir(parents=True)
    for name in ("sklearn", "xgboost", "pytorch", "tensorflow", "huggingface"):
        (lists / f"{name}.json").write_text(json.dumps(config if name == "sklearn" else {"training": {}}))
    information = folder / f"sagemaker_core-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sagemaker-core\nVersion: {version}\n")
    return folder


def a_row(repository: str, **fields: Any) -> dict[str, Any]:
    """Return what the SDK's list says of one version."""
    return {"registries": {"us-east-1": "683313688378"}, "repository": repository, **fields}


def test_the_sdk_is_asked_where_it_is_installed(tmp_path: Path) -> None:
    """Its list goes before the package's, is read without importing it, and is named as the source."""
    table = newest_table([str(an_sdk(tmp_path, "9.0.1"))])

    found = choose(a_content("sklearn"), Handler.NONE, "us-east-1", table)

    assert found == Choice(
        f"{REGISTRY}/sagemaker-scikit-learn:9.9-1-cpu-py3",
        Way.HOST,
        "9.9-1",
        "our serving code in the image of sklearn 9.9-1",
        "sagemaker-core 9.0.1",
    )


def test_without_the_sdk_the_package_has_a_dated_table(tmp_path: Path) -> None:
    """The source names the day."""
    assert newest_table([str(tmp_path)]) == packaged()
    assert packaged().source.startswith("table of 20")


def test_the_package_s_table_is_what_the_script_writes() -> None:
    """Written from its own images it is the same text; a version is a line, so that a change can be read."""
    text = FILE.read_text()
    facts = json.loads(text)

    assert stored(packaged().images, packaged().domains, facts["source"], facts["date"]) == text


def test_algorithms_and_old_pythons_are_left_out(tmp_path: Path) -> None:
    """What runs nobody's code, or has a Python before 3.8, is no image for us."""
    lists = an_sdk(tmp_path, "1") / SDK_FOLDER
    versions = {"1": a_row("xgboost"), "1.7-1": a_row("sagemaker-xgboost")}
    (lists / "xgboost.json").write_text(json.dumps({"inference": {"versions": versions}}))
    old = {"1.6.0": a_row("pytorch-inference", py_versions=["py3", "py36"], processors=["cpu"])}
    (lists / "pytorch.json").write_text(json.dumps({"inference": {"versions": old}}))
    tensorflow = {version: a_row("tensorflow-inference") for version in ("1.15.0", "2.9.2")}
    (lists / "tensorflow.json").write_text(json.dumps({"inference": {"versions": tensorflow, "processors": ["cpu"]}}))

    found = [(image.framework, image.version, dict(image.tags)) for image in sdk_images(lists)]

    assert found == [
        ("sklearn", "9.9-1", {"cpu": "9.9-1-cpu-py3"}),
        ("xgboost", "1.7-1", {ANY: "1.7-1"}),
        ("tensorflow", "2.9.2", {"cpu": "2.9.2-cpu"}),
    ]
