"""Installs a requirements file into the image while it is built, and what its packages need of the system."""

import ctypes.util
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)

PIP = (
    "install",
    "--no-cache-dir",
    "--disable-pip-version-check",
    "--no-warn-script-location",
    "--root-user-action=ignore",
    "--progress-bar=off",
)


def main(requirements: str) -> None:
    """Install it; end with words for a user where the base image is not fit."""
    if sys.version_info < OLDEST:
        sys.exit(f"the base image has Python {sys.version.split()[0]}; 3.11 or later is needed")
    if importlib.util.find_spec("pip") is None:
        sys.exit("the base image has no pip")
    if not has_lines(requirements):
        return
    # An image is one environment: what a distribution's Python is protected from (PEP 668) is what is wanted here.
    run([sys.executable, "-m", "pip", *PIP, "-r", requirements], {"PIP_BREAK_SYSTEM_PACKAGES": "1"})
    importlib.invalidate_caches()
    # LightGBM's wheel alone takes OpenMP from the system, and slim images have none.
    if importlib.util.find_spec("lightgbm") and ctypes.util.find_library("gomp") is None and shutil.which("apt-get"):
        for words in (("update", "-qq"), ("install", "-qq", "-y", "--no-install-recommends", "libgomp1")):
            run(["apt-get", *words], {"DEBIAN_FRONTEND": "noninteractive"})
        shutil.rmtree("/var/lib/apt/lists", ignore_errors=True)


def has_lines(requirements: str) -> bool:
    lines = Path(requirements).read_text(encoding="utf-8").splitlines()
    return any(line.strip() and not line.strip().startswith("#") for line in lines)


def run(command: list[str], variables: dict[str, str]) -> None:
    if code := subprocess.run(command, check=False, env={**os.environ, **variables}).returncode:
        sys.exit(code)


main(sys.argv[1])
