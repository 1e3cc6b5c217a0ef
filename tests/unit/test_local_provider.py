"""What this machine says of what is asked, before anything is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlscale.clock import SystemClock
from mlscale.deployment import AT_ONCE, WHOLE, Identity, Role, RolloutWish, ServedRevision, revision_of
from mlscale.providers.contract import Refusal
from mlscale.providers.local.provider import Local
from tests.builders import a_content, a_deployment

IDENTITY = Identity("local", "reviews")


@pytest.fixture
def local(tmp_path: Path) -> Local:
    """This machine, with an empty workspace."""
    return Local(tmp_path, SystemClock())


@pytest.mark.parametrize("strategy", ["canary", "linear", "rolling"])
def test_a_rollout_by_the_provider_alone_is_refused(local: Local, strategy: str) -> None:
    """There are no guardrails on this machine; mlscale shifts the weights itself."""
    why = f"this machine has no {strategy} rollout of its own, with alarms that guard it: use weights"

    assert local.abilities(a_deployment(), None, RolloutWish(strategy)) == (Refusal("rollout.driver", why),)


@pytest.mark.parametrize("strategy", ["all_at_once", "blue_green", "shadow"])
def test_other_strategies_are_no_problem(local: Local, strategy: str) -> None:
    """A shadow is two revisions, as a canary by weights is."""
    shadow = ServedRevision(revision_of(a_content("two")), Role.SHADOW, WHOLE)
    both = replace(a_deployment(), revisions=(*a_deployment().revisions, shadow))

    assert local.abilities(both, a_deployment(), RolloutWish(strategy)) == ()


def test_a_candidates_files_are_looked_at(local: Local, tmp_path: Path) -> None:
    """Requirements that name other files are refused for it, too."""
    (tmp_path / "requirements.txt").write_text("-r other.txt\n")
    candidate = ServedRevision(revision_of(a_content("two", requirements="r")), Role.CANDIDATE, 1000)
    stable = replace(a_deployment().revisions[0], share=9000)
    asked = replace(a_deployment(), revisions=(stable, candidate), sources={"r": str(tmp_path / "requirements.txt")})

    assert [each.path for each in local.abilities(asked, None, AT_ONCE)] == ["model.requirements"]


def test_the_image_of_what_is_there_stays(local: Local) -> None:
    """Of both revisions; one that is made of the same as one of them has its image, though mlscale is newer."""
    built = {name: a_content(name, image=f"reviews:{name}", runtime="r") for name in ("one", "two")}
    one, two = (ServedRevision(revision_of(each), Role.STABLE, 9000) for each in built.values())
    two = replace(two, role=Role.CANDIDATE, share=1000)
    seen = replace(a_deployment(identity=IDENTITY), revisions=(one, two))
    again = replace(two, revision=revision_of(replace(built["two"], image="to build")))

    assert local.pinned(seen, seen) == seen
    assert local.pinned(replace(seen, revisions=(one, again)), seen) == seen


def test_a_new_candidate_gets_an_image_of_its_own(local: Local) -> None:
    """Named by what is in it; the stable one keeps its own."""
    one = ServedRevision(revision_of(a_content("one", image="reviews:one", runtime="r")), Role.STABLE, 9000)
    two = ServedRevision(revision_of(a_content("two", image="to build", runtime="r")), Role.CANDIDATE, 1000)
    seen = replace(a_deployment(identity=IDENTITY), revisions=(replace(one, share=WHOLE),))

    stable, candidate = local.pinned(replace(seen, revisions=(one, two)), seen).revisions

    assert stable == one
    assert candidate == replace(two, revision=candidate.revision)
    assert candidate.revision.content.image not in ("to build", "reviews:one")
