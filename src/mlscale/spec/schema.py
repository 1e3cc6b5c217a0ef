"""The spec's language as JSON Schema, for editors and other tools."""

from __future__ import annotations

from typing import Any

from mlscale.spec.model import Spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a spec file, `environments` included."""
    schema = Spec.model_json_schema(mode="validation")
    schema["properties"]["environments"] = {
        "type": "object",
        "additionalProperties": {"type": "object"},
        "description": "Overlays by name, chosen with --env: what stands there is laid over the rest of the spec.",
    }
    replicas = schema["$defs"]["Endpoint"]["properties"]["replicas"]
    schema["$defs"]["Endpoint"]["properties"]["replicas"] = {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 1000}, {"$ref": "#/$defs/Replicas"}],
        "description": replicas.get("description", ""),
    }
    return {"$schema": DIALECT, **schema, "title": "mlscale spec"}
