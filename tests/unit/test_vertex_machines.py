"""What a replica runs on at Vertex AI is one text; machines and GPUs that do not go together are refused."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from google.cloud import aiplatform_v1
from hypothesis import given
from hypothesis import strategies as st

from mlscale.providers.contract import Refusal
from mlscale.providers.vertex.machines import LINK, Machine, parse, refusals, resources_of, text_of
from mlscale.spec.fields import AcceleratorType

_ACCELERATORS: Any = aiplatform_v1.AcceleratorType
GOOGLES = [each.name for each in _ACCELERATORS if each.name.startswith("NVIDIA_")]
RETIRED = "NVIDIA_TESLA_K80"
TYPES = st.from_regex(r"[a-z][a-z0-9]{0,3}-[a-z]{1,8}-[0-9]{1,3}g?", fullmatch=True)
MACHINES = st.builds(
    lambda type_, accelerator, count, spot: Machine(type_, accelerator, count if accelerator else 0, spot),
    TYPES,
    st.sampled_from(["", *GOOGLES]),
    st.integers(1, 16),
    st.booleans(),
)


TAKEN = [
    "n1-standard-4",
    "n1-standard-4+1xnvidia-tesla-t4",
    "n1-standard-16+1xnvidia-tesla-p4",
    "n1-standard-32+2xnvidia-tesla-t4",
    "n1-highmem-96+4xnvidia-tesla-p100",
    "n1-standard-8+1xnvidia-tesla-v100",
    "n1-standard-16+2xnvidia-tesla-v100",
    "n1-standard-32+8xnvidia-tesla-v100",
    "n1-standard-96+8xnvidia-tesla-v100",
    "e2-standard-4+spot",
    "g2-standard-24+2xnvidia-l4",
    "g2-standard-96+1xnvidia-l4",
    "g4-standard-48+1xnvidia-rtx-pro-6000",
    "a2-highgpu-8g+3xnvidia-tesla-a100",
    "a2-ultragpu-1g+1xnvidia-a100-80gb",
    "a3-highgpu-8g+8xnvidia-h100-80gb",
    "a3-megagpu-8g+8xnvidia-h100-mega-80gb",
    "a3-ultragpu-8g+8xnvidia-h200-141gb",
    "a4-highgpu-8g+8xnvidia-b200",
    "a4x-highgpu-4g+4xnvidia-gb200",
    "ct5lp-hightpu-4t",
    "g9-standard-8+9xnvidia-l4",
    "something-else+1xnvidia-l4",
]


@pytest.mark.parametrize(
    ("text", "machine"),
    [
        ("n1-standard-4", Machine("n1-standard-4")),
        ("n1-standard-4+spot", Machine("n1-standard-4", spot=True)),
        ("g2-standard-8+1xnvidia-l4", Machine("g2-standard-8", "NVIDIA_L4", 1)),
        (
            "a3-highgpu-8g+8xnvidia-h100-80gb+spot",
            Machine("a3-highgpu-8g", "NVIDIA_H100_80GB", 8, spot=True),
        ),
    ],
)
def test_a_machine_is_one_text(text: str, machine: Machine) -> None:
    """The form is frozen, since a revision's id is made of it."""
    assert (parse(text), str(machine)) == (machine, text)


@given(MACHINES)
def test_every_machine_is_read_as_it_was_written(machine: Machine) -> None:
    """Through the text and through what the API holds."""
    text = str(machine)

    assert parse(text) == machine
    assert text_of(resources_of(text)) == text
    assert text_of(_answered(resources_of(text))) == text


def _answered(resources: dict[str, object]) -> dict[str, object]:
    """Return resources as the API's own message says them."""
    message = aiplatform_v1.DedicatedResources(resources)
    found: dict[str, object] = aiplatform_v1.DedicatedResources.to_dict(message, use_integers_for_enums=False)
    return found


