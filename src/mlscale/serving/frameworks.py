"""How each framework's models are found, loaded and called."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlscale.serving.codec import BadRequestError

ENDINGS: Mapping[str, Sequence[str]] = {
    "onnx": (".onnx",),
    "sklearn": (".joblib", ".pkl", ".pickle"),
    "xgboost": (".ubj", ".json", ".xgb"),
    "lightgbm": (".txt",),
    "pytorch": (".pt", ".pth"),
}

OUTPUTS = "ONNX_OUTPUTS"
"""Names of the outputs that are wanted, separated by commas."""

PROVIDERS = "ONNX_PROVIDERS"
"""ONNX Runtime's execution providers that are wanted, separated by commas: tensorrt,cuda,cpu or their whole names."""

TORCH_DEVICE = "TORCH_DEVICE"
"""The device of a TorchScript, in PyTorch's words: cpu, cuda, cuda:1, mps."""

CPU = "cpu"

_SUFFIX = "ExecutionProvider"
_CPU = f"CPU{_SUFFIX}"
_UNASKED = (f"CUDA{_SUFFIX}", _CPU)
"""What is taken of ONNX Runtime's providers where nothing is asked for. TensorRT is not: it is in every build for CUDA,
and makes each model's engine for minutes at each start."""

_ONNX_NAMES = {"float": "float32", "double": "float64", "string": "object"}
"""ONNX's names for types where NumPy has others."""

_ONE_LABEL = 2
"""A classifier's outputs (ONNX-ML): its label and the probabilities."""


class LoadError(Exception):
    """The model can't be loaded; the words are fit for a user."""


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model: rows → predictions, one a row; and what it runs on, in its framework's own word."""

    predict: Callable[[Any], Any]
    device: str = CPU


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


def sklearn(file: Path) -> Model:
    """Return a model stored by joblib or pickle.

    A model that was fitted with named columns gets its rows as a data frame, if pandas is installed.
    """
    import joblib

    model = joblib.load(file)
    predict: Callable[[Any], Any] = model.predict
    names = getattr(model, "feature_names_in_", None)
    frame = _data_frame()
    if names is not None and frame is not None:
        columns = [str(name) for name in names]
        return Model(lambda rows: predict(_named(frame, rows, columns)))
    return Model(lambda rows: predict(_listed(rows, names)))


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


def onnx(file: Path) -> Model:
    """Return an ONNX model: on a GPU where this ONNX Runtime has CUDA, else on the processor, unless PROVIDERS is set.

    A row is a list for a model with one input; for one with several, an object with a value for each, or a list with
    the values in the order of the model. A prediction is the value of the only output, a label where there is a
    classifier, or an object with all outputs; OUTPUTS asks for others.

    Raises:
        LoadError: OUTPUTS names an output that the model does not have, or PROVIDERS what can't be used here.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    providers = _providers(onnxruntime.get_available_providers())
    if providers[0] != _CPU and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA and cuDNN from their wheels, which the loader doesn't find by itself
    session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    used = session.get_providers()  # ONNX Runtime leaves out what it can't start, and says so in the log alone
    if os.environ.get(PROVIDERS) and (left_out := [each for each in providers if each not in used]):
        raise LoadError(f"{PROVIDERS} names {', '.join(left_out)}, which ONNX Runtime could not start")
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

    one_by_one = Model(lambda rows: [predict(rows[at : at + 1])[0] for at in range(len(rows))], used[0])
    return one_by_one if alone else Model(predict, used[0])


def _providers(available: Sequence[str]) -> Sequence[str]:
    asked = _names_in(PROVIDERS)
    if not asked:
        return [each for each in _UNASKED if each in available]
    by_word = {_provider_word(each): each for each in available}
    if unknown := [name for name in asked if _provider_word(name) not in by_word]:
        raise LoadError(f"{PROVIDERS} names {', '.join(unknown)}; this ONNX Runtime has {', '.join(available)}")
    return [by_word[_provider_word(name)] for name in asked]


def _provider_word(name: str) -> str:
    return name.removesuffix(_SUFFIX).lower()


def _names_in(variable: str) -> Sequence[str]:
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]


def _numpy_type(onnx_type: str) -> str:
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return _ONNX_NAMES.get(name, name)


def _wanted_outputs(names: Sequence[str]) -> Sequence[str]:
    asked = _names_in(OUTPUTS)
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


def xgboost(file: Path) -> Model:
    """Return an XGBoost model; a classifier predicts probabilities, as in SageMaker's container."""
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(str(file))
    return Model(lambda rows: booster.inplace_predict(np.asarray(rows, dtype=np.float32)))


def lightgbm(file: Path) -> Model:
    """Return a LightGBM model; a classifier predicts probabilities."""
    import lightgbm

    booster = lightgbm.Booster(model_file=str(file))
    return Model(lambda rows: booster.predict(np.asarray(rows)))


def pytorch(file: Path) -> Model:
    """Return a TorchScript: on a GPU where PyTorch sees one, else on the processor; TORCH_DEVICE goes before both.

    It gets one tensor with all rows, of the floating-point type that its parameters have, float32 if it has none.
    A prediction is a row of the tensor that it returns; where it returns several, a list or object with a row of each.

    Raises:
        LoadError: PyTorch can't load the file, or not on this device.
    """
    import torch

    device = os.environ.get(TORCH_DEVICE) or _torch_device(torch)
    try:
        module = torch.jit.load(str(file), map_location=device)
    except RuntimeError as error:
        why = str(error).strip().partition("\n")[0]
        raise LoadError(f"{file} can't be loaded on {device} as a TorchScript (torch.jit.save): {why}") from error
    module.eval()
    kind = next((each.dtype for each in module.parameters() if each.is_floating_point()), torch.float32)

    def predict(rows: Any) -> Any:
        with torch.inference_mode():
            # Two moves: Apple's GPUs have no float64, which is what numbers in JSON become.
            return _lists(module(torch.from_numpy(_numbers(rows)).to(kind).to(device)))

    return Model(predict, device)


def _numbers(rows: Any) -> Any:
    try:
        values = np.asarray(rows)
    except ValueError as error:  # rows of different lengths
        raise BadRequestError(400, f"these rows make no tensor: {error}") from error
    if values.dtype.kind not in "biuf":
        raise BadRequestError(400, "this model takes numbers alone")
    return values


def _torch_device(torch: Any) -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else CPU


def _lists(output: Any) -> Any:
    if isinstance(output, dict):
        rows = zip(*(_lists(each) for each in output.values()), strict=True)
        return [dict(zip(output, row, strict=True)) for row in rows]
    if isinstance(output, tuple | list):
        return [list(row) for row in zip(*(_lists(each) for each in output), strict=True)]
    return output.tolist()


LOADERS: Mapping[str, Callable[[Path], Model]] = {
    "onnx": onnx,
    "sklearn": sklearn,
    "xgboost": xgboost,
    "lightgbm": lightgbm,
    "pytorch": pytorch,
}
