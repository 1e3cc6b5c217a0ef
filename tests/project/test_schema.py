"""The JSON Schema that editors get: it takes what `validate` takes, and refuses the mistakes that people make."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from mlscale.spec.schema import json_schema
from tests.documents import ROOT, blocks, pages

VALIDATOR = Draft202012Validator(json_schema())
TEMPLATES = sorted((ROOT / "templates").glob("*/spec.yaml"))
PRINTED = [
    block for page in pages() for block in blocks(page) if block.language == "yaml" and block.text.startswith("version")
]


def test_the_schema_is_a_schema() -> None:
    """It is valid by its own dialect."""
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("spec", TEMPLATES, ids=lambda path: path.parent.name)
def test_templates_fit_the_schema(spec: Any) -> None:
    """An editor shows no error in a spec that `init` has written."""
    assert _errors(yaml.safe_load(spec.read_text())) == []


@pytest.mark.parametrize("block", PRINTED, ids=str)
def test_printed_specs_fit_the_schema(block: Any) -> None:
    """Nor in one that the documents show."""
    assert _errors(yaml.safe_load(block.text)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("modle",), {}),
        (("model", "frameworks"), "onnx"),
        (("version",), 2),
        (("provider",), "azure"),
        (("endpoint", "replicas"), 0),
        (("endpoint", "replicas", "min"), "two"),
        (("endpoint", "autoscaling", "target"), {"metric": "cpu"}),
        (("rollout", "strategy"), "canari"),
        (("name",), "Upper"),
    ],
    ids=lambda each: ".".join(each) if isinstance(each, tuple) else "",
)
def test_mistakes_do_not_fit_the_schema(path: tuple[str, ...], value: object) -> None:
    """An unknown key, a wrong type or a word that is not in the list is marked in the editor."""
    spec = copy.deepcopy(yaml.safe_load(TEMPLATES[0].read_text()))
    place = spec
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value

    assert _errors(spec) != []


def _errors(spec: object) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(spec)]
