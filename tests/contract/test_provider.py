"""What every provider must do. A new provider adds a case to `CASES`, and no test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from mlscale.clock import SystemClock
from mlscale.deployment import WHOLE, Deployment, Health, Identity, Kind, Phase, Role, RolloutWish, Scaling, revision_of
from mlscale.errors import MlscaleError
from mlscale.plan import make, planfile
from mlscale.plan.steps import Step
from mlscale.providers import artifact, docker_engine
from mlscale.providers.contract import LogQuery, Metrics, Provider, Traffic, Work
from mlscale.providers.local.provider import Local
from mlscale.providers.sagemaker.provider import SageMaker
from mlscale.providers.vertex.provider import Vertex
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of
from tests.builders import NOON, a_deployment
from tests.conftest import ROOT
from tests.doubles import vertex as vertex_double
from tests.doubles.aws import Double, serving
from tests.doubles.fake_provider import FakeProvider

WISH = RolloutWish()
VERTEX_SPEC = b"""\
version: 1
name: reviews
provider: vertex
region: us-central1
account: acme-ml
model: {source: model, framework: sklearn}
endpoint: {machine: n1-standard-4}
"""
BUCKET, ROLE = "acme-ml", "arn:aws:iam::123456789012:role/sagemaker"


@dataclass(frozen=True, slots=True)
class Case:
    """A provider, a way to ask it for the first or the second version of a model, and what it can't do.

    `unfit` is what it refuses, named by the path in the spec.
    """

    provider: Provider
    asked: Callable[[str], Deployment]
    unfit: tuple[str, Deployment]

    def converge(self, asked: Deployment | None, identity: Identity) -> tuple[Step[object], ...]:
        """Plan from what is there, do every step, and return them."""
        steps = make.plan(asked, self.seen(identity), self.steps(asked, identity), now=NOON).steps
        for step in steps:
            self.do(step)
        return steps

    def steps(self, asked: Deployment | None, identity: Identity) -> tuple[Step[object], ...]:
        """Return the steps from what is there to `asked`, in order."""
        seen = self.provider.read(identity)
        return make.plan(asked, seen, self.provider.steps(asked, seen, WISH), now=NOON).steps

    def seen(self, identity: Identity) -> Deployment | None:
        """Return what is there, when it has settled."""
        limit = time.monotonic() + 10
        seen = self.provider.read(identity)
        while seen and seen.phase is not Phase.STEADY and time.monotonic() < limit:
            time.sleep(0.05)
            seen = self.provider.read(identity)
        return seen

    def do(self, step: Step[object]) -> None:
        """Do a step to its end."""
        outcome = self.provider.perform(step, _told)
        limit = time.monotonic() + 30
        while outcome.work is Work.RUNNING:
            assert time.monotonic() < limit, f"{step.key} does not end: {outcome.detail}"
            time.sleep(0.02)
            outcome = self.provider.poll(step, outcome.operation or "")


def _told(text: str) -> None:
    """Take a progress line, and say nothing."""
    del text


def _fake(folder: Path) -> Case:
    del folder
    asked = a_deployment("one")
    content = replace(asked.revisions[0].revision.content, image="registry/model:1")
    unfit = replace(asked, revisions=(replace(asked.revisions[0], revision=revision_of(content)),))
    return Case(FakeProvider(), a_deployment, ("model.image", unfit))


def _local(folder: Path, *overrides: str) -> Case:
    shutil.copytree(
        ROOT / "templates" / "custom", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".mlscale")
    )
    spec = parse((folder / "spec.yaml").read_bytes(), "spec.yaml", variables={}, overrides=overrides)
    provider = Local(folder / ".mlscale", SystemClock())

    def asked(version: str) -> Deployment:
        handler = folder / f"inference-{version}.py"
        handler.write_text(f"{(folder / 'inference.py').read_text()}\nVERSION = {version!r}\n")
        paths = {"artifact": folder / "model", "handler": handler}
        digests = {name: artifact.digest(path) for name, path in paths.items()}
        found = Digests(digests["artifact"], digests["handler"], None, artifact.runtime_digest())
        wanted = deployment_of(spec, found, {digests[name]: str(path) for name, path in paths.items()})
        return provider.pinned(wanted, None)

    requirements = folder / "requirements.txt"
    requirements.write_text("-r other.txt\n")
    digest = artifact.digest(requirements)
    one = deployment_of(spec, Digests("a", None, digest, "r"), {digest: str(requirements)})
    return Case(provider, asked, ("model.requirements", one))


def _docker(folder: Path) -> Case:
    return _local(folder, "name=mlscale-contract", "local.runtime=docker")


def _sagemaker(folder: Path) -> Case:
    """Return the case for the double that the environment names."""
    shutil.copytree(ROOT / "templates" / "custom", folder, dirs_exist_ok=True)
    words = {
        "provider": "sagemaker",
        "region": "us-east-1",
        "sagemaker.role": ROLE,
        "endpoint.machine": "ml.c6i.xlarge",
    }
    overrides = [f"{path}={value}" for path, value in words.items()]
    spec = parse((folder / "spec.yaml").read_bytes(), "spec.yaml", variables={}, overrides=overrides)
    provider = SageMaker(
        account="123456789012", region="us-east-1", uploads=f"s3://{BUCKET}/team/uploads", clock=SystemClock()
    )

    def asked(version: str) -> Deployment:
        handler = folder / f"inference-{version}.py"
        handler.write_text(f"{(folder / 'inference.py').read_text()}\nVERSION = {version!r}\n")
        paths = {"artifact": folder / "model", "handler": handler}
        digests = {name: artifact.digest(path) for name, path in paths.items()}
        found = Digests(digests["artifact"], digests["handler"], None, artifact.runtime_digest())
        return provider.pinned(
            deployment_of(spec, found, {digests[name]: str(path) for name, path in paths.items()}), None
        )

    one = asked("one").revisions[0]
    elsewhere = revision_of(replace(one.revision.content, health=Health("/healthz")))
    return Case(
        provider,
        asked,
        ("endpoint.health.path", replace(asked("one"), revisions=(replace(one, revision=elsewhere),))),
    )


def _vertex(folder: Path) -> Case:
    """Return the case for the double that the environment names."""
    spec = parse(VERTEX_SPEC, "spec.yaml", variables={}, overrides=())
    provider = Vertex(
        project="acme-ml", region="us-central1", uploads=f"gs://{BUCKET}/team/uploads", clock=SystemClock()
    )

    def asked(version: str) -> Deployment:
        model = folder / f"model-{version}"
        model.mkdir(exist_ok=True)
        (model / "model.joblib").write_text(version)
        digest = artifact.digest(model)
        found = Digests(digest, None, None, artifact.runtime_digest())
        return provider.pinned(deployment_of(spec, found, {digest: str(model)}), None)

    later = replace(asked("one"), kind=Kind.ASYNC)
    return Case(provider, asked, ("endpoint.kind", later))


CASES = {"fake": _fake, "local": _local, "docker": _docker, "sagemaker": _sagemaker, "vertex": _vertex}


@pytest.fixture(scope="session")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is below a model in its image stays in the engine, so that no test installs it again."""
    try:
        docker_engine.info()
    except MlscaleError as error:
        pytest.skip(f"NO DOCKER ENGINE, ITS CONTRACT IS NOT TESTED: {error}")
    asked = _local(tmp_path_factory.mktemp("layers"), "name=mlscale-layers", "local.runtime=docker").asked("below")
    content = asked.revisions[0].revision.content
    files = {"model": asked.sources[content.artifact], "handler": asked.sources[str(content.handler)]}
    built = docker_engine.ensure(asked.identity.name, content, {**files, "requirements": None}, _told)
    yield
    for tag in built.tags:
        docker_engine.remove(tag)


