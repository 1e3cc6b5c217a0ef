"""A candidate beside the stable revision on real processes: made, shifted, replaced, promoted, aborted, counted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlscale.clock import SystemClock
from mlscale.deployment import AT_ONCE, WHOLE, Deployment, Metric, Phase, Role, Scaling, ServedRevision, TargetPolicy
from mlscale.plan import make
from mlscale.plan.steps import Step
from mlscale.providers import artifact
from mlscale.providers.contract import BadOfAll, Work
from mlscale.providers.local import records
from mlscale.providers.local.provider import Local
from mlscale.providers.local.records import Observed
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of
from tests.builders import NOON
from tests.conftest import ROOT
from tests.e2e.deployed import BODY, exchange, load, until

FIXED = Scaling(min=3, max=3)


@dataclass(frozen=True, slots=True)
class Trial:
    """A deployment in a folder, asked for by word: each word is a revision of the template `custom`."""

    folder: Path
    provider: Local

    def served(self, word: str, role: Role = Role.STABLE, share: int = WHOLE, code: str = "") -> ServedRevision:
        """Return the revision whose handler says `word` for setosa and has `code` in its prediction."""
        return replace(self._alone(word, code).revisions[0], role=role, share=share)

    def asked(self, *served: ServedRevision, scaling: Scaling = FIXED) -> Deployment:
        """Return what is asked for, with the files of all revisions."""
        known = self._alone("one")
        return replace(known, revisions=served, scaling=scaling, sources=self._sources())

    def _alone(self, word: str, code: str = "") -> Deployment:
        handler = self.folder / f"inference-{word}.py"
        if not handler.exists():
            text = (self.folder / "inference.py").read_text().replace('"setosa"', f'"{word}"')
            named = "def predict_fn(flowers, centroids):\n"
            handler.write_text(text.replace(named, f"{named}    {code or 'pass'}\n"))
        spec = parse((self.folder / "spec.yaml").read_bytes(), "spec.yaml", variables={}, overrides=())
        found = Digests(
            artifact.digest(self.folder / "model"), artifact.digest(handler), None, artifact.runtime_digest()
        )
        return deployment_of(spec, found, {})

    def _sources(self) -> dict[str, str]:
        paths = (self.folder / "model", *self.folder.glob("inference-*.py"))
        return {artifact.digest(each): str(each) for each in paths}

    def converge(self, asked: Deployment | None) -> Sequence[str]:
        """Do what is to be done, and return the keys of the steps; planned again it is nothing."""
        steps = self.steps(asked)
        for step in steps:
            self.do(step)
        assert self.steps(asked) == ()
        return [step.key for step in steps]

    def steps(self, asked: Deployment | None) -> Sequence[Step[object]]:
        """Return the steps to `asked` from what is there."""
        seen = self.provider.read(self.asked().identity)
        return make.plan(asked, seen, self.provider.steps(asked, seen, AT_ONCE), now=NOON).steps

    def do(self, step: Step[object]) -> None:
        """Do a step to its end."""
        outcome = self.provider.perform(step, _told)
        limit = time.monotonic() + 60
        while outcome.work is Work.RUNNING:
            assert time.monotonic() < limit, f"{step.key} does not end: {outcome.detail}"
            time.sleep(0.02)
            outcome = self.provider.poll(step, outcome.operation or "")

    @property
    def seen(self) -> Deployment:
        """What is there."""
        found = self.provider.read(self.asked().identity)
        assert found is not None
        return found

    @property
    def observed(self) -> Observed:
        """What the supervisor last saw."""
        found = records.read_observed(self.folder / ".mlscale" / "local" / "centroids")
        assert found is not None
        return found

    @property
    def address(self) -> str:
        """Where requests go."""
        assert self.seen.address is not None
        return self.seen.address

    @property
    def arranged(self) -> Sequence[tuple[str, Role, int, int]]:
        """Return id, role, share and wanted replicas of each revision."""
        found = [(each, each.live) for each in self.seen.revisions]
        return [(each.revision.id, each.role, each.share, live.desired) for each, live in found if live]

    def pids(self, served: ServedRevision) -> set[int]:
        """Return the processes that serve a revision."""
        found = next((each for each in self.observed.revisions if each.id == served.revision.id), None)
        return {each.pid for each in found.replicas} if found else set()

    def counts(self, start: datetime) -> Sequence[BadOfAll]:
        """Return the counts from the minute of `start` until now; slow is what takes over 100 ms."""
        begun = start.replace(second=0, microsecond=0)
        return self.provider.counts(self.seen.identity, begun, datetime.now(UTC), 100.0)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """A deployment of the revision `one` with three replicas; destroyed at the end."""
    shutil.copytree(ROOT / "templates" / "custom", tmp_path, dirs_exist_ok=True)
    made = Trial(tmp_path, Local(tmp_path / ".mlscale", SystemClock()))
    made.converge(made.asked(made.served("one")))
    yield made
    made.converge(None)


def _told(text: str) -> None:
    """Take a progress line, and say nothing."""
    del text


def both(trial: Trial, share: int, word: str = "two") -> Deployment:
    """Return what is asked for with a candidate at `share` beside the revision `one`."""
    return trial.asked(trial.served("one", share=WHOLE - share), trial.served(word, Role.CANDIDATE, share))


def test_a_candidate_is_promoted_in_steps_without_a_failed_request(trial: Trial) -> None:
    """10 %, 50 %, 20 %, all, under load: its replicas follow its share, and those that it has go on."""
    one, two = trial.served("one"), trial.served("two")
    stable = trial.pids(one)

    with load(trial.address, per_second=150) as answers:
        made = trial.converge(both(trial, 1000))
        assert trial.arranged == [
            (one.revision.id, Role.STABLE, 9000, 3),
            (two.revision.id, Role.CANDIDATE, 1000, 1),
        ]
        first = trial.pids(two)
        half = trial.converge(both(trial, 5000))
        assert [each[2:] for each in trial.arranged] == [(5000, 3), (5000, 2)]
        assert trial.pids(one) == stable
        back = trial.converge(both(trial, 2000))
        assert [each[2:] for each in trial.arranged] == [(8000, 3), (2000, 1)]
        promoted = trial.converge(trial.asked(two))
        until(lambda: len(trial.observed.revisions) == 1)

    assert made == [f"{two.revision.id}/{act}" for act in ("prepare", "add", "wait", "shift")]
    assert half == [f"{two.revision.id}/{act}" for act in ("grow", "wait", "shift")]
    assert back == [f"{two.revision.id}/shift"]
    assert promoted == [
        *(f"{two.revision.id}/{act}" for act in ("grow", "wait", "shift", "promote")),
        f"{one.revision.id}/drop",
    ]
    assert trial.arranged == [(two.revision.id, Role.STABLE, WHOLE, 3)]
    assert first < trial.pids(two)
    assert answers.failures == []
    assert answers.revisions == {one.revision.id, two.revision.id}


def test_a_candidate_is_replaced_and_taken_back_without_a_failed_request(trial: Trial) -> None:
    """Another one is tried in its place, then none: the stable revision's processes are those that they were."""
    one, two, three = (trial.served(word) for word in ("one", "two", "three"))
    stable = trial.pids(one)

    with load(trial.address, per_second=150) as answers:
        trial.converge(both(trial, 5000))
        replaced = trial.converge(both(trial, 1000, "three"))
        assert [each[:3] for each in trial.arranged] == [
            (one.revision.id, Role.STABLE, 9000),
            (three.revision.id, Role.CANDIDATE, 1000),
        ]
        back = make.back_to_stable(trial.seen)
        aborted = trial.converge(back)
        until(lambda: len(trial.observed.revisions) == 1)

    assert [key for key in replaced if not key.endswith("/prepare")] == [
        f"{one.revision.id}/clear",
        f"{two.revision.id}/drop",
        *(f"{three.revision.id}/{act}" for act in ("add", "wait", "shift")),
    ]
    assert aborted == [f"{one.revision.id}/shift", f"{three.revision.id}/drop"]
    assert trial.arranged == [(one.revision.id, Role.STABLE, WHOLE, 3)]
    assert trial.pids(one) == stable
    assert answers.failures == []


