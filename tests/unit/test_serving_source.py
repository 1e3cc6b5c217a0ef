"""Where a model server finds its model: mounted, in the image, or in a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlscale.serving.frameworks import LoadError
from mlscale.serving.source import SAGEMAKER_FOLDER, _inside, folder_of, model_folder


def test_sagemakers_folder_is_what_remains() -> None:
    """Our own variable goes before Vertex's path, and both before SageMaker's folder."""
    vertex = {"AIP_STORAGE_URI": "/gcs/models/churn"}

    assert folder_of({**vertex, "MLSCALE_MODEL_DIR": "/m"}) == Path("/m")
    assert folder_of(vertex) == Path("/gcs/models/churn")
    assert folder_of({"AIP_STORAGE_URI": ""}) == Path(SAGEMAKER_FOLDER)


def test_an_image_serves_its_own_model_where_no_other_is_given(tmp_path: Path) -> None:
    """SageMaker's folder is not there, so what the image brings is served; a folder that is named is taken as it is."""
    image = {"MLSCALE_IMAGE_MODEL": "/opt/mlscale/model"}

    assert model_folder(Path(SAGEMAKER_FOLDER), image) == Path("/opt/mlscale/model")
    assert model_folder(tmp_path, image) == tmp_path
    assert model_folder(Path(SAGEMAKER_FOLDER), {}) == Path(SAGEMAKER_FOLDER)


def test_a_folder_of_ours_goes_before_a_bucket(tmp_path: Path) -> None:
    """Where a folder is named nothing is fetched."""
    environment = {"MLSCALE_MODEL_DIR": str(tmp_path), "AIP_STORAGE_URI": "gs://nowhere/model"}

    assert model_folder(tmp_path, environment) == tmp_path


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "code/../../inference.py"])
def test_an_object_can_not_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    """An object's name may hold anything; one that means another folder ends the fetch."""
    with pytest.raises(LoadError, match="leads out of the model's folder"):
        _inside(tmp_path, name)