@pytest.fixture(scope="session")
def aws() -> Iterator[Double]:
    """AWS, as its double has it."""
    with serving() as double:
        yield double


@pytest.fixture(scope="session")
def google() -> Iterator[vertex_double.Double]:
    """Google Cloud, as its double has it."""
    with vertex_double.serving() as double:
        yield double


@pytest.fixture(params=["fake", "local", pytest.param("docker", marks=pytest.mark.docker), "sagemaker", "vertex"])
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """Each provider in turn, empty; what is left there at the end is destroyed."""
    if request.param == "docker":
        request.getfixturevalue("layers")
    if request.param == "sagemaker":
        double: Double = request.getfixturevalue("aws")
        double.post("reset")
        double.make_bucket(BUCKET)
        double.make_role("sagemaker")
        for key, value in double.environment.items():
            monkeypatch.setenv(key, value)
    if request.param == "vertex":
        cloud: vertex_double.Double = request.getfixturevalue("google")
        cloud.post("reset")
        cloud.make_bucket(BUCKET)
        for key, value in cloud.environment.items():
            monkeypatch.setenv(key, value)
    made = CASES[request.param](tmp_path)
    yield made
    for identity in made.provider.list():
        made.converge(None, identity)


def test_nothing_there_reads_as_none(case: Case) -> None:
    """What was never deployed is absent, not an error."""
    assert case.provider.read(case.asked("one").identity) is None


