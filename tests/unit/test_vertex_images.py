"""Which container serves a content on Vertex AI, and what it reads and answers."""

from __future__ import annotations

import importlib.util
import json
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlscale.deployment import Content
from mlscale.providers.contract import Refusal
from mlscale.providers.vertex.images import (
    FILE,
    FILES,
    LINK,
    PORT,
    PREDICT_ROUTE,
    Choice,
    Way,
    choose,
    is_prebuilt,
    missing_file,
    packaged,
)
from mlscale.serving.server import settings_of

CPU, GPU = "n1-standard-4", "g2-standard-8+1xnvidia-l4"
TABLE = packaged()
XGBOOSTS = "2.1, 2.0, 1.7, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 0.90, 0.82"
OWN = "name an image of your own in model.image; `mlscale image build --push` makes one"


def a_content(framework: str, **fields: Any) -> Content:
    """Return a content with our serving code, on one CPU machine."""
    return Content(framework=framework, **{"artifact": "a" * 16, "runtime": "b" * 16, "machine": (CPU,), **fields})


def script() -> ModuleType:
    """Return the script that writes the table."""
    spec = importlib.util.spec_from_file_location("vertex_images", Path(__file__).parents[2] / "docs/vertex_images.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_is_what_googles_own_package_lists() -> None:
    """Written again from the version that it names, the file is the same; each container has one row."""
    written, sdk = script(), metadata.distribution("google-cloud-aiplatform")
    source = Path(str(sdk.locate_file(written.LIST))).read_text()
    stored = json.loads(FILE.read_text())
    named = [
        f"{host}-docker.pkg.dev/vertex-ai/prediction/{image.name}:latest"
        for image in TABLE.images
        for host in image.hosts
    ]

    assert set(written.uris(source)) >= set(named)
    assert len(named) == len(set(named)) > 100
    if stored["source"].endswith(f" {sdk.version}"):
        assert FILE.read_text() == written.table(source, sdk.version, stored["date"])


def test_a_container_of_another_form_is_not_left_out_in_silence() -> None:
    """The script stops where Google names one otherwise."""
    with pytest.raises(ValueError, match="prediction/jax:latest has a form that is not known"):
        script().table('URIS = ["us-docker.pkg.dev/vertex-ai/prediction/jax:latest"]', "9.9", "2030-01-01")


@pytest.mark.parametrize(
    ("framework", "version", "machine", "region", "name", "has"),
    [
        ("sklearn", None, CPU, "us-central1", "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6", "1.6"),
        ("sklearn", "1.5.2", CPU, "europe-west4", "europe-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-5", "1.5"),
        ("sklearn", "0", CPU, "us-east1", "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.0-24", "0.24"),
        ("xgboost", None, CPU, "asia-east1", "asia-docker.pkg.dev/vertex-ai/prediction/xgboost-cpu.2-1", "2.1"),
        ("tensorflow", None, GPU, "me-west1", "europe-docker.pkg.dev/vertex-ai/prediction/tf2-gpu.2-15", "2.15"),
        (
            "tensorflow",
            "1.15",
            CPU,
            "southamerica-east1",
            "us-docker.pkg.dev/vertex-ai/prediction/tf-cpu.1-15",
            "1.15",
        ),
        (
            "pytorch",
            "2",
            GPU,
            "australia-southeast1",
            "asia-docker.pkg.dev/vertex-ai/prediction/pytorch-gpu.2-4",
            "2.4",
        ),
    ],
)
def test_newest_container_that_fits_is_chosen(
    framework: str, version: str | None, machine: str, region: str, name: str, has: str
) -> None:
    """By framework, version and processor, from the registry that is near; 2.15 is newer than 2.9."""
    found = choose(a_content(framework, framework_version=version, machine=(machine,)), region)

    assert found == Choice(
        f"{name}:latest", Way.PREBUILT, has, f"the container of {framework} {has} loads the model", TABLE.source
    )
    assert is_prebuilt(f"{name}:latest")


@pytest.mark.parametrize(
    ("content", "path", "why"),
    [
        (
            a_content("sklearn", handler="c" * 16),
            "model.handler",
            f"Vertex AI's own containers run no code of yours: {OWN}",
        ),
        (
            a_content("sklearn", requirements="c" * 16),
            "model.requirements",
            f"Vertex AI's own containers run no code of yours: {OWN}",
        ),
        *(
            (a_content(each), "model.framework", f"Vertex AI has no container for {each} in us-central1: {OWN}")
            for each in ("onnx", "lightgbm", "huggingface", "custom")
        ),
        (
            a_content("xgboost", machine=(GPU,)),
            "endpoint.machine",
            f"Vertex AI has no container for xgboost on GPUs: {OWN}",
        ),
        (
            a_content("pytorch", machine=(GPU, CPU)),
            "endpoint.machine",
            f"one image can't run with and without GPUs ({GPU}, {CPU})",
        ),
        (
            a_content("xgboost", framework_version="3"),
            "model.framework_version",
            f"Vertex AI has no container for xgboost 3 ({TABLE.source}: {XGBOOSTS}): {OWN}",
        ),
    ],
)
def test_what_no_container_of_googles_serves_is_refused(content: Content, path: str, why: str) -> None:
    """What is missing is said, and how to make an image that serves it."""
    assert choose(content, "us-central1") == Refusal(path, why, LINK)


@pytest.mark.parametrize(
    ("image", "way"),
    [
        ("us-central1-docker.pkg.dev/acme-ml/models/reviews:3", Way.OWN),
        ("us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-5:latest", Way.PREBUILT),
        ("us-docker.pkg.dev/vertex-ai-restricted/prediction/tf_opt-cpu.nightly@sha256:12", Way.PREBUILT),
        ("us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-5:latest", Way.OWN),
        ("example.com/us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-5:latest", Way.OWN),
    ],
)
def test_an_image_that_the_spec_names_is_taken(image: str, way: Way) -> None:
    """Whatever is served; one of Google's own keeps its ports and routes."""
    content = a_content("sklearn", image=image, handler="c" * 16, framework_version="1.5")

    assert choose(content, "us-central1") == Choice(image, way, "1.5", "model.image names it", "the spec")
    assert is_prebuilt(image) is (way is Way.PREBUILT)


@pytest.mark.parametrize("framework", sorted({image.framework for image in TABLE.images}))
def test_each_container_reads_a_file_of_one_name(framework: str) -> None:
    """Any one of its names at the top of the folder is enough; elsewhere or in other words it is missing."""
    assert [missing_file(framework, ["data/x.txt", each]) for each in FILES[framework]] == [None] * len(
        FILES[framework]
    )
    assert missing_file(framework, [f"export/{FILES[framework][0]}"]) is not None


def test_a_missing_file_is_named_with_what_is_there() -> None:
    """The words say which name is read, and what else can be done."""
    assert missing_file("xgboost", ["reviews.ubj", "README.md"]) == (
        "Vertex AI's container for xgboost reads model.bst or model.joblib or model.pkl, and there is README.md, "
        f"reviews.ubj: name it so, or {OWN}"
    )
    assert missing_file("sklearn", []) == (
        f"Vertex AI's container for sklearn reads model.joblib or model.pkl, and there is nothing: name it so, or {OWN}"
    )
    assert missing_file("onnx", ["reviews.onnx"]) is None


def test_our_own_image_listens_where_vertex_asks() -> None:
    """Port and route are the server's own, so it answers there whether or not it is told."""
    told = {"AIP_HTTP_PORT": str(PORT), "AIP_PREDICT_ROUTE": PREDICT_ROUTE, "AIP_HEALTH_ROUTE": "/ping"}

    assert settings_of(told) == settings_of({})
    assert settings_of({}).port == PORT
    assert settings_of({}).predict_routes == {PREDICT_ROUTE}
