"""A model as something that answers: loaded by its framework, or by the user's own code, untouched."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from mlscale.serving.calling import Caller
from mlscale.serving.codec import JSON, BadRequestError, decoded, encoded, rows_of, wishes
from mlscale.serving.frameworks import LOADERS, LoadError, Model, model_file

HANDLERS = ("code/inference.py", "inference.py")
"""Where SageMaker's containers look for the user's code."""


class Handler(Protocol):
    """Answers one request with a body and its content type."""

    batchable: Callable[[Any], Any] | None
    """Rows → one prediction a row, where several requests may be put together; None where they may not."""
    device: str | None
    """What the model runs on, in its framework's own word; None where only the user's code knows."""

    async def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Return the answer's body and content type."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A handler, what calls its model, and what to say of it in the log."""

    handler: Handler
    caller: Caller
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
    caller = Caller()
    code = [folder / handler] if handler else [folder / each for each in HANDLERS if (folder / each).is_file()]
    if code:
        return Loaded(_user_handler(code[0], folder, framework, caller), caller, framework or "custom", str(code[0]))
    name, file = model_file(folder, framework)
    return Loaded(Rows(LOADERS[name](file), caller), caller, name, str(file))


class Rows:
    """A model that turns rows into predictions, one a row."""

    def __init__(self, model: Model, caller: Caller) -> None:
        self.batchable: Callable[[Any], Any] | None = model.predict
        self.device: str | None = model.device
        self._predict = model.predict
        self._caller = caller

    async def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Return the predictions for one request alone."""
        asked = decoded(body, content_type)
        rows = rows_of(asked)
        predictions = await self._caller.result(self._predict, rows) if len(rows) else []
        return encoded(predictions, accept, wrapped=asked.wrapped)


@dataclass(frozen=True, slots=True)
class Context:
    """What SageMaker's PyTorch containers give to functions that take one argument more."""

    system_properties: dict[str, Any]
    manifest: dict[str, Any] = field(default_factory=dict)


class SageMakerFunctions:
    """The user's model_fn, input_fn, predict_fn and output_fn, or transform_fn for the last three.

    What is missing has SageMaker's default.
    """

    batchable: Callable[[Any], Any] | None = None

    def __init__(self, module: ModuleType, folder: Path, framework: str | None, caller: Caller) -> None:
        self._caller = caller
        self.device: str | None = None
        self._context = Context({"model_dir": str(folder), "gpu_id": _gpu_id()})
        self._input = getattr(module, "input_fn", None)
        self._predict = getattr(module, "predict_fn", None)
        self._output = getattr(module, "output_fn", None)
        self._transform = getattr(module, "transform_fn", None)
        model_fn = getattr(module, "model_fn", None)
        if model_fn is not None:
            if inspect.iscoroutinefunction(model_fn):
                raise LoadError(f"{module.__file__}: model_fn must not be async")
            self._model = model_fn(*self._arguments(model_fn, str(folder)))
        elif framework is not None and framework in LOADERS:
            self._model = LOADERS[framework](model_file(folder, framework)[1])
            self.device = self._model.device
        else:
            raise LoadError(f"{module.__file__} has no model_fn")

    async def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Return what the user's functions make of one request."""
        accept = _first(accept)
        if self._transform is not None:
            raw = _raw(body, content_type)
            return _body_of(await self._called(self._transform, self._model, raw, content_type or JSON, accept), accept)
        wrapped = False
        if self._input is not None:
            data = await self._called(self._input, _raw(body, content_type), content_type or JSON)
        else:
            asked = decoded(body, content_type)
            data, wrapped = asked.rows, asked.wrapped
        if self._predict is not None:
            prediction = await self._called(self._predict, data, self._model)
        else:
            prediction = await self._called(getattr(self._model, "predict", self._model), data)
        if self._output is None:
            return encoded(prediction, accept, wrapped=wrapped)
        return _body_of(await self._called(self._output, prediction, accept), accept)

    async def _called(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await _called(self._caller, function, *self._arguments(function, *arguments))

    def _arguments(self, function: Callable[..., Any], *usual: Any) -> tuple[Any, ...]:
        """Return as many arguments as the function takes: the usual ones, and the context after them."""
        try:
            takes = inspect.signature(function).parameters.values()
        except ValueError:  # built-in functions have none
            return usual
        positional = [each for each in takes if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        if any(each.kind is each.VAR_POSITIONAL for each in takes):
            return usual
        return (*usual, self._context)[: len(positional)]


def _gpu_id() -> int | None:
    """Return the number of the GPU that a handler shall use, None where there is none.

    Handlers for SageMaker's PyTorch containers make `cuda:GPU_ID` of it wherever PyTorch sees a GPU.
    """
    torch = sys.modules.get("torch")
    return 0 if torch is not None and torch.cuda.is_available() else None


class VertexPredictor:
    """The user's Predictor class, as Vertex's custom prediction routines have it."""

    batchable: Callable[[Any], Any] | None = None
    device: str | None = None

    def __init__(self, predictor: Any, folder: Path, caller: Caller) -> None:
        self._predictor = predictor
        self._caller = caller
        predictor.load(str(folder))

    async def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Return what the user's class makes of one request; all of it is given, `parameters`, too."""
        asked = decoded(body, content_type)
        data: Any = asked.rows if asked.whole is None else asked.whole
        for name in ("preprocess", "predict", "postprocess"):
            step = getattr(self._predictor, name, None)
            if step is not None:
                data = await _called(self._caller, step, data)
        return encoded(data, accept, wrapped=asked.wrapped and not isinstance(data, dict))


def _user_handler(path: Path, folder: Path, framework: str | None, caller: Caller) -> Handler:
    if not path.is_file():
        raise LoadError(f"there is no handler {path}")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("inference", path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["inference"] = module
    spec.loader.exec_module(module)
    predictor = getattr(module, "Predictor", None)
    if predictor is None or predictor.__module__ != "inference":  # Vertex's base class, imported to be built on
        predictor = _predictor_in(module)
    if predictor is not None:
        return VertexPredictor(predictor(), folder, caller)
    return SageMakerFunctions(module, folder, framework, caller)


def _predictor_in(module: ModuleType) -> type | None:
    classes = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == "inference"]
    return next((each for each in classes if hasattr(each, "load") and hasattr(each, "predict")), None)


async def _called(caller: Caller, function: Callable[..., Any], *arguments: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    result = await caller.result(function, *arguments)
    return await result if inspect.isawaitable(result) else result


def _raw(body: bytes, content_type: str) -> str | bytes:
    """Return a body as SageMaker's containers give it to the user's code: text as a string, all else as bytes."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("", JSON) and not kind.startswith("text/"):
        return body
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadRequestError(400, "the body is not UTF-8") from error


def _body_of(output: Any, accept: str) -> tuple[bytes, str]:
    """Return what output_fn gave as bytes: SageMaker's toolkits let it return a body, or a body and its type."""
    kind = accept
    if isinstance(output, tuple) and len(output) == len(("body", "type")) and isinstance(output[1], str):
        output, kind = output
    if isinstance(output, str):
        return output.encode(), kind
    if isinstance(output, bytes | bytearray | memoryview):
        return bytes(output), kind
    return encoded(output, kind, wrapped=False)


def _first(accept: str) -> str:
    first = wishes(accept)[0] if accept else "*/*"
    return JSON if first in ("*/*", "application/*") else first
