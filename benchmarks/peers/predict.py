"""How every peer calls the model: the ONNX session or the joblib file in MODEL, one thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def loaded() -> Callable[[Any], Any]:
    """Return rows → predictions, an array of one a row."""
    path = Path(os.environ["MODEL"])
    if path.suffix == ".joblib":
        import joblib

        predict: Callable[[Any], Any] = joblib.load(path).predict
        return predict
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name, output = session.get_inputs()[0].name, [session.get_outputs()[0].name]
    return lambda rows: session.run(output, {name: np.asarray(rows, dtype=np.float32)})[0]
