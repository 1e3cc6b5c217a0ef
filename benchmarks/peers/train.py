"""Makes the same digits classifier twice, as joblib and as ONNX, into the folder named on the command line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import joblib
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

folder = Path(sys.argv[1])
images, digits = load_digits(return_X_y=True)
images = images.astype("float32")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it stops before it converges changes nothing of what is timed
    model = LogisticRegression(max_iter=100).fit(images, digits)
for name in ("onnx", "sklearn"):
    (folder / name).mkdir(parents=True, exist_ok=True)
(folder / "onnx" / "model.onnx").write_bytes(to_onnx(model, images[:1], options={"zipmap": False}).SerializeToString())
joblib.dump(model, folder / "sklearn" / "model.joblib")
