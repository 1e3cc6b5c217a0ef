"""Calls the user's commands, servers, web hooks and topics, and waits; what an answer means is for others to say."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from math import ceil
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from typing import IO, TypeVar
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from mlscale import __version__
from mlscale.clock import Clock
from mlscale.errors import ExtraMissing

T = TypeVar("T")

SHELL = ("bash", "-eo", "pipefail", "-c")
"""A command that fails anywhere fails as a whole: a check that is piped into `tee` must not open by that."""

POLL_S = 0.2
"""How soon something more urgent is noticed."""

GRACE_S = 2.0
"""How long a command has between SIGTERM and SIGKILL."""

TRIES = 3
PAUSE_S = 1.0
READ_AT_MOST = 4096
LAST_LINES = 3
LONGEST_LINE = 200


class Unanswered(Exception):
    """There is no answer; the text says why, and shows no address."""


class Outranked(Exception):
    """Something more urgent came before the answer."""


def never() -> bool:
    """Return that nothing is more urgent."""
    return False


@dataclass(frozen=True, slots=True)
class Answered:
    """A command's exit code, or the status of a web hook, and the last of what it said."""

    code: int
    said: str


def run(
    command: str,
    document: bytes,
    variables: Mapping[str, str],
    *,
    folder: Path,
    timeout_s: float,
    urgent: Callable[[], bool],
) -> Answered:
    """Return how a shell command in `folder` ended, which finds `document` on its stdin.

    Raises:
        Outranked: `urgent` said so; the command and all that it started were ended.
        Unanswered: it did not end in time, and was ended, or could not begin.
    """
    with TemporaryFile() as told, TemporaryFile() as said:
        told.write(document)
        told.seek(0)
        code = _ended((*SHELL, command), variables, folder, (told, said, said), timeout_s, urgent)
        if code is None:
            raise Unanswered(_and_said(f"it took longer than {timeout_s:g} s, and was ended", _last_lines(said)))
        return Answered(code, _last_lines(said))


def output(
    command: str,
    variables: Mapping[str, str],
    *,
    folder: Path,
    timeout_s: float,
    at_most: int,
    urgent: Callable[[], bool],
) -> tuple[Answered, str]:
    """Return how a shell command in `folder` ended, with the last of its stderr, and what it printed.

    No part of it has to succeed: `grep -c` fails where it counts nothing. More than `at_most` bytes are not read.

    Raises:
        Outranked: as `run`.
        Unanswered: as `run`.
    """
    with TemporaryFile() as told, TemporaryFile() as printed, TemporaryFile() as said:
        code = _ended((SHELL[0], "-c", command), variables, folder, (told, printed, said), timeout_s, urgent)
        if code is None:
            raise Unanswered(f"it took longer than {timeout_s:g} s, and was ended")
        printed.seek(0)
        return Answered(code, _last_lines(said)), printed.read(at_most).decode(errors="replace")


def _ended(
    words: Sequence[str],
    variables: Mapping[str, str],
    folder: Path,
    streams: tuple[IO[bytes], IO[bytes], IO[bytes]],
    timeout_s: float,
    urgent: Callable[[], bool],
) -> int | None:
    """Return a command's exit code, None if it was ended after the time.

    Its streams are files, no pipes: a child that it leaves behind would hold a pipe open, and nobody has to read
    while it writes.
    """
    stdin, stdout, stderr = streams
    try:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    except OSError as error:
        raise Unanswered(f"{words[0]} can't be started: {error.strerror}") from error
    try:
        code = _code_of(process, timeout_s, urgent)
    except BaseException:
        _end(process)
        raise
    if code is None:
        _end(process)
    return code


def _code_of(process: subprocess.Popen[bytes], timeout_s: float, urgent: Callable[[], bool]) -> int | None:
    """Return its exit code, None if it goes on after the time."""
    for seconds in _polls(timeout_s, urgent):
        with suppress(subprocess.TimeoutExpired):
            return process.wait(seconds)
    return None


def _polls(timeout_s: float, urgent: Callable[[], bool]) -> Iterator[float]:
    """Yield for how long to wait, as often as it takes; raise where something more urgent came."""
    polls = ceil(timeout_s / POLL_S)
    for _ in range(polls):
        yield timeout_s / polls
        if urgent():
            raise Outranked


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and everything that it started; it was not waited for, so its group's number is still its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_lines(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - READ_AT_MOST))
    return shown(said.read().decode(errors="replace").splitlines()[-LAST_LINES:])


def shown(lines: list[str]) -> str:
    """Return lines for a terminal: no empty ones, none too long, nothing that moves its cursor."""
    plain = ("".join(each if each.isprintable() else " " for each in line).strip() for line in lines)
    return "\n".join(line[:LONGEST_LINE] for line in plain if line)


def _and_said(why: str, said: str) -> str:
    return f"{why}: {said}" if said else why