@pytest.mark.parametrize(
    "text", ["", "g2-standard-8+nvidia-l4", "g2-standard-8+0xnvidia-l4", "g2-standard-8+spot+1xnvidia-l4", "G2", "a+b"]
)
def test_another_text_is_no_machine(text: str) -> None:
    """A count, a known order, nothing else."""
    with pytest.raises(ValueError, match="is no machine"):
        parse(text)


def test_what_runs_on_no_machine_of_its_own_has_no_text() -> None:
    """A model on automatic resources is there without machines."""
    assert text_of({}) == ""


def test_the_specs_accelerators_are_googles() -> None:
    """All that the API knows, but for the one that is gone."""
    assert {parse(f"n1-standard-4+1x{each}").accelerator for each in get_args(AcceleratorType)} == {*GOOGLES} - {
        RETIRED
    }
    assert {parse(each).accelerator for each in TAKEN} == {"", *GOOGLES} - {RETIRED}


@pytest.mark.parametrize("text", TAKEN)
def test_what_goes_together_is_taken(text: str) -> None:
    """Also a machine that nobody here knows: the cloud will say."""
    assert refusals(parse(text)) == ()


@pytest.mark.parametrize(
    ("text", "path", "why"),
    [
        (
            "g2-standard-8",
            "",
            "g2-standard-8 has GPUs of its own: write type: nvidia-l4, and how many a replica gets",
        ),
        (
            "a2-highgpu-1g+1xnvidia-a100-80gb",
            "",
            "a2-highgpu-1g has GPUs of its own: write type: nvidia-tesla-a100, and how many a replica gets",
        ),
        ("g2-standard-8+2xnvidia-l4", ".count", "g2-standard-8 has 1 x nvidia-l4, not 2"),
        ("g4-standard-96+4xnvidia-rtx-pro-6000", ".count", "g4-standard-96 has 2 x nvidia-rtx-pro-6000, not 4"),
        ("a3-highgpu-4g+8xnvidia-h100-80gb", ".count", "a3-highgpu-4g has 4 x nvidia-h100-80gb, not 8"),
        ("ct5lp-hightpu-1t+1xnvidia-l4", "", "ct5lp-hightpu-1t has TPUs, and takes no GPU: leave accelerator out"),
        (
            "e2-standard-4+1xnvidia-tesla-t4+spot",
            "",
            "e2-standard-4 takes no GPU: n1 machines do, and g2, a2, a3 and newer have some",
        ),
        (
            "c3-standard-8-lssd+1xnvidia-l4",
            "",
            "c3-standard-8-lssd takes no GPU: n1 machines do, and g2, a2, a3 and newer have some",
        ),
        (
            "n1-standard-4+1xnvidia-l4",
            ".type",
            (
                "n1-standard-4 takes nvidia-tesla-t4, nvidia-tesla-p4, nvidia-tesla-p100, nvidia-tesla-v100, not "
                "nvidia-l4"
            ),
        ),
        ("n1-standard-4+3xnvidia-tesla-t4", ".count", "n1-standard-4 takes 1 or 2 or 4 x nvidia-tesla-t4, not 3"),
        ("n1-standard-32+1xnvidia-tesla-t4", ".count", "n1-standard-32 takes 2 or 4 x nvidia-tesla-t4, not 1"),
        ("n1-standard-16+1xnvidia-tesla-v100", ".count", "n1-standard-16 takes 2 or 4 or 8 x nvidia-tesla-v100, not 1"),
        ("n1-standard-32+2xnvidia-tesla-v100", ".count", "n1-standard-32 takes 4 or 8 x nvidia-tesla-v100, not 2"),
    ],
)
def test_what_does_not_go_together_is_refused(text: str, path: str, why: str) -> None:
    """Google would say so after minutes: here it is said before anything is made, with what would fit."""
    assert refusals(parse(text)) == (Refusal(f"endpoint.accelerator{path}", why, LINK),)
