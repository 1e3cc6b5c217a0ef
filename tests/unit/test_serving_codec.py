"""Bodies in and out."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mlscale.serving.codec import BadRequestError, Input, decoded, encoded, rows_of, wishes


def npy(value: Any, *, allow_pickle: bool = False) -> bytes:
    """Return an array as npy."""
    out = io.BytesIO()
    np.save(out, value, allow_pickle=allow_pickle)
    return out.getvalue()


@pytest.mark.parametrize(
    ("body", "content_type", "asked"),
    [
        (b'{"instances": [[1, 2.5]]}', "application/json", Input([[1, 2.5]], {"instances": [[1, 2.5]]})),
        (b"[[1, 2.5]]", "application/json", Input([[1, 2.5]])),
        (b"[[1, 2.5]]", "", Input([[1, 2.5]])),
        (b"[[1, 2.5]]", "Application/JSON; charset=UTF-8", Input([[1, 2.5]])),
        (b'[["\xc3\xa9"]]', 'application/json; charset="utf-8"', Input([["é"]])),
        (b"1,2.5\n3,nan\n", "text/csv", Input([[1.0, 2.5], [3.0, pytest.approx(math.nan, nan_ok=True)]])),
        (b'1,"a, b"\r\n\r\n2,c', "text/csv; charset=utf-8", Input([[1.0, "a, b"], [2.0, "c"]])),
        (b"\xef\xbb\xbf1,2\n", "text/csv", Input([[1.0, 2.0]])),
        (b"1_000,2\n", "text/csv", Input([["1_000", 2.0]])),
        (b"", "text/csv", Input([])),
        (b'{"a": 1}', "application/json", Input({"a": 1})),
    ],
)
def test_a_body_is_read_as_what_it_says_it_is(body: bytes, content_type: str, asked: Input) -> None:
    """JSON wrapped or bare; CSV with words, quotes, blank lines or a byte order mark; with a charset or without."""
    assert decoded(body, content_type) == asked


def test_npy_is_read_with_its_shape_and_type() -> None:
    """An array comes back as it was saved."""
    saved = np.array([[1.5, 2.5]], dtype=np.float32)

    rows = decoded(npy(saved), "application/x-npy").rows

    assert rows.dtype == np.float32
    assert rows.tolist() == saved.tolist()


def test_the_same_rows_come_out_of_every_format() -> None:
    """Wrapped, bare, CSV and npy give a model the same numbers."""
    rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
    bodies = [
        (b'{"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}', "application/json"),
        (b"[[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]", "application/json"),
        (b"5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n", "text/csv"),
        (npy(np.array(rows)), "application/x-npy"),
    ]

    assert [np.asarray(decoded(*body).rows).tolist() for body in bodies] == [rows] * 4


@pytest.mark.parametrize(
    ("body", "content_type", "status", "why"),
    [
        (b"{", "application/json", 400, "the body is not JSON: "),
        (b"", "application/json", 400, "the body is not JSON: "),
        (b"[NaN]", "application/json", 400, "the body is not JSON: "),
        (b"\xff", "text/csv", 400, "the body is not UTF-8"),
        (b"a" * 200_000, "text/csv", 400, "the body is not CSV: "),
        (b"PK\x03\x04", "application/x-npy", 400, "the body is not npy: "),
        (b"<x/>", "text/xml", 415, "text/xml is not known here: send application/json, text/csv, application/x-npy"),
        (b"[]", "application/json; charset=utf-16", 415, "charset utf-16 is not known here: send UTF-8"),
    ],
)
def test_a_body_that_can_not_be_read_is_the_clients_fault(
    body: bytes, content_type: str, status: int, why: str
) -> None:
    """400 for a body that is not of its type with the parser's words, 415 for a type that is not known."""
    with pytest.raises(BadRequestError) as refusal:
        decoded(body, content_type)

    assert refusal.value.status == status
    assert str(refusal.value).startswith(why)


def test_npy_with_pickles_is_refused() -> None:
    """An array of objects would run the client's code: it is not unpickled."""
    with pytest.raises(BadRequestError, match="allow_pickle=False") as refusal:
        decoded(npy(np.array([{"a": 1}], dtype=object), allow_pickle=True), "application/x-npy")

    assert refusal.value.status == 400