def test_each_change_can_be_cut_off_and_done_again(trial: Trial) -> None:
    """However many steps were done of it, planning again and doing that ends where it was to end."""
    two = trial.served("two")
    for asked in (both(trial, 1000), both(trial, 5000), trial.asked(trial.served("one")), trial.asked(two)):
        before = trial.seen
        for done in range(4):
            for step in trial.steps(asked)[:done]:
                trial.do(step)
        trial.converge(asked)

        assert make.difference(asked, trial.seen) == ()
        assert before.stable is not None


def test_the_split_is_exact_and_the_counts_add_up_over_a_supervisor_that_was_killed(trial: Trial) -> None:
    """Of 400 requests a tenth goes to the candidate, the next supervisor goes on with it, and each one is counted."""
    failing = trial.served("two", Role.CANDIDATE, 1000, code="raise RuntimeError('no')")
    one = trial.served("one", share=9000)
    asked = trial.asked(one, failing)
    trial.converge(asked)
    start = datetime.now(UTC)
    told = answered(trial, 200)
    time.sleep(1.5)

    os.kill(trial.observed.pid, signal.SIGKILL)
    until(lambda: trial.seen.phase is Phase.FAILED)
    trial.converge(asked)
    told += answered(trial, 200)
    until(lambda: sum(each.requests for each in trial.counts(start)) == 400, within_s=75)

    assert told == {(200, one.revision.id): 360, (500, failing.revision.id): 40}
    rows = trial.counts(start)
    assert {each.end - each.start for each in rows} == {timedelta(minutes=1)}
    assert [each.start for each in rows] == sorted(each.start for each in rows)
    assert {each.revision: each.errors for each in rows} == {one.revision.id: 0, failing.revision.id: 40}


