"""Bodies in and out: JSON, CSV and npy, as the clouds' containers take them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import orjson

JSON = "application/json"
CSV = "text/csv"
NPY = "application/x-npy"
KNOWN = (JSON, CSV, NPY)


class BadRequestError(Exception):
    """The client's request can't be served; `status` is HTTP's word for why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Input:
    """A decoded request: its rows, whether they came as `{"instances": ...}`, and Vertex's `parameters`."""

    rows: Any
    wrapped: bool
    parameters: Any = None


def decoded(body: bytes, content_type: str) -> Input:
    """Return what a request's body says.

    Raises:
        BadRequestError: 415 for a type that is not known, 400 for a body that is not of its type.
    """
    match content_type.partition(";")[0].strip().lower() or JSON:
        case "application/json":
            return _json(body)
        case "text/csv":
            return Input(_csv_rows(body), wrapped=False)
        case "application/x-npy":
            return Input(_array(body), wrapped=False)
        case other:
            raise BadRequestError(415, f"{other} is not known here: send {', '.join(KNOWN)}")


def encoded(predictions: Any, accept: str, *, wrapped: bool) -> tuple[bytes, str]:
    """Return predictions as a body and its content type; `{"predictions": ...}` when the request was wrapped.

    Raises:
        BadRequestError: 406 when nothing that `accept` names can be made.
    """
    for wish in accept.lower().split(",") or [JSON]:
        match wish.partition(";")[0].strip():
            case "" | "*/*" | "application/*" | "application/json":
                value = {"predictions": predictions} if wrapped else predictions
                return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY), JSON
            case "text/csv" | "text/*":
                return _csv_body(predictions), CSV
            case "application/x-npy":
                return _npy_body(predictions), NPY
            case _:
                continue
    raise BadRequestError(406, f"{accept} can't be made: ask for {', '.join(KNOWN)}")


def _json(body: bytes) -> Input:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(400, f"the body is not JSON: {error}") from error
    if isinstance(value, dict) and "instances" in value:
        return Input(value["instances"], wrapped=True, parameters=value.get("parameters"))
    return Input(value, wrapped=False)


def _csv_rows(body: bytes) -> list[list[float | str]]:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadRequestError(400, "the body is not UTF-8") from error
    return [[_number(cell) for cell in row] for row in csv.reader(io.StringIO(text)) if row]


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _array(body: bytes) -> Any:
    import numpy as np

    try:
        return np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BadRequestError(400, f"the body is not npy: {error}") from error


def _csv_body(predictions: Any) -> bytes:
    rows = predictions.tolist() if hasattr(predictions, "tolist") else predictions
    rows = rows if isinstance(rows, list) else [rows]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(row if isinstance(row, list) else [row] for row in rows)
    return out.getvalue().encode()


def _npy_body(predictions: Any) -> bytes:
    import numpy as np

    out = io.BytesIO()
    np.save(out, np.asarray(predictions), allow_pickle=False)
    return out.getvalue()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")