def test_npy_that_promises_more_than_it_has_is_refused() -> None:
    """A header with a huge shape neither takes the memory nor ends the server."""
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000), }"
    body = b"\x93NUMPY\x01\x00" + len(head + b"\n").to_bytes(2, "little") + head + b"\n"

    with pytest.raises(BadRequestError) as refusal:
        decoded(body, "application/x-npy")

    assert refusal.value.status == 400


@pytest.mark.parametrize("rows", [5, None, "words", {"a": 1}, np.float64(3), np.array(3)])
def test_what_is_no_list_of_rows_is_refused(rows: Any) -> None:
    """A number, a word, an object and an array without rows are 400, whatever they have of a list."""
    with pytest.raises(BadRequestError) as refusal:
        rows_of(Input(rows))

    assert (refusal.value.status, str(refusal.value)) == (400, 'rows are needed: {"instances": [[...], ...]}')


@pytest.mark.parametrize(
    ("accept", "order"),
    [
        ("", ["*/*"]),
        ("*/*", ["*/*"]),
        ("Text/CSV", ["text/csv"]),
        ("text/csv;q=0.5, application/json", ["application/json", "text/csv"]),
        ("text/csv, application/json;q=0", ["text/csv"]),
        ("text/csv;q=much,", ["text/csv"]),
    ],
)
def test_wishes_are_in_the_clients_order(accept: str, order: Sequence[str]) -> None:
    """Accept's weights are followed, and 0 means never."""
    assert list(wishes(accept)) == order


@pytest.mark.parametrize(
    ("predictions", "accept", "wrapped", "answer"),
    [
        (np.array([1, 2]), "", True, (b'{"predictions":[1,2]}', "application/json")),
        (np.array([1, 2]), "*/*", False, (b"[1,2]", "application/json")),
        ([0.5, math.nan], "application/json", False, (b"[0.5,null]", "application/json")),
        (np.array(["setosa"]), "application/json", False, (b'["setosa"]', "application/json")),
        (np.array([[1.5, None]], dtype=object), "application/json", False, (b"[[1.5,null]]", "application/json")),
        ([{0: 0.25, 1: 0.75}], "application/json", False, (b'[{"0":0.25,"1":0.75}]', "application/json")),
        (np.float32(0.5), "application/json", False, (b"0.5", "application/json")),
        ((each for each in (1, 2)), "application/json", False, (b"[1,2]", "application/json")),
        ({3}, "application/json", False, (b"[3]", "application/json")),
        (np.array([[1, 2], [3, 4]]), "text/csv", True, (b"1,2\n3,4\n", "text/csv")),
        ([1.5, "a, b"], "text/csv", False, (b'1.5\n"a, b"\n', "text/csv")),
        ([{"label": 1, "score": 0.5}], "text/csv", False, (b"1,0.5\n", "text/csv")),
        ([np.array([1, 2])], "text/csv", False, (b"1,2\n", "text/csv")),
        (5, "text/csv", False, (b"5\n", "text/csv")),
        ([], "text/csv", False, (b"", "text/csv")),
        ([1], "image/png, text/*;q=0.1", False, (b"1\n", "text/csv")),
        (np.array([1, 2]), "application/x-npy", True, (npy(np.array([1, 2])), "application/x-npy")),
    ],
)
def test_predictions_are_made_what_the_client_accepts(
    predictions: Any, accept: str, *, wrapped: bool, answer: tuple[bytes, str]
) -> None:
    """JSON wrapped as the request was, CSV, npy; NaN is null, for JSON has none."""
    assert encoded(predictions, accept, wrapped=wrapped) == answer


@pytest.mark.parametrize("accept", ["image/png", "text/xml, image/*", "application/json;q=0"])
def test_what_can_not_be_made_is_406(accept: str) -> None:
    """Nothing is sent that the client did not ask for."""
    with pytest.raises(BadRequestError) as refusal:
        encoded([1], accept, wrapped=False)

    assert refusal.value.status == 406


def test_objects_can_not_be_npy() -> None:
    """Predictions that would need a pickle are refused as npy."""
    with pytest.raises(BadRequestError) as refusal:
        encoded([{"a": 1}], "application/x-npy", wrapped=False)

    assert refusal.value.status == 406


def test_what_json_does_not_have_is_said() -> None:
    """A prediction of an unknown type names it; it is the model's fault, no client's."""
    with pytest.raises(TypeError):
        encoded([object()], "application/json", wrapped=False)