def test_a_shadow_that_is_slow_and_fails_is_seen_by_nobody(trial: Trial) -> None:
    """Clients get the stable revision's answers as quickly as before; what could not be copied is told."""
    one = trial.served("one")
    shadow = trial.served("two", Role.SHADOW, code="import time; time.sleep(0.3); raise RuntimeError('no')")

    trial.converge(trial.asked(one, shadow))
    with load(trial.address, per_second=150) as answers:
        until(lambda: all(copies(trial).get(outcome) for outcome in ("not_sent", "failed")))
    told = copies(trial)
    trial.converge(trial.asked(one))

    assert answers.failures == []
    assert answers.revisions == {one.revision.id}
    assert answers.slowest_s < 1.0, "64 copies at three replicas take six seconds"
    assert [told[each] for each in ("same", "other_body", "other_status", "alone")] == [0, 0, 0, 0]
    assert [each[:3] for each in trial.arranged] == [(one.revision.id, Role.STABLE, WHOLE)]


def copies(trial: Trial) -> dict[str, int]:
    """Return what became of the copies so far."""
    text = exchange(trial.address, "/metrics")[1].decode()
    return {word: int(count) for word, count in re.findall(r'mlscale_copies_total{.*outcome="(\w+)"} (\d+)', text)}


def test_a_candidate_is_scaled_by_its_own_load(trial: Trial) -> None:
    """A slow one gets more replicas for the same requests, and the stable one keeps what its own need."""
    target = TargetPolicy(Metric.CONCURRENCY, 2, timedelta(seconds=1), timedelta(seconds=1))
    scaling = Scaling(min=1, max=3, target=(target,))
    one = trial.served("one")
    slow = trial.served("slow", Role.CANDIDATE, 8000, code="import time; time.sleep(0.2)")
    asked = trial.asked(replace(one, share=2000), slow, scaling=scaling)
    trial.converge(trial.asked(one, scaling=scaling))
    until(lambda: [each[3] for each in trial.arranged] == [1])
    trial.converge(asked)
    assert [each[3] for each in trial.arranged] == [1, 1]

    with load(trial.address, per_second=200, threads=8) as answers:
        until(lambda: [each[3] for each in trial.arranged] == [1, 3], within_s=40)

    assert trial.steps(asked) == ()
    assert answers.failures == []


def answered(trial: Trial, count: int) -> Counter[tuple[int, str]]:
    """Return how often each status came from each revision for so many requests in a row."""
    found: Counter[tuple[int, str]] = Counter()
    for _ in range(count):
        answer = trial.provider.invoke(trial.seen.identity, BODY, "application/json", "application/json")
        found[answer.status, answer.revision] += 1
    return found
