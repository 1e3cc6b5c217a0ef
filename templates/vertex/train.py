"""Makes model/model.joblib: logistic regression on the iris data (Fisher 1936). Needs train-requirements.txt.

A model is read by the scikit-learn that wrote it: a 1.4 is in Vertex AI's container.
"""

from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

flowers, species = load_iris(return_X_y=True)
model = LogisticRegression(max_iter=1000).fit(flowers, species)
target = Path(__file__).parent / "model" / "model.joblib"
target.parent.mkdir(exist_ok=True)
joblib.dump(model, target)
print(f"{target}: {model.score(flowers, species):.1%} of the iris data right")
