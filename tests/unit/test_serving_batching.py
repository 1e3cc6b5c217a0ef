"""Requests put together, and where the model's code runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from mlscale.serving.batching import MAX_ROWS, Batcher
from mlscale.serving.calling import QUICK_AFTER, SLOW_S, Caller


class Stopwatch:
    """A clock that moves by the next of `takes` with every second look: that long the next calls last."""

    def __init__(self, *takes: float) -> None:
        self._takes = iter(takes)
        self._now = 0.0
        self._in_call = False

    def __call__(self) -> float:
        """Return the time."""
        self._now += next(self._takes, 0.0) if self._in_call else 0.0
        self._in_call = not self._in_call
        return self._now


def doubled(rows: Any) -> Any:
    """Return twice the first value of each row; a negative one is refused."""
    values = np.asarray(rows, dtype=float)[:, 0]
    if (values < 0).any():
        raise ValueError("negative")
    return values * 2


async def a_quick_caller() -> Caller:
    """Return a caller that knows its model to be quick."""
    caller = Caller(Stopwatch())
    for _ in range(QUICK_AFTER):
        await caller.result(lambda: None)
    return caller


def answers(requests: Sequence[Any], predict: Callable[[Any], Any] = doubled) -> tuple[Sequence[Any], Sequence[int]]:
    """Return what requests that arrive together are answered, and the rows of each batch."""
    sizes: list[int] = []

    async def all_at_once() -> Sequence[Any]:
        batcher = Batcher(predict, sizes.append, await a_quick_caller())
        return await asyncio.gather(*map(batcher.predictions, requests), return_exceptions=True)

    found = asyncio.run(all_at_once())
    return [each if isinstance(each, Exception) else _plain(each) for each in found], sizes


def _plain(answer: Any) -> Any:
    return answer.tolist() if isinstance(answer, np.ndarray) else answer


def test_every_answer_goes_to_its_own_request() -> None:
    """200 requests with different rows, one to three each, in few calls: none gets another's predictions."""
    requests = [[[float(number), 1.0]] * (1 + number % 3) for number in range(200)]

    found, sizes = answers(requests)

    assert found == [[number * 2.0] * (1 + number % 3) for number in range(200)]
    assert max(sizes) == MAX_ROWS
    assert len(sizes) < 20


def test_a_bad_row_fails_only_its_own_request() -> None:
    """The model refuses the whole batch; each request is then tried alone."""
    found, _ = answers([[[1.0]], [[-1.0]], [[3.0]]])

    assert [str(each) if isinstance(each, Exception) else each for each in found] == [[2.0], "negative", [6.0]]


@pytest.mark.parametrize(
    ("requests", "sizes"),
    [
        ([[[1.0, 2.0]], [[3.0]], [[4.0, 5.0]]], [2, 1]),
        ([[[1]], [[2.5]]], [1, 1]),
        ([[[1.0]], [["word"]], [["word"]]], [1, 1, 1]),
        ([[[1.0]], [[1.0], [2.0, 3.0]]], [1, 2]),
        ([[[1.0]] * 30, [[2.0]] * 3], [30, 3]),
        ([[[1.0]] * 40], [40]),
        ([np.array([[1.0]]), [[2.0]]], [2]),
    ],
)
def test_only_rows_of_one_shape_and_type_are_put_together(requests: Sequence[Any], sizes: Sequence[int]) -> None:
    """Other widths, whole numbers beside fractions, words, and more than MAX_ROWS rows go into calls of their own."""
    assert sorted(answers(requests, predict=list)[1]) == sorted(sizes)


def test_rows_of_words_reach_the_model_as_they_are() -> None:
    """What is not numbers throughout is not made an array: numbers among words would become words."""
    seen: list[Any] = []

    def remembered(rows: Any) -> Any:
        seen.append(rows)
        return rows

    answers([[["word", 1.0]], [[1.0, 2.0]]], predict=remembered)

    assert [rows if isinstance(rows, list) else rows.tolist() for rows in seen] == [[["word", 1.0]], [[1.0, 2.0]]]


def test_a_model_that_gives_too_few_predictions_fails() -> None:
    """Predictions that can't be told apart are given to nobody: each request is answered alone."""
    found, sizes = answers([[[1.0]], [[2.0]]], predict=lambda rows: [len(rows)])

    assert (found, sizes) == ([[1], [1]], [2])


def test_a_client_that_went_away_stops_nobody() -> None:
    """A cancelled request in the middle of a batch leaves the others their answers."""

    async def with_one_gone() -> Sequence[Any]:
        batcher = Batcher(doubled, lambda _: None, await a_quick_caller())
        tasks = [asyncio.ensure_future(batcher.predictions([[float(number)]])) for number in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        first = await asyncio.gather(*tasks, return_exceptions=True)
        return [*first, await batcher.predictions([[9.0]])]

    first, gone, third, after = asyncio.run(with_one_gone())

    assert (list(first), type(gone), list(third), list(after)) == ([0.0], asyncio.CancelledError, [4.0], [18.0])


def test_what_arrives_while_a_slow_model_runs_goes_in_together_after() -> None:
    """One call at a time in the thread; the next one takes all that waited."""
    sizes: list[int] = []
    free = threading.Event()

    def held(rows: Any) -> Any:
        free.wait(10)
        return doubled(rows)

    async def one_then_ten() -> Sequence[Any]:
        batcher = Batcher(held, sizes.append, Caller())
        first = asyncio.ensure_future(batcher.predictions([[1.0]]))
        while not sizes:
            await asyncio.sleep(0)
        others = [asyncio.ensure_future(batcher.predictions([[float(number)]])) for number in range(10)]
        await asyncio.sleep(0)
        free.set()
        return await asyncio.gather(first, *others)

    found = asyncio.run(one_then_ten())

    assert [list(each) for each in found] == [[2.0], *([number * 2.0] for number in range(10))]
    assert sizes == [1, 10]


def test_a_model_runs_in_a_thread_until_it_is_known_to_be_quick() -> None:
    """The first calls may be the slow ones; one slow call brings the thread back."""
    quick, slow = [SLOW_S / 2] * QUICK_AFTER, SLOW_S * 2
    caller = Caller(Stopwatch(*quick, slow, *quick))

    async def threads() -> Sequence[bool]:
        main = threading.get_ident()
        return [await caller.result(threading.get_ident) != main for _ in range(2 * QUICK_AFTER + 2)]

    in_thread = asyncio.run(threads())

    assert in_thread == [True] * QUICK_AFTER + [False] + [True] * QUICK_AFTER + [False]


def test_a_model_is_never_entered_twice_at_once() -> None:
    """While a call is in the thread, the next one queues behind it, quick or not."""
    free = threading.Event()

    async def one_more_beside_a_long_one() -> bool:
        caller = Caller(Stopwatch())
        quick = [asyncio.ensure_future(caller.result(lambda: None)) for _ in range(QUICK_AFTER)]
        long = asyncio.ensure_future(caller.result(free.wait, 10))
        await asyncio.gather(*quick)
        one_more = asyncio.ensure_future(caller.result(threading.get_ident))
        await asyncio.sleep(0)
        free.set()
        await long
        return int(await one_more) != threading.get_ident()

    assert asyncio.run(one_more_beside_a_long_one())


def test_what_a_slow_model_raises_reaches_its_caller() -> None:
    """An exception crosses the thread."""

    def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(Caller().result(broken))
