"""Metrics of the user's own: who is asked for them and how often, and what an answer counts for in a rollout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from mlscale.deployment import Identity, revision_of
from mlscale.engine import evidence, own_metrics
from mlscale.engine.outside import Outranked, Unanswered, get, never, output
from mlscale.engine.own_metrics import Minute
from mlscale.engine.session import Session
from mlscale.errors import Interrupted, MlscaleError, ProviderFailed, RolledBack, UsageError
from mlscale.providers.contract import Point
from mlscale.state import rollouts
from mlscale.state.rollouts import Counted, Phase, Rollout
from tests.builders import a_content
from tests.doubles import prometheus
from tests.doubles.fake_provider import FakeProvider
from tests.doubles.moved_clock import MORNING
from tests.doubles.prometheus import Prometheus
from tests.engine.conftest import SPEC, Engine

OLD, NEW = (revision_of(a_content(each)) for each in ("one", "two"))
MINUTE = timedelta(minutes=1)
FIRST, SECOND, THIRD = (MORNING + number * MINUTE for number in range(3))
BAD, ALL = 'bad{r="$revision"}[$window] 5.$', 'all{r="$revision"}'


@pytest.fixture
def server() -> Iterator[Prometheus]:
    """A server at which 1 of 100 is bad of each revision, each minute."""
    with prometheus.serving() as made:
        made.values = lambda query, _: [1.0 if query.startswith("bad") else 100.0]
        yield made


def promql(server: str, **more: str) -> str:
    """Return the metric of a spec, by two queries."""
    return json.dumps({"name": "empty", "promql": {"server": server, "bad": BAD, "all": ALL, **more}})


def a_session(engine: Engine, metric: str, variables: Mapping[str, str] | None = None) -> Session:
    """Return the session of a canary that is judged by `metric` alone."""
    analysis = f"{{error_rate: null, custom: [{metric}]}}"
    engine.write(spec=SPEC.replace("{keep_revisions: 2}", f"{{strategy: canary, interval: 5m, analysis: {analysis}}}"))
    session = engine.session()
    return replace(session, world=replace(session.world, variables=variables or {}))


def a_rollout(*windows: Counted) -> Rollout:
    """Return a canary that is watched since the morning."""
    return Rollout(
        id="r1", strategy="canary", phase=Phase.PROGRESSING, stable=OLD, candidate=NEW, shares=(1000, 5000),
        share=1000, began_at=MORNING, driven_at=MORNING, watched_from=MORNING, windows=windows,
    )  # fmt: skip


def counted(session: Session, *minutes: datetime, windows: Sequence[Counted] = ()) -> Mapping[datetime, Minute]:
    """Return what is known of the one metric of a session."""
    [own] = session.spec.rollout.analysis.custom
    return own_metrics.counted(session, a_rollout(*windows), own, minutes or (FIRST,), never)


def measured(at: datetime) -> Counted:
    """Return a window in which the metric was measured before."""
    return Counted(start=at, end=at + MINUTE, baseline={"empty": (7, 70)}, candidate={"empty": (0, 7)})


def test_a_minute_is_the_value_of_both_queries_at_its_end(engine: Engine, server: Prometheus) -> None:
    """For each revision, whose id stands for its variable, in whole numbers; another dollar stays."""
    by = {
        (f'bad{{r="{OLD.id}"}}[1m] 5.$', FIRST): 3.4,
        (f'all{{r="{OLD.id}"}}', FIRST): 540.6,
        (f'bad{{r="{NEW.id}"}}[1m] 5.$', FIRST): 0.0,
        (f'all{{r="{NEW.id}"}}', FIRST): 59.5,
    }
    ends = {int((at + MINUTE).timestamp()): at for at in (FIRST, SECOND)}
    server.values = lambda query, at: [by.get((query, ends[at]))]

    found = counted(a_session(engine, promql(server.address)), FIRST, SECOND)

    assert found == {FIRST: Minute((3, 541), (0, 60)), SECOND: Minute()}
    assert [(query, last - first) for query, first, last in server.asked] == [(query, 60) for query, _ in by]


def test_what_was_measured_is_not_asked_for_again(engine: Engine, server: Prometheus) -> None:
    """What was not, is: it may have come late. Where nothing is missing nobody is asked."""
    session = a_session(engine, promql(server.address))
    windows = [measured(FIRST), Counted(start=SECOND, end=THIRD, baseline={}, candidate={}), measured(THIRD)]

    found = counted(session, FIRST, SECOND, THIRD, windows=windows)
    spans = {(first, last) for _, first, last in server.asked}
    server.asked.clear()

    assert found == {FIRST: Minute((7, 70), (0, 7)), SECOND: Minute((1, 100), (1, 100)), THIRD: found[FIRST]}
    assert spans == {(int(THIRD.timestamp()), int(THIRD.timestamp()))}
    assert counted(session, FIRST, windows=windows)[FIRST] == found[FIRST]
    assert server.asked == []


@pytest.mark.parametrize(
    ("bad", "of", "minute"),
    [
        ([], [100.0], Minute()),
        ([1.0], [], Minute()),
        ([0.0], [0.0], Minute((0, 0), (0, 0))),
        ([100.8], [100.0], Minute((100, 100), (100, 100))),
        ([100.9], [100.0], Minute((100, 100), (100, 100))),
        ([102.0], [100.0], "its queries gave 102 bad ones of 100"),
        ([float("nan")], [100.0], "its query bad gave nan, which is no count"),
        ([1.0], [float("inf")], "its query all gave inf, which is no count"),
        ([-1.0], [100.0], "its query bad gave -1, which is no count"),
        ([1.0, 0.0], [100.0], "its query bad gave 2 series, and one is needed: sum() makes it one"),
        ([1.0], [1.0, 2.0, 3.0], "its query all gave 3 series, and one is needed: sum() makes it one"),
    ],
)
def test_what_is_no_count_is_an_error_and_what_is_missing_is_not_measured(
    engine: Engine, server: Prometheus, bad: list[float], of: list[float], minute: Minute | str
) -> None:
    """Nothing is never zero; and a little more bad ones than all is what extrapolation makes of all of them."""
    server.values = lambda query, _: bad if query.startswith("bad") else of

    [found] = counted(a_session(engine, promql(server.address))).values()

    assert found == (minute if isinstance(minute, Minute) else Minute(failed=minute))


OK = {"status": "success", "data": {"resultType": "matrix", "result": []}}


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (400, {"status": "error", "errorType": "bad_data", "error": "parse error"}, "400: bad_data: parse error"),
        (503, "no healthy upstream", "it answered 503: 'no healthy upstream'"),
        (302, "", "it answered 302: ''"),
        (200, "[" * 100_000, "it answered 200: '[["),
        (200, {"status": "success"}, """it answered 200: '{"status": "success"}'"""),
        (200, {**OK, "data": {"resultType": "vector", "result": []}}, "its query gave a vector, and no numbers"),
        (
            200,
            {**OK, "data": {"resultType": "matrix", "result": [{"metric": {}, "histograms": []}]}},
            "its query gave histograms, and no numbers",
        ),
        (200, {**OK, "warnings": ["store x is down"]}, "it warned: store x is down"),
        (200, " " * (own_metrics.LONGEST_ANSWER + 1), "it answered more than 4,194,304 bytes"),
    ],
    ids=["refused", "no API", "moved", "deep", "half", "instant", "histograms", "partial", "much"],
)
def test_a_server_that_does_not_answer_is_an_error_with_the_reason(
    engine: Engine, server: Prometheus, status: int, body: Any, why: str
) -> None:
    """Of all minutes that were asked for; the other queries are not asked then."""
    server.answer = (status, body if isinstance(body, str) else json.dumps(body))

    found = counted(a_session(engine, promql(server.address)), FIRST, SECOND)

    assert found[FIRST] == found[SECOND]
    assert found[FIRST].failed.startswith("its server: ")
    assert why in found[FIRST].failed
    assert len(server.asked) == 1


def test_a_warning_that_leaves_nothing_out_is_none(engine: Engine, server: Prometheus) -> None:
    """Prometheus 2 has its remarks on a query among the warnings."""
    server.warnings = ["PromQL info: metric might not be a counter"]

    assert counted(a_session(engine, promql(server.address))) == {FIRST: Minute((1, 100), (1, 100))}


def test_a_server_that_is_not_there_is_an_error_without_its_query(engine: Engine) -> None:
    """What of an address may be secret is not shown."""
    [found] = counted(a_session(engine, promql("http://127.0.0.1:1/prom"))).values()

    assert found == Minute(failed="its server: it can't be reached: [Errno 111] Connection refused")


def test_a_server_that_is_silent_is_not_waited_for(server: Prometheus) -> None:
    """The time is over, or something more urgent came."""
    server.held.clear()
    url = f"{server.address}/api/v1/query_range?query=a&start=0&end=0&step=60"

    with pytest.raises(Unanswered, match=r"no answer in 0\.05 s"):
        get(url, {}, timeout_s=0.05, at_most=10, urgent=never)
    with pytest.raises(Outranked):
        get(url, {}, timeout_s=60, at_most=10, urgent=lambda: True)


def test_address_and_token_may_stand_in_variables(engine: Engine, server: Prometheus) -> None:
    """Looked up when they are used; a server that asks for a token gets it."""
    server.token = "t0ken"
    metric = promql("env:PROM", token="env:TOKEN")

    found = counted(a_session(engine, metric, {"PROM": server.address, "TOKEN": "t0ken\n"}))

    assert found == {FIRST: Minute((1, 100), (1, 100))}
    wrong = counted(a_session(engine, metric, {"PROM": server.address, "TOKEN": "other"}))
    assert wrong == {FIRST: Minute(failed="its server: it answered 401: 'Unauthorized'")}


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"TOKEN": "a"}, "PROM is not set"),
        ({"PROM": "https://a"}, "TOKEN is not set"),
        ({"PROM": "a", "TOKEN": "a"}, "the variable PROM has no server's address of http or https"),
        ({"PROM": "https://a?b", "TOKEN": "a"}, "the variable PROM has no server's address of http or https"),
        ({"PROM": "https://a", "TOKEN": "a\nb"}, "the variable TOKEN has more than a line of plain characters"),
    ],
)
def test_a_rollout_whose_variable_is_not_there_does_not_begin(
    engine: Engine, variables: dict[str, str], why: str
) -> None:
    """It could never be judged; one that goes on elsewhere says it each minute instead."""
    session = a_session(engine, promql("env:PROM", token="env:TOKEN"), variables)

    with pytest.raises(UsageError) as caught:
        own_metrics.require(session)

    assert caught.value.why == f"rollout.analysis.custom[0].promql: {why}"
    assert counted(session) == {FIRST: Minute(failed=why)}


@pytest.mark.parametrize(
    ("command", "minute"),
    [
        (
            """echo '{"baseline": {"bad": 3, "of": 540}, "candidate": {"bad": 0, "of": 60}}'""",
            Minute((3, 540), (0, 60)),
        ),
        ("echo first >&2; echo last >&2; exit 3", "its command ended with exit code 3: last"),
        ("echo nothing", "its command printed 'nothing', and no counts"),
        (
            """echo '{"baseline": {"bad": 3, "of": 2}, "candidate": {"bad": 0, "of": 1}}'""",
            (
                'its command counted more bad ones than there were: {"baseline": {"bad": 3, "of": 2}, "candidate": '
                '{"bad": 0, "of": 1}}'
            ),
        ),
    ],
    ids=["counts", "fails", "no counts", "too many"],
)
def test_a_command_counts_or_is_an_error(engine: Engine, command: str, minute: Minute | str) -> None:
    """By a line of JSON."""
    found = counted(a_session(engine, json.dumps({"name": "empty", "command": command})))

    assert found == {FIRST: minute if isinstance(minute, Minute) else Minute(failed=minute)}


def test_a_command_is_run_once_for_each_minute_with_what_it_needs(engine: Engine) -> None:
    """The last minute first; those that it has counted are not counted again."""
    command = "env | grep ^MLSCALE_ | sort >> seen; echo $MLSCALE_START >> starts; exit 1"
    session = a_session(engine, json.dumps({"name": "empty", "command": command}))

    counted(session, FIRST, SECOND, THIRD, windows=[measured(SECOND)])

    assert (engine.folder / "starts").read_text().splitlines() == [THIRD.isoformat(), FIRST.isoformat()]
    assert (engine.folder / "seen").read_text().splitlines()[6:] == [
        f"MLSCALE_BASELINE={OLD.id}",
        f"MLSCALE_CANDIDATE={NEW.id}",
        "MLSCALE_DEPLOYMENT=reviews",
        f"MLSCALE_END={SECOND.isoformat()}",
        "MLSCALE_METRIC=empty",
        f"MLSCALE_START={FIRST.isoformat()}",
    ]


def test_a_command_that_takes_too_long_is_ended_with_what_it_started(engine: Engine) -> None:
    """What holds its output open is not waited for, and something more urgent comes first."""
    count = partial(output, "sleep 60 | cat", {}, folder=engine.folder, at_most=10)

    with pytest.raises(Unanswered, match=r"it took longer than 0\.1 s, and was ended"):
        count(timeout_s=0.1, urgent=never)
    with pytest.raises(Outranked):
        count(timeout_s=60, urgent=lambda: True)


class Querying(FakeProvider):
    """A provider that evaluates expressions: `given` are its points, `broken` is raised instead."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Point] = []
        self.broken: MlscaleError | None = None
        self.asked: list[tuple[Sequence[str], datetime, datetime]] = []

    def points(self, identity: Identity, expressions: Sequence[str], start: datetime, end: datetime) -> Sequence[Point]:
        """Return what a test gave."""
        del identity
        self.asked.append((expressions, start, end))
        if self.broken:
            raise self.broken
        return self.given


