"""A model's own Python environment: made once per content in the deployment's folder, whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import IO

from mlscale.providers.contract import Progress
from mlscale.providers.local.failures import install_failure
from mlscale.providers.local.processes import kill, process_started, runs

FOLDER = "environments"
LOCK = "environments.lock"

SERVER_PACKAGES = ("httptools", "uvloop", "orjson", "numpy")
"""What the model server itself needs in an environment of a model's own."""

TELL_EVERY_S = 1.0
END_S = 5.0


def environment(home: Path, requirements: Path, tell: Progress) -> str:
    """Return the Python of the virtual environment in `home` that holds `requirements`, made if it is not there.

    By uv where it is found, as a command or a package; by pip otherwise.

    Raises:
        ProviderFailed: it can't be made.
        MlscaleError: what `tell` raises, after the installer was ended.
    """
    folder = home / FOLDER / _key(requirements)
    python = folder / "bin" / "python"
    with alone(home, tell) as lock:
        if not (python.exists() and (folder / "complete").exists()):
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(exist_ok=True)
            tell(f"making an environment for {requirements.name}")
            for command in _commands(folder, python, requirements):
                _run(command, requirements, lock, tell)
            (folder / "complete").touch()
    return str(python)


def of_python(python: str, home: Path) -> str:
    """Return the name of the environment that `python` belongs to, an empty text if it is none of `home`."""
    folder = home / FOLDER
    return Path(python).relative_to(folder).parts[0] if Path(python).is_relative_to(folder) else ""


def _key(requirements: Path) -> str:
    wanted = "\n".join((sys.version, *_server_requirements(), requirements.read_text()))
    return hashlib.sha256(wanted.encode()).hexdigest()[:16]


def _server_requirements() -> Sequence[str]:
    return tuple(f"{name}=={metadata.version(name)}" if name != "numpy" else name for name in SERVER_PACKAGES)


@contextmanager
def alone(home: Path, tell: Progress) -> Iterator[IO[str]]:
    """Hold the lock of the environments in `home`.

    An installer keeps it until it ends, even when its command was killed; then it is ended here, since nobody waits
    for it and it would write into what is made anew.
    """
    with (home / LOCK).open("a+") as lock:
        while not _is_taken(lock):
            _end_orphan(lock)
            tell("waiting for an installer that was left behind")
            time.sleep(0.1)
        yield lock


def _is_taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_orphan(lock: IO[str]) -> None:
    """End the installer that has the lock if the command that started it is gone."""
    lock.seek(0)
    try:
        owner, owner_started, installer, installer_started = json.loads(lock.read())
    except ValueError:
        return
    if runs(installer, installer_started) and not runs(owner, owner_started):
        with suppress(ProcessLookupError):
            os.killpg(installer, signal.SIGKILL)
        kill(installer, installer_started, END_S)


def _commands(folder: Path, python: Path, requirements: Path) -> Sequence[Sequence[str]]:
    packages = (*_server_requirements(), "-r", str(requirements))
    uv = [found] if (found := shutil.which("uv")) else [sys.executable, "-m", "uv"]
    if found or importlib.util.find_spec("uv"):
        return (
            [*uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [*uv, "pip", "install", "--quiet", "--python", str(python), *packages],
        )
    return (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
    )


def _run(command: Sequence[str], requirements: Path, lock: IO[str], tell: Progress) -> None:
    """Run an installer to its end; what `tell` raises meanwhile ends it."""
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        installer = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # a Ctrl-C in the terminal is for us; we end it in order
            pass_fds=(lock.fileno(),),
        )
        try:
            _note(lock, installer.pid)
            while not _has_ended(installer):
                tell(f"installing {requirements.name} ({time.monotonic() - begun:.0f} s)")
        except BaseException:
            _end(installer)
            raise
        said.seek(0)
        if installer.returncode:
            raise install_failure("\n".join(said.read().strip().splitlines()[-15:]), requirements)


def _note(lock: IO[str], installer: int) -> None:
    """Write down who has the lock, for a run that finds it taken."""
    lock.truncate(0)
    lock.write(json.dumps([fact for pid in (os.getpid(), installer) for fact in (pid, process_started(pid))]))
    lock.flush()


def _has_ended(installer: subprocess.Popen[bytes]) -> bool:
    try:
        installer.wait(TELL_EVERY_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(installer: subprocess.Popen[bytes]) -> None:
    """End an installer and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(installer.pid, signal.SIGTERM)
        try:
            installer.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(installer.pid, signal.SIGKILL)
    installer.wait()
