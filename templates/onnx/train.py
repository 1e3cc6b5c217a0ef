"""Makes model/model.onnx: logistic regression on the iris data, as ONNX. Needs scikit-learn and skl2onnx."""

from pathlib import Path

from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

flowers, species = load_iris(return_X_y=True)
flowers = flowers.astype("float32")
model = LogisticRegression(max_iter=1000).fit(flowers, species)
target = Path(__file__).parent / "model" / "model.onnx"
target.parent.mkdir(exist_ok=True)
target.write_bytes(to_onnx(model, flowers[:1], options={"zipmap": False}).SerializeToString())
print(f"{target}: {model.score(flowers, species):.1%} of the iris data right")