CLOUDWATCH = json.dumps({"name": "empty", "cloudwatch": {"bad": "SUM($variant)", "all": "ALL($variant)"}})
ON_SAGEMAKER = SPEC.replace(
    "provider: local", "provider: sagemaker\naccount: '123456789012'\nregion: eu-west-1"
).replace(
    "endpoint: {replicas: {min: 1, max: 4}}",
    "endpoint: {machine: ml.m5.large}\nsagemaker: {role: 'arn:aws:iam::123456789012:role/a', uploads: 's3://acme/a'}",
)


def on_sagemaker(engine: Engine, provider: Querying) -> Session:
    """Return the session of a spec that has expressions, over a provider that evaluates them."""
    analysis = f"{{error_rate: null, custom: [{CLOUDWATCH}]}}"
    engine.provider = provider
    engine.write(spec=ON_SAGEMAKER.replace("{keep_revisions: 2}", f"{{strategy: canary, analysis: {analysis}}}"))
    return engine.session()


def test_the_provider_evaluates_expressions_of_all_minutes_at_once(engine: Engine) -> None:
    """What it gives for both is a count; for one alone nothing was measured."""
    provider = Querying()
    provider.given = [
        Point(revision, expression, at, value)
        for revision in (OLD.id, NEW.id)
        for expression, at, value in [("SUM($variant)", FIRST, 2.0), ("ALL($variant)", FIRST, 50.0)]
    ] + [Point(NEW.id, "SUM($variant)", SECOND, 2.0)]

    found = counted(on_sagemaker(engine, provider), FIRST, SECOND)

    assert found == {FIRST: Minute((2, 50), (2, 50)), SECOND: Minute()}
    assert provider.asked == [(("SUM($variant)", "ALL($variant)"), FIRST, THIRD)]


