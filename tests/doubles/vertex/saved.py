"""The whole imitated cloud at one moment, so that a test can begin there again in no time."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from tests.doubles.vertex.world import World


@dataclass(frozen=True, slots=True)
class Saved:
    """What was there."""

    world: World


def saved(world: World) -> Saved:
    """Return what is there now.

    Raises:
        ValueError: something is under way, whose end would reach only one of the two worlds.
    """
    if world.later or any(not each.done for each in world.operations.values()):
        raise ValueError("something is still to happen: advance the clock first")
    return Saved(deepcopy(world))


def restored(kept: Saved) -> World:
    """Return the world as it was."""
    return deepcopy(kept.world)
