"""Bodies in and out: JSON, CSV and npy, as the clouds' containers take them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

JSON = "application/json"
CSV = "text/csv"
NPY = "application/x-npy"
KNOWN = (JSON, CSV, NPY)

LARGEST_BODY = 25 * 2**20
"""SageMaker Runtime's own limit."""


class Reply(NamedTuple):
    """What goes back to a client."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class BadRequestError(Exception):
    """The client's request can't be served; `status` is HTTP's word for why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Input:
    """A decoded request: its rows, and the whole of it if they came as `{"instances": rows, ...}`."""

    rows: Any
    whole: Mapping[str, Any] | None = None

    @property
    def wrapped(self) -> bool:
        """Whether the answer is to be wrapped, too."""
        return self.whole is not None


def decoded(body: bytes, content_type: str) -> Input:
    """Return what a request's body says.

    Raises:
        BadRequestError: 415 for a type that is not known, 400 for a body that is not of its type.
    """
    if content_type == JSON:  # nearly always
        return _json(body)
    kind, _, parameters = content_type.partition(";")
    if (charset := _parameter(parameters, "charset")) not in ("", "utf-8", "utf8", "us-ascii"):
        raise BadRequestError(415, f"charset {charset} is not known here: send UTF-8")
    match kind.strip().lower() or JSON:
        case "application/json":
            return _json(body)
        case "text/csv":
            return Input(_csv_rows(body))
        case "application/x-npy":
            return Input(_array(body))
        case other:
            raise BadRequestError(415, f"{other} is not known here: send {', '.join(KNOWN)}")


def rows_of(asked: Input) -> Any:
    """Return the rows of a request to a model that takes rows.

    Raises:
        BadRequestError: 400, there are none.
    """
    if isinstance(asked.rows, list) or getattr(asked.rows, "ndim", None):
        return asked.rows
    raise BadRequestError(400, 'rows are needed: {"instances": [[...], ...]}')


def encoded(predictions: Any, accept: str, *, wrapped: bool) -> tuple[bytes, str]:
    """Return predictions as a body and its content type; `{"predictions": ...}` when the request was wrapped.

    Raises:
        BadRequestError: 406 when nothing that `accept` names can be made.
    """
    for wish in wishes(accept):
        match wish:
            case "*/*" | "application/*" | "application/json":
                return _json_body({"predictions": predictions} if wrapped else predictions), JSON
            case "text/csv" | "text/*":
                return _csv_body(predictions), CSV
            case "application/x-npy":
                return _npy_body(predictions), NPY
            case _:
                continue
    raise BadRequestError(406, f"{accept} can't be made: ask for {', '.join(KNOWN)}")


def wishes(accept: str) -> Sequence[str]:
    """Return the types that an Accept header names, the most wanted first (RFC 9110, section 12.5.1); never none."""
    if not accept or accept == "*/*":
        return ("*/*",)
    if ";" not in accept and "," not in accept:
        return (accept.strip().lower(),)
    weighted = []
    for wish in accept.lower().split(","):
        kind, _, parameters = wish.partition(";")
        try:
            weight = float(_parameter(parameters, "q") or 1)
        except ValueError:
            weight = 1.0
        if kind.strip() and weight > 0:
            weighted.append((weight, kind.strip()))
    return [kind for _, kind in sorted(weighted, key=lambda each: -each[0])]


def _parameter(parameters: str, name: str) -> str:
    """Return one parameter of a header in lower case, empty if it is not there."""
    for each in parameters.lower().split(";"):
        key, _, value = each.partition("=")
        if key.strip() == name:
            return value.strip().strip('"')
    return ""


def _json(body: bytes) -> Input:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(400, f"the body is not JSON: {error}") from error
    if isinstance(value, dict) and "instances" in value:
        return Input(value["instances"], value)
    return Input(value)


def _csv_rows(body: bytes) -> list[list[float | str]]:
    try:
        text = body.decode("utf-8-sig")  # spreadsheets begin their CSV with a byte order mark
        return [[_number(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline="")) if row]
    except UnicodeDecodeError as error:
        raise BadRequestError(400, "the body is not UTF-8") from error
    except csv.Error as error:
        raise BadRequestError(400, f"the body is not CSV: {error}") from error


def _number(cell: str) -> float | str:
    try:
        return cell if "_" in cell else float(cell)  # Python reads 1_000 as a number; nobody's CSV means that
    except ValueError:
        return cell


def _array(body: bytes) -> Any:
    from numpy.lib import format as npy

    try:
        return npy.read_array(io.BytesIO(body), allow_pickle=False)
    except (ValueError, MemoryError) as error:  # MemoryError: a header that promises more than there is
        raise BadRequestError(400, f"the body is not npy: {error}") from error


def _json_body(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:  # keys that are numbers: classes and their probabilities
        return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _csv_body(predictions: Any) -> bytes:
    rows = predictions.tolist() if hasattr(predictions, "tolist") else predictions
    rows = rows if isinstance(rows, list | tuple) else [rows]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(_cells(row) for row in rows)
    return out.getvalue().encode()


def _cells(row: Any) -> Sequence[Any]:
    if hasattr(row, "tolist"):
        row = row.tolist()
    if isinstance(row, dict):
        return list(row.values())
    return row if isinstance(row, list | tuple) else [row]


def _npy_body(predictions: Any) -> bytes:
    import numpy as np

    out = io.BytesIO()
    try:
        np.save(out, np.asarray(predictions), allow_pickle=False)
    except ValueError as error:  # objects, or rows of different lengths
        raise BadRequestError(406, f"these predictions can't be made npy: {error}") from error
    return out.getvalue()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "to_dict"):  # a pandas data frame
        return value.to_dict("records")
    if isinstance(value, set | frozenset | Iterator):
        return list(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")
