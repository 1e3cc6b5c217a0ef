"""Machine types and the accelerators that they take.

Sources: docs.cloud.google.com, "Configure compute resources for inference" (machine types, GPUs, GPUs compatible with
each machine type).
"""

from __future__ import annotations

import re
from typing import Any

from tests.doubles.vertex import protos
from tests.doubles.vertex.refusal import invalid, wrong_field

SIZE = re.compile(r"(?P<family>[a-z0-9]+)-(?P<kind>[a-z]+)-(?P<size>\d+)(?P<unit>g?)")
FAMILIES = frozenset({
    "n1", "n2", "n2d", "e2", "c2", "c2d", "c3", "c3d", "c4", "c4a", "n4", "m1", "t2d", "a2", "a3", "a4", "g2", "g4",
})  # fmt: skip
VCPUS = {
    "a2-highgpu-1g": 12, "a2-highgpu-2g": 24, "a2-highgpu-4g": 48, "a2-highgpu-8g": 96, "a2-megagpu-16g": 96,
    "a2-ultragpu-1g": 12, "a2-ultragpu-2g": 24, "a2-ultragpu-4g": 48, "a2-ultragpu-8g": 96,
    "a3-highgpu-1g": 26, "a3-highgpu-2g": 52, "a3-highgpu-4g": 104, "a3-highgpu-8g": 208, "a3-megagpu-8g": 208,
    "a3-edgegpu-8g": 208, "a3-ultragpu-8g": 224, "a4-highgpu-8g": 224,
}  # fmt: skip
BUILT_IN = {
    "a2-highgpu": "NVIDIA_TESLA_A100", "a2-megagpu": "NVIDIA_TESLA_A100", "a2-ultragpu": "NVIDIA_A100_80GB",
    "a3-highgpu": "NVIDIA_H100_80GB", "a3-edgegpu": "NVIDIA_H100_80GB", "a3-megagpu": "NVIDIA_H100_MEGA_80GB",
    "a3-ultragpu": "NVIDIA_H200_141GB", "a4-highgpu": "NVIDIA_B200", "g2-standard": "NVIDIA_L4",
    "g4-standard": "NVIDIA_RTX_PRO_6000",
}  # fmt: skip
G2 = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}
G4 = {48: 1, 96: 2, 192: 4, 384: 8}
ON_N1 = {
    "NVIDIA_TESLA_T4": (1, 2, 4), "NVIDIA_TESLA_P4": (1, 2, 4), "NVIDIA_TESLA_P100": (1, 2, 4),
    "NVIDIA_TESLA_V100": (1, 2, 4, 8),
}  # fmt: skip
DEFAULT = "n1-standard-2"


def accelerator(spec: Any) -> str:
    """Return the name of the accelerator that a machine spec asks for, empty for none."""
    kind = int(spec.accelerator_type)
    return str(protos.enum("AcceleratorType")(kind).name) if kind else ""


def vcpus(machine: str) -> int:
    """Return how many vCPUs a machine has."""
    found = SIZE.fullmatch(machine)
    return VCPUS.get(machine) or (int(found["size"]) if found else 1)


def check(spec: Any, field: str) -> None:
    """Return if there is such a machine and it takes the accelerator.

    Raises:
        Refusal: it is not one of the tables.
    """
    machine, wanted, count = spec.machine_type or DEFAULT, accelerator(spec), spec.accelerator_count
    found = SIZE.fullmatch(machine)
    if found is None or found["family"] not in FAMILIES or (found["unit"] and machine not in VCPUS):
        raise invalid("machine.unknown", f'Machine type "{machine}" is not supported.')
    if bool(wanted) != bool(count):
        words = "accelerator_type and accelerator_count go together"
        raise wrong_field("machine.count-alone", f"{field}.accelerator_count", words)
    if wanted and count not in _counts(found, wanted):
        # rule machine.count
        words = f'Accelerator "{wanted}" is not supported for machine type "{machine}"'
        if _counts(found, wanted):
            words = f'Accelerator count {count} of "{wanted}" is not supported for machine type "{machine}"'
        raise invalid("machine.accelerator", words)


def _counts(machine: re.Match[str], wanted: str) -> tuple[int, ...]:
    """Return how many of an accelerator a machine may have."""
    family, size = machine["family"], int(machine["size"])
    if family == "n1" and wanted in ON_N1:
        # rule machine.n1
        smaller = 8 if wanted == "NVIDIA_TESLA_V100" else 16
        return tuple(each for each in ON_N1[wanted] if size <= smaller * each or each == ON_N1[wanted][-1])
    if BUILT_IN.get(f"{family}-{machine['kind']}") != wanted:
        return ()
    # rule machine.built-in
    most = {"g2": G2, "g4": G4}.get(family, {size: size}).get(size, 0)
    return tuple(range(1, most + 1))
