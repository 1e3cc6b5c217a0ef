"""What a replica runs on at Vertex AI: a text for machine type, accelerator and spot, and what goes together; pure.

The text is `TYPE[+COUNTxACCELERATOR][+spot]`, like `g2-standard-8+1xnvidia-l4+spot`: it is a part of a revision's
content, so it never changes its form. `spec.resolve` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlscale.providers.contract import Refusal

LINK = "https://docs.cloud.google.com/vertex-ai/docs/predictions/configure-compute"

_TEXT = re.compile(r"(?P<type>[a-z0-9-]+)(?:\+(?P<count>[1-9][0-9]*)x(?P<accelerator>[a-z0-9-]+))?(?P<spot>\+spot)?")
_TYPE = re.compile(r"(?P<family>(?P<series>[a-z0-9]+)-[a-z0-9]+)-(?P<size>[0-9]+)(?P<unit>[a-z]*)(?:-lssd)?")

_BUILT_IN: Mapping[str, str] = {
    "a2-highgpu": "NVIDIA_TESLA_A100",
    "a2-megagpu": "NVIDIA_TESLA_A100",
    "a2-ultragpu": "NVIDIA_A100_80GB",
    "a3-highgpu": "NVIDIA_H100_80GB",
    "a3-edgegpu": "NVIDIA_H100_80GB",
    "a3-megagpu": "NVIDIA_H100_MEGA_80GB",
    "a3-ultragpu": "NVIDIA_H200_141GB",
    "a4-highgpu": "NVIDIA_B200",
    "a4x-highgpu": "NVIDIA_GB200",
    "g2-standard": "NVIDIA_L4",
    "g4-standard": "NVIDIA_RTX_PRO_6000",
}
"""The GPUs that a family of machines has; its names end in how many (`8g`), but for those below. Source: LINK."""

_BY_CPUS: Mapping[str, Mapping[int, int]] = {
    "g2-standard": {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8},
    "g4-standard": {48: 1, 96: 2, 192: 4, 384: 8},
}
"""How many GPUs a machine has whose name ends in its vCPUs. Source: LINK."""

_ATTACHED: Mapping[str, tuple[int, ...]] = {
    "NVIDIA_TESLA_T4": (1, 2, 4),
    "NVIDIA_TESLA_P4": (1, 2, 4),
    "NVIDIA_TESLA_P100": (1, 2, 4),
    "NVIDIA_TESLA_V100": (1, 2, 4, 8),
}
"""The GPUs that n1 machines take, and how many. Source: LINK."""

_MOST_CPUS_A_GPU, _MOST_CPUS_A_V100 = 16, 8
"""A larger n1 machine takes more of them, or as many as there may be. Source: LINK."""

_WITHOUT = frozenset(
    {"e2", "n2", "n2d", "n4", "c2", "c2d", "c3", "c3d", "c4", "c4a", "c4d", "m1", "m2", "m3", "t2d", "t2a"}
)
"""Series of machines that take no GPU. Source: LINK."""

_TPUS = ("ct", "tpu")
"""How series begin that have TPUs, which no accelerator is named for. Source: "Deploy a model to Cloud TPU VMs"."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine type, with `count` accelerators by Google's name (empty for none), on spot capacity or not."""

    type: str
    accelerator: str = ""
    count: int = 0
    spot: bool = False

    def __str__(self) -> str:
        gpus = f"+{self.count}x{_word(self.accelerator)}" if self.accelerator else ""
        return f"{self.type}{gpus}{'+spot' if self.spot else ''}"


def _word(accelerator: str) -> str:
    """Return the spec's name of an accelerator: NVIDIA_L4 → `nvidia-l4`."""
    return accelerator.lower().replace("_", "-")


def parse(text: str) -> Machine:
    """Return what a text like `g2-standard-8+1xnvidia-l4+spot` says; `str` of it is that text again.

    Raises:
        ValueError: it is no such text.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no machine")
    accelerator = (found["accelerator"] or "").upper().replace("-", "_")
    return Machine(found["type"], accelerator, int(found["count"] or 0), bool(found["spot"]))


def text_of(resources: Mapping[str, Any]) -> str:
    """Return the text for the DedicatedResources of a DeployedModel; empty where it has none."""
    machine = resources.get("machine_spec", {})
    accelerator = str(machine.get("accelerator_type", ""))
    if accelerator == "ACCELERATOR_TYPE_UNSPECIFIED":
        accelerator = ""
    count = int(machine.get("accelerator_count", 0)) if accelerator else 0
    return str(Machine(str(machine.get("machine_type", "")), accelerator, count, bool(resources.get("spot"))))


def resources_of(text: str) -> dict[str, Any]:
    """Return the DedicatedResources that `text_of` reads as `text`: machine, accelerator and spot alone."""
    machine = parse(text)
    spec: dict[str, Any] = {"machine_type": machine.type}
    if machine.accelerator:
        spec |= {"accelerator_type": machine.accelerator, "accelerator_count": machine.count}
    return {"machine_spec": spec, **({"spot": True} if machine.spot else {})}


def refusals(machine: Machine) -> tuple[Refusal, ...]:
    """Return why a machine and its accelerator do not go together; none where they do, or nobody here knows."""
    return tuple(_refused(machine))


def _refused(machine: Machine) -> Iterator[Refusal]:
    found = _TYPE.fullmatch(machine.type)
    if found is None:
        return
    path, gpu = "endpoint.accelerator", machine.accelerator
    if built_in := _BUILT_IN.get(found["family"]):
        size = int(found["size"])
        most = _BY_CPUS[found["family"]].get(size, 0) if found["family"] in _BY_CPUS else size
        if gpu != built_in:
            why = f"{machine.type} has GPUs of its own: write type: {_word(built_in)}, and how many a replica gets"
            yield Refusal(path, why, LINK)
        elif most and machine.count > most:
            yield Refusal(f"{path}.count", f"{machine.type} has {most} x {_word(gpu)}, not {machine.count}", LINK)
    elif gpu and found["series"].startswith(_TPUS):
        yield Refusal(path, f"{machine.type} has TPUs, and takes no GPU: leave accelerator out", LINK)
    elif gpu and found["series"] in _WITHOUT:
        yield Refusal(path, f"{machine.type} takes no GPU: n1 machines do, and g2, a2, a3 and newer have some", LINK)
    elif gpu and found["series"] == "n1":
        fit = _attached(gpu, int(found["size"]))
        if not fit:
            taken = ", ".join(map(_word, _ATTACHED))
            yield Refusal(f"{path}.type", f"{machine.type} takes {taken}, not {_word(gpu)}", LINK)
        elif machine.count not in fit:
            choice = " or ".join(map(str, fit))
            yield Refusal(f"{path}.count", f"{machine.type} takes {choice} x {_word(gpu)}, not {machine.count}", LINK)


def _attached(gpu: str, cpus: int) -> tuple[int, ...]:
    """Return how many of a GPU an n1 machine takes; none if it does not take it."""
    counts = _ATTACHED.get(gpu, ())
    each = _MOST_CPUS_A_V100 if gpu == "NVIDIA_TESLA_V100" else _MOST_CPUS_A_GPU
    return tuple(count for count in counts if count * each >= cpus or count == counts[-1])