def test_done_steps_make_what_was_asked(case: Case) -> None:
    """After every step the world is as asked, and planning again gives no step."""
    asked = case.asked("one")

    case.converge(asked, asked.identity)

    seen = case.seen(asked.identity)
    assert make.difference(asked, seen) == ()
    assert seen is not None
    assert seen.phase is Phase.STEADY
    assert case.steps(asked, asked.identity) == ()
    assert asked.identity in case.provider.list()


def test_steps_done_twice_are_harmless(case: Case) -> None:
    """Every step can be done again at once, and the end is the same."""
    asked = case.asked("one")
    for step in case.steps(asked, asked.identity):
        case.do(step)
        case.do(step)

    assert make.difference(asked, case.seen(asked.identity)) == ()


def test_a_done_step_is_seen_as_done(case: Case) -> None:
    """`is_done` tells by reading: not before, and after it was done."""
    asked = case.asked("one")
    first = case.steps(asked, asked.identity)[0]
    assert not case.provider.is_done(first)

    case.do(first)

    assert case.provider.is_done(first)


def test_a_new_revision_takes_over(case: Case) -> None:
    """The second version ends alone, stable, with all traffic."""
    first, second = case.asked("one"), case.asked("two")
    case.converge(first, first.identity)

    case.converge(second, second.identity)

    seen = case.seen(second.identity)
    assert seen is not None
    assert [(each.revision.id, each.role, each.share) for each in seen.revisions] == [
        (second.revisions[0].revision.id, Role.STABLE, WHOLE)
    ]


def test_scaling_and_labels_change_in_place(case: Case) -> None:
    """Another replica count or label makes no new revision."""
    first = case.asked("one")
    case.converge(first, first.identity)
    second = replace(first, scaling=Scaling(min=2, max=5), labels={"team": "search"})

    steps = case.converge(second, second.identity)

    assert [step.kind for step in steps] == ["update"]
    assert make.difference(second, case.seen(second.identity)) == ()


def test_live_capacity_is_not_reset(case: Case) -> None:
    """A new revision starts with as many replicas as the old one has now, not with the minimum."""
    first, second = case.asked("one"), case.asked("two")
    grown = replace(first, scaling=Scaling(min=2, max=5))
    case.converge(grown, first.identity)
    wider = replace(second, scaling=Scaling(min=1, max=5))

    case.converge(wider, wider.identity)

    seen = case.seen(wider.identity)
    assert seen is not None
    assert seen.stable is not None
    assert seen.stable.live is not None
    assert seen.stable.live.desired == 2


@pytest.mark.parametrize("done", range(8))
def test_a_cut_off_change_goes_on_from_what_is_there(case: Case, done: int) -> None:
    """However many steps were done when a run was cut off, planning again and doing that converges."""
    first, second = case.asked("one"), case.asked("two")
    case.converge(first, first.identity)
    for step in case.steps(second, second.identity)[:done]:
        case.do(step)

    case.converge(second, second.identity)

    seen = case.seen(second.identity)
    assert make.difference(second, seen) == ()
    assert case.steps(second, second.identity) == ()


def test_a_failed_candidate_is_taken_back(case: Case) -> None:
    """With the candidate there but without traffic, the way back leaves the old revision alone, untouched."""
    first, second = case.asked("one"), case.asked("two")
    case.converge(first, first.identity)
    for step in case.steps(second, second.identity):
        if step.kind == "wait":
            break
        case.do(step)
    seen = case.provider.read(first.identity)
    assert seen is not None

    case.converge(make.back_to_stable(seen), first.identity)

    assert make.difference(first, case.seen(first.identity)) == ()


def test_destroy_leaves_nothing(case: Case) -> None:
    """What was destroyed is absent, and destroying it again is no step."""
    asked = case.asked("one")
    case.converge(asked, asked.identity)

    case.converge(None, asked.identity)

    assert case.provider.read(asked.identity) is None
    assert case.steps(None, asked.identity) == ()
    assert asked.identity not in case.provider.list()


def test_a_plan_can_be_saved_and_read(case: Case) -> None:
    """A plan read back from its file is the plan that was saved."""
    asked = case.asked("one")
    made = make.plan(asked, None, case.provider.steps(asked, None, WISH), now=NOON)

    text = planfile.text_of(made, planfile.Origin(spec="spec.yaml"), payloads=case.provider.payloads())

    assert planfile.plan_of(planfile.file_of(text, name="plan"), payloads=case.provider.payloads()) == made


def test_what_can_not_be_done_is_refused_with_a_reason(case: Case) -> None:
    """What a provider can't do is refused by its path in the spec, and the reason is said; the rest is not."""
    path, unfit = case.unfit

    refusals = case.provider.abilities(unfit, None)

    assert [each.path for each in refusals] == [path]
    assert refusals[0].why
    assert case.provider.abilities(case.asked("one"), None) == ()


