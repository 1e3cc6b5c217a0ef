"""A model as something that answers: loaded by its framework, or by the user's own code, untouched."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from mlscale.serving.codec import decoded, encoded

HANDLERS = ("code/inference.py", "inference.py")
"""Where SageMaker's containers look for the user's code."""

ENDINGS = {
    "onnx": (".onnx",),
    "sklearn": (".joblib", ".pkl", ".pickle"),
    "xgboost": (".ubj", ".json", ".xgb"),
    "lightgbm": (".txt",),
}


class LoadError(Exception):
    """The model can't be loaded; the words are fit for a user."""


class Handler(Protocol):
    """Answers one request with a body and its content type."""

    batchable: Callable[[Any], Any] | None
    """Rows → one prediction a row, where several requests may be put together; None where they may not."""

    async def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Return the answer's body and content type."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A handler and what to say of it in the log."""

    handler: Handler
    framework: str
    file: str


def load(folder: Path, framework: str | None, handler: str | None) -> Loaded:
    """Return the model in `folder`, ready to answer.

    Args:
        folder: the model's files.
        framework: who loads it; None finds out from the files.
        handler: the user's code, a path inside `folder`; None looks where SageMaker does.

    Raises:
        LoadError: nothing in the folder can be loaded.
    """
    if not folder.is_dir():
        raise LoadError(f"there is no model folder {folder}")
    code = [folder / handler] if handler else [folder / each for each in HANDLERS if (folder / each).is_file()]
    if code:
        return Loaded(_user_handler(code[0], folder, framework), framework or "custom", str(code[0]))
    if framework == "custom":
        raise LoadError(f"framework custom needs a handler: {folder / HANDLERS[0]}")
    name, file = _model_file(folder, framework)
    return Loaded(Rows(_LOADERS[name](file)), name, str(file))


class Rows:
    """A model that turns rows into predictions, one a row."""

    def __init__(self, predict: Callable[[Any], Any]) -> None:
        self.batchable: Callable[[Any], Any] | None = predict

    async def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Return the predictions for one request alone."""
        asked = decoded(body, content_type)
        return encoded((self.batchable or _identity)(asked.rows), accept, wrapped=asked.wrapped)


class SageMakerFunctions:
    """The user's model_fn, input_fn, predict_fn and output_fn; what is missing has SageMaker's default."""

    batchable: Callable[[Any], Any] | None = None

    def __init__(self, module: ModuleType, folder: Path, framework: str | None) -> None:
        self._input = getattr(module, "input_fn", None)
        self._predict = getattr(module, "predict_fn", None)
        self._output = getattr(module, "output_fn", None)
        model_fn = getattr(module, "model_fn", None)
        if model_fn is not None:
            self._model = model_fn(*(str(folder),)[: len(inspect.signature(model_fn).parameters)])
        elif framework in _LOADERS:
            self._model = _Callable(_LOADERS[framework](_model_file(folder, framework)[1]))
        else:
            raise LoadError(f"{module.__file__} has no model_fn")

    async def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Return what the user's functions make of one request."""
        wrapped = False
        if self._input is not None:
            data = await _called(self._input, body.decode() if _is_text(content_type) else body, content_type)
        else:
            asked = decoded(body, content_type)
            data, wrapped = asked.rows, asked.wrapped
        if self._predict is not None:
            prediction = await _called(self._predict, data, self._model)
        elif hasattr(self._model, "predict"):
            prediction = self._model.predict(data)
        else:
            prediction = await _called(self._model, data)
        if self._output is None:
            return encoded(prediction, accept, wrapped=wrapped)
        return _body_of(await _called(self._output, prediction, _first(accept)), _first(accept))


class VertexPredictor:
    """The user's Predictor class, as Vertex's custom prediction routines have it."""

    batchable: Callable[[Any], Any] | None = None

    def __init__(self, predictor: Any, folder: Path) -> None:
        self._predictor = predictor
        predictor.load(str(folder))

    async def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Return what the user's class makes of one request."""
        asked = decoded(body, content_type)
        data: Any = {"instances": asked.rows, "parameters": asked.parameters} if asked.wrapped else asked.rows
        for name in ("preprocess", "predict", "postprocess"):
            step = getattr(self._predictor, name, None)
            if step is not None:
                data = await _called(step, data)
        return encoded(data, accept, wrapped=asked.wrapped and not isinstance(data, dict))


@dataclass(frozen=True, slots=True)
class _Callable:
    predict: Callable[[Any], Any]


def _user_handler(path: Path, folder: Path, framework: str | None) -> Handler:
    if not path.is_file():
        raise LoadError(f"there is no handler {path}")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("inference", path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["inference"] = module
    spec.loader.exec_module(module)
    predictor = getattr(module, "Predictor", None) or _predictor_in(module)
    if predictor is not None:
        return VertexPredictor(predictor(), folder)
    return SageMakerFunctions(module, folder, framework)


def _predictor_in(module: ModuleType) -> type | None:
    classes = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == "inference"]
    return next((each for each in classes if hasattr(each, "load") and hasattr(each, "predict")), None)


def _model_file(folder: Path, framework: str | None) -> tuple[str, Path]:
    frameworks: Sequence[str] = (framework,) if framework else tuple(ENDINGS)
    for name in frameworks:
        for file in sorted(folder.rglob("*")):
            if file.suffix in ENDINGS.get(name, ()) and "code" not in file.relative_to(folder).parts[:-1]:
                return name, file
    wanted = ", ".join(ending for name in frameworks for ending in ENDINGS.get(name, ()))
    raise LoadError(f"there is no file with one of {wanted} in {folder}")


def _sklearn(file: Path) -> Callable[[Any], Any]:
    import joblib

    model = joblib.load(file)
    predict: Callable[[Any], Any] = model.predict
    return predict


def _onnx(file: Path) -> Callable[[Any], Any]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0]
    kind = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}.get(first.type)
    outputs = [session.get_outputs()[0].name]
    return lambda rows: session.run(outputs, {first.name: np.asarray(rows, dtype=kind)})[0]


def _xgboost(file: Path) -> Callable[[Any], Any]:
    import numpy as np
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(str(file))
    return lambda rows: booster.inplace_predict(np.asarray(rows, dtype=np.float32))


def _lightgbm(file: Path) -> Callable[[Any], Any]:
    import lightgbm
    import numpy as np

    booster = lightgbm.Booster(model_file=str(file))
    return lambda rows: booster.predict(np.asarray(rows))


_LOADERS: dict[str, Callable[[Path], Callable[[Any], Any]]] = {
    "onnx": _onnx,
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
}


async def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    result = function(*arguments)
    return await result if inspect.isawaitable(result) else result


def _body_of(output: Any, accept: str) -> tuple[bytes, str]:
    """Return what output_fn gave as bytes: SageMaker's toolkits let it return a body, or a body and its type."""
    kind = accept
    if isinstance(output, tuple) and len(output) == len(("body", "type")):
        output, kind = output
    if isinstance(output, str):
        return output.encode(), kind
    if isinstance(output, bytes | bytearray):
        return bytes(output), kind
    return encoded(output, kind, wrapped=False)


def _is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip()
    return kind in ("", "application/json") or kind.startswith("text/")


def _first(accept: str) -> str:
    first = accept.partition(",")[0].partition(";")[0].strip()
    return "application/json" if first in ("", "*/*") else first


def _identity(rows: Any) -> Any:
    return rows
