"""How each framework's models are found, loaded and called."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlscale.serving.codec import BadRequestError

ENDINGS: Mapping[str, Sequence[str]] = {
    "onnx": (".onnx",),
    "sklearn": (".joblib", ".pkl", ".pickle"),
    "xgboost": (".ubj", ".json", ".xgb"),
    "lightgbm": (".txt",),
}

OUTPUTS = "MLSCALE_ONNX_OUTPUTS"
"""Names of the outputs that are wanted, separated by commas."""

_ONNX_NAMES = {"float": "float32", "double": "float64", "string": "object"}
"""ONNX's names for types where NumPy has others."""

_ONE_LABEL = 2
"""A classifier's outputs (ONNX-ML): its label and the probabilities."""


class LoadError(Exception):
    """The model can't be loaded; the words are fit for a user."""


def model_file(folder: Path, framework: str | None) -> tuple[str, Path]:
    """Return the framework and its model's file: the only one with its ending, or of several the one named model.*.

    Raises:
        LoadError: there is none, or several and none of that name.
    """
    if framework is not None and framework not in ENDINGS:
        raise LoadError(f"framework {framework} needs a handler: code/inference.py in {folder}")
    frameworks: Sequence[str] = (framework,) if framework else tuple(ENDINGS)
    for name in frameworks:
        files = [
            file
            for file in sorted(folder.rglob("*"))
            if file.suffix in ENDINGS[name] and file.is_file() and "code" not in file.relative_to(folder).parts[:-1]
        ]
        named = [file for file in files if file.stem == "model"]
        if named or (len(files) == 1 and (framework or file_is_telling(files[0]))):
            return name, (named or files)[0]
        if framework and files:
            several = ", ".join(str(file.relative_to(folder)) for file in files)
            raise LoadError(f"which of {several} is the model? Name it model{ENDINGS[name][0]}")
    wanted = ", ".join(ending for name in frameworks for ending in ENDINGS[name])
    raise LoadError(f"there is no file with one of {wanted} in {folder}")


def file_is_telling(file: Path) -> bool:
    """Whether a file's ending alone says that it is a model: many things end in .json and .txt."""
    return file.suffix not in (".json", ".txt")


def sklearn(file: Path) -> Callable[[Any], Any]:
    """Return the predictions of a model stored by joblib or pickle.

    A model that was fitted with named columns gets its rows as a data frame, if pandas is installed.
    """
    import joblib

    model = joblib.load(file)
    predict: Callable[[Any], Any] = model.predict
    names = getattr(model, "feature_names_in_", None)
    frame = _data_frame()
    if names is not None and frame is not None:
        columns = [str(name) for name in names]
        return lambda rows: predict(_named(frame, rows, columns))
    return lambda rows: predict(_listed(rows, names))


def _data_frame() -> Callable[..., Any] | None:
    try:
        import pandas as pd
    except ImportError:
        return None
    frame: Callable[..., Any] = pd.DataFrame
    return frame


def _named(frame: Callable[..., Any], rows: Any, columns: Sequence[str]) -> Any:
    if _are_objects(rows):
        return frame([[_field(row, column) for column in columns] for row in rows], columns=columns)
    try:
        return frame(rows, columns=columns)
    except ValueError as error:
        raise BadRequestError(400, f"a row has the columns {', '.join(columns)}: {error}") from error


def _listed(rows: Any, names: Sequence[str] | None) -> Any:
    if not _are_objects(rows):
        return rows
    if names is None:
        raise BadRequestError(400, "this model has no column names: send rows as lists")
    return [[_field(row, name) for name in names] for row in rows]


def _are_objects(rows: Any) -> bool:
    return isinstance(rows, list) and bool(rows) and isinstance(rows[0], dict)


def _field(row: Any, name: str) -> Any:
    try:
        return row[name]
    except (KeyError, TypeError, IndexError) as error:
        raise BadRequestError(400, f"a row has no {name}") from error


def onnx(file: Path) -> Callable[[Any], Any]:
    """Return the outputs of an ONNX model.

    A row is a list for a model with one input; for one with several, an object with a value for each, or a list with
    the values in the order of the model. A prediction is the value of the only output, a label where there is a
    classifier, or an object with all outputs; OUTPUTS asks for others.

    Raises:
        LoadError: OUTPUTS names an output that the model does not have.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    inputs = [(each.name, _numpy_type(each.type), each.shape) for each in session.get_inputs()]
    outputs = _wanted_outputs([each.name for each in session.get_outputs()])
    if len(inputs) == 1:
        name, kind, shape = inputs[0]

        def feed(rows: Any) -> dict[str, Any]:
            return {name: np.asarray(_column(rows, name, 0) if _are_objects(rows) else rows, dtype=kind)}

        alone = bool(shape) and shape[0] == 1
    else:

        def feed(rows: Any) -> dict[str, Any]:
            return {
                name: _shaped(np.asarray(_column(rows, name, place), dtype=kind), shape)
                for place, (name, kind, shape) in enumerate(inputs)
            }

        alone = any(shape and shape[0] == 1 for _, _, shape in inputs)

    def predict(rows: Any) -> Any:
        values = session.run(outputs, feed(rows))
        if len(values) == 1:
            return values[0]
        return [dict(zip(outputs, row, strict=True)) for row in zip(*values, strict=True)]

    return (lambda rows: [predict(rows[at : at + 1])[0] for at in range(len(rows))]) if alone else predict


def _numpy_type(onnx_type: str) -> str:
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return _ONNX_NAMES.get(name, name)


def _wanted_outputs(names: Sequence[str]) -> Sequence[str]:
    asked = [name.strip() for name in os.environ.get(OUTPUTS, "").split(",") if name.strip()]
    if unknown := [name for name in asked if name not in names]:
        raise LoadError(f"{OUTPUTS} names {', '.join(unknown)}; the model has {', '.join(names)}")
    is_classifier = len(names) == _ONE_LABEL and "label" in names[0] and "probabilit" in names[1]
    return asked or (names[:1] if is_classifier else names)


def _column(rows: Any, name: str, place: int) -> Sequence[Any]:
    return [_field(row, name) if isinstance(row, dict) else _at(row, place) for row in rows]


def _at(row: Any, place: int) -> Any:
    try:
        return row[place]
    except (TypeError, IndexError) as error:
        raise BadRequestError(400, f"a row has no value at place {place}") from error


def _shaped(values: Any, shape: Sequence[Any]) -> Any:
    """Return one value a row as a column, where the model has a column for them."""
    return values.reshape(-1, 1) if values.ndim == 1 and len(shape) == len(("rows", "values")) else values


def xgboost(file: Path) -> Callable[[Any], Any]:
    """Return what an XGBoost model predicts: probabilities where it is a classifier, as SageMaker's container does."""
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(str(file))
    return lambda rows: booster.inplace_predict(np.asarray(rows, dtype=np.float32))


def lightgbm(file: Path) -> Callable[[Any], Any]:
    """Return what a LightGBM model predicts: probabilities where it is a classifier."""
    import lightgbm

    booster = lightgbm.Booster(model_file=str(file))
    return lambda rows: booster.predict(np.asarray(rows))


LOADERS: Mapping[str, Callable[[Path], Callable[[Any], Any]]] = {
    "onnx": onnx,
    "sklearn": sklearn,
    "xgboost": xgboost,
    "lightgbm": lightgbm,
}
