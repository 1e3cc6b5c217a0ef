"""Traffic splits: which deployed model gets how many percent."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tests.doubles.vertex.refusal import invalid, wrong_field

NEW = "0"
"""What the model that is just being deployed is called in a split."""

ALL = 100


def check(split: Mapping[str, int], present: Collection[str], field: str) -> None:
    """Return if the split is empty, or whole and over deployed models alone.

    Raises:
        Refusal: it is neither.
    """
    absent = sorted(key for key in split if key not in present)
    if absent:
        words = f"The following DeployedModel ID(s) [{', '.join(absent)}] do not exist."
        raise invalid("traffic.missing", words)
    if any(not 0 <= share <= ALL for share in split.values()):
        raise wrong_field("traffic.share", field, "Traffic percentages must be from 0 to 100.")
    if split and sum(split.values()) != ALL:
        raise wrong_field("traffic.sum", field, f"Traffic percentages must add up to {ALL}.")
