"""The spec's language as JSON Schema, for editors and other tools."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from mlscale.quantities import duration_text, percent_text
from mlscale.spec.fields import MOST_REPLICAS
from mlscale.spec.model import Spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_VARIABLE = {
    "type": "string",
    "pattern": r"\$\{",
    "description": "Filled from the environment: ${NAME} or ${NAME:-default}.",
}
_WORDS = frozenset({"title", "description", "default"})
_NARROW = frozenset({"const", "enum", "pattern", "minLength", "maxLength"})


class _Generator(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """Return a default as a user writes it; one that has a fraction is a percentage."""
        if isinstance(dft, timedelta):
            return duration_text(dft)
        if isinstance(dft, float):
            return percent_text(dft)
        return [self.encode_default(each) for each in dft] if isinstance(dft, tuple) else super().encode_default(dft)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a spec file, `environments` included.

    It refuses no spec that `parse` takes; it takes some that `parse` refuses, where a field depends on another one.
    """
    schema = Spec.model_json_schema(mode="validation", schema_generator=_Generator)
    schema["properties"]["environments"] = {
        "type": ["object", "null"],
        "additionalProperties": {"type": ["object", "null"]},
        "description": "Overlays by name, chosen with --env: what stands there is laid over the rest of the spec.",
    }
    endpoint = schema["$defs"]["Endpoint"]["properties"]
    endpoint["replicas"] = {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_REPLICAS}, {"$ref": "#/$defs/Replicas"}],
        "description": endpoint["replicas"]["description"],
    }
    schema = _with_variables(schema)
    schema["$defs"]["Variable"] = _VARIABLE
    return {"$schema": DIALECT, **schema, "title": "mlscale spec"}


def _with_variables(schema: Any) -> Any:
    """Return `schema` with every value that a `${VARIABLE}` may stand for open to one."""
    if isinstance(schema, list):
        return [_with_variables(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in ("integer", "number", "boolean") or (
        schema.get("type") == "string" and _NARROW & schema.keys()
    ):
        words = {key: value for key, value in schema.items() if key in _WORDS}
        rule = {key: value for key, value in schema.items() if key not in _WORDS}
        return {"anyOf": [rule, {"$ref": "#/$defs/Variable"}], **words}
    closed = {"additionalProperties": False} if "patternProperties" in schema else {}
    return {key: _with_variables(value) for key, value in schema.items()} | closed
