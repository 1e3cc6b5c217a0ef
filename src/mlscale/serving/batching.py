"""Requests that arrive in the same turn of the event loop, answered by one call of the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mlscale.serving.calling import Caller

MAX_ROWS = 32


class _Waiting(NamedTuple):
    """A request's rows, and where its predictions go."""

    rows: Any
    future: asyncio.Future[Any]


class Batcher:
    """Puts rows of several requests together, and gives each request its own predictions.

    While the model runs in its thread, what arrives waits and goes in together after: a slow model gets larger batches.
    """

    def __init__(self, predict: Callable[[Any], Any], counted: Callable[[int], None], caller: Caller) -> None:
        self._predict = predict
        self._counted = counted
        self._caller = caller
        self._waiting: list[_Waiting] = []
        self._scheduled = False
        self._task: asyncio.Task[None] | None = None

    async def predictions(self, rows: Any) -> Any:
        """Return the model's predictions for `rows`, one a row; a failure is this request's alone."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Waiting(_as_numbers(rows), future))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        batches = _batches(waiting)
        while batches and self._caller.is_quick:
            batch = batches.pop(0)
            _deliver(batch, self._caller.here(self._answers, batch))
        if batches:
            self._task = asyncio.ensure_future(self._in_thread(batches))
        else:
            self._scheduled = False

    async def _in_thread(self, batches: Sequence[Sequence[_Waiting]]) -> None:
        for batch in batches:
            _deliver(batch, await self._caller.result(self._answers, batch))
        self._scheduled = bool(self._waiting)
        if self._waiting:
            self._flush()

    def _answers(self, batch: Sequence[_Waiting]) -> Sequence[Any]:
        """Return an answer or an exception for each request of the batch."""
        self._counted(sum(len(each.rows) for each in batch))
        if len(batch) > 1:
            try:
                joined = np.concatenate([each.rows for each in batch])
                return _split(self._predict(joined), [len(each.rows) for each in batch])
            except Exception:  # noqa: BLE001, S110 - one request's bad row must not fail the others: each is tried alone
                pass
        return [self._alone(each.rows) for each in batch]

    def _alone(self, rows: Any) -> Any:
        try:
            return self._predict(rows)
        except Exception as error:  # noqa: BLE001 - a model may raise anything; it is this request's answer
            return error


def _as_numbers(rows: Any) -> Any:
    """Return rows as an array if they are numbers throughout; else as they are, to be answered alone.

    Joining rows of other kinds could change them: numbers among words would become words.
    """
    try:
        array = np.asarray(rows)
    except ValueError:  # rows of different lengths
        return rows
    return array if array.dtype.kind in "biuf" and array.ndim > 0 else rows


def _batches(waiting: Sequence[_Waiting]) -> list[list[_Waiting]]:
    """Return the requests in groups whose rows can be joined: of one shape and type, and no more than MAX_ROWS."""
    batches: list[list[_Waiting]] = []
    open_ones: dict[Any, tuple[list[_Waiting], int]] = {}
    for each in waiting:
        rows = each.rows
        kind = (rows.dtype, rows.shape[1:]) if isinstance(rows, np.ndarray) and rows.dtype.kind in "biuf" else None
        batch, size = open_ones.get(kind, ([], 0))
        if not batch or kind is None or size + len(rows) > MAX_ROWS:
            batch, size = [], 0
            batches.append(batch)
        batch.append(each)
        open_ones[kind] = (batch, size + len(rows))
    return batches


def _split(predictions: Any, lengths: Sequence[int]) -> Sequence[Any]:
    if len(predictions) != sum(lengths):
        raise ValueError(f"{sum(lengths)} rows gave {len(predictions)} predictions")
    parts, start = [], 0
    for length in lengths:
        parts.append(predictions[start : start + length])
        start += length
    return parts


def _deliver(batch: Sequence[_Waiting], answers: Sequence[Any]) -> None:
    for each, answer in zip(batch, answers, strict=True):
        if each.future.done():  # its client went away
            continue
        if isinstance(answer, Exception):
            each.future.set_exception(answer)
        else:
            each.future.set_result(answer)