def test_a_provider_that_can_not_evaluate_is_an_error_with_the_reason(engine: Engine) -> None:
    """The rollout goes on, without a verdict."""
    provider = Querying()
    provider.broken = ProviderFailed("CloudWatch refused", why="no such function", hint="")

    assert counted(on_sagemaker(engine, provider)) == {FIRST: Minute(failed="no such function")}


def judged(engine: Engine, server: Prometheus) -> None:
    """Deploy a first revision, and have a second in the spec that is judged by what `server` says."""
    a_session(engine, promql(server.address))
    engine.deploy()
    (engine.folder / "model.bin").write_text("two")
    engine.provider.per_minute = 6000


def test_a_good_candidate_is_promoted_by_a_metric_of_ones_own(engine: Engine, server: Prometheus) -> None:
    """Each minute was asked for once of each query and revision."""
    judged(engine, server)

    found = engine.drive()

    assert (found.phase, found.outcome) == (Phase.PROMOTED, "pass")
    assert found.windows[-1].candidate == {"empty": (1, 100)}
    assert len(server.asked) == len(set(server.asked))


def test_a_worse_candidate_is_taken_back_by_a_metric_of_ones_own(engine: Engine, server: Prometheus) -> None:
    """With its numbers; what fails for a while is an error until then, and nothing moves."""
    judged(engine, server)
    server.answer = (500, "")
    seen: list[str] = []

    def meanwhile() -> None:
        found = rollouts.current(engine.store, "reviews")
        seen.extend([found.outcome] if found else [])
        if len(seen) >= 8:
            server.answer = None

    server.meanwhile = meanwhile
    stable: list[str] = []

    def values(query: str, _: int) -> list[float]:
        stable[:] = stable or [query.split('"')[1]]  # the baseline is asked for first
        return [100.0] if query.startswith("all") else [1.0] if stable[0] in query else [20.0]

    server.values = values

    with pytest.raises(RolledBack, match="20% of"):
        engine.drive()

    assert "error" in seen
    assert [each[0] for each in engine.serving()] == ["stable"]


def test_a_signal_comes_through_while_a_server_is_silent(engine: Engine, server: Prometheus) -> None:
    """It is not waited for until its time is over."""
    judged(engine, server)
    server.held.clear()
    server.meanwhile = engine.stop.request

    with pytest.raises(Interrupted):
        engine.drive()

    assert len(server.asked) == 1


def test_evidence_has_what_was_measured_of_one_revision_alone(engine: Engine, server: Prometheus) -> None:
    """It is kept, and not taken for the other's zero."""
    server.values = lambda query, _: [] if OLD.id in query else [1.0 if query.startswith("bad") else 100.0]
    session = a_session(engine, promql(server.address))
    engine.deploy()

    found = evidence.seen(session, a_rollout(), FIRST + 2 * MINUTE)

    assert [(each.baseline, each.candidate) for each in found.windows] == [({}, {"empty": (1, 100)})]
    assert (found.outcome, found.verdicts[0].why) == ("no_data", "nothing was measured of the baseline")