def test_it_answers_and_logs(case: Case) -> None:
    """A deployed model answers a request, names its revision, and its replicas' log can be read."""
    asked = case.asked("one")
    case.converge(asked, asked.identity)

    body = (ROOT / "templates" / "custom" / "request.json").read_bytes()
    answer = case.provider.invoke(asked.identity, body, "application/json", "application/json")

    assert (answer.status, answer.revision) == (200, asked.revisions[0].revision.id)
    lines = list(case.provider.logs(asked.identity, LogQuery(tail=5)))
    assert lines
    assert {line.revision for line in lines} == {asked.revisions[0].revision.id}


def test_what_is_in_use_is_no_garbage(case: Case) -> None:
    """Collecting garbage with nothing to keep does not touch what serves."""
    asked = case.asked("one")
    case.converge(asked, asked.identity)

    for step in case.provider.garbage(asked.identity, ()):
        case.do(step)

    assert make.difference(asked, case.seen(asked.identity)) == ()


def test_doctor_has_something_to_say(case: Case) -> None:
    """A check has a name, and says what was found."""
    assert all(check.name and check.found for check in case.provider.doctor())


def beside(first: Deployment, second: Deployment, share: int) -> Deployment:
    """Return what a rollout asks for: the revision of `first`, and that of `second` with a share."""
    stable, new = first.revisions[0], second.revisions[0]
    both = (replace(stable, share=WHOLE - share), replace(new, role=Role.CANDIDATE, share=share))
    return replace(first, revisions=both, sources={**first.sources, **second.sources})


def test_a_candidate_is_made_gets_more_and_is_promoted(case: Case) -> None:
    """It is there as asked at each share, the stable one stays what it is, and no step is left; then it is alone."""
    first, second = case.asked("one"), case.asked("two")
    case.converge(first, first.identity)
    one, two = (each.revisions[0].revision.id for each in (first, second))

    for share in (1000, 5000):
        both = beside(first, second, share)
        case.converge(both, first.identity)
        seen = case.seen(first.identity)
        assert seen is not None
        assert {(each.revision.id, each.role, each.share) for each in seen.revisions} == {
            (one, Role.STABLE, WHOLE - share),
            (two, Role.CANDIDATE, share),
        }
        assert make.difference(both, seen) == ()
        assert case.steps(both, first.identity) == ()
    promoted = case.converge(second, first.identity)

    seen = case.seen(second.identity)
    assert seen is not None
    assert [(each.revision.id, each.role, each.share) for each in seen.revisions] == [(two, Role.STABLE, WHOLE)]
    assert not [step for step in promoted if step.key.endswith(("/add", "/model", "/deploy"))]
    assert case.steps(second, second.identity) == ()


def test_a_candidate_is_replaced_and_taken_away(case: Case) -> None:
    """Another one takes its place alone; without any, the stable revision serves as before."""
    first, second, third = (case.asked(each) for each in ("one", "two", "three"))
    case.converge(first, first.identity)
    case.converge(beside(first, second, 1000), first.identity)

    case.converge(beside(first, third, 2000), first.identity)

    seen = case.seen(first.identity)
    assert seen is not None
    assert {(each.revision.id, each.role, each.share) for each in seen.revisions} == {
        (first.revisions[0].revision.id, Role.STABLE, 8000),
        (third.revisions[0].revision.id, Role.CANDIDATE, 2000),
    }
    case.converge(first, first.identity)
    alone = case.seen(first.identity)
    assert make.difference(first, alone) == ()
    assert alone is not None
    assert [each.share for each in alone.revisions] == [WHOLE]
    assert case.steps(first, first.identity) == ()


def test_shares_are_held_exactly_or_as_near_as_can_be(case: Case) -> None:
    """What a provider says that it holds is the whole, and it holds that."""
    assert isinstance(case.provider, Traffic)
    for share in (1, 999, 1000, 3333, 9999):
        held = case.provider.shares_that_hold({"one": WHOLE - share, "two": share})
        assert sum(held.values()) == WHOLE
        assert abs(held["two"] - share) < 100
        assert case.provider.shares_that_hold(held) == held


def test_what_was_never_asked_has_no_counts(case: Case) -> None:
    """Where nothing was counted there is no row, which is not a row of zeros."""
    assert isinstance(case.provider, Metrics)
    asked = case.asked("one")
    case.converge(asked, asked.identity)
    now = SystemClock().now()

    rows = case.provider.counts(asked.identity, now - timedelta(minutes=10), now, 500.0)

    assert [row for row in rows if row.requests] == []
