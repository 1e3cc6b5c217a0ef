"""The JSON Schema and the parser are one language: an editor marks nothing that is right."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from mlscale.errors import SpecInvalid
from mlscale.spec.nodes import tree_of
from mlscale.spec.parse import parse
from mlscale.spec.schema import DIALECT, json_schema
from tests.unit.test_spec_mutations import CLOUD, FULL, TEXTS, VARIABLES, mutants

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one_of_its_dialect() -> None:
    """Editors can read it: it is valid by the schema of schemas, and every reference has its definition."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == DIALECT
    assert set(_values(SCHEMA, "$ref")) == {f"#/$defs/{name}" for name in SCHEMA["$defs"]}


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_an_editor_accepts_what_is_valid(text: str) -> None:
    """Every template, and the specs that have every key, variables and environments included."""
    assert list(VALIDATOR.iter_errors(yaml.safe_load(text))) == []


@pytest.mark.parametrize("machine", ["ml.c6i.xlarge", ["ml.c6i.xlarge"], "${MACHINE}", ["${MACHINE}"]])
def test_an_editor_accepts_one_machine_or_several(machine: object) -> None:
    """A single type needs no list, and a variable may stand for it."""
    spec = yaml.safe_load(CLOUD.read_text("utf-8"))
    spec["endpoint"]["machine"] = machine

    assert list(VALIDATOR.iter_errors(spec)) == []


def test_an_editor_refuses_unknown_keys_everywhere() -> None:
    """A key that the parser refuses is marked in each mapping of the full spec, but for overlays."""
    full = yaml.safe_load(FULL.read_text("utf-8"))
    places = [place for place in _mappings(full, ()) if place[:1] != ("environments",)]

    accepted = []
    for place in places:
        changed = copy.deepcopy(full)
        inner = changed
        for part in place:
            inner = inner[part]
        inner["Not known"] = 1
        if VALIDATOR.is_valid(changed):
            accepted.append(place)

    assert len(places) > 10
    assert accepted == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2),
        ("name", "Reviews"),
        ("provider", "azure"),
        ("region", "us"),
        ("region", "uscentral1"),
        ("account", "1234"),
        ("alarms", {"p99_latency": 500}),
        ("alarms", {"error_rate": "1"}),
        ("endpoint", {"machine": ["ml.a", "ml.b", "ml.c", "ml.d", "ml.e", "ml.f"]}),
        ("endpoint", {"machine": "ML.A"}),
        ("endpoint", {"kind": "batch"}),
        ("sagemaker", {"role": "admin"}),
        ("sagemaker", {"volume_size": 50}),
        ("vertex", {"uploads": "s3://acme/a"}),
        ("vertex", {"network": "ml"}),
        ("vertex", {"encryption_key": "alias/ml"}),
        ("vertex", {"service_account": "ml@example.com"}),
        ("vertex", {"request_logging": {"share": "10%", "destination": "acme.serving.requests"}}),
        ("alarms", {"notify": ["ml@example.com"]}),
        ("endpoint", {"accelerator": {"type": "nvidia-l5"}}),
        ("endpoint", {"accelerator": {"type": "nvidia-l4", "count": 17}}),
        ("endpoint", {"capacity": "preemptible"}),
        ("labels", {"a": 1}),
        ("model", {"source": "", "framework": "onnx"}),
        ("model", {"source": "m", "framework": "scikit"}),
        ("model", {"framework": "onnx"}),
        ("endpoint", {"replicas": 0}),
        ("endpoint", {"health": {"startup_timeout": 10}}),
        ("endpoint", {"health": {"startup_timeout": "10 minutes"}}),
        ("endpoint", {"autoscaling": {"target": [{"metric": "cpu", "value": "70"}]}}),
        ("endpoint", {"autoscaling": {"schedule": [{"cron": "0 8 * *"}]}}),
        ("rollout", {"bake_time": ""}),
        ("local", {"port": "80"}),
    ],
)
def test_an_editor_refuses_values_that_are_wrong_by_themselves(path: str, value: object) -> None:
    """Types, ranges and the forms of durations, percentages, names and times are in the schema."""
    spec = yaml.safe_load(TEXTS[2])

    assert VALIDATOR.is_valid(spec)
    assert not VALIDATOR.is_valid({**spec, path: value})


def test_a_variable_may_stand_for_any_value() -> None:
    """An editor does not mark ${PORT} where a number, a duration or a choice will be."""
    spec = yaml.safe_load(TEXTS[2])
    spec |= {
        "endpoint": {"replicas": {"min": "${N}", "max": "${N:-4}"}, "health": {"startup_timeout": "${T:-5m}"}},
        "rollout": {"strategy": "${STRATEGY}", "keep_revisions": "${N}"},
        "local": {"allow_remote": "${REMOTE}", "port": "${PORT}"},
    }

    assert list(VALIDATOR.iter_errors(spec)) == []


def test_defaults_are_written_as_users_write_them() -> None:
    """A default that an editor puts in is valid where it stands."""
    found = list(_defaults(SCHEMA))

    assert {default for _, default in found if isinstance(default, str)} >= {"10m", "30s", "5m", "0s", "UTC", "/ping"}
    for schema, default in found:
        inner = {key: value for key, value in schema.items() if key != "default"}
        assert jsonschema.Draft202012Validator({**inner, "$defs": SCHEMA["$defs"]}).is_valid(default)


def test_every_key_is_described() -> None:
    """An editor shows what each key means."""
    sections = [SCHEMA, *SCHEMA["$defs"].values()]

    assert [
        (section["title"], name)
        for section in sections
        for name, field in section.get("properties", {}).items()
        if not field.get("description") and not SCHEMA["$defs"][field["$ref"].rpartition("/")[2]].get("description")
    ] == []


def test_what_the_parser_takes_the_schema_takes() -> None:
    """Of 700 mutants every one that is a valid spec is valid by the schema, too."""
    disagreed, agreed = [], 0
    for mutant in mutants(seed=3, count=700):
        try:
            parse(mutant.text, "spec.yaml", variables=VARIABLES)
        except SpecInvalid:
            continue
        value = tree_of(mutant.text, "spec.yaml").value
        disagreed += [error.message for error in VALIDATOR.iter_errors(value)]
        agreed += 1

    assert disagreed == []
    assert agreed >= 70


def _values(schema: Any, key: str) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (value for name, value in schema.items() if name == key and isinstance(value, str))
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _values(each, key)


def _defaults(schema: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    if isinstance(schema, dict):
        for field in schema.get("properties", {}).values():
            if "default" in field:
                yield field, field["default"]
        for each in schema.values():
            yield from _defaults(each)


def _mappings(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        yield path
        for key, each in value.items():
            yield from _mappings(each, (*path, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _mappings(each, (*path, number))
