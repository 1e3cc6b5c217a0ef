"""Requests that arrive in the same turn of the event loop, answered by one call of the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

MAX_ROWS = 32
SLOW_S = 0.001
"""A model slower than this runs in a thread, so that health checks and metrics go on being answered."""


class Batcher:
    """Puts rows of several requests together, and gives each request its own predictions."""

    def __init__(self, predict: Callable[[Any], Any], counted: Callable[[int], None]) -> None:
        self._predict = predict
        self._counted = counted
        self._waiting: list[tuple[Sequence[Any], asyncio.Future[Any]]] = []
        self._scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._slow = False

    async def predictions(self, rows: Sequence[Any]) -> Any:
        """Return the model's predictions for `rows`, one a row; a failure is this request's alone."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((rows, future))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return await future

    def _flush(self) -> None:
        self._scheduled = False
        waiting, self._waiting = self._waiting, []
        batch: list[tuple[Sequence[Any], asyncio.Future[Any]]] = []
        size = 0
        for each in waiting:
            fits = batch and size + len(each[0]) <= MAX_ROWS and _width(each[0]) == _width(batch[0][0])
            if batch and not fits:
                self._start(batch)
                batch, size = [], 0
            batch.append(each)
            size += len(each[0])
        if batch:
            self._start(batch)

    def _start(self, batch: Sequence[tuple[Sequence[Any], asyncio.Future[Any]]]) -> None:
        if self._slow:
            task = asyncio.ensure_future(self._in_thread(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        begun = perf_counter()
        _deliver(batch, self._answers(batch))
        self._slow = perf_counter() - begun > SLOW_S

    async def _in_thread(self, batch: Sequence[tuple[Sequence[Any], asyncio.Future[Any]]]) -> None:
        loop = asyncio.get_running_loop()
        begun = perf_counter()
        _deliver(batch, await loop.run_in_executor(self._thread, self._answers, batch))
        self._slow = perf_counter() - begun > SLOW_S / 2

    def _answers(self, batch: Sequence[tuple[Sequence[Any], asyncio.Future[Any]]]) -> Sequence[Any]:
        """Return an answer or an exception for each request of the batch."""
        self._counted(sum(len(rows) for rows, _ in batch))
        if len(batch) > 1:
            try:
                joined = [row for rows, _ in batch for row in rows]
                return _split(self._predict(joined), [len(rows) for rows, _ in batch])
            except Exception:  # noqa: BLE001 - one request's bad row must not fail the others: each is tried alone
                return [self._alone(rows) for rows, _ in batch]
        return [self._alone(batch[0][0])]

    def _alone(self, rows: Sequence[Any]) -> Any:
        try:
            return self._predict(rows)
        except Exception as error:  # noqa: BLE001 - a model may raise anything; it is this request's answer
            return error


def _split(predictions: Any, lengths: Sequence[int]) -> Sequence[Any]:
    if len(predictions) != sum(lengths):
        raise ValueError(f"{sum(lengths)} rows gave {len(predictions)} predictions")
    parts, start = [], 0
    for length in lengths:
        parts.append(predictions[start : start + length])
        start += length
    return parts


def _deliver(batch: Sequence[tuple[Sequence[Any], asyncio.Future[Any]]], answers: Sequence[Any]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if future.done():  # its client went away
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _width(rows: Sequence[Any]) -> int:
    first = rows[0] if len(rows) else ()
    return len(first) if hasattr(first, "__len__") else -1
