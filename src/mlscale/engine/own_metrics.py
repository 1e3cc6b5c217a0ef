"""What the user's own metrics count of both revisions, by the minute: whom to ask, and counts of what is answered."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from mlscale.clock import MINUTE
from mlscale.engine import outside, promql
from mlscale.engine.outside import Unanswered
from mlscale.engine.session import Session
from mlscale.errors import MlscaleError, Unsupported, UsageError
from mlscale.providers.contract import Point, Queries
from mlscale.spec.fields import is_web_address
from mlscale.spec.rollout import CloudWatchQuery, OwnMetric, PromQuery
from mlscale.state.rollouts import Rollout

COMMAND_TIMEOUT_S = 30.0
QUERY_TIMEOUT_S = 10.0
LONGEST_ANSWER = 4 << 20
MOST_MINUTES = 1440
"""How far back is asked for what is not known yet; Prometheus gives 11,000 points of a series at most."""

LARGEST = 1e12
SLACK = 0.01
"""How many more bad ones than all there may seem to be: increase() extrapolates each series by itself."""

_ENV = "env:"

Count: TypeAlias = tuple[int, int]
"""How many were bad, of how many."""


@dataclass(frozen=True, slots=True)
class Minute:
    """One metric in one minute: the counts of each revision, None where nothing was measured; or why that failed."""

    baseline: Count | None = None
    candidate: Count | None = None
    failed: str = ""


class _FailedError(Exception):
    """A metric could not be counted; the text says why."""


class _SilentError(_FailedError):
    """Nobody answered in time, and nobody would for another minute."""


def require(session: Session) -> None:
    """Return if every variable that a metric names is set, as far as that is known without asking.

    Raises:
        UsageError: one is not, or has no address.
    """
    for number, own in enumerate(session.spec.rollout.analysis.custom):
        if own.promql is None:
            continue
        try:
            _server(session, own.promql)
            _headers(session, own.promql)
        except _FailedError as error:
            where = f"rollout.analysis.custom[{number}].promql"
            raise UsageError(
                "a variable is not there", why=f"{where}: {error}", hint="export it, and try again"
            ) from error


def counted(
    session: Session, rollout: Rollout, own: OwnMetric, minutes: Sequence[datetime], urgent: Callable[[], bool]
) -> Mapping[datetime, Minute]:
    """Return what is known of a metric, by the start of the minute; what was measured before is not asked for again.

    Raises:
        Outranked: `urgent` said so.
        Unsupported: the provider can't answer its expressions.
    """
    found = {
        each.start: Minute(each.baseline[own.name], each.candidate[own.name])
        for each in rollout.windows
        if own.name in each.baseline and own.name in each.candidate
    }
    missing = [each for each in minutes if each not in found][-MOST_MINUTES:]
    return {**found, **_asked(session, rollout, own, missing, urgent)} if missing else found


def _asked(
    session: Session, rollout: Rollout, own: OwnMetric, minutes: Sequence[datetime], urgent: Callable[[], bool]
) -> Mapping[datetime, Minute]:
    if own.command is not None:
        return _by_command(session, rollout, own, minutes, urgent)
    ids = (rollout.stable.id, rollout.candidate.id)
    try:
        if own.promql is not None:
            return _minutes(_by_promql(session, own.promql, ids, minutes, urgent), own.promql, ids, minutes)
        if own.cloudwatch is not None:
            return _minutes(_by_provider(session, own.cloudwatch, minutes), own.cloudwatch, ids, minutes)
    except _FailedError as error:
        return dict.fromkeys(minutes, Minute(failed=str(error)))
    raise AssertionError("a metric without a way to count is refused in the spec")


def _by_command(
    session: Session, rollout: Rollout, own: OwnMetric, minutes: Sequence[datetime], urgent: Callable[[], bool]
) -> Mapping[datetime, Minute]:
    """Return what the command counts, the last minute first: one that takes too long is not run for those before."""
    found: dict[datetime, Minute] = {}
    for number, at in enumerate(reversed(minutes), start=1):
        try:
            found[at] = _run(session, rollout, own, at, urgent)
        except _SilentError as error:
            return {**found, **dict.fromkeys(minutes[: len(minutes) - number + 1], Minute(failed=str(error)))}
        except _FailedError as error:
            found[at] = Minute(failed=str(error))
    return found


def _run(session: Session, rollout: Rollout, own: OwnMetric, at: datetime, urgent: Callable[[], bool]) -> Minute:
    """Return a command's counts in the minute from `at`."""
    variables = {
        "MLSCALE_METRIC": own.name,
        "MLSCALE_START": at.isoformat(),
        "MLSCALE_END": (at + MINUTE).isoformat(),
        "MLSCALE_DEPLOYMENT": session.identity.name,
        "MLSCALE_BASELINE": rollout.stable.id,
        "MLSCALE_CANDIDATE": rollout.candidate.id,
    }
    folder = session.spec_path.resolve().parent
    try:
        ended, printed = outside.output(
            own.command or "",
            variables,
            folder=folder,
            timeout_s=COMMAND_TIMEOUT_S,
            at_most=LONGEST_ANSWER,
            urgent=urgent,
        )
    except Unanswered as error:
        raise _SilentError(f"its command: {error}") from error
    if ended.code:
        last = (ended.said.splitlines() or ["it printed nothing on stderr"])[-1]
        raise _FailedError(f"its command ended with exit code {ended.code}: {last}")
    shown = printed.strip()[:100]
    try:
        found: Mapping[str, Any] = json.loads(printed)
        counts = [(int(found[each]["bad"]), int(found[each]["of"])) for each in ("baseline", "candidate")]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise _FailedError(f"its command printed {shown!r}, and no counts") from None
    if any(not 0 <= bad <= of for bad, of in counts):
        raise _FailedError(f"its command counted more bad ones than there were: {shown}")
    return Minute(counts[0], counts[1])