def post(url: str, document: bytes, *, timeout_s: float, urgent: Callable[[], bool], clock: Clock) -> Answered:
    """Return what the web hook at `url` answers to `document`; one that can't be reached is tried again.

    A redirect is an answer like others: it could lead the document elsewhere.

    Raises:
        Outranked: `urgent` said so; the hook may have the document.
        Unanswered: it could not be reached, or did not answer in time.
    """
    for tried in range(TRIES):
        if tried:
            clock.sleep(PAUSE_S)
        try:
            return _waited_for(lambda: _posted(url, document, timeout_s), timeout_s, urgent)
        except TimeoutError:
            why = f"there was no answer in {timeout_s:g} s"
        except (OSError, HTTPException, ValueError) as error:
            why = f"it can't be reached: {_reason(error, url)}"
    raise Unanswered(f"{why}, {TRIES} times")


def _waited_for(do: Callable[[], T], timeout_s: float, urgent: Callable[[], bool]) -> T:
    """Return what `do` does in a thread of its own, which goes on where nobody waits for it any more."""
    found: Future[T] = Future()

    def work() -> None:
        try:
            found.set_result(do())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            found.set_exception(error)

    Thread(target=work, name="outside", daemon=True).start()
    for seconds in _polls(timeout_s, urgent):
        wait([found], seconds)
        if found.done():
            return found.result()
    raise TimeoutError


def _posted(url: str, document: bytes, timeout_s: float) -> Answered:
    request = Request(url, document, {"Content-Type": "application/json"}, method="POST")  # noqa: S310 - http and https
    status, body = _opened(request, timeout_s, READ_AT_MOST)
    return Answered(status, shown(body.decode(errors="replace").splitlines()[:LAST_LINES]))


def get(
    url: str, headers: Mapping[str, str], *, timeout_s: float, at_most: int, urgent: Callable[[], bool]
) -> tuple[int, bytes]:
    """Return the status and the body of what `url` answers, asked once; a redirect is an answer like others.

    Raises:
        Outranked: `urgent` said so.
        Unanswered: it could not be reached, did not answer in time, or with more than `at_most` bytes.
    """
    request = Request(url, headers=dict(headers))  # noqa: S310 - the spec takes http and https alone
    try:
        status, body = _waited_for(lambda: _opened(request, timeout_s, at_most + 1), timeout_s, urgent)
    except TimeoutError:
        raise Unanswered(f"there was no answer in {timeout_s:g} s") from None
    except (OSError, HTTPException, ValueError) as error:
        raise Unanswered(f"it can't be reached: {_reason(error, url)}") from error
    if len(body) > at_most:
        raise Unanswered(f"it answered more than {at_most:,} bytes")
    return status, body


def _opened(request: Request, timeout_s: float, at_most: int) -> tuple[int, bytes]:
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler()):
        opener.add_handler(handler)
    request.add_header("User-Agent", f"mlscale/{__version__}")
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return answer.status, answer.read(at_most)
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise error.reason from error
        raise


def _reason(error: Exception, url: str) -> str:
    """Return why it failed, without what of the address may be secret."""
    text = str(error.reason if isinstance(error, URLError) else error) or type(error).__name__
    parts = urlsplit(url)
    hidden = (url, f"{parts.path}?{parts.query}", parts.path, parts.query)
    for each in hidden:
        text = text.replace(each, "…") if len(each) > 1 else text
    return shown([text])


def publish(topic: str, subject: str, message: str, *, timeout_s: float, urgent: Callable[[], bool]) -> None:
    """Publish a message to a topic of SNS, in the topic's own region.

    Raises:
        ExtraMissing: boto3 is not installed.
        Outranked: `urgent` said so; the message may be sent.
        Unanswered: SNS did not take it.
    """
    require_sns()
    from boto3 import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    once = timeout_s / TRIES
    config = Config(connect_timeout=once, read_timeout=once, retries={"total_max_attempts": TRIES})

    def send() -> None:
        client = Session().client("sns", region_name=topic.split(":")[3], config=config)
        try:
            client.publish(TopicArn=topic, Subject=subject, Message=message)
        finally:
            client.close()

    try:
        _waited_for(send, timeout_s, urgent)
    except TimeoutError:
        raise Unanswered(f"there was no answer in {timeout_s:g} s") from None
    except (BotoCoreError, ClientError) as error:
        raise Unanswered(shown([str(error)])) from error


def require_sns() -> None:
    """Return if topics of SNS can be told.

    Raises:
        ExtraMissing: boto3 is not installed.
    """
    from importlib.util import find_spec

    if find_spec("boto3") is None:
        raise ExtraMissing(
            "an optional package is not installed",
            why="boto3 tells topics of SNS, which rollout.notify names",
            hint="pip install 'mlscale[sagemaker]'",
        )
