"""Iris by the nearest centroid: SageMaker's four functions over a model of three rows."""

import json
from pathlib import Path

import numpy as np

SPECIES = ("setosa", "versicolor", "virginica")


def model_fn(model_dir):
    with np.load(Path(model_dir) / "centroids.npz") as stored:
        return stored["centroids"]


def input_fn(body, content_type):
    if content_type != "application/json":
        raise ValueError(f"{content_type} is not served here: send application/json")
    return np.asarray(json.loads(body)["instances"], dtype=float)


def predict_fn(flowers, centroids):
    distances = np.linalg.norm(flowers[:, None, :] - centroids[None, :, :], axis=2)
    return [{"species": SPECIES[row.argmin()], "distance": round(float(row.min()), 3)} for row in distances]


def output_fn(predictions, accept):
    return json.dumps({"predictions": predictions}), "application/json"