def _by_promql(
    session: Session, query: PromQuery, ids: Sequence[str], minutes: Sequence[datetime], urgent: Callable[[], bool]
) -> Sequence[Point]:
    """Return what a server gives for each query and revision, over all minutes at once."""
    server, headers = _server(session, query), _headers(session, query)
    found: list[Point] = []
    for revision in ids:
        for expression in (query.bad, query.all):
            url = promql.url(server, expression, revision, minutes)
            try:
                status, body = outside.get(
                    url, headers, timeout_s=QUERY_TIMEOUT_S, at_most=LONGEST_ANSWER, urgent=urgent
                )
                found += promql.points(status, body, expression, revision)
            except (Unanswered, promql.Unreadable) as error:
                raise _FailedError(f"its server: {error}") from error
    return found


def _server(session: Session, query: PromQuery) -> str:
    """Return the server's address, looked up where only its variable is named."""
    if not query.server.startswith(_ENV):
        return query.server
    found = _variable(session, query.server)
    if not is_web_address(found) or "?" in found:
        raise _FailedError(f"the variable {query.server.removeprefix(_ENV)} has no server's address of http or https")
    return found


def _headers(session: Session, query: PromQuery) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {_variable(session, query.token)}"} if query.token else {}


def _variable(session: Session, reference: str) -> str:
    name = reference.removeprefix(_ENV)
    found = session.world.variables.get(name, "").strip()
    if not found:
        raise _FailedError(f"{name} is not set")
    if not (found.isascii() and found.isprintable()):
        raise _FailedError(f"the variable {name} has more than a line of plain characters")
    return found


def _by_provider(session: Session, query: CloudWatchQuery, minutes: Sequence[datetime]) -> Sequence[Point]:
    provider = session.provider
    if not isinstance(provider, Queries):
        raise Unsupported("nothing answers an expression of CloudWatch", why=provider.name, hint="mlscale validate")
    try:
        return provider.points(session.identity, (query.bad, query.all), minutes[0], minutes[-1] + MINUTE)
    except MlscaleError as error:
        raise _FailedError(error.why or error.what) from error


def _minutes(
    points: Iterable[Point], query: PromQuery | CloudWatchQuery, ids: Sequence[str], minutes: Sequence[datetime]
) -> Mapping[datetime, Minute]:
    values: dict[tuple[datetime, str, str], list[float]] = defaultdict(list)
    for each in points:
        values[each.start, each.revision, each.expression].append(each.value)
    found = {}
    for at in minutes:
        try:
            baseline, candidate = (_count(values[at, each, query.bad], values[at, each, query.all]) for each in ids)
            found[at] = Minute(baseline, candidate)
        except _FailedError as error:
            found[at] = Minute(failed=str(error))
    return found


def _count(bad: Sequence[float], of: Sequence[float]) -> Count | None:
    """Return whole numbers of what one revision's queries gave, None where one gave nothing: that is no zero."""
    for key, values in (("bad", bad), ("all", of)):
        if len(values) > 1:
            raise _FailedError(f"its query {key} gave {len(values)} series, and one is needed: sum() makes it one")
        if values and not 0 <= values[0] <= LARGEST:
            raise _FailedError(f"its query {key} gave {values[0]:g}, which is no count")
    if not bad or not of:
        return None
    if bad[0] > of[0] + max(1.0, SLACK * of[0]):
        raise _FailedError(f"its queries gave {bad[0]:g} bad ones of {of[0]:g}")
    whole = round(of[0])
    return min(round(bad[0]), whole), whole
