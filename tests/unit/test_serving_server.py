"""How the model server is asked to run."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlscale.serving.server import Metrics, Settings, settings_of

SAGEMAKER = Settings(
    folder=Path("/opt/ml/model"),
    framework=None,
    handler=None,
    host="0.0.0.0",
    port=8080,
    health_routes=frozenset({"/ping"}),
    predict_routes=frozenset({"/invocations"}),
    largest_body=25 * 2**20,
    batching=True,
    drain_s=30.0,
    parent=None,
)


def test_nothing_said_is_sagemakers_contract() -> None:
    """Port 8080, /ping, /invocations, /opt/ml/model."""
    assert settings_of({}) == SAGEMAKER


def test_vertex_says_port_routes_and_storage() -> None:
    """AIP_* holds, and SageMaker's routes stay beside Vertex's."""
    settings = settings_of(
        {
            "AIP_HTTP_PORT": "8085",
            "AIP_HEALTH_ROUTE": "/v1/endpoints/1/deployedModels/2",
            "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
            "AIP_STORAGE_URI": "/mnt/model",
        }
    )

    assert settings == Settings(
        folder=Path("/mnt/model"),
        framework=None,
        handler=None,
        host="0.0.0.0",
        port=8085,
        health_routes=frozenset({"/ping", "/v1/endpoints/1/deployedModels/2"}),
        predict_routes=frozenset({"/invocations", "/v1/endpoints/1/deployedModels/2:predict"}),
        largest_body=25 * 2**20,
        batching=True,
        drain_s=30.0,
        parent=None,
    )


def test_our_own_words_come_before_both_clouds() -> None:
    """What the supervisor says holds wherever the image came from."""
    settings = settings_of(
        {
            "MLSCALE_PORT": "9000",
            "AIP_HTTP_PORT": "8085",
            "SAGEMAKER_BIND_TO_PORT": "8081",
            "MLSCALE_MODEL_DIR": "/model",
            "AIP_STORAGE_URI": "gs://bucket/model",
            "MLSCALE_FRAMEWORK": "onnx",
            "MLSCALE_HANDLER": "mine.py",
            "MLSCALE_HOST": "127.0.0.1",
            "MLSCALE_HEALTH_PATH": "/healthz",
            "MLSCALE_MAX_BODY_BYTES": "1000",
            "MLSCALE_BATCHING": "0",
            "MLSCALE_DRAIN_TIMEOUT": "2.5",
            "MLSCALE_PARENT_PID": "12",
        }
    )

    assert settings == Settings(
        folder=Path("/model"),
        framework="onnx",
        handler="mine.py",
        host="127.0.0.1",
        port=9000,
        health_routes=frozenset({"/ping", "/healthz"}),
        predict_routes=frozenset({"/invocations"}),
        largest_body=1000,
        batching=False,
        drain_s=2.5,
        parent=12,
    )


def test_what_is_no_number_is_named() -> None:
    """The variable and what it says."""
    with pytest.raises(ValueError, match="AIP_HTTP_PORT is 'http', which is not a number"):
        settings_of({"AIP_HTTP_PORT": "http"})


def test_the_metrics_are_prometheus_text() -> None:
    """Prometheus's own parser reads every family."""
    metrics = Metrics()
    metrics.count(200, 0.003)
    metrics.count_batch(4)

    families = {each.name: each for each in text_string_to_metric_families(metrics.exposition())}

    assert {name: each.type for name, each in families.items()} == {
        "model_requests": "counter",
        "model_request_duration_seconds": "histogram",
        "model_requests_in_flight": "gauge",
        "model_batches": "counter",
        "model_rows": "counter",
        "process_cpu_seconds": "counter",
    }
    assert [(each.labels, each.value) for each in families["model_requests"].samples] == [({"code": "200"}, 1.0)]
    assert [each.value for each in families["model_rows"].samples] == [4.0]
