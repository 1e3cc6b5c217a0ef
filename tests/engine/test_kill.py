"""Killed anywhere: the same command again converges, whatever the run before it had done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlscale.deployment import WHOLE
from mlscale.engine import plans
from mlscale.state import revisions
from mlscale.state.journal import unfinished
from tests.doubles.mortal import Killed, Mortal
from tests.engine.conftest import MODELS, SPEC, Engine

ALONE = [("stable", "one", WHOLE)]


@dataclass(frozen=True, slots=True)
class Case:
    """A command: what was there before it, how it is run, and what serves once it is done."""

    before: Callable[[Engine], object]
    run: Callable[[Engine, Mortal | None], object]
    serving: list[tuple[str, str, int]]


def _one(engine: Engine) -> None:
    engine.deploy()


def _two_is_asked(engine: Engine) -> None:
    engine.deploy()
    engine.write("two")


def _wider_is_asked(engine: Engine) -> None:
    engine.deploy()
    engine.write("one", SPEC.replace("min: 1", "min: 2") + "labels: {team: search}\n")


def _one_then_two(engine: Engine) -> None:
    engine.deploy()
    engine.write("two")
    engine.deploy()


def _first_of_two(engine: Engine, mortal: Mortal | None) -> object:
    first = next(known for known, word in _recorded(engine).items() if word == "one")
    return engine.rollback(first, mortal)


def _recorded(engine: Engine) -> dict[str, str]:
    found = revisions.recorded(engine.store, "reviews")
    return {each.revision.id: MODELS[each.revision.content.artifact] for each in found}


CASES = {
    "first deploy": Case(lambda engine: None, Engine.deploy, ALONE),  # noqa: ARG005 - nothing comes before
    "new revision": Case(_two_is_asked, Engine.deploy, [("stable", "two", WHOLE)]),
    "settings alone": Case(_wider_is_asked, Engine.deploy, ALONE),
    "rollback": Case(_one_then_two, _first_of_two, ALONE),
    "destroy": Case(_one, Engine.destroy, []),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_killed_at_any_touch_is_finished_by_the_next(name: str, tmp_path: Path) -> None:
    """Before and after every write to the workspace, every step and every poll: again, and the world is as asked."""
    case = CASES[name]
    whole = Mortal()
    case.run(_engine(tmp_path / "whole", case), whole)

    for lives in range(whole.touched):
        engine = _engine(tmp_path / str(lives), case)
        with pytest.raises(Killed):
            case.run(engine, Mortal(lives))

        case.run(engine, None)

        assert engine.serving() == case.serving, f"killed at touch {lives}"
        assert unfinished(engine.store, "reviews") is None
        if engine.there is None:
            assert plans.destroy_plan(engine.session()).steps == ()
            assert revisions.recorded(engine.store, "reviews") == []
        else:
            stable = engine.there.stable
            assert stable is not None
            assert stable.revision.id in _recorded(engine)
    assert whole.touched > 10


def test_a_rollback_that_was_cut_off_goes_on_to_where_it_went(tmp_path: Path) -> None:
    """Without a revision it is to the one before, and once that serves this would be the one it came from."""
    case = Case(_one_then_two, Engine.deploy, ALONE)
    whole = Mortal()
    _engine(tmp_path / "whole", case).rollback(None, whole)

    for lives in range(whole.touched):
        engine = _engine(tmp_path / str(lives), case)
        with pytest.raises(Killed):
            engine.rollback(None, Mortal(lives))
        if engine.serving() == ALONE and unfinished(engine.store, "reviews") is None:
            break  # that it is done was written down; another one goes back from there

        engine.rollback()

        assert engine.serving() == ALONE, f"killed at touch {lives}"
    assert lives > 10


def test_a_rollback_after_a_deploy_that_was_cut_off_takes_that_back(tmp_path: Path) -> None:
    """Wherever the deploy was killed, what served before it serves, and not what served before that."""
    case = Case(_one_then_two, Engine.deploy, [("stable", "two", WHOLE)])
    whole = Mortal()
    engine = _engine(tmp_path / "whole", case)
    engine.write("three")
    engine.deploy(whole)

    begun = 0
    for lives in range(whole.touched):
        engine = _engine(tmp_path / str(lives), case)
        engine.write("three")
        with pytest.raises(Killed):
            engine.deploy(Mortal(lives))
        if unfinished(engine.store, "reviews") is not None:
            begun += 1
            engine.rollback()
            assert engine.serving() == case.serving, f"killed at touch {lives}"
    assert begun > 10


def test_a_rollback_leaves_the_scaling_as_it_was_before_a_run_that_was_cut_off(engine: Engine) -> None:
    """The run may have taken it off, to put it on again at its end."""
    engine.deploy()
    engine.write("two")
    engine.deploy()
    engine.write("two", SPEC.replace("min: 1", "min: 2"))
    whole = Mortal()
    engine.deploy(whole)
    assert engine.there is not None
    assert engine.there.scaling.min == 2
    engine.write("two", SPEC.replace("min: 1", "min: 3"))
    with pytest.raises(Killed):
        engine.deploy(Mortal(whole.touched - 8))
    assert unfinished(engine.store, "reviews") is not None
    assert engine.there.scaling.min == 3

    engine.rollback()

    assert engine.serving() == ALONE
    assert engine.there.scaling.min == 2


def test_a_killed_run_keeps_its_lease_until_that_ends(engine: Engine) -> None:
    """The next run waits for what the dead one held, says so once, and has the next fence."""
    with pytest.raises(Killed):
        engine.deploy(Mortal(5))

    engine.deploy()

    waited = [event.text for event in engine.events if event.kind == "waiting"]
    assert len(waited) == 1
    assert waited[0].startswith("run 2026")
    assert 60 <= engine.clock.passed_s < 75
    assert '"fence": 2' in (engine.folder / ".mlscale" / "leases" / "reviews.json").read_text()


def test_a_run_that_goes_on_says_after_which(engine: Engine) -> None:
    """What was cut off is named by the run that finishes it."""
    with pytest.raises(Killed):
        engine.deploy(Mortal(12))
    cut_off = unfinished(engine.store, "reviews")

    engine.deploy()

    started = [event.text for event in engine.events if event.kind == "run_started"]
    assert started == ["", f"going on after run {cut_off}, which was cut off"]


def _engine(folder: Path, case: Case) -> Engine:
    folder.mkdir()
    engine = Engine(folder)
    engine.write()
    case.before(engine)
    return engine
